//! Connections that no AWS client opens: posts to clients, requests to issuers of tokens and to feeds, and the socket
//! of the canary.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use tower_service::Service;

use crate::runtime::tls::{NoCertificates, tls};

/// Why there is no connection.
pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// Opens a connection to the host of an address.
pub type Open = Arc<dyn Fn(Uri) -> BoxFuture<'static, Result<Stream, ConnectError>> + Send + Sync>;

/// Where connections lead: into the system's network, or into a simulated one.
#[derive(Clone)]
pub enum Network {
    /// TCP, with TLS where an address begins with `https:`.
    System,
    /// Whatever the function opens.
    Simulated(Open),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Simulated(_) => "Simulated",
        })
    }
}

impl Network {
    /// Prepares connections to addresses of the scheme of `address`. Each is there within `time`, where one is given.
    ///
    /// # Errors
    ///
    /// If the scheme is `https` and the system has no certificates to trust.
    pub fn connector(&self, address: &Uri, time: Option<Duration>) -> Result<Connector, NoCertificates> {
        match self {
            Self::System => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_connect_timeout(time);
                let https = HttpsConnectorBuilder::new().with_tls_config(tls(address.scheme())?);
                Ok(Connector::System(https.https_or_http().enable_http1().wrap_connector(tcp)))
            }
            Self::Simulated(open) => Ok(Connector::Simulated(Arc::clone(open))),
        }
    }
}

/// Opens connections, as HTTP clients want it.
#[derive(Clone)]
pub enum Connector {
    System(HttpsConnector<HttpConnector>),
    Simulated(Open),
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Stream, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        match self {
            Self::System(https) => {
                let opening = https.call(address);
                Box::pin(async move { Ok(Stream::new(opening.await?)) })
            }
            Self::Simulated(open) => open(address),
        }
    }
}

/// What can be a connection.
trait Bytes: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Bytes for T {}

/// A connection.
pub struct Stream(Box<dyn Bytes>);

impl Stream {
    /// A connection over anything that carries bytes both ways.
    pub fn new(bytes: impl Read + Write + Send + Unpin + 'static) -> Self {
        Self(Box::new(bytes))
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
