//! A value that another service holds, such as a secret or the keys of an issuer: kept for a while, and fetched again
//! after that.
//!
//! One fetch runs at a time, however many callers need it. With no value, all of them wait for that fetch. With an
//! older value, the caller that starts the fetch waits for it, at most [`REFRESH_WAIT`], and all others get the older
//! value at once.
//!
//! That one caller waits because Lambda freezes an execution environment between invocations. A fetch that nobody waits
//! for would be frozen with it, and an environment with few invocations would use a value long after the end of its
//! time.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    error::{ErrorChain, InternalError},
    limits::{REFRESH_PAUSE, REFRESH_PAUSE_MAX, REFRESH_WAIT},
};

/// What a fetch returns.
pub(crate) type Fetched<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long a value is used, and how long fetching it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// What a fetch does, as in [`InternalError::new`].
    pub(crate) doing: &'static str,
    /// Age at which the value is fetched again.
    pub(crate) age_max: Duration,
    /// Age up to which it is used while it cannot be fetched.
    pub(crate) kept_max: Duration,
    /// Longest time of one fetch.
    pub(crate) timeout: Duration,
}

/// A value, and the way to fetch it.
pub(crate) struct Refreshed<T> {
    terms: Terms,
    /// Names the value in the log.
    name: String,
    clock: Clock,
    fetch: Box<dyn Fn() -> BoxFuture<'static, Fetched<T>> + Send + Sync>,
    state: Arc<Mutex<RefreshState<T>>>,
    /// Held by the fetch that is running.
    turn: Arc<Turn<()>>,
}

#[derive(Debug)]
struct RefreshState<T> {
    /// The value, and when the fetch that returned it began.
    held: Option<(T, Timestamp)>,
    /// When the last fetch began.
    asked_at: Option<Timestamp>,
    /// How the last fetch failed, if it did.
    failed: Option<FailedFetch>,
}

#[derive(Debug)]
struct FailedFetch {
    at: Timestamp,
    /// Failures in a row.
    count: u32,
    reason: String,
}

impl FailedFetch {
    /// Pause after this failure. It doubles from one failure to the next.
    fn pause(&self) -> Duration {
        let doublings = self.count.saturating_sub(1).min(u32::BITS - 1);
        REFRESH_PAUSE.saturating_mul(1 << doublings).min(REFRESH_PAUSE_MAX)
    }
}

/// The value is not shown: it may be a secret.
impl<T> fmt::Debug for Refreshed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refreshed({})", self.name)
    }
}

impl<T: Clone + Send + 'static> Refreshed<T> {
    /// A value that `fetch` gets. It is not fetched before it is needed.
    pub(crate) fn new<F>(terms: Terms, name: String, clock: Clock, fetch: F) -> Self
    where
        F: Fn() -> BoxFuture<'static, Fetched<T>> + Send + Sync + 'static,
    {
        let state = Arc::new(Mutex::new(RefreshState { held: None, asked_at: None, failed: None }));
        Self { terms, name, clock, fetch: Box::new(fetch), state, turn: Arc::default() }
    }

    /// Returns the value, fetched again if it is too old. Fails if it cannot be fetched and no older value may be used.
    pub(crate) async fn get(&self) -> Result<T, InternalError> {
        if let Some(value) = self.younger_than(self.terms.age_max) {
            return Ok(value);
        }
        let Some(older) = self.younger_than(self.terms.kept_max) else { return self.first().await };
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned()
            && self.is_due()
        {
            // The fetch goes on if it takes longer, and a later caller gets what it returns.
            let _ = timeout(REFRESH_WAIT, self.start(turn)).await;
        }
        Ok(self.younger_than(self.terms.kept_max).unwrap_or(older))
    }

    /// Fetches the value again and returns it. Within `pause` after the beginning of a fetch there is no other one:
    /// then it returns what that fetch returned, or fails if it failed.
    pub(crate) async fn get_again(&self, pause: Duration) -> Result<T, InternalError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let asked_at = self.state().asked_at;
        if asked_at.is_none_or(|at| self.clock.now().since(at) >= pause) {
            self.finish(turn).await;
        }
        let failed = self.state().failed.is_some();
        self.younger_than(self.terms.kept_max).filter(|_| !failed).ok_or_else(|| self.failure())
    }

    /// The value where none was there: whoever comes first fetches it, and the others wait for that.
    async fn first(&self) -> Result<T, InternalError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if self.is_due() {
            self.finish(turn).await;
        }
        self.younger_than(self.terms.kept_max).ok_or_else(|| self.failure())
    }

    /// Whether the value is too old, and the pause after the last failure is over.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        let is_over = |failed: &FailedFetch| now.since(failed.at) >= failed.pause();
        self.younger_than(self.terms.age_max).is_none() && self.state().failed.as_ref().is_none_or(is_over)
    }

    /// Fetches, and waits for the end. A fetch that panics, which the panic hook reports, has changed nothing.
    async fn finish(&self, turn: OwnedMutexGuard<()>) {
        let _ = self.start(turn).await;
    }

    /// Starts a fetch, which goes on when its caller does not.
    fn start(&self, turn: OwnedMutexGuard<()>) -> JoinHandle<()> {
        let (fetch, state, clock) = ((self.fetch)(), Arc::clone(&self.state), self.clock.clone());
        let (time, kept_max, name) = (self.terms.timeout, self.terms.kept_max, self.name.clone());
        let began = clock.now();
        self.state().asked_at = Some(began);
        tokio::spawn(async move {
            let fetched = timeout(time, fetch).await.unwrap_or_else(|_| Err(format!("nothing within {time:?}").into()));
            let mut state = lock(&state);
            match fetched {
                Ok(value) => {
                    state.held = Some((value, began));
                    state.failed = None;
                }
                Err(error) => {
                    let (at, reason) = (clock.now(), ErrorChain(&*error).to_string());
                    if state.held.as_ref().is_some_and(|(_, fetched_at)| at.since(*fetched_at) < kept_max) {
                        tracing::warn!(name, error = reason, "value not fetched again, the older one is used");
                    }
                    let count = state.failed.as_ref().map_or(1, |failed| failed.count.saturating_add(1));
                    state.failed = Some(FailedFetch { at, count, reason });
                }
            }
            drop((state, turn));
        })
    }

    fn younger_than(&self, age: Duration) -> Option<T> {
        let now = self.clock.now();
        let state = self.state();
        state.held.as_ref().filter(|(_, fetched_at)| now.since(*fetched_at) < age).map(|(value, _)| value.clone())
    }

    fn failure(&self) -> InternalError {
        let reason = self.state().failed.as_ref().map(|failed| failed.reason.clone());
        InternalError::new(self.terms.doing, reason.unwrap_or_else(|| "nothing was fetched".to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, RefreshState<T>> {
        lock(&self.state)
    }
}

fn lock<T>(state: &Mutex<RefreshState<T>>) -> MutexGuard<'_, RefreshState<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
