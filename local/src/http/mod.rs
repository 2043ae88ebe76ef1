//! One loop for every HTTP listener of the local mode.

mod first_head;
pub(crate) mod origin;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use self::first_head::FirstHead;
pub(crate) use self::first_head::HeaderNames;
use crate::tls::HANDSHAKE_RECORD;

/// Time that a client has for its first byte, and for the TLS handshake if that begins one.
const FIRST_BYTE_WAIT: Duration = Duration::from_secs(30);

/// Pause before a connection is accepted again after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The body of every response.
pub(crate) type Body = Full<Bytes>;

/// Serves requests on `listener` until `shutdown`, then lets those finish that are under way. With `tls`, that is spoken
/// on the same port to whoever begins with it.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
    handler: H,
) where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        // Frames and answers are small; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let (handler, tls, shutdown, requests) = (handler.clone(), tls.clone(), shutdown.clone(), connections.clone());
        connections.spawn(async move {
            let secured = shutdown.run_until_cancelled(secure(stream, tls)).await;
            match secured {
                None => {}
                Some(Ok(stream)) => serve_connection(stream, peer, shutdown, requests, handler).await,
                Some(Err(error)) => tracing::debug!(%peer, %error, "no TLS connection"),
            }
        });
    }
    connections.close();
    connections.wait().await;
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Speaks TLS with a client that begins with it.
async fn secure(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Stream> {
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let secured = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first == [HANDSHAKE_RECORD] {
            return tls.accept(stream).await.map(|stream| Either::Right(Box::new(stream)));
        }
        Ok(Either::Left(stream))
    };
    tokio::time::timeout(FIRST_BYTE_WAIT, secured).await?
}

async fn serve_connection<H, F>(
    stream: Stream,
    peer: SocketAddr,
    shutdown: CancellationToken,
    requests: TaskTracker,
    handler: H,
) where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (stream, head) = FirstHead::of(stream);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(names) = head.take() {
            request.extensions_mut().insert(names);
        }
        CarriedOut::of(handler(request, peer), requests.clone())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let finished = shutdown.run_until_cancelled(connection.as_mut()).await;
    let finished = match finished {
        Some(finished) => finished,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// A request that is carried out whether or not its sender waits: what is left of it when the connection ends becomes a task.
struct CarriedOut {
    /// None once it has been answered.
    answer: Option<BoxFuture<'static, Response<Body>>>,
    requests: TaskTracker,
}

impl CarriedOut {
    fn of(answer: impl Future<Output = Response<Body>> + Send + 'static, requests: TaskTracker) -> Self {
        let answer = AssertUnwindSafe(answer).catch_unwind().map(|answer| answer.unwrap_or_else(|_| panicked()));
        Self { answer: Some(answer.boxed()), requests }
    }
}

impl Future for CarriedOut {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is not polled after its end, as no future is.
        let Some(answer) = &mut self.answer else { return Poll::Pending };
        let response = ready!(answer.poll_unpin(cx));
        self.answer = None;
        Poll::Ready(Ok(response))
    }
}

impl Drop for CarriedOut {
    fn drop(&mut self) {
        if let Some(unanswered) = self.answer.take() {
            self.requests.spawn(unanswered);
        }
    }
}

/// Out of file descriptors, most likely: they come back as connections close, so wait instead of spinning.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection; is the limit of open files too low (ulimit -n)?");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn panicked() -> Response<Body> {
    json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({"message": "Internal server error"}))
}

/// A response of one piece.
pub(crate) fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON response of one piece.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    response(status, "application/json", body.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_request_whose_connection_ends_is_carried_out() {
        let requests = TaskTracker::new();
        let (go_on, may_go_on) = oneshot::channel();
        let (carried_out, was_carried_out) = oneshot::channel();
        let answer = async {
            may_go_on.await.expect("told to");
            carried_out.send(()).expect("somebody waits");
            json(StatusCode::OK, &serde_json::Value::Null)
        };
        let mut request = CarriedOut::of(answer, requests.clone());
        assert!((&mut request).now_or_never().is_none(), "it waits");
        drop(request);
        assert_eq!(requests.len(), 1, "whoever waits for requests waits for it");
        go_on.send(()).expect("somebody waits");
        was_carried_out.await.expect("carried out");
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_with_500_and_one_that_ended_leaves_nothing() {
        let requests = TaskTracker::new();
        let Ok(answer) = CarriedOut::of(async { panic!("a bug") }, requests.clone()).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(requests.is_empty());
    }
}
