//! Delivering one alert, that one was taken back, or what is said in a room, to everyone who shall have it, however many they are.
//!
//! The first invocation reads the first page of the audience, judges its size by it, and hands parts of the ring of slots to
//! further invocations of the same function. Each keeps to its share of the push rate, and hands over what it has not
//! reached when its own time runs out.

mod concurrency_limit;
mod content;
mod latencies;
mod members;
mod plan;
mod post;
mod push_rate;
mod rounds;
mod suspects;
mod union;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use clock::{Clock, Timestamp};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};

pub use self::content::Content;
use self::{
    concurrency_limit::Lanes,
    post::{Frames, Tally, Work, is_of_the_gateway},
    push_rate::Pace,
    rounds::Left,
};
use crate::{
    error::{Chain, Failure},
    limits::{CHAIN_MAX, LOG_LOOK_TIMEOUT, RANGES_PER_TASK_MAX, REMOVALS_END_BEFORE},
    model::{
        alert::Alert,
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
    },
    push::{Answer, Cause, Existence, Frame},
    tables::subscriptions::Page,
};

/// What one invocation of deliver does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What is delivered.
    #[serde(flatten)]
    pub content: Content,
    /// When the fan-out was started: of an alert, right after the commit.
    pub dispatched_at: Timestamp,
    /// Its part of the fan-out. None for the invocation that divides it.
    #[serde(default)]
    pub part: Option<Part>,
    /// Invocations of this function before it in the chain that led to it.
    #[serde(default)]
    pub chain: u32,
    /// When it was taken out of the queue of what failed for good, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
}

/// A part of a fan-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which slots, in the order in which they are reached.
    pub ranges: Vec<SlotRange>,
    /// Calls of the management API per second that it may make.
    pub rate: f64,
    /// Whether it goes to everyone, instead of to those who watch the region or all regions.
    pub everyone: bool,
}

/// How a part of a fan-out ended, in numbers of connections where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The gateway took the alert.
    pub sent: u64,
    /// The connection does not exist any more, as three answers in a row agreed.
    pub gone: u64,
    /// Of those that are gone, how many were there when they were closed after it. Their clients see their sockets
    /// close, and come back.
    pub closed: u64,
    /// The alert did not arrive, by cause. These clients find the gap by its position.
    pub undelivered: BTreeMap<Cause, u64>,
    /// Answers that the rate, or a client's buffer, was exhausted.
    pub throttled: u64,
    /// Posts that were repeated, for any reason.
    pub retried: u64,
    /// Further invocations that were started to share the work.
    pub workers: usize,
    /// Whether the rest was handed over to another invocation because the time ran out.
    pub handed_over: bool,
    /// Whether the alert went to everyone, because nobody watched its region.
    pub fell_back: bool,
    /// How many are in the audience, as estimated by the invocation that divides it; None of a part.
    pub audience: Option<u64>,
    /// Half of the posts took at most so long, in milliseconds.
    pub post_p50_ms: f64,
    /// All but one in a hundred took at most so long, in milliseconds.
    pub post_p99_ms: f64,
    /// Time from the dispatch to the last push of this part, in milliseconds.
    pub lag_ms: u64,
}

/// A part of a fan-out that failed.
#[derive(Debug)]
pub struct Failed {
    /// What it did until then. Posts that were under way are in none of its numbers.
    pub report: Box<Report>,
    /// Why.
    pub failure: Failure,
}

/// What a fan-out needs of the world. A simulation stands in for it.
pub trait Services: Send + Sync + 'static {
    /// Whether the log has an alert still.
    fn has(&self, alert: &Alert) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// One page of an audience within a range, after a slot or from the beginning.
    fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> impl Future<Output = Result<Page, Failure>> + Send;

    /// One attempt of a post.
    fn post(&self, connection: &ConnectionId, frame: &Frame) -> impl Future<Output = Answer> + Send;

    /// A question about a connection that was said to be gone.
    fn look(&self, connection: &ConnectionId) -> impl Future<Output = Existence> + Send;

    /// Closes a connection that counts as gone, and says whether it was there.
    fn close(&self, connection: &ConnectionId) -> impl Future<Output = Existence> + Send;

    /// Removes every trace of connections.
    fn remove(&self, connections: Vec<ConnectionId>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Starts another invocation of deliver.
    fn start(&self, task: &Task) -> impl Future<Output = Result<(), Failure>> + Send;

    /// A random number from 0 to 1, by which pauses are spread.
    fn random(&self) -> f64;
}

