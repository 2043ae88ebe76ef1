//! Queues in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::message::{NewMessage, ReceivedMessage};
use crate::{aws::ACCOUNT_ID, template};

/// Most bytes of messages in one queue. Our own choice: the service has no such limit.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long a FIFO queue refuses a second message with the same deduplication id. Source: SQS.
const DEDUPLICATION: Duration = Duration::from_secs(5 * 60);

/// The queues of a template, by name.
#[derive(Debug)]
pub(crate) struct Queues {
    queues: BTreeMap<String, Queue>,
    clock: Clock,
}

/// Why a message is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    NoQueue,
    Full,
}

/// What became of a message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentMessage {
    pub(super) id: String,
    /// Its place in a FIFO queue.
    pub(super) sequence: Option<String>,
}

impl Queues {
    pub(crate) fn new(queues: Vec<template::QueueSettings>, clock: Clock) -> Self {
        let queue = |settings: template::QueueSettings| {
            (settings.name.clone(), Queue { settings, state: Mutex::default(), changed: Notify::new() })
        };
        Self { queues: queues.into_iter().map(queue).collect(), clock }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.queues.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Queue> {
        self.queues.get(name)
    }

    /// Sends a message to the queue of this name and returns its id. `None` if it does not exist or is full.
    pub(crate) fn send(&self, name: &str, message: impl Into<NewMessage>) -> Option<String> {
        let sent = self.send_message(name, message.into());
        if sent == Err(SendError::Full) {
            tracing::error!(queue = name, bytes_max = QUEUE_BYTES_MAX, "message lost: the queue is full");
        }
        sent.ok().map(|sent| sent.id)
    }

    pub(super) fn send_message(&self, name: &str, message: NewMessage) -> Result<SentMessage, SendError> {
        self.get(name).ok_or(SendError::NoQueue)?.send(message, self.clock.now())
    }

    /// Returns up to `max` messages and hides them for `visibility`. Waits up to `wait` while there are none. Messages
    /// that were received too often go to the queue's dead-letter queue.
    pub(super) async fn receive(
        &self,
        queue: &Queue,
        max: usize,
        bytes_max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Vec<ReceivedMessage> {
        let give_up = Instant::now() + wait;
        loop {
            // Enabled before the queue is read, so that no message arrives unnoticed in between.
            let mut changed = std::pin::pin!(queue.changed.notified());
            changed.as_mut().enable();
            let taken = queue.take(max, bytes_max, visibility, self.clock.now());
            self.redrive(queue, taken.dead);
            if !taken.received.is_empty() || Instant::now() >= give_up {
                return taken.received;
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(taken.next.map_or(give_up, |next| next.min(give_up))) => {}
            }
        }
    }

    fn redrive(&self, queue: &Queue, dead: Vec<Message>) {
        let Some((name, _)) = queue.settings.redrive.as_ref().filter(|_| !dead.is_empty()) else { return };
        let Some(letters) = self.get(name) else { return };
        let mut state = letters.state();
        for message in dead {
            let (queue, letters) = (&queue.settings.name, name);
            tracing::warn!(queue, letters, message = message.id, "message moved to the dead-letter queue");
            state.push(Message { receives: 0, first_received_at: None, visible_at: Instant::now(), ..message });
        }
        drop(state);
        letters.changed.notify_waiters();
    }

    /// Waits for messages of a queue as Lambda does: up to `max`, and up to `bytes_max` unless the first is larger. If
    /// there are fewer, waits for more until `window` after the first. Returns the receipt of each and its record in
    /// the event of a function. `None` if it does not exist.
    pub(crate) async fn poll(
        &self,
        name: &str,
        max: usize,
        bytes_max: usize,
        window: Duration,
    ) -> Option<Vec<(String, serde_json::Value)>> {
        /// Longest wait at a time.
        const LONG: Duration = Duration::from_secs(60 * 60);
        let queue = self.get(name)?;
        let visibility = queue.settings.visibility;
        let mut batch = Vec::new();
        while batch.is_empty() {
            batch = self.receive(queue, max, bytes_max, visibility, LONG).await;
        }
        let until = Instant::now() + window;
        loop {
            let bytes: usize = batch.iter().map(ReceivedMessage::bytes).sum();
            let (room, rest) = (max - batch.len(), bytes_max.saturating_sub(bytes));
            let wait = until.saturating_duration_since(Instant::now());
            if room == 0 || rest == 0 || wait.is_zero() {
                break;
            }
            let more = self.receive(queue, room, rest, visibility, wait).await;
            batch.extend(more);
        }
        let arn = crate::aws::arn("sqs", name);
        Some(batch.into_iter().map(|message| (message.receipt.clone(), message.record(&arn))).collect())
    }

    /// Deletes a message of a queue for its last receiver.
    pub(crate) fn delete(&self, name: &str, receipt: &str) {
        if let Some(queue) = self.get(name) {
            queue.delete(receipt);
        }
    }

    /// Whether a message is still there for its last receiver.
    pub(crate) fn holds(&self, name: &str, receipt: &str) -> bool {
        self.get(name).is_some_and(|queue| queue.holds(receipt))
    }

    /// Removes all messages, and forgets which there were.
    pub(crate) fn reset(&self) {
        for queue in self.queues.values() {
            queue.purge();
            queue.state().known.clear();
        }
    }

    /// The URL of a queue, for a client that reaches the API at this origin.
    pub(super) fn url(&self, queue: &Queue, origin: &str) -> String {
        format!("{origin}/{ACCOUNT_ID}/{}", queue.settings.name)
    }
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) settings: template::QueueSettings,
    state: Mutex<QueueState>,
    /// Wakes receivers: a message arrived, or a group of a FIFO queue may go on.
    changed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Messages in the order in which they were sent.
    messages: Vec<Message>,
    bytes: usize,
    /// Number of messages that were ever sent.
    sent: u64,
    /// Deduplication ids of a FIFO queue, with what became of their messages.
    known: HashMap<String, (Instant, SentMessage)>,
}

#[derive(Debug)]
struct Message {
    id: String,
    content: NewMessage,
    sequence: Option<String>,
    sent_at: Timestamp,
    first_received_at: Option<Timestamp>,
    receives: u32,
    /// When its delay or its visibility timeout ends.
    visible_at: Instant,
}

/// What a receiver takes out of a queue.
#[derive(Debug)]
struct Taken {
    received: Vec<ReceivedMessage>,
    /// Messages for the dead-letter queue.
    dead: Vec<Message>,
    /// When the next message becomes visible.
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageCounts {
    pub(super) visible: usize,
    pub(super) not_visible: usize,
    pub(super) delayed: usize,
}

/// Separates the id of a message from its receive count in a receipt.
const RECEIPT_SEPARATOR: char = '#';

impl QueueState {
    fn push(&mut self, message: Message) {
        self.bytes += message.content.bytes();
        self.messages.push(message);
    }

