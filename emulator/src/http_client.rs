//! The HTTP client for servers behind routes, and for the keys of issuers of tokens.

mod connector;

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::Bytes,
    http::{Extensions, uri::Scheme},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use self::connector::{Connector, Received};

/// How long an unused connection is kept. Servers keep theirs for longer (gunicorn 2 s, Node.js and uvicorn 5 s), and
/// one that they close while a request is on its way fails it.
pub(crate) const KEPT_MAX: Duration = Duration::from_secs(1);

/// Most headers of a response that is read. Our own choice: a function may answer with as many.
const HEADERS_MAX: usize = 1_000;

/// What is escaped in paths and queries of servers: everything except the unreserved characters of RFC 3986.
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a server has no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The system has no certificates, so no server can be trusted.
    #[error("no system certificates for https; install ca-certificates")]
    NoCertificates,
    /// It is not there.
    #[error("not reached; check that the server is running")]
    Unreached(#[source] legacy::Error),
    /// It is there, and ended the connection or does not speak HTTP.
    #[error("reached, but it did not respond")]
    Unanswered {
        #[source]
        source: legacy::Error,
        /// Whether it ended a connection that was kept, without a part of a response.
        was_kept: bool,
    },
    /// Its response ended early.
    #[error("the response broke off")]
    Unread(#[source] Box<dyn Error + Send + Sync>),
    /// Its response is larger than this many bytes.
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// A client that speaks HTTP and HTTPS.
#[derive(Debug)]
pub(crate) struct HttpClient {
    kept_max: Duration,
    plain: Clients<HttpConnector>,
    /// Made at the first use, with the certificates of the system. `None` if the system has none.
    secure: OnceLock<Option<Clients<HttpsConnector<HttpConnector>>>>,
}

/// The two clients of a connector.
#[derive(Debug)]
struct Clients<C> {
    /// Keeps connections, and takes one that was kept if there is one.
    keeping: Client<Connector<C>, Full<Bytes>>,
    /// Opens a connection for each request.
    opening: Client<Connector<C>, Full<Bytes>>,
}

/// Over which connection a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One that was kept, or a new one.
    Any,
    New,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::keeping(KEPT_MAX)
    }
}

impl HttpClient {
    fn keeping(kept_max: Duration) -> Self {
        Self { kept_max, plain: Clients::of(&HttpConnector::new(), kept_max), secure: OnceLock::new() }
    }

    /// Sends a request, and reads a response of at most `bytes_max` bytes, all within `timeout`. Where a server has
    /// closed a kept connection before any part of a response, a request of an idempotent method is sent once again,
    /// over a new connection: the server may have closed all that were kept.
    ///
    /// # Errors
    ///
    /// If the response is late, too large or missing, or the request is for HTTPS and the system has no certificates.
    pub(crate) async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let fetched = async {
            match self.exchange(request.clone(), bytes_max, Way::Any).await {
                Err(FetchError::Unanswered { was_kept: true, .. }) if request.method().is_idempotent() => {
                    self.exchange(request, bytes_max, Way::New).await
                }
                other => other,
            }
        };
        tokio::time::timeout(timeout, fetched).await.unwrap_or(Err(FetchError::TimedOut(timeout)))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        way: Way,
    ) -> Result<Response<Bytes>, FetchError> {
        let response = if request.uri().scheme() == Some(&Scheme::HTTPS) {
            self.secure().ok_or(FetchError::NoCertificates)?.by(way).request(request)
        } else {
            self.plain.by(way).request(request)
        };
        let (head, body) = response.await.map_err(FetchError::of)?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
            let is_too_large = error.is::<LengthLimitError>();
            if is_too_large { FetchError::TooLarge(bytes_max) } else { FetchError::Unread(error) }
        })?;
        if let Some(received) = head.extensions.get::<Arc<Received>>() {
            received.whole_response();
        }
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    fn secure(&self) -> Option<&Clients<HttpsConnector<HttpConnector>>> {
        let secure = self.secure.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new().with_native_roots().ok()?.https_only().enable_http1();
            Some(Clients::of(&connector.build(), self.kept_max))
        });
        secure.as_ref()
    }
}

impl<C: Clone> Clients<C> {
    fn of(connector: &C, kept_max: Duration) -> Self
    where
        Connector<C>: Connect + Clone,
    {
        Self {
            keeping: builder(kept_max).build(Connector(connector.clone())),
            opening: builder(kept_max).pool_max_idle_per_host(0).build(Connector(connector.clone())),
        }
    }