/// Delivers what there is to tell.
#[derive(Debug)]
pub struct Fanout<S> {
    /// How the world is reached.
    pub services: Arc<S>,
    /// Calls of the management API per second that all fan-outs together may make.
    pub push_rate: f64,
    /// Posts per second that one worker is expected to make.
    pub worker_rate: f64,
    /// Connections said to be gone that wait until all others have had their post, at most.
    pub suspects_max: usize,
    /// Whether an alert that nobody watches goes to everyone.
    pub fallback_to_everyone: bool,
    /// Tells the age of subscriptions.
    pub clock: Clock,
}

/// The gateway refuses this deployment's calls.
#[derive(Debug, thiserror::Error)]
#[error(
    "the management API refuses posts: the endpoint lacks its stage or names another API, \
     or the function may not execute-api:ManageConnections"
)]
struct Refused;

/// Most posts did not succeed, and it was not for the connections.
#[derive(Debug, thiserror::Error)]
#[error("the management API did not take most of the posts: {0:?}")]
struct Unavailable(BTreeMap<Cause, u64>);

/// Lambda would take the next invocation for a loop.
#[derive(Debug, thiserror::Error)]
#[error("{CHAIN_MAX} invocations in a row did not reach everyone; the push rate is too low for this audience")]
struct ChainTooLong;

impl<S: Services> Fanout<S> {
    /// Delivers to the region and to those who watch all regions, each connection once; to everyone where that reaches
    /// nobody and the fallback is on. `until` is when the invocation ends. Fails when the audience cannot be read, and when
    /// the gateway refuses all posts.
    pub async fn deliver(&self, task: &Task, until: Instant) -> Result<Report, Failed> {
        let mut report = Report::default();
        if task.content.is_stale(self.clock.now()) || self.was_taken_back(&task.content).await {
            return Ok(report);
        }
        let ended = match &task.part {
            Some(part) => self.work(task, part, None, until, &mut report).await,
            None => self.divide(task, until, &mut report).await,
        };
        match ended {
            Ok(()) => {
                self.log(task, &report);
                Ok(report)
            }
            Err(failure) => Err(Failed { report: Box::new(report), failure }),
        }
    }

    /// Whether an alert is not to be delivered any more. Where the log cannot be asked just now it is: that one was taken back between
    /// its commit and this moment is rare, and clients know what to do with it.
    async fn was_taken_back(&self, content: &Content) -> bool {
        let Content::Alert(alert) = content else { return false };
        let Alert { id, region, position, .. } = alert;
        match timeout(LOG_LOOK_TIMEOUT, self.services.has(alert)).await {
            Ok(Ok(true)) => return false,
            Ok(Ok(false)) => {
                tracing::info!(alert = id, %region, seq = position.seq, "alert not delivered: the log does not have it any more");
                return true;
            }
            Ok(Err(failure)) => {
                tracing::warn!(error = %Chain(&failure), alert = id, "alert delivered without a look at the log")
            }
            Err(_) => {
                tracing::warn!(error = "no answer in time", alert = id, "alert delivered without a look at the log")
            }
        }
        false
    }

    fn log(&self, task: &Task, report: &Report) {
        tracing::info!(
            alert = task.content.id(),
            region = task.content.place(),
            seq = task.content.seq(),
            sent = report.sent,
            gone = report.gone,
            closed = report.closed,
            undelivered = ?report.undelivered,
            throttled = report.throttled,
            retried = report.retried,
            workers = report.workers,
            handed_over = report.handed_over,
            fell_back = report.fell_back,
            post_p50_ms = report.post_p50_ms,
            post_p99_ms = report.post_p99_ms,
            lag_ms = report.lag_ms,
            "alert delivered"
        );
    }

