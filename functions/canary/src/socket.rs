//! The socket that the canary listens on: TCP, TLS where the address says `wss`, and the handshake.

use std::{fmt, io, sync::Arc};

use http::{HeaderValue, Uri, header::SEC_WEBSOCKET_PROTOCOL, uri::Scheme};
use rustls::pki_types::ServerName;
use shared::{
    error::Failure,
    https::{self, NoCertificates},
    token::SUBPROTOCOL,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};

/// What a socket runs over: TCP, with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open socket.
pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// Where sockets are opened.
pub(crate) struct Endpoint {
    address: Uri,
    host: String,
    port: u16,
    /// None for `ws`.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// An address that no socket can be opened at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is of another scheme, or lacks a host.
    #[error("expected an address such as wss://host/stage")]
    Address,
    /// Its host is no name that a certificate could have.
    #[error("no certificate can name its host")]
    Host(#[source] rustls::pki_types::InvalidDnsNameError),
    /// Nothing can be trusted.
    #[error(transparent)]
    Certificates(#[from] NoCertificates),
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.address)
    }
}

impl Endpoint {
    /// The endpoint at `ws://…` or `wss://…`. Reads the certificates that the system trusts for the latter.
    pub(crate) fn new(address: Uri) -> Result<Self, Unusable> {
        let host = address.host().ok_or(Unusable::Address)?.to_owned();
        let (tls, port) = match address.scheme_str() {
            Some("ws") => (None, 80),
            Some("wss") => {
                let connector = TlsConnector::from(Arc::new(https::tls(Some(&Scheme::HTTPS))?));
                let name = ServerName::try_from(host.clone()).map_err(Unusable::Host)?;
                (Some((connector, name)), 443)
            }
            _ => return Err(Unusable::Address),
        };
        let port = address.port_u16().unwrap_or(port);
        Ok(Self { address, host, port, tls })
    }

    /// Opens a socket, with a token where there is one.
    pub(crate) async fn connect(&self, token: Option<&str>) -> Result<Socket, Failure> {
        let doing = "opening the socket of the canary";
        let mut request = self.address.clone().into_client_request().map_err(|error| Failure::new(doing, error))?;
        if let Some(token) = token {
            let offered = HeaderValue::from_str(&format!("{SUBPROTOCOL}, bearer.{token}"));
            let mut offered = offered.map_err(|error| Failure::new(doing, error))?;
            offered.set_sensitive(true);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        let wire = self.open().await.map_err(|error| Failure::new(doing, error))?;
        let (socket, _) = client_async(request, wire).await.map_err(|error| Failure::new(doing, error))?;
        Ok(socket)
    }

    async fn open(&self) -> io::Result<Box<dyn Wire>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Or Nagle's algorithm would be part of what is measured.
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), tcp).await?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_no_socket_can_be_opened_at_is_refused() {
        let endpoint = |address: &str| Endpoint::new(address.parse().expect("a URI"));
        for bad in ["https://host/prod", "/prod", "host"] {
            assert!(matches!(endpoint(bad), Err(Unusable::Address)), "{bad}");
        }
        let plain = endpoint("ws://127.0.0.1:8765/prod").expect("usable");
        assert_eq!((plain.host.as_str(), plain.port, plain.tls.is_none()), ("127.0.0.1", 8765, true));
    }
}
