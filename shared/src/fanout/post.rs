//! Posting to the members of one part, and what becomes of each post.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clock::{Clock, Timestamp};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Content, Fanout, Refused, Report, Services, suspects::Suspect};
use crate::{
    error::Failure,
    fanout::{
        concurrency_limit::{Lane, Lanes},
        latencies::Latencies,
        push_rate::Pace,
    },
    limits::{
        GONE_GRACE, GONE_REMOVED_MAX, OPENING_WAIT, POST_BACKOFF, POST_BACKOFF_MAX, POST_SLOW_AFTER,
        POST_TIME_OUTS_MAX, POST_TIMEOUT, SUSPECT_FROM,
    },
    model::{alert::Format, connection::ConnectionId},
    push::{Answer, Cause, Frame},
    tables::subscriptions::Member,
};

/// What the posts of one part have in common.
pub(super) struct Work<'a, S> {
    pub(super) fanout: &'a Fanout<S>,
    pub(super) pace: &'a Pace,
    /// Posts in flight that are not slow.
    pub(super) lanes: &'a Lanes,
    pub(super) frames: &'a Frames,
    /// Whether the gateway has taken any post of this part.
    pub(super) has_sent: AtomicBool,
}

/// What became of one member.
pub(super) struct Post {
    pub(super) end: End,
    /// How long the last attempt took, where there was any.
    latency: Option<Duration>,
    throttled: u64,
    retried: u64,
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
    pub(super) async fn admit(&self, member: Member) -> Result<(Member, Option<Lane>), Failure> {
        let lane = self.lanes.take().await;
        self.pace.wait().await;
        Ok((member, lane))
    }

    /// Posts to one member until that has an end. The lane is given back when the post turns out to be slow.
    pub(super) async fn deliver(&self, member: Member, lane: Option<Lane>) -> Result<Post, Failure> {
        let mut post = std::pin::pin!(self.post(member, Instant::now() + POST_TIMEOUT));
        match timeout(POST_SLOW_AFTER, &mut post).await {
            Ok(ended) => ended,
            Err(_) => {
                drop(lane);
                post.await
            }
        }
    }

    /// Posts to one member, again and again where that may help.
    pub(super) async fn post(&self, member: Member, give_up: Instant) -> Result<Post, Failure> {
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
    ) -> Result<Attempts, Failure> {
        let services = &self.fanout.services;
        let frame = self.frames.of_format(member.format);
        let opened_by = Instant::now() + OPENING_WAIT;
        let (mut time_outs, mut pause_max) = (0, POST_BACKOFF);
        loop {
            let asked = Instant::now();
            let answer = services.post(&member.connection, frame).await;
            progress.latency = asked.elapsed();
            progress.cause = match answer {
                Answer::Sent => {
                    self.has_sent.store(true, Ordering::Relaxed);
                    return Ok(Attempts::Sent);
                }
                Answer::Refused => return Ok(Attempts::Failed(Cause::Rejected)),
                // Once others were taken, it may be this one alone: how many there are is seen in the end.
                Answer::Forbidden if self.has_sent.load(Ordering::Relaxed) => {
                    return Ok(Attempts::Failed(Cause::Forbidden));
                }
                Answer::Forbidden => return Err(Failure::new("posting an alert", Refused)),
                Answer::Throttled => {
                    progress.throttled += 1;
                    // A client whose own buffer is full is refused again and again: that says nothing of the rate.
                    if progress.throttled == 1 {
                        self.pace.refused();
                    }
                    Cause::Throttled
                }
                // Gone is what is answered as well while `$connect` has not returned.
                Answer::Gone if self.is_young(member) && Instant::now() < opened_by => Cause::Unconfirmed,
                Answer::Gone => return Ok(Attempts::Gone),
                Answer::Transient(Cause::TimedOut) => {
                    time_outs += 1;
                    if time_outs == POST_TIME_OUTS_MAX {
                        return Ok(Attempts::Failed(Cause::TimedOut));
                    }
                    Cause::TimedOut
                }
                Answer::Transient(cause) => cause,
            };
            let pause = pause_max.mul_f64(services.random());
            if Instant::now() + pause >= give_up {
                return Ok(Attempts::Failed(progress.cause));
            }
            progress.retried += 1;
            sleep(pause).await;
            pause_max = POST_BACKOFF_MAX.min(pause_max * 2);
            self.pace.wait().await;
        }
    }

