//! The texts that wait for one client, in their order.

use std::sync::Arc;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::backlog::{Backlog, BacklogBounds, BacklogEntry};

/// A text with its place in the backlogs.
type Waiting = (Utf8Bytes, BacklogEntry);

/// Why a text was not sent to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The connection is not open.
    Gone,
    /// Too much waits for the client.
    BufferFull,
}

/// Makes the queue of one client. Its texts count towards [`BacklogBounds::OUTBOUND`], for this client and for `all`.
pub(crate) fn outbound(all: &Arc<Backlog>) -> (OutboundSender, OutboundReceiver) {
    let (texts, waiting) = mpsc::unbounded_channel();
    (OutboundSender { texts, own: Arc::default(), all: Arc::clone(all) }, OutboundReceiver(waiting))
}

/// Where texts for a client are queued.
#[derive(Debug)]
pub(crate) struct OutboundSender {
    texts: UnboundedSender<Waiting>,
    own: Arc<Backlog>,
    all: Arc<Backlog>,
}

impl OutboundSender {
    /// Queues a text, unless too much waits.
    pub(super) fn send(&self, text: Utf8Bytes) -> Result<(), SendError> {
        if self.texts.is_closed() {
            return Err(SendError::Gone);
        }
        let entry = self.own.add(&self.all, BacklogBounds::OUTBOUND, text.len()).ok_or(SendError::BufferFull)?;
        self.texts.send((text, entry)).map_err(|_| SendError::Gone)
    }
}

/// Where a socket takes the texts from. Dropping it drops those that wait.
#[derive(Debug)]
pub(crate) struct OutboundReceiver(UnboundedReceiver<Waiting>);

impl OutboundReceiver {
    /// Waits for the next text. `None` once nothing can come.
    pub(crate) async fn recv(&mut self) -> Option<Utf8Bytes> {
        self.0.recv().await.map(|(text, _)| text)
    }

    /// Takes the next text, if one waits.
    pub(crate) fn try_recv(&mut self) -> Result<Utf8Bytes, TryRecvError> {
        self.0.try_recv().map(|(text, _)| text)
    }

    /// The number of texts that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Accepts no more texts. Those that wait can still be taken.
    pub(crate) fn close(&mut self) {
        self.0.close();
    }
}
