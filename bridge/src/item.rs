//! A message between where it was read and where it is published.

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{group::Entry, message::Message};

/// A message that is queued or being published.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    /// The channel or stream, for log lines.
    pub(crate) from: String,
    pub(crate) read_at: Instant,
    /// The stream entry to acknowledge.
    pub(crate) entry: Option<Entry>,
    /// Room in the queue, free again once the message is published.
    pub(crate) _place: OwnedSemaphorePermit,
}
