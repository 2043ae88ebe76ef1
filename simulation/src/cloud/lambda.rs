//! Lambda: execution environments that start cold, are used again, die at any await and run out of time; and its queue
//! of asynchronous invocations, which runs some of them twice.
//!
//! Sources: Lambda developer guide, "Understanding the Lambda execution environment lifecycle", "Asynchronous
//! invocation", "Recursive loop detection".

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use rand::RngExt;
use serde_json::{Value, json};
use shared::runtime::{
    environment::Environment,
    function::{Function, Invocation, StartContext},
    metrics::Metrics,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{self, Call, Reply},
    cloud::{
        CANARY_TOKEN_PARAMETER, Cloud, EVENTS_HOST, EVENTS_PUBLISH_URL, EVENTS_URL, EventApi, SCORER_SOURCE, Situation,
        TOKEN_ISSUER, Units, forms::later_event, hash, lock,
    },
};

/// The functions, as the template names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionName {
    Alerts,
    Authorize,
    Canary,
    Connect,
    Deliver,
    Disconnect,
    Publish,
    Recover,
    Scorer,
    Subscribe,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}Function")
    }
}

impl FunctionName {
    fn of(name: &str) -> Option<Self> {
        let all = [Self::Deliver, Self::Publish, Self::Recover];
        all.into_iter().find(|function| function.to_string() == name)
    }

    /// Longest that an invocation takes. Source: template.yaml.
    fn time_limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Deliver => 900,
            Self::Scorer => 60,
            Self::Recover => 55,
            Self::Canary => 30,
            _ => 29,
        })
    }

    /// Pauses before the attempts of an asynchronous invocation. Source: template.yaml and the guide.
    fn attempts(self) -> &'static [u64] {
        if matches!(self, Self::Canary | Self::Recover | Self::Scorer) { &[0] } else { &[0, 60, 120] }
    }

    fn start(self, start: &StartContext) -> Arc<dyn Instance> {
        match self {
            Self::Alerts => instance::<alerts::Alerts>(start),
            Self::Authorize => instance::<authorize::Authorize>(start),
            Self::Canary => instance::<canary::Canary>(start),
            Self::Connect => instance::<connect::Connect>(start),
            Self::Deliver => instance::<deliver::Deliver>(start),
            Self::Disconnect => instance::<disconnect::Disconnect>(start),
            Self::Publish => instance::<publish::Publish>(start),
            Self::Recover => instance::<recover::Recover>(start),
            Self::Scorer => instance::<scorer::Scorer>(start),
            Self::Subscribe => instance::<subscribe::Subscribe>(start),
        }
    }
}

/// A started function: JSON in, JSON out.
trait Instance: Send + Sync {
    fn handle(self: Arc<Self>, event: Vec<u8>, invocation: Invocation) -> BoxFuture<'static, Result<Vec<u8>, String>>;
}

struct Started<F>(F);

impl<F: Function> Instance for Started<F> {
    fn handle(self: Arc<Self>, event: Vec<u8>, invocation: Invocation) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        async move {
            let event = serde_json::from_slice(&event).map_err(|error| error.to_string())?;
            let response = self.0.handle(event, invocation).await.map_err(|failure| format!("{failure:?}"))?;
            serde_json::to_vec(&response).map_err(|error| error.to_string())
        }
        .boxed()
    }
}

fn instance<F: Function>(start: &StartContext) -> Arc<dyn Instance> {
    Arc::new(Started(F::start(start).unwrap_or_else(|error| panic!("it does not start: {error}"))))
}

/// Why an invocation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvocationError {
    #[error("the environment died")]
    Died,
    #[error("the time was up")]
    TimedOut,
    #[error("the function failed: {0}")]
    Failed(String),
}

/// An execution environment.
struct Process {
    /// Its lane.
    name: String,
    instance: Arc<dyn Instance>,
    generation: u32,
    /// What its wall clock is ahead, in milliseconds.
    skew_ms: i64,
    /// Requests until it dies; negative: never. Half of the time the last one still leaves.
    requests_left: AtomicI64,
    dies_after_leaving: bool,
    killed: Notify,
    units: Mutex<Units>,
    /// Which invocation it handles, counted through all functions.
    invocation: AtomicU64,
    /// The id of that invocation.
    request_id: Mutex<String>,
}

/// The functions that are deployed.
#[derive(Default)]
pub(super) struct Lambda {
    idle: BTreeMap<FunctionName, Vec<Arc<Process>>>,
    running: BTreeMap<String, Arc<Process>>,
    started: BTreeMap<FunctionName, u32>,
    generation: u32,
    invocations: u64,
}

/// Polls a future while the wall clock is ahead.
struct Skewed<F> {
    ms: i64,
    future: F,
}

