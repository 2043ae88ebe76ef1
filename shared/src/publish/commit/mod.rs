//! Committing publications to the log of their region.
//!
//! A publication that is alone reads the head and makes one transaction: head, alert and the receipt of its
//! idempotency key. One that meets others waits in the queue of the region ([`queue`]). Whoever takes the lease
//! commits as many of those that wait as one transaction takes, for all of them: the head moves by as many, and each
//! alert, each receipt and each removal from the queue is in it. The others look for their receipts, and take the
//! lease over when it is free. So nobody is refused because of others, and whatever ends in between, a publication
//! is in the log once, or waits, or is not there.

mod entry;
mod leader;
pub(crate) mod queue;
mod transaction;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use self::{
    entry::{PendingPublication, Receipt, Ticket},
    leader::{Leader, Led},
    queue::Changed,
    transaction::{AppendPlan, CommitAttempt, Unfit},
};
use crate::{
    error::{ApiError, Decision, ErrorChain, InternalError},
    limits::{LOST_LOOK_PAUSE, LOST_LOOKS_MAX, QUEUE_END_BEFORE, QUEUE_LOOK_MAX, QUEUE_LOOK_MIN},
    model::{
        alert::{Alert, Logged, Position},
        audience::Region,
        publication::Publication,
    },
    publish::commit::transaction::fitting,
    runtime::backoff::Backoff,
    tables::{
        alerts::{
            Alerts, LogFront, LogHead, logged,
            schema::{EPOCH, ID, UNDISPATCHED},
        },
        dynamodb::{Item, read_number, read_text},
    },
};

/// What became of a publication in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// What is in the log: the new alert, or the one that an earlier publication with the same key made, or what is
    /// left of that.
    pub logged: Logged,
    /// Whether an earlier publication made it.
    pub duplicate: bool,
    /// Whether its fan-out has been started, or must not be, because it was taken back.
    pub dispatched: bool,
    /// Whether clients that subscribe are told of it, without which it must not be dispatched.
    pub is_shown: bool,
    /// How many the fan-out before it found in the audience, as an estimate. None for the first alert of a region,
    /// and for one that an earlier publication made.
    pub audience: Option<u64>,
}

impl Committed {
    /// One that has just been committed.
    fn new(alert: Alert, audience: Option<u64>) -> Self {
        let logged = Logged::Alert(alert);
        Self { logged, duplicate: false, dispatched: false, is_shown: false, audience }
    }
}

/// What a publication came to: in the log; refused; or failed, and then it is not in the log and never will be.
pub type Commit = Decision<Committed>;

/// A publication waited in the queue until its deadline, and was withdrawn.
#[derive(Debug, thiserror::Error)]
#[error("the publication waited in the queue of {0} until the deadline and was withdrawn")]
struct CommitQueueTimeout(Region);

/// An idempotency key points to an alert that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the alert {0} that an idempotency key points to is not in the log")]
struct DanglingIdempotencyKey(u64);

/// Of two publications with one key in one request, the first was not committed.
#[derive(Debug, thiserror::Error)]
#[error("the publication before it with the same idempotency key was not committed")]
struct FirstFailed;

/// Publications of one region on their way, and what became of those that have arrived.
struct Pending<'a> {
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

impl Alerts {
    /// Appends publications of one region to its log, in their order. Each has its own result, in the same order.
    /// `deadline` is when the invocation ends.
    pub async fn commit(&self, region: &Region, publications: &[Publication], deadline: Instant) -> Vec<Commit> {
        let now = self.clock.now();
        let entries = publications.iter().map(|publication| PendingPublication::of(publication, now));
        let (mut open, mut repeats) = (Vec::<(usize, PendingPublication)>::new(), Vec::new());
        let mut firsts = BTreeMap::new();
        for (index, entry) in entries.enumerate() {
            // Two with one key cannot be in one transaction.
            let first = entry.key.clone().map(|key| *firsts.entry(key).or_insert(index));
            if first.is_some_and(|first| first != index) { &mut repeats } else { &mut open }.push((index, entry));
        }
        let front = match self.front(region).await {
            Ok(front) => front,
            Err(failure) => return publications.iter().map(|_| Err(failure.clone())).collect(),
        };
        let arrived = Vec::new();
        let mut pending = Pending { alerts: self, region, front, open, repeats, firsts, made: None, arrived };
        if !front.is_led {
            pending.directly().await;
        }
        pending.in_the_queue(deadline).await;
        pending.as_repeats().await;
        pending.show().await;
        pending.arrived.sort_by_key(|(index, _)| *index);
        pending.arrived.into_iter().map(|(_, commit)| commit).collect()
    }

    /// What the publication came to whose receipt this is: its own alert, or that of an earlier one if it was the
    /// same publication.
    async fn earlier(&self, region: &Region, entry: &PendingPublication, receipt: &Receipt, front: LogFront) -> Commit {
        let doing = "reading the alert of an earlier publication";
        if let (true, Some(position)) = (receipt.is_of(entry), receipt.position()) {
            return Ok(Ok(Committed::new(entry.alert(region, position), front.audience)));
        }
        if receipt.fingerprint.as_ref().is_some_and(|fingerprint| *fingerprint != entry.fingerprint) {
            return Ok(Err(ApiError::idempotency_conflict()));
        }
        let item = self.get(region.as_str(), receipt.seq, doing).await?;
        let is_its = |item: &Item| receipt.epoch.is_none_or(|epoch| read_number(item, EPOCH).ok() == Some(epoch));
        let item = item.filter(is_its).ok_or_else(|| InternalError::new(doing, DanglingIdempotencyKey(receipt.seq)))?;
        let logged = logged(&item).map_err(|error| InternalError::new(doing, error))?;
        let dispatched = logged.removal().is_some() || !item.contains_key(UNDISPATCHED);
        Ok(Ok(Committed { logged, duplicate: true, dispatched, is_shown: false, audience: None }))
    }

