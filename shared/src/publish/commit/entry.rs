//! One publication on its way into the log, and what the log tells of it afterwards.

use clock::Timestamp;
use serde_json::Value;

use super::recent::Repeat;
use crate::{
    model::{
        alert::{Alert, Position, Video},
        audience::{Region, short_digest},
        id::new_id,
        publication::{IdempotencyKey, Publication},
        repeat::RepeatRule,
    },
    tables::{
        alerts::schema::{ALERT_SEQ, AT, EPOCH, EXPIRES_AT, ID, SEQ, VIDEO},
        dynamodb::{Item, UnreadableItem, number, read_number, read_text, text},
    },
};

/// Attribute of a receipt, and of a waiting publication: the fingerprint.
const FINGERPRINT: &str = "fingerprint";

/// Attribute of a waiting publication: the partition of its receipt.
const RECEIPT: &str = "receipt";

/// A publication on its way into the log of its region.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PendingPublication {
    /// Id of the alert that it becomes.
    pub(super) id: String,
    /// What the alert is about.
    pub(super) video: Video,
    /// When it was published.
    pub(super) at: Timestamp,
    /// Partition of the item that its idempotency key makes. None without a key.
    pub(super) key: Option<String>,
    /// The same for two publications exactly where their content is.
    pub(super) fingerprint: String,
    /// What it asks of an earlier alert of its video. None where that is not in its way.
    pub(super) repeat: Option<Repeat>,
}

/// Place of a waiting publication in the queue of its region: milliseconds since the Unix epoch, and a random part
/// that makes it unique. The sort key is a number, of which DynamoDB keeps 38 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u128);

impl Ticket {
    /// Room for the random part within one millisecond.
    const PER_MS: u128 = 10_u128.pow(15);

    /// `count` tickets in ascending order, one after the other.
    pub(super) fn take(count: usize, now: Timestamp) -> impl Iterator<Item = Self> {
        let first = Self::earliest(now).0 + u128::from(rand::random::<u64>()) % (Self::PER_MS - count as u128);
        (first..).take(count).map(Self)
    }

    /// The first ticket that can be of a moment.
    pub(super) fn earliest(at: Timestamp) -> Self {
        Self(u128::try_from(at.millis()).unwrap_or_default() * Self::PER_MS)
    }

    pub(super) fn seq(self) -> aws_sdk_dynamodb::types::AttributeValue {
        number(self.0)
    }
}

/// What tells a publisher, or a repeat, which alert a publication became.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receipt {
    pub(super) id: Option<String>,
    pub(super) seq: u64,
    /// The log that the number counts in.
    pub(super) epoch: Option<i64>,
    /// Fingerprint of the publication.
    pub(super) fingerprint: Option<String>,
    /// From when on the key counts as new.
    expires_at: i64,
}

impl PendingPublication {
    /// The publication, at the moment at which it begins its way.
    pub(super) fn of(publication: &Publication, rule: RepeatRule, now: Timestamp) -> Self {
        Self {
            id: new_id(now),
            video: publication.video.clone(),
            at: publication.at.unwrap_or(now),
            key: publication.idempotency_key.as_ref().map(|key| key_partition(&publication.region, key)),
            fingerprint: fingerprint(publication),
            repeat: Repeat::of(publication, rule),
        }
    }

    /// The alert that it becomes at a position.
    pub(super) fn alert(&self, region: &Region, position: Position) -> Alert {
        Alert { id: self.id.clone(), region: region.clone(), position, video: self.video.clone(), at: self.at }
    }

    /// About how many bytes its alert has in the table.
    pub(super) fn bytes(&self) -> usize {
        serde_json::to_string(&self.video).map_or(0, |video| video.len())
    }

    /// Partition of its receipt: the item of its key, or one of its own where it has no key.
    pub(super) fn receipt(&self) -> String {
        self.key.clone().unwrap_or_else(|| format!("@receipt#{}", self.id))
    }

    /// Attributes of its receipt, once it is an alert.
    pub(super) fn receipt_item(&self, position: Position) -> Item {
        Item::from([
            (ALERT_SEQ.to_owned(), number(position.seq)),
            (EPOCH.to_owned(), number(position.epoch)),
            (ID.to_owned(), text(&self.id)),
            (FINGERPRINT.to_owned(), text(&self.fingerprint)),
        ])
    }

    /// Attributes with which it waits.
    pub(super) fn waiting_item(&self) -> Result<Item, serde_json::Error> {
        let mut item = Item::from([
            (ID.to_owned(), text(&self.id)),
            (VIDEO.to_owned(), text(serde_json::to_string(&self.video)?)),
            (AT.to_owned(), number(self.at.millis())),
            (RECEIPT.to_owned(), text(self.receipt())),
            (FINGERPRINT.to_owned(), text(&self.fingerprint)),
        ]);
        item.extend(self.repeat.iter().flat_map(Repeat::waiting_item));
        Ok(item)
    }

    /// Reads it back from the queue, with its place there.
    pub(super) fn waiting(item: &Item) -> Result<(Ticket, Self), UnreadableItem> {
        let entry = Self {
            id: read_text(item, ID)?.to_owned(),
            video: serde_json::from_str(read_text(item, VIDEO)?).map_err(|_| UnreadableItem(VIDEO))?,
            at: Timestamp::from_millis(read_number(item, AT)?),
            key: Some(read_text(item, RECEIPT)?.to_owned()),
            fingerprint: read_text(item, FINGERPRINT)?.to_owned(),
            repeat: Repeat::waiting(item)?,
        };
        Ok((Ticket(read_number(item, SEQ)?), entry))
    }
}

