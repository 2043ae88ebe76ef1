//! Committing publications to the log of their region.
//!
//! A publication that is alone reads the head and makes one transaction: head, alert and the receipt of its
//! idempotency key. One that meets others waits in the queue of the region ([`queue`]). Whoever takes the lease
//! commits as many of those that wait as one transaction takes, for all of them: the head moves by as many, and each
//! alert, each receipt and each removal from the queue is in it. The others look for their receipts, and take the
//! lease over when it is free. So nobody is refused because of others, and whatever ends in between, a publication
//! is in the log once, or waits, or is not there.
//!
//! Where a window counts, the item of the video is in the transaction too ([`recent`]).

mod entry;
mod leader;
mod outcome;
mod pending;
pub(crate) mod queue;
mod recent;
mod transaction;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use self::{
    entry::{PendingPublication, Receipt},
    pending::Pending,
    recent::Look,
    transaction::AppendPlan,
};
pub use self::{
    outcome::{Commit, CommitOutcome, Committed},
    recent::StandingAlert,
};
use crate::{
    error::{ApiError, InternalError},
    limits::{LOST_LOOK_PAUSE, LOST_LOOKS_MAX},
    model::{audience::Region, publication::Publication},
    tables::{
        alerts::{
            Alerts, LogFront, logged,
            schema::{EPOCH, ID, UNDISPATCHED},
        },
        dynamodb::{Item, read_number, read_text},
    },
};

/// An idempotency key points to an alert that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the alert {0} that an idempotency key points to is not in the log")]
struct DanglingIdempotencyKey(u64);

/// Publications of one region, and what the log says before they are committed.
#[derive(Debug)]
pub struct ReadPublications {
    front: Result<LogFront, InternalError>,
    /// With the alert that is in the way of each.
    entries: Vec<(PendingPublication, Look)>,
}

impl ReadPublications {
    /// Leaves out those that are not to be committed, by their place.
    pub fn keep(&mut self, is_kept: impl Fn(usize) -> bool) {
        let mut place = 0..;
        self.entries.retain(|_| place.next().is_some_and(&is_kept));
    }
}

impl Alerts {
    /// Appends publications of one region to its log, in their order. Each has its own result, in the same order.
    /// `deadline` is when the invocation ends.
    pub async fn commit(&self, region: &Region, publications: &[Publication], deadline: Instant) -> Vec<Commit> {
        let read = self.read(region, publications).await;
        self.commit_read(region, read, deadline).await
    }

    /// Reads what has to be known before publications of one region can be committed. Appends nothing.
    pub async fn read(&self, region: &Region, publications: &[Publication]) -> ReadPublications {
        let now = self.clock.now();
        let entries: Vec<_> =
            publications.iter().map(|publication| PendingPublication::of(publication, self.repeat_rule, now)).collect();
        let looks = join_all(entries.iter().map(|entry| self.in_the_way(region, entry)));
        let (front, looks) = tokio::join!(self.front(region), looks);
        ReadPublications { front, entries: entries.into_iter().zip(looks).collect() }
    }

    /// The same as [`Self::commit`], of what has been read.
    pub async fn commit_read(&self, region: &Region, read: ReadPublications, deadline: Instant) -> Vec<Commit> {
        let ReadPublications { front, entries } = read;
        let front = match front {
            Ok(front) => front,
            Err(failure) => return entries.iter().map(|_| Err(failure.clone())).collect(),
        };
        let mut pending = Pending::new(self, region, front);
        let (entries, looks) = entries.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let mut looked = Some(looks);
        let mut entries: Vec<_> = entries.into_iter().enumerate().collect();
        // Each round decides what becomes of the first one with each key, at least.
        while !entries.is_empty() {
            let looks = match looked.take() {
                Some(looks) => looks,
                None => join_all(entries.iter().map(|(_, entry)| self.in_the_way(region, entry))).await,
            };
            pending.take(entries, looks).await;
            if !front.is_led {
                pending.directly().await;
            }
            pending.in_the_queue(deadline).await;
            entries = pending.as_repeats().await;
        }
        pending.show().await;
        pending.results()
    }

    /// The alert that keeps a publication from becoming one, if there is one.
    async fn in_the_way(
        &self,
        region: &Region,
        entry: &PendingPublication,
    ) -> Result<Option<StandingAlert>, InternalError> {
        self.standing(region, entry.repeat.as_ref(), &entry.id).await
    }

    /// What the publication came to whose receipt this is: its own alert, or that of an earlier one if it was the
    /// same publication.
    async fn earlier(&self, region: &Region, entry: &PendingPublication, receipt: &Receipt, front: LogFront) -> Commit {
        let doing = "reading the alert of an earlier publication";
        if let (true, Some(position)) = (receipt.is_of(entry), receipt.position()) {
            let committed = Committed::new(entry.alert(region, position), front.audience);
            return Ok(Ok(CommitOutcome::Committed(committed)));
        }
        if receipt.fingerprint.as_ref().is_some_and(|fingerprint| *fingerprint != entry.fingerprint) {
            return Ok(Err(ApiError::idempotency_conflict()));
        }
        let item = self.get(region.as_str(), receipt.seq, doing).await?;
        let is_its = |item: &Item| receipt.epoch.is_none_or(|epoch| read_number(item, EPOCH).ok() == Some(epoch));
        let item = item.filter(is_its).ok_or_else(|| InternalError::new(doing, DanglingIdempotencyKey(receipt.seq)))?;
        let logged = logged(&item).map_err(|error| InternalError::new(doing, error))?;
        let dispatched = logged.removal().is_some() || !item.contains_key(UNDISPATCHED);
        let committed = Committed { logged, duplicate: true, dispatched, is_shown: false, audience: None };
        Ok(Ok(CommitOutcome::Committed(committed)))
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
