//! The server loop of every HTTP listener, with a guard against web pages, a time limit for requests, and a graceful
//! shutdown.

mod first_head;
mod guard;
mod response;
mod timed_body;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use hyper::{
    Response, StatusCode,
    header::{CONNECTION, HeaderValue},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use self::first_head::FirstHead;
pub use self::response::{Body, json, no_store, page};
#[cfg(test)]
use self::timed_body::BODY_TIMEOUT;
pub(crate) use self::{
    first_head::HeaderNames,
    guard::{Guard, HOST_OF_CONTAINERS, is_loopback_origin, is_of_containers, is_read},
    response::response,
    timed_body::TimedBody,
};
use crate::tls::HANDSHAKE_RECORD;

/// How long a client may take for its first byte and, if it speaks TLS, for the handshake.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause before the next accept after one failed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Most headers of a request that is read. More are 431 without a word, which no handler sees. Our own choice.
const HEADERS_READ_MAX: usize = 4_096;

/// Marks a request that came over TLS, in its extensions.
#[derive(Clone, Copy, Debug)]
struct Secured;

/// Returns whether a request came over TLS.
pub(crate) fn is_secured(request: &hyper::http::Extensions) -> bool {
    request.get::<Secured>().is_some()
}

/// The name and the port in a header `Host`. An address of IPv6 keeps its brackets.
pub(crate) fn host_and_port(host: &str) -> (String, Option<u16>) {
    match host.parse::<Authority>() {
        Ok(authority) => (authority.host().to_owned(), authority.port_u16()),
        Err(_) => (host.to_owned(), None),
    }
}

/// A request that has passed the guard of its listener.
pub(crate) type Request = hyper::Request<TimedBody>;

/// A socket that accepts connections, with the guard of its requests.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
    guard: Guard,
}

/// Returns where this machine reaches a listener: one of all addresses is reached at the loopback address.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

impl Listener {
    /// Listens at an address. The guard allows this machine's own host names and `hosts`.
    pub(crate) async fn bind(address: SocketAddr, hosts: &[String]) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, guard: Guard::new(address, hosts) })
    }

    /// Exempts requests from the check for other sites, see [`Guard::except`].
    pub(crate) fn except(self, exempt: impl Fn(&hyper::http::request::Parts) -> bool + Send + Sync + 'static) -> Self {
        Self { guard: self.guard.except(exempt), ..self }
    }
}

/// Serves requests on `listener` until `shutdown`, then waits for those in flight. With `tls`, clients may speak TLS or
/// plain HTTP on the same port.
pub(crate) async fn serve<H, F>(listener: Listener, tls: Option<TlsAcceptor>, shutdown: CancellationToken, handler: H)
where
    H: Fn(Request, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.socket.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        // Frames and responses are small; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let (handler, tls, shutdown, requests) = (handler.clone(), tls.clone(), shutdown.clone(), connections.clone());
        let guard = listener.guard.clone();
        connections.spawn(async move {
            let secured = shutdown.run_until_cancelled(secure(stream, tls)).await;
            match secured {
                None => {}
                Some(Ok(stream)) => {
                    let is_secured = matches!(stream, Either::Right(_));
                    serve_connection(stream, is_secured, peer, guard, shutdown, requests, handler).await;
                }
                Some(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            }
        });
    }
    connections.close();
    connections.wait().await;
}

type MaybeTlsStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Performs the TLS handshake if the client begins one.
async fn secure(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<MaybeTlsStream> {
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let secured = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first == [HANDSHAKE_RECORD] {
            return tls.accept(stream).await.map(|stream| Either::Right(Box::new(stream)));
        }
        Ok(Either::Left(stream))
    };
    tokio::time::timeout(FIRST_BYTE_TIMEOUT, secured).await?
}

