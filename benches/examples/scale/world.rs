//! AWS in virtual time: a table, a gateway with its quota, and Lambda with its time-out. The fan-out is the real one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{Clock, Timestamp};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use shared::{
    error::{ErrorChain, InternalError},
    fanout::{Content, Fanout, FanoutReport, FanoutTask, Services},
    limits::{SUSPECTS_MAX, WORKER_RATE},
    model::{
        alert::{Alert, Position},
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
        member::AudiencePage,
    },
    push::{Cause, ConnectionState, Frame, PostOutcome},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    assumptions::{
        COLD_START, GONE_EVERY, INVOCATION_LIMIT, INVOKE_MS, ITEM_BYTES, PAGE_MS, POST_FAILS, POST_MS, POST_TAIL,
        POST_TAIL_MS, QUEUE_MS, Quota, READ_UNIT_BYTES, REFUSAL_MS, REMOVAL, REMOVAL_UNITS, REPEATED_AFTER,
        WORKER_CPU_PER_PUSH,
    },
    audience::{Ring, number_of},
};

/// A run: alerts published at the same moment, each to the whole audience.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) ring: Arc<Ring>,
    pub(crate) quota: Quota,
    /// `PushRate` as a multiple of the quota. 1 is right.
    pub(crate) push_rate: f64,
    pub(crate) alerts: usize,
    /// Factor by which posts are slower than assumed.
    pub(crate) slower: f64,
    /// One connection in this many is gone.
    pub(crate) gone_every: u32,
}

impl Scenario {
    fn is_gone(&self, number: u32) -> bool {
        number.is_multiple_of(self.gone_every)
    }

    /// One alert, with all assumptions.
    pub(crate) fn new(ring: Arc<Ring>, quota: Quota) -> Self {
        Self { ring, quota, push_rate: 1.0, alerts: 1, slower: 1.0, gone_every: GONE_EVERY }
    }
}

/// The outcome of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Accepted pushes of all alerts, by the millisecond after the commit.
    pub(crate) sent_at_ms: Vec<u32>,
    /// Time to the last push of each alert.
    pub(crate) last: Vec<Duration>,
    pub(crate) sent: u64,
    pub(crate) gone: u64,
    pub(crate) undelivered: u64,
    pub(crate) calls: u64,
    pub(crate) refused: u64,
    /// Calls that the gateway accepted before the last push.
    pub(crate) taken_by_last: u64,
    /// Calls for dead connections: posts, GetConnection and DeleteConnection.
    pub(crate) posts_to_gone: u64,
    pub(crate) looks: u64,
    pub(crate) closed: u64,
    /// Connections removed from the table.
    pub(crate) removed: u64,
    /// Time to the end of the last invocation.
    pub(crate) ended: Duration,
    pub(crate) retried: u64,
    pub(crate) workers: usize,
    pub(crate) invocations: u64,
    pub(crate) failed_invocations: u64,
    pub(crate) depth: u32,
    pub(crate) lambda_secs: f64,
    pub(crate) read_units: f64,
    pub(crate) read_units_by_second: Vec<f64>,
    pub(crate) write_units: f64,
}

struct State {
    random: SmallRng,
    /// Tokens in the gateway's bucket, and when it was filled last.
    bucket: (f64, Instant),
    /// Number of copies of each alert, by connection.
    received: Vec<Vec<u8>>,
    outcome: Outcome,
}

struct World {
    scenario: Scenario,
    began: Instant,
    state: Mutex<State>,
    started: mpsc::UnboundedSender<FanoutTask>,
}

/// Runs a scenario in virtual time. The same seed gives the same outcome.
pub(crate) fn simulate(scenario: &Scenario, seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap_or_else(|error| panic!("no runtime: {error}")).block_on(run(scenario, seed))
}

async fn run(scenario: &Scenario, seed: u64) -> Outcome {
    let (started, mut to_start) = mpsc::unbounded_channel();
    let state = State {
        random: SmallRng::seed_from_u64(seed),
        bucket: (scenario.quota.burst, Instant::now()),
        received: vec![vec![0; scenario.ring.len()]; scenario.alerts],
        outcome: Outcome { last: vec![Duration::ZERO; scenario.alerts], ..Outcome::default() },
    };
    let world = World { scenario: scenario.clone(), began: Instant::now(), state: Mutex::new(state), started };
    let world = Arc::new(world);
    let mut under_way = JoinSet::new();
    for number in 0..scenario.alerts {
        let alert = alert(number);
        let task = FanoutTask {
            content: Content::Alert(alert),
            dispatched_at: Timestamp::from_millis(0),
            part: None,
            depth: 0,
            redriven_at: None,
        };
        under_way.spawn(invocation(Arc::clone(&world), task));
    }
    loop {
        tokio::select! {
            biased;
            Some(task) = to_start.recv() => drop(under_way.spawn(invocation(Arc::clone(&world), task))),
            ended = under_way.join_next() => match ended {
                Some(ended) => ended.unwrap_or_else(|error| panic!("an invocation panicked: {error}")),
                None => break,
            },
        }
    }
    let mut state = world.state();
    state.outcome.ended = world.began.elapsed();
    state.check(scenario);
    std::mem::take(&mut state.outcome)
}

