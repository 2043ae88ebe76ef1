//! Work that goes on by itself: what streams and queues invoke, and retries. `POST /reset` makes it stop and forget.

use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// Whoever works holds it together with others, and a reset alone.
    turns: RwLock<()>,
    /// Counts resets.
    resets: watch::Sender<u64>,
}

/// A piece of work, which belongs to the time before or after a reset.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    background: &'a Background,
    began: u64,
}

/// While it is held, nothing works.
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    background: &'a Background,
    _alone: RwLockWriteGuard<'a, ()>,
}

/// While it is held, no reset happens.
pub(crate) type Turn<'a> = RwLockReadGuard<'a, ()>;

impl Background {
    /// Work that begins now.
    pub(crate) fn begin(&self) -> Work<'_> {
        Work { background: self, began: *self.resets.borrow() }
    }

    /// A turn for work that has not begun.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        self.turns.read().await
    }

    /// Waits until nothing works, and keeps it so.
    pub(crate) async fn pause(&self) -> Paused<'_> {
        Paused { background: self, _alone: self.turns.write().await }
    }
}

impl<'a> Work<'a> {
    /// Waits for its turn. `None` if a reset has happened since it began: then it is dropped.
    pub(crate) async fn turn(&self) -> Option<Turn<'a>> {
        let turn = self.background.turns.read().await;
        (*self.background.resets.borrow() == self.began).then_some(turn)
    }

    /// Waits for this time. Returns false at once if a reset happens.
    pub(crate) async fn sleep(&self, time: Duration) -> bool {
        let mut resets = self.background.resets.subscribe();
        // The sender lives as long as this borrow, so waiting cannot fail.
        let reset = resets.wait_for(|number| *number != self.began);
        tokio::time::timeout(time, reset).await.is_err()
    }
}

impl Paused<'_> {
    /// Makes all work that has begun be dropped.
    pub(crate) fn forget(&self) {
        self.background.resets.send_modify(|number| *number += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reset_waits_for_a_turn_and_drops_what_has_begun() {
        let background = Background::default();
        let work = background.begin();
        let turn = work.turn().await.expect("no reset yet");
        let pause = Duration::from_secs(1);
        assert!(tokio::time::timeout(pause, background.pause()).await.is_err(), "something works");
        drop(turn);
        assert!(work.sleep(pause).await, "nothing has happened");
        let paused = background.pause().await;
        assert!(tokio::time::timeout(pause, work.turn()).await.is_err(), "nothing works meanwhile");
        paused.forget();
        drop(paused);
        assert!(work.turn().await.is_none() && !work.sleep(Duration::from_secs(60 * 60)).await);
        assert!(background.begin().turn().await.is_some(), "what begins afterwards goes on");
    }
}
