//! Posting to the members of one part, and what becomes of each post.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    error::InternalError,
    fanout::{
        concurrency_limit::{ConcurrencyLimit, ConcurrencyPermit},
        frames::Frames,
        push_rate::PushRateLimiter,
        services::{Fanout, Services},
        suspect::Suspect,
    },
    limits::{
        GONE_GRACE, OPENING_WAIT, POST_BACKOFF, POST_BACKOFF_MAX, POST_SLOW_AFTER, POST_TIMEOUT, POST_TIMEOUTS_MAX,
    },
    model::{connection::ConnectionId, member::Member},
    push::{Cause, PostOutcome},
    runtime::backoff::Backoff,
};

/// The gateway refuses this deployment's calls.
#[derive(Debug, thiserror::Error)]
#[error(
    "the management API refuses posts: the endpoint lacks its stage or names another API, \
     or the function may not execute-api:ManageConnections"
)]
struct GatewayRefused;

/// What the posts of one part have in common.
pub(super) struct Work<'a, S> {
    pub(super) fanout: &'a Fanout<S>,
    pub(super) rate_limiter: &'a PushRateLimiter,
    /// Posts in flight that are not slow.
    pub(super) concurrency: &'a ConcurrencyLimit,
    pub(super) frames: &'a Frames,
    /// Whether the gateway has taken any post of this part.
    pub(super) has_sent: AtomicBool,
}

/// What became of one member.
pub(super) struct Post {
    pub(super) end: End,
    /// How long the last attempt took, where there was any.
    pub(super) latency: Option<Duration>,
    pub(super) throttled: u64,
    pub(super) retried: u64,
}

impl Post {
    /// An end without an attempt.
    pub(super) fn of(end: End) -> Self {
        Self { end, latency: None, throttled: 0, retried: 0 }
    }
}

pub(super) enum End {
    Sent,
    /// It was said to be gone, which is asked again later.
    Suspected(Box<Suspect>),
    /// The connection is gone, and what is left of it shall be removed.
    Gone(ConnectionId),
    /// The same, but it was there when it was closed.
    Closed(ConnectionId),
    Undelivered(Cause),
}

/// How far the posts to one member have come, whatever ends them.
struct Progress {
    latency: Duration,
    throttled: u64,
    retried: u64,
    /// Why the last attempt did not succeed.
    cause: Cause,
}

/// How the attempts to post to one member ended.
enum Attempts {
    Sent,
    Gone,
    Failed(Cause),
}

impl Default for Progress {
    fn default() -> Self {
        Self { latency: POST_TIMEOUT, throttled: 0, retried: 0, cause: Cause::TimedOut }
    }
}

impl<S: Services> Work<'_, S> {
    /// Waits until one more post may start.
    pub(super) async fn admit(&self, member: Member) -> Result<(Member, Option<ConcurrencyPermit>), InternalError> {
        let permit = self.concurrency.take().await;
        self.rate_limiter.wait().await;
        Ok((member, permit))
    }

    /// Posts to one member until that has an end. The lane is given back when the post turns out to be slow.
    pub(super) async fn deliver(
        &self,
        member: Member,
        permit: Option<ConcurrencyPermit>,
    ) -> Result<Post, InternalError> {
        let mut post = std::pin::pin!(self.post(member, Instant::now() + POST_TIMEOUT));
        match timeout(POST_SLOW_AFTER, &mut post).await {
            Ok(ended) => ended,
            Err(_) => {
                drop(permit);
                post.await
            }
        }
    }

    /// Posts to one member, again and again where that may help.
    pub(super) async fn post(&self, member: Member, give_up: Instant) -> Result<Post, InternalError> {
        let mut progress = Progress::default();
        let end = timeout_at(give_up, self.post_until_it_ends(&member, give_up, &mut progress)).await;
        let Progress { latency, throttled, retried, cause } = progress;
        let end = match end.unwrap_or(Ok(Attempts::Failed(cause)))? {
            Attempts::Sent => End::Sent,
            Attempts::Gone => End::Suspected(Box::new(Suspect::new(member))),
            Attempts::Failed(cause) => End::Undelivered(cause),
        };
        Ok(Post { end, latency: Some(latency), throttled, retried })
    }

    async fn post_until_it_ends(
        &self,
        member: &Member,
        give_up: Instant,
        progress: &mut Progress,
    ) -> Result<Attempts, InternalError> {
        let services = &self.fanout.services;
        let frame = self.frames.of_format(member.format);
        let opened_by = Instant::now() + OPENING_WAIT;
        let (mut timeouts, mut backoff) = (0, Backoff::new(POST_BACKOFF, POST_BACKOFF_MAX));
        loop {
            let asked = Instant::now();
            let answer = services.post(&member.connection, frame).await;
            progress.latency = asked.elapsed();
            progress.cause = match answer {
                PostOutcome::Sent => {
                    self.has_sent.store(true, Ordering::Relaxed);
                    return Ok(Attempts::Sent);
                }
                PostOutcome::Refused => return Ok(Attempts::Failed(Cause::Rejected)),
                // Once others were taken, it may be this one alone: how many there are is seen in the end.
                PostOutcome::Forbidden if self.has_sent.load(Ordering::Relaxed) => {
                    return Ok(Attempts::Failed(Cause::Forbidden));
                }
                PostOutcome::Forbidden => return Err(InternalError::new("posting an alert", GatewayRefused)),
                PostOutcome::Throttled => {
                    progress.throttled += 1;
                    // A client whose own buffer is full is refused again and again: that says nothing of the rate.
                    if progress.throttled == 1 {
                        self.rate_limiter.refused();
                    }
                    Cause::Throttled
                }
                // Gone is what is answered as well while `$connect` has not returned.
                PostOutcome::Gone if self.is_young(member) && Instant::now() < opened_by => Cause::Unconfirmed,
                PostOutcome::Gone => return Ok(Attempts::Gone),
                PostOutcome::Transient(Cause::TimedOut) => {
                    timeouts += 1;
                    if timeouts == POST_TIMEOUTS_MAX {
                        return Ok(Attempts::Failed(Cause::TimedOut));
                    }
                    Cause::TimedOut
                }
                PostOutcome::Transient(cause) => cause,
            };
            let pause = backoff.next(services.random());
            if Instant::now() + pause >= give_up {
                return Ok(Attempts::Failed(progress.cause));
            }
            progress.retried += 1;
            sleep(pause).await;
            self.rate_limiter.wait().await;
        }
    }

    /// Whether it is answered that it is gone because it may be opening still.
    pub(super) fn is_young(&self, member: &Member) -> bool {
        self.fanout.clock.now().since(member.since) < GONE_GRACE
    }
}
