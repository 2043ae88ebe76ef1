//! An API Gateway WebSocket API: handshake, routes, integrations, frames and the management API.
//!
//! How the real one behaves, and how sure that is, stands in `docs/emulator.md`.

mod actions;
mod authorizer;
mod backend;
mod backlog;
mod connections;
mod event;
mod handshake;
mod ids;
mod integration;
mod management;
mod mapping;
pub(crate) mod selection;
mod settings;
mod signature;
mod socket;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clock::Clock;
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{HOST, HeaderValue, UPGRADE},
    http::request::Parts,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{backend::IntegrationClient, backlog::Backlog, connections::Connections};
pub use self::{connections::ConnectionSummary, settings::GatewayOptions};
pub(crate) use self::{connections::SendError, settings::GatewaySettings};
use crate::{
    http::{Body, Request, json},
    inspector::Recorder,
    lambda::Functions,
    rate::RouteBuckets,
    template::WebSocketApi,
};

/// Largest frame from a client. Source: API Gateway quotas.
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest message, from a client or in a post. Source: API Gateway quotas.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Messages waiting for one client before posts to it answer 429. The real buffer's size is not documented.
const OUTBOUND_MESSAGES_MAX: usize = 256;

/// Time that a client has to take one frame before it counts as lost. The real limit is not documented.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that a client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One WebSocket API on one stage.
#[derive(Debug)]
pub(crate) struct Gateway {
    api: WebSocketApi,
    functions: Arc<Functions>,
    connections: Connections,
    /// For HTTP integrations.
    http: IntegrationClient,
    clock: Clock,
    settings: GatewaySettings,
    /// Throttles of the routes.
    buckets: RouteBuckets,
    recorder: Arc<Recorder>,
    /// Messages of all clients that are not answered yet.
    unanswered: Backlog,
    /// Sockets and the `$disconnect` invocations that follow them.
    tasks: TaskTracker,
    /// Cancelled when every socket shall close.
    closing: CancellationToken,
}

impl Gateway {
    /// A gateway that invokes `functions` as `api` says.
    pub(crate) fn new(
        api: WebSocketApi,
        functions: Arc<Functions>,
        clock: Clock,
        settings: GatewaySettings,
        recorder: Arc<Recorder>,
    ) -> Arc<Self> {
        let routes = api.routes.keys().map(String::as_str).filter(|_| settings.throttles);
        let buckets = RouteBuckets::new(&api.throttles, routes, clock.now());
        Arc::new(Self {
            api,
            functions,
            connections: Connections::default(),
            http: IntegrationClient::new(),
            clock,
            settings,
            buckets,
            recorder,
            unanswered: Backlog::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// The stage, first segment of the address.
    pub(crate) fn stage(&self) -> &str {
        &self.api.stage
    }

    /// The address of this gateway by the name under which a request has reached this machine, as a page may be open on
    /// another one.
    pub(crate) fn address_for(&self, headers: &HeaderMap, port: u16) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
        let with_port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let name = with_port.map_or(host, |(name, _)| name);
        format!("ws://{name}:{port}/{}", self.stage())
    }

    /// How many sockets are open.
    pub(crate) fn connected(&self) -> usize {
        self.connections.count()
    }

    /// The newest `max` connections whose id, address or agent has `part` in it, and how many have it.
    pub(crate) fn summaries(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        self.connections.summaries(part, max)
    }

    /// Whether a request is a handshake. Pages of other sites may send one: which of them may connect, the function behind
    /// `$connect` decides, as in the service.
    pub(crate) fn is_handshake(&self, request: &Parts) -> bool {
        request.method == Method::GET && self.within_stage(request.uri.path()).is_empty() && upgrades(&request.headers)
    }

    /// What follows the stage in a path, or all of it where another segment comes first.
    fn within_stage<'a>(&self, path: &'a str) -> &'a str {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path.strip_prefix(self.stage()) {
            Some("") => "",
            // Endpoints that end in a slash make two of them, and public templates have such.
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => path,
        }
    }

    /// Answers one request: a handshake, or a call of the management API.
    ///
    /// Both are served below the stage, as under the API's own address, and at the root, as behind a custom domain.
    pub(crate) async fn handle(self: Arc<Self>, request: Request, peer: SocketAddr) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let path = self.within_stage(&path);
        if let Some(id) = path.strip_prefix("@connections/").or_else(|| path.strip_prefix("%40connections/")) {
            return management::handle(&self, id, request).await;
        }
        match (path, upgrades(request.headers())) {
            ("", true) if self.closing.is_cancelled() => {
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"message": "Service Unavailable"}))
            }
            // Boxed, so that the future of a post, of which there are many more, is small.
            ("", true) => Box::pin(handshake::handle(self, request, peer)).await,
            ("", false) if request.method() == Method::GET => {
                self.recorder
                    .handshake(None, request.uri(), &[], peer)
                    .answered(StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
                json(StatusCode::UPGRADE_REQUIRED, &serde_json::json!({"message": "Upgrade Required"}))
            }
            _ => {
                // The commonest mistake of all: an endpoint whose path is not the stage.
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("{host}");
                tracing::warn!(
                    path = request.uri().path(),
                    "request outside of the stage refused; {}",
                    right_addresses(host, self.stage())
                );
                self.recorder
                    .handshake(None, request.uri(), &[], peer)
                    .answered(StatusCode::FORBIDDEN, "Forbidden: outside of the stage");
                let mut response = json(StatusCode::FORBIDDEN, &serde_json::json!({"message": "Forbidden"}));
                // AWS clients read the kind of an error from this header.
                response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("ForbiddenException"));
                response
            }
        }
    }

    /// Serves bytes as they might come over a connection, until they end, and all that they cause.
    #[cfg(feature = "fuzzing")]
    pub(crate) async fn serve_bytes(self: Arc<Self>, bytes: &[u8]) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (client, server) = tokio::io::duplex(bytes.len().max(1));
        let (mut replies, mut requests) = tokio::io::split(client);
        let (outbound, waiting) = tokio::sync::mpsc::channel(OUTBOUND_MESSAGES_MAX);
        let now = self.clock.now();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = ids::new(ids::IdKind::Connection, now);
        let connection = connections::Connection::new(id, now, peer, None, "localhost".to_owned(), outbound);
        let connection = Arc::new(connection);
        self.connections.insert(Arc::clone(&connection));
        requests.write_all(bytes).await.expect("room for all");
        requests.shutdown().await.expect("open");
        let (mut read, served) = (Vec::new(), socket::serve(&self, &connection, server, waiting));
        let (_, ended) = tokio::join!(replies.read_to_end(&mut read), tokio::time::timeout(CLOSE_TIMEOUT * 2, served));
        ended.expect("it ends when the bytes do");
        while !self.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Closes every socket with a close frame and waits until `$disconnect` has run for each.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn upgrades(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Where a client should have gone that missed the stage.
fn right_addresses(host: &str, stage: &str) -> String {
    format!("clients connect to ws://{host}/{stage}, and the endpoint of the management API is http://{host}/{stage}")
}
