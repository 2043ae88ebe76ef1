//! Delivering one alert, or what is said in a room, to everyone who shall have it, however many they are.
//!
//! The first invocation reads the first page of the audience, judges its size by it, and hands parts of the ring of slots to
//! further invocations of the same function. Each keeps to its share of the push rate, and hands over what it has not
//! reached when its own time runs out.

mod content;

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::{try_join, try_join_all},
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

pub use self::content::Content;
use crate::{
    alert::Format,
    audience::Audience,
    clock::{Clock, Timestamp},
    connection::{ConnectionId, Slot, SlotRange},
    error::{Chain, Failure},
    lanes::{Lane, Lanes},
    latencies::Latencies,
    limits::{
        CHAIN_MAX, GONE_GRACE, GONE_REMOVED_MAX, HANDOVER_BEFORE, OPENING_WAIT, POST_BACKOFF, POST_BACKOFF_MAX,
        POST_SLOW_AFTER, POST_TIME_OUTS_MAX, POST_TIMEOUT, POSTS_OPEN_MAX, REMOVALS_END_BEFORE, SUSPECT_FROM,
    },
    pace::Pace,
    plan,
    push::{Answer, Cause, Existence, Frame},
    subscriptions::{Member, Page},
    union,
};

/// What one invocation of deliver does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What is delivered.
    #[serde(flatten)]
    pub content: Content,
    /// When the fan-out was started: of an alert, right after the commit.
    pub dispatched_at: Timestamp,
    /// Its part of the fan-out. None for the invocation that divides it.
    #[serde(default)]
    pub part: Option<Part>,
    /// Invocations of this function before it in the chain that led to it.
    #[serde(default)]
    pub chain: u32,
}

/// A part of a fan-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which slots, in the order in which they are reached.
    pub ranges: Vec<SlotRange>,
    /// Calls of the management API per second that it may make.
    pub rate: f64,
    /// Whether it goes to everyone, instead of to those who watch the region or all regions.
    pub everyone: bool,
}

/// How a part of a fan-out ended, in numbers of connections where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The gateway took the alert.
    pub sent: u64,
    /// The connection did not exist any more.
    pub gone: u64,
    /// The alert did not arrive, by cause. These clients find the gap by its position.
    pub undelivered: BTreeMap<Cause, u64>,
    /// Answers that the rate, or a client's buffer, was exhausted.
    pub throttled: u64,
    /// Posts that were repeated, for any reason.
    pub retried: u64,
    /// Further invocations that were started to share the work.
    pub workers: usize,
    /// Whether the rest was handed over to another invocation because the time ran out.
    pub handed_over: bool,
    /// Whether the alert went to everyone, because nobody watched its region.
    pub fell_back: bool,
    /// How many are in the audience, as estimated by the invocation that divides it; None of a part.
    pub audience: Option<u64>,
    /// Half of the posts took at most so long, in milliseconds.
    pub post_p50_ms: f64,
    /// All but one in a hundred took at most so long, in milliseconds.
    pub post_p99_ms: f64,
    /// Time from the dispatch to the last push of this part, in milliseconds.
    pub lag_ms: u64,
}

/// A part of a fan-out that failed.
#[derive(Debug)]
pub struct Failed {
    /// What it did until then. Posts that were under way are in none of its numbers.
    pub report: Box<Report>,
    /// Why.
    pub failure: Failure,
}

/// What a fan-out needs of the world. A simulation stands in for it.
pub trait Services: Send + Sync + 'static {
    /// One page of an audience within a range, after a slot or from the beginning.
    fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> impl Future<Output = Result<Page, Failure>> + Send;

    /// One attempt of a post.
    fn post(&self, connection: &ConnectionId, frame: &Frame) -> impl Future<Output = Answer> + Send;

    /// A second question about a connection that was said to be gone.
    fn look(&self, connection: &ConnectionId) -> impl Future<Output = Existence> + Send;

    /// Removes every trace of connections.
    fn remove(&self, connections: Vec<ConnectionId>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Starts another invocation of deliver.
    fn start(&self, task: &Task) -> impl Future<Output = Result<(), Failure>> + Send;

    /// A random number from 0 to 1, by which pauses are spread.
    fn random(&self) -> f64;
}

/// Delivers alerts.
#[derive(Debug)]
pub struct Fanout<S> {
    /// How the world is reached.
    pub services: Arc<S>,
    /// Calls of the management API per second that all fan-outs together may make.
    pub push_rate: f64,
    /// Posts per second that one worker is expected to make.
    pub worker_rate: f64,
    /// Whether an alert that nobody watches goes to everyone.
    pub fallback_to_everyone: bool,
    /// Tells the age of subscriptions.
    pub clock: Clock,
}

