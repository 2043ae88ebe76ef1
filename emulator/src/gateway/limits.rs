//! Limits of the gateway.

use std::time::Duration;

/// Largest frame from a client. Source: API Gateway quotas.
pub(super) const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest message, from a client or in a post. Source: API Gateway quotas.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Messages waiting for one client before posts to it answer 429. The real buffer's size is not documented.
pub(super) const OUTBOUND_MESSAGES_MAX: usize = 256;

/// Time that a client has to take one frame before it counts as lost. The real limit is not documented.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that a client has to answer a close frame.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
