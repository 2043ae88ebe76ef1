//! The alerts table: one gap-free log per region, and the idempotency keys of publishers.
//!
//! | item | `region` (partition) | `seq` (sort) | other attributes |
//! |---|---|---|---|
//! | head | the region | 0 | `epoch`, `last_seq`; never expires |
//! | alert | the region | 1, 2, 3, … | `epoch`, `id`, `video` (JSON text), `at`, `dispatched`, `expires_at` |
//! | audience | the region | -1 | `audience`: connections that the last alert went to, as estimated |
//! | registry | `@regions` | 0 | `names`: the set of all regions that have a head; never expires |
//! | key | `@key#REGION#` and the key | 0 | `alert_seq`, `expires_at` |
//!
//! No region's name contains `@` or `#`, so the kinds cannot meet. Reading the log is in [`crate::history`].

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, CancellationReason, Put, TransactWriteItem, Update},
};

use crate::{
    alert::{Alert, Position},
    audience::Region,
    clock::{Clock, Timestamp},
    error::Failure,
    history::registration,
    limits::{ALERT_TTL, COMMIT_ATTEMPTS_MAX, COMMIT_BACKOFF_MAX},
    publication::{IdempotencyKey, Publication},
    table::{Item, UnreadableItem, jittered, number, read_number, read_text, text},
};

pub(crate) const REGION: &str = "region";
pub(crate) const SEQ: &str = "seq";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const LAST_SEQ: &str = "last_seq";
const ID: &str = "id";
const VIDEO: &str = "video";
const AT: &str = "at";
const DISPATCHED: &str = "dispatched";
const ALERT_SEQ: &str = "alert_seq";
const EXPIRES_AT: &str = "expires_at";

/// Sort key of the head of a region, and of idempotency keys. Alerts start at 1.
pub(crate) const HEAD_SEQ: u64 = 0;

/// Sort key of the size of a region's audience.
pub(crate) const AUDIENCE_SEQ: i64 = -1;

/// Attribute with that size.
pub(crate) const AUDIENCE: &str = "audience";

/// Partition of the registry of regions that have a log.
pub(crate) const REGISTRY: &str = "@regions";

/// Attribute with their names.
pub(crate) const NAMES: &str = "names";

/// What became of a publication in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The alert in the log: the new one, or the one that an earlier publication with the same key made.
    pub alert: Alert,
    /// Whether an earlier publication made it.
    pub duplicate: bool,
    /// Whether its fan-out has been started.
    pub dispatched: bool,
}

/// Access to the alerts table.
#[derive(Clone, Debug)]
pub struct Alerts {
    client: Client,
    table: String,
    clock: Clock,
}

/// Other publishers moved the head of the region at every attempt.
#[derive(Debug, thiserror::Error)]
#[error("other publishers moved the head of {0} at each of {COMMIT_ATTEMPTS_MAX} attempts")]
struct Contended(Region);

/// An idempotency key points to an alert that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the alert {0} that an idempotency key points to is not in the log")]
struct Dangling(u64);

/// Why a transaction was not made.
enum Obstacle {
    /// The idempotency key is in use.
    Repeated,
    /// Another publisher moved the head, or is about to.
    HeadMoved,
    /// Something else.
    Failed(Failure),
}

