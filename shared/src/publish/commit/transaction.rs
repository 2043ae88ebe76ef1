//! The transaction that appends publications to the log of a region, and why it was not made.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{
    config::{Builder, retry::RetryConfig},
    error::{BuildError, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, Delete, Put, TransactWriteItem, Update},
};
use clock::Timestamp;
use tokio::time::sleep;

use super::entry::{PendingPublication, Ticket};
use crate::{
    error::InternalError,
    limits::{ALERT_TTL, COMMIT_ATTEMPTS_MAX, COMMIT_BACKOFF_MAX, GROUP_BYTES_MAX, TRANSACTION_ACTIONS_MAX},
    model::{
        alert::{Format, Position},
        audience::Region,
    },
    runtime::backoff::jittered,
    tables::{
        alerts::{
            Alerts, LogHead,
            regions::registration,
            schema::{
                AT, COMMITTED_AT, EPOCH, EXPIRES_AT, HEAD_SEQ, ID, IS_UNDISPATCHED, REGION, SEQ, UNDISPATCHED, VIDEO,
                head_partition, queue_partition,
            },
        },
        dynamodb::{number, text},
    },
};

/// What one attempt to commit came to.
#[derive(Debug)]
pub(super) enum CommitAttempt {
    /// All are in the log, in their order, from the position after the head on.
    Committed,
    /// Nothing was written.
    Cancelled(Cancelled),
    /// Nothing was written: the log would be one too many.
    TooManyRegions,
    /// The answer did not come: it was written, or may still be, or will never be.
    Lost(InternalError),
    /// Nothing was written, and the next attempt would fail in the same way.
    Failed(InternalError),
}

/// Why a transaction was cancelled that may succeed in another form or at another moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cancelled {
    /// The head is not where it was seen.
    pub(super) head_moved: bool,
    /// The publications, by their index, that kept it from being made.
    pub(super) unfit: Vec<(usize, Unfit)>,
}

impl Cancelled {
    /// Whether only publications were in the way, and the others may be committed at once.
    pub(super) fn is_of_publications(&self) -> bool {
        !self.head_moved && !self.unfit.is_empty()
    }
}

/// Why a publication cannot be in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its idempotency key is in use.
    KeyInUse,
    /// An alert of the same video is in its way.
    Recent,
    /// It does not wait any more.
    Withdrawn,
    /// Something of it is in another transaction at this moment.
    Busy,
}

/// What an action of the transaction is about, in the order in which the reasons of a cancellation stand.
#[derive(Clone, Copy, Debug)]
enum TransactionItem {
    Head,
    Registry,
    Alert,
    Receipt(usize),
    Video(usize),
    Ticket(usize),
}

/// Most publications of one transaction, beside the head: each is an alert, a receipt, and its place in the queue.
pub(super) const GROUP_MAX: usize = (TRANSACTION_ACTIONS_MAX - 1) / 3;

/// Publications of one transaction, with their places in the queue where they wait.
pub(super) type Group = Vec<(Option<Ticket>, PendingPublication)>;

/// What appending a group to a log makes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendPlan {
    previous: Option<LogHead>,
    /// Where the first of the group comes.
    pub(super) first: Position,
    /// The head afterwards.
    pub(super) head: LogHead,
}

impl AppendPlan {
    /// Appending to a log with this head, or to one that begins now.
    pub(super) fn of(region: &Region, previous: Option<LogHead>, group: &Group, now: Timestamp) -> Self {
        let first = match previous {
            Some(LogHead { position: Position { epoch, seq }, .. }) => Position { epoch, seq: seq + 1 },
            None => Position { epoch: now.millis(), seq: 1 },
        };
        let position = Position { seq: first.seq + group.len() as u64 - 1, ..first };
        let bytes = |entry: &PendingPublication| entry.alert(region, position).frame(Format::ViralAlert).len();
        let largest = group.iter().map(|(_, entry)| bytes(entry)).max().unwrap_or_default();
        let largest_bytes = previous.map_or(0, |head| head.largest_bytes).max(largest);
        Self { previous, first, head: LogHead { position, committed_at: now, largest_bytes } }
    }

    /// The position of the last alert before.
    pub(super) fn previous(&self) -> Option<Position> {
        self.previous.map(|head| head.position)
    }

