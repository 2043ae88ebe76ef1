//! The world of a simulated fan-out: a table, a gateway and connections as they really are, and what a worker sees of
//! them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use clock::Timestamp;
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

use crate::{
    error::InternalError,
    fanout::{FanoutTask, Services},
    limits::{GONE_OVER, HANDOVER_BEFORE},
    model::{
        alert::{Alert, Format, Position},
        audience::{Audience, Region},
        connection::{ConnectionId, Slot, SlotRange},
        member::{AudiencePage, Member},
    },
    push::{Cause, ConnectionState, Frame, PostOutcome},
};

/// What the clock of the workers shows all the time, in milliseconds.
pub(in crate::fanout) const NOW_MS: i64 = 3_600_000;

pub(in crate::fanout) fn connection(number: usize) -> ConnectionId {
    format!("connection-{number:05}").parse().expect("an id")
}

pub(in crate::fanout) fn alert() -> Alert {
    let publication = serde_json::from_str(r#"{"id":"v","title":"t","thumbnail":"","score":99}"#).expect("a video");
    Alert {
        id: "0193-alert".to_owned(),
        region: "PL".parse::<Region>().expect("a region"),
        position: Position { epoch: 1, seq: 1 },
        video: publication,
        at: Timestamp::from_millis(0),
    }
}

/// A mistake that somebody could make, planted to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The last member of a page is not read.
    LastOfPageLost,
    /// Two answers that agree suffice: the one between them is not asked for.
    TwoAnswersSuffice,
    /// What is removed is not closed.
    RemovedAndNotClosed,
    /// Those who watch all regions are not merged in.
    NoMerge,
    /// What is left when the time runs out is handed over to nobody.
    RestLost,
    /// Workers take three times the rate that there is.
    RateIgnored,
    /// What failed for good is never driven again.
    DeadLettersLost,
}

/// How one run is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) watchers: usize,
    pub(super) watchers_of_all: usize,
    pub(super) outsiders: usize,
    pub(super) page_items: usize,
    /// Calls per second that the gateway allows.
    pub(super) quota: f64,
    pub(super) worker_rate: f64,
    /// Connections that wait to be asked about, at most.
    pub(super) suspects_max: usize,
    pub(super) invocation_limit: Duration,
    /// Probabilities.
    pub(super) crash: f64,
    pub(super) duplicate: f64,
    pub(super) unreadable_page: f64,
    pub(super) throttled: f64,
    pub(super) transient: f64,
    pub(super) hung: f64,
    /// Lies about connections that are there: that they are gone, to a post and to GetConnection.
    pub(super) post_lies: f64,
    pub(super) look_lies: f64,
    pub(super) closing: f64,
    pub(super) lost_disconnect: f64,
    /// Connections whose `$connect` has not returned yet.
    pub(super) opening: f64,
    /// When the gateway fails for everyone, after the beginning, and for how long.
    pub(super) outage: (Duration, Duration),
    pub(super) fallback: bool,
}

impl Setup {
    /// Nothing goes wrong.
    pub(super) fn calm(random: &mut SmallRng) -> Self {
        Self {
            crash: 0.0,
            duplicate: 0.0,
            unreadable_page: 0.0,
            throttled: 0.0,
            transient: 0.0,
            hung: 0.0,
            post_lies: 0.0,
            look_lies: 0.0,
            closing: 0.0,
            lost_disconnect: 0.0,
            opening: 0.0,
            outage: (Duration::ZERO, Duration::ZERO),
            ..Self::of(random)
        }
    }