    /// Whether a transaction whose answer was lost has been made. None where it may still be made.
    async fn was_made(&self, region: &Region, plan: &AppendPlan, id: &str) -> Option<bool> {
        for look in 0..LOST_LOOKS_MAX {
            if look > 0 {
                sleep(LOST_LOOK_PAUSE).await;
            }
            // The head first: where it has moved, what is at the place does not change any more.
            let Ok(front) = self.front(region).await else { continue };
            let doing = "looking for an alert whose commit was not answered";
            let Ok(item) = self.get(region.as_str(), plan.first.seq, doing).await else { continue };
            let is_at_its_place = |item: &Item| read_text(item, ID).is_ok_and(|found| found == id);
            if item.as_ref().is_some_and(is_at_its_place) {
                return Some(true);
            }
            let epoch = front.head.map(|head| head.position.epoch);
            let is_of_the_log = |item: &Item| read_number(item, EPOCH).ok() == epoch;
            let has_moved = front.head.map(|head| head.position) != plan.previous();
            if has_moved && (epoch.is_none() || item.as_ref().is_some_and(is_of_the_log)) {
                return Some(false);
            }
        }
        None
    }
}

impl Pending<'_> {
    fn arrive(&mut self, index: usize, entry: &PendingPublication, position: Position) {
        let committed = Committed::new(entry.alert(self.region, position), self.front.audience);
        self.arrived.push((index, Ok(Ok(committed))));
    }

    /// The same result for all that are open.
    fn end(&mut self, commit: &Commit) {
        self.arrived.extend(self.open.drain(..).map(|(index, _)| (index, commit.clone())));
    }

    /// Commits as one that is alone, until it meets another one. What is left open then has to wait.
    async fn directly(&mut self) {
        let mut head = self.front.head;
        while !self.open.is_empty() {
            let sizes = self.open.iter().map(|(_, entry)| entry);
            let group: Vec<_> =
                self.open[..fitting(sizes, head)].iter().map(|(_, entry)| (None, entry.clone())).collect();
            let plan = AppendPlan::of(self.region, head, &group, self.alerts.clock.now());
            match self.alerts.append(self.region, &plan, &group).await {
                CommitAttempt::Committed => {}
                CommitAttempt::Cancelled(cancelled) => {
                    let goes_on = cancelled.is_of_publications();
                    for (index, _) in cancelled.unfit.iter().rev().filter(|(_, unfit)| *unfit == Unfit::KeyInUse) {
                        let repeat = self.open.remove(*index);
                        self.repeats.push(repeat);
                    }
                    if goes_on && cancelled.unfit.iter().all(|(_, unfit)| *unfit == Unfit::KeyInUse) {
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

    /// Waits in the queue until all have arrived, and leads where nobody does.
    async fn in_the_queue(&mut self, deadline: Instant) {
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

    fn leader<'a>(&'a self, holder: &'a str, own: Vec<Ticket>) -> Leader<'a> {
        let (alerts, region) = (self.alerts, self.region);
        let audience = self.front.audience;
        Leader { alerts, region, holder, own, audience, head: None, set_aside: Vec::new(), is_alone: false }
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
                // What cannot be read now is looked for again.
                Ok(_) | Err(_) => waiting.push(one),
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
        let is_it = |commit: &Commit| matches!(commit, Ok(Ok(new)) if !new.duplicate && new.logged.id() == id);
        self.arrived.iter().any(|(_, commit)| is_it(commit))
    }

    /// Sees to it that the snapshot has what is not dispatched yet: clients that subscribe from now on are told of
    /// it, and those that have subscribed are in the audience.
    async fn show(&mut self) {
        let in_order = |position: Position| (position.epoch, position.seq);
        let new = |commit: &Commit| match commit {
            Ok(Ok(committed)) if !committed.dispatched => Some(in_order(committed.logged.position())),
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
            if let Ok(Ok(committed)) = commit {
                committed.is_shown = recorded.is_ok();
            }
        }
    }

    /// What the first publication with the same key came to, in the same request.
    fn first_of(&self, entry: &PendingPublication) -> Option<Commit> {
        let first = self.firsts.get(entry.key.as_ref()?)?;
        self.arrived.iter().find(|(index, _)| index == first).map(|(_, commit)| commit.clone())
    }

    /// What became of those whose key is in use: what the first publication with it came to.
    async fn as_repeats(&mut self) {
        for (index, entry) in std::mem::take(&mut self.repeats) {
            let commit = match self.alerts.receipt(&entry.receipt()).await {
                Ok(Some(receipt)) => {
                    let mut commit = self.alerts.earlier(self.region, &entry, &receipt, self.front).await;
                    if let Ok(Ok(repeat)) = &mut commit {
                        // The first of two in one request is about to be dispatched.
                        repeat.dispatched |= self.has_new(repeat.logged.id());
                    }
                    commit
                }
                // Whatever kept the first of them from the log keeps this one too.
                Ok(None) => {
                    self.first_of(&entry).unwrap_or_else(|| Err(InternalError::new("committing an alert", FirstFailed)))
                }
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
    }
}
