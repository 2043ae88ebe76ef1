//! Queues in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{aws::ACCOUNT_ID, template};

/// The queues of a template, by name.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: BTreeMap<String, Queue>,
    /// Address of the API for clients.
    endpoint: String,
    clock: Clock,
}

impl Queues {
    pub(crate) fn new(queues: Vec<template::QueueSettings>, endpoint: String, clock: Clock) -> Self {
        let queue = |settings: template::QueueSettings| {
            (settings.name.clone(), Queue { settings, messages: Mutex::default(), arrived: Notify::new() })
        };
        Self { queues: queues.into_iter().map(queue).collect(), endpoint, clock }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Queue> {
        self.queues.get(name)
    }

    /// Sends a message to the queue of this name and returns its id. `None` if there is no such queue.
    pub(crate) fn send(&self, name: &str, body: String) -> Option<String> {
        self.get(name).map(|queue| queue.send(body, self.clock.now()))
    }

    /// Removes all messages.
    pub(crate) fn purge(&self) {
        self.queues.values().for_each(Queue::purge);
    }

    /// The URL of a queue, for clients on this machine.
    pub(super) fn url(&self, queue: &Queue) -> String {
        format!("{}/{ACCOUNT_ID}/{}", self.endpoint, queue.settings.name)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// One standard queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) settings: template::QueueSettings,
    /// Messages in the order in which they were sent.
    messages: Mutex<Vec<Message>>,
    /// Wakes receivers that wait for a message.
    arrived: Notify,
}

#[derive(Debug)]
struct Message {
    id: String,
    body: String,
    sent_at: Timestamp,
    first_received_at: Option<Timestamp>,
    receives: u32,
    /// When its visibility timeout ends.
    visible_at: Instant,
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReceivedMessage {
    pub(super) id: String,
    /// Differs each time: only the last receiver can delete a message.
    pub(super) receipt: String,
    pub(super) body: String,
    pub(super) sent_at: Timestamp,
    pub(super) first_received_at: Timestamp,
    pub(super) receives: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageCounts {
    pub(super) visible: usize,
    pub(super) not_visible: usize,
}

/// Separates the id of a message from its receive count in a receipt.
const RECEIPT_SEPARATOR: char = '#';

impl Queue {
    /// Adds a message and returns its id.
    fn send(&self, body: String, now: Timestamp) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let message = Message {
            id: id.clone(),
            body,
            sent_at: now,
            first_received_at: None,
            receives: 0,
            visible_at: Instant::now(),
        };
        self.messages().push(message);
        self.arrived.notify_waiters();
        id
    }

    /// Returns up to `max` messages and hides them for `visibility`. Waits up to `wait` while there are none.
    pub(super) async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
        clock: &Queues,
    ) -> Vec<ReceivedMessage> {
        let give_up = Instant::now() + wait;
        loop {
            // Enabled before the queue is read, so that no message arrives unnoticed in between.
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let received = self.take(max, visibility, clock.now());
            if !received.is_empty() || Instant::now() >= give_up {
                return received;
            }
            let next = self.messages().iter().map(|message| message.visible_at).min();
            tokio::select! {
                () = arrived => {}
                () = sleep_until(next.map_or(give_up, |next| next.min(give_up))) => {}
            }
        }
    }

    fn take(&self, max: usize, visibility: Duration, now: Timestamp) -> Vec<ReceivedMessage> {
        let at = Instant::now();
        let mut messages = self.messages();
        let visible = messages.iter_mut().filter(|message| message.visible_at <= at).take(max);
        let received = visible.map(|message| {
            message.visible_at = at + visibility;
            message.receives += 1;
            ReceivedMessage {
                id: message.id.clone(),
                receipt: format!("{}{RECEIPT_SEPARATOR}{}", message.id, message.receives),
                body: message.body.clone(),
                sent_at: message.sent_at,
                first_received_at: *message.first_received_at.get_or_insert(now),
                receives: message.receives,
            }
        });
        received.collect()
    }

    /// Deletes a message for its last receiver. The receipt of an earlier receiver, or of a deleted message, does
    /// nothing. `None` if it is not a receipt.
    pub(super) fn delete(&self, receipt: &str) -> Option<()> {
        let (id, receives) = receipt.split_once(RECEIPT_SEPARATOR)?;
        let receives: u32 = receives.parse().ok()?;
        self.messages().retain(|message| message.id != id || message.receives != receives);
        Some(())
    }

    pub(super) fn purge(&self) {
        self.messages().clear();
    }

    pub(super) fn counts(&self) -> MessageCounts {
        let (at, messages) = (Instant::now(), self.messages());
        let visible = messages.iter().filter(|message| message.visible_at <= at).count();
        MessageCounts { visible, not_visible: messages.len() - visible }
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISIBILITY: Duration = Duration::from_secs(30);

    fn queues() -> Queues {
        let queue = template::QueueSettings { name: "q".to_owned(), visibility: VISIBILITY, wait: Duration::ZERO };
        Queues::new(vec![queue], "http://127.0.0.1:1".to_owned(), Clock::System)
    }

    async fn receive(queues: &Queues, wait: Duration) -> Vec<ReceivedMessage> {
        queues.get("q").expect("a queue").receive(10, VISIBILITY, wait, queues).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_hidden_after_it_was_received_and_comes_back_unless_it_is_deleted() {
        let queues = queues();
        let queue = queues.get("q").expect("a queue");
        queues.send("q", "a".to_owned()).expect("a queue");
        let first = receive(&queues, Duration::ZERO).await.swap_remove(0);
        assert_eq!(queue.counts(), MessageCounts { visible: 0, not_visible: 1 });
        assert_eq!(receive(&queues, VISIBILITY - Duration::from_secs(1)).await, []);
        let second = receive(&queues, VISIBILITY).await.swap_remove(0);
        assert_eq!((&second.id, second.receives), (&first.id, 2));
        assert_eq!((queue.delete(&first.receipt), queue.counts().not_visible), (Some(()), 1), "not its last receiver");
        assert_eq!((queue.delete(&second.receipt), queue.counts().not_visible), (Some(()), 0));
        assert_eq!(queue.delete(&second.receipt), Some(()), "as often as one likes");
        assert_eq!(queue.delete("nonsense"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_receiver_gets_a_message_as_soon_as_it_arrives() {
        let queues = queues();
        let before = Instant::now();
        let later = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            queues.send("q", "a".to_owned())
        };
        let (received, _) = tokio::join!(receive(&queues, Duration::from_secs(20)), later);
        assert_eq!((received.len(), before.elapsed().as_secs()), (1, 3));
        assert_eq!(receive(&queues, Duration::from_secs(5)).await, []);
        assert_eq!(before.elapsed().as_secs(), 8, "and no longer than asked for");
    }
}
