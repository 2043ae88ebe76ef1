//! Messages that were read and are not published yet, in a queue for each region.
//!
//! A queue publishes one message at a time, which keeps the order within the region. A region that cannot be published
//! to does not delay the others.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry as Slot},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use shared::model::audience::Region;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    item::Item,
    limits::{BACKOFF, IN_FLIGHT_MAX},
    message::Message,
    outcome::PublishOutcome,
    report::BridgeReport,
    target::Target,
};

/// Messages that were not published when the time was up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpublished {
    /// Messages of channels, which are lost.
    pub messages: usize,
    /// Entries of streams, which are read again.
    pub entries: usize,
}

/// The queues of all regions, and what publishes their messages.
#[derive(Debug)]
pub(crate) struct RegionQueues {
    target: Target,
    report: Arc<BridgeReport>,
    clock: Clock,
    /// Room for messages of channels.
    pub(crate) message_places: Arc<Semaphore>,
    /// Room for entries of streams. A reader that waits for entries holds some of it.
    pub(crate) entry_places: Arc<Semaphore>,
    in_flight: Semaphore,
    queues: Mutex<HashMap<Region, VecDeque<Arc<Item>>>>,
    tasks: TaskTracker,
}

impl RegionQueues {
    pub(crate) fn new(target: Target, report: Arc<BridgeReport>, clock: Clock, places: u32) -> Arc<Self> {
        Arc::new(Self {
            target,
            report,
            clock,
            message_places: Arc::new(Semaphore::new(places as usize)),
            entry_places: Arc::new(Semaphore::new(places as usize)),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            queues: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Appends a message to the queue of its region.
    pub(crate) fn push(self: &Arc<Self>, item: Item) {
        let item = Arc::new(item);
        match self.lock().entry(item.message.region.clone()) {
            Slot::Occupied(mut queue) => queue.get_mut().push_back(item),
            Slot::Vacant(queue) => {
                let region = queue.key().clone();
                queue.insert(VecDeque::from([item]));
                self.tasks.spawn(Arc::clone(self).work(region));
            }
        }
    }

    /// Writes a report.
    pub(crate) fn report(&self) {
        let (queued, oldest) = {
            let queues = self.lock();
            let oldest = queues.values().filter_map(VecDeque::front).map(|item| item.read_at).min();
            (queues.values().map(VecDeque::len).sum(), oldest)
        };
        self.report.write(queued, oldest.map(|read_at| read_at.elapsed()));
    }

    /// Waits until everything is published or `time` is up, and returns what is not published. Call it last.
    pub(crate) async fn drain(&self, time: Duration) -> Unpublished {
        self.tasks.close();
        // The rest is counted whether or not the time was up.
        let _ = timeout(time, self.tasks.wait()).await;
        let queues = self.lock();
        let entries = queues.values().flatten().filter(|item| item.entry.is_some()).count();
        Unpublished { messages: queues.values().map(VecDeque::len).sum::<usize>() - entries, entries }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Region, VecDeque<Arc<Item>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Self>, region: Region) {
        let mut item = self.first(&region);
        while let Some(current) = item {
            self.carry(&current).await;
            item = self.next(&region);
        }
    }

    fn first(&self, region: &Region) -> Option<Arc<Item>> {
        self.lock().get(region)?.front().cloned()
    }

    /// Removes the first message, which is done, and returns the next one. Removes the queue once it is empty.
    fn next(&self, region: &Region) -> Option<Arc<Item>> {
        let mut queues = self.lock();
        let queue = queues.get_mut(region)?;
        queue.pop_front();
        let next = queue.front().cloned();
        if next.is_none() {
            queues.remove(region);
        }
        next
    }

    /// Publishes one message, with as many retries as it takes.
    async fn carry(&self, item: &Item) {
        let Item { message, from, .. } = item;
        let mut backoff = BACKOFF;
        let refusal = loop {
            match self.attempt(message).await {
                PublishOutcome::Published { seq, duplicate } => {
                    self.report.published.increment();
                    if duplicate {
                        self.report.duplicate.increment();
                    }
                    let since_entry = item.entry.as_ref().and_then(|entry| self.age(entry.made_at()?));
                    self.report.took(item.read_at.elapsed(), since_entry);
                    let (region, key) = (&message.region, &message.key);
                    tracing::debug!(from, %region, seq, duplicate, key, "message published");
                    break None;
                }
                PublishOutcome::Withheld(reason) => {
                    self.report.withheld.increment();
                    tracing::debug!(from, region = %message.region, reason, "message withheld");
                    break None;
                }
                PublishOutcome::Refused(reason) => {
                    self.report.refused.increment();
                    tracing::error!(from, region = %message.region, reason, "message refused");
                    break Some(reason);
                }
                PublishOutcome::Unavailable { reason, after } => {
                    self.report.retried.increment();
                    tracing::warn!(from, region = %message.region, reason, "message not published yet");
                    match after {
                        Some(after) => backoff.pause_as_told(after).await,
                        None => backoff.pause().await,
                    }
                }
            }
        };
        if let Some(entry) = &item.entry {
            entry.finish(refusal.as_deref()).await;
        }
    }

    async fn attempt(&self, message: &Message) -> PublishOutcome {
        // The semaphore is never closed.
        let _permit = self.in_flight.acquire().await;
        self.target.publish(message).await
    }

    fn age(&self, made_at: Timestamp) -> Option<Duration> {
        Some(self.clock.now().since(made_at))
    }
}
