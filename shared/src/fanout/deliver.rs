//! Dividing a fan-out, and delivering one part of it.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use futures_util::future::try_join_all;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    error::{ErrorChain, InternalError},
    fanout::{
        concurrency_limit::ConcurrencyLimit,
        content::Content,
        frames::Frames,
        members::Survey,
        plan,
        post::Work,
        push_rate::PushRateLimiter,
        report::{FailedPart, FanoutReport},
        rounds::Left,
        services::{Fanout, Services},
        tally::{Tally, is_of_the_gateway},
        task::{FanoutPart, FanoutTask},
    },
    limits::{LOG_LOOK_TIMEOUT, RANGES_PER_TASK_MAX, REMOVALS_END_BEFORE},
    model::{
        alert::Alert,
        connection::{ConnectionId, SlotRange},
        member::AudiencePage,
    },
    push::Cause,
};

/// More posts failed because of the gateway than succeeded.
#[derive(Debug, thiserror::Error)]
#[error("more posts failed at the management API than succeeded: {0:?}")]
struct GatewayUnavailable(BTreeMap<Cause, u64>);

/// Returns whether the log no longer has an alert, so that it must not be delivered, by a look at it. If the log does
/// not answer, the alert is delivered: an alert is rarely taken back this early, and clients know what to do then.
pub async fn was_taken_back(look: impl Future<Output = Result<bool, InternalError>>, alert: &Alert) -> bool {
    let Alert { id, region, position, .. } = alert;
    match timeout(LOG_LOOK_TIMEOUT, look).await {
        Ok(Ok(true)) => return false,
        Ok(Ok(false)) => {
            tracing::info!(
                alert = id, %region, seq = position.seq,
                "alert not delivered: the log does not have it any more"
            );
            return true;
        }
        Ok(Err(failure)) => {
            tracing::warn!(error = %ErrorChain(&failure), alert = id, "alert delivered without a look at the log")
        }
        Err(_) => tracing::warn!(error = "no answer in time", alert = id, "alert delivered without a look at the log"),
    }
    false
}

impl<S: Services> Fanout<S> {
    /// Delivers to each connection that watches the region or all regions, once; to everyone if that reaches nobody and
    /// the fallback is on. The invocation ends at `deadline`.
    ///
    /// # Errors
    ///
    /// If the audience cannot be read, or if more posts fail because of the gateway than succeed. The error has the
    /// report of what was delivered until then.
    pub async fn deliver(&self, task: &FanoutTask, deadline: Instant) -> Result<FanoutReport, FailedPart> {
        let mut report = FanoutReport::default();
        if task.content.is_stale(self.clock.now()) {
            return Ok(report);
        }
        let look = async {
            match &task.content {
                Content::Alert(alert) => was_taken_back(self.services.has(alert), alert).await,
                Content::Removal(_) | Content::RoomMessage(_) => false,
            }
        };
        // The audience is read meanwhile: everybody waits for the first post.
        let survey = async {
            match &task.part {
                Some(_) => None,
                None => Some(self.survey(&task.content, false).await),
            }
        };
        let (was_taken_back, survey) = tokio::join!(look, survey);
        if was_taken_back {
            return Ok(report);
        }
        let ended = match (&task.part, survey) {
            (Some(part), _) => self.work(task, part, None, deadline, &mut report).await,
            (None, survey) => self.divide(task, survey, deadline, &mut report).await,
        };
        match ended {
            Ok(()) => {
                self.log(task, &report);
                Ok(report)
            }
            Err(failure) => Err(FailedPart { report: Box::new(report), failure }),
        }
    }

    fn log(&self, task: &FanoutTask, report: &FanoutReport) {
        // What is 0 or false is left out: most parts have nothing else to say than how many they sent.
        let some = |count: u64| (count > 0).then_some(count);
        let posts = |ms: f64| (report.sent > 0).then_some((ms * 10.0).round() / 10.0);
        tracing::info!(
            alert = task.content.id(),
            region = task.content.place(),
            seq = task.content.seq(),
            sent = report.sent,
            gone = some(report.gone),
            closed = some(report.closed),
            undelivered = (!report.undelivered.is_empty()).then(|| tracing::field::debug(&report.undelivered)),
            throttled = some(report.throttled),
            retried = some(report.retried),
            workers = some(report.workers as u64),
            handed_over = report.handed_over.then_some(true),
            fell_back = report.fell_back.then_some(true),
            post_p50_ms = posts(report.post_p50_ms),
            post_p99_ms = posts(report.post_p99_ms),
            lag_ms = report.lag_ms,
            "alert delivered"
        );
    }

