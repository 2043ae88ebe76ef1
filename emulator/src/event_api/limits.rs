//! Limits of Event APIs.

use std::time::Duration;

use crate::gateway::BacklogBounds;

/// Segments of a channel. Source: AppSync quotas.
pub(super) const SEGMENTS_MAX: usize = 5;

/// Events in one publish. Source: AppSync quotas.
pub(super) const EVENTS_MAX: usize = 5;

/// Bytes of one event. Source: AppSync quotas, 240 KB.
pub(super) const EVENT_BYTES_MAX: usize = 240 * 1024;

/// Bytes of the body of a publish, and of a message of a client. Source: AppSync quotas, 1.2 MB.
pub(super) const BODY_BYTES_MAX: usize = 5 * EVENT_BYTES_MAX + 4 * 1024;

/// Subscriptions of one connection. Source: AppSync quotas.
pub(super) const SUBSCRIPTIONS_MAX: usize = 200;

/// Characters of the id of an operation. Source: AppSync developer guide, "Understanding the Event API WebSocket
/// protocol".
pub(super) const ID_CHARS_MAX: usize = 128;

/// Open sockets of one Event API. Our own choice: no number is written, and a process may rarely open more files.
pub(super) const CONNECTIONS_MAX: usize = 100_000;

/// Time between two `ka` frames. Source: as above.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Shortest time between two `ka` frames, whatever the time scale.
pub(super) const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);

/// How many intervals of `ka` a client waits before it counts the connection as lost. Source: as above, 300 s.
pub(super) const KEEP_ALIVES_MISSED: u32 = 5;

/// How long a connection may stay open. Source: as above.
pub(super) const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a Lambda authorizer may take. Source: AppSync developer guide, "Configuring authorization and
/// authentication".
pub(super) const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers of authorizers that are kept for one API. Our own choice.
pub(super) const ANSWERS_MAX: usize = 10_000;

/// Events that wait because of an injected fault, of all sockets. Beyond it they are not late. Our own choice.
pub(super) const LATE_EVENTS: BacklogBounds =
    BacklogBounds { messages: 10_000, bytes: 64 * 1024 * 1024, ..BacklogBounds::OUTBOUND };

/// How long an event waits for another one to overtake it, as an injected fault.
pub(super) const OVERTAKEN_WITHIN: Duration = Duration::from_secs(1);

/// Publishes of one socket per second. Source: AppSync quotas.
pub(super) const SOCKET_PUBLISHES_PER_SEC: f64 = 25.0;

/// Connects of one API per second. Source: AppSync quotas.
pub(super) const CONNECTS_PER_SEC: f64 = 2_000.0;

/// Events published to one API per second. Source: AppSync quotas.
pub(super) const EVENTS_PER_SEC: f64 = 10_000.0;
