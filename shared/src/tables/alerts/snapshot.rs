//! The snapshot: where every log stands, in a few items that clients read instead of the logs' heads.
//!
//! Each item is a shard, with the partition `@heads#0` … `@heads#7` and the sort key 0. It has one attribute for each
//! of its regions, named as the region, with its [`SnapshotEntry`] as text. Names of regions begin with a capital, so
//! every other attribute is one of the shard itself. Shards never expire.
//!
//! A region's shard follows from a hash of its name, which must never change: stored entries lie where it says (a test
//! holds it).
//!
//! An entry is a text of fixed-width numbers in base 36, the epoch and the number of the last alert first. So the order
//! of texts is the order of positions, and one condition keeps an entry from moving back. A later form may add to an
//! entry behind a dot, which readers of this one leave out. Entries have up to 30 bytes:
//! 249 countries need some 1.4 KB a shard at most, and 300 regions with the longest names 2 KB, so writing one takes a
//! write unit or two and reading a shard one read unit.
//!
//! publish records an alert after the commit and before the dispatch. A client that subscribes writes its subscription
//! first and reads the snapshot after it, consistently: either the snapshot has the alert, or the dispatch comes later
//! and finds the subscription. The commit is done before the snapshot names an alert, so every alert that it names can
//! be read.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
};
use clock::Timestamp;
use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};

use crate::{
    error::InternalError,
    limits::{FRAME_BYTES_MAX, SNAPSHOT_SHARDS},
    model::{alert::Position, audience::Region},
    runtime::{environment::Reader, function::StartContext},
    tables::{
        alerts::schema::{HEAD_SEQ, REGION, SEQ, TABLE_VARIABLE},
        dynamodb::{Item, number, read_all, text},
    },
};

/// What the snapshot says of a region's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    pub position: Position,
    /// When it was committed, to the second: all alerts of the log have expired one time to live after that.
    pub committed_at: Timestamp,
    /// Bytes of the largest `viral_alert` frame of this log so far, rounded up to whole KB: a reader knows what a
    /// number of alerts takes at most before it reads them. [`FRAME_BYTES_MAX`] where that is not known.
    pub largest_bytes: usize,
    /// How many connections the alert before went to, as estimated by its fan-out. None where no fan-out has said.
    pub audience: Option<u64>,
}

pub type SnapshotEntries = BTreeMap<Region, SnapshotEntry>;

/// The text is not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the snapshot is EPOCH, SEQ, COMMITTED_AT, LARGEST and AUDIENCE in base {RADIX}")]
struct InvalidSnapshotEntry;

/// Base of the numbers in an entry.
const RADIX: u32 = 36;

/// Digits of an epoch: 36^9 ms last until the year 5188.
const EPOCH_DIGITS: usize = 9;

/// Digits of the number of an alert: 78 billion.
const SEQ_DIGITS: usize = 7;

/// Digits of the second of a commit: 36^7 s last until the year 4453.
const COMMITTED_AT_DIGITS: usize = 7;

/// Digits of the size of the largest alert, in KB.
const LARGEST_DIGITS: usize = 1;

/// Digits before the audience, which has any number of them, or none where it is not known.
const FIXED_DIGITS: usize = EPOCH_DIGITS + SEQ_DIGITS + COMMITTED_AT_DIGITS + LARGEST_DIGITS;

const KB: usize = 1024;

const _: () = assert!(FRAME_BYTES_MAX.div_ceil(KB) < RADIX as usize);

impl SnapshotEntry {
    pub(crate) fn to_text(self) -> String {
        let mut text = String::with_capacity(FIXED_DIGITS + 5);
        let seconds = self.committed_at.secs().max(0).unsigned_abs();
        push(&mut text, self.position.epoch.max(0).unsigned_abs(), EPOCH_DIGITS);
        push(&mut text, self.position.seq, SEQ_DIGITS);
        push(&mut text, seconds, COMMITTED_AT_DIGITS);
        push(&mut text, self.largest_bytes.min(FRAME_BYTES_MAX).div_ceil(KB) as u64, LARGEST_DIGITS);
        if let Some(audience) = self.audience {
            push(&mut text, audience, 1);
        }
        text
    }

