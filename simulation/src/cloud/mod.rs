//! AWS as the functions find it: everything that they call, and everything that calls them, in one thread and in
//! virtual time.
//!
//! Randomness comes in lanes: each process, each socket and each client draws from its own, which follows from the seed
//! and the lane's name. So a world in which one client is left out is otherwise much the same, and a failure can be
//! shrunk.

mod allowances;
mod answers;
mod bill;
mod canary;
mod database;
mod event_api;
mod feed;
mod forms;
mod gateway;
mod http;
mod lambda;
pub(crate) mod lifetimes;
mod network;
mod seats;
mod services;
mod situations;
mod weather;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use apigw_local::Tables;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use self::{canary::Canary, event_api::Events, feed::Feed, gateway::Gateway, lambda::Lambda, services::Queues};
pub use self::{
    canary::CanaryPublication,
    database::{Store, Units},
    event_api::{EventLine, EventSocket},
    feed::Announced,
    gateway::{Incoming, LIFE_MAX, Line, Socket, Visitor},
    lambda::{FunctionName, InvocationError},
    services::{Forgery, token},
    situations::{Reached, Situation},
    weather::Weather,
};

/// What the wall clock shows when a world begins, in milliseconds since the Unix epoch.
pub const BEGAN_MS: i64 = 1_795_000_000_000;

/// When tokens end that do not end in a world, in seconds since 1970.
pub const TOKEN_END_S: i64 = BEGAN_MS / 1_000 + 1_000_000;

/// Who issues tokens.
pub const TOKEN_ISSUER: &str = "https://issuer.example/";

/// The parameter with the token of the canary, where an issuer signs tokens.
const CANARY_TOKEN_PARAMETER: &str = "/canary-token";

/// The source of the scorer's events, which publish's rule goes by.
const SCORER_SOURCE: &str = "viral-alerts.scorer.world";

/// The host of the Event API, its address for clients, and the one for publishers.
pub const EVENTS_HOST: &str = "events.example";
const EVENTS_URL: &str = "wss://events.example/event/realtime";
const EVENTS_PUBLISH_URL: &str = "https://events.example/event";

/// A second leg: how many clients it is meant for, and how these look after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventApi {
    /// The percentage of clients that use it.
    pub share: u8,
    /// The same after the first deployment in a world.
    pub later_share: u8,
    /// Average milliseconds between looks at the log. Without it clients do not look, as none of ours does.
    pub check_ms: Option<u64>,
}

/// What a deployment is configured with, beside what the template fixes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `off`, `optional` or `required`.
    pub authorization: String,
    /// Whether keys are published by an issuer instead of being a secret parameter.
    pub has_issuer: bool,
    pub fallback_to_everyone: bool,
    /// Calls of the management API a second, of the account and in `PUSH_RATE`.
    pub push_rate: u32,
    pub connections_per_user: u32,
    pub messages_per_second: u32,
    pub alerts_per_minute: u32,
    pub regions_max: u32,
    /// Whether somebody drives dead letters again.
    pub has_operator: bool,
    /// Whether functions that are deployed in the middle write forms with a field that those before do not know.
    pub has_next_form: bool,
    /// Members of an audience in a page of a query of deliver, where DynamoDB's bound on its size leaves so few. Half
    /// of all connections then have slots at the beginning of the ring, so that a page seems to be of a large audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_items: Option<u32>,
    /// Milliseconds that each way of each request takes, where that is always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_ms: Option<u64>,
    /// The second leg, where `Delivery` is `both`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_api: Option<EventApi>,
}

impl Settings {
    /// Whether an alert without subscribers goes to everyone. Source: template.yaml.
    pub fn falls_back_to_everyone(&self) -> bool {
        self.fallback_to_everyone && self.authorization == "off" && self.event_api.is_none()
    }
}

