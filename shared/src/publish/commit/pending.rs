//! Publications of one region on their way to its log: alone, in the queue, and as repeats of others.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    entry::{PendingPublication, Receipt, Ticket},
    leader::{Leader, Led},
    outcome::{Commit, CommitOutcome, Committed},
    queue::Changed,
    recent::{Look, StandingAlert},
    transaction::{AppendPlan, Cancelled, CommitAttempt, Unfit, fitting},
};
use crate::{
    error::{ApiError, ErrorChain, InternalError},
    limits::{LOST_LOOK_PAUSE, LOST_LOOKS_MAX, QUEUE_END_BEFORE, QUEUE_LOOK_MAX, QUEUE_LOOK_MIN},
    model::{alert::Position, audience::Region},
    runtime::backoff::Backoff,
    tables::alerts::{Alerts, LogFront, LogHead},
};

/// A publication waited in the queue until its deadline, and was withdrawn.
#[derive(Debug, thiserror::Error)]
#[error("the publication waited in the queue of {0} until the deadline and was withdrawn")]
struct CommitQueueTimeout(Region);

/// Of two publications with one key in one request, the first was not committed.
#[derive(Debug, thiserror::Error)]
#[error("the publication before it with the same idempotency key was not committed")]
struct FirstFailed;

/// Publications of one region on their way, and what became of those that have arrived.
pub(super) struct Pending<'a> {
    alerts: &'a Alerts,
    region: &'a Region,
    front: LogFront,
    /// Those that have not arrived, with their index, in order.
    open: Vec<(usize, PendingPublication)>,
    /// Those whose key is in use, by one of these publications or by an earlier one.
    repeats: Vec<(usize, PendingPublication)>,
    /// The index of the first publication with each key.
    firsts: BTreeMap<String, usize>,
    /// The head after what was committed directly.
    made: Option<LogHead>,
    arrived: Vec<(usize, Commit)>,
}

/// A publication in the queue.
struct Waiting {
    index: usize,
    ticket: Ticket,
    entry: PendingPublication,
    /// Whether it is known to have arrived in the queue.
    is_queued: bool,
}

impl<'a> Pending<'a> {
    /// Without publications.
    pub(super) fn new(alerts: &'a Alerts, region: &'a Region, front: LogFront) -> Self {
        Self {
            alerts,
            region,
            front,
            open: Vec::new(),
            repeats: Vec::new(),
            firsts: BTreeMap::new(),
            made: None,
            arrived: Vec::new(),
        }
    }

    /// What became of all, in their order.
    pub(super) fn results(mut self) -> Vec<Commit> {
        self.arrived.sort_by_key(|(index, _)| *index);
        self.arrived.into_iter().map(|(_, commit)| commit).collect()
    }

    fn arrive(&mut self, index: usize, entry: &PendingPublication, position: Position) {
        let committed = Committed::new(entry.alert(self.region, position), self.front.audience);
        self.arrived.push((index, Ok(Ok(CommitOutcome::Committed(committed)))));
    }

    fn stands(&mut self, index: usize, standing: StandingAlert) {
        self.arrived.push((index, Ok(Ok(CommitOutcome::RecentlyAlerted(standing)))));
    }

    /// The same result for all that are open.
    fn end(&mut self, commit: &Commit) {
        self.arrived.extend(self.open.drain(..).map(|(index, _)| (index, commit.clone())));
    }

    /// Commits as one that is alone, until it meets another one. What is left open then has to wait.
    pub(super) async fn directly(&mut self) {
        let mut head = self.made.or(self.front.head);
        while !self.open.is_empty() {
            let sizes = self.open.iter().map(|(_, entry)| entry);
            let group: Vec<_> =
                self.open[..fitting(sizes, head)].iter().map(|(_, entry)| (None, entry.clone())).collect();
            let plan = AppendPlan::of(self.region, head, &group, self.alerts.clock.now());
            match self.alerts.append(self.region, &plan, &group).await {
                CommitAttempt::Committed => {}
                CommitAttempt::Cancelled(cancelled) => {
                    let is_settled = self.set_unfit_aside(&cancelled).await;
                    if cancelled.is_of_publications() && is_settled {
                        continue;
                    }
                    return;
                }
                CommitAttempt::TooManyRegions => return self.end(&Ok(Err(ApiError::too_many_regions()))),
                CommitAttempt::Failed(failure) => return self.end(&Err(failure)),
                CommitAttempt::Lost(failure) => {
                    tracing::warn!(error = %ErrorChain(&failure), region = %self.region, "commit not answered");
                    match self.alerts.was_made(self.region, &plan, &group[0].1.id).await {
                        Some(true) => {}
                        Some(false) => return,
                        None => return self.end(&Ok(Err(ApiError::outcome_unknown()))),
                    }
                }
            }
            let made: Vec<_> = self.open.drain(..group.len()).collect();
            for (offset, (index, entry)) in made.into_iter().enumerate() {
                self.arrive(index, &entry, plan.position(offset));
            }
            head = Some(plan.head);
            self.made = head;
        }
    }

