//! Who is subscribed to what, and how an event reaches each of them, or does not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    channel::{Channel, Pattern},
    credentials::Credentials,
    error::{EventError, Refused},
    limits::{OVERTAKEN_WITHIN, SUBSCRIPTIONS_MAX},
    shared_parts::SharedParts,
};
use crate::{
    faults::FaultKind,
    gateway::{Connection, SendError},
    rate::TokenBucket,
};

/// One socket of a client.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Arc<Connection>,
    /// With which it has connected. They count for messages without their own.
    pub(super) credentials: Credentials,
    /// Headers of the handshake, for the authorizer.
    pub(super) headers: Value,
    /// For its quota of publishes.
    pub(super) publishes: Option<Mutex<TokenBucket>>,
    /// Its subscriptions by their ids.
    live: Mutex<BTreeMap<String, Place>>,
    /// An event that another one shall overtake, as an injected fault.
    held: Mutex<Option<Utf8Bytes>>,
    /// Whether an event was dropped because the client does not read.
    has_dropped: AtomicBool,
}

/// Where a subscription is among those of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pattern: String,
    number: u64,
}

/// The subscriptions of an API, by pattern and in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    begun: AtomicU64,
    by_pattern: Mutex<BTreeMap<String, BTreeMap<u64, Subscriber>>>,
}

#[derive(Clone, Debug)]
struct Subscriber {
    session: Arc<Session>,
    id: String,
}

/// Ignores poisoning: each operation on a map is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn new(
        connection: Arc<Connection>,
        credentials: Credentials,
        headers: Value,
        publishes: Option<Mutex<TokenBucket>>,
    ) -> Self {
        Self {
            connection,
            credentials,
            headers,
            publishes,
            live: Mutex::default(),
            held: Mutex::default(),
            has_dropped: AtomicBool::new(false),
        }
    }

    /// Hands an event to the socket, unless a fault is injected: then it is lost, late, doubled, or overtaken.
    fn deliver(self: &Arc<Self>, shared: &Arc<SharedParts>, id: &str, text: Utf8Bytes) {
        let injected = |kind| shared.faults.inject(kind);
        if injected(FaultKind::LostEvent).is_some() {
            return;
        }
        let is_doubled = injected(FaultKind::DoubledEvent).is_some();
        let is_overtaken = injected(FaultKind::ReorderedEvent).is_some();
        if let Some(after) = injected(FaultKind::LateEvent) {
            let (session, id, text) = (Arc::clone(self), id.to_owned(), text.clone());
            shared.later(after, text.len(), move || {
                let is_live = lock(&session.live).contains_key(&id);
                if is_live {
                    session.send(text);
                }
            });
        } else if is_overtaken && self.hold(&text) {
            let session = Arc::clone(self);
            shared.later(OVERTAKEN_WITHIN, text.len(), move || session.release());
        } else {
            self.send(text.clone());
            self.release();
        }
        if is_doubled {
            self.send(text);
        }
    }

    /// Holds an event back, unless another one is held already.
    fn hold(&self, text: &Utf8Bytes) -> bool {
        let mut held = lock(&self.held);
        let is_free = held.is_none();
        held.get_or_insert_with(|| text.clone());
        is_free
    }

    /// Sends the event that was held back, if there is one.
    fn release(&self) {
        let held = lock(&self.held).take();
        held.into_iter().for_each(|text| self.send(text));
    }

    /// Queues an event. One that does not fit, as the client does not read, and one for a client that is gone is
    /// dropped: nobody promises more.
    fn send(&self, text: Utf8Bytes) {
        if self.connection.queue(text) == Err(SendError::BufferFull) && !self.has_dropped.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                connection = self.connection.id,
                "events dropped: too many wait for a client that does not read"
            );
        }
    }

    /// Reserves an id for a subscription. Nothing is delivered to it yet.
    pub(super) fn reserve(&self, all: &Subscriptions, id: &str, pattern: &Pattern) -> Result<Place, EventError> {
        let mut live = lock(&self.live);
        if live.contains_key(id) {
            let message = format!("Subscription id {id} is in use");
            return Err(EventError { refused: Refused::BadRequest, message: message.into() });
        }
        if live.len() >= SUBSCRIPTIONS_MAX {
            return Err(EventError::new(
                Refused::TooManySubscriptions,
                "Max number of subscriptions per connection reached",
            ));
        }
        let number = all.begun.fetch_add(1, Ordering::Relaxed);
        let place = Place { pattern: pattern.key(), number };
        live.insert(id.to_owned(), place.clone());
        Ok(place)
    }

    /// Gives up a reservation.
    pub(super) fn forget(&self, id: &str, place: &Place) {
        let mut live = lock(&self.live);
        if live.get(id) == Some(place) {
            live.remove(id);
        }
    }

    /// Begins to deliver to a subscription. Returns false if it was ended before.
    pub(super) fn begin(
        self: &Arc<Self>,
        shared: &Arc<SharedParts>,
        all: &Arc<Subscriptions>,
        id: &str,
        place: &Place,
    ) -> bool {
        if let Some(after) = shared.faults.inject(FaultKind::LateSubscription) {
            let (session, of, name, begun) = (Arc::clone(self), Arc::clone(all), id.to_owned(), place.clone());
            shared.later(after, 0, move || {
                session.add(&of, &name, &begun);
            });
            return lock(&self.live).get(id) == Some(place);
        }
        self.add(all, id, place)
    }

    /// Adds a subscription that has not ended to those of the API.
    fn add(self: &Arc<Self>, all: &Subscriptions, id: &str, place: &Place) -> bool {
        // Locked until it is added, so that it cannot end in between and then stay.
        let live = lock(&self.live);
        let is_live = live.get(id) == Some(place);
        if is_live {
            let subscriber = Subscriber { session: Arc::clone(self), id: id.to_owned() };
            let mut by_pattern = lock(&all.by_pattern);
            by_pattern.entry(place.pattern.clone()).or_default().insert(place.number, subscriber);
        }
        is_live
    }

    /// Ends a subscription. Returns false if there is none with this id.
    pub(super) fn end(&self, all: &Subscriptions, id: &str) -> bool {
        let place = lock(&self.live).remove(id);
        place.iter().for_each(|place| all.remove(place));
        place.is_some()
    }

    /// Ends all subscriptions.
    pub(super) fn end_all(&self, all: &Subscriptions) {
        let live = std::mem::take(&mut *lock(&self.live));
        live.values().for_each(|place| all.remove(place));
    }
}

