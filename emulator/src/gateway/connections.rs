//! The open connections, as posts, integrations and the inspector use them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use clock::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::frame::coding::CloseCode};
use tokio_util::sync::CancellationToken;

use super::{
    backlog::Backlog,
    outbound::{OutboundSender, SendError},
};

/// How the gateway closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseReason {
    /// Status in the close frame and the event.
    pub(crate) code: CloseCode,
    /// Reason in the close frame and the event.
    pub(crate) reason: &'static str,
}

impl CloseReason {
    /// Idle for too long, open for too long, or the gateway stops.
    pub(crate) const GOING_AWAY: Self = Self { code: CloseCode::Away, reason: "Going away" };
    /// Closed through the management API.
    pub(crate) const NORMAL: Self = Self { code: CloseCode::Normal, reason: "Connection Closed Normally" };
    /// A frame or message over the limit.
    pub(crate) const TOO_BIG: Self = Self { code: CloseCode::Size, reason: "Message too long" };
    /// A binary message.
    pub(crate) const BINARY: Self = Self { code: CloseCode::Unsupported, reason: "Binary is not supported" };
    /// Text that is not UTF-8.
    pub(crate) const NOT_UTF8: Self = Self { code: CloseCode::Invalid, reason: "Invalid UTF-8" };
    /// Bytes that are not WebSocket frames.
    pub(crate) const PROTOCOL: Self = Self { code: CloseCode::Protocol, reason: "Protocol error" };
    /// The client is lost: it sent no close frame.
    pub(crate) const LOST: Self = Self { code: CloseCode::Abnormal, reason: "" };
}

/// What events know of an authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthorizerContext {
    /// Its context and `principalId`, which all events of the connection have.
    pub(super) values: Map<String, Value>,
    /// How long it took, which the event of `$connect` alone has.
    pub(super) latency_ms: u64,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) connected_at: Timestamp,
    pub(super) peer: SocketAddr,
    pub(super) user_agent: Option<String>,
    /// `Host` header of the handshake.
    pub(super) host: String,
    /// What the authorizer returned, if one was invoked.
    pub(super) authorizer: OnceLock<AuthorizerContext>,
    /// Text frames that wait to be sent.
    outbound: OutboundSender,
    /// Cancelled to close the connection. Not a message, because a client that does not read keeps the queue full.
    closing: CancellationToken,
    unanswered: Arc<Backlog>,
    last_active_ms: AtomicI64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Connection {
    pub(crate) fn new(
        id: String,
        connected_at: Timestamp,
        peer: SocketAddr,
        user_agent: Option<String>,
        host: String,
        outbound: OutboundSender,
    ) -> Self {
        Self {
            id,
            connected_at,
            peer,
            user_agent,
            host,
            authorizer: OnceLock::new(),
            outbound,
            closing: CancellationToken::new(),
            unanswered: Arc::default(),
            last_active_ms: AtomicI64::new(connected_at.millis()),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Sends a text to the client, or queues it. `note` is called if it is written here, before it is.
    pub(crate) fn send(&self, text: Utf8Bytes, note: impl FnOnce(&Utf8Bytes)) -> Result<(), SendError> {
        if self.closing.is_cancelled() {
            return Err(SendError::Gone);
        }
        self.outbound.send(text, note)
    }

    /// Queues a text for a client whose socket is written by its own task alone.
    pub(crate) fn queue(&self, text: Utf8Bytes) -> Result<(), SendError> {
        self.send(text, |_| {})
    }

    /// Closes the connection, whether or not the client reads. It accepts no more texts.
    pub(crate) fn close(&self) {
        self.closing.cancel();
    }

    /// Waits for [`close`](Self::close).
    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    /// Returns the unanswered messages of the client.
    pub(crate) fn unanswered(&self) -> &Arc<Backlog> {
        &self.unanswered
    }

    /// Counts a message from the client.
    pub(crate) fn note_received(&self, now: Timestamp) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now.millis(), Ordering::Relaxed);
    }

    /// Counts a message to the client.
    pub(crate) fn note_sent(&self, now: Timestamp) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now.millis(), Ordering::Relaxed);
    }

    /// Returns the time of the last message in either direction.
    pub(super) fn last_active_at(&self) -> Timestamp {
        Timestamp::from_millis(self.last_active_ms.load(Ordering::Relaxed))
    }
}

/// A connection, as the inspector lists it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSummary {
    /// Id of the connection.
    pub connection_id: String,
    connected_at: String,
    last_active_at: String,
    source_ip: String,
    user_agent: Option<String>,
    messages_received: u64,
    messages_sent: u64,
}

/// All open connections, by id.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<String, Arc<Connection>>>);

impl Connections {
    pub(crate) fn insert(&self, connection: Arc<Connection>) {
        self.lock().insert(connection.id.clone(), connection);
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.lock().get(id).cloned()
    }

    pub(crate) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns the newest `max` connections whose id, address or user agent contains `part` in any case, newest first,
    /// and the number of all matches.
    pub(crate) fn summaries(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        let part = part.to_ascii_lowercase();
        let has = |text: &str| text.to_ascii_lowercase().contains(&part);
        let is_wanted = |connection: &&Arc<Connection>| {
            part.is_empty()
                || has(&connection.id)
                || connection.user_agent.as_deref().is_some_and(has)
                || has(&connection.peer.ip().to_string())
        };
        let mut connections: Vec<_> = self.lock().values().filter(is_wanted).cloned().collect();
        let found = connections.len();
        connections.sort_by(|a, b| (b.connected_at, &b.id).cmp(&(a.connected_at, &a.id)));
        connections.truncate(max);
        let summary = |connection: &Arc<Connection>| ConnectionSummary {
            connection_id: connection.id.clone(),
            connected_at: connection.connected_at.rfc3339(),
            last_active_at: connection.last_active_at().rfc3339(),
            source_ip: connection.peer.ip().to_string(),
            user_agent: connection.user_agent.clone(),
            messages_received: connection.received.load(Ordering::Relaxed),
            messages_sent: connection.sent.load(Ordering::Relaxed),
        };
        (connections.iter().map(summary).collect(), found)
    }

    /// Ignores poisoning: every operation on the map is one call, so a panic cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