impl<F: Future + Unpin> Future for Skewed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let before = determinism::set_skew(self.ms);
        let polled = Pin::new(&mut self.future).poll(cx);
        determinism::set_skew(before);
        polled
    }
}

/// Invocations in a row after which Lambda takes them for a loop.
const CHAIN_STOP: u64 = 16;

/// The result of an invocation, and what it cost.
pub(crate) type Outcome = (Result<Vec<u8>, InvocationError>, Units);

impl Cloud {
    /// Deploys the functions anew. What runs goes on, and what begins finds new environments.
    pub fn redeploy(&self) {
        let mut lambda = lock(&self.lambda);
        lambda.generation += 1;
        lambda.idle.clear();
        let generation = lambda.generation;
        drop(lambda);
        self.note(|| format!("deployment {generation}"));
    }

    fn environment(&self, function: FunctionName) -> Environment {
        let settings = &self.settings;
        let on_off = |is_on: bool| if is_on { "true" } else { "false" }.to_owned();
        let fixed = [
            ("SUBSCRIPTIONS_TABLE", "SubscriptionsTable"),
            ("ALERTS_TABLE", "AlertsTable"),
            ("DELIVER_FUNCTION", "DeliverFunction"),
            ("PUBLISH_FUNCTION", "PublishFunction"),
            ("UNDELIVERED_QUEUE", "http://world.example/undelivered"),
            ("UNPUBLISHED_QUEUE", "http://world.example/unpublished"),
            ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", "http://world.example/prod"),
            ("AWS_ENDPOINT_URL_SSM", "http://world.example/"),
            ("FEED_URL", "https://feed.example/counts"),
            ("SCORES_TABLE", "ScoresTable"),
            ("SCORER_SOURCE", SCORER_SOURCE),
            // TLS would read the certificates of the machine.
            ("SOCKET_URL", "ws://world.example/prod"),
            ("AUTHORIZATION", &settings.authorization),
        ];
        let mut variables: BTreeMap<String, String> =
            fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut set = |name: &str, value: String| drop(variables.insert(name.to_owned(), value));
        set("AWS_LAMBDA_FUNCTION_NAME", function.to_string());
        set("FALLBACK_TO_EVERYONE", on_off(settings.falls_back_to_everyone()));
        set("PUSH_RATE", settings.push_rate.to_string());
        set("CONNECTIONS_PER_USER", settings.connections_per_user.to_string());
        set("MESSAGES_PER_SECOND", settings.messages_per_second.to_string());
        set("REGIONS_MAX", settings.regions_max.to_string());
        set("ALERTS_PER_MINUTE", settings.alerts_per_minute.to_string());
        if let Some(EventApi { share, later_share, .. }) = settings.event_api {
            let is_first = lock(&self.lambda).generation == 0;
            set("EVENTS_PUBLISH_URL", EVENTS_PUBLISH_URL.to_owned());
            set("EVENTS_URL", EVENTS_URL.to_owned());
            set("EVENTS_HOST", EVENTS_HOST.to_owned());
            set("EVENTS_SHARE", if is_first { share } else { later_share }.to_string());
        }
        if settings.authorization != "off" {
            if settings.has_issuer {
                set("JWKS_URL", "https://issuer.example/keys".to_owned());
                set("TOKEN_ISSUER", TOKEN_ISSUER.to_owned());
                set("TOKEN_AUDIENCE", "viral-alerts".to_owned());
                set("CANARY_TOKEN_PARAMETER", CANARY_TOKEN_PARAMETER.to_owned());
            } else {
                set("TOKEN_SECRET_PARAMETER", "/secret".to_owned());
            }
        }
        variables.into_iter().collect()
    }

    /// An environment that has nothing to do, or a new one.
    async fn process(self: &Arc<Self>, function: FunctionName) -> Arc<Process> {
        let lane = function.to_string();
        let is_cold = self.chance(&lane, self.weather().cold_starts);
        let (idle, number, generation) = {
            let mut lambda = lock(&self.lambda);
            let idle = if is_cold { None } else { lambda.idle.entry(function).or_default().pop() };
            let started = lambda.started.entry(function).or_default();
            *started += u32::from(idle.is_none());
            (idle, *started, lambda.generation)
        };
        if let Some(process) = idle {
            return process;
        }
        let name = format!("{function}-{number}");
        let skew = self.weather().skew_ms;
        let (cold_ms, skew_ms) = self.draw(&name, |random| {
            let skew_ms = random.random_range(-0.5..=0.5) * skew;
            (random.random_range(5..120_u64), skew_ms as i64)
        });
        sleep(Duration::from_millis(cold_ms)).await;
        let dies_after_leaving = self.chance(&name, 0.5);
        let start = StartContext {
            environment: self.environment(function),
            sdk: client::sdk(self, &format!("{}.{name}", self.number)),
            network: self.network(&name),
            clock: Clock::System,
            metrics: Metrics::Off,
        };
        self.note(|| format!("{name} starts, of deployment {generation}"));
        Arc::new(Process {
            instance: function.start(&start),
            name,
            generation,
            skew_ms,
            requests_left: AtomicI64::new(-1),
            dies_after_leaving,
            killed: Notify::new(),
            units: Mutex::default(),
            invocation: AtomicU64::default(),
            request_id: Mutex::default(),
        })
    }