impl Receipt {
    /// Reads a receipt. Those of an earlier version have no id, epoch and fingerprint.
    pub(super) fn read(item: &Item) -> Result<Self, UnreadableItem> {
        Ok(Self {
            id: read_text(item, ID).ok().map(str::to_owned),
            seq: read_number(item, ALERT_SEQ)?,
            epoch: read_number(item, EPOCH).ok(),
            fingerprint: read_text(item, FINGERPRINT).ok().map(str::to_owned),
            expires_at: read_number(item, EXPIRES_AT)?,
        })
    }

    /// Whether it is the receipt of this very publication, and not of another one with the same key.
    pub(super) fn is_of(&self, entry: &PendingPublication) -> bool {
        self.id.as_deref() == Some(&entry.id)
    }

    /// Whether the key is in use. An expired one may lie in the table for days, and counts as new.
    pub(super) fn is_in_use(&self, now: Timestamp) -> bool {
        self.expires_at >= now.secs()
    }

    /// Where the alert stands, if the receipt is of this version.
    pub(super) fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch, seq: self.seq })
    }
}

fn key_partition(region: &Region, key: &IdempotencyKey) -> String {
    format!("@key#{region}#{}", key.as_str())
}

/// A digest of what a publisher sent, as it was understood: the order of the fields of an object does not count.
fn fingerprint(publication: &Publication) -> String {
    let Publication { region, video, score, at, idempotency_key: _, repeat_window: _ } = publication;
    let video = serde_json::to_value(video).unwrap_or_default();
    let at = at.map(Timestamp::millis);
    short_digest(&serde_json::json!([region.as_str(), sorted(video), score, at]).to_string())
}

/// The value with the fields of every object in the order of their names. What is published nests at most
/// [`crate::limits::NESTING_MAX`] deep.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(body: &str) -> Publication {
        Publication::from_bytes(body.as_bytes()).expect(body)
    }

    #[test]
    fn a_fingerprint_is_of_the_content_and_not_of_how_it_is_written() {
        let one = read(
            r#"{"region":"pl","id":"a","video":{"id":"v","title":"é","thumbnail":"","score":90,"x":{"a":1,"b":2}}}"#,
        );
        let same = read(concat!(
            r#"{"id":"b", "video":{"x":{"b":2,"a":1},"score":90,"thumbnail":"","title":"\u00e9","#,
            r#""id":"v"},"region":"PL"}"#,
        ));
        assert_eq!(fingerprint(&one), fingerprint(&same));
        for (from, to) in [("\"v\"", "\"w\""), ("90", "91"), ("\"pl\"", "\"de\""), ("\"b\":2", "\"b\":3")] {
            let body = r#"{"region":"pl","video":{"id":"v","title":"é","thumbnail":"","score":90,"x":{"a":1,"b":2}}}"#;
            assert_ne!(fingerprint(&one), fingerprint(&read(&body.replacen(from, to, 1))), "{to}");
        }
        let flat = |ts| read(&format!(r#"{{"video_id":"v","title":"t","thumbnail":"","ts":{ts}}}"#));
        assert_ne!(fingerprint(&flat(5)), fingerprint(&flat(6)));
        assert_eq!(fingerprint(&flat(5)), fingerprint(&flat(5)));
    }

    #[test]
    fn tickets_are_ordered_in_time_and_fit_in_a_number_of_dynamodb() {
        let now = Timestamp::from_millis(1_795_000_000_000);
        let first: Vec<_> = Ticket::take(25, now).collect();
        assert!(first.is_sorted() && first[0] >= Ticket::earliest(now));
        let later = Ticket::earliest(now.after(std::time::Duration::from_millis(1)));
        assert!(first.last() < Some(&later));
        let last = Ticket::earliest(Timestamp::from_millis(253_402_300_799_999));
        assert!(last.0.to_string().len() <= 38);
    }

    #[test]
    fn what_waits_is_read_back_as_it_was() {
        let nested = r#"{"region":"pl","video":{"id":"v","title":"t","thumbnail":"","score":90.5}}"#;
        let flat = r#"{"region":"pl","video_id":"v","title":"t","repeat_window":60}"#;
        let rule = RepeatRule { window: Duration::from_secs(3_600), rise: 2.5 };
        for (body, rule) in [(nested, RepeatRule::NONE), (nested, rule), (flat, rule), (flat, RepeatRule::NONE)] {
            let entry = PendingPublication::of(&read(body), rule, Timestamp::from_millis(7));
            assert_eq!(entry.repeat.is_some(), body == flat || rule != RepeatRule::NONE);
            let mut item = entry.waiting_item().expect("JSON");
            let ticket = Ticket::take(1, Timestamp::from_millis(9)).next().expect("one");
            item.insert(SEQ.to_owned(), ticket.seq());
            let (place, read) = PendingPublication::waiting(&item).expect("readable");
            assert_eq!((place, read.receipt()), (ticket, entry.receipt()));
            assert_eq!(PendingPublication { key: None, ..read }, entry);
        }
    }
}
