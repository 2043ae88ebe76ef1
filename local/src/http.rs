//! One loop for every HTTP listener of the local mode.

use std::{convert::Infallible, future::Future, io, net::SocketAddr};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The body of every response.
pub(crate) type Body = Full<Bytes>;

/// Serves requests on `listener` until `shutdown`, then lets those finish that are under way.
pub(crate) async fn serve<H, F>(listener: TcpListener, shutdown: CancellationToken, handler: H)
where
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
        let handler = handler.clone();
        // A task of its own for each request: one that arrived whole is carried out whether or not its sender waits.
        let requests = connections.clone();
        let service = service_fn(move |request| {
            let answer = requests.spawn(handler(request, peer));
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|_| panicked())) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let shutdown = shutdown.clone();
        connections.spawn(async move {
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
        });
    }
    connections.close();
    connections.wait().await;
}

/// Out of file descriptors, most likely: they come back as connections close, so wait instead of spinning.
async fn accept_failed(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection; is the limit of open files too low (ulimit -n)?");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
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