impl Subscriptions {
    fn remove(&self, place: &Place) {
        let mut by_pattern = lock(&self.by_pattern);
        if let Some(subscribers) = by_pattern.get_mut(&place.pattern) {
            subscribers.remove(&place.number);
            if subscribers.is_empty() {
                by_pattern.remove(&place.pattern);
            }
        }
    }

    /// Delivers an event to each subscription that its channel matches, and returns their number. Subscriptions wait
    /// meanwhile, so that none gets an event after it has ended.
    pub(super) fn deliver(&self, shared: &Arc<SharedParts>, channel: &Channel, event: &str) -> usize {
        let event = json!(event).to_string();
        let by_pattern = lock(&self.by_pattern);
        let matching = channel.patterns().filter_map(|pattern| by_pattern.get(&pattern));
        let mut delivered = 0;
        for Subscriber { session, id } in matching.flat_map(BTreeMap::values) {
            let frame = format!(r#"{{"type":"data","id":{},"event":{event}}}"#, json!(id));
            session.deliver(shared, id, frame.into());
            delivered += 1;
        }
        delivered
    }
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;

    use super::{super::limits::EVENT_BYTES_MAX, *};
    use crate::gateway::{Backlog, BacklogBounds, OutboundReceiver, outbound};

    fn session() -> (Arc<Session>, OutboundReceiver) {
        session_among(&Arc::default())
    }

    /// A session whose waiting frames count among those of all.
    fn session_among(all: &Arc<Backlog>) -> (Arc<Session>, OutboundReceiver) {
        let (outbound, waiting) = outbound(all);
        let (at, peer) = (Timestamp::from_millis(0), ([127, 0, 0, 1], 1).into());
        let connection = Connection::new("c".to_owned(), at, peer, None, String::new(), outbound);
        let credentials = Credentials::default();
        (Arc::new(Session::new(Arc::new(connection), credentials, Value::Null, None)), waiting)
    }

    #[test]
    fn events_for_a_client_that_does_not_read_are_bounded_and_those_after_them_dropped() {
        let (session, mut waiting) = session();
        let frames_max = BacklogBounds::OUTBOUND.messages;
        for n in 0..frames_max + 50 {
            session.send(n.to_string().into());
        }
        let kept: Vec<String> = std::iter::from_fn(|| waiting.try_recv()).map(|text| text.to_string()).collect();
        assert_eq!(kept.len(), frames_max);
        assert_eq!(kept.last(), Some(&(frames_max - 1).to_string()), "the first ones are kept");
        // What was taken makes room again.
        session.send("next".into());
        assert_eq!(waiting.try_recv().as_deref(), Some("next"));
    }

    #[test]
    fn the_bytes_that_wait_are_bounded_for_each_client_and_for_all_of_them() {
        let BacklogBounds { messages, bytes, total_bytes, .. } = BacklogBounds::OUTBOUND;
        // The largest event: each of its characters takes two in a frame.
        let event: Utf8Bytes = "x".repeat(2 * EVENT_BYTES_MAX).into();
        let all = Arc::default();
        let sessions: Vec<_> = (0..total_bytes / bytes + 30).map(|_| session_among(&all)).collect();
        for (session, _) in &sessions {
            (0..messages).for_each(|_| session.send(event.clone()));
        }
        let waiting: Vec<usize> = sessions.iter().map(|(_, waiting)| waiting.len() * event.len()).collect();
        assert!((bytes - event.len()..=bytes).contains(&waiting[0]), "{waiting:?}");
        let sum: usize = waiting.iter().sum();
        assert!(sum <= total_bytes + sessions.len() * event.len(), "{sum}");
        assert_eq!(waiting.last(), Some(&event.len()), "a client beyond the total has room for one");
    }

    #[test]
    fn nothing_stays_of_subscriptions_that_end_in_any_order() {
        let all = Subscriptions::default();
        let pattern = |text: &str| Pattern::parse(text).expect("valid");
        let (session, _waiting) = session();
        let place = session.reserve(&all, "a", &pattern("/n/x")).expect("free");
        assert!(session.reserve(&all, "a", &pattern("/n/y")).is_err(), "the id is in use");
        assert!(session.add(&all, "a", &place));
        // Ended while an authorizer decides: it never begins.
        let pending = session.reserve(&all, "b", &pattern("/n/*")).expect("free");
        assert!(session.end(&all, "b") && !session.add(&all, "b", &pending));
        let again = session.reserve(&all, "b", &pattern("/n/*")).expect("free again");
        session.forget("b", &pending);
        assert!(session.add(&all, "b", &again), "the older one does not end its successor");
        session.end_all(&all);
        assert!(lock(&all.by_pattern).is_empty() && lock(&session.live).is_empty());
    }
}