impl Alerts {
    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock }
    }

    /// Appends an alert to the log of its region: head, alert and idempotency key in one transaction, so that `seq` has
    /// no gaps, a repeat changes nothing, and a crash leaves either all or none.
    pub async fn commit(&self, publication: Publication) -> Result<Committed, Failure> {
        let id = uuid::Uuid::now_v7().to_string();
        let key = publication.idempotency_key.as_ref().map(|key| key_partition(&publication.region, key));
        let mut pause_max = COMMIT_BACKOFF_MAX / 16;
        for _ in 0..COMMIT_ATTEMPTS_MAX {
            let head = self.head(&publication.region).await?;
            let now = self.clock.now();
            let alert = Alert {
                id: id.clone(),
                region: publication.region.clone(),
                position: match head {
                    Some(Position { epoch, seq }) => Position { epoch, seq: seq + 1 },
                    None => Position { epoch: now.millis(), seq: 1 },
                },
                video: publication.video.clone(),
                at: publication.at.unwrap_or(now),
            };
            match (self.transact(&alert, head.is_none(), key.as_deref(), now).await, &key) {
                (Ok(()), _) => return Ok(Committed { alert, duplicate: false, dispatched: false }),
                (Err(Obstacle::Repeated), Some(key)) => return self.earlier(&publication.region, key).await,
                (Err(Obstacle::Failed(failure)), _) => return Err(failure),
                (Err(Obstacle::Repeated | Obstacle::HeadMoved), _) => {
                    tokio::time::sleep(jittered(pause_max)).await;
                    pause_max = COMMIT_BACKOFF_MAX.min(pause_max * 2);
                }
            }
        }
        Err(Failure::new("committing an alert", Contended(publication.region)))
    }

    /// Notes that the fan-out of an alert was started, so that a repeat does not start it again.
    pub async fn mark_dispatched(&self, alert: &Alert) -> Result<(), Failure> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(REGION, text(alert.region.as_str()))
            .key(SEQ, number(alert.position.seq))
            .update_expression("SET dispatched = :true")
            .condition_expression("attribute_exists(id)")
            .expression_attribute_values(":true", AttributeValue::Bool(true))
            .send()
            .await
            .map_err(|error| Failure::new("marking an alert as dispatched", error))?;
        Ok(())
    }

    /// The last position in the log of a region. `None` when nothing was ever published for it.
    pub async fn head(&self, region: &Region) -> Result<Option<Position>, Failure> {
        let doing = "reading the head of a region";
        let Some(item) = self.get(region.as_str(), HEAD_SEQ, doing).await? else { return Ok(None) };
        let position = || Ok(Position { epoch: read_number(&item, EPOCH)?, seq: read_number(&item, LAST_SEQ)? });
        position().map(Some).map_err(|error: UnreadableItem| Failure::new(doing, error))
    }

    async fn transact(&self, alert: &Alert, first: bool, key: Option<&str>, now: Timestamp) -> Result<(), Obstacle> {
        let failed = |error: aws_sdk_dynamodb::error::BuildError| {
            Obstacle::Failed(Failure::new("building a transaction", error))
        };
        let Position { epoch, seq } = alert.position;
        let expires_at = number(now.after(ALERT_TTL).secs());

        let head = Update::builder()
            .table_name(&self.table)
            .key(REGION, text(alert.region.as_str()))
            .key(SEQ, number(HEAD_SEQ))
            .update_expression("SET epoch = :epoch, last_seq = :seq")
            .expression_attribute_values(":epoch", number(epoch))
            .expression_attribute_values(":seq", number(seq));
        let head = if first {
            head.condition_expression("attribute_not_exists(last_seq)")
        } else {
            head.condition_expression("last_seq = :previous AND epoch = :epoch")
                .expression_attribute_values(":previous", number(seq - 1))
        };
        let video = serde_json::to_string(&alert.video)
            .map_err(|error| Obstacle::Failed(Failure::new("writing a video as JSON", error)))?;
        let entry = Put::builder()
            .table_name(&self.table)
            .item(REGION, text(alert.region.as_str()))
            .item(SEQ, number(seq))
            .item(EPOCH, number(epoch))
            .item(ID, text(&alert.id))
            .item(VIDEO, text(video))
            .item(AT, number(alert.at.millis()))
            .item(DISPATCHED, AttributeValue::Bool(false))
            .item(EXPIRES_AT, expires_at.clone());

        // The order matters: the reasons of a cancelled transaction stand in the order of its items.
        let mut items = vec![
            TransactWriteItem::builder().update(head.build().map_err(failed)?).build(),
            TransactWriteItem::builder().put(entry.build().map_err(failed)?).build(),
        ];
        if let Some(key) = key {
            // An expired key may still lie in the table for days; it counts as new.
            let key = Put::builder()
                .table_name(&self.table)
                .item(REGION, text(key))
                .item(SEQ, number(HEAD_SEQ))
                .item(ALERT_SEQ, number(seq))
                .item(EXPIRES_AT, expires_at)
                .condition_expression("attribute_not_exists(alert_seq) OR expires_at < :now")
                .expression_attribute_values(":now", number(now.secs()));
            items.push(TransactWriteItem::builder().put(key.build().map_err(failed)?).build());
        }
        if first {
            let registration = registration(&self.table, &alert.region);
            items.push(TransactWriteItem::builder().update(registration.build().map_err(failed)?).build());
        }
        match self.client.transact_write_items().set_transact_items(Some(items)).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(obstacle(error)),
        }
    }

    /// The alert that an earlier publication with the same key made.
    async fn earlier(&self, region: &Region, key: &str) -> Result<Committed, Failure> {
        let doing = "reading the alert of an earlier publication";
        let unreadable = |error: UnreadableItem| Failure::new(doing, error);
        let key =
            self.get(key, HEAD_SEQ, doing).await?.ok_or_else(|| Failure::new(doing, UnreadableItem(ALERT_SEQ)))?;
        let seq = read_number(&key, ALERT_SEQ).map_err(unreadable)?;
        let item = self.get(region.as_str(), seq, doing).await?.ok_or_else(|| Failure::new(doing, Dangling(seq)))?;
        let dispatched = item.get(DISPATCHED).and_then(|value| value.as_bool().ok()).copied().unwrap_or_default();
        Ok(Committed { alert: alert(&item).map_err(unreadable)?, duplicate: true, dispatched })
    }

    async fn get(&self, partition: &str, seq: u64, doing: &'static str) -> Result<Option<Item>, Failure> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .consistent_read(true)
            .key(REGION, text(partition))
            .key(SEQ, number(seq))
            .send()
            .await
            .map_err(|error| Failure::new(doing, error))?;
        Ok(output.item)
    }
}

fn key_partition(region: &Region, key: &IdempotencyKey) -> String {
    format!("@key#{region}#{}", key.as_str())
}

/// Reads the item of an alert.
pub(crate) fn alert(item: &Item) -> Result<Alert, UnreadableItem> {
    Ok(Alert {
        id: read_text(item, ID)?.to_owned(),
        region: read_text(item, REGION)?.parse().map_err(|_| UnreadableItem(REGION))?,
        position: Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, SEQ)? },
        video: serde_json::from_str(read_text(item, VIDEO)?).map_err(|_| UnreadableItem(VIDEO))?,
        at: Timestamp::from_millis(read_number(item, AT)?),
    })
}

/// Position of the idempotency key among the items of the transaction. Without a key the registration may stand there, which
/// has no condition that could fail.
const KEY_ITEM: usize = 2;

fn obstacle(error: SdkError<TransactWriteItemsError>) -> Obstacle {
    let reasons = match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        _ => &[],
    };
    let is = |reason: &CancellationReason, code: &str| reason.code() == Some(code);
    if reasons.get(KEY_ITEM).is_some_and(|reason| is(reason, "ConditionalCheckFailed")) {
        Obstacle::Repeated
    } else if reasons.iter().any(|reason| is(reason, "ConditionalCheckFailed") || is(reason, "TransactionConflict")) {
        Obstacle::HeadMoved
    } else {
        Obstacle::Failed(Failure::new("committing an alert", error))
    }
}