fn alert(number: usize) -> Alert {
    let video = serde_json::json!({"id": "v1", "title": "Zażółć gęślą jaźń", "thumbnail": "", "score": 97});
    Alert {
        id: format!("0193-{number}"),
        region: "PL".parse().unwrap_or_else(|error| unreachable!("{error}")),
        position: Position { epoch: 1, seq: number as u64 + 1 },
        video: serde_json::from_value(video).unwrap_or_else(|error| unreachable!("{error}")),
        at: Timestamp::from_millis(0),
    }
}

/// Runs one asynchronous invocation with its retries.
async fn invocation(world: Arc<World>, task: FanoutTask) {
    for wait in REPEATED_AFTER {
        sleep(Duration::from_secs(wait)).await;
        world.takes(QUEUE_MS).await;
        sleep(COLD_START).await;
        let began = Instant::now();
        {
            let outcome = &mut world.state().outcome;
            outcome.invocations += 1;
            outcome.depth = outcome.depth.max(task.depth + 1);
        }
        let alert = usize::try_from(task.content.seq().unwrap_or_default() - 1).unwrap_or_default();
        let services = Invocation { world: Arc::clone(&world), alert, idle_from: Mutex::new(began) };
        let fanout = Fanout {
            services: Arc::new(services),
            push_rate: world.scenario.quota.per_second * world.scenario.push_rate,
            worker_rate: WORKER_RATE,
            suspects_max: SUSPECTS_MAX,
            fallback_to_everyone: true,
            clock: Clock::Manual(Arc::new(i64::from(u32::MAX).into())),
        };
        let ended = timeout(INVOCATION_LIMIT, fanout.deliver(&task, began + INVOCATION_LIMIT)).await;
        let mut state = world.state();
        state.outcome.lambda_secs += (began.elapsed() + COLD_START).as_secs_f64();
        match ended {
            Ok(Ok(report)) => return state.add(&task, &report),
            Ok(Err(failed)) => eprintln!("an invocation failed: {}", ErrorChain(&failed.failure)),
            Err(_) => eprintln!("an invocation ran into its time limit"),
        }
        state.outcome.failed_invocations += 1;
    }
}

impl State {
    fn add(&mut self, task: &FanoutTask, report: &FanoutReport) {
        self.outcome.gone += report.gone;
        self.outcome.undelivered += report.undelivered.values().sum::<u64>();
        self.outcome.retried += report.retried;
        if task.part.is_none() {
            self.outcome.workers += report.workers + 1;
        }
    }

    /// Asserts that every live connection got each alert, unless the report counts it as undelivered.
    fn check(&self, scenario: &Scenario) {
        let missed = self.received.iter().flat_map(|alert| alert.iter().enumerate());
        let missed = missed.filter(|(number, times)| **times == 0 && !scenario.is_gone(*number as u32)).count() as u64;
        // An undelivered connection may also be gone, if the later checks had no answer.
        assert!(missed <= self.outcome.undelivered, "{missed} got nothing, {} are reported", self.outcome.undelivered);
        let all = (scenario.ring.len() * scenario.alerts) as u64;
        assert_eq!(self.outcome.sent + self.outcome.gone + self.outcome.undelivered, all, "each post has one end");
    }
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn takes(&self, (low, high): (f64, f64)) {
        let ms = self.state().random.random_range(low..=high);
        sleep(Duration::from_secs_f64(ms / 1e3)).await;
    }

    /// Takes a token of the quota, if there is one.
    fn admits(&self) -> bool {
        let (quota, now) = (self.scenario.quota, Instant::now());
        let mut state = self.state();
        let State { bucket: (left, filled), outcome, .. } = &mut *state;
        *left = (*left + now.duration_since(*filled).as_secs_f64() * quota.per_second).min(quota.burst);
        *filled = now;
        outcome.calls += 1;
        let admitted = *left >= 1.0;
        if admitted {
            *left -= 1.0;
        } else {
            outcome.refused += 1;
        }
        admitted
    }

