//! A deployed stack, which tests see only from outside.

use std::sync::LazyLock;

use aws_sdk_dynamodb::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use clock::system_time;
use futures_util::TryFutureExt;
use hyper::Uri;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use shared::runtime::environment::Environment;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// TLS with the trusted certificates of the system, or those of `SSL_CERT_FILE`.
pub(crate) static TLS: LazyLock<ClientConfig> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth()
});

/// The transport of a WebSocket: TCP with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// Opens a connection for a `ws:` or `wss:` address.
pub(crate) async fn open(address: &Uri) -> std::io::Result<Box<dyn Wire>> {
    let host = address.host().unwrap_or_default();
    let secure = address.scheme_str() == Some("wss");
    let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    if !secure {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    TlsConnector::from(std::sync::Arc::new(TLS.clone()))
        .connect(name, tcp)
        .map_ok(|stream| Box::new(stream) as Box<dyn Wire>)
        .await
}

/// The addresses of a stack.
#[derive(Debug)]
pub(crate) struct Target {
    /// `wss://host/stage`
    sockets: String,
    /// `https://host`
    http: String,
}

impl Target {
    /// Reads `E2E_TARGET`: the outputs `WebSocketUrl` and `PublishUrl` of the stack, separated by a comma.
    pub(crate) fn of_environment() -> Option<Self> {
        let environment = Environment::from_process();
        let named = environment.get("E2E_TARGET")?;
        let (sockets, publish) = named.split_once(',').expect("E2E_TARGET is WebSocketUrl,PublishUrl");
        let http = publish.strip_suffix("/publish").unwrap_or(publish);
        let [sockets, http] = [sockets, http].map(|address| address.trim_end_matches('/').to_owned());
        Some(Self { sockets, http })
    }

    /// Returns the address of a WebSocket, from a path that starts with the stage of the tests.
    pub(crate) fn sockets(&self, path_and_query: &str) -> String {
        let after_stage = path_and_query.strip_prefix("/prod").expect("only paths of the stage lead to a deployed API");
        format!("{}{after_stage}", self.sockets)
    }

    /// Returns an address of the HTTP API.
    pub(crate) fn http(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.http)
    }

    /// Returns the headers of a signed publication, or none without credentials in the environment: local mode needs
    /// none.
    pub(crate) fn signature(url: &str, body: &[u8]) -> Vec<(String, String)> {
        let environment = Environment::from_process();
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) else {
            return Vec::new();
        };
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region_of(url).or(region).expect("AWS_REGION");
        let identity = Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
        Self::signed(url, body, identity, &region)
    }

    /// Returns the headers of a publication that is signed with these credentials.
    pub(crate) fn signed(url: &str, body: &[u8], identity: Credentials, region: &str) -> Vec<(String, String)> {
        let identity = identity.into();
        let settings = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("execute-api")
            .time(system_time())
            .settings(SigningSettings::default())
            .build()
            .expect("all that it needs");
        let signable = SignableRequest::new("POST", url, std::iter::empty(), SignableBody::Bytes(body));
        let signed = sign(signable.expect("a valid request"), &settings.into()).expect("a signature");
        let (instructions, _) = signed.into_parts();
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Returns the region in an address of API Gateway.
fn region_of(url: &str) -> Option<String> {
    let host = url.split_once("://")?.1.split('/').next()?;
    Some(host.split_once(".execute-api.")?.1.split('.').next()?.to_owned())
}

#[test]
fn the_region_of_a_signature_is_that_of_the_address() {
    let url = "https://abc123.execute-api.cn-north-1.amazonaws.com.cn/publish";
    assert_eq!(region_of(url).as_deref(), Some("cn-north-1"));
    assert_eq!(region_of("https://alerts.example.com/publish"), None);
}
