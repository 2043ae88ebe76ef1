//! Bounds on what waits for a function or for a client, in number and bytes, so that neither a flood nor a client that
//! does not read exhausts the memory.
//!
//! The service runs a function for each message at once, up to the concurrency of the account. Here a few dozen
//! invocations run at once and the others wait. What waits is bounded for each connection and in total.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};

/// How much may wait at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BacklogBounds {
    /// Messages of one connection.
    pub(crate) messages: usize,
    /// Bytes of one connection.
    pub(crate) bytes: usize,
    /// Bytes of all connections; beyond it each connection has only `share_bytes`.
    pub(crate) total_bytes: usize,
    /// Bytes of one connection, whatever the others do.
    pub(crate) share_bytes: usize,
}

impl BacklogBounds {
    /// Unanswered messages of clients. Our own choice: far more than a client sends that waits for its answers. The
    /// share is one frame.
    pub(crate) const UNANSWERED: Self =
        Self { messages: 256, bytes: 1024 * 1024, total_bytes: 64 * 1024 * 1024, share_bytes: FRAME_BYTES_MAX };

    /// Texts that wait for clients to read them. Our own choice: AWS does not document the real numbers. The share is
    /// one message of the largest size.
    pub(crate) const OUTBOUND: Self =
        Self { messages: 256, bytes: 4 * 1024 * 1024, total_bytes: 256 * 1024 * 1024, share_bytes: MESSAGE_BYTES_MAX };
}

/// What waits of one connection, or of all.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// One message that waits. Dropping it removes the message from both backlogs.
#[derive(Debug)]
pub(crate) struct BacklogEntry {
    own: Arc<Backlog>,
    all: Arc<Backlog>,
    bytes: usize,
}

impl Backlog {
    /// Adds a message of a connection to its own backlog and to that of all. `None` if it exceeds a bound.
    pub(crate) fn add(self: &Arc<Self>, all: &Arc<Self>, bounds: BacklogBounds, bytes: usize) -> Option<BacklogEntry> {
        let entry = BacklogEntry { own: Arc::clone(self), all: Arc::clone(all), bytes };
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let of_connection = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        all.messages.fetch_add(1, Ordering::Relaxed);
        let of_all = all.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single message always fits: its size has a limit of its own.
        let fits = |before: usize, max: usize| before == 0 || before + bytes <= max;
        let is_taken = messages < bounds.messages
            && fits(of_connection, bounds.bytes)
            && (fits(of_connection, bounds.share_bytes) || fits(of_all, bounds.total_bytes));
        is_taken.then_some(entry)
    }
}

impl Drop for BacklogEntry {
    fn drop(&mut self) {
        for backlog in [&self.own, &self.all] {
            backlog.messages.fetch_sub(1, Ordering::Relaxed);
            backlog.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_bounded_in_messages_and_bytes_and_always_has_its_share_of_the_total() {
        for bounds in [BacklogBounds::UNANSWERED, BacklogBounds::OUTBOUND] {
            let [all, small] = [(); 2].map(|()| Arc::<Backlog>::default());
            let taken: Vec<_> = (0..1_000).map_while(|_| small.add(&all, bounds, 10)).collect();
            assert_eq!(taken.len(), bounds.messages);
            drop(taken);
            let large: Vec<Arc<Backlog>> = (0..100).map(|_| Arc::default()).collect();
            let fill = |backlog: &Arc<Backlog>| {
                (0..1_000).map_while(|_| backlog.add(&all, bounds, 100_000)).collect::<Vec<_>>()
            };
            let taken: Vec<Vec<_>> = large.iter().map(fill).collect();
            assert_eq!(taken[0].len(), bounds.bytes / 100_000);
            assert!(taken.iter().all(|taken| !taken.is_empty()), "each has one");
            let bytes = all.bytes.load(Ordering::Relaxed);
            let total = bounds.total_bytes;
            assert!((total - 100_000..total + 100 * 100_000).contains(&bytes), "{bytes}");
            assert!(small.add(&all, bounds, 10).is_some(), "others do not use up the share of a connection");
            drop(taken);
            let left = [&all.bytes, &all.messages].map(|count| count.load(Ordering::Relaxed));
            assert_eq!(left, [0, 0], "nothing is left");
        }
    }
}
