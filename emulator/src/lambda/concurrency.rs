//! Who runs next where more wait than may run: each source in turn, and the invocations of one source in their order.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Places for invocations. Where none is free, those who wait get the next ones by turns, so that one that asks for many
/// holds nobody up for longer than one of its own.
#[derive(Debug)]
pub(super) struct FairConcurrencyLimit(Mutex<LimitState>);

#[derive(Debug)]
struct LimitState {
    free: usize,
    /// The sources that wait, in the order of their turns. Each is here once.
    order: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<()>>>,
}

/// A place, as long as this is there.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a FairConcurrencyLimit);

impl FairConcurrencyLimit {
    /// As many places as `max`.
    pub(super) fn new(max: usize) -> Self {
        Self(Mutex::new(LimitState { free: max, order: VecDeque::new(), waiting: HashMap::new() }))
    }

    /// Waits for a place.
    pub(super) async fn acquire(&self, source: &str) -> Permit<'_> {
        let turn = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Permit(self);
            }
            let (called, turn) = oneshot::channel();
            if let Some(queue) = state.waiting.get_mut(source) {
                queue.push_back(called);
            } else {
                let source: Arc<str> = source.into();
                state.order.push_back(Arc::clone(&source));
                state.waiting.insert(source, VecDeque::from([called]));
            }
            turn
        };
        // The sender is dropped only with all of this, and then nobody runs anything.
        let _ = turn.await;
        Permit(self)
    }

    /// Hands a place to whose turn it is.
    fn release(&self) {
        let mut state = self.lock();
        while let Some(source) = state.order.pop_front() {
            let Some(queue) = state.waiting.get_mut(&source) else { continue };
            let next = queue.pop_front();
            if queue.is_empty() {
                state.waiting.remove(&source);
            } else {
                state.order.push_back(source);
            }
            // One that waits no more passes its turn on.
            if next.is_some_and(|next| next.send(()).is_ok()) {
                return;
            }
        }
        state.free += 1;
    }

    /// A thread that panicked while it held the lock left the queues whole.
    fn lock(&self) -> MutexGuard<'_, LimitState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_asks_for_many_holds_nobody_up_for_longer_than_one() {
        let limit = FairConcurrencyLimit::new(1);
        let first = limit.acquire("flood").now_or_never().expect("free");
        let mut flood: Vec<_> = (0..100).map(|_| Box::pin(limit.acquire("flood"))).collect();
        assert!(flood.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        let mut other = Box::pin(limit.acquire("other"));
        let mut another = Box::pin(limit.acquire("another"));
        assert!(other.as_mut().now_or_never().is_none() && another.as_mut().now_or_never().is_none());
        drop(first);
        let of_flood = flood[0].as_mut().now_or_never().expect("it was there first");
        assert!(flood[1].as_mut().now_or_never().is_none());
        drop(of_flood);
        let of_other = other.as_mut().now_or_never().expect("its turn");
        assert!(flood[1].as_mut().now_or_never().is_none() && another.as_mut().now_or_never().is_none());
        drop(of_other);
        drop(another.as_mut().now_or_never().expect("its turn"));
        assert!(flood[1].as_mut().now_or_never().is_some(), "and then the flood's again, in its order");
    }

    #[test]
    fn one_that_waits_no_more_passes_its_turn_on_and_nothing_is_left_at_the_end() {
        let limit = FairConcurrencyLimit::new(2);
        let held = [limit.acquire("a").now_or_never().expect("free"), limit.acquire("b").now_or_never().expect("free")];
        let mut gone = Box::pin(limit.acquire("a"));
        let mut waits = Box::pin(limit.acquire("a"));
        assert!(gone.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none());
        drop(gone);
        drop(held);
        drop(waits.as_mut().now_or_never().expect("its turn"));
        drop(waits);
        let state = limit.lock();
        assert_eq!((state.free, state.order.len(), state.waiting.len()), (2, 0, 0));
    }
}
