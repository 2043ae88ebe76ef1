//! What all Event APIs of a template share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clock::Clock;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::limits::{CONNECTION_LIFE_MAX, KEEP_ALIVE, KEEP_ALIVE_MIN, LATE_EVENTS, SOCKET_PUBLISHES_PER_SEC};
use crate::{
    faults::Faults,
    gateway::{Backlog, GatewayOptions},
    lambda::Functions,
    rate::TokenBucket,
    recorder::Recorder,
};

/// What all Event APIs share.
#[derive(Debug)]
pub(super) struct SharedParts {
    pub(super) functions: Arc<Functions>,
    pub(super) clock: Clock,
    pub(super) faults: Arc<Faults>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) check_signatures: bool,
    /// Whether the quotas of the service apply.
    quotas: bool,
    /// Time between two `ka` frames.
    pub(super) keep_alive: Duration,
    /// How long a connection may stay open.
    pub(super) life_max: Duration,
    /// Unanswered messages of all clients.
    pub(super) unanswered: Arc<Backlog>,
    /// Frames that wait for all clients.
    pub(super) waiting: Arc<Backlog>,
    /// Events that wait because of an injected fault.
    late: Arc<Backlog>,
    /// Sockets, and what the inspector sends in place of clients.
    pub(super) tasks: TaskTracker,
    /// Cancelled to close every socket.
    pub(super) closing: CancellationToken,
}

impl SharedParts {
    /// Makes them with the options of a gateway. Time limits are divided by `time_scale`.
    pub(super) fn new(
        options: &GatewayOptions,
        time_scale: f64,
        functions: Arc<Functions>,
        clock: Clock,
        faults: Arc<Faults>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let scaled = CONNECTION_LIFE_MAX.div_f64(time_scale);
        Self {
            functions,
            clock,
            faults,
            recorder,
            check_signatures: options.check_signatures,
            quotas: options.event_quotas,
            keep_alive: KEEP_ALIVE.div_f64(time_scale).max(KEEP_ALIVE_MIN),
            life_max: options.connection_duration.map_or(scaled, |set| set.min(CONNECTION_LIFE_MAX)),
            unanswered: Arc::default(),
            waiting: Arc::default(),
            late: Arc::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// The bucket of one socket's publishes.
    pub(super) fn socket_bucket(&self) -> Option<Mutex<TokenBucket>> {
        self.bucket(SOCKET_PUBLISHES_PER_SEC)
    }

    /// A bucket that begins full. `None` without quotas.
    pub(super) fn bucket(&self, per_second: f64) -> Option<Mutex<TokenBucket>> {
        self.quotas.then(|| Mutex::new(TokenBucket::full(per_second, per_second, self.clock.now())))
    }

    pub(super) fn admits(&self, bucket: Option<&Mutex<TokenBucket>>, tokens: usize) -> bool {
        // A panic while the bucket was locked leaves it consistent. The time is read under the lock, so it only grows.
        bucket.is_none_or(|bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            (0..tokens).all(|_| bucket.take(self.clock.now()))
        })
    }

    /// Runs `then`, which holds this many bytes, after a time, unless the emulator stops before. Runs it at once if too
    /// much waits already.
    pub(super) fn later(self: &Arc<Self>, after: Duration, bytes: usize, then: impl FnOnce() + Send + 'static) {
        let Some(entry) = self.late.add(&self.waiting, LATE_EVENTS, bytes) else { return then() };
        let shared = Arc::clone(self);
        // Not tracked: a reset does not wait for it, and the end of the emulator ends it.
        tokio::spawn(async move {
            if tokio::time::timeout(after, shared.closing.cancelled()).await.is_err() {
                then();
            }
            drop(entry);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn late_events_are_bounded_in_bytes_and_one_that_does_not_fit_is_not_late() {
        let (functions, recorder) = (Functions::unreachable(&BTreeMap::new()), Recorder::new(Clock::System));
        let options = GatewayOptions::default();
        let shared = SharedParts::new(&options, 1.0, functions, Clock::System, Arc::default(), recorder);
        let (shared, sent) = (Arc::new(shared), Arc::new(AtomicUsize::new(0)));
        for _ in 0..7 {
            let sent = Arc::clone(&sent);
            shared.later(Duration::from_secs(3_600), LATE_EVENTS.bytes / 4, move || {
                sent.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(sent.load(Ordering::Relaxed), 3, "four wait");
    }
}