    fn by(&self, way: Way) -> &Client<Connector<C>, Full<Bytes>> {
        match way {
            Way::Any => &self.keeping,
            Way::New => &self.opening,
        }
    }
}

/// Returns a builder of clients that keep unused connections for this long.
pub(crate) fn builder(kept_max: Duration) -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(kept_max).http1_max_headers(HEADERS_MAX);
    builder
}

impl FetchError {
    fn of(source: legacy::Error) -> Self {
        if source.is_connect() {
            return Self::Unreached(source);
        }
        let mut extras = Extensions::new();
        if let Some(connection) = source.connect_info() {
            connection.get_extras(&mut extras);
        }
        let received = extras.get::<Arc<Received>>();
        Self::Unanswered { was_kept: received.is_some_and(|received| received.ended_after_a_response()), source }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::{
        io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
        net::TcpListener,
        sync::Barrier,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ClientConfig, RootCertStore,
            crypto::ring,
            pki_types::{CertificateDer, pem::PemObject},
        },
    };

    use super::*;
    use crate::{error::ErrorChain, tls::Identity};

    /// Answers each request with five bytes, of nine on the path `/short`, and not at all on `/never`. On a path that
    /// is a number it has as many headers.
    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.expect("a request");
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                if head.contains(" /never ") {
                    open.push(stream);
                    continue;
                }
                let length = if head.contains(" /short ") { 9 } else { 5 };
                let count = head.split(['/', ' ']).nth(2).and_then(|count| count.parse().ok()).unwrap_or(2);
                let more: String = (2..count).map(|index| format!("X-{index}: a\r\n")).collect();
                let response =
                    format!("HTTP/1.1 200 OK\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\nhello");
                stream.write_all(response.as_bytes()).await.expect("sent");
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_response_that_is_none_has_the_reason_and_its_cause() {
        let client = HttpClient::default();
        let fetch = async |address: String, bytes_max: usize, timeout: u64| {
            let mut request = Request::new(Full::new(Bytes::new()));
            *request.uri_mut() = address.parse().expect("an address");
            client.fetch(request, bytes_max, Duration::from_millis(timeout)).await
        };
        let server = serve().await;
        let whole = fetch(format!("{server}/"), 5, 20_000).await.expect("a response");
        assert_eq!(whole.body(), "hello");
        for count in [101, HEADERS_MAX] {
            let many = fetch(format!("{server}/{count}"), 5, 20_000).await.expect("a response");
            assert_eq!(many.headers().len(), count);
        }
        let many = fetch(format!("{server}/{}", HEADERS_MAX + 1), 5, 20_000).await.expect_err("too many headers");
        assert!(matches!(many, FetchError::Unanswered { was_kept: false, .. }), "{many:?}");
        let large = fetch(format!("{server}/"), 4, 20_000).await.expect_err("too large");
        assert!(matches!(large, FetchError::TooLarge(4)), "{large:?}");
        let short = fetch(format!("{server}/short"), 9, 20_000).await.expect_err("too short");
        assert!(matches!(short, FetchError::Unread(_)), "{short:?}");
        let late = fetch(format!("{server}/never"), 9, 10).await.expect_err("too late");
        assert_eq!(late.to_string(), "no response within 10 ms");
        let nobody = fetch("http://127.0.0.1:1/".to_owned(), 9, 20_000).await.expect_err("not there");
        let said = ErrorChain(&nobody).to_string();
        assert!(said.starts_with("not reached; ") && said.contains("refused"), "{said}");
    }