    /// Takes publications in. Of those with one key the first is open, and the others are its repeats: two with one
    /// key cannot be in one transaction. One that an earlier alert is in the way of, as these looks have found, has
    /// arrived, unless its key is in use, which counts first: it may be the key of that very alert.
    pub(super) async fn take(&mut self, entries: Vec<(usize, PendingPublication)>, looks: Vec<Look>) {
        let now = self.alerts.clock.now();
        let mut videos = BTreeSet::new();
        for ((index, entry), look) in entries.into_iter().zip(looks) {
            let first = entry.key.clone().map(|key| *self.firsts.entry(key).or_insert(index));
            if first.is_some_and(|first| first != index) {
                self.repeats.push((index, entry));
                continue;
            }
            let is_second = entry.repeat.as_ref().is_some_and(|repeat| !videos.insert(repeat.partition.clone()));
            let standing = match look {
                // What stands once the one before it is committed, the transaction finds.
                Ok(_) if is_second => None,
                Ok(standing) => standing,
                // As what could not be read.
                Err(failure) => {
                    tracing::warn!(
                        error = %ErrorChain(&failure), region = %self.region,
                        "recent alert of a video not read"
                    );
                    None
                }
            };
            let receipt = match (&standing, &entry.key) {
                (Some(_), Some(key)) => self.alerts.receipt(key).await,
                _ => Ok(None),
            };
            match (standing, receipt) {
                (Some(_), Ok(Some(receipt))) if receipt.is_in_use(now) => self.repeats.push((index, entry)),
                (Some(standing), Ok(_)) => self.stands(index, standing),
                (None, _) | (_, Err(_)) => self.open.push((index, entry)),
            }
        }
    }

    /// Takes out what kept a transaction from being made. False where something of that has to wait.
    async fn set_unfit_aside(&mut self, cancelled: &Cancelled) -> bool {
        let mut unfit: BTreeMap<usize, Vec<Unfit>> = BTreeMap::new();
        cancelled.unfit.iter().for_each(|(index, one)| unfit.entry(*index).or_default().push(*one));
        let mut is_settled = true;
        for (place, reasons) in unfit.into_iter().rev() {
            if reasons.contains(&Unfit::KeyInUse) {
                let repeat = self.open.remove(place);
                self.repeats.push(repeat);
            } else if reasons == [Unfit::Recent] {
                match self.alerts.in_the_way(self.region, &self.open[place].1).await {
                    Ok(Some(standing)) => {
                        let (index, _) = self.open.remove(place);
                        self.stands(index, standing);
                    }
                    // It does not stand any more.
                    Ok(None) => {}
                    Err(failure) => {
                        let (index, _) = self.open.remove(place);
                        self.arrived.push((index, Err(failure)));
                    }
                }
            } else {
                is_settled = false;
            }
        }
        is_settled
    }

    /// Waits in the queue until all have arrived, and leads where nobody does.
    pub(super) async fn in_the_queue(&mut self, deadline: Instant) {
        self.set_repeats_aside().await;
        if self.open.is_empty() {
            return;
        }
        if self.front.head.is_none() && self.alerts.is_full_for(self.region).await.unwrap_or_default() {
            return self.end(&Ok(Err(ApiError::too_many_regions())));
        }
        let stop_at = deadline.checked_sub(QUEUE_END_BEFORE).unwrap_or(deadline);
        let mut waiting = self.enqueue().await;
        let holder = uuid::Uuid::new_v4().to_string();
        let mut backoff = Backoff::new(QUEUE_LOOK_MIN, QUEUE_LOOK_MAX);
        loop {
            self.collect(&mut waiting).await;
            if waiting.is_empty() {
                return;
            }
            if Instant::now() >= stop_at {
                return self.give_up(waiting).await;
            }
            let is_led = self.alerts.is_led(self.region).await.unwrap_or(true);
            if !is_led && self.alerts.lease(self.region, &holder).await.unwrap_or_default() {
                let own: Vec<_> =
                    waiting.iter().filter(|waiting| waiting.is_queued).map(|waiting| waiting.ticket).collect();
                let led = self.leader(&holder, own).lead(stop_at).await;
                self.alerts.release(self.region, &holder).await;
                if matches!(led, Led::TooManyRegions) {
                    return self.withdraw(waiting, &Ok(Err(ApiError::too_many_regions()))).await;
                }
                continue;
            }
            backoff.pause_to_poll().await;
        }
    }

