//! Rounds of posts: first to those who are not suspected to be gone, then to those who are.

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::time::Instant;

use crate::{
    error::InternalError,
    fanout::{post::Work, services::Services, suspect::Suspect, tally::Tally},
    limits::{CALLS_PER_SUSPECT, HANDOVER_BEFORE, POSTS_OPEN_MAX, SUSPECTS_END_BEFORE},
    model::{connection::Slot, member::Member},
};

/// What one invocation leaves to the next.
#[derive(Debug)]
pub(super) struct Left {
    /// The hash of the first member that was not reached.
    pub(super) from: Option<u32>,
    /// The hashes of suspects about whom there was no time to be certain.
    pub(super) suspects: BTreeSet<u32>,
}

impl<S: Services> Work<'_, S> {
    /// Posts to members as long as there is time. Suspects wait until all others have had their post, or until there
    /// are [`suspects_max`](super::Fanout).
    pub(super) async fn reach(
        &self,
        members: BoxStream<'_, Result<Member, InternalError>>,
        deadline: Instant,
        tally: &mut Tally<'_>,
    ) -> Result<Left, InternalError> {
        let (stop_at, settled_by) = (before(deadline, HANDOVER_BEFORE), before(deadline, SUSPECTS_END_BEFORE));
        let suspected = AtomicUsize::new(0);
        let has_time = || Instant::now() + self.time_for(suspected.load(Ordering::Relaxed)) < stop_at;
        let unreached = OnceLock::new();
        let mut last = None;
        let mut admitted = members
            .and_then(|member| self.admit(member))
            .try_take_while(|(member, _)| {
                // Connections whose hashes are equal stay together, as ranges do not tell them apart. And one hash at
                // least, so that a chain of invocations comes to an end whatever their time limit.
                let goes_on = has_time() || {
                    let hash = Slot::of(&member.connection).hash();
                    let is_last = *last.get_or_insert(hash) == hash;
                    if !is_last {
                        unreached.get_or_init(|| hash);
                    }
                    is_last
                };
                ready(Ok(goes_on))
            })
            .boxed()
            .fuse();
        let mut suspects: Vec<Suspect> = Vec::new();
        loop {
            let is_paused = AtomicBool::new(false);
            let pauses = || {
                let pauses = suspected.load(Ordering::Relaxed) >= self.fanout.suspects_max && has_time();
                is_paused.fetch_or(pauses, Ordering::Relaxed);
                pauses
            };
            let pauses = &pauses;
            // A member is either taken or not asked for: one that waits for its turn would hold up all others.
            let round = stream::unfold(&mut admitted, |admitted| async move {
                if pauses() { None } else { admitted.next().await.map(|member| (member, admitted)) }
            });
            let mut posts = round
                .map_ok(|(member, permit)| self.deliver(member, permit))
                .try_buffer_unordered(POSTS_OPEN_MAX)
                .boxed();
            while let Some(post) = posts.try_next().await? {
                suspects.extend(tally.add(post));
                suspected.store(suspects.len(), Ordering::Relaxed);
            }
            drop(posts);
            suspects = self.settle(suspects, settled_by, tally).await?;
            suspected.store(suspects.len(), Ordering::Relaxed);
            if !is_paused.load(Ordering::Relaxed) {
                break;
            }
        }
        drop(admitted);
        Ok(Left { from: unreached.get().copied(), suspects: suspects.iter().map(Suspect::hash).collect() })
    }

    /// Time that the calls about suspects take at the rate that there is.
    fn time_for(&self, suspects: usize) -> Duration {
        Duration::from_secs_f64(suspects as f64 * CALLS_PER_SUSPECT / self.rate_limiter.ceiling())
    }
}

fn before(instant: Instant, duration: Duration) -> Instant {
    instant.checked_sub(duration).unwrap_or(instant)
}
