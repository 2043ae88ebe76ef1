//! The alerts table: one gap-free log per region, and the idempotency keys of publishers.
//!
//! | item | `region` (partition) | `seq` (sort) | other attributes |
//! |---|---|---|---|
//! | head | the region | 0 | `epoch`, `last_seq`; never expires |
//! | registry | `@regions` | 0 | `names`: the set of all regions that have a head; never expires |
//! | audience | the region | -1 | `audience`: how many the last fan-out found, as an estimate, `measured_at` (ms); never expires |
//! | alert | the region | 1, 2, 3, … | `epoch`, `id`, `video` (JSON text), `at`, `committed_at` (ms), `undispatched` until its fan-out is started, `expires_at` |
//! | shard | `@heads#0` … `@heads#7` | 0 | where the logs stand, for clients: see [`crate::snapshot`]; never expires |
//! | key | `@key#REGION#` and the key | 0 | `alert_seq`, `expires_at` |
//! | allowance | `@publisher#` and a hash of who it is | 0 | `admitted_until` (ms), see [`crate::allowance`], `expires_at` |
//!
//! The index `undispatched` (partition `undispatched`, sort `committed_at`, keys only) is sparse: it holds the alerts whose fan-out has
//! not been started, and as a rule nothing.
//!
//! No region's name contains `@` or `#`, so the kinds cannot meet. The audience is an item of its own, so that writing it never
//! gets in the way of the transactions on the head, and lies beside the head, so that one query reads both. Reading the log for
//! clients is in [`crate::history`].

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};

use crate::{
    alert::{Alert, Position},
    allowance::Allowance,
    audience::Region,
    clock::{Clock, Timestamp},
    environment::Reader,
    error::{Failure, Refusal},
    function::Start,
    limits::{
        ALERT_TTL, ALLOWANCE_ATTEMPTS_MAX, ALLOWANCE_TTL, COMMIT_ATTEMPTS_MAX, COMMIT_BACKOFF_MAX, RECOVERY_PAGE_ITEMS,
    },
    publication::{IdempotencyKey, Publication},
    publisher::PublisherId,
    table::{Item, UnreadableItem, jittered, number, read_number, read_text, text},
};

pub(crate) const REGION: &str = "region";
pub(crate) const SEQ: &str = "seq";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const LAST_SEQ: &str = "last_seq";
const ID: &str = "id";
const VIDEO: &str = "video";
const AT: &str = "at";
const COMMITTED_AT: &str = "committed_at";
const ALERT_SEQ: &str = "alert_seq";
pub(crate) const AUDIENCE: &str = "audience";
const ADMITTED_UNTIL: &str = "admitted_until";
const MEASURED_AT: &str = "measured_at";

/// Attribute of alerts whose fan-out has not been started, and the index of them.
const UNDISPATCHED: &str = "undispatched";

/// The one value of that attribute: all of them lie in one partition of the index.
const IS_UNDISPATCHED: &str = "yes";
const EXPIRES_AT: &str = "expires_at";

/// Sort key of the head of a region, and of idempotency keys. Alerts start at 1.
pub(crate) const HEAD_SEQ: u64 = 0;

/// Partition of the registry of regions that have a log.
pub(crate) const REGISTRY: &str = "@regions";

/// Attribute with their names.
pub(crate) const NAMES: &str = "names";

/// Sort key of the size of a region's audience.
pub(crate) const AUDIENCE_SEQ: i64 = -1;

/// What became of a publication in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The alert in the log: the new one, or the one that an earlier publication with the same key made.
    pub alert: Alert,
    /// Whether an earlier publication made it.
    pub duplicate: bool,
    /// Whether its fan-out has been started.
    pub dispatched: bool,
    /// How many the fan-out before it found in the audience, as an estimate. None for the first alert of a region, and for one
    /// that an earlier publication made.
    pub audience: Option<u64>,
}

/// What lies before the alerts in the log of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Front {
    /// The last position. None when nothing was ever published for the region.
    head: Option<Position>,
    /// How many the last fan-out found in the audience. None until one has said.
    audience: Option<u64>,
}

/// Where an alert lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertKey {
    /// The partition: the name of the region.
    pub region: String,
    /// The number of the alert.
    pub seq: u64,
}

/// Some alerts whose fan-out has not been started, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Undispatched {
    /// Where they lie.
    pub keys: Vec<AlertKey>,
    /// Where the next page begins. None on the last page.
    pub next: Option<HashMap<String, AttributeValue>>,
}

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "ALERTS_TABLE";

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

