//! The socket that the canary listens on: TCP, TLS where the address says `wss`, and the handshake.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Uri, header::SEC_WEBSOCKET_PROTOCOL, uri::Scheme};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use shared::{
    auth::token::SUBPROTOCOL,
    error::InternalError,
    runtime::{
        network::{ConnectError, Network},
        tls::{NoCertificates, tls},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};

/// What a socket runs over: TCP, with or without TLS, or a simulated connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open socket.
pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// Where sockets are opened.
pub(crate) struct Endpoint {
    network: Network,
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
    /// A certificate cannot name its host.
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
    pub(crate) fn new(network: &Network, address: Uri) -> Result<Self, Unusable> {
        Self::with(network, address, || tls(Some(&Scheme::HTTPS)))
    }

    fn with(
        network: &Network,
        address: Uri,
        tls: impl FnOnce() -> Result<ClientConfig, NoCertificates>,
    ) -> Result<Self, Unusable> {
        let host = address.host().ok_or(Unusable::Address)?.to_owned();
        let (tls, port) = match address.scheme_str() {
            Some("ws") => (None, 80),
            Some("wss") => {
                let connector = TlsConnector::from(Arc::new(tls()?));
                let name = ServerName::try_from(host.clone()).map_err(Unusable::Host)?;
                (Some((connector, name)), 443)
            }
            _ => return Err(Unusable::Address),
        };
        let port = address.port_u16().unwrap_or(port);
        Ok(Self { network: network.clone(), address, host, port, tls })
    }

    /// Opens a socket, with a token where there is one.
    pub(crate) async fn connect(&self, token: Option<&str>) -> Result<Socket, InternalError> {
        let doing = "opening the socket of the canary";
        let mut request =
            self.address.clone().into_client_request().map_err(|error| InternalError::new(doing, error))?;
        if let Some(token) = token {
            let offered = HeaderValue::from_str(&format!("{SUBPROTOCOL}, bearer.{token}"));
            let mut offered = offered.map_err(|error| InternalError::new(doing, error))?;
            offered.set_sensitive(true);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        let wire = self.open().await.map_err(|error| InternalError::new(doing, error))?;
        let (socket, _) = client_async(request, wire).await.map_err(|error| InternalError::new(doing, error))?;
        Ok(socket)
    }

    async fn open(&self) -> Result<Box<dyn Wire>, ConnectError> {
        if let Network::Simulated(open) = &self.network {
            return Ok(Box::new(TokioIo::new(open(self.address.clone()).await?)));
        }
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
    use rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    };
    use shared::error::ErrorChain;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_tungstenite::{
        accept_hdr_async,
        tungstenite::handshake::server::{ErrorResponse, Request, Response},
    };

    use super::*;

    #[test]
    fn an_address_that_no_socket_can_be_opened_at_is_refused() {
        let endpoint = |address: &str| Endpoint::new(&Network::System, address.parse().expect("a URI"));
        for bad in ["https://host/prod", "/prod", "host"] {
            assert!(matches!(endpoint(bad), Err(Unusable::Address)), "{bad}");
        }
        let plain = endpoint("ws://127.0.0.1:8765/prod").expect("usable");
        assert_eq!((plain.host.as_str(), plain.port, plain.tls.is_none()), ("127.0.0.1", 8765, true));
    }

    /// A gateway on TLS that takes one handshake and returns what it offers, and a client that trusts its certificate.
    async fn gateway() -> (String, ClientConfig, impl Future<Output = Option<String>>) {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate: CertificateDer<'static> = identity.cert.der().clone();
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("wss://localhost:{}/prod", listener.local_addr().expect("an address").port());
        let handshake = async move {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let tls = TlsAcceptor::from(Arc::new(server)).accept(tcp).await.ok()?;
            let mut offered = None;
            #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
            let note = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let header = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
                offered = header.map(|header| header.to_str().expect("a text").to_owned());
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
                Ok(response)
            };
            accept_hdr_async(tls, note).await.expect("a handshake");
            offered
        };
        (address, client, handshake)
    }

    #[tokio::test]
    async fn a_socket_is_opened_over_tls_with_the_token_as_a_subprotocol() {
        let (address, trusted, handshake) = gateway().await;
        let address = address.parse().expect("a URI");
        let endpoint = Endpoint::with(&Network::System, address, || Ok(trusted)).expect("usable");
        let (socket, offered) = tokio::join!(endpoint.connect(Some("a.b.c")), handshake);
        socket.expect("an open socket");
        assert_eq!(offered.as_deref(), Some("viral-alerts, bearer.a.b.c"));
    }

    #[tokio::test]
    async fn a_gateway_with_a_certificate_of_somebody_else_is_not_spoken_to() {
        let (address, _, handshake) = gateway().await;
        let (_, trusts_another, _) = gateway().await;
        let address = address.parse().expect("a URI");
        let endpoint = Endpoint::with(&Network::System, address, || Ok(trusts_another)).expect("usable");
        let (socket, offered) = tokio::join!(endpoint.connect(None), handshake);
        let failure = ErrorChain(&socket.err().expect("not trusted")).to_string();
        assert!(failure.contains("certificate"), "{failure}");
        assert_eq!(offered, None);
    }
}