/// The gateway refuses this deployment's calls.
#[derive(Debug, thiserror::Error)]
#[error(
    "the management API refuses posts: the endpoint lacks its stage or names another API, \
     or the function may not execute-api:ManageConnections"
)]
struct Refused;

/// Most posts did not succeed, and it was not for the connections.
#[derive(Debug, thiserror::Error)]
#[error("the management API did not take most of the posts: {0:?}")]
struct Unavailable(BTreeMap<Cause, u64>);

/// Lambda would take the next invocation for a loop.
#[derive(Debug, thiserror::Error)]
#[error("{CHAIN_MAX} invocations in a row did not reach everyone; the push rate is too low for this audience")]
struct ChainTooLong;

/// What is read of the audience before the fan-out is divided.
struct Survey {
    estimate: u64,
    /// The pages that were read: of the region, or everyone, and of those who watch all regions.
    pages: [Page; 2],
}

impl Survey {
    /// Where both pages together hold the audience: everywhere, if it is so small, and else up to the first hash that might go
    /// on after a page.
    fn range(&self) -> Option<SlotRange> {
        let ends = self.pages.iter().filter_map(|page| page.next.as_ref());
        match ends.map(Slot::hash).min() {
            None => Some(SlotRange::WHOLE),
            Some(end) => end.checked_sub(1).map(|last| SlotRange { first: 0, last }),
        }
    }

    /// The members within a range that both pages hold, and that begins where they do.
    fn members(self, range: SlotRange) -> [Page; 2] {
        self.pages.map(|Page { mut members, .. }| {
            let count = members.partition_point(|member| Slot::of(&member.connection).hash() <= range.last);
            members.truncate(count);
            Page { members, next: None }
        })
    }
}

impl<S: Services> Fanout<S> {
    /// Delivers to the region and to those who watch all regions, each connection once; to everyone where that reaches
    /// nobody and the fallback is on. `until` is when the invocation ends. Fails when the audience cannot be read, and when
    /// the gateway refuses all posts.
    pub async fn deliver(&self, task: &Task, until: Instant) -> Result<Report, Failed> {
        let mut report = Report::default();
        if task.content.is_stale(self.clock.now()) {
            return Ok(report);
        }
        let ended = match &task.part {
            Some(part) => self.work(task, part, None, until, &mut report).await,
            None => self.divide(task, until, &mut report).await,
        };
        match ended {
            Ok(()) => {
                self.log(task, &report);
                Ok(report)
            }
            Err(failure) => Err(Failed { report: Box::new(report), failure }),
        }
    }

    fn log(&self, task: &Task, report: &Report) {
        tracing::info!(
            alert = task.content.id(),
            region = task.content.place(),
            seq = task.content.seq(),
            sent = report.sent,
            gone = report.gone,
            undelivered = ?report.undelivered,
            throttled = report.throttled,
            retried = report.retried,
            workers = report.workers,
            handed_over = report.handed_over,
            fell_back = report.fell_back,
            post_p50_ms = report.post_p50_ms,
            post_p99_ms = report.post_p99_ms,
            lag_ms = report.lag_ms,
            "alert delivered"
        );
    }

    /// Divides the fan-out and keeps one part.
    async fn divide(&self, task: &Task, until: Instant, report: &mut Report) -> Result<(), Failure> {
        for everyone in [false, true] {
            let survey = self.survey(&task.content, everyone).await?;
            let last_chance = everyone || !self.fallback_to_everyone || matches!(task.content, Content::Remark(_));
            if survey.estimate == 0 && !last_chance {
                continue;
            }
            let push_rate = task.content.rate(self.push_rate);
            let workers = plan::workers(survey.estimate, push_rate, self.worker_rate);
            let rate = plan::share(push_rate, workers);
            let (estimate, read) = (survey.estimate, survey.range());
            let is_whole = read == Some(SlotRange::WHOLE);
            let order = plan::order(read, task.content.start());
            let ranges = plan::split(&order, if is_whole { 1 } else { workers });
            let mut parts = ranges.into_iter().map(|ranges| Part { ranges, rate, everyone });
            let Some(own) = parts.next() else { continue };
            // Its own part begins with what it has read.
            let read = read.and(own.ranges.first()).map(|range| survey.members(*range));
            let others: Vec<Task> = parts.map(|part| task.followed_by(part)).collect::<Result<_, _>>()?;
            try_join_all(others.iter().map(|other| self.services.start(other))).await?;
            match self.work(task, &own, read, until, report).await {
                // The next attempt of this invocation would start the others once more.
                Err(failure) if !others.is_empty() => {
                    tracing::error!(error = %Chain(&failure), "own part of a fan-out failed, another invocation repeats it");
                    self.services.start(&task.followed_by(own)?).await?;
                    report.handed_over = true;
                }
                ended => ended?,
            }
            // Items that are left of connections long gone are no audience.
            let reached_nobody = others.is_empty() && report.sent == 0 && report.undelivered.is_empty();
            if reached_nobody && !report.handed_over && !last_chance {
                continue;
            }
            (report.workers, report.fell_back, report.audience) = (others.len(), everyone, Some(estimate));
            break;
        }
        Ok(())
    }

