//! Reading the log of alerts for clients. What lies where is in the catalogue of [`crate::tables::alerts`]. Every read
//! is consistent, and a log is read up to where the snapshot says that it stands: those alerts were committed before
//! the snapshot named them.

use std::collections::VecDeque;

use aws_sdk_dynamodb::{Client, operation::query::QueryOutput};
use clock::Clock;
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    error::InternalError,
    limits::REMOVED_ITEM_BYTES_MAX,
    model::{alert::Logged, audience::Region, position::Span},
    runtime::{environment::Reader, function::StartContext},
    tables::{
        alerts::{
            logged,
            schema::{REGION, TABLE_VARIABLE},
            snapshot::Snapshot,
        },
        dynamodb::{Item, number, text},
    },
};

/// From which end of a span alerts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Oldest,
    /// The newest first; what is found is ascending all the same.
    Newest,
}

/// Alerts to read of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub region: Region,
    pub span: Span,
    /// The most alerts to read, at least 1.
    pub count: usize,
    /// How large one of them may be, as the snapshot says.
    pub largest_bytes: usize,
}

/// What may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of alerts, as `viral_alert` frames, and of what is left of some.
    pub bytes: usize,
    /// The most queries that run at once. A query that does not complete its log uses one up for good.
    pub reads: usize,
}

/// What was read of one log.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub region: Region,
    /// The alerts, ascending, with what is left of those that were taken back: from the oldest on without a hole, or
    /// the newest that are there. Fewer than were wanted if the budget was used up.
    pub alerts: Vec<Logged>,
    /// Whether the log lacks the next alert, because it has expired. Only if the oldest were wanted.
    pub hole: bool,
}

/// A log that is being read.
struct LogRead {
    wanted: Wanted,
    alerts: VecDeque<Logged>,
    hole: bool,
}

impl LogRead {
    fn missing(&self) -> usize {
        self.wanted.count - self.alerts.len()
    }

    /// What of the span has not been read.
    fn rest(&self, end: End) -> Span {
        let span = self.wanted.span;
        match (end, self.alerts.front(), self.alerts.back()) {
            (End::Oldest, _, Some(last)) => Span { first: last.position().seq + 1, ..span },
            (End::Newest, Some(first), _) => Span { last: first.position().seq - 1, ..span },
            (_, None, _) | (End::Oldest, _, None) => span,
        }
    }

    /// Adds what a query for `limit` alerts found. It may have ended early only where DynamoDB says that more follows.
    fn take(&mut self, limit: usize, end: End, page: QueryPage) {
        let complete = page.alerts.len() == limit || (!page.whole && !page.alerts.is_empty());
        match end {
            End::Oldest => {
                self.hole = !complete || !self.rest(end).begins_with(&page.alerts);
                if !self.hole {
                    self.alerts.extend(page.alerts);
                }
            }
            End::Newest => {
                page.alerts.into_iter().rev().for_each(|alert| self.alerts.push_front(alert));
                let first = self.alerts.front().map(|alert| alert.position().seq);
                if !complete || first <= Some(self.wanted.span.first) {
                    self.wanted.count = self.alerts.len();
                }
            }
        }
    }

    fn found(self) -> Found {
        Found { region: self.wanted.region, alerts: self.alerts.into(), hole: self.hole }
    }
}

/// Some alerts of a log, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
struct QueryPage {
    /// The alerts that are there.
    alerts: Vec<Logged>,
    /// Whether these are all that were asked for. One answer of DynamoDB holds 1 MB.
    whole: bool,
}

/// Access to the alerts table, for reading.
#[derive(Clone, Debug)]
pub struct History {
    client: Client,
    table: String,
    /// Where the logs stand.
    pub(crate) snapshot: Snapshot,
    pub(crate) clock: Clock,
}

impl History {
    /// The table that the function's environment names.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        let table = environment.required(TABLE_VARIABLE);
        Self::new(Client::new(&start.sdk), table, start.clock.clone())
    }

    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { snapshot: Snapshot::new(client.clone(), table.clone()), client, table, clock }
    }

    /// Reads alerts of several logs within a budget. Logs are read concurrently while all wanted alerts are certain to
    /// fit, by their largest size. A log that may not fit is read alone, in several queries. The results are in any
    /// order.
    pub async fn read(&self, wanted: Vec<Wanted>, end: End, budget: Budget) -> Result<Vec<Found>, InternalError> {
        let task = |wanted| LogRead { wanted, alerts: VecDeque::new(), hole: false };
        let mut queue: VecDeque<LogRead> = wanted.into_iter().map(task).collect();
        let mut done = Vec::new();
        let Budget { mut bytes, mut reads } = budget;
        let mut running = FuturesUnordered::new();
        loop {
            while let Some(task) = queue.pop_front() {
                let limit = task.missing().min(bytes / task.wanted.largest_bytes.max(1));
                if reads == 0 || (limit < task.missing() && !running.is_empty()) {
                    queue.push_front(task);
                    break;
                }
                if limit == 0 {
                    done.push(task);
                    continue;
                }
                let reserved = limit * task.wanted.largest_bytes;
                (bytes, reads) = (bytes - reserved, reads - 1);
                running.push(async move {
                    let page = self.page(&task.wanted.region, task.rest(end), limit, end).await?;
                    Ok::<_, InternalError>((task, limit, reserved, page))
                });
            }
            let Some(read) = running.next().await else { break };
            let (mut task, limit, reserved, page) = read?;
            bytes = (bytes + reserved).saturating_sub(page.alerts.iter().map(frame_bytes).sum());
            task.take(limit, end, page);
            if task.hole {
                done.push(task);
            } else if task.missing() == 0 {
                reads += 1;
                done.push(task);
            } else {
                queue.push_front(task);
            }
        }
        done.extend(queue);
        Ok(done.into_iter().map(LogRead::found).collect())
    }

    /// Up to `limit` alerts of a span, from one end of it.
    async fn page(&self, region: &Region, span: Span, limit: usize, end: End) -> Result<QueryPage, InternalError> {
        let output = self.query(region, span, limit, end).await?;
        let mut alerts: Vec<Logged> = output.items().iter().filter_map(readable).collect();
        if end == End::Newest {
            alerts.reverse();
        }
        Ok(QueryPage { alerts, whole: output.items().len() >= limit || output.last_evaluated_key.is_none() })
    }

    async fn query(&self, region: &Region, span: Span, limit: usize, end: End) -> Result<QueryOutput, InternalError> {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("#region = :region AND seq BETWEEN :first AND :last")
            .expression_attribute_names("#region", REGION)
            .expression_attribute_values(":region", text(region.as_str()))
            .expression_attribute_values(":first", number(span.first))
            .expression_attribute_values(":last", number(span.last))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .scan_index_forward(end == End::Oldest)
            .send()
            .await
            .map_err(|error| InternalError::new("reading alerts of a region", error))
    }
}

/// Bytes of an alert as `viral_alert` frame with what separates it from the next, which is more than those of its item;
/// of one that was taken back, those of its item.
pub(crate) fn frame_bytes(logged: &Logged) -> usize {
    let bytes = logged.frame().len() + 1;
    if logged.removal().is_some() { bytes.max(REMOVED_ITEM_BYTES_MAX) } else { bytes }
}

/// An alert that cannot be read counts as missing: its region is not recovered, others are.
fn readable(item: &Item) -> Option<Logged> {
    logged(item).inspect_err(|error| tracing::error!(%error, ?item, "alert skipped")).ok()
}

#[cfg(test)]
mod tests;
