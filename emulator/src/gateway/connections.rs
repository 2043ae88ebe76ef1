//! The open connections, and what posts, integrations and the inspector do with them.

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
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::frame::coding::CloseCode};
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;

/// How a connection is closed by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CloseReason {
    /// Status of the close frame and in the event.
    pub(super) code: CloseCode,
    /// Reason in the close frame and in the event.
    pub(super) reason: &'static str,
}

impl CloseReason {
    /// Idle for too long, open for too long, or the gateway stops.
    pub(super) const GOING_AWAY: Self = Self { code: CloseCode::Away, reason: "Going away" };
    /// Closed through the management API.
    pub(super) const NORMAL: Self = Self { code: CloseCode::Normal, reason: "Connection Closed Normally" };
    /// A frame or message over the limit.
    pub(super) const TOO_BIG: Self = Self { code: CloseCode::Size, reason: "Message too long" };
    /// A binary message.
    pub(super) const BINARY: Self = Self { code: CloseCode::Unsupported, reason: "Binary is not supported" };
    /// Text that is not UTF-8.
    pub(super) const NOT_UTF8: Self = Self { code: CloseCode::Invalid, reason: "Invalid UTF-8" };
    /// Bytes that are no WebSocket frames.
    pub(super) const PROTOCOL: Self = Self { code: CloseCode::Protocol, reason: "Protocol error" };
    /// The client went without a close frame.
    pub(super) const LOST: Self = Self { code: CloseCode::Abnormal, reason: "" };
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) connected_at: Timestamp,
    pub(super) peer: SocketAddr,
    pub(super) user_agent: Option<String>,
    /// `Host` header of the handshake.
    pub(super) host: String,
    /// What the authorizer said of the client, once it was asked.
    pub(super) authorizer: OnceLock<Value>,
    /// Text frames that wait for the client.
    outbound: mpsc::Sender<Utf8Bytes>,
    /// Cancelled when it is closed through the management API. Beside the queue, which a client that does not read keeps full.
    closing: CancellationToken,
    /// Messages of the client that are not answered yet.
    unanswered: Backlog,
    last_active_ms: AtomicI64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// Why something was not handed to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// It is not open (any more).
    Gone,
    /// Too much waits for the client already.
    BufferFull,
}

impl Connection {
    pub(super) fn new(
        id: String,
        connected_at: Timestamp,
        peer: SocketAddr,
        user_agent: Option<String>,
        host: String,
        outbound: mpsc::Sender<Utf8Bytes>,
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
            unanswered: Backlog::default(),
            last_active_ms: AtomicI64::new(connected_at.millis()),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Queues a text for the client.
    pub(super) fn send(&self, text: Utf8Bytes) -> Result<(), SendError> {
        if self.closing.is_cancelled() {
            return Err(SendError::Gone);
        }
        self.outbound.try_send(text).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::BufferFull,
            mpsc::error::TrySendError::Closed(_) => SendError::Gone,
        })
    }

    /// Closes it, whether or not the client reads. Nothing more is taken for it.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Waits until it is closed by [`close`](Self::close).
    pub(super) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    /// Messages of the client that are not answered yet.
    pub(super) fn unanswered(&self) -> &Backlog {
        &self.unanswered
    }

    /// Notes a message from the client.
    pub(super) fn note_received(&self, now: Timestamp) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now.millis(), Ordering::Relaxed);
    }

    /// Notes a message to the client.
    pub(super) fn note_sent(&self, now: Timestamp) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.last_active_ms.store(now.millis(), Ordering::Relaxed);
    }

    /// When the last message went either way.
    pub(super) fn last_active_at(&self) -> Timestamp {
        Timestamp::from_millis(self.last_active_ms.load(Ordering::Relaxed))
    }
}

/// What a person is told of a connection.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSummary {
    /// Its id.
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
pub(super) struct Connections(Mutex<HashMap<String, Arc<Connection>>>);

impl Connections {
    pub(super) fn insert(&self, connection: Arc<Connection>) {
        self.lock().insert(connection.id.clone(), connection);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The newest `max` of those whose id, address or agent has `part` in it in either case, the newest first, and how many
    /// have it.
    pub(super) fn summaries(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
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

    /// A thread that panicked while it held the lock left the map whole: every operation on it is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