    /// Divides the fan-out, of whose audience this is known, and keeps one part.
    async fn divide(
        &self,
        task: &FanoutTask,
        mut surveyed: Option<Result<Survey, InternalError>>,
        deadline: Instant,
        report: &mut FanoutReport,
    ) -> Result<(), InternalError> {
        for everyone in [false, true] {
            let survey = match surveyed.take() {
                Some(survey) => survey?,
                None => self.survey(&task.content, everyone).await?,
            };
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
            let mut parts = ranges.into_iter().map(|ranges| FanoutPart { ranges, rate, everyone, events: false });
            let Some(own) = parts.next() else { continue };
            // The first part begins with the members that were read already.
            let read = read.and(own.ranges.first()).map(|range| survey.members(*range));
            let others: Vec<FanoutTask> = parts.map(|part| task.followed_by(part)).collect::<Result<_, _>>()?;
            try_join_all(others.iter().map(|other| self.services.start(other))).await?;
            match self.work(task, &own, read, deadline, report).await {
                // A retry of this invocation would start the other workers once more.
                Err(failure) if !others.is_empty() => {
                    tracing::error!(
                        error = %ErrorChain(&failure),
                        "own part of a fan-out failed, another invocation repeats it"
                    );
                    self.services.start(&task.followed_by(own)?).await?;
                    report.handed_over = true;
                }
                ended => ended?,
            }
            // If only items of connections long gone were left, nobody was reached.
            let reached_nobody = others.is_empty() && report.sent == 0 && report.undelivered.is_empty();
            // A removal is sent only as `viral_alert`. If it reached nobody, all connections may receive
            // `new_trending`, so it does not fall back to everyone.
            let last_chance = last_chance || task.content.is_for_viral_alert_alone();
            if reached_nobody && !report.handed_over && !last_chance {
                continue;
            }
            (report.workers, report.fell_back, report.audience) = (others.len(), everyone, Some(estimate));
            break;
        }
        Ok(())
    }

    /// Delivers one part. `read` has the members of its first range if they were read already. Adds the counts to
    /// `report`, also if it fails.
    async fn work(
        &self,
        task: &FanoutTask,
        part: &FanoutPart,
        read: Option<[AudiencePage; 2]>,
        deadline: Instant,
        report: &mut FanoutReport,
    ) -> Result<(), InternalError> {
        let frames = Frames::of(&task.content, part.everyone);
        let (rate_limiter, concurrency) = (PushRateLimiter::new(part.rate), ConcurrencyLimit::default());
        let has_sent = AtomicBool::new(false);
        let work =
            Work { fanout: self, rate_limiter: &rate_limiter, concurrency: &concurrency, frames: &frames, has_sent };
        let mut tally = Tally::of(report, &self.clock, task.redriven_at.unwrap_or(task.dispatched_at));
        let ended = work.reach(self.members(&task.content, part, read), deadline, &mut tally).await;
        let to_remove = tally.end();
        let left = ended?;
        // This comes before the rest is handed over: Lambda's retry delivers the whole part, and would hand it over
        // again.
        if is_of_the_gateway(&report.undelivered, report.sent) {
            return Err(InternalError::new("posting an alert", GatewayUnavailable(report.undelivered.clone())));
        }
        report.handed_over = self.hand_over(task, part, &left).await?;
        self.remove(to_remove, deadline).await;
        Ok(())
    }

    /// Hands over what is left to another invocation, or to several if there are many suspects. Returns whether
    /// anything was left.
    async fn hand_over(&self, task: &FanoutTask, part: &FanoutPart, left: &Left) -> Result<bool, InternalError> {
        let rest = left.from.map(|from| plan::rest(&part.ranges, from)).unwrap_or_default();
        // A range of one hash stands for one connection, if that is still subscribed.
        let suspects = left.suspects.iter().map(|&hash| SlotRange { first: hash, last: hash });
        let ranges: Vec<SlotRange> = rest.into_iter().chain(suspects).collect();
        let parts = ranges.chunks(RANGES_PER_TASK_MAX);
        let rate = part.rate / parts.len().max(1) as f64;
        let tasks = parts.map(|ranges| task.followed_by(FanoutPart { ranges: ranges.to_vec(), rate, ..*part }));
        let tasks: Vec<FanoutTask> = tasks.collect::<Result<_, _>>()?;
        try_join_all(tasks.iter().map(|task| self.services.start(task))).await?;
        Ok(!tasks.is_empty())
    }

    /// Removes the items of connections that are gone and closed. The next alert finds those that remain; they also
    /// expire.
    async fn remove(&self, connections: Vec<ConnectionId>, deadline: Instant) {
        if connections.is_empty() {
            return;
        }
        let end = deadline.checked_sub(REMOVALS_END_BEFORE).unwrap_or(deadline);
        match timeout_at(end, self.services.remove(connections)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(error = %ErrorChain(&failure), "gone connections not removed"),
            Err(_) => tracing::warn!("gone connections not removed: the time is up"),
        }
    }
}
