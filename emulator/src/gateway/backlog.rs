//! Bounds on the unanswered messages of clients, in number and bytes, so that a flood cannot exhaust the memory.
//!
//! The service runs a function for each message at once, up to the concurrency of the account. Here a few dozen
//! invocations run at once and the others wait. What waits is bounded for each connection and in total.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::limits::FRAME_BYTES_MAX;

/// Unanswered messages of one connection. Our own choice: far more than a client sends that waits for its answers.
const CONNECTION_MESSAGES_MAX: usize = 256;

/// Bytes of unanswered messages of one connection. Our own choice.
const CONNECTION_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of unanswered messages of all connections; beyond it each connection has only [`SHARE_BYTES`]. Our own choice.
const TOTAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that every connection may have unanswered, whatever the others do: one frame.
const SHARE_BYTES: usize = FRAME_BYTES_MAX;

/// Unanswered messages of one connection, or of all.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

/// One unanswered message. Dropping it removes the message from both backlogs.
#[derive(Debug)]
pub(crate) struct BacklogEntry<'a> {
    own: &'a Backlog,
    all: &'a Backlog,
    bytes: usize,
}

impl Backlog {
    /// Adds a message of a connection to its own backlog and to that of all. `None` if it exceeds a bound.
    pub(crate) fn add<'a>(&'a self, all: &'a Self, bytes: usize) -> Option<BacklogEntry<'a>> {
        let entry = BacklogEntry { own: self, all, bytes };
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let of_connection = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        all.messages.fetch_add(1, Ordering::Relaxed);
        let of_all = all.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single message always fits: its size has a limit of its own.
        let fits = |before: usize, max: usize| before == 0 || before + bytes <= max;
        let is_taken = messages < CONNECTION_MESSAGES_MAX
            && fits(of_connection, CONNECTION_BYTES_MAX)
            && (fits(of_connection, SHARE_BYTES) || fits(of_all, TOTAL_BYTES_MAX));
        is_taken.then_some(entry)
    }
}

impl Drop for BacklogEntry<'_> {
    fn drop(&mut self) {
        for backlog in [self.own, self.all] {
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
        let all = Backlog::default();
        let small = Backlog::default();
        let taken: Vec<_> = (0..1_000).map_while(|_| small.add(&all, 10)).collect();
        assert_eq!(taken.len(), CONNECTION_MESSAGES_MAX);
        drop(taken);
        let large: Vec<Backlog> = (0..100).map(|_| Backlog::default()).collect();
        let taken: Vec<Vec<_>> =
            large.iter().map(|backlog| (0..1_000).map_while(|_| backlog.add(&all, 100_000)).collect()).collect();
        assert_eq!(taken[0].len(), CONNECTION_BYTES_MAX / 100_000);
        assert!(taken.iter().all(|taken| !taken.is_empty()), "each has one");
        let bytes = all.bytes.load(Ordering::Relaxed);
        assert!((TOTAL_BYTES_MAX - 100_000..TOTAL_BYTES_MAX + 100 * 100_000).contains(&bytes), "{bytes}");
        assert!(small.add(&all, 10).is_some(), "others do not use up the share of a connection");
        drop(taken);
        assert_eq!((all.bytes.into_inner(), all.messages.into_inner()), (0, 0), "nothing is left");
    }
}
