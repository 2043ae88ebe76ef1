//! The fan-out in small worlds, each made for one question. The simulation beside it asks all of them at once.

/// Methods of [`Services`] that a world does not expect: a call of one fails the test.
macro_rules! must_not_be_called {
    ($($method:ident),*) => { $(must_not_be_called!(@$method);)* };
    (@get_connection) => {
        async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
            panic!("{connection} is looked up")
        }
    };
    (@close) => {
        async fn close(&self, connection: &ConnectionId) -> ConnectionState {
            panic!("{connection} is closed")
        }
    };
    (@remove) => {
        async fn remove(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
            panic!("{connections:?} are removed")
        }
    };
    (@start) => {
        async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
            panic!("{task:?} is started")
        }
    };
}

mod canary;
mod suspects;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use clock::{Clock, Timestamp};
use tokio::time::{Instant, sleep};

use super::{
    simulation::world::{NOW_MS, alert, connection},
    *,
};
use crate::{
    error::{ErrorChain, InternalError},
    limits::{
        HANDOVER_BEFORE, INVOCATION_DEPTH_MAX, POSTS_IN_FLIGHT, PUSH_RATE_USED, RANGES_PER_TASK_MAX, SUSPECTS_MAX,
    },
    model::{
        alert::{Alert, Format, Removal},
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
        member::{AudiencePage, Member},
    },
    push::{Cause, ConnectionState, Frame, PostOutcome},
};

/// A world whose gateway answers the same from some post on.
struct Monotonous {
    watchers: usize,
    /// Posts that it takes before.
    taken: usize,
    answer: PostOutcome,
    after: Duration,
    posts: Mutex<usize>,
}

impl Monotonous {
    fn fanout(watchers: usize, taken: usize, answer: PostOutcome, push_rate: f64) -> Fanout<Self> {
        let posts = Mutex::default();
        fanout(Self { watchers, taken, answer, after: Duration::from_millis(10), posts }, push_rate)
    }
}

fn fanout<S>(services: S, push_rate: f64) -> Fanout<S> {
    Fanout {
        services: Arc::new(services),
        push_rate,
        worker_rate: 1e6,
        suspects_max: SUSPECTS_MAX,
        fallback_to_everyone: true,
        clock: Clock::Manual(Arc::new(NOW_MS.into())),
    }
}

/// The time at which an invocation that begins now has to end.
fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(900)
}

fn member(number: usize) -> Member {
    Member { connection: connection(number), format: Format::ViralAlert, since: Timestamp::from_millis(0) }
}

impl Services for Monotonous {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(&self, audience: &Audience, _: SlotRange, _: Option<&Slot>) -> Result<AudiencePage, InternalError> {
        let number = if *audience == Audience::All { 0 } else { self.watchers };
        let members: BTreeMap<Slot, Member> =
            (0..number).map(member).map(|member| (Slot::of(&member.connection), member)).collect();
        Ok(AudiencePage { members: members.into_values().collect(), next: None })
    }

    async fn post(&self, _: &ConnectionId, _: &Frame) -> PostOutcome {
        let number = {
            let mut posts = self.posts.lock().expect("unpoisoned");
            *posts += 1;
            *posts
        };
        sleep(self.after).await;
        if number <= self.taken { PostOutcome::Sent } else { self.answer }
    }

    fn random(&self) -> f64 {
        0.5
    }

    must_not_be_called!(get_connection, close, remove, start);
}