    /// Reads the beginning of the audience and judges its size.
    async fn survey(&self, content: &Content, everyone: bool) -> Result<Survey, Failure> {
        let (first, second) = content.audiences(everyone);
        let page = async |audience: Option<Audience>| match audience {
            Some(audience) => self.services.page(&audience, SlotRange::WHOLE, None).await,
            None => Ok(Page::default()),
        };
        let (first, second) = try_join(page(Some(first)), page(second)).await?;
        let size = |page: &Page| match &page.next {
            None => page.members.len() as u64,
            Some(last) => plan::estimate(page.members.len(), last.hash()),
        };
        Ok(Survey { estimate: size(&first) + size(&second), pages: [first, second] })
    }

    /// Delivers to one part, of whose first range the members may be read already. Adds to `report` what became of it, also
    /// where that is a failure.
    async fn work(
        &self,
        task: &Task,
        part: &Part,
        read: Option<[Page; 2]>,
        until: Instant,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let frames = Frames::of(&task.content);
        let pace = Pace::new(part.rate);
        let lanes = Lanes::default();
        let stop_at = until.checked_sub(HANDOVER_BEFORE).unwrap_or(until);
        let mut last = None;
        let unreached = OnceLock::new();
        let has_sent = AtomicBool::new(false);
        let work = Work { fanout: self, pace: &pace, lanes: &lanes, frames: &frames, has_sent };

        let mut tally = Tally::of(report);
        let ended = {
            let mut posts = self
                .members(&task.content, part, read)
                .and_then(|member| work.admit(member))
                .try_take_while(|(member, _)| {
                    // Connections whose hashes are equal stay together, as ranges do not tell them apart. And one hash at least, so that
                    // a chain of invocations comes to an end whatever their time limit.
                    let goes_on = Instant::now() < stop_at || {
                        let hash = Slot::of(&member.connection).hash();
                        let is_last = *last.get_or_insert(hash) == hash;
                        if !is_last {
                            unreached.get_or_init(|| hash);
                        }
                        is_last
                    };
                    ready(Ok(goes_on))
                })
                .map_ok(|(member, lane)| work.deliver(member, lane))
                .try_buffer_unordered(POSTS_OPEN_MAX)
                .boxed();
            loop {
                match posts.try_next().await {
                    Ok(Some(post)) => tally.add(post),
                    ended => break ended,
                }
            }
        };
        let to_remove = tally.end(self.clock.now().since(task.dispatched_at));
        ended?;
        // Before the rest is handed over: the next attempt of Lambda goes through all of it, and would hand it over again.
        if is_of_the_gateway(&report.undelivered, report.sent) {
            return Err(Failure::new("posting an alert", Unavailable(report.undelivered.clone())));
        }
        if let Some(from) = unreached.get() {
            let part = Part { ranges: plan::rest(&part.ranges, *from), ..part.clone() };
            self.services.start(&task.followed_by(part)?).await?;
            report.handed_over = true;
        }
        if !to_remove.is_empty() {
            // What stays behind is found by the next alert, and expires in any case.
            let end = until.checked_sub(REMOVALS_END_BEFORE).unwrap_or(until);
            match timeout_at(end, self.services.remove(to_remove)).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => tracing::warn!(error = %Chain(&failure), "gone connections not removed"),
                Err(_) => tracing::warn!("gone connections not removed: the time is up"),
            }
        }
        Ok(())
    }

    /// The members of a part, each once: the union of its audiences, range by range. Of the first range they may be read
    /// already. The next range is begun while this one is used.
    fn members(
        &self,
        content: &Content,
        part: &Part,
        read: Option<[Page; 2]>,
    ) -> BoxStream<'_, Result<Member, Failure>> {
        let (first, second) = content.audiences(part.everyone);
        let mut read = read.map(|[first, second]| (first, second));
        let unions = part.ranges.clone().into_iter().map(move |range| {
            let (of_first, of_second) = read.take().unzip();
            let second = match &second {
                Some(second) => self.audience(second, range, of_second).left_stream(),
                None => stream::empty().right_stream(),
            };
            union::of(self.audience(&first, range, of_first), second)
        });
        stream::iter(unions).map(ready).buffered(2).flatten().boxed()
    }

    /// The members of an audience within a range, in ascending order of slots. The next page is read while this one is
    /// used, so two of a range are in memory at a time.
    fn audience(
        &self,
        audience: &Audience,
        range: SlotRange,
        read: Option<Page>,
    ) -> impl Stream<Item = Result<Member, Failure>> + Send + use<S> {
        let (services, audience) = (Arc::clone(&self.services), audience.clone());
        let read_after = move |after: Option<Slot>| {
            let (services, audience) = (Arc::clone(&services), audience.clone());
            Reading::InFlight(AbortOnDropHandle::new(tokio::spawn(async move {
                services.page(&audience, range, after.as_ref()).await
            })))
        };
        let first = match read {
            Some(page) => Reading::Done(page),
            None => read_after(None),
        };
        let pages = stream::try_unfold((Some(first), read_after), |(reading, read_after)| async move {
            let page = match reading {
                None => return Ok(None),
                Some(Reading::Done(page)) => page,
                Some(Reading::InFlight(reading)) => {
                    reading.await.map_err(|error| Failure::new("reading a page of an audience", error))??
                }
            };
            let next = page.next.map(|last| read_after(Some(last)));
            let members = stream::iter(page.members.into_iter().map(Ok));
            Ok::<_, Failure>(Some((members, (next, read_after))))
        });
        pages.try_flatten()
    }
}