    /// Divides the fan-out and keeps one part.
    async fn divide(&self, task: &Task, until: Instant, report: &mut Report) -> Result<(), Failure> {
        for everyone in [false, true] {
            let survey = self.survey(&task.content, everyone).await?;
            let last_chance = everyone || !self.fallback_to_everyone || !task.content.is_for_all();
            if survey.estimate == 0 && !last_chance {
                continue;
            }
            let push_rate = task.content.rate(self.push_rate);
            let workers = plan::workers(survey.estimate, push_rate, self.worker_rate);
            let rate = plan::share(push_rate, workers);
            let (estimate, read) = (survey.estimate, survey.range());
            let is_whole = read == Some(SlotRange::WHOLE);
            let order = plan::order(read, task.content.start());
            let ranges = plan::split(&order, if is_whole { 1 } else { workers });
            let mut parts = ranges.into_iter().map(|ranges| Part { ranges, rate, everyone });
            let Some(own) = parts.next() else { continue };
            // Its own part begins with what it has read.
            let read = read.and(own.ranges.first()).map(|range| survey.members(*range));
            let others: Vec<Task> = parts.map(|part| task.followed_by(part)).collect::<Result<_, _>>()?;
            try_join_all(others.iter().map(|other| self.services.start(other))).await?;
            match self.work(task, &own, read, until, report).await {
                // The next attempt of this invocation would start the others once more.
                Err(failure) if !others.is_empty() => {
                    tracing::error!(error = %Chain(&failure), "own part of a fan-out failed, another invocation repeats it");
                    self.services.start(&task.followed_by(own)?).await?;
                    report.handed_over = true;
                }
                ended => ended?,
            }
            // Items that are left of connections long gone are no audience.
            let reached_nobody = others.is_empty() && report.sent == 0 && report.undelivered.is_empty();
            // Those who are there may all receive another form.
            let last_chance = last_chance || task.content.is_for_viral_alert_alone();
            if reached_nobody && !report.handed_over && !last_chance {
                continue;
            }
            (report.workers, report.fell_back, report.audience) = (others.len(), everyone, Some(estimate));
            break;
        }
        Ok(())
    }

    /// Delivers to one part, of whose first range the members may be read already. Adds to `report` what became of it, also
    /// where that is a failure.
    async fn work(
        &self,
        task: &Task,
        part: &Part,
        read: Option<[Page; 2]>,
        until: Instant,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let frames = Frames::of(&task.content, part.everyone);
        let (pace, lanes) = (Pace::new(part.rate), Lanes::default());
        let has_sent = AtomicBool::new(false);
        let work = Work { fanout: self, pace: &pace, lanes: &lanes, frames: &frames, has_sent };
        let mut tally = Tally::of(report, &self.clock, task.redriven_at.unwrap_or(task.dispatched_at));
        let ended = work.reach(self.members(&task.content, part, read), until, &mut tally).await;
        let to_remove = tally.end();
        let left = ended?;
        // Before the rest is handed over: the next attempt of Lambda goes through all of it, and would hand it over again.
        if is_of_the_gateway(&report.undelivered, report.sent) {
            return Err(Failure::new("posting an alert", Unavailable(report.undelivered.clone())));
        }
        report.handed_over = self.hand_over(task, part, &left).await?;
        self.remove(to_remove, until).await;
        Ok(())
    }

    /// Hands over what is left to another invocation, or to a few where suspects are so many. Returns whether anything
    /// is.
    async fn hand_over(&self, task: &Task, part: &Part, left: &Left) -> Result<bool, Failure> {
        let rest = left.from.map(|from| plan::rest(&part.ranges, from)).unwrap_or_default();
        // Whoever is still subscribed under the hash gets it: a range of one is as good as a name.
        let suspects = left.suspects.iter().map(|&hash| SlotRange { first: hash, last: hash });
        let ranges: Vec<SlotRange> = rest.into_iter().chain(suspects).collect();
        let parts = ranges.chunks(RANGES_PER_TASK_MAX);
        let rate = part.rate / parts.len().max(1) as f64;
        let tasks = parts.map(|ranges| task.followed_by(Part { ranges: ranges.to_vec(), rate, ..*part }));
        let tasks: Vec<Task> = tasks.collect::<Result<_, _>>()?;
        try_join_all(tasks.iter().map(|task| self.services.start(task))).await?;
        Ok(!tasks.is_empty())
    }

    /// Removes what is left of connections that are gone and closed. What stays behind is found by the next alert, and
    /// expires in any case.
    async fn remove(&self, connections: Vec<ConnectionId>, until: Instant) {
        if connections.is_empty() {
            return;
        }
        let end = until.checked_sub(REMOVALS_END_BEFORE).unwrap_or(until);
        match timeout_at(end, self.services.remove(connections)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(error = %Chain(&failure), "gone connections not removed"),
            Err(_) => tracing::warn!("gone connections not removed: the time is up"),
        }
    }
}

impl Task {
    /// The task that shares this one's work, or goes on with it.
    fn followed_by(&self, part: Part) -> Result<Self, Failure> {
        let chain = self.chain + 1;
        if chain >= CHAIN_MAX {
            return Err(Failure::new("handing over the rest of a fan-out", ChainTooLong));
        }
        Ok(Self { part: Some(part), chain, ..self.clone() })
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
