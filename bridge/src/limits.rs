//! Every bound of the bridge, with unit and origin.

use std::time::Duration;

use shared::runtime::backoff::Backoff;

/// Upper bound of the first backoff pause. A cold start or a restart of Redis takes about as long.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// Longest backoff pause: publishing resumes at most half a minute after an outage.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Backoff between attempts to publish, and to reach Redis.
pub(crate) const BACKOFF: Backoff = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);

/// Concurrent publications, over all regions. Of one region, publish commits one at a time in any case.
pub(crate) const IN_FLIGHT_MAX: usize = 16;

/// Messages of channels in memory by default, and as many entries of streams. Each has at most
/// `PUBLISH_BODY_BYTES_MAX` (64 KB), so both together take at most 128 MB.
pub(crate) const QUEUE_DEFAULT: u32 = 1_000;

/// Upper bound of the `--queue` option: 12 GB if every message has the largest size.
pub(crate) const QUEUE_MAX: u32 = 100_000;

/// Entries that one read of a stream returns at most.
pub(crate) const BATCH_ENTRIES: usize = 32;

/// Time that Redis blocks a read of a stream without new entries.
pub(crate) const STREAM_BLOCK: Duration = Duration::from_secs(1);

/// Timeout of a connection to Redis, and of a command that does not block.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of pings on a subscription. A dead connection is noticed within this and `REDIS_TIMEOUT`.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Approximate length of a dead-letter stream, so that a publisher that is wrong for weeks does not fill Redis.
pub(crate) const DEAD_ENTRIES_MAX: u32 = 100_000;

/// Largest response of publish that is read. Its own have less than 1 KB, a proxy may return a page.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Credentials are renewed this long before they expire, as the AWS clients do.
pub(crate) const CREDENTIALS_LEFT_MIN: Duration = Duration::from_secs(10);

/// Timeout of a request for AWS credentials, for which every publication waits. An instance or a container provides
/// them within milliseconds.
pub(crate) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
