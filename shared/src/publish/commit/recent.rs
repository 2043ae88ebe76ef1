//! Which alert of a video stands in a region, and whether it keeps the same video from being alerted again.
//!
//! The item of a video and its region is written with the alert, in the same transaction, and under a condition. So of
//! several that publish one video at one moment, one is committed. Whoever publishes later looks first, which costs
//! less than a transaction that is cancelled. An alert that has been taken back, or that has expired, does not stand:
//! who finds that removes the item.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::delete_item::DeleteItemError,
    types::{AttributeValue, Put, builders::PutBuilder},
};
use clock::Timestamp;
use serde::Serialize;

use crate::{
    error::InternalError,
    model::{
        alert::{Logged, Position},
        audience::{Region, short_digest},
        publication::Publication,
        repeat::RepeatRule,
    },
    tables::{
        alerts::{
            Alerts, logged,
            schema::{ALERT_SEQ, COMMITTED_AT, EPOCH, HEAD_SEQ, ID, REGION, SEQ},
        },
        dynamodb::{Item, UnreadableItem, number, read_number, read_text, text},
    },
};

/// Attribute: the score of the alert, where its publisher sent one.
const SCORE: &str = "score";

/// Attributes of a waiting publication: the partition of its video's item, and what it asks for.
const RECENT: &str = "recent";
const REPEAT_WINDOW: &str = "repeat_window";
const REPEAT_RISE: &str = "repeat_rise";

/// What a publication asks of an earlier alert of its video.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeat {
    /// Partition of the item of the video in its region.
    pub(super) partition: String,
    /// How long an earlier alert stands in the way.
    window: Duration,
    score: Option<f64>,
    /// The rise of the score with which it passes all the same.
    rise: f64,
}

/// The alert of a video that stands: it was the last one, and it has not been taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandingAlert {
    pub id: String,
    pub region: String,
    pub seq: u64,
    /// The log that `seq` counts in.
    pub epoch: i64,
}

/// What a look for an earlier alert of a video found in the way.
pub(super) type Look = Result<Option<StandingAlert>, InternalError>;

/// What the item of a video says of the last alert.
struct Last {
    id: String,
    position: Position,
    committed_at: Timestamp,
    score: Option<f64>,
}

impl Repeat {
    /// None where nothing stands in the way of the publication, and the alert that it becomes is in the way of nothing:
    /// without a window, and for the canary.
    pub(super) fn of(publication: &Publication, rule: RepeatRule) -> Option<Self> {
        let Publication { region, video, score, repeat_window, .. } = publication;
        let window = repeat_window.unwrap_or(rule.window);
        let partition = format!("@video#{region}#{}", short_digest(video.id()));
        // DynamoDB keeps no number that is nearly 0.
        let score = score.map(|score| (score * 1e6).round() / 1e6);
        (!window.is_zero() && !region.is_canary()).then_some(Self { partition, window, score, rise: rule.rise })
    }

    /// The score up to which an earlier alert is not in the way.
    fn passes_from(&self) -> Option<f64> {
        self.score.map(|score| score - self.rise)
    }

    /// The latest moment of a commit that is not in the way.
    fn since(&self, now: Timestamp) -> Timestamp {
        now.before(self.window)
    }

    fn is_stopped_by(&self, last: &Last, now: Timestamp) -> bool {
        let has_risen = matches!((last.score, self.passes_from()), (Some(last), Some(from)) if last <= from);
        last.committed_at > self.since(now) && !has_risen
    }

    /// The write of the item of the video, which fails where an alert is in the way.
    pub(super) fn put(&self, id: &str, position: Position, now: Timestamp) -> PutBuilder {
        let put = Put::builder()
            .item(REGION, text(&self.partition))
            .item(SEQ, number(HEAD_SEQ))
            .item(ALERT_SEQ, number(position.seq))
            .item(EPOCH, number(position.epoch))
            .item(ID, text(id))
            .item(COMMITTED_AT, number(now.millis()))
            .expression_attribute_values(":since", number(self.since(now).millis()));
        let in_time = "attribute_not_exists(alert_seq) OR committed_at <= :since";
        match self.score.zip(self.passes_from()) {
            Some((score, from)) => put
                .item(SCORE, number(score))
                .condition_expression(format!("{in_time} OR score <= :from"))
                .expression_attribute_values(":from", number(from)),
            None => put.condition_expression(in_time),
        }
    }