fn task(depth: u32) -> FanoutTask {
    FanoutTask {
        content: Content::Alert(alert()),
        dispatched_at: Timestamp::from_millis(0),
        part: None,
        depth,
        redriven_at: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_everything_stops_the_work_at_once_and_nothing_is_removed() {
    let fanout = Monotonous::fanout(500, 0, PostOutcome::Forbidden, 1e6);
    let failed = fanout.deliver(&task(0), deadline()).await.expect_err("refused");
    let text = ErrorChain(&failed.failure).to_string();
    assert!(text.contains("the endpoint lacks its stage"), "{text}");
    let posts = *fanout.services.posts.lock().expect("unpoisoned");
    assert!(posts <= POSTS_IN_FLIGHT, "{posts} posts");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_after_it_took_some_posts_fails_the_part() {
    for answer in [PostOutcome::Transient(Cause::Unavailable), PostOutcome::Forbidden, PostOutcome::Throttled] {
        let failed = Monotonous::fanout(300, 5, answer, 1e6).deliver(&task(0), deadline()).await.expect_err("it fails");
        let text = ErrorChain(&failed.failure).to_string();
        assert!(text.contains("more posts failed at the management API"), "{answer:?}: {text}");
        let report = failed.report;
        assert_eq!((report.sent, report.undelivered.values().sum()), (5, 295_u64), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_fails_no_alert() {
    for (taken, answer) in
        [(0, PostOutcome::Throttled), (0, PostOutcome::Transient(Cause::TimedOut)), (2, PostOutcome::Throttled)]
    {
        let fanout = Monotonous::fanout(taken + 1, taken, answer, 1e6);
        let report = fanout.deliver(&task(0), deadline()).await.expect("no failure");
        assert_eq!((report.sent, report.undelivered.values().sum::<u64>()), (taken as u64, 1), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_hands_nothing_over() {
    // One post per second or so: the time is up long before the end, and `start` would panic.
    let fanout = Monotonous::fanout(500, 0, PostOutcome::Transient(Cause::Unavailable), 1.0);
    let deadline = Instant::now() + HANDOVER_BEFORE + Duration::from_secs(60);
    fanout.deliver(&task(0), deadline).await.expect_err("it fails");
}

/// A world in which an audience of many pages can be surveyed and not read.
#[derive(Default)]
struct Unreadable {
    started: Mutex<Vec<FanoutTask>>,
}

impl Services for Unreadable {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        _: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        match (audience, range) {
            (Audience::All, _) => Ok(AudiencePage::default()),
            (_, SlotRange::WHOLE) => {
                // A thousandth of the ring: some ten thousand members.
                let next = Slot::of_key("00400000last").expect("a slot");
                Ok(AudiencePage { members: (0..10).map(member).collect(), next: Some(next) })
            }
            _ => Err(InternalError::new("reading a page of an audience", "the table fails")),
        }
    }

    async fn post(&self, connection: &ConnectionId, _: &Frame) -> PostOutcome {
        panic!("{connection} is posted to")
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.started.lock().expect("unpoisoned").push(task.clone());
        Ok(())
    }

    fn random(&self) -> f64 {
        0.5
    }

    must_not_be_called!(get_connection, close, remove);
}

#[tokio::test(start_paused = true)]
async fn a_divider_whose_own_part_fails_leaves_the_other_parts_alone() {
    let fanout = Fanout { worker_rate: 2_500.0, ..fanout(Unreadable::default(), 10_000.0) };
    let report = fanout.deliver(&task(0), deadline()).await.expect("the part is another invocation's");
    let started = fanout.services.started.lock().expect("unpoisoned");
    let ranges = started.iter().flat_map(|task| task.part.clone().expect("a part").ranges);
    let covered: u64 = ranges.map(SlotRange::size).sum();
    assert_eq!((started.len(), report.workers), (4, 3), "each of the others once, and its own");
    assert_eq!(covered, SlotRange::WHOLE.size());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_takes_its_time_is_given_the_whole_rate() {
    const RATE: f64 = 4_000.0;
    let watchers = 40_000;
    let after = Duration::from_millis(80);
    let services = Monotonous { watchers, taken: 0, answer: PostOutcome::Sent, after, posts: Mutex::default() };
    let fanout = Fanout { worker_rate: f64::from(u32::MAX), ..fanout(services, RATE) };
    let began = Instant::now();
    let report = fanout.deliver(&task(0), deadline()).await.expect("delivered");
    assert_eq!(report.sent, watchers as u64);
    // A second to find out how many it takes in flight.
    let at_most = watchers as f64 / (RATE * PUSH_RATE_USED) + 1.0;
    assert!(began.elapsed().as_secs_f64() < at_most, "{:?} for {watchers}", began.elapsed());
}

/// A world of a few connections, which notes what it is asked for.
struct Listed {
    members: Vec<ConnectionId>,
    /// In which form all of them receive alerts.
    format: Format,
    /// What the log says. None where it does not answer.
    has: Option<Result<bool, InternalError>>,
    posted: Mutex<Vec<ConnectionId>>,
    started: Mutex<Vec<FanoutTask>>,
}

impl Listed {
    fn of(members: Vec<ConnectionId>) -> Self {
        let (posted, started) = (Mutex::default(), Mutex::default());
        Self { members, format: Format::ViralAlert, has: Some(Ok(true)), posted, started }
    }
}

impl Services for Listed {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        match &self.has {
            Some(answer) => answer.clone(),
            None => std::future::pending().await,
        }
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        _: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        let is_here = |id: &&ConnectionId| *audience != Audience::All && range.contains(Slot::of(id).hash());
        let member = |id: &ConnectionId| Member { connection: id.clone(), format: self.format, ..member(0) };
        Ok(AudiencePage { members: self.members.iter().filter(is_here).map(member).collect(), next: None })
    }

    async fn post(&self, connection: &ConnectionId, _: &Frame) -> PostOutcome {
        self.posted.lock().expect("unpoisoned").push(connection.clone());
        PostOutcome::Sent
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.started.lock().expect("unpoisoned").push(task.clone());
        Ok(())
    }

    fn random(&self) -> f64 {
        0.5
    }

    must_not_be_called!(get_connection, close, remove);
}

#[tokio::test(start_paused = true)]
async fn a_handover_does_not_part_connections_whose_hashes_are_equal() {
    // Of 100,000 connections some have the hash of another one.
    let mut by_hash = BTreeMap::new();
    let twins = (0..).map(connection).find_map(|id| Some([by_hash.insert(Slot::of(&id).hash(), id.clone())?, id]));
    let [first, second] = twins.expect("endless");
    let mut members = vec![first, second, connection(1)];
    members.sort_by_key(Slot::of);
    let fanout = fanout(Listed::of(members.clone()), 1e6);
    // There is never any time, so each invocation does the least that it can.
    let mut task = Some(task(0));
    while let Some(next) = task.take() {
        fanout.deliver(&next, Instant::now()).await.expect("delivered");
        task = fanout.services.started.lock().expect("unpoisoned").pop();
    }
    let mut posted = fanout.services.posted.lock().expect("unpoisoned").clone();
    posted.sort_by_key(Slot::of);
    assert_eq!(posted, members, "each once");
}

#[tokio::test(start_paused = true)]
async fn what_the_log_does_not_have_any_more_is_not_delivered_and_a_log_that_is_silent_holds_nothing_up() {
    let silent = || InternalError::new("reading", std::io::Error::other("no answer"));
    for (has, posts) in [(Some(Ok(true)), 2), (Some(Ok(false)), 0), (Some(Err(silent())), 2), (None, 2)] {
        let whole = FanoutPart { ranges: vec![SlotRange::WHOLE], rate: 1e3, everyone: false, events: false };
        // One that divides, one that has a part, and one that was taken out of the queue of what failed.
        let tasks = [
            task(0),
            task(0).followed_by(whole).expect("a part"),
            FanoutTask { redriven_at: Some(Timestamp::from_millis(NOW_MS)), ..task(0) },
        ];
        for task in tasks {
            let members = vec![connection(1), connection(2)];
            let fanout = fanout(Listed { has: has.clone(), ..Listed::of(members) }, 1e6);
            let began = Instant::now();
            let report = fanout.deliver(&task, deadline()).await.expect("delivered");
            assert_eq!((report.sent, report.fell_back), (posts, false), "{has:?}");
            assert_eq!(fanout.services.posted.lock().expect("unpoisoned").len() as u64, posts, "{has:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{has:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn that_an_alert_was_taken_back_is_told_to_those_alone_who_can_tell_it_from_an_alert() {
    let Alert { id, region, position, at, .. } = alert();
    let removal = FanoutTask { content: Content::Removal(Removal { id, region, position, at }), ..task(0) };
    for (format, sent) in [(Format::ViralAlert, 2), (Format::NewTrending, 0)] {
        // The log has no such alert any more, of course.
        let services = Listed { format, has: Some(Ok(false)), ..Listed::of(vec![connection(1), connection(2)]) };
        let report = fanout(services, 1e6).deliver(&removal, deadline()).await.expect("delivered");
        assert_eq!((report.sent, report.fell_back), (sent, false), "{format}");
    }
    let nobody = fanout(Listed::of(Vec::new()), 1e6).deliver(&removal, deadline()).await.expect("delivered");
    assert!(nobody.fell_back, "as the alert, it goes to everyone where nobody watches");
}

/// A gateway that takes so many posts in a tenth of a second and refuses the others, and fewer for a while.
struct Quota {
    watchers: usize,
    began: Instant,
    /// From the first second on.
    narrow_for: Duration,
    taken: Mutex<BTreeMap<u128, usize>>,
}

impl Services for Quota {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(&self, audience: &Audience, _: SlotRange, _: Option<&Slot>) -> Result<AudiencePage, InternalError> {
        let number = if *audience == Audience::All { 0 } else { self.watchers };
        let members: BTreeMap<Slot, Member> =
            (0..number).map(member).map(|member| (Slot::of(&member.connection), member)).collect();
        Ok(AudiencePage { members: members.into_values().collect(), next: None })
    }

    async fn post(&self, _: &ConnectionId, _: &Frame) -> PostOutcome {
        sleep(Duration::from_millis(10)).await;
        let at = self.began.elapsed();
        let narrow = Duration::from_secs(1)..Duration::from_secs(1) + self.narrow_for;
        let most = if narrow.contains(&at) { 10 } else { 520 };
        let mut taken = self.taken.lock().expect("unpoisoned");
        let count = taken.entry(at.as_millis() / 100).or_default();
        if *count == most {
            return PostOutcome::Throttled;
        }
        *count += 1;
        PostOutcome::Sent
    }

    fn random(&self) -> f64 {
        // Spread, and the same in each run.
        let taken: usize = self.taken.lock().expect("unpoisoned").values().sum();
        (taken % 97) as f64 / 96.0
    }

    must_not_be_called!(get_connection, close, remove, start);
}

#[tokio::test(start_paused = true)]
async fn what_a_short_throttling_costs_is_its_own_time_and_the_steps_back() {
    for narrow_ms in [0, 1_000, 2_000] {
        let (began, narrow_for) = (Instant::now(), Duration::from_millis(narrow_ms));
        let services = Quota { watchers: 40_000, began, narrow_for, taken: Mutex::default() };
        let report = fanout(services, 5_000.0).deliver(&task(0), deadline()).await.expect("delivered");
        assert_eq!((report.sent, report.undelivered.len()), (40_000, 0));
        // The rate comes back in two seconds, of which it makes half of the posts.
        let undisturbed = 40_000.0 / (5_000.0 * PUSH_RATE_USED);
        let most = undisturbed + narrow_for.as_secs_f64() + if narrow_ms == 0 { 0.1 } else { 1.5 };
        let took = began.elapsed().as_secs_f64();
        assert!((undisturbed - 0.1..most).contains(&took), "{took} s when narrowed for {narrow_ms} ms, not {most}");
    }
}

#[test]
fn a_chain_of_invocations_ends_before_lambda_takes_it_for_a_loop() {
    let part = FanoutPart { ranges: vec![SlotRange::WHOLE], rate: 1.0, everyone: false, events: false };
    let mut task = task(0);
    while let Ok(next) = task.followed_by(part.clone()) {
        task = next;
    }
    assert_eq!(task.depth, INVOCATION_DEPTH_MAX - 1);
}

#[test]
fn the_largest_task_fits_in_an_invocation() {
    let ranges = vec![SlotRange { first: u32::MAX, last: u32::MAX }; RANGES_PER_TASK_MAX];
    let part = FanoutPart { ranges, rate: 1.0 / 3.0, everyone: true, events: false };
    let bytes = serde_json::to_string(&part).expect("JSON").len();
    assert!(bytes + 2 * crate::limits::FRAME_BYTES_MAX < 256 * 1024, "{bytes} and an alert");
}