    fn of_text(text: &str) -> Result<Self, InvalidSnapshotEntry> {
        let mut rest = text;
        let mut take = |digits: usize| {
            let (number, after) = rest.split_at_checked(digits).ok_or(InvalidSnapshotEntry)?;
            rest = after;
            u64::from_str_radix(number, RADIX).map_err(|_| InvalidSnapshotEntry)
        };
        let epoch = i64::try_from(take(EPOCH_DIGITS)?).map_err(|_| InvalidSnapshotEntry)?;
        let position = Position { epoch, seq: take(SEQ_DIGITS)? };
        let seconds = i64::try_from(take(COMMITTED_AT_DIGITS)?).map_err(|_| InvalidSnapshotEntry)?;
        let committed_at = Timestamp::from_millis(seconds.saturating_mul(1_000));
        let largest_bytes = usize::try_from(take(LARGEST_DIGITS)?).map_err(|_| InvalidSnapshotEntry)? * KB;
        let audience = match rest.split('.').next().unwrap_or_default() {
            "" => None,
            digits => Some(u64::from_str_radix(digits, RADIX).map_err(|_| InvalidSnapshotEntry)?),
        };
        Ok(Self { position, committed_at, largest_bytes, audience })
    }
}

/// Appends a number in base 36 with so many digits at least. One that needs more, which nothing here reaches, is the
/// largest with as many: the order of entries stays right.
fn push(text: &mut String, number: u64, digits: usize) {
    let largest = u64::from(RADIX).saturating_pow(u32::try_from(digits).unwrap_or(u32::MAX)) - 1;
    let mut rest = if digits > 1 { number.min(largest) } else { number };
    let mut reversed = Vec::with_capacity(digits);
    while rest > 0 || reversed.len() < digits {
        reversed.extend(char::from_digit((rest % u64::from(RADIX)) as u32, RADIX));
        rest /= u64::from(RADIX);
    }
    text.extend(reversed.into_iter().rev());
}

/// The shard of a region.
fn shard(region: &Region) -> usize {
    usize::from(Sha256::digest(region.as_str())[0]) % SNAPSHOT_SHARDS
}

/// Access to the snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    client: Client,
    table: String,
}

impl Snapshot {
    /// The snapshot in the alerts table that the function's environment names.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        Self::new(Client::new(&start.sdk), environment.required(TABLE_VARIABLE))
    }

    /// The snapshot in the alerts table named `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Records where a log stands, unless the snapshot has it there or further already. To be called after the commit
    /// and before the dispatch: an alert that is dispatched without it is missed by who subscribes in between.
    pub async fn record(&self, region: &Region, entry: &SnapshotEntry) -> Result<(), InternalError> {
        let update = self
            .update(region)
            .update_expression("SET #of = :entry")
            .condition_expression("attribute_not_exists(#of) OR #of < :entry")
            .expression_attribute_values(":entry", text(entry.to_text()));
        self.carried_out(update, "recording where a log stands").await.map(drop)
    }

    /// Removes a region whose log has expired, unless an alert was recorded since it was read. Returns whether it is
    /// removed.
    pub async fn remove(&self, region: &Region, as_seen: &SnapshotEntry) -> Result<bool, InternalError> {
        let update = self
            .update(region)
            .update_expression("REMOVE #of")
            .condition_expression("#of = :seen")
            .expression_attribute_values(":seen", text(as_seen.to_text()));
        self.carried_out(update, "removing a region from the snapshot").await
    }

    /// Reads where the logs of some regions stand. Those that have none are left out. Costs a read unit for each shard
    /// that is needed, so [`SNAPSHOT_SHARDS`] at most.
    pub async fn read(&self, regions: impl IntoIterator<Item = &Region>) -> Result<SnapshotEntries, InternalError> {
        let wanted: BTreeSet<&Region> = regions.into_iter().collect();
        let shards: BTreeSet<usize> = wanted.iter().map(|region| shard(region)).collect();
        let mut entries = self.shards(shards).await?;
        entries.retain(|region, _| wanted.contains(region));
        Ok(entries)
    }

    /// Reads where all logs stand. Costs [`SNAPSHOT_SHARDS`] read units.
    pub async fn read_all(&self) -> Result<SnapshotEntries, InternalError> {
        self.shards(0..SNAPSHOT_SHARDS).await
    }

    /// The same as [`Self::read_all`], as it was a moment ago: for half the price.
    pub(crate) async fn look(&self) -> Result<SnapshotEntries, InternalError> {
        let looks = (0..SNAPSHOT_SHARDS).map(|shard| {
            let look = self.client.get_item().table_name(&self.table).set_key(Some(key(shard)));
            async { look.send().await.map_err(|error| InternalError::new("looking at where all logs stand", error)) }
        });
        let shards = try_join_all(looks).await?;
        Ok(shards.iter().filter_map(|shard| shard.item()).flat_map(entries).collect())
    }

    async fn shards(&self, shards: impl IntoIterator<Item = usize>) -> Result<SnapshotEntries, InternalError> {
        let items = read_all(&self.client, &self.table, shards.into_iter().map(key).collect()).await?;
        Ok(items.iter().flat_map(entries).collect())
    }

    fn update(&self, region: &Region) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(shard(region))))
            .expression_attribute_names("#of", region.as_str())
    }

    /// Whether the condition of an update was met and it was carried out.
    async fn carried_out(&self, update: UpdateItemFluentBuilder, doing: &'static str) -> Result<bool, InternalError> {
        match update.send().await.map_err(SdkError::into_service_error) {
            Ok(_) => Ok(true),
            Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(InternalError::new(doing, error)),
        }
    }
}