    fn retain(&mut self, keep: impl Fn(&Message) -> bool) -> Vec<Message> {
        let removed: Vec<Message> = self.messages.extract_if(.., |message| !keep(message)).collect();
        self.bytes -= removed.iter().map(|message| message.content.bytes()).sum::<usize>();
        removed
    }
}

impl Queue {
    /// Adds a message. A FIFO queue accepts one of which it has had the deduplication id, and does not add it.
    fn send(&self, mut content: NewMessage, now: Timestamp) -> Result<SentMessage, SendError> {
        let at = Instant::now();
        let mut state = self.state();
        if state.bytes + content.bytes() > QUEUE_BYTES_MAX {
            return Err(SendError::Full);
        }
        if self.settings.is_fifo && content.deduplication.is_none() && self.settings.deduplicates_content {
            content.deduplication = Some(content.digest_of_content());
        }
        state.known.retain(|_, (until, _)| *until > at);
        if let Some((_, sent)) = content.deduplication.as_ref().and_then(|id| state.known.get(id)) {
            return Ok(sent.clone());
        }
        state.sent += 1;
        let sequence = self.settings.is_fifo.then(|| format!("1{:019}", state.sent));
        let sent = SentMessage { id: uuid::Uuid::new_v4().to_string(), sequence };
        if let Some(id) = content.deduplication.clone().filter(|_| self.settings.is_fifo) {
            state.known.insert(id, (at + DEDUPLICATION, sent.clone()));
        }
        let delay = content.delay.unwrap_or(self.settings.delay);
        state.push(Message {
            id: sent.id.clone(),
            content,
            sequence: sent.sequence.clone(),
            sent_at: now,
            first_received_at: None,
            receives: 0,
            visible_at: at + delay,
        });
        drop(state);
        self.changed.notify_waiters();
        Ok(sent)
    }