    pub(super) fn of(random: &mut SmallRng) -> Self {
        let size = |random: &mut SmallRng, large: usize| match random.random_range(0..10) {
            0 => 0,
            1..8 => random.random_range(1..40),
            _ => random.random_range(40..large),
        };
        let sometimes = |random: &mut SmallRng, most: f64| {
            if random.random_bool(0.5) { random.random_range(0.0..most) } else { 0.0 }
        };
        let quota = 50.0 * 40_f64.powf(random.random_range(0.0..1.0));
        Self {
            watchers: size(random, 600),
            watchers_of_all: size(random, 60),
            outsiders: size(random, 60),
            page_items: random.random_range(3..60),
            quota,
            // So that some runs take one worker and some take dozens.
            worker_rate: quota / random.random_range(0.5..20.0),
            // Some runs have seconds before they must hand over, some have minutes.
            invocation_limit: HANDOVER_BEFORE + Duration::from_secs_f64(random.random_range(2.0..100.0)),
            crash: sometimes(random, 0.6),
            duplicate: sometimes(random, 0.3),
            unreadable_page: sometimes(random, 0.02),
            throttled: sometimes(random, 0.1),
            transient: sometimes(random, 0.1),
            hung: sometimes(random, 0.02),
            post_lies: sometimes(random, 0.2),
            look_lies: sometimes(random, 0.2),
            closing: sometimes(random, 0.1),
            lost_disconnect: sometimes(random, 0.5),
            opening: sometimes(random, 0.1),
            outage: (
                Duration::from_millis(random.random_range(0..3_000)),
                Duration::from_secs_f64(sometimes(random, 4.0)),
            ),
            fallback: random.random_bool(0.5),
            suspects_max: random.random_range(1..60),
        }
    }
}

/// A connection as it really is.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) open: bool,
    /// Whether it was open all the time.
    pub(super) stayed: bool,
    /// When its `$connect` returns, where that is still to come.
    pub(super) opens_at: Option<Instant>,
    pub(super) received: u32,
    pub(super) failures: u32,
    /// Whether it was closed because it counted as gone.
    pub(super) was_closed: bool,
}

