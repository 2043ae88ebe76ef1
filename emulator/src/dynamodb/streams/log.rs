//! The records of one stream, until its readers have them all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Most records that wait for their readers. Our own choice; the oldest are lost first.
const RECORDS_MAX: usize = 100_000;

/// Most bytes of images that wait for their readers. Our own choice.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the service keeps records. Source: DynamoDB developer guide, "Data retention limit for DynamoDB Streams".
pub(crate) const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// One change of an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamRecord {
    pub(crate) sequence: String,
    pub(crate) at: Timestamp,
    /// The record as functions get it.
    pub(crate) event: Value,
    /// The size of its keys and images.
    bytes: usize,
}

/// The stream of a table. It has one shard, so its records have one order.
#[derive(Debug)]
pub(crate) struct StreamLog {
    arn: String,
    clock: Clock,
    records: Mutex<Records>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Records {
    kept: VecDeque<Arc<StreamRecord>>,
    /// Number of the first record that is kept.
    first: u64,
    bytes: usize,
    /// Number of the next record of each reader.
    readers: BTreeMap<usize, u64>,
}

/// A reader's place in a stream.
#[derive(Debug)]
pub(crate) struct StreamReader {
    log: Arc<StreamLog>,
    id: usize,
}

impl StreamLog {
    pub(super) fn new(arn: String, clock: Clock) -> Self {
        Self { arn, clock, records: Mutex::default(), arrived: Notify::new() }
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// Appends the record that `event` makes of its sequence number and time.
    pub(super) fn append(&self, bytes: usize, event: impl FnOnce(&str, Timestamp) -> Value) {
        let mut records = self.records();
        let at = self.clock.now();
        // As long as those of the service, and in order as text too.
        let sequence = format!("1{:020}", records.first + records.kept.len() as u64);
        let event = event(&sequence, at);
        records.bytes += bytes;
        records.kept.push_back(Arc::new(StreamRecord { sequence, at, event, bytes }));
        let lost = records.trim(at);
        drop(records);
        if lost > 0 {
            tracing::warn!(stream = self.arn, lost, "stream records lost: their readers are too far behind");
        }
        self.arrived.notify_waiters();
    }

    /// A reader that begins with the next record.
    pub(crate) fn reader(self: &Arc<Self>) -> StreamReader {
        let mut records = self.records();
        let (id, next) = (records.readers.len(), records.first + records.kept.len() as u64);
        records.readers.insert(id, next);
        drop(records);
        StreamReader { log: Arc::clone(self), id }
    }

    /// Drops what waits for its readers.
    pub(super) fn clear(&self) {
        let mut records = self.records();
        let end = records.first + records.kept.len() as u64;
        records.readers.values_mut().for_each(|next| *next = end);
        records.trim(self.clock.now());
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// Drops what all readers have, and what is too old or too much. Returns how many of the latter there were.
    fn trim(&mut self, now: Timestamp) -> u64 {
        let end = self.first + self.kept.len() as u64;
        let wanted = self.readers.values().copied().min().unwrap_or(end);
        let mut lost = 0;
        while let Some(oldest) = self.kept.front() {
            let is_read = self.first < wanted;
            let is_over = self.kept.len() > RECORDS_MAX || self.bytes > BYTES_MAX || now.since(oldest.at) > RETENTION;
            if !is_read && !is_over {
                break;
            }
            lost += u64::from(!is_read);
            self.bytes -= oldest.bytes;
            self.first += 1;
            self.kept.pop_front();
        }
        lost
    }
}

impl StreamReader {
    /// Waits for records and returns up to `max` of them, with at most `bytes_max` bytes unless the first is larger. If
    /// there are fewer, waits for more until `window` after the first was seen. They stay in the stream until
    /// [`StreamReader::advance`].
    pub(crate) async fn next(&self, max: usize, bytes_max: usize, window: Duration) -> Vec<Arc<StreamRecord>> {
        let mut until = None;
        loop {
            // Enabled before the records are read, so that none arrives unnoticed in between.
            let mut arrived = std::pin::pin!(self.log.arrived.notified());
            arrived.as_mut().enable();
            let (batch, is_full) = self.batch(max, bytes_max);
            if batch.is_empty() {
                arrived.await;
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + window);
            if is_full || Instant::now() >= until {
                return batch;
            }
            tokio::select! {
                () = arrived => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The records that [`StreamReader::next`] would return now, without waiting. There may be none.
    pub(crate) fn ready(&self, max: usize, bytes_max: usize) -> Vec<Arc<StreamRecord>> {
        self.batch(max, bytes_max).0
    }

    /// The next records, and whether another one would be too many.
    fn batch(&self, max: usize, bytes_max: usize) -> (Vec<Arc<StreamRecord>>, bool) {
        let records = self.log.records();
        let next = records.readers.get(&self.id).copied().unwrap_or_default();
        // What was lost is skipped. A stream has far fewer records than an index of its queue can count.
        let skipped = next.saturating_sub(records.first) as usize;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for record in records.kept.iter().skip(skipped) {
            bytes += record.bytes;
            if batch.len() == max || (bytes > bytes_max && !batch.is_empty()) {
                return (batch, true);
            }
            batch.push(Arc::clone(record));
        }
        let is_full = batch.len() == max;
        (batch, is_full)
    }

    /// Goes on after a record.
    pub(crate) fn advance(&self, after: &StreamRecord) {
        let mut records = self.log.records();
        let after = after.sequence.get(1..).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
        // It may have been cleared in the meantime.
        let next = records.readers.entry(self.id).or_default();
        *next = (after + 1).max(*next);
        let now = self.log.clock.now();
        records.trim(now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn append(log: &StreamLog, bytes: usize) {
        log.append(bytes, |sequence, _| json!(sequence));
    }

    fn sequences(batch: &[Arc<StreamRecord>]) -> Vec<u64> {
        batch.iter().map(|record| record.sequence[1..].parse().expect("a number")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn batches_end_at_their_count_their_size_or_their_window() {
        let log = Arc::new(StreamLog::new(String::new(), Clock::System));
        append(&log, 1);
        let reader = log.reader();
        for _ in 0..5 {
            append(&log, 10);
        }
        let before = Instant::now();
        let batch = reader.next(2, 1_000, Duration::from_secs(5)).await;
        assert_eq!((sequences(&batch), before.elapsed()), (vec![1, 2], Duration::ZERO), "and not the one before it");
        assert_eq!(sequences(&reader.next(9, 20, Duration::ZERO).await), [1, 2], "until it has advanced");
        reader.advance(&batch[1]);
        assert_eq!(sequences(&reader.next(9, 5, Duration::ZERO).await), [3], "one that is too large is alone");
        assert_eq!(sequences(&reader.next(9, 1_000, Duration::from_secs(5)).await), [3, 4, 5]);
        assert_eq!(before.elapsed(), Duration::from_secs(5));
        assert_eq!(log.records().kept.len(), 3, "what every reader has is dropped");
    }

    #[tokio::test]
    async fn what_nobody_reads_in_time_is_lost() {
        let log = Arc::new(StreamLog::new(String::new(), Clock::System));
        let reader = log.reader();
        append(&log, BYTES_MAX);
        append(&log, 1);
        assert_eq!(sequences(&reader.next(9, usize::MAX, Duration::ZERO).await), [1]);
        assert_eq!(log.records().bytes, 1);
    }

    #[test]
    fn records_end_after_a_day() {
        let ms = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let log = Arc::new(StreamLog::new(String::new(), Clock::Manual(Arc::clone(&ms))));
        let reader = log.reader();
        append(&log, 1);
        ms.store(24 * 60 * 60 * 1_000 + 1, std::sync::atomic::Ordering::Relaxed);
        append(&log, 1);
        assert_eq!(sequences(&reader.batch(9, 9).0), [1]);
    }
}