/// The same publisher published something else at every attempt.
#[derive(Debug, thiserror::Error)]
#[error("the publisher published something else at each of {ALLOWANCE_ATTEMPTS_MAX} attempts")]
struct Crowded;

/// An idempotency key points to an alert that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the alert {0} that an idempotency key points to is not in the log")]
struct Dangling(u64);

/// Why a transaction was not made.
enum Obstacle {
    /// The idempotency key is in use.
    Repeated,
    /// Another publisher moved the head or is about to, or the table has too much to do: the next attempt may succeed.
    HeadMoved,
    /// Something else.
    Failed(Failure),
}

impl Alerts {
    /// The table that the function's environment names.
    pub fn of_function(start: &Start, environment: &mut Reader<'_>) -> Self {
        Self::new(Client::new(&start.sdk), environment.required(TABLE_VARIABLE), start.clock.clone())
    }

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
            let Front { head, audience } = self.front(&publication.region).await?;
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
                (Ok(()), _) => {
                    let entry = crate::snapshot::Entry {
                        position: alert.position,
                        committed_at: now,
                        largest_bytes: alert.frame(crate::alert::Format::ViralAlert).len(),
                        audience,
                    };
                    crate::snapshot::Snapshot::new(self.client.clone(), self.table.clone())
                        .record(&alert.region, &entry)
                        .await?;
                    return Ok(Committed { alert, duplicate: false, dispatched: false, audience });
                }
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

