//! Asynchronous invocations that were accepted and have not ended: they wait for their turn, run, or wait for a retry.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most events that wait or run. Our own choice: the service keeps them for six hours.
const EVENTS_MAX: usize = 10_000;

/// Most bytes of these events. Our own choice.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The events of all functions.
#[derive(Debug, Default)]
pub(super) struct AcceptedEvents(Mutex<Accepted>);

#[derive(Debug, Default)]
struct Accepted {
    count: usize,
    bytes: usize,
    by_function: BTreeMap<String, usize>,
    /// Those that were dropped without an end, by function.
    given_up: BTreeMap<String, usize>,
}

/// One event, until it is dropped.
#[derive(Debug)]
pub(super) struct AcceptedEvent {
    all: Arc<AcceptedEvents>,
    function: String,
    bytes: usize,
}

impl AcceptedEvents {
    /// Accepts an event. `None` if there is no room for it; an event alone always has room.
    pub(super) fn accept(self: &Arc<Self>, function: &str, bytes: usize) -> Option<AcceptedEvent> {
        let mut accepted = self.lock();
        let is_full = accepted.count >= EVENTS_MAX || accepted.bytes + bytes > EVENT_BYTES_MAX;
        if is_full && accepted.count > 0 {
            return None;
        }
        accepted.count += 1;
        accepted.bytes += bytes;
        *accepted.by_function.entry(function.to_owned()).or_default() += 1;
        drop(accepted);
        Some(AcceptedEvent { all: Arc::clone(self), function: function.to_owned(), bytes })
    }

    /// Says how many events of which functions were given up or have not ended, such as `2 of Message`. `None` if all
    /// have ended.
    pub(super) fn unfinished(&self) -> Option<String> {
        let accepted = self.lock();
        let mut all = accepted.given_up.clone();
        for (function, count) in &accepted.by_function {
            *all.entry(function.clone()).or_default() += count;
        }
        let all: Vec<String> = all.iter().map(|(function, count)| format!("{count} of {function}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Ignores poisoning: no operation under the lock panics halfway.
    fn lock(&self) -> MutexGuard<'_, Accepted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AcceptedEvent {
    /// Counts the event as given up.
    pub(super) fn give_up(self) {
        *self.all.lock().given_up.entry(self.function.clone()).or_default() += 1;
    }
}

impl Drop for AcceptedEvent {
    fn drop(&mut self) {
        let mut accepted = self.all.lock();
        accepted.count -= 1;
        accepted.bytes -= self.bytes;
        if let Some(count) = accepted.by_function.get_mut(&self.function) {
            *count -= 1;
            if *count == 0 {
                accepted.by_function.remove(&self.function);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_accepted_up_to_a_number_and_a_size_and_again_when_others_end() {
        let all = Arc::new(AcceptedEvents::default());
        let large = all.accept("F", EVENT_BYTES_MAX + 1).expect("alone");
        assert!(all.accept("F", 0).is_none());
        drop(large);
        let mut held: Vec<_> = (0..EVENTS_MAX).map(|_| all.accept("F", 1).expect("room")).collect();
        assert!(all.accept("G", 1).is_none());
        held.pop();
        let other = all.accept("G", 1).expect("room again");
        held.truncate(2);
        held.pop().expect("one").give_up();
        assert_eq!(all.unfinished().as_deref(), Some("2 of F, 1 of G"));
        drop((held, other));
        assert_eq!(all.unfinished().as_deref(), Some("1 of F"), "what was given up is remembered");
        let accepted = all.lock();
        assert_eq!((accepted.count, accepted.bytes), (0, 0));
    }
}