    /// Answers the first request of each connection and closes it at the second, as a server does that closes a
    /// connection while a request is on its way. On `/cut` it writes a part of a response before, and on `/mute` it
    /// closes a new connection. Requests for `/together` are answered when there are as many of them as [`TOGETHER`].
    /// Counts the requests.
    async fn serve_once_each(acceptor: Option<TlsAcceptor>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let together = Arc::new(Barrier::new(TOGETHER));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted, together) = (acceptor.clone(), Arc::clone(&counted), Arc::clone(&together));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            let stream = acceptor.accept(stream).await.expect("a handshake");
                            respond_once(stream, &counted, &together).await;
                        }
                        None => respond_once(stream, &counted, &together).await,
                    }
                });
            }
        });
        (format!("{scheme}://{address}"), count)
    }

    /// Connections that are kept at once.
    const TOGETHER: usize = 5;

    async fn respond_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, counted: &AtomicUsize, together: &Barrier) {
        for is_first in [true, false] {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.expect("a request");
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            counted.fetch_add(usize::from(read > 0), Ordering::Relaxed);
            if head.contains(" /together ") {
                together.wait().await;
            }
            if is_first && !head.contains(" /mute ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.expect("sent");
                stream.flush().await.expect("sent");
            } else if head.contains(" /cut ") {
                stream.write_all(b"HTTP/1.1 20").await.expect("sent");
            }
            if head.contains(" /mute ") {
                break;
            }
        }
        stream.shutdown().await.expect("closed");
    }

    /// Certificates of a server on this machine, and a client that trusts them and keeps connections.
    fn with_tls() -> (TlsAcceptor, HttpClient) {
        let identity = Identity::new([127, 0, 0, 1].into(), None).expect("certificates");
        let files = tempfile::tempdir().expect("a directory");
        identity.trust(files.path()).expect("written");
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(files.path().join("authority.pem")).expect("a certificate");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let mut client = HttpClient::keeping(KEPT);
        client.secure = OnceLock::from(Some(Clients::of(&connector, KEPT)));
        (identity.services, client)
    }

    /// How long the connections of a test are kept: until its end.
    const KEPT: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_request_over_a_connection_that_was_closed_meanwhile_is_sent_again_if_that_is_safe() {
        retries_where_that_is_safe(HttpClient::keeping(KEPT), serve_once_each(None).await).await;
    }

    #[tokio::test]
    async fn a_request_is_sent_twice_at_most_however_many_connections_were_kept() {
        let (server, count) = serve_once_each(None).await;
        let client = HttpClient::keeping(KEPT);
        let ask = async |method: &str, path: &str| {
            let mut request = Request::new(Full::new(Bytes::from_static(b"body")));
            *request.method_mut() = method.parse().expect("a method");
            *request.uri_mut() = format!("{server}{path}").parse().expect("an address");
            client.fetch(request, 100, Duration::from_secs(20)).await
        };
        for response in join_all((0..TOGETHER).map(|_| ask("GET", "/together"))).await {
            response.expect("a response");
        }
        assert_eq!(count.load(Ordering::Relaxed), TOGETHER);
        assert_eq!(ask("PUT", "/").await.expect("a response").into_body(), "hello");
        assert_eq!(count.load(Ordering::Relaxed), TOGETHER + 2);
    }

    #[tokio::test]
    async fn a_request_over_tls_is_sent_again_too_although_its_server_says_that_it_closes() {
        let (acceptor, client) = with_tls();
        retries_where_that_is_safe(client, serve_once_each(Some(acceptor)).await).await;
    }

    async fn retries_where_that_is_safe(client: HttpClient, (server, count): (String, Arc<AtomicUsize>)) {
        let ask = async |method: &str, path: &str| {
            let mut request = Request::new(Full::new(Bytes::from_static(b"body")));
            *request.method_mut() = method.parse().expect("a method");
            *request.uri_mut() = format!("{server}{path}").parse().expect("an address");
            let before = count.load(Ordering::Relaxed);
            let fetched = client.fetch(request, 100, Duration::from_secs(20)).await;
            (fetched.map(|response| response.into_body()), count.load(Ordering::Relaxed) - before)
        };
        for (method, path, requests) in [("GET", "/", 2), ("PUT", "/", 2), ("POST", "/", 1), ("GET", "/cut", 1)] {
            // It leaves a kept connection, as no other is left.
            assert_eq!(ask("GET", "/").await.0.expect("a response"), "hello");
            let (fetched, count) = ask(method, path).await;
            assert_eq!(count, requests, "{method} {path}: {fetched:?}");
            match fetched {
                Ok(body) => assert!(requests == 2 && body == "hello", "{method} {path}: {body:?}"),
                Err(error) => assert!(requests == 1 && error.to_string().starts_with("reached"), "{error}"),
            }
            drop(ask("GET", "/mute").await);
        }
        let (fetched, count) = ask("GET", "/mute").await;
        assert!(matches!(fetched, Err(FetchError::Unanswered { was_kept: false, .. })), "{fetched:?}");
        assert_eq!(count, 1, "a new connection");
    }
}