/// A page that is there, or on its way.
enum Reading {
    Done(Page),
    InFlight(AbortOnDropHandle<Result<Page, Failure>>),
}

impl Task {
    /// The task that shares this one's work, or goes on with it.
    fn followed_by(&self, part: Part) -> Result<Self, Failure> {
        let chain = self.chain + 1;
        if chain >= CHAIN_MAX {
            return Err(Failure::new("handing over the rest of a fan-out", ChainTooLong));
        }
        Ok(Self { part: Some(part), chain, ..self.clone() })
    }
}

/// Whether so many posts were not taken that it is the gateway that fails, for the next attempt of Lambda to ask it again: more
/// than it took, and more than a few where a client might be the cause.
fn is_of_the_gateway(undelivered: &BTreeMap<Cause, u64>, sent: u64) -> bool {
    let of_the_gateway = || undelivered.iter().filter(|(cause, _)| cause.is_of_the_gateway());
    let count: u64 = of_the_gateway().map(|(_, count)| count).sum();
    let is_certain = of_the_gateway().any(|(cause, _)| !cause.may_be_of_the_client());
    count > sent && (is_certain || count >= SUSPECT_FROM)
}

/// What the posts of one part have in common.
struct Work<'a, S> {
    fanout: &'a Fanout<S>,
    pace: &'a Pace,
    /// Posts in flight that are not slow.
    lanes: &'a Lanes,
    frames: &'a Frames,
    /// Whether the gateway has taken any post of this part.
    has_sent: AtomicBool,
}

/// What became of one member.
struct Post {
    end: End,
    /// How long the last attempt took.
    latency: Duration,
    throttled: u64,
    retried: u64,
}

enum End {
    Sent,
    /// The connection is gone, and what is left of it shall be removed.
    Gone(ConnectionId),
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

impl Default for Progress {
    fn default() -> Self {
        Self { latency: POST_TIMEOUT, throttled: 0, retried: 0, cause: Cause::TimedOut }
    }
}

impl<S: Services> Work<'_, S> {
    /// Waits until one more post may start.
    async fn admit(&self, member: Member) -> Result<(Member, Option<Lane>), Failure> {
        let lane = self.lanes.take().await;
        self.pace.wait().await;
        Ok((member, lane))
    }

    /// Posts to one member until that has an end. The lane is given back when the post turns out to be slow.
    async fn deliver(&self, member: Member, lane: Option<Lane>) -> Result<Post, Failure> {
        let mut post = std::pin::pin!(self.post(member));
        match timeout(POST_SLOW_AFTER, &mut post).await {
            Ok(ended) => ended,
            Err(_) => {
                drop(lane);
                post.await
            }
        }
    }