pub(super) struct State {
    pub(super) random: SmallRng,
    pub(super) tables: BTreeMap<String, BTreeMap<Slot, Member>>,
    pub(super) connections: BTreeMap<ConnectionId, Truth>,
    pub(super) calls: Vec<Instant>,
    /// Calls left in the gateway's bucket, and when it was filled last.
    pub(super) bucket: (f64, Instant),
    pub(super) started: Vec<FanoutTask>,
    pub(super) dead: Vec<FanoutTask>,
    pub(super) invocations: usize,
    pub(super) violations: Vec<String>,
    pub(super) trace: u64,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) bug: Option<Bug>,
    pub(super) began: Instant,
    pub(super) state: Mutex<State>,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Arc<Self> {
        let mut random = SmallRng::seed_from_u64(seed);
        let setup = Setup::of(&mut random);
        Self::of(setup, random, bug)
    }

    pub(super) fn of(setup: Setup, mut random: SmallRng, bug: Option<Bug>) -> Arc<Self> {
        let mut tables: BTreeMap<String, BTreeMap<Slot, Member>> = BTreeMap::new();
        let mut connections = BTreeMap::new();
        let groups = [
            (Audience::Region("PL".parse().expect("a region")), setup.watchers),
            (Audience::All, setup.watchers_of_all),
            (Audience::Region("DE".parse().expect("a region")), setup.outsiders),
        ];
        let mut number = 0;
        for (audience, count) in groups {
            for _ in 0..count {
                number += 1;
                let id = connection(number);
                let is_opening = random.random_bool(setup.opening);
                let since = Timestamp::from_millis(if is_opening { NOW_MS - 500 } else { 0 });
                let member = Member { connection: id.clone(), format: Format::ViralAlert, since };
                for key in [audience.key(), Audience::Everyone.key()] {
                    tables.entry(key.to_owned()).or_default().insert(Slot::of(&id), member.clone());
                }
                // Some are in two audiences.
                if audience != Audience::All
                    && random.random_bool(0.1)
                    && setup.watchers_of_all > 0
                    && audience.key() == "PL"
                {
                    tables.entry(Audience::All.key().to_owned()).or_default().insert(Slot::of(&id), member.clone());
                }
                // Some are gone already, and their $disconnect was lost.
                let open = !random.random_bool(setup.closing);
                let opens_at =
                    is_opening.then(|| Instant::now() + Duration::from_millis(random.random_range(0..2_000)));
                connections.insert(id, Truth { open, stayed: open, opens_at, ..Truth::default() });
            }
        }
        let bucket = (setup.quota, Instant::now());
        let state = State {
            random,
            tables,
            connections,
            calls: Vec::new(),
            bucket,
            started: Vec::new(),
            dead: Vec::new(),
            invocations: 0,
            violations: Vec::new(),
            trace: 0,
        };
        Arc::new(Self { setup, bug, began: Instant::now(), state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no simulation panics with the lock")
    }

    pub(super) fn chance(&self, probability: f64) -> bool {
        self.state().random.random_bool(probability)
    }

    pub(super) async fn takes(&self, least_ms: u64, most_ms: u64) {
        let ms = self.state().random.random_range(least_ms..=most_ms);
        sleep(Duration::from_millis(ms)).await;
    }

    /// Counts a call of the management API. False when it is over the quota.
    fn call(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        state.calls.push(now);
        let (left, filled) = state.bucket;
        let left = (left + now.duration_since(filled).as_secs_f64() * self.setup.quota).min(self.setup.quota);
        state.bucket = (if left >= 1.0 { left - 1.0 } else { left }, now);
        left >= 1.0
    }

    /// Counts a question about a connection, and takes its time. Returns the answer where the gateway has none.
    async fn asked(&self) -> Option<ConnectionState> {
        let admitted = self.call();
        self.takes(1, 30).await;
        if !admitted || self.chance(self.setup.throttled) {
            return Some(ConnectionState::Throttled);
        }
        let is_unclear = self.fails() || self.chance(self.setup.transient);
        is_unclear.then_some(ConnectionState::Unknown)
    }

    /// Whether the gateway fails for everyone at this moment.
    fn fails(&self) -> bool {
        let (from, duration) = self.setup.outage;
        (from..from + duration).contains(&self.began.elapsed())
    }

    /// Closes a connection now and then, with or without telling the table.
    fn churn(&self) {
        let mut state = self.state();
        let (closing, lost) = (self.setup.closing / 20.0, self.setup.lost_disconnect);
        if !state.random.random_bool(closing) {
            return;
        }
        let ids: Vec<ConnectionId> = state.connections.keys().cloned().collect();
        let Some(id) = ids.choose(&mut state.random).cloned() else { return };
        if let Some(truth) = state.connections.get_mut(&id) {
            (truth.open, truth.stayed) = (false, false);
        }
        if !state.random.random_bool(lost) {
            let slot = Slot::of(&id);
            state.tables.values_mut().for_each(|table| drop(table.remove(&slot)));
        }
    }

    pub(super) fn is_audience(&self, id: &ConnectionId, everyone: bool) -> bool {
        let number: usize = id.as_str()[11..].parse().expect("a number");
        everyone || number <= self.setup.watchers + self.setup.watchers_of_all
    }
}

/// What a worker sees of the world.
pub(super) struct Seen {
    world: Arc<World>,
    /// When this worker was told of a connection that it is gone, since it was told something else.
    said_gone: Mutex<BTreeMap<ConnectionId, Vec<Instant>>>,
}

impl Seen {
    pub(super) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), said_gone: Mutex::default() }
    }

    fn says(&self, connection: &ConnectionId, is_gone: bool) {
        let mut said_gone = self.said_gone.lock().expect("no simulation panics with the lock");
        if is_gone {
            said_gone.entry(connection.clone()).or_default().push(Instant::now());
        } else {
            said_gone.remove(connection);
        }
    }

    /// Whether a connection is known to be gone as well as it has to be.
    fn is_certain(&self, connection: &ConnectionId) -> bool {
        let said_gone = self.said_gone.lock().expect("no simulation panics with the lock");
        let said = said_gone.get(connection).map_or(&[][..], Vec::as_slice);
        said.len() >= 3 && said.first().is_some_and(|first| first.elapsed() >= GONE_OVER)
    }
}