    fn take(&self, max: usize, bytes_max: usize, visibility: Duration, now: Timestamp) -> Taken {
        let at = Instant::now();
        let mut state = self.state();
        let receives_max = self.settings.redrive.as_ref().map(|(_, max)| *max);
        let is_dead =
            |message: &Message| message.visible_at <= at && receives_max.is_some_and(|max| message.receives >= max);
        let dead = if receives_max.is_some() { state.retain(|message| !is_dead(message)) } else { Vec::new() };
        let (mut received, mut bytes, mut next) = (Vec::new(), 0, None::<Instant>);
        // Groups of a FIFO queue of which an earlier message is not done.
        let mut blocked = BTreeSet::new();
        for message in &mut state.messages {
            let group = message.content.group.clone().filter(|_| self.settings.is_fifo);
            if message.visible_at > at {
                next = Some(next.map_or(message.visible_at, |next| next.min(message.visible_at)));
                blocked.extend(group);
                continue;
            }
            if group.as_ref().is_some_and(|group| blocked.contains(group)) {
                continue;
            }
            bytes += message.content.bytes();
            if received.len() == max || (bytes > bytes_max && !received.is_empty()) {
                break;
            }
            message.visible_at = at + visibility;
            message.receives += 1;
            received.push(ReceivedMessage {
                id: message.id.clone(),
                receipt: format!("{}{RECEIPT_SEPARATOR}{}", message.id, message.receives),
                content: message.content.clone(),
                sequence: message.sequence.clone(),
                sent_at: message.sent_at,
                first_received_at: *message.first_received_at.get_or_insert(now),
                receives: message.receives,
            });
        }
        Taken { received, dead, next }
    }

    /// Deletes a message for its last receiver. The receipt of an earlier receiver, or of a deleted message, does
    /// nothing. `None` if it is not a receipt.
    pub(super) fn delete(&self, receipt: &str) -> Option<()> {
        let (id, receives) = of_receipt(receipt)?;
        self.state().retain(|message| message.id != id || message.receives != receives);
        self.changed.notify_waiters();
        Some(())
    }

    fn holds(&self, receipt: &str) -> bool {
        let Some((id, receives)) = of_receipt(receipt) else { return false };
        self.state().messages.iter().any(|message| message.id == id && message.receives == receives)
    }

    /// Hides a received message for this time from now on. `None` if it is not a receipt.
    pub(super) fn change_visibility(&self, receipt: &str, visibility: Duration) -> Option<()> {
        let (id, receives) = of_receipt(receipt)?;
        let mut state = self.state();
        let received = state.messages.iter_mut().find(|message| message.id == id && message.receives == receives);
        if let Some(message) = received {
            message.visible_at = Instant::now() + visibility;
        }
        drop(state);
        self.changed.notify_waiters();
        Some(())
    }

    pub(super) fn purge(&self) {
        self.state().retain(|_| false);
    }