    async fn post(&self, member: Member) -> Result<Post, Failure> {
        let mut progress = Progress::default();
        let give_up = Instant::now() + POST_TIMEOUT;
        let end = timeout_at(give_up, self.post_until_it_ends(&member, give_up, &mut progress)).await;
        let end = end.unwrap_or(Ok(End::Undelivered(progress.cause)))?;
        let Progress { latency, throttled, retried, .. } = progress;
        Ok(Post { end, latency, throttled, retried })
    }

    async fn post_until_it_ends(
        &self,
        member: &Member,
        give_up: Instant,
        progress: &mut Progress,
    ) -> Result<End, Failure> {
        let services = &self.fanout.services;
        let frame = self.frames.of_format(member.format);
        let opened_by = Instant::now() + OPENING_WAIT;
        let (mut time_outs, mut looked, mut pause_max) = (0, false, POST_BACKOFF);
        loop {
            let asked = Instant::now();
            let answer = services.post(&member.connection, frame).await;
            progress.latency = asked.elapsed();
            progress.cause = match answer {
                Answer::Sent => {
                    self.has_sent.store(true, Ordering::Relaxed);
                    return Ok(End::Sent);
                }
                Answer::Refused => return Ok(End::Undelivered(Cause::Rejected)),
                // Once others were taken, it may be this one alone: how many there are is seen in the end.
                Answer::Forbidden if self.has_sent.load(Ordering::Relaxed) => {
                    return Ok(End::Undelivered(Cause::Forbidden));
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
                // It has been seen that the service says so of connections that are open: a second look.
                Answer::Gone if looked => return Ok(End::Undelivered(Cause::Unconfirmed)),
                Answer::Gone => {
                    self.pace.wait().await;
                    // Boxed: it is seldom needed, and would make the future of every post several times as large.
                    match services.look(&member.connection).boxed().await {
                        Existence::Gone if !self.is_young(member) => {
                            return Ok(End::Gone(member.connection.clone()));
                        }
                        Existence::Gone | Existence::Unknown => return Ok(End::Undelivered(Cause::Unconfirmed)),
                        Existence::Open => looked = true,
                    }
                    Cause::Unconfirmed
                }
                Answer::Transient(Cause::TimedOut) => {
                    time_outs += 1;
                    if time_outs == POST_TIME_OUTS_MAX {
                        return Ok(End::Undelivered(Cause::TimedOut));
                    }
                    Cause::TimedOut
                }
                Answer::Transient(cause) => cause,
            };
            let pause = pause_max.mul_f64(services.random());
            if Instant::now() + pause >= give_up {
                return Ok(End::Undelivered(progress.cause));
            }
            progress.retried += 1;
            sleep(pause).await;
            pause_max = POST_BACKOFF_MAX.min(pause_max * 2);
            self.pace.wait().await;
        }
    }

    fn is_young(&self, member: &Member) -> bool {
        self.fanout.clock.now().since(member.since) < GONE_GRACE
    }
}

/// The ends of posts, counted in a report.
struct Tally<'a> {
    report: &'a mut Report,
    latencies: Latencies,
    to_remove: Vec<ConnectionId>,
}

impl<'a> Tally<'a> {
    fn of(report: &'a mut Report) -> Self {
        Self { report, latencies: Latencies::default(), to_remove: Vec::new() }
    }

    fn add(&mut self, post: Post) {
        self.latencies.record(post.latency);
        self.report.throttled += post.throttled;
        self.report.retried += post.retried;
        match post.end {
            End::Sent => self.report.sent += 1,
            End::Gone(to_remove) => {
                self.report.gone += 1;
                if self.to_remove.len() < GONE_REMOVED_MAX {
                    self.to_remove.push(to_remove);
                }
            }
            End::Undelivered(cause) => *self.report.undelivered.entry(cause).or_default() += 1,
        }
    }

    /// Completes the report with times. Returns what is gone.
    fn end(self, lag: Duration) -> Vec<ConnectionId> {
        let quantile_ms = |share| self.latencies.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
        self.report.post_p50_ms = quantile_ms(0.5);
        self.report.post_p99_ms = quantile_ms(0.99);
        self.report.lag_ms = millis(lag);
        self.to_remove
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is posted to whom, encoded once.
struct Frames {
    viral_alert: Frame,
    new_trending: Frame,
}

impl Frames {
    fn of(content: &Content) -> Self {
        match content {
            Content::Alert(alert) => Self {
                viral_alert: Frame::new(alert.frame(Format::ViralAlert)),
                new_trending: Frame::new(alert.frame(Format::NewTrending)),
            },
            Content::Remark(remark) => {
                let frame = Frame::new(remark.frame.clone());
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

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;