    /// Attributes of a publication that waits.
    pub(super) fn waiting_item(&self) -> impl Iterator<Item = (String, AttributeValue)> {
        let score = self.score.map(|score| (SCORE, number(score)));
        [
            (RECENT, text(&self.partition)),
            (REPEAT_WINDOW, number(self.window.as_secs())),
            (REPEAT_RISE, number(self.rise)),
        ]
        .into_iter()
        .chain(score)
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// Reads them back. None of a publication without a window.
    pub(super) fn waiting(item: &Item) -> Result<Option<Self>, UnreadableItem> {
        let Ok(partition) = read_text(item, RECENT) else { return Ok(None) };
        Ok(Some(Self {
            partition: partition.to_owned(),
            window: Duration::from_secs(read_number(item, REPEAT_WINDOW)?),
            score: read_number(item, SCORE).ok(),
            rise: read_number(item, REPEAT_RISE)?,
        }))
    }
}

impl Last {
    fn read(item: &Item) -> Result<Self, UnreadableItem> {
        Ok(Self {
            id: read_text(item, ID)?.to_owned(),
            position: Position { epoch: read_number(item, EPOCH)?, seq: read_number(item, ALERT_SEQ)? },
            committed_at: Timestamp::from_millis(read_number(item, COMMITTED_AT)?),
            score: read_number(item, SCORE).ok(),
        })
    }

    /// Whether an item of the log is this alert, and has not been taken back.
    fn is(&self, item: &Item) -> Result<bool, UnreadableItem> {
        let is_it = matches!(logged(item)?, Logged::Alert(alert) if alert.id == self.id);
        Ok(is_it && read_number::<i64>(item, EPOCH)? == self.position.epoch)
    }
}

impl Alerts {
    /// The alert that keeps a publication from becoming the alert `id`, if there is one. A publication that has become
    /// an alert is not in its own way.
    pub(super) async fn standing(
        &self,
        region: &Region,
        repeat: Option<&Repeat>,
        id: &str,
    ) -> Result<Option<StandingAlert>, InternalError> {
        let doing = "looking for an earlier alert of a video";
        let failed = |error: UnreadableItem| InternalError::new(doing, error);
        let Some(repeat) = repeat else { return Ok(None) };
        let item = self.get(&repeat.partition, HEAD_SEQ, doing).await?;
        let Some(last) = item.as_ref().map(Last::read).transpose().map_err(failed)? else { return Ok(None) };
        if last.id == id || !repeat.is_stopped_by(&last, self.clock.now()) {
            return Ok(None);
        }
        let Last { position: Position { epoch, seq }, .. } = last;
        let alert = self.get(region.as_str(), seq, doing).await?;
        if !alert.as_ref().map(|alert| last.is(alert)).transpose().map_err(failed)?.unwrap_or_default() {
            self.free(&repeat.partition, &last.id).await?;
            return Ok(None);
        }
        Ok(Some(StandingAlert { id: last.id, region: region.to_string(), seq, epoch }))
    }

    /// Removes the item of a video whose last alert does not stand any more, unless another one has come meanwhile.
    async fn free(&self, partition: &str, id: &str) -> Result<(), InternalError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(REGION, text(partition))
            .key(SEQ, number(HEAD_SEQ))
            .condition_expression("id = :id")
            .expression_attribute_values(":id", text(id));
        match delete.send().await.map_err(SdkError::into_service_error) {
            Ok(_) | Err(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(error) => Err(InternalError::new("freeing a video whose alert was taken back", error)),
        }
    }
}