/// Everything that a world has but its clients.
pub struct Cloud {
    pub settings: Settings,
    weather: Weather,
    calm: Weather,
    is_calm: AtomicBool,
    calm_since: Mutex<Option<Instant>>,
    seed: u64,
    /// Tells processes of this world from those of others in the same program.
    number: u64,
    began: Instant,
    lanes: Mutex<BTreeMap<String, SmallRng>>,
    store: database::SharedStore,
    lambda: Mutex<Lambda>,
    gateway: Mutex<Gateway>,
    events: Mutex<Events>,
    queues: Mutex<Queues>,
    bill_of_alerts: Mutex<bill::BillOfAlerts>,
    feed: Mutex<Feed>,
    canary: Mutex<Canary>,
    charges: Mutex<Vec<allowances::Charge>>,
    /// Events that publish has handled, and its answers.
    answered: Mutex<Vec<(Value, Value)>>,
    reached: Mutex<Reached>,
    /// Floods under way: many write one item at the same moments, and the database answers unevenly.
    floods: AtomicU64,
    trace: Mutex<Trace>,
    broken: Mutex<Vec<(u32, String)>>,
    busy: AtomicU64,
    idle: Notify,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What happened in a world: a number that follows from all of it, and the lines if they are asked for.
#[derive(Debug)]
struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

/// Something is under way that has to end before all is calm.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Cloud>);

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// FNV-1a. Source: RFC 9923.
pub(crate) fn hash(mut state: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state
}

pub(crate) const HASH_BEGAN: u64 = 0xcbf2_9ce4_8422_2325;

impl Cloud {
    /// A deployment without clients.
    pub fn new(tables: &Tables, seed: u64, settings: Settings, weather: Weather, keeps_lines: bool) -> Arc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            settings,
            weather,
            calm: Weather::default(),
            is_calm: AtomicBool::new(false),
            calm_since: Mutex::default(),
            seed,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            began: Instant::now(),
            lanes: Mutex::default(),
            store: Arc::new(Store::new(tables)),
            lambda: Mutex::default(),
            gateway: Mutex::default(),
            events: Mutex::default(),
            queues: Mutex::default(),
            bill_of_alerts: Mutex::default(),
            feed: Mutex::default(),
            canary: Mutex::default(),
            charges: Mutex::default(),
            answered: Mutex::default(),
            reached: Mutex::default(),
            floods: AtomicU64::default(),
            trace: Mutex::new(Trace { hash: HASH_BEGAN, lines: keeps_lines.then(Vec::new) }),
            broken: Mutex::default(),
            busy: AtomicU64::new(0),
            idle: Notify::new(),
        })
    }

    /// What goes wrong at the moment.
    pub fn weather(&self) -> &Weather {
        if self.is_calm.load(Ordering::Relaxed) { &self.calm } else { &self.weather }
    }

    /// What goes wrong in this world, until it calms down.
    pub fn planned(&self) -> &Weather {
        &self.weather
    }

    /// Ends all that goes wrong.
    pub fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        *lock(&self.calm_since) = Some(Instant::now());
        self.note(|| "all is calm from now on".to_owned());
    }

    /// Whether what goes wrong has ended.
    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed) || self.weather.is_calm()
    }

    /// What decides all that happens.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether what goes wrong has ended for that long.
    pub fn is_calm_for(&self, time: Duration) -> bool {
        lock(&self.calm_since).is_some_and(|since| since.elapsed() >= time)
    }

    /// Milliseconds after the beginning at which all became calm.
    pub fn calm_since_ms(&self) -> Option<u64> {
        let since = lock(&self.calm_since).as_ref().map(|since| since.duration_since(self.began))?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Its database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Milliseconds since the world began.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What its wall clock shows, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        BEGAN_MS + i64::try_from(self.elapsed_ms()).unwrap_or(i64::MAX)
    }

    /// When its wall clock shows a time, in milliseconds since the Unix epoch.
    pub fn at(&self, ms: u64) -> Instant {
        let since = i64::try_from(ms).unwrap_or(i64::MAX).saturating_sub(BEGAN_MS);
        self.began + Duration::from_millis(u64::try_from(since).unwrap_or_default())
    }

    /// Draws from a lane.
    pub fn draw<T>(&self, lane: &str, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        let mut lanes = lock(&self.lanes);
        if let Some(random) = lanes.get_mut(lane) {
            return draw(random);
        }
        let seed = hash(hash(HASH_BEGAN, &self.seed.to_le_bytes()), lane.as_bytes());
        draw(lanes.entry(lane.to_owned()).or_insert_with(|| SmallRng::seed_from_u64(seed)))
    }

    /// Whether something of a probability happens.
    pub fn chance(&self, lane: &str, probability: f64) -> bool {
        probability > 0.0 && self.draw(lane, |random| random.random_bool(probability))
    }

    /// Waits for up to `most_ms`, most often for less than half of that.
    pub async fn pass(&self, lane: &str, most_ms: f64) {
        if most_ms > 0.0 {
            let share: f64 = self.draw(lane, |random| random.random_range(0.0..1.0));
            sleep(Duration::from_secs_f64(share * share * most_ms / 1_000.0)).await;
        }
    }

    /// Adds a line to what happened.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let mut text = String::new();
        let _ = write!(text, "{:>8} {}", self.elapsed_ms(), line());
        let mut trace = lock(&self.trace);
        trace.hash = hash(trace.hash, text.as_bytes());
        if let Some(lines) = &mut trace.lines {
            lines.push(text);
        }
    }

    /// A number that two worlds have in common in which the same happened.
    pub fn trace_hash(&self) -> u64 {
        lock(&self.trace).hash
    }

    /// What happened, if it was kept.
    pub fn trace(&self) -> Vec<String> {
        lock(&self.trace).lines.clone().unwrap_or_default()
    }

    /// Notes that a guarantee does not hold.
    pub fn breaks(&self, guarantee: u32, message: String) {
        self.note(|| format!("guarantee {guarantee} is broken: {message}"));
        lock(&self.broken).push((guarantee, message));
    }

    /// The guarantees that do not hold, in the order in which that was seen.
    pub fn broken(&self) -> Vec<(u32, String)> {
        lock(&self.broken).clone()
    }

    /// Something begins that has to end before all is calm.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Waits until nothing is under way. False where that is not so within `time`.
    pub async fn is_idle_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let idle = self.idle.notified();
            if self.busy.load(Ordering::Relaxed) == 0 {
                return true;
            }
            if tokio::time::timeout_at(end, idle).await.is_err() {
                return self.busy.load(Ordering::Relaxed) == 0;
            }
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