    pub(super) fn counts(&self) -> MessageCounts {
        let (at, state) = (Instant::now(), self.state());
        let count = |is: fn(&Message, Instant) -> bool| state.messages.iter().filter(|message| is(message, at)).count();
        MessageCounts {
            visible: count(|message, at| message.visible_at <= at),
            not_visible: count(|message, at| message.visible_at > at && message.receives > 0),
            delayed: count(|message, at| message.visible_at > at && message.receives == 0),
        }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_receipt(receipt: &str) -> Option<(&str, u32)> {
    let (id, receives) = receipt.split_once(RECEIPT_SEPARATOR)?;
    Some((id, receives.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::QueueSettings;

    const VISIBILITY: Duration = Duration::from_secs(30);

    fn queues(settings: &[QueueSettings]) -> Queues {
        Queues::new(settings.to_vec(), Clock::System)
    }

    fn plain() -> Queues {
        queues(&[QueueSettings::named("q")])
    }

    async fn receive(queues: &Queues, wait: Duration) -> Vec<ReceivedMessage> {
        queues.receive(queues.get("q").expect("a queue"), 10, usize::MAX, VISIBILITY, wait).await
    }

    async fn bodies(queues: &Queues, wait: Duration) -> Vec<String> {
        receive(queues, wait).await.into_iter().map(|message| message.content.body).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_hidden_after_it_was_received_and_comes_back_unless_it_is_deleted() {
        let queues = plain();
        let queue = queues.get("q").expect("a queue");
        queues.send("q", "a".to_owned()).expect("a queue");
        let first = receive(&queues, Duration::ZERO).await.swap_remove(0);
        assert_eq!(queue.counts(), MessageCounts { visible: 0, not_visible: 1, delayed: 0 });
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
        let queues = plain();
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

    #[tokio::test(start_paused = true)]
    async fn a_message_that_was_received_too_often_moves_to_the_dead_letter_queue() {
        let redrive = Some(("letters".to_owned(), 2));
        let queues = queues(&[QueueSettings { redrive, ..QueueSettings::named("q") }, QueueSettings::named("letters")]);
        queues.send("q", "a".to_owned()).expect("a queue");
        assert_eq!(bodies(&queues, Duration::ZERO).await, ["a"]);
        assert_eq!(bodies(&queues, VISIBILITY).await, ["a"]);
        assert!(bodies(&queues, VISIBILITY * 2).await.is_empty());
        assert_eq!(queues.get("letters").expect("a queue").counts().visible, 1);
        assert_eq!(queues.get("q").expect("a queue").state().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifo_queue_keeps_the_order_of_each_group_and_drops_duplicates() {
        let queues = queues(&[QueueSettings { is_fifo: true, ..QueueSettings::named("q") }]);
        let send = |body: &str, group: &str, id: &str| {
            let of = |text: &str| Some(text.to_owned());
            let content = NewMessage { group: of(group), deduplication: of(id), ..NewMessage::from(body.to_owned()) };
            queues.send("q", content).expect("a queue")
        };
        assert_eq!(send("a1", "a", "1"), send("a1 again", "a", "1"));
        send("b1", "b", "2");
        let first = receive(&queues, Duration::ZERO).await;
        assert_eq!(first.len(), 2);
        send("a2", "a", "3");
        assert!(receive(&queues, Duration::ZERO).await.is_empty(), "the group waits for its first message");
        queues.delete("q", &first[0].receipt);
        assert_eq!(bodies(&queues, Duration::ZERO).await, ["a2"]);
        tokio::time::sleep(DEDUPLICATION).await;
        send("a1 later", "c", "1");
        assert!(bodies(&queues, Duration::ZERO).await.contains(&"a1 later".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_and_a_batching_window_hold_messages_back() {
        let queues = plain();
        let delay = Some(Duration::from_secs(7));
        queues.send("q", NewMessage { delay, ..NewMessage::from("late".to_owned()) }).expect("a queue");
        assert_eq!(queues.get("q").expect("a queue").counts().delayed, 1);
        queues.send("q", "a".to_owned()).expect("a queue");
        let before = Instant::now();
        let batch = queues.poll("q", 10, usize::MAX, Duration::from_secs(10)).await.expect("a queue");
        assert_eq!((batch.len(), before.elapsed().as_secs()), (2, 10));
        for body in ["b", "c", "d"] {
            queues.send("q", body.to_owned()).expect("a queue");
        }
        assert_eq!(queues.poll("q", 2, usize::MAX, Duration::from_secs(10)).await.expect("a queue").len(), 2);
        assert_eq!(before.elapsed().as_secs(), 10, "a full batch does not wait");
    }
}
