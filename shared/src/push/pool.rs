//! HTTP connections to the management API, each for one post at a time and kept for the next.
//!
//! A connection is driven by the post that uses it, and has no task of its own that would have to be woken for each
//! request and each answer.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::{
        TrySendError,
        http1::{self, Connection, SendRequest},
    },
    service::Service,
};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

use crate::{
    limits::{POST_CONNECTION_IDLE_MAX, POSTS_OPEN_MAX},
    runtime::network::{Connector, Stream},
};

type Body = Full<Bytes>;

/// Connections to one address.
pub(super) struct Pool {
    connector: TowerToHyperService<Connector>,
    address: Uri,
    /// In the order in which they were used last. Closing them is the gateway's affair.
    idle: Mutex<Vec<(Box<PooledConnection>, Instant)>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A request that has no answer, and may have arrived.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("no connection")]
    NoConnection(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

impl Pool {
    pub(super) fn new(connector: Connector, address: Uri) -> Self {
        Self { connector: TowerToHyperService::new(connector), address, idle: Mutex::default() }
    }

    /// Sends a request in origin form and reads the answer to its end.
    pub(super) async fn exchange(&self, mut request: Request<Body>) -> Result<(StatusCode, Bytes), ExchangeError> {
        loop {
            let kept = self.take();
            let is_kept = kept.is_some();
            let mut line = match kept {
                Some(line) => line,
                // Boxed: it is seldom needed, and would make the future of every post several times as large.
                None => self.connect().boxed().await?,
            };
            match line.exchange(request).await {
                Ok(answer) => {
                    self.keep(line);
                    return Ok(answer);
                }
                Err(mut error) => match error.take_message() {
                    // The gateway had closed it before anything was written.
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(ExchangeError::Broken(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Box<PooledConnection>, ExchangeError> {
        let stream = self.connector.call(self.address.clone()).await.map_err(ExchangeError::NoConnection)?;
        let (sender, connection) = http1::handshake(stream).await.map_err(ExchangeError::Broken)?;
        Ok(Box::new(PooledConnection { sender, connection: Some(connection) }))
    }

    /// The one that was used last. If that is too old, so are all others.
    fn take(&self) -> Option<Box<PooledConnection>> {
        let mut idle = self.idle();
        let (line, since) = idle.pop()?;
        if since.elapsed() < POST_CONNECTION_IDLE_MAX {
            return Some(line);
        }
        idle.clear();
        None
    }

    fn keep(&self, line: Box<PooledConnection>) {
        let mut idle = self.idle();
        if line.connection.is_some() && idle.len() < POSTS_OPEN_MAX {
            idle.push((line, Instant::now()));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Box<PooledConnection>, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
struct PooledConnection {
    sender: SendRequest<Body>,
    /// None once it has ended. What it had not sent by then is given back.
    connection: Option<Connection<Stream, Body>>,
}

impl PooledConnection {
    async fn exchange(&mut self, request: Request<Body>) -> Result<(StatusCode, Bytes), TrySendError<Request<Body>>> {
        let response = self.sender.try_send_request(request);
        let mut answer = pin!(async {
            let response = response.await?;
            let status = response.status();
            // The connection is used again only when the answer has been read.
            let body = response.into_body().collect().await.map(|body| body.to_bytes());
            Ok((status, body.unwrap_or_default()))
        });
        poll_fn(|cx| {
            if let Some(connection) = &mut self.connection
                && connection.poll_unpin(cx).is_ready()
            {
                self.connection = None;
            }
            answer.as_mut().poll(cx)
        })
        .await
    }
}
