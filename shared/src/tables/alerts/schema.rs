//! The alerts table: one gap-free log for each region, and what publishers need around it.
//!
//! Every item has the partition `region` and the sort key `seq`. Items by their keys, with their other attributes:
//!
//! - **Head**, `@head#REGION` and 0: `epoch`, `last_seq` and `committed_at` (ms) of the last alert, `largest_bytes` of
//!   all frames.
//! - **Audience**, `@head#REGION` and -1: `audience`, the estimate of the last fan-out, `measured_at` (ms).
//! - **Lease**, `@head#REGION` and 1: `holder`, `leased_until` (ms), `expires_at`. See [`crate::publish::commit`].
//! - **Registry**, `@regions` and 0: `names`, the regions that have a head, except the canary's; at most `RegionsMax`.
//! - **Alert**, `REGION` and 1, 2, 3, …: `epoch`, `id`, `video` (JSON text), `at`, `committed_at` (ms), `undispatched`
//!   until its fan-out has started, `expires_at`.
//! - **Removed alert**, the same key: the same without `video`, and `removed_at` (ms); `undispatched` until clients are
//!   being told. See [`crate::publish::removal`].
//! - **Shard of the snapshot**, `@heads#0` … `@heads#7` and 0: where the logs end, for clients. See
//!   [`crate::tables::alerts::snapshot`].
//! - **Receipt**, `@key#REGION#KEY` or `@receipt#ID` and 0: `alert_seq`, `epoch`, `id`, `fingerprint` of the
//!   publication, `expires_at`. A publication without an idempotency key has one only if it had to wait.
//! - **Waiting publication**, `@queue#REGION` and milliseconds with a random part: `id`, `video`, `at`, `receipt` (its
//!   partition), `fingerprint`, `expires_at`; with a window `recent` (the partition of its video's item),
//!   `repeat_window` (s), `repeat_rise` and `score`.
//! - **Recent alert of a video**, `@video#REGION#HASH` and 0: `alert_seq`, `epoch`, `id`, `committed_at` (ms) and
//!   `score` of its last alert that was published with a window, `expires_at`. See [`crate::publish::commit`].
//! - **Rate limit of a publisher**, `@publisher#HASH` and 0: `used_until` (ns), `expires_at`. See
//!   [`crate::model::rate_limit`].
//!
//! Head, audience and lease are removed with the log. Registry and shards never expire.
//!
//! The index `undispatched` (partition `undispatched`, sort key `committed_at`, keys only) is sparse: it holds the
//! alerts and removals whose fan-out has not started, which is usually none.
//!
//! Names of regions contain neither `@` nor `#`, so items of different kinds never share a key. Head, audience and
//! lease are separate items, so writing one does not conflict with transactions on the head. They share a partition,
//! so one query reads all three. Alerts are in another partition, so clients that read the log do not slow down
//! publishers.

use crate::model::audience::Region;

/// Environment variable that names the table.
pub(crate) const TABLE_VARIABLE: &str = "ALERTS_TABLE";

pub(crate) const REGION: &str = "region";
pub(crate) const SEQ: &str = "seq";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const LAST_SEQ: &str = "last_seq";
/// Attribute of a receipt, and of the last alert of a video: the number of the alert.
pub(crate) const ALERT_SEQ: &str = "alert_seq";
pub(crate) const ID: &str = "id";
pub(crate) const VIDEO: &str = "video";
pub(crate) const AT: &str = "at";
pub(crate) const COMMITTED_AT: &str = "committed_at";
pub(crate) const REMOVED_AT: &str = "removed_at";
pub(crate) const LARGEST_BYTES: &str = "largest_bytes";
pub(crate) const AUDIENCE: &str = "audience";
pub(super) const USED_UNTIL: &str = "used_until";
pub(super) const MEASURED_AT: &str = "measured_at";

/// Attribute of alerts whose fan-out has not been started, and the index of them.
pub(crate) const UNDISPATCHED: &str = "undispatched";

/// The one value of that attribute: all of them lie in one partition of the index.
pub(crate) const IS_UNDISPATCHED: &str = "yes";
pub(crate) const EXPIRES_AT: &str = "expires_at";

/// Sort key of the head of a region, and of receipts. Alerts start at 1.
pub(crate) const HEAD_SEQ: u64 = 0;

/// Partition of the registry of regions that have a log.
pub(crate) const REGISTRY: &str = "@regions";

/// Attribute with their names.
pub(crate) const NAMES: &str = "names";

/// Sort key of the size of a region's audience.
pub(crate) const AUDIENCE_SEQ: i64 = -1;

/// Sort key of the lease, beside the head.
pub(crate) const LEASE_SEQ: i64 = 1;

/// Attribute of the lease: until when, in milliseconds since the Unix epoch.
pub(crate) const LEASED_UNTIL: &str = "leased_until";

/// Partition of the head of a region.
pub(crate) fn head_partition(region: &Region) -> String {
    format!("@head#{region}")
}

/// Partition with those that wait for a region.
pub(crate) fn queue_partition(region: &Region) -> String {
    format!("@queue#{region}")
}
