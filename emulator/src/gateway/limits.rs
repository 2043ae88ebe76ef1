//! Limits of the gateway.

use std::time::Duration;

/// Largest frame from a client. Source: API Gateway quotas.
pub(super) const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest message, from a client or in a post. Source: API Gateway quotas.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// How long a client may take to read one frame before it counts as lost. AWS does not document the real limit.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the gateway waits for the answer to a close frame.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
