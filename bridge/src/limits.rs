//! Every bound of the bridge, with unit and origin.

use std::time::Duration;

/// First pause before something is tried again. A function that starts cold, or a Redis that is started anew, takes about as long.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// Longest pause before something is tried again: what waits is on its way half a minute after the cause has ended.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Publications on their way at once, over all regions. Publish commits one of a region at a time in any case.
pub(crate) const IN_FLIGHT_MAX: usize = 16;

/// Messages of channels in memory by default, and as many entries of streams. Each has at most `PUBLISH_BODY_BYTES_MAX` (64 KB), so
/// together 128 MB.
pub(crate) const QUEUE_DEFAULT: u32 = 1_000;

/// Most of each that may be held: 12 GB, if all of them are as large as can be.
pub(crate) const QUEUE_MAX: u32 = 100_000;

/// Entries of a stream that are read at once.
pub(crate) const BATCH_ENTRIES: usize = 32;

/// Longest that Redis holds a read of a stream that has nothing new.
pub(crate) const STREAM_BLOCK: Duration = Duration::from_secs(1);

/// Longest that Redis may take to accept a connection, or to answer a command that does not block.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two questions whether a subscription is alive: a connection that died in silence is noticed within this and `REDIS_TIMEOUT`.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Entries that a stream of refused messages keeps, about: a publisher that is wrong for weeks does not fill Redis.
pub(crate) const DEAD_ENTRIES_MAX: u32 = 100_000;

/// Largest answer of publish that is read. Its own are below 1 KB; a gateway or a proxy may answer with a page.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Credentials are asked for again this long before they expire, as the AWS clients do.
pub(crate) const CREDENTIALS_LEFT_MIN: Duration = Duration::from_secs(10);

/// Longest wait for AWS credentials, for which every publication waits. Those of an instance or a container come within milliseconds.
pub(crate) const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