    /// Notes that the fan-out of an alert was started, so that neither a repeat nor recovery starts it again.
    pub async fn mark_dispatched(&self, alert: &Alert) -> Result<(), Failure> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(REGION, text(alert.region.as_str()))
            .key(SEQ, number(alert.position.seq))
            .update_expression("REMOVE undispatched")
            .condition_expression("attribute_exists(id)")
            .send()
            .await
            .map_err(|error| Failure::new("marking an alert as dispatched", error))?;
        Ok(())
    }

    /// Reads from the index which alerts were committed before a moment and have not been dispatched: a page, after another one
    /// or from the oldest on. The index follows the table with a delay, so each has to be looked at once more.
    pub async fn undispatched(
        &self,
        committed_before: Timestamp,
        after: Option<HashMap<String, AttributeValue>>,
    ) -> Result<Undispatched, Failure> {
        let doing = "looking for alerts that were never dispatched";
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(UNDISPATCHED)
            .key_condition_expression("undispatched = :undispatched AND committed_at < :before")
            .expression_attribute_values(":undispatched", text(IS_UNDISPATCHED))
            .expression_attribute_values(":before", number(committed_before.millis()))
            .limit(RECOVERY_PAGE_ITEMS)
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| Failure::new(doing, error))?;
        let key =
            |item: &Item| Ok(AlertKey { region: read_text(item, REGION)?.to_owned(), seq: read_number(item, SEQ)? });
        let keys = output.items().iter().map(key).collect::<Result<_, _>>();
        let keys = keys.map_err(|error: UnreadableItem| Failure::new(doing, error))?;
        Ok(Undispatched { keys, next: output.last_evaluated_key })
    }

    /// The alert at a key, if it is there and has not been dispatched.
    pub async fn if_undispatched(&self, key: &AlertKey) -> Result<Option<Alert>, Failure> {
        let doing = "reading an alert that was never dispatched";
        let item = self.get(&key.region, key.seq, doing).await?.filter(|item| item.contains_key(UNDISPATCHED));
        item.as_ref().map(alert).transpose().map_err(|error| Failure::new(doing, error))
    }

    /// Whether a publisher may have one more alert, which is noted, or why not.
    pub async fn allow(&self, publisher: &PublisherId, allowance: Allowance) -> Result<Result<(), Refusal>, Failure> {
        let doing = "noting an alert of a publisher";
        let mut seen: Option<Timestamp> = None;
        for attempt in 0..ALLOWANCE_ATTEMPTS_MAX {
            // The second one knows what the first one has seen, and only others in between can make it fail.
            if attempt > 1 {
                tokio::time::sleep(jittered(COMMIT_BACKOFF_MAX / 16)).await;
            }
            let now = self.clock.now();
            let next = match allowance.admit(seen, now) {
                Ok(next) => next,
                Err(wait) => {
                    let allowed = format!("{} alerts per minute of one publisher", allowance.count());
                    return Ok(Err(Refusal::rate_limited(&allowed, wait)));
                }
            };
            let update = self
                .client
                .update_item()
                .table_name(&self.table)
                .key(REGION, text(publisher.partition()))
                .key(SEQ, number(HEAD_SEQ))
                .update_expression("SET admitted_until = :next, expires_at = :expires")
                .expression_attribute_values(":next", number(next.millis()))
                .expression_attribute_values(":expires", number(now.after(ALLOWANCE_TTL).secs()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            // Who has published nothing lately, which is the rule, is admitted without a look before.
            let update = match seen {
                None => update
                    .condition_expression("attribute_not_exists(admitted_until) OR admitted_until <= :now")
                    .expression_attribute_values(":now", number(now.millis())),
                Some(until) => update
                    .condition_expression("admitted_until = :until")
                    .expression_attribute_values(":until", number(until.millis())),
            };
            match update.send().await.map_err(SdkError::into_service_error) {
                Ok(_) => return Ok(Ok(())),
                Err(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    let item = failed.item.unwrap_or_default();
                    let until = read_number(&item, ADMITTED_UNTIL).map_err(|error| Failure::new(doing, error))?;
                    seen = Some(Timestamp::from_millis(until));
                }
                Err(error) => return Err(Failure::new(doing, error)),
            }
        }
        Err(Failure::new(doing, Crowded))
    }

    /// Notes how many a fan-out found in the audience of a region, for the publisher of the next alert.
    pub async fn note_audience(&self, region: &Region, audience: u64) -> Result<(), Failure> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item(REGION, text(region.as_str()))
            .item(SEQ, number(AUDIENCE_SEQ))
            .item(AUDIENCE, number(audience))
            .item(MEASURED_AT, number(self.clock.now().millis()))
            .send()
            .await
            .map_err(|error| Failure::new("noting the size of an audience", error))?;
        Ok(())
    }

    /// Reads the head of a region and the size of its audience: one query, which costs what reading the head alone does.
    async fn front(&self, region: &Region) -> Result<Front, Failure> {
        let doing = "reading the head of a region";
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#region = :region AND seq BETWEEN :audience AND :head")
            // A reserved word of DynamoDB.
            .expression_attribute_names("#region", REGION)
            .expression_attribute_values(":region", text(region.as_str()))
            .expression_attribute_values(":audience", number(AUDIENCE_SEQ))
            .expression_attribute_values(":head", number(HEAD_SEQ))
            .send()
            .await
            .map_err(|error| Failure::new(doing, error))?;
        front(output.items()).map_err(|error| Failure::new(doing, error))
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
            .item(COMMITTED_AT, number(now.millis()))
            .item(UNDISPATCHED, text(IS_UNDISPATCHED))
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
        let dispatched = !item.contains_key(UNDISPATCHED);
        Ok(Committed { alert: alert(&item).map_err(unreadable)?, duplicate: true, dispatched, audience: None })
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

/// The part of a transaction that registers a region whose log begins.
fn registration(table: &str, region: &Region) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
    Update::builder()
        .table_name(table)
        .key(REGION, text(REGISTRY))
        .key(SEQ, number(HEAD_SEQ))
        .update_expression("ADD #names :name")
        .expression_attribute_names("#names", NAMES)
        .expression_attribute_values(":name", AttributeValue::Ss(vec![region.to_string()]))
}

fn key_partition(region: &Region, key: &IdempotencyKey) -> String {
    format!("@key#{region}#{}", key.as_str())
}

fn front(items: &[Item]) -> Result<Front, UnreadableItem> {
    let mut front = Front::default();
    for item in items {
        if read_number::<i64>(item, SEQ)? == AUDIENCE_SEQ {
            // Only an estimate: without it there is none to tell.
            front.audience = read_number(item, AUDIENCE).ok();
        } else {
            front.head = Some(Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, LAST_SEQ)? });
        }
    }
    Ok(front)
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
    // The client tries these again by itself for any other call, but not for a transaction.
    let may_pass =
        ["ConditionalCheckFailed", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    if reasons.get(KEY_ITEM).is_some_and(|reason| is(reason, "ConditionalCheckFailed")) {
        Obstacle::Repeated
    } else if reasons.iter().any(|reason| may_pass.iter().any(|code| is(reason, code))) {
        Obstacle::HeadMoved
    } else {
        Obstacle::Failed(Failure::new("committing an alert", error))
    }
}