    /// The lane of a process, from its name among those of all worlds.
    pub(super) fn lane(process: &str) -> &str {
        process.split_once('.').map_or(process, |(_, name)| name)
    }

    /// Whether the process dies at this request: before it leaves, or right after.
    pub(super) fn dies_at_request(&self, process: &str, has_left: bool) -> bool {
        let Some(process) = lock(&self.lambda).running.get(process).cloned() else { return false };
        if process.dies_after_leaving != has_left {
            return false;
        }
        // From 0 on nothing leaves any more.
        let left = process.requests_left.load(Ordering::Relaxed);
        if left > 0 {
            process.requests_left.store(left - 1, Ordering::Relaxed);
        }
        if left == 0 {
            process.killed.notify_one();
        }
        left == 0
    }

    /// Whether a process is of a later version, whose forms have a field more. A deployment changes half of the
    /// functions, which then run beside the others until the end.
    pub(super) fn writes_later_form(&self, process: &str) -> bool {
        let is_changed = || {
            let function = process.split('-').next().unwrap_or_default();
            hash(self.seed, function.as_bytes()).count_ones().is_multiple_of(2)
        };
        let generation = || lock(&self.lambda).running.get(process).map(|process| process.generation);
        self.settings.has_next_form && generation().is_some_and(|number| number > 0) && is_changed()
    }

    /// Which invocation a process handles.
    pub(super) fn invocation_of(&self, process: &str) -> Option<u64> {
        lock(&self.lambda).running.get(process).map(|process| process.invocation.load(Ordering::Relaxed))
    }

    /// The id of the invocation with which the fan-out began that a process is part of.
    pub(super) fn fan_out_of(&self, process: &str) -> Option<String> {
        let process = lock(&self.lambda).running.get(process).cloned()?;
        let request_id = lock(&process.request_id);
        request_id.split('.').next().map(str::to_owned)
    }

    /// Adds to what the running invocation of a process costs.
    pub(super) fn bill(&self, process: &str, units: Units) {
        if let Some(process) = lock(&self.lambda).running.get(process) {
            let mut sum = lock(&process.units);
            *sum = Units { reads: sum.reads + units.reads, writes: sum.writes + units.writes };
        }
    }