    /// Where the one at an index of the group comes.
    pub(super) fn position(&self, index: usize) -> Position {
        Position { seq: self.first.seq + index as u64, ..self.first }
    }
}

impl Alerts {
    /// Appends publications to the log of a region: head, alerts, receipts, items of videos, and the removal from the
    /// queue of those that wait, all or nothing.
    pub(super) async fn append(&self, region: &Region, plan: &AppendPlan, group: &Group) -> CommitAttempt {
        let (parts, actions) = match self.actions(region, plan, group) {
            Ok(actions) => actions.into_iter().unzip::<_, _, Vec<_>, Vec<_>>(),
            Err(failure) => return CommitAttempt::Failed(failure),
        };
        // Of several attempts with one token DynamoDB makes one transaction. The client's own attempts would hide
        // that one was lost, after which an error of the next one does not say that nothing was written.
        let token = uuid::Uuid::new_v4().to_string();
        let mut lost = None;
        for attempt in 0..COMMIT_ATTEMPTS_MAX {
            if attempt > 0 {
                sleep(jittered(COMMIT_BACKOFF_MAX)).await;
            }
            let transaction = self
                .client
                .transact_write_items()
                .set_transact_items(Some(actions.clone()))
                .client_request_token(&token);
            let ended = match transaction.customize().config_override(one_attempt()).send().await {
                Ok(_) => return CommitAttempt::Committed,
                Err(error) => ended(&parts, error),
            };
            match (ended, lost) {
                (CommitAttempt::Lost(failure), _) => lost = Some(failure),
                (_, Some(failure)) => return CommitAttempt::Lost(failure),
                (ended, None) => return ended,
            }
        }
        lost.map_or(CommitAttempt::Cancelled(Cancelled::default()), CommitAttempt::Lost)
    }

    fn actions(
        &self,
        region: &Region,
        plan: &AppendPlan,
        group: &Group,
    ) -> Result<Vec<(TransactionItem, TransactWriteItem)>, InternalError> {
        let failed = |error: BuildError| InternalError::new("building a transaction", error);
        let LogHead { position: last, committed_at: now, largest_bytes } = plan.head;
        let expires_at = number(now.after(ALERT_TTL).secs());

        let update = Update::builder()
            .table_name(&self.table)
            .key(REGION, text(head_partition(region)))
            .key(SEQ, number(HEAD_SEQ))
            .update_expression("SET epoch = :epoch, last_seq = :seq, committed_at = :now, largest_bytes = :largest")
            .expression_attribute_values(":epoch", number(last.epoch))
            .expression_attribute_values(":seq", number(last.seq))
            .expression_attribute_values(":now", number(now.millis()))
            .expression_attribute_values(":largest", number(largest_bytes));
        let update = match plan.previous {
            None => update.condition_expression("attribute_not_exists(last_seq)"),
            Some(previous) => update
                .condition_expression("last_seq = :previous AND epoch = :epoch")
                .expression_attribute_values(":previous", number(previous.position.seq)),
        };
        let mut actions =
            vec![(TransactionItem::Head, TransactWriteItem::builder().update(update.build().map_err(failed)?).build())];
        if plan.previous.is_none() && !region.is_canary() {
            let registration = registration(&self.table, region, self.regions_max).build().map_err(failed)?;
            actions.push((TransactionItem::Registry, TransactWriteItem::builder().update(registration).build()));
        }
        for (index, (ticket, entry)) in group.iter().enumerate() {
            let position = plan.position(index);
            let video = serde_json::to_string(&entry.video)
                .map_err(|error| InternalError::new("writing a video as JSON", error))?;
            let alert = Put::builder()
                .table_name(&self.table)
                .item(REGION, text(region.as_str()))
                .item(SEQ, number(position.seq))
                .item(EPOCH, number(position.epoch))
                .item(ID, text(&entry.id))
                .item(VIDEO, text(video))
                .item(AT, number(entry.at.millis()))
                .item(COMMITTED_AT, number(now.millis()))
                .item(UNDISPATCHED, text(IS_UNDISPATCHED))
                .item(EXPIRES_AT, expires_at.clone());
            actions.push((
                TransactionItem::Alert,
                TransactWriteItem::builder().put(alert.build().map_err(failed)?).build(),
            ));
            if ticket.is_some() || entry.key.is_some() {
                let receipt = Put::builder()
                    .table_name(&self.table)
                    .set_item(Some(entry.receipt_item(position)))
                    .item(REGION, text(entry.receipt()))
                    .item(SEQ, number(HEAD_SEQ))
                    .item(EXPIRES_AT, expires_at.clone())
                    // An expired key may still lie in the table for days; it counts as new.
                    .condition_expression("attribute_not_exists(alert_seq) OR expires_at < :now")
                    .expression_attribute_values(":now", number(now.secs()));
                let receipt = TransactWriteItem::builder().put(receipt.build().map_err(failed)?);
                actions.push((TransactionItem::Receipt(index), receipt.build()));
            }
            if let Some(repeat) = &entry.repeat {
                let video = repeat.put(&entry.id, position, now).table_name(&self.table);
                let video = video.item(EXPIRES_AT, expires_at.clone()).build().map_err(failed)?;
                actions.push((TransactionItem::Video(index), TransactWriteItem::builder().put(video).build()));
            }
            if let Some(ticket) = ticket {
                let waiting = Delete::builder()
                    .table_name(&self.table)
                    .key(REGION, text(queue_partition(region)))
                    .key(SEQ, ticket.seq())
                    .condition_expression("attribute_exists(id)");
                let waiting = TransactWriteItem::builder().delete(waiting.build().map_err(failed)?);
                actions.push((TransactionItem::Ticket(index), waiting.build()));
            }
        }
        Ok(actions)
    }
}

