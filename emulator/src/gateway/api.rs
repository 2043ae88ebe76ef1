//! The gateway: one WebSocket API on one stage, and everything that it holds.

use std::{net::SocketAddr, sync::Arc};

use clock::Clock;
use hyper::{
    HeaderMap, Method,
    header::{HOST, UPGRADE},
    http::request::Parts,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backlog::Backlog,
    connections::{Connection, ConnectionSummary, Connections},
    outbound::SendError,
    settings::GatewaySettings,
};
use crate::{
    http::{host_and_port, is_secured},
    lambda::Functions,
    rate::RouteBuckets,
    recorder::Recorder,
    service_integrations::IntegratedServices,
    template::WebSocketApi,
};

/// One WebSocket API on one stage.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(super) api: WebSocketApi,
    /// Where functions on this machine reach it.
    pub(super) address: SocketAddr,
    pub(super) functions: Arc<Functions>,
    /// For integrations with other services than Lambda. `None` where there are none.
    pub(super) services: Option<IntegratedServices>,
    pub(super) connections: Connections,
    pub(super) clock: Clock,
    pub(super) settings: GatewaySettings,
    /// Throttles of the routes.
    pub(super) buckets: RouteBuckets,
    pub(super) recorder: Arc<Recorder>,
    /// Unanswered messages of all clients.
    pub(super) unanswered: Arc<Backlog>,
    /// Texts that wait for all clients.
    pub(super) waiting: Arc<Backlog>,
    /// Sockets and the `$disconnect` invocations that follow them.
    pub(super) tasks: TaskTracker,
    /// Cancelled to close every socket.
    pub(super) closing: CancellationToken,
}

impl Gateway {
    /// Makes a gateway that serves `api` with `functions`, which reach it at `address`.
    pub(crate) fn new(
        api: WebSocketApi,
        address: SocketAddr,
        functions: Arc<Functions>,
        services: Option<IntegratedServices>,
        clock: Clock,
        settings: GatewaySettings,
        recorder: Arc<Recorder>,
    ) -> Arc<Self> {
        let routes = api.routes.keys().map(String::as_str).filter(|_| settings.throttles);
        let buckets = RouteBuckets::new(&api.throttles, routes, clock.now());
        Arc::new(Self {
            api,
            address,
            functions,
            services,
            connections: Connections::default(),
            clock,
            settings,
            buckets,
            recorder,
            unanswered: Arc::default(),
            waiting: Arc::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Returns the stage: the first segment of the path.
    pub(crate) fn stage(&self) -> &str {
        &self.api.stage
    }

    /// Returns the address of this gateway under the host name of a request, whose browser may be on another machine.
    /// A page that came over TLS may open no other sockets than those over TLS.
    pub(crate) fn address_for(&self, request: &Parts, port: u16) -> String {
        let scheme = if is_secured(&request.extensions) { "wss" } else { "ws" };
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
        let (name, _) = host_and_port(host);
        format!("{scheme}://{name}:{port}/{}", self.stage())
    }

    /// Returns the number of open sockets.
    pub(crate) fn connected(&self) -> usize {
        self.connections.count()
    }

    /// Returns the newest `max` connections whose id, address or user agent contains `part`, and the number of all
    /// matches.
    pub(crate) fn summaries(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        self.connections.summaries(part, max)
    }

    /// Returns whether a request is a handshake. Pages of other sites may send one: as in the service, the function
    /// behind `$connect` decides which of them may connect.
    pub(crate) fn is_handshake(&self, request: &Parts) -> bool {
        request.method == Method::GET && self.within_stage(request.uri.path()).is_empty() && upgrades(&request.headers)
    }

    /// Returns what follows the stage in a path, or the whole path if it does not begin with the stage.
    pub(super) fn within_stage<'a>(&self, path: &'a str) -> &'a str {
        let path = path.strip_prefix('/').unwrap_or(path);
        match path.strip_prefix(self.stage()) {
            Some("") => "",
            // An endpoint that ends in a slash, as in some public templates, leads to two slashes.
            Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => path,
        }
    }

    /// Sends a text to a client, or queues it.
    pub(super) fn send(&self, connection: &Connection, text: Utf8Bytes) -> Result<(), SendError> {
        connection.send(text, |text| self.note_sent(connection, text))
    }

    /// Counts and records a text that is written to a client.
    pub(super) fn note_sent(&self, connection: &Connection, text: &Utf8Bytes) {
        connection.note_sent(self.clock.now());
        self.recorder.sent(&connection.id, text);
    }

    /// Closes every connection, as DELETE in the management API does, and waits until `$disconnect` has run for each.
    pub(crate) async fn disconnect_all(&self) {
        self.connections.all().iter().for_each(|connection| self.close_connection(connection));
        // Only a closed tracker can be waited for. Tasks are still added to it.
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Closes every socket with a close frame and waits until `$disconnect` has run for each.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Returns whether a request asks for a WebSocket.
pub(crate) fn upgrades(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
