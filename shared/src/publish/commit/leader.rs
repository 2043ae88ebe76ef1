//! The one that has the lease of a region commits for all that wait.

use tokio::time::Instant;

use super::{
    entry::Ticket,
    transaction::{AppendPlan, Cancelled, CommitAttempt, Group, Unfit, fitting},
};
use crate::{
    error::{ErrorChain, InternalError},
    limits::{COMMIT_BACKOFF_MAX, COMMIT_BACKOFF_MIN, LEAD_TIME, LEASE},
    model::audience::Region,
    runtime::backoff::Backoff,
    tables::alerts::{Alerts, LogHead},
};

/// How leading ended.
pub(super) enum Led {
    /// The queue was empty, or the time was up, or another one leads.
    Enough,
    /// The log would be one too many.
    TooManyRegions,
}

/// One that has the lease of a region, at its work.
pub(super) struct Leader<'a> {
    pub(super) alerts: &'a Alerts,
    pub(super) region: &'a Region,
    pub(super) holder: &'a str,
    /// Its own publications that are in the queue.
    pub(super) own: Vec<Ticket>,
    /// How many the last fan-out found, as an estimate.
    pub(super) audience: Option<u64>,
    /// The head, where it is known.
    pub(super) head: Option<Option<LogHead>>,
    /// Publications that the last attempt failed for.
    pub(super) set_aside: Vec<Ticket>,
    /// Those that an earlier alert of their video is in the way of. Each finds it, and leaves the queue, by itself.
    pub(super) passed_over: Vec<Ticket>,
    /// Whether it commits its own alone.
    pub(super) is_alone: bool,
}

impl Leader<'_> {
    /// Commits what waits, until the queue is empty, or its own are committed and its time is up. What goes wrong is
    /// found by those that wait, each for itself.
    pub(super) async fn lead(&mut self, stop_at: Instant) -> Led {
        let (began, mut leased_at) = (Instant::now(), Instant::now());
        let mut backoff = Backoff::new(COMMIT_BACKOFF_MIN, COMMIT_BACKOFF_MAX);
        while Instant::now() < stop_at && (!self.own.is_empty() || began.elapsed() < LEAD_TIME) {
            if leased_at.elapsed() > LEASE / 2 {
                match self.alerts.lease(self.region, self.holder).await {
                    Ok(true) => leased_at = Instant::now(),
                    _ => return Led::Enough,
                }
            }
            let (head, group) = match self.work().await {
                Ok((_, group)) if group.is_empty() => return Led::Enough,
                Ok(work) => work,
                Err(failure) => {
                    tracing::error!(
                        error = %ErrorChain(&failure), region = %self.region,
                        "waiting publications not read"
                    );
                    return Led::Enough;
                }
            };
            let plan = AppendPlan::of(self.region, head, &group, self.alerts.clock.now());
            match self.alerts.append(self.region, &plan, &group).await {
                CommitAttempt::Committed => {
                    self.committed(plan.head, &group).await;
                    backoff.reset();
                    continue;
                }
                CommitAttempt::Cancelled(cancelled) => {
                    self.set_aside(&cancelled, &group).await;
                    if cancelled.is_of_publications() {
                        self.head = Some(head);
                        continue;
                    }
                }
                CommitAttempt::TooManyRegions => return Led::TooManyRegions,
                CommitAttempt::Failed(failure) => {
                    tracing::error!(
                        error = %ErrorChain(&failure), region = %self.region,
                        "waiting publications not committed"
                    );
                    if self.is_alone {
                        return Led::Enough;
                    }
                    // One of the others may be to blame: its own shall not fail for it.
                    self.is_alone = true;
                }
                // If it was made, those that were in it are out of the queue.
                CommitAttempt::Lost(failure) => {
                    tracing::warn!(error = %ErrorChain(&failure), region = %self.region, "commit not answered");
                }
            }
            self.head = None;
            backoff.pause().await;
        }
        Led::Enough
    }

    /// The head of the region, and of those that wait as many as one transaction takes.
    async fn work(&self) -> Result<(Option<LogHead>, Group), InternalError> {
        let waiting = self.alerts.waiting(self.region, self.passed_over.len()).await?;
        let head = match self.head {
            Some(head) => head,
            None => self.alerts.front(self.region).await?.head,
        };
        let mut group: Group = Vec::new();
        for (ticket, entry) in waiting {
            // The second one with a key is a repeat of the first, when that is committed.
            let is_repeat = group.iter().any(|(_, other)| other.receipt() == entry.receipt());
            let is_others = self.is_alone && !self.own.contains(&ticket);
            if !is_repeat && !is_others && !self.set_aside.contains(&ticket) && !self.passed_over.contains(&ticket) {
                group.push((Some(ticket), entry));
            }
        }
        group.truncate(fitting(group.iter().map(|(_, entry)| entry), head));
        Ok((head, group))
    }

    async fn committed(&mut self, head: LogHead, group: &Group) {
        self.own.retain(|own| group.iter().all(|(ticket, _)| *ticket != Some(*own)));
        self.head = Some(Some(head));
        self.set_aside.clear();
        // Each that waited looks whether it is there, and records it where this fails.
        if let Err(failure) = self.alerts.record(self.region, head, self.audience).await {
            tracing::warn!(error = %ErrorChain(&failure), region = %self.region, "end of the log not recorded");
        }
    }

    /// Leaves out of the next attempt what the last one failed for, and takes out of the queue what will not become
    /// an alert.
    async fn set_aside(&mut self, cancelled: &Cancelled, group: &Group) {
        let unfit = cancelled.unfit.iter().filter_map(|(index, unfit)| Some((group[*index].0?, *unfit)));
        let unfit: Vec<_> = unfit.collect();
        self.own.retain(|own| unfit.iter().all(|(ticket, unfit)| ticket != own || *unfit == Unfit::Busy));
        let recent = unfit.iter().filter(|(_, unfit)| *unfit == Unfit::Recent).map(|(ticket, _)| *ticket);
        self.passed_over.extend(recent);
        self.set_aside.extend(unfit.iter().map(|(ticket, _)| *ticket));
        let repeats = unfit.iter().filter(|(_, unfit)| *unfit == Unfit::KeyInUse).map(|(ticket, _)| *ticket);
        self.alerts.discard(self.region, repeats).await;
    }
}