/// How many of these go into one transaction: at least one, so many that there are actions enough and that the
/// partition of the log takes them within a fraction of a second, and none whose video another one has whose window
/// counts, because the item of a video is written once in a transaction.
pub(super) fn fitting<'a>(entries: impl Iterator<Item = &'a PendingPublication>, head: Option<LogHead>) -> usize {
    // The head, and the registry of regions where the log begins.
    let mut actions = 1 + usize::from(head.is_none());
    let (mut bytes, mut videos) = (0, BTreeSet::new());
    let fit = entries.take_while(|entry| {
        actions += 3 + usize::from(entry.repeat.is_some());
        bytes += entry.bytes();
        let is_second = entry.repeat.as_ref().is_some_and(|repeat| !videos.insert(&repeat.partition));
        actions <= TRANSACTION_ACTIONS_MAX && bytes <= GROUP_BYTES_MAX && !is_second
    });
    fit.count().max(1)
}

/// A call without the attempts that the client makes by itself: they would hide that the answer to one of them was
/// lost.
pub(super) fn one_attempt() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

/// Whether a call may have been carried out although it was answered with an error, or not at all.
pub(super) fn is_lost<E>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
        SdkError::ServiceError(answered) => answered.raw().status().is_server_error(),
        _ => false,
    }
}

fn ended(parts: &[TransactionItem], error: SdkError<TransactWriteItemsError>) -> CommitAttempt {
    let doing = "committing an alert";
    let reasons = match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => {
            return CommitAttempt::Lost(InternalError::new(doing, error));
        }
        Some(TransactWriteItemsError::ProvisionedThroughputExceededException(_)) => {
            return CommitAttempt::Cancelled(Cancelled::default());
        }
        _ if is_lost(&error) => return CommitAttempt::Lost(InternalError::new(doing, error)),
        _ => return CommitAttempt::Failed(InternalError::new(doing, error)),
    };
    match judge(parts, reasons) {
        Some(attempt) => attempt,
        None => CommitAttempt::Failed(InternalError::new(doing, error)),
    }
}