/// The partition of a shard.
fn partition(shard: usize) -> String {
    format!("@heads#{shard}")
}

/// The partition of the shard of a region.
#[cfg(test)]
pub(crate) fn key_of(region: &Region) -> String {
    partition(shard(region))
}

fn key(shard: usize) -> Item {
    Item::from([(REGION.to_owned(), text(partition(shard))), (SEQ.to_owned(), number(HEAD_SEQ))])
}

/// The entries of a shard. One that cannot be read must not take the snapshot from all others: its region counts as one
/// without a log, and is recovered for nobody.
fn entries(item: &Item) -> SnapshotEntries {
    let mut entries = SnapshotEntries::new();
    for (name, value) in item {
        if !name.starts_with(|first: char| first.is_ascii_uppercase()) {
            continue;
        }
        let entry = value.as_s().map_err(|_| InvalidSnapshotEntry).and_then(|text| SnapshotEntry::of_text(text));
        match (name.parse(), entry) {
            (Ok(region), Ok(entry)) => {
                entries.insert(region, entry);
            }
            _ => tracing::error!(name, ?value, "head skipped"),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        fake_aws::{FakeResponse, Requests, sdk},
        limits::{REGION_BYTES_MAX, REGIONS_OF_ALL_MAX},
    };

    fn region(name: &str) -> Region {
        name.parse().expect(name)
    }

    fn entry(epoch: i64, seq: u64) -> SnapshotEntry {
        SnapshotEntry {
            position: Position { epoch, seq },
            committed_at: Timestamp::from_millis(1_795_000_000_000),
            largest_bytes: KB,
            audience: Some(12_400),
        }
    }

    /// A table whose every answer is this, and the requests that it gets.
    fn snapshot(status: u16, kind: &'static str, answer: &'static str) -> (Snapshot, Requests) {
        let (sdk, requests) = sdk(move |_| FakeResponse(status, kind, answer.to_owned()));
        (Snapshot::new(Client::new(&sdk), "t".to_owned()), requests)
    }

    #[test]
    fn where_a_region_lies_never_changes() {
        let shards = ["PL", "DE", "US", "US-CA", "LATAM", "PL-MUSIC"].map(|name| shard(&region(name)));
        assert_eq!(shards, [1, 0, 3, 7, 5, 1]);
    }

    #[test]
    fn an_entry_is_a_short_text_of_fixed_numbers() {
        assert_eq!(entry(1_795_000_000_001, 43).to_text(), "0mwm0nk7500000170top2v419kg");
        assert_eq!(SnapshotEntry { audience: None, ..entry(9, 1) }.to_text(), "00000000900000010top2v41");
        for absurd in ["", "0mwm0nk7", "0mwm0nk7500000170top2v", "0mwm0nk7500000170top2v41?", "é"] {
            assert_eq!(SnapshotEntry::of_text(absurd), Err(InvalidSnapshotEntry), "{absurd}");
        }
    }

    #[test]
    fn as_many_regions_as_all_can_name_fit_in_two_kilobytes_a_shard_whatever_their_names() {
        let largest = |names: &[String]| {
            let mut shards = [0; SNAPSHOT_SHARDS];
            let entry = SnapshotEntry { audience: Some(10_000_000), ..entry(1_795_000_000_000, 1_000_000) };
            for name in names {
                shards[shard(&region(name))] += name.len() + entry.to_text().len();
            }
            shards.into_iter().max().expect("shards")
        };
        let letters = || b'A'..=b'Z';
        let pairs = letters().flat_map(|first| letters().map(move |second| [first, second]));
        let countries: Vec<String> = pairs.map(|pair| pair.map(char::from).iter().collect()).take(249).collect();
        let longest: Vec<String> = (0..REGIONS_OF_ALL_MAX).map(|n| format!("{n:R>REGION_BYTES_MAX$}")).collect();
        assert!(largest(&countries) <= KB + KB / 2, "{}", largest(&countries));
        assert!(largest(&longest) <= 2 * KB, "{}", largest(&longest));
    }

    #[tokio::test]
    async fn recording_is_one_update_that_never_moves_back() {
        let (snapshot, requests) = snapshot(400, "ConditionalCheckFailedException", "{}");
        snapshot.record(&region("US-CA"), &entry(9, 4)).await.expect("it is there or further already");
        assert!(!snapshot.remove(&region("US-CA"), &entry(9, 4)).await.expect("asked"), "something came between");
        let requests = requests.lock().expect("unpoisoned");
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert!(requests[0].contains("attribute_not_exists(#of) OR #of < :entry"), "{}", requests[0]);
        assert!(requests[0].contains(r##""#of":"US-CA""##), "{}", requests[0]);
        assert!(requests[1].contains("#of = :seen"), "{}", requests[1]);
    }

    #[tokio::test]
    async fn only_the_shards_that_are_needed_are_read_and_only_the_regions_that_are_asked_for_come_back() {
        let answer = concat!(
            r#"{"Responses":{"t":[{"region":{"S":"@heads#5"},"seq":{"N":"0"},"PL":{"S":"ENTRY"},"#,
            r#""DE":{"S":"ENTRY"}}]}}"#,
        );
        let answer: &'static str = answer.replace("ENTRY", &entry(9, 4).to_text()).leak();
        let (snapshot, requests) = snapshot(200, "", answer);
        let (pl, de) = (region("PL"), region("DE"));
        assert_eq!(snapshot.read([&pl, &pl]).await.expect("read"), [(pl.clone(), entry(9, 4))].into());
        assert_eq!(snapshot.read_all().await.expect("read").len(), 2);
        assert_eq!(snapshot.read([]).await.expect("read"), SnapshotEntries::new());
        let shards: Vec<usize> =
            requests.lock().expect("unpoisoned").iter().map(|body| body.matches("@heads#").count()).collect();
        assert_eq!(shards, [1, SNAPSHOT_SHARDS], "none at all for nothing");
        assert!(requests.lock().expect("unpoisoned").iter().all(|body| body.contains(r#""ConsistentRead":true"#)));
        assert_eq!(de.as_str(), "DE");
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_left_out_alone() {
        let mut item = key(3);
        item.insert("PL".to_owned(), text(entry(9, 4).to_text()));
        item.insert("DE".to_owned(), text("9.4"));
        item.insert("AE".to_owned(), number(4));
        item.insert("LATER".to_owned(), AttributeValue::Bool(true));
        // Of the shard and of no region, whatever it says.
        item.insert("later".to_owned(), text(entry(9, 4).to_text()));
        assert_eq!(entries(&item), [(region("PL"), entry(9, 4))].into());
    }

    /// Epoch, sequence number, second of the commit, KB of the largest frame, and audience.
    fn numbers() -> impl Strategy<Value = (i64, u64, i64, usize, Option<u64>)> {
        let epochs = 0..101_559_956_668_416_i64;
        let seqs = 0..78_364_164_096_u64;
        (epochs, seqs, 0..4_000_000_000_i64, 0..=32_usize, proptest::option::of(0..u64::MAX))
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_own_text_and_texts_are_in_the_order_of_positions(
            one in numbers(),
            other in numbers(),
        ) {
            let entry = |(epoch, seq, secs, kb, audience): (i64, u64, i64, usize, Option<u64>)| SnapshotEntry {
                position: Position { epoch, seq },
                committed_at: Timestamp::from_millis(secs * 1_000),
                largest_bytes: kb * KB,
                audience,
            };
            let (one, other) = (entry(one), entry(other));
            prop_assert_eq!(SnapshotEntry::of_text(&one.to_text()), Ok(one));
            let order = (one.position.epoch, one.position.seq).cmp(&(other.position.epoch, other.position.seq));
            prop_assert!(order.is_eq() || one.to_text().cmp(&other.to_text()) == order);
        }
    }
}
