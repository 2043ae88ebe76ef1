//! A message between where it was read and where it is published.

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{group::Entry, message::Message};

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) message: Message,
    /// The channel or the stream, for the log.
    pub(crate) from: String,
    pub(crate) read_at: Instant,
    /// What has to be acknowledged.
    pub(crate) entry: Option<Entry>,
    /// Its place in the queue, free again once it is published.
    pub(crate) _place: OwnedSemaphorePermit,
}
