//! A concurrency limit with a fair queue: waiting sources take turns, and the invocations of one source keep their
//! order.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Limits the invocations that run at once. If the limit is reached, sources take turns, so that a source with many
/// invocations delays another by only one of them.
#[derive(Debug)]
pub(super) struct FairConcurrencyLimit(Mutex<LimitState>);

#[derive(Debug)]
struct LimitState {
    free: usize,
    /// The waiting sources in the order of their turns, each once.
    order: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<()>>>,
}

/// Permission to run. Dropping it lets the next invocation run.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a FairConcurrencyLimit);

impl FairConcurrencyLimit {
    /// Makes a limit of `max` invocations.
    pub(super) fn new(max: usize) -> Self {
        Self(Mutex::new(LimitState { free: max, order: VecDeque::new(), waiting: HashMap::new() }))
    }

    /// Waits for a permit.
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
        // The sender is dropped only with the whole limit, and then nothing runs any more.
        let _ = turn.await;
        Permit(self)
    }

    /// Passes a permit to the source whose turn it is.
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
            // An invocation that stopped waiting passes its turn on.
            if next.is_some_and(|next| next.send(()).is_ok()) {
                return;
            }
        }
        state.free += 1;
    }

    /// Ignores poisoning: no operation under the lock panics halfway.
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
    fn a_source_with_many_invocations_delays_others_by_only_one() {
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
        assert!(flood[1].as_mut().now_or_never().is_some(), "and then the flood again, in its order");
    }

    #[test]
    fn an_invocation_that_stops_waiting_passes_its_turn_on_and_nothing_is_left() {
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