impl Services for Seen {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        let world = &self.world;
        world.takes(1, 20).await;
        if world.chance(world.setup.unreadable_page) {
            return Err(InternalError::new("reading a page of an audience", "the table fails"));
        }
        if world.bug == Some(Bug::NoMerge) && *audience == Audience::All {
            return Ok(AudiencePage::default());
        }
        let state = world.state();
        let Some(table) = state.tables.get(audience.key()) else { return Ok(AudiencePage::default()) };
        let mut rest = table
            .iter()
            .filter(|(slot, _)| range.contains(slot.hash()) && after.is_none_or(|after| *slot > after))
            .peekable();
        let mut members = Vec::new();
        let mut last = None;
        while members.len() < world.setup.page_items
            && let Some((slot, member)) = rest.next()
        {
            members.push(member.clone());
            last = Some(slot.clone());
        }
        let next = last.filter(|_| rest.peek().is_some());
        if world.bug == Some(Bug::LastOfPageLost) && members.len() == world.setup.page_items {
            members.pop();
        }
        Ok(AudiencePage { members, next })
    }

    async fn post(&self, connection: &ConnectionId, _: &Frame) -> PostOutcome {
        let world = &self.world;
        world.churn();
        let admitted = world.call();
        world.takes(1, 30).await;
        if !admitted || world.chance(world.setup.throttled) {
            return PostOutcome::Throttled;
        }
        if world.fails() {
            return PostOutcome::Transient(Cause::Unavailable);
        }
        let (transient, hung, lies) = (world.setup.transient, world.setup.hung, world.setup.post_lies);
        let is_hung = {
            let mut state = world.state();
            let State { random, connections, trace, .. } = &mut *state;
            let Some(truth) = connections.get_mut(connection) else { panic!("{connection} is unknown") };
            *trace = trace.wrapping_mul(31).wrapping_add(u64::from(Slot::of(connection).hash()));
            if truth.failures < 2 && random.random_bool(transient) {
                truth.failures += 1;
                return PostOutcome::Transient(Cause::Unavailable);
            }
            let is_opening = truth.opens_at.is_some_and(|opens_at| Instant::now() < opens_at);
            if !truth.open || is_opening || random.random_bool(lies) {
                self.says(connection, true);
                return PostOutcome::Gone;
            }
            truth.received += 1;
            // Delivered, but the answer never comes.
            truth.failures < 2 && random.random_bool(hung)
        };
        if is_hung {
            sleep(Duration::from_secs(3)).await;
            return PostOutcome::Transient(Cause::TimedOut);
        }
        self.says(connection, false);
        PostOutcome::Sent
    }

    async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
        let world = &self.world;
        if world.bug == Some(Bug::TwoAnswersSuffice) {
            return ConnectionState::Gone;
        }
        if let Some(unclear) = world.asked().await {
            return unclear;
        }
        let mut state = world.state();
        let State { random, connections, .. } = &mut *state;
        let Some(truth) = connections.get_mut(connection) else { panic!("{connection} is unknown") };
        if !truth.open || random.random_bool(world.setup.look_lies) {
            self.says(connection, true);
            return ConnectionState::Gone;
        }
        self.says(connection, false);
        ConnectionState::Open
    }

    async fn close(&self, connection: &ConnectionId) -> ConnectionState {
        let world = &self.world;
        if world.bug == Some(Bug::RemovedAndNotClosed) {
            return ConnectionState::Gone;
        }
        if let Some(unclear) = world.asked().await {
            return unclear;
        }
        let mut state = world.state();
        let State { connections, violations, .. } = &mut *state;
        let Some(truth) = connections.get_mut(connection) else { panic!("{connection} is unknown") };
        if !self.is_certain(connection) {
            violations.push(format!("{connection} was closed, and three answers over two seconds did not agree"));
        }
        let was_open = std::mem::take(&mut truth.open);
        truth.was_closed |= was_open;
        if was_open { ConnectionState::Open } else { ConnectionState::Gone }
    }

    async fn remove(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
        self.world.takes(1, 20).await;
        let mut state = self.world.state();
        for id in connections {
            if state.connections.get(&id).is_some_and(|truth| truth.open) {
                state.violations.push(format!("{id} was removed and is open"));
            }
            let slot = Slot::of(&id);
            state.tables.values_mut().for_each(|table| drop(table.remove(&slot)));
        }
        Ok(())
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.world.takes(1, 20).await;
        let is_rest = task.part.as_ref().is_some_and(|part| part.ranges.len() == 1) && task.depth > 1;
        if self.world.bug == Some(Bug::RestLost) && is_rest {
            return Ok(());
        }
        self.world.state().started.push(task.clone());
        Ok(())
    }

    fn random(&self) -> f64 {
        self.world.state().random.random_range(0.0..=1.0)
    }
}
