//! The alerts table: one gap-free log per region, and the idempotency keys of publishers.
//!
//! | item | `region` (partition) | `seq` (sort) | other attributes |
//! |---|---|---|---|
//! | head | `@head#` and the region | 0 | `epoch`, `last_seq` and `committed_at` (ms) of the last alert, `largest_bytes` of all frames; removed with the log |
//! | audience | the same | -1 | `audience`: how many the last fan-out found, as an estimate, `measured_at` (ms); removed with the log |
//! | lease | the same | 1 | `holder`, `leased_until` (ms), see [`crate::publish::commit`]; removed with the log |
//! | registry | `@regions` | 0 | `names`: the set of all regions that have a head, except that of the canary; at most `RegionsMax` |
//! | alert | the region | 1, 2, 3, … | `epoch`, `id`, `video` (JSON text), `at`, `committed_at` (ms), `undispatched` until its fan-out is started, `expires_at` |
//! | alert that was taken back | the same | the same | the same without `video`, and `removed_at` (ms); `undispatched` until clients are being told, see [`crate::publish::removal`] |
//! | shard | `@heads#0` … `@heads#7` | 0 | where the logs stand, for clients: see [`crate::tables::alerts::snapshot`]; never expires |
//! | receipt | `@key#REGION#` and the key; `@receipt#` and the alert's id | 0 | `alert_seq`, `epoch`, `id`, `fingerprint` of the publication, `expires_at` |
//! | waiting publication | `@queue#` and the region | ms and a random part | `id`, `video`, `at`, `receipt` (its partition), `fingerprint`, `expires_at` |
//! | allowance | `@publisher#` and a hash of who it is | 0 | `used_until` (ns), see [`crate::model::rate_limit`], `expires_at` |
//!
//! The index `undispatched` (partition `undispatched`, sort `committed_at`, keys only) is sparse: it holds the alerts
//! whose fan-out, or that of whose removal, has not been started, and as a rule nothing.
//!
//! No region's name contains `@` or `#`, so the kinds cannot meet. Head, audience and lease are items of their own, so
//! that writing one never gets in the way of the transactions on the head, and lie in one partition, so that one query
//! reads all three. It is another one than that of the alerts, so that reading the log never gets in the way of
//! publishing. A publication without a key has a receipt where it had to wait. Reading the log for clients is in
//! [`crate::tables::alerts::history`].

use crate::model::audience::Region;

/// Environment variable that names the table.
pub(crate) const TABLE_VARIABLE: &str = "ALERTS_TABLE";

pub(crate) const REGION: &str = "region";
pub(crate) const SEQ: &str = "seq";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const LAST_SEQ: &str = "last_seq";
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
