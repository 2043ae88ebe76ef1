//! Reading and writing the log of a region: its head, its alerts, and what is known of its audience.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    config::{Builder, retry::RetryConfig},
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use clock::{Clock, Timestamp};

use crate::{
    error::{ApiError, Decision, InternalError},
    limits::{
        CHARGE_ATTEMPTS_MAX, RATE_LIMIT_TTL, RECOVERY_PAGE_ITEMS, REGIONS_MAX_DEFAULT, TABLE_ATTEMPTS_MAX,
        TABLE_BACKOFF, TABLE_BACKOFF_MAX, THROTTLED_PAUSE, THROTTLED_PAUSES_MAX,
    },
    model::{
        alert::{Alert, Logged, Position, Removal},
        audience::Region,
        publication::PublisherId,
        rate_limit::RateLimit,
        repeat::RepeatRule,
    },
    runtime::{backoff::jittered, environment::Reader, function::StartContext},
    tables::{
        alerts::{
            schema::{
                AT, AUDIENCE, AUDIENCE_SEQ, COMMITTED_AT, EPOCH, HEAD_SEQ, ID, IS_UNDISPATCHED, LARGEST_BYTES,
                LAST_SEQ, LEASE_SEQ, LEASED_UNTIL, MEASURED_AT, REGION, REMOVED_AT, SEQ, TABLE_VARIABLE, UNDISPATCHED,
                USED_UNTIL, VIDEO, head_partition,
            },
            snapshot::{Snapshot, SnapshotEntry},
        },
        dynamodb::{Item, UnreadableItem, number, read_number, read_text, text},
    },
};

/// The head of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogHead {
    pub(crate) position: Position,
    /// When it was committed.
    pub(crate) committed_at: Timestamp,
    /// Bytes of the largest frame of an alert so far.
    pub(crate) largest_bytes: usize,
}

/// What is known of the log of a region as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogFront {
    /// None where there is no log.
    pub(crate) head: Option<LogHead>,
    /// How many the last fan-out found in the audience. None until one has said.
    pub(crate) audience: Option<u64>,
    /// Whether somebody commits for those that wait.
    pub(crate) is_led: bool,
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
    pub keys: Vec<AlertKey>,
    /// Where the next page begins. None on the last page.
    pub next: Option<HashMap<String, AttributeValue>>,
}

/// Access to the alerts table.
#[derive(Clone, Debug)]
pub struct Alerts {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) snapshot: Snapshot,
    pub(crate) clock: Clock,
    /// Most regions that have a log.
    pub(crate) regions_max: usize,
    pub(crate) repeat_rule: RepeatRule,
}

/// The item of a rate limit was removed between every two updates.
#[derive(Debug, thiserror::Error)]
#[error("the rate limit of the publisher changed during each of {CHARGE_ATTEMPTS_MAX} attempts")]
struct RateLimitContended;