/// Serves the requests of one connection until it ends, or after `shutdown` until the one that runs then has ended.
pub(crate) async fn serve_connection<S, H, F>(
    stream: S,
    is_secured: bool,
    peer: SocketAddr,
    guard: Guard,
    shutdown: CancellationToken,
    requests: TaskTracker,
    handler: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (stream, head) = FirstHead::of(stream);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (mut request, body) = request.into_parts();
        if is_secured {
            request.extensions.insert(Secured);
        }
        if let Some(names) = head.take() {
            request.extensions.insert(names);
        }
        let (body, body_timed_out) = TimedBody::new(body);
        let handled = guard.check(&request).map(|()| handler(Request::from_parts(request, body), peer));
        let answer = async move {
            let answer = match handled {
                Ok(answer) => answer.await,
                Err(refusal) => {
                    tracing::warn!(%peer, %refusal, "request refused");
                    guard::refused(&refusal)
                }
            };
            if body_timed_out.get() { timed_out() } else { answer }
        };
        Detached::of(answer, requests.clone())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .half_close(true)
        .max_headers(HEADERS_READ_MAX)
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

/// A request that runs to its end even if the client hangs up: dropping it before that spawns the rest as a task.
struct Detached {
    /// `None` once it has completed.
    response: Option<BoxFuture<'static, Response<Body>>>,
    requests: TaskTracker,
}

impl Detached {
    fn of(response: impl Future<Output = Response<Body>> + Send + 'static, requests: TaskTracker) -> Self {
        let response = AssertUnwindSafe(response).catch_unwind();
        let response = response.map(|response| response.unwrap_or_else(|_| panicked()));
        Self { response: Some(response.boxed()), requests }
    }
}

impl Future for Detached {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Futures are not polled after their end.
        let Some(response) = &mut self.response else { return Poll::Pending };
        let response = ready!(response.poll_unpin(cx));
        self.response = None;
        Poll::Ready(Ok(response))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(unfinished) = self.response.take() {
            self.requests.spawn(unfinished);
        }
    }
}

/// Logs a failed accept and waits. The usual cause is a lack of file descriptors, which end as connections close.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted; if the limit of open files is too low, raise it with ulimit -n");
    tokio::time::sleep(ACCEPT_BACKOFF).await;
}

/// Responds to a request whose body timed out, and ends the connection.
fn timed_out() -> Response<Body> {
    let mut response = json(StatusCode::REQUEST_TIMEOUT, &serde_json::json!({"message": "Request Timeout"}));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn panicked() -> Response<Body> {
    json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({"message": "Internal server error"}))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Limited};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
        time::Instant,
    };

    use super::*;

    /// Sends an unfinished request, and returns everything up to the end of the connection, and how long it took.
    async fn answered_at_last(request: &str) -> (String, Duration) {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), &[]).await.expect("a port");
        let address = listener.address;
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, None, shutdown, |request: Request, _| async {
            match Limited::new(request.into_body(), 1_024).collect().await {
                Ok(_) => json(StatusCode::OK, &serde_json::Value::Null),
                Err(_) => json(StatusCode::PAYLOAD_TOO_LARGE, &serde_json::Value::Null),
            }
        }));
        let mut client = TcpStream::connect(address).await.expect("connected");
        let (began, mut answer) = (Instant::now(), String::new());
        client.write_all(request.as_bytes()).await.expect("sent");
        client.read_to_string(&mut answer).await.expect("an end");
        (answer, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_gets_408_after_30_s_and_the_connection_ends() {
        for rest in ["Content-Length: 5\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"] {
            let (answer, took) = answered_at_last(&format!("POST / HTTP/1.1\r\nHost: localhost\r\n{rest}")).await;
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!((BODY_TIMEOUT..BODY_TIMEOUT + Duration::from_secs(1)).contains(&took), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_arrives_reaches_the_handler() {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let (answer, took) = answered_at_last(&format!("{head}Content-Length: 3\r\n\r\nabc")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && took < BODY_TIMEOUT, "{took:?}: {answer}");
        let (answer, _) = answered_at_last(&format!("{head}Content-Length: 2000\r\n\r\n{}", "x".repeat(2_000))).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }

    #[tokio::test]
    async fn a_request_whose_connection_ends_runs_to_its_end() {
        let requests = TaskTracker::new();
        let (go_on, may_go_on) = oneshot::channel();
        let (carried_out, was_carried_out) = oneshot::channel();
        let answer = async {
            may_go_on.await.expect("told to");
            carried_out.send(()).expect("the other end waits");
            json(StatusCode::OK, &serde_json::Value::Null)
        };
        let mut request = Detached::of(answer, requests.clone());
        assert!((&mut request).now_or_never().is_none(), "it waits");
        drop(request);
        assert_eq!(requests.len(), 1, "the tracker counts it");
        go_on.send(()).expect("the other end waits");
        was_carried_out.await.expect("carried out");
    }

    #[tokio::test]
    async fn a_handler_that_panics_gets_500_and_leaves_no_task() {
        let requests = TaskTracker::new();
        let Ok(answer) = Detached::of(async { panic!("a bug") }, requests.clone()).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(requests.is_empty());
    }
}