    /// Whether it is answered that it is gone because it may be opening still.
    pub(super) fn is_young(&self, member: &Member) -> bool {
        self.fanout.clock.now().since(member.since) < GONE_GRACE
    }
}

/// The ends of posts, counted in a report.
pub(super) struct Tally<'a> {
    report: &'a mut Report,
    latencies: Latencies,
    to_remove: Vec<ConnectionId>,
    clock: &'a Clock,
    dispatched_at: Timestamp,
}

impl<'a> Tally<'a> {
    pub(super) fn of(report: &'a mut Report, clock: &'a Clock, dispatched_at: Timestamp) -> Self {
        let mut tally = Self { report, latencies: Latencies::default(), to_remove: Vec::new(), clock, dispatched_at };
        tally.note_lag();
        tally
    }

    /// Counts a post. Returns the suspect, where it has no end yet.
    pub(super) fn add(&mut self, post: Post) -> Option<Suspect> {
        if let Some(latency) = post.latency {
            self.latencies.record(latency);
        }
        self.report.throttled += post.throttled;
        self.report.retried += post.retried;
        match post.end {
            End::Sent => {
                self.report.sent += 1;
                self.note_lag();
            }
            End::Suspected(suspect) => return Some(*suspect),
            End::Gone(connection) => self.add_gone(connection),
            End::Closed(connection) => {
                self.report.closed += 1;
                self.add_gone(connection);
            }
            End::Undelivered(cause) => {
                *self.report.undelivered.entry(cause).or_default() += 1;
                self.note_lag();
            }
        }
        None
    }

    fn add_gone(&mut self, connection: ConnectionId) {
        self.report.gone += 1;
        if self.to_remove.len() < GONE_REMOVED_MAX {
            self.to_remove.push(connection);
        }
    }

    fn note_lag(&mut self) {
        self.report.lag_ms = millis(self.clock.now().since(self.dispatched_at));
    }

    /// Completes the report with the times of posts. Returns what is gone.
    pub(super) fn end(self) -> Vec<ConnectionId> {
        let quantile_ms = |share| self.latencies.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
        self.report.post_p50_ms = quantile_ms(0.5);
        self.report.post_p99_ms = quantile_ms(0.99);
        self.to_remove
    }
}

/// What is posted to whom, encoded once.
pub(super) struct Frames {
    viral_alert: Frame,
    new_trending: Frame,
}

impl Frames {
    /// The frames of what is delivered; of an alert they say whether it goes to everyone.
    pub(super) fn of(content: &Content, everyone: bool) -> Self {
        match content {
            Content::Alert(alert) => Self {
                viral_alert: Frame::new(alert.pushed(Format::ViralAlert, everyone)),
                new_trending: Frame::new(alert.pushed(Format::NewTrending, everyone)),
            },
            // The second has no reader.
            Content::Removal(removal) => {
                let frame = Frame::new(removal.frame());
                Self { viral_alert: frame.clone(), new_trending: frame }
            }
            Content::RoomMessage(message) => {
                let frame = Frame::new(message.frame.clone());
                Self { viral_alert: frame.clone(), new_trending: frame }
            }
        }
    }

    fn of_format(&self, format: Format) -> &Frame {
        match format {
            Format::ViralAlert => &self.viral_alert,
            Format::NewTrending => &self.new_trending,
        }
    }
}

/// Whether so many posts were not taken that it is the gateway that fails, for the next attempt of Lambda to ask it again: more
/// than it took, and more than a few where a client might be the cause.
pub(super) fn is_of_the_gateway(undelivered: &BTreeMap<Cause, u64>, sent: u64) -> bool {
    let of_the_gateway = || undelivered.iter().filter(|(cause, _)| cause.is_of_the_gateway());
    let count: u64 = of_the_gateway().map(|(_, count)| count).sum();
    let is_certain = of_the_gateway().any(|(cause, _)| !cause.may_be_of_the_client());
    count > sent && (is_certain || count >= SUSPECT_FROM)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