    fn leader<'b>(&'b self, holder: &'b str, own: Vec<Ticket>) -> Leader<'b> {
        let (alerts, region) = (self.alerts, self.region);
        let audience = self.front.audience;
        Leader {
            alerts,
            region,
            holder,
            own,
            audience,
            head: None,
            set_aside: Vec::new(),
            passed_over: Vec::new(),
            is_alone: false,
        }
    }

    /// Those whose key is in use already need not wait.
    async fn set_repeats_aside(&mut self) {
        let receipts = join_all(self.open.iter().map(|(_, entry)| async {
            match &entry.key {
                Some(key) => self.alerts.receipt(key).await.unwrap_or_default(),
                None => None,
            }
        }));
        let (receipts, now) = (receipts.await, self.alerts.clock.now());
        let open = std::mem::take(&mut self.open).into_iter().zip(receipts);
        for (entry, receipt) in open {
            let is_repeat = receipt.is_some_and(|receipt| receipt.is_in_use(now));
            if is_repeat { &mut self.repeats } else { &mut self.open }.push(entry);
        }
    }

    /// One after the other: whoever leads meanwhile finds those of a request in their order.
    async fn enqueue(&mut self) -> Vec<Waiting> {
        let tickets = Ticket::take(self.open.len(), self.alerts.clock.now());
        let mut waiting = Vec::new();
        for ((index, entry), ticket) in std::mem::take(&mut self.open).into_iter().zip(tickets) {
            let changed = self.alerts.enqueue(self.region, ticket, &entry).await;
            let is_queued = matches!(changed, Changed::Yes);
            match changed {
                Changed::Failed(failure) => self.arrived.push((index, Err(failure))),
                Changed::Yes | Changed::No | Changed::Lost(_) => {
                    waiting.push(Waiting { index, ticket, entry, is_queued });
                }
            }
        }
        waiting
    }

    /// Takes out those whose receipt is there.
    async fn collect(&mut self, waiting: &mut Vec<Waiting>) {
        let receipts = waiting.iter().map(|waiting| async { self.alerts.receipt(&waiting.entry.receipt()).await });
        let (receipts, now) = (join_all(receipts).await, self.alerts.clock.now());
        for (one, receipt) in std::mem::take(waiting).into_iter().zip(receipts) {
            match receipt {
                Ok(Some(receipt)) if receipt.is_of(&one.entry) => match receipt.position() {
                    Some(position) => {
                        if !one.is_queued {
                            // An attempt whose answer was lost may have put it there, and the next one once more after
                            // the commit.
                            self.alerts.discard(self.region, [one.ticket]).await;
                        }
                        self.arrive(one.index, &one.entry, position);
                    }
                    None => waiting.push(one),
                },
                // Another one with the same key was first.
                Ok(Some(receipt)) if receipt.is_in_use(now) => {
                    self.alerts.discard(self.region, [one.ticket]).await;
                    self.repeats.push((one.index, one.entry));
                }
                Ok(_) => match self.alerts.in_the_way(self.region, &one.entry).await {
                    // Its receipt may have come meanwhile, with what is in the way now.
                    Ok(Some(standing)) => match self.alerts.receipt(&one.entry.receipt()).await {
                        Ok(None) => {
                            self.withdraw(vec![one], &Ok(Ok(CommitOutcome::RecentlyAlerted(standing)))).await;
                        }
                        Ok(Some(receipt)) if !receipt.is_in_use(now) => {
                            self.withdraw(vec![one], &Ok(Ok(CommitOutcome::RecentlyAlerted(standing)))).await;
                        }
                        Ok(Some(_)) | Err(_) => waiting.push(one),
                    },
                    Ok(None) | Err(_) => waiting.push(one),
                },
                // What cannot be read now is looked for again.
                Err(_) => waiting.push(one),
            }
        }
    }

    /// The time is up: whatever is not in the log is withdrawn, so that it never will be.
    async fn give_up(&mut self, waiting: Vec<Waiting>) {
        let crowded = Err(InternalError::new("committing an alert", CommitQueueTimeout(self.region.clone())));
        self.withdraw(waiting, &crowded).await;
    }

    /// Ends with `commit` for all that can be withdrawn. Others have been committed meanwhile, or it is not known.
    async fn withdraw(&mut self, waiting: Vec<Waiting>, commit: &Commit) {
        for one in waiting {
            let commit = match self.alerts.withdraw(self.region, one.ticket).await {
                Changed::Yes if one.is_queued => commit.clone(),
                changed => {
                    if let Changed::Lost(failure) | Changed::Failed(failure) = &changed {
                        tracing::warn!(
                            error = %ErrorChain(failure), region = %self.region,
                            "waiting publication not withdrawn"
                        );
                    }
                    match self.receipt_of(&one).await {
                        Ok(Some(receipt)) => self.alerts.earlier(self.region, &one.entry, &receipt, self.front).await,
                        // Its first attempt has taken it out, or one that found its key in use, which has expired
                        // since.
                        Ok(None) if one.is_queued && matches!(changed, Changed::No) => commit.clone(),
                        Ok(None) | Err(_) => Ok(Err(ApiError::outcome_unknown())),
                    }
                }
            };
            self.arrived.push((one.index, commit));
        }
    }