impl Alerts {
    /// The table that the function's environment names.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        // Of many at one moment some are throttled several times: a partition takes 1,000 units a second.
        let retries = RetryConfig::standard()
            .with_max_attempts(TABLE_ATTEMPTS_MAX)
            .with_initial_backoff(TABLE_BACKOFF)
            .with_max_backoff(TABLE_BACKOFF_MAX);
        let client = Client::from_conf(Builder::from(&start.sdk).retry_config(retries).build());
        Self::new(client, environment.required(TABLE_VARIABLE), start.clock.clone())
    }

    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        let snapshot = Snapshot::new(client.clone(), table.clone());
        Self { client, table, snapshot, clock, regions_max: REGIONS_MAX_DEFAULT, repeat_rule: RepeatRule::NONE }
    }

    /// The same with another bound of regions that have a log.
    pub fn with_regions_max(self, regions_max: usize) -> Self {
        Self { regions_max, ..self }
    }

    /// The same with another rule on when the same video is alerted again.
    pub fn with_repeat_rule(self, repeat_rule: RepeatRule) -> Self {
        Self { repeat_rule, ..self }
    }

    /// Records that the fan-out of an alert, or of its removal, was started, so that neither a repeat nor recovery
    /// starts it again. If the alert was taken back meanwhile, its mark stays: it belongs to the removal now.
    ///
    /// # Errors
    ///
    /// If DynamoDB fails. The fan-out may then be started a second time, and clients drop the duplicate.
    pub async fn mark_dispatched(&self, logged: &Logged) -> Result<(), InternalError> {
        let condition = match logged {
            Logged::Alert(_) => "attribute_exists(id) AND attribute_not_exists(removed_at)",
            Logged::Removed(_) => "attribute_exists(removed_at)",
        };
        let marked = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(REGION, text(logged.region().as_str()))
            .key(SEQ, number(logged.position().seq))
            .update_expression("REMOVE undispatched")
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await
            .map_err(SdkError::into_service_error);
        match marked {
            Ok(_) => Ok(()),
            Err(UpdateItemError::ConditionalCheckFailedException(failed))
                if failed.item().is_some_and(|item| item.contains_key(REMOVED_AT)) =>
            {
                Ok(())
            }
            Err(error) => Err(InternalError::new("marking an alert as dispatched", error)),
        }
    }

    /// Returns whether the log still has an alert: it was not taken back, and it has not expired.
    ///
    /// # Errors
    ///
    /// If DynamoDB fails.
    pub async fn has(&self, alert: &Alert) -> Result<bool, InternalError> {
        let doing = "looking whether an alert was taken back";
        let item = self.get(alert.region.as_str(), alert.position.seq, doing).await?;
        let is_it = |item: &Item| read_text(item, ID).is_ok_and(|id| id == alert.id) && !item.contains_key(REMOVED_AT);
        Ok(item.as_ref().is_some_and(is_it))
    }

    /// Reads from the index which alerts were committed before a moment and have not been dispatched: a page, after
    /// another one or from the oldest on. The index follows the table with a delay, so each has to be looked at once
    /// more.
    pub async fn undispatched(
        &self,
        committed_before: Timestamp,
        after: Option<HashMap<String, AttributeValue>>,
    ) -> Result<Undispatched, InternalError> {
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
            .map_err(|error| InternalError::new(doing, error))?;
        let key =
            |item: &Item| Ok(AlertKey { region: read_text(item, REGION)?.to_owned(), seq: read_number(item, SEQ)? });
        let keys = output.items().iter().map(key).collect::<Result<_, _>>();
        let keys = keys.map_err(|error: UnreadableItem| InternalError::new(doing, error))?;
        Ok(Undispatched { keys, next: output.last_evaluated_key })
    }

    /// The alert at a key, or what is left of it, if it is there and has not been dispatched.
    pub async fn if_undispatched(&self, key: &AlertKey) -> Result<Option<Logged>, InternalError> {
        let doing = "reading an alert that was never dispatched";
        let item = self.get(&key.region, key.seq, doing).await?.filter(|item| item.contains_key(UNDISPATCHED));
        item.as_ref().map(logged).transpose().map_err(|error| InternalError::new(doing, error))
    }

    /// Counts `alerts` against the rate limit of a publisher, all or none.
    ///
    /// # Errors
    ///
    /// `rate_limited`, with the time at which they would pass. An internal error if DynamoDB fails.
    pub async fn allow(&self, publisher: &PublisherId, rate_limit: RateLimit, alerts: u32) -> Decision<()> {
        let doing = "noting an alert of a publisher";
        let now = self.clock.now();
        let charge = rate_limit.charge(alerts, now);
        let (mut stored, mut attempts, mut pauses) = (None::<i64>, 0, 0);
        while attempts < CHARGE_ATTEMPTS_MAX {
            let write = match charge.step(stored) {
                Ok(step) => step.write(USED_UNTIL),
                Err(wait) => {
                    let allowed = format!("{} alerts per minute of one publisher", rate_limit.count());
                    return Ok(Err(ApiError::rate_limited(&allowed, wait)));
                }
            };
            let mut update = self
                .client
                .update_item()
                .table_name(&self.table)
                .key(REGION, text(publisher.partition()))
                .key(SEQ, number(HEAD_SEQ))
                .update_expression(format!("SET {}, expires_at = :expires", write.set))
                .condition_expression(write.condition)
                .expression_attribute_values(":expires", number(now.after(RATE_LIMIT_TTL).secs()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            for (name, value) in write.values {
                update = update.expression_attribute_values(name, number(value));
            }
            match update.send().await.map_err(SdkError::into_service_error) {
                Ok(_) => return Ok(Ok(())),
                Err(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    attempts += 1;
                    stored = failed.item.and_then(|item| read_number(&item, USED_UNTIL).ok());
                }
                // Hundreds at one moment write this one item, whose partition has more units in the next second.
                Err(UpdateItemError::ProvisionedThroughputExceededException(_)) if pauses < THROTTLED_PAUSES_MAX => {
                    pauses += 1;
                    tokio::time::sleep(jittered(THROTTLED_PAUSE)).await;
                }
                Err(error) => return Err(InternalError::new(doing, error)),
            }
        }
        Err(InternalError::new(doing, RateLimitContended))
    }

    /// Notes how many a fan-out found in the audience of a region, for the publisher of the next alert.
    pub async fn note_audience(&self, region: &Region, audience: u64) -> Result<(), InternalError> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item(REGION, text(head_partition(region)))
            .item(SEQ, number(AUDIENCE_SEQ))
            .item(AUDIENCE, number(audience))
            .item(MEASURED_AT, number(self.clock.now().millis()))
            .send()
            .await
            .map_err(|error| InternalError::new("noting the size of an audience", error))?;
        Ok(())
    }

    /// Reads head, audience and lease of a region: one query, which costs what reading the head alone does.
    pub(crate) async fn front(&self, region: &Region) -> Result<LogFront, InternalError> {
        let doing = "reading the head of a region";
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#region = :head")
            // A reserved word of DynamoDB.
            .expression_attribute_names("#region", REGION)
            .expression_attribute_values(":head", text(head_partition(region)))
            .send()
            .await
            .map_err(|error| InternalError::new(doing, error))?;
        front(output.items(), self.clock.now()).map_err(|error| InternalError::new(doing, error))
    }

    /// Records where the log of a region ends, for clients.
    pub(crate) async fn record(
        &self,
        region: &Region,
        head: LogHead,
        audience: Option<u64>,
    ) -> Result<(), InternalError> {
        let LogHead { position, committed_at, largest_bytes } = head;
        self.snapshot.record(region, &SnapshotEntry { position, committed_at, largest_bytes, audience }).await
    }

    /// The same as the head says it. Whatever was committed before is recorded then.
    pub(crate) async fn record_head(&self, region: &Region) -> Result<(), InternalError> {
        let front = self.front(region).await?;
        match front.head {
            Some(head) => self.record(region, head, front.audience).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn get(
        &self,
        partition: &str,
        seq: u64,
        doing: &'static str,
    ) -> Result<Option<Item>, InternalError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .consistent_read(true)
            .key(REGION, text(partition))
            .key(SEQ, number(seq))
            .send()
            .await
            .map_err(|error| InternalError::new(doing, error))?;
        Ok(output.item)
    }
}

/// Whether somebody has the lease, as its item says.
pub(crate) fn is_leased(lease: &Item, now: Timestamp) -> bool {
    read_number::<i64>(lease, LEASED_UNTIL).is_ok_and(|until| until > now.millis())
}

fn front(items: &[Item], now: Timestamp) -> Result<LogFront, UnreadableItem> {
    let mut front = LogFront::default();
    for item in items {
        match read_number::<i64>(item, SEQ)? {
            // Only an estimate: without it there is none to tell.
            AUDIENCE_SEQ => front.audience = read_number(item, AUDIENCE).ok(),
            LEASE_SEQ => front.is_led = is_leased(item, now),
            _ => {
                front.head = Some(LogHead {
                    position: Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, LAST_SEQ)? },
                    committed_at: Timestamp::from_millis(read_number(item, COMMITTED_AT)?),
                    largest_bytes: read_number(item, LARGEST_BYTES)?,
                });
            }
        }
    }
    Ok(front)
}

/// Reads the item of an alert, or of what is left of it.
pub(crate) fn logged(item: &Item) -> Result<Logged, UnreadableItem> {
    let id = read_text(item, ID)?.to_owned();
    let region: Region = read_text(item, REGION)?.parse().map_err(|_| UnreadableItem(REGION))?;
    let position = Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, SEQ)? };
    let at = Timestamp::from_millis(read_number(item, AT)?);
    if item.contains_key(REMOVED_AT) {
        return Ok(Logged::Removed(Removal { id, region, position, at }));
    }
    let video = serde_json::from_str(read_text(item, VIDEO)?).map_err(|_| UnreadableItem(VIDEO))?;
    Ok(Logged::Alert(Alert { id, region, position, video, at }))
}