    fn sent(&self, alert: usize, connection: u32) {
        let after = self.began.elapsed();
        let ms = usize::try_from(after.as_millis()).unwrap_or(usize::MAX);
        let mut state = self.state();
        let State { outcome, received, .. } = &mut *state;
        if outcome.sent_at_ms.len() <= ms {
            outcome.sent_at_ms.resize(ms + 1, 0);
        }
        outcome.sent_at_ms[ms] += 1;
        outcome.sent += 1;
        outcome.last[alert] = after;
        outcome.taken_by_last = outcome.calls - outcome.refused;
        received[alert][connection as usize] += 1;
    }

    fn read(&self, items: usize) {
        let units = (items * ITEM_BYTES).div_ceil(READ_UNIT_BYTES).max(1) as f64;
        let second = usize::try_from(self.began.elapsed().as_secs()).unwrap_or(usize::MAX);
        let outcome = &mut self.state().outcome;
        if outcome.read_units_by_second.len() <= second {
            outcome.read_units_by_second.resize(second + 1, 0.0);
        }
        outcome.read_units_by_second[second] += units;
        outcome.read_units += units;
    }
}

/// The world as one invocation sees it, with a processor of its own.
struct Invocation {
    world: Arc<World>,
    alert: usize,
    /// When its processor becomes idle.
    idle_from: Mutex<Instant>,
}

impl Invocation {
    /// Waits for the processor, and uses it for one push.
    async fn computes(&self) {
        let now = Instant::now();
        let begins = {
            let mut idle_from = self.idle_from.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = now.max(*idle_from);
            *idle_from = begins + WORKER_CPU_PER_PUSH;
            begins
        };
        // The timer cannot wait for less than a tick.
        if begins > now + Duration::from_millis(1) {
            tokio::time::sleep_until(begins).await;
        }
    }

    /// Makes a call. Returns false if the gateway throttles it.
    async fn is_answered(&self) -> bool {
        self.computes().await;
        let is_admitted = self.world.admits();
        if is_admitted {
            self.answers().await;
        } else {
            self.world.takes((REFUSAL_MS, REFUSAL_MS)).await;
        }
        is_admitted
    }

    async fn existence(&self, connection: &ConnectionId) -> ConnectionState {
        if !self.is_answered().await {
            return ConnectionState::Throttled;
        }
        let is_gone = self.world.scenario.is_gone(number_of(connection.as_str()));
        if is_gone { ConnectionState::Gone } else { ConnectionState::Open }
    }

    async fn answers(&self) {
        let ms = {
            let random = &mut self.world.state().random;
            let (low, high) = if random.random_bool(POST_TAIL) { POST_TAIL_MS } else { POST_MS };
            low * (high / low).powf(random.random_range(0.0..=1.0))
        };
        sleep(Duration::from_secs_f64(ms * self.world.scenario.slower / 1e3)).await;
    }
}

impl Services for Invocation {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        let page = match audience {
            Audience::Region(_) => self.world.scenario.ring.page(range, after),
            Audience::All | Audience::Everyone | Audience::Room(_) => AudiencePage::default(),
        };
        self.world.read(page.members.len());
        self.world.takes(PAGE_MS).await;
        Ok(page)
    }

    async fn post(&self, connection: &ConnectionId, _: &Frame) -> PostOutcome {
        let number = number_of(connection.as_str());
        let is_gone = self.world.scenario.is_gone(number);
        self.world.state().outcome.posts_to_gone += u64::from(is_gone);
        if !self.is_answered().await {
            return PostOutcome::Throttled;
        }
        if is_gone {
            return PostOutcome::Gone;
        }
        if self.world.state().random.random_bool(POST_FAILS) {
            return PostOutcome::Transient(Cause::Unavailable);
        }
        self.world.sent(self.alert, number);
        PostOutcome::Sent
    }

    async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
        self.world.state().outcome.looks += 1;
        self.existence(connection).await
    }

    async fn close(&self, connection: &ConnectionId) -> ConnectionState {
        self.world.state().outcome.closed += 1;
        self.existence(connection).await
    }

    async fn remove(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
        for _ in connections {
            sleep(REMOVAL).await;
            let outcome = &mut self.world.state().outcome;
            outcome.removed += 1;
            outcome.read_units += REMOVAL_UNITS.0;
            outcome.write_units += REMOVAL_UNITS.1;
        }
        Ok(())
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.world.takes(INVOKE_MS).await;
        self.world.started.send(task.clone()).map_err(|error| InternalError::new("starting an invocation", error))
    }

    fn random(&self) -> f64 {
        self.world.state().random.random_range(0.0..=1.0)
    }
}