    /// Invokes a function and waits for its result.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        function: FunctionName,
        event: Vec<u8>,
        request_id: String,
    ) -> Outcome {
        let busy = self.begin();
        let process = self.process(function).await;
        let limit = function.time_limit();
        let bad = if function == FunctionName::Deliver { self.weather().bad_deliveries } else { 0.0 };
        let dies = self.chance(&process.name, self.weather().deaths) || self.chance(&process.name, bad);
        let (by_request, requests, ms) = self.draw(&process.name, |random| {
            (random.random_bool(0.6), random.random_range(0..6_i64), random.random_range(0.0..1.0_f64))
        });
        let death = (dies && !by_request).then(|| Instant::now() + Duration::from_secs_f64(ms.powi(3) * 3.0));
        process.requests_left.store(if dies && by_request { requests } else { -1 }, Ordering::Relaxed);
        *lock(&process.units) = Units::default();
        {
            let mut lambda = lock(&self.lambda);
            lambda.invocations += 1;
            process.invocation.store(lambda.invocations, Ordering::Relaxed);
            lock(&process.request_id).clone_from(&request_id);
            lambda.running.insert(process.name.clone(), Arc::clone(&process));
        }
        if function == FunctionName::Canary {
            self.canary_begins(&process.name);
        }
        let began_ms = self.elapsed_ms();
        let deadline = Instant::now() + limit;
        let invocation = Invocation { request_id, deadline };
        let run = Arc::clone(&process.instance).handle(event.clone(), invocation);
        let run = Skewed { ms: process.skew_ms, future: run };
        let mut killed = pin!(process.killed.notified());
        let result = tokio::select! {
            biased;
            result = run => result.map_err(InvocationError::Failed),
            () = &mut killed => Err(InvocationError::Died),
            () = sleep_until(death.unwrap_or(deadline)) => {
                Err(if death.is_some() { InvocationError::Died } else { InvocationError::TimedOut })
            }
        };
        let mut lambda = lock(&self.lambda);
        lambda.running.remove(&process.name);
        if matches!(result, Ok(_) | Err(InvocationError::Failed(_))) && process.generation == lambda.generation {
            lambda.idle.entry(function).or_default().push(Arc::clone(&process));
        }
        drop(lambda);
        if result == Err(InvocationError::TimedOut) && self.is_calm() {
            self.breaks(8, format!("{} ran into its time limit of {limit:?}", process.name));
        }
        self.note(|| match &result {
            Ok(result) => format!("{} ends: {}", process.name, String::from_utf8_lossy(result)),
            Err(error) => format!("{} ends: {error}", process.name),
        });
        match function {
            FunctionName::Canary => self.canary_ends(&process.name, &result),
            FunctionName::Publish => self.charges(&event, began_ms, &result),
            FunctionName::Deliver if self.settings.page_items.is_some() => {
                let report = result.as_ref().ok().and_then(|report| serde_json::from_slice::<Value>(report).ok());
                if report.is_some_and(|report| report["workers"].as_u64() > Some(0)) {
                    self.reaches(Situation::Divided);
                }
            }
            _ => {}
        }
        let units = *lock(&process.units);
        // What fails is repeated, and billed again.
        if let Ok(answer) = &result {
            self.bill_alerts(function, &event, answer, units);
        }
        drop(busy);
        (result, units)
    }

    /// Takes an invocation. One that is not asynchronous is answered with its result.
    pub(super) async fn take_invocation(self: &Arc<Self>, call: &Call, path: &str) -> Reply {
        let name = path.split('/').nth(3).unwrap_or_default();
        let Some(function) = FunctionName::of(name) else {
            return Reply { status: 404, body: json!({"Message": "Function not found"}).to_string().into_bytes() };
        };
        self.note_handover(call);
        let is_later = self.writes_later_form(&call.process);
        let event = if is_later { later_event(&call.body) } else { call.body.clone() };
        if call.is_async {
            self.invoke_by(Some(&call.process), function, event);
            return Reply { status: 202, body: Vec::new() };
        }
        let run = self.canary_publishes(&call.process, &event);
        let request_id = format!("{:016x}", self.draw(&call.process, |random| random.random::<u64>()));
        let (result, _) = self.invoke(function, event, request_id).await;
        if let Some(run) = run {
            self.canary_is_answered(&call.process, &run, &result);
        }
        // That it failed is also in a header, which nobody looks at here.
        let failed = |error: InvocationError| json!({"errorMessage": error.to_string()}).to_string().into_bytes();
        Reply { status: 200, body: result.unwrap_or_else(failed) }
    }

    /// Invokes a function asynchronously: at least once, three times if it fails, and then it is a dead letter.
    pub(crate) fn invoke_later(self: &Arc<Self>, function: FunctionName, event: Vec<u8>) {
        self.invoke_by(None, function, event);
    }

    /// Does that, for the process that asks if one does. Workers that a worker starts are of the same fan-out.
    fn invoke_by(self: &Arc<Self>, process: Option<&str>, function: FunctionName, event: Vec<u8>) {
        let lane = format!("queue of {function}");
        if function == FunctionName::Deliver {
            let depth = serde_json::from_slice::<Value>(&event).ok().and_then(|task| task["chain"].as_u64());
            if depth.is_some_and(|depth| depth >= CHAIN_STOP) {
                self.breaks(6, format!("a chain of {depth:?} invocations reaches Lambda's stop"));
            }
        }
        let times = if self.chance(&lane, self.weather().repeats) { 2 } else { 1 };
        let mut request_id = format!("{:016x}", self.draw(&lane, |random| random.random::<u64>()));
        let worker = process.filter(|process| process.starts_with("DeliverFunction"));
        if let Some(fan_out) = worker.and_then(|worker| self.fan_out_of(worker)) {
            request_id = format!("{fan_out}.{request_id}");
        }
        for _ in 0..times {
            let (cloud, lane, event, request_id) = (Arc::clone(self), lane.clone(), event.clone(), request_id.clone());
            let busy = self.begin();
            tokio::spawn(async move {
                cloud.pass(&lane, 20.0).await;
                if cloud.chance(&lane, cloud.weather().waits) {
                    cloud.pass(&lane, 8_000.0).await;
                }
                let mut error = String::new();
                for pause in function.attempts() {
                    sleep(Duration::from_secs(*pause)).await;
                    match cloud.invoke(function, event.clone(), request_id.clone()).await.0 {
                        Ok(answer) => {
                            if function == FunctionName::Publish {
                                cloud.event_is_answered(&event, &answer);
                            }
                            return drop(busy);
                        }
                        Err(failure) => error = failure.to_string(),
                    }
                }
                cloud.dead_letter(function, &event, &request_id, &error);
                drop(busy);
            });
        }
    }
}