/// What the reasons of a cancellation mean. None where one of them will not pass, or there are none.
fn judge(parts: &[TransactionItem], reasons: &[CancellationReason]) -> Option<CommitAttempt> {
    let mut cancelled = Cancelled::default();
    let mut may_pass = false;
    for (part, reason) in parts.iter().zip(reasons) {
        match (part, reason.code().unwrap_or("None")) {
            (_, "None") => continue,
            (TransactionItem::Registry, "ConditionalCheckFailed") => return Some(CommitAttempt::TooManyRegions),
            (TransactionItem::Receipt(index), "ConditionalCheckFailed") => {
                cancelled.unfit.push((*index, Unfit::KeyInUse))
            }
            (TransactionItem::Ticket(index), "ConditionalCheckFailed") => {
                cancelled.unfit.push((*index, Unfit::Withdrawn))
            }
            (TransactionItem::Video(index), "ConditionalCheckFailed") => cancelled.unfit.push((*index, Unfit::Recent)),
            (
                TransactionItem::Receipt(index) | TransactionItem::Video(index) | TransactionItem::Ticket(index),
                "TransactionConflict",
            ) => cancelled.unfit.push((*index, Unfit::Busy)),
            (_, "ConditionalCheckFailed" | "TransactionConflict") => cancelled.head_moved = true,
            // The client tries these again by itself for any other call, but not for a transaction.
            (_, "ThrottlingError" | "ProvisionedThroughputExceeded") => {}
            _ => return None,
        }
        may_pass = true;
    }
    may_pass.then_some(CommitAttempt::Cancelled(cancelled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{publication::Publication, repeat::RepeatRule};

    fn judged(codes: &[&str]) -> Option<CommitAttempt> {
        let parts = [
            TransactionItem::Head,
            TransactionItem::Registry,
            TransactionItem::Alert,
            TransactionItem::Receipt(0),
            TransactionItem::Ticket(0),
            TransactionItem::Alert,
            TransactionItem::Receipt(1),
            TransactionItem::Video(1),
        ];
        let reasons: Vec<_> = codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect();
        judge(&parts, &reasons)
    }

    fn cancelled(codes: &[&str]) -> Cancelled {
        match judged(codes) {
            Some(CommitAttempt::Cancelled(cancelled)) => cancelled,
            other => panic!("{codes:?}: {other:?}"),
        }
    }

    #[test]
    fn a_transaction_takes_33_publications_or_24_with_a_window_and_each_video_once() {
        let entry = |video: usize, window: u64| {
            let body = format!(r#"{{"video_id":"v{video}","title":"t","repeat_window":{window}}}"#);
            let publication = Publication::from_bytes(body.as_bytes()).expect("valid");
            PendingPublication::of(&publication, RepeatRule::NONE, Timestamp::from_millis(7))
        };
        let position = Position { epoch: 1, seq: 1 };
        let head = Some(LogHead { position, committed_at: Timestamp::from_millis(1), largest_bytes: 1 });
        let count = |entries: Vec<PendingPublication>, head| fitting(entries.iter(), head);
        let of = |window: u64| (0..40).map(|video| entry(video, window)).collect::<Vec<_>>();
        assert_eq!([count(of(0), head), count(of(0), None)], [33, 32]);
        assert_eq!([count(of(60), head), count(of(60), None)], [24, 24]);
        let twice = |window: u64| [1, 2, 1, 3].map(|video| entry(video, window)).to_vec();
        assert_eq!([count(twice(60), head), count(twice(0), head)], [2, 4]);
    }

    #[test]
    fn each_reason_of_a_cancellation_names_what_is_in_the_way() {
        let unfit = |unfit: &[_]| Cancelled { head_moved: false, unfit: unfit.to_vec() };
        let (none, failed, conflict) = ("None", "ConditionalCheckFailed", "TransactionConflict");
        assert_eq!(cancelled(&[none, none, none, failed, none, none, none, none]), unfit(&[(0, Unfit::KeyInUse)]));
        assert_eq!(
            cancelled(&[none, none, none, none, failed, none, conflict, none]),
            unfit(&[(0, Unfit::Withdrawn), (1, Unfit::Busy)])
        );
        assert_eq!(
            cancelled(&[none, none, none, none, none, none, failed, failed]),
            unfit(&[(1, Unfit::KeyInUse), (1, Unfit::Recent)])
        );
        assert_eq!(cancelled(&[none, none, none, none, none, none, none, conflict]), unfit(&[(1, Unfit::Busy)]));
        assert_eq!(cancelled(&["ThrottlingError", none, none, none, none, none, none]), Cancelled::default());
        for moved in [[failed, none, none, none, none, none, none], [none, conflict, none, none, none, none, none]] {
            assert_eq!(cancelled(&moved), Cancelled { head_moved: true, unfit: Vec::new() });
        }
        assert!(matches!(judged(&[none, failed]), Some(CommitAttempt::TooManyRegions)));
        assert!(judged(&[none, "ValidationError"]).is_none());
        assert!(judged(&[none, none]).is_none() && judged(&[]).is_none());
    }
}