    /// The receipt of one that is not in the queue any more, if it has one. It may be seen a moment later than that.
    async fn receipt_of(&self, one: &Waiting) -> Result<Option<Receipt>, InternalError> {
        let mut read = Ok(None);
        for look in 0..LOST_LOOKS_MAX {
            if look > 0 {
                sleep(LOST_LOOK_PAUSE).await;
            }
            let now = self.alerts.clock.now();
            match self.alerts.receipt(&one.entry.receipt()).await {
                Ok(Some(receipt)) if receipt.is_of(&one.entry) || receipt.is_in_use(now) => return Ok(Some(receipt)),
                Ok(_) => read = Ok(None),
                Err(failure) => read = Err(failure),
            }
        }
        read
    }

    /// Whether one of these publications has become this alert.
    fn has_new(&self, id: &str) -> bool {
        let is_it = |commit: &Commit| match commit {
            Ok(Ok(CommitOutcome::Committed(new))) => !new.duplicate && new.logged.id() == id,
            _ => false,
        };
        self.arrived.iter().any(|(_, commit)| is_it(commit))
    }

    /// Sees to it that the snapshot has what is not dispatched yet: clients that subscribe from now on are told of
    /// it, and those that have subscribed are in the audience.
    pub(super) async fn show(&mut self) {
        let in_order = |position: Position| (position.epoch, position.seq);
        let new = |commit: &Commit| match commit {
            Ok(Ok(CommitOutcome::Committed(new))) if !new.dispatched => Some(in_order(new.logged.position())),
            _ => None,
        };
        let Some(last) = self.arrived.iter().filter_map(|(_, commit)| new(commit)).max() else { return };
        let recorded = match self.made {
            Some(head) if in_order(head.position) >= last => {
                self.alerts.record(self.region, head, self.front.audience).await
            }
            // The one that committed it has done that, as a rule.
            _ => match self.alerts.snapshot.read([self.region]).await {
                Ok(entries) if entries.values().any(|entry| in_order(entry.position) >= last) => Ok(()),
                _ => self.alerts.record_head(self.region).await,
            },
        };
        if let Err(failure) = &recorded {
            tracing::error!(
                error = %ErrorChain(failure), region = %self.region,
                "alerts not dispatched yet: end of the log not recorded"
            );
        }
        for (_, commit) in &mut self.arrived {
            if let Ok(Ok(CommitOutcome::Committed(committed))) = commit {
                committed.is_shown = recorded.is_ok();
            }
        }
    }

    /// What the first publication with the same key came to, in the same request.
    fn first_of(&self, entry: &PendingPublication) -> Option<Commit> {
        let first = self.firsts.get(entry.key.as_ref()?)?;
        self.arrived.iter().find(|(index, _)| index == first).map(|(_, commit)| commit.clone())
    }

    /// What became of those whose key is in use: what the first publication with it came to. One that was withheld
    /// leaves its key to the others, which are returned.
    pub(super) async fn as_repeats(&mut self) -> Vec<(usize, PendingPublication)> {
        let mut left = Vec::new();
        for (index, entry) in std::mem::take(&mut self.repeats) {
            let commit = match self.alerts.receipt(&entry.receipt()).await {
                Ok(Some(receipt)) => {
                    let mut commit = self.alerts.earlier(self.region, &entry, &receipt, self.front).await;
                    if let Ok(Ok(CommitOutcome::Committed(repeat))) = &mut commit {
                        // The first of two in one request is about to be dispatched.
                        repeat.dispatched |= self.has_new(repeat.logged.id());
                    }
                    commit
                }
                Ok(None) => match self.first_of(&entry) {
                    Some(Ok(Ok(CommitOutcome::RecentlyAlerted(_)))) => {
                        left.push((index, entry));
                        continue;
                    }
                    // Whatever else kept the first of them from the log keeps this one too.
                    Some(commit) => commit,
                    None => Err(InternalError::new("committing an alert", FirstFailed)),
                },
                Err(failure) => {
                    tracing::error!(
                        error = %ErrorChain(&failure), region = %self.region,
                        "receipt of a publication not read"
                    );
                    Ok(Err(ApiError::outcome_unknown()))
                }
            };
            self.arrived.push((index, commit));
        }
        self.firsts.clear();
        left
    }
}
