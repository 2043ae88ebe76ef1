//! The bridge's report: outcomes of messages, and how late they were published.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Counts since the start of the bridge, and the lag since the last report.
#[derive(Debug, Default)]
pub(crate) struct BridgeReport {
    /// Messages read. A stream entry counts each time it is read.
    pub(crate) read: Count,
    /// Messages published.
    pub(crate) published: Count,
    /// Of these, messages that had been published before.
    pub(crate) duplicate: Count,
    /// Messages whose score is too low.
    pub(crate) withheld: Count,
    /// Messages that publish refuses for good.
    pub(crate) refused: Count,
    /// Messages of channels that were dropped because the queue was full.
    pub(crate) dropped: Count,
    /// Attempts that were followed by another one.
    pub(crate) retried: Count,
    /// Times between two subscriptions, in which messages of channels were lost.
    pub(crate) gaps: Count,
    lag: Mutex<Lag>,
}

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long publications took, since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lag {
    count: u32,
    sum: Duration,
    max: Duration,
    entry_max: Option<Duration>,
}

impl Lag {
    fn mean(&self) -> Option<Duration> {
        self.sum.checked_div(self.count)
    }
}

impl BridgeReport {
    /// Records how long a publication took since its message was read, and since its stream entry was added.
    pub(crate) fn took(&self, since_read: Duration, since_entry: Option<Duration>) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        lag.count += 1;
        lag.sum += since_read;
        lag.max = lag.max.max(since_read);
        lag.entry_max = lag.entry_max.max(since_entry);
    }

    /// Logs the report, with the number of queued messages and the age of the oldest.
    pub(crate) fn write(&self, queued: usize, oldest: Option<Duration>) {
        let lag = std::mem::take(&mut *self.lag.lock().unwrap_or_else(PoisonError::into_inner));
        tracing::info!(
            read = self.read.get(),
            published = self.published.get(),
            duplicate = self.duplicate.get(),
            withheld = self.withheld.get(),
            refused = self.refused.get(),
            dropped = self.dropped.get(),
            retried = self.retried.get(),
            gaps = self.gaps.get(),
            queued,
            oldest_ms = ms(oldest),
            lag_ms = ms(lag.mean()),
            lag_max_ms = ms((lag.count > 0).then_some(lag.max)),
            entry_lag_max_ms = ms(lag.entry_max),
            "report"
        );
    }
}

/// Converts to whole milliseconds, for log fields.
pub(crate) fn ms(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_told_once() {
        let report = BridgeReport::default();
        report.took(Duration::from_millis(10), None);
        report.took(Duration::from_millis(30), Some(Duration::from_secs(2)));
        let lag = *report.lag.lock().expect("no panic");
        assert_eq!((lag.mean(), lag.max), (Some(Duration::from_millis(20)), Duration::from_millis(30)));
        assert_eq!(lag.entry_max, Some(Duration::from_secs(2)));
        report.write(0, None);
        assert_eq!(*report.lag.lock().expect("no panic"), Lag::default());
        assert_eq!(Lag::default().mean(), None);
    }
}
