//! Lambda: functions by name, which run in this process, in processes of their own, or behind a Lambda Invoke API.

mod accepted;
pub(crate) mod api;
mod asynchronous;
mod background;
mod concurrency;
pub(crate) mod process;
mod remote;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use hyper::body::Bytes;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::background::Work;
use self::{
    accepted::AcceptedEvents,
    background::Background,
    concurrency::FairConcurrencyLimit,
    process::{LaunchError, MissingLayer, Process, ProcessHost},
    remote::Remote,
};
use crate::{
    faults::{FaultKind, Faults},
    invocation::{FunctionSetting, Invocation, Invoke, InvokeError, LinkedFunctions},
    recorder::Recorder,
    sqs::Queues,
    template::Function,
};

/// Concurrent invocations of one function; others wait. Lambda starts up to 1,000 environments. Here, all sockets may
/// close at once, and one machine cannot open that many connections to the database.
const CONCURRENCY_MAX: usize = 64;

/// Concurrent invocations of a function that runs in processes: one of Node.js takes 45 MB.
const PROCESSES_MAX: usize = 16;

/// Largest payload of a synchronous invocation, in bytes. Source: Lambda quotas.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Where functions run, and what they share.
#[derive(Clone, Debug)]
pub(crate) struct LambdaSettings<'a> {
    /// Variables of every function, which lead AWS clients to the emulator. They override the template's.
    pub(crate) endpoints: &'a BTreeMap<String, String>,
    /// The Lambda Invoke API that runs all functions, if there is one.
    pub(crate) lambda_endpoint: Option<&'a hyper::Uri>,
    /// The functions that are linked into the program.
    pub(crate) linked: &'a dyn LinkedFunctions,
    /// Functions that a route or an authorizer invokes. The emulator does not start if one of them lacks something.
    pub(crate) routed: &'a BTreeSet<String>,
    /// What functions that run as processes share.
    pub(crate) host: &'a Arc<ProcessHost>,
    /// Divides the delays between retries.
    pub(crate) time_scale: f64,
    /// Records every invocation.
    pub(crate) recorder: Arc<Recorder>,
    /// Selects the invocations that fail on purpose.
    pub(crate) faults: Arc<Faults>,
    /// Queues for the records of failed invocations.
    pub(crate) queues: Arc<Queues>,
}

/// The functions of a template, ready to be invoked.
///
/// As in Lambda, an invocation runs to its end even if its caller hangs up.
#[derive(Debug)]
pub(crate) struct Functions {
    functions: BTreeMap<String, Arc<RegisteredFunction>>,
    /// What is not run, one sentence each.
    notes: Vec<String>,
    tasks: TaskTracker,
    /// Number of running invocations.
    running: watch::Sender<usize>,
    clock: Clock,
    time_scale: f64,
    /// Cancelled to stop retries.
    stopping: CancellationToken,
    /// What streams and queues invoke, and retries.
    pub(crate) background: Background,
    /// Asynchronous invocations that have not ended.
    accepted: Arc<AcceptedEvents>,
    recorder: Arc<Recorder>,
    faults: Arc<Faults>,
    queues: Arc<Queues>,
    /// Topics for the records of failed invocations.
    topics: OnceLock<Weak<dyn Publisher>>,
}

/// What takes records of failed invocations for topics.
pub(crate) trait Publisher: fmt::Debug + Send + Sync {
    /// Publishes a message to the topic of this name. Returns false if there is none.
    fn publish(&self, topic: &str, message: &str) -> bool;
}

#[derive(Debug)]
struct RegisteredFunction {
    binary: Option<String>,
    timeout: Duration,
    concurrency: FairConcurrencyLimit,
    runner: Runner,
    aliases: BTreeSet<String>,
    async_retries: u8,
    on_failure: Option<String>,
    dead_letters: Option<String>,
    invocations: AtomicU64,
}

/// Where a function runs.
#[derive(Debug)]
enum Runner {
    Linked(Arc<dyn Invoke>),
    Process(Box<Process>),
    Remote(Box<Remote>),
    /// Nowhere, for this reason.
    Unavailable(String),
}

/// A function that cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the function {function} in line {line} of the template")]
pub struct FunctionStartError {
    function: String,
    line: usize,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Functions {
    /// Prepares every function.
    pub(crate) fn start(
        functions: &BTreeMap<String, Function>,
        settings: &LambdaSettings<'_>,
    ) -> Result<Arc<Self>, FunctionStartError> {
        let clock = Clock::System;
        let client = remote::client();
        let runner = |name: &str, function: &Function| {
            if let Some(endpoint) = settings.lambda_endpoint {
                return Ok(Runner::Remote(Box::new(Remote::new(client.clone(), endpoint, name, function))));
            }
            let environment =
                function.environment.iter().map(|(name, value)| (name.clone(), settings.host.localised(value)));
            let endpoints = settings.endpoints.iter().map(|(name, value)| (name.clone(), value.clone()));
            let environment: BTreeMap<String, String> = environment.chain(endpoints).collect();
            let own = FunctionSetting {
                environment: environment
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .chain([("AWS_LAMBDA_FUNCTION_NAME".to_owned(), name.to_owned())])
                    .collect(),
                clock: clock.clone(),
            };
            if let Some(started) = settings.linked.start(function, own) {
                return started.map(Runner::Linked);
            }
            match Process::new(name, function, environment, settings.host, clock.clone()) {
                Ok(process) => Ok(Runner::Process(Box::new(process))),
                Err(error @ LaunchError::Missing(_)) if settings.routed.contains(name) => Err(error.into()),
                Err(error) => Ok(Runner::Unavailable(error.to_string())),
            }
        };
        let (mut entries, mut notes) = (BTreeMap::new(), Vec::new());
        let mut missing: BTreeMap<MissingLayer, BTreeSet<&str>> = BTreeMap::new();
        let mut unavailable: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, function) in functions {
            let runner = runner(name, function).map_err(|source| FunctionStartError {
                function: function.logical_id.clone(),
                line: function.line,
                source,
            })?;
            match &runner {
                Runner::Unavailable(reason) => {
                    unavailable.entry(reason.clone()).or_default().push(&function.logical_id);
                }
                Runner::Process(process) => {
                    for layer in process.missing_layers() {
                        missing.entry(layer.clone()).or_default().insert(&function.logical_id);
                    }
                    let problem = process.problem();
                    notes.extend(problem.map(|problem| format!("{} cannot run: {problem}", function.logical_id)));
                }
                Runner::Linked(_) | Runner::Remote(_) => {}
            }
            let max = if matches!(runner, Runner::Process(_)) { PROCESSES_MAX } else { CONCURRENCY_MAX };
            let entry = RegisteredFunction {
                binary: function.binary.clone(),
                timeout: function.timeout,
                concurrency: FairConcurrencyLimit::new(max),
                runner,
                aliases: function.aliases.clone(),
                async_retries: function.async_retries,
                on_failure: function.on_failure.clone(),
                dead_letters: function.dead_letters.clone(),
                invocations: AtomicU64::new(0),
            };
            entries.insert(name.clone(), Arc::new(entry));
        }
        notes.extend(unavailable.iter().map(|(reason, functions)| match functions.as_slice() {
            [one] => format!("{one} does not run, and its invocations fail: {reason}"),
            all => format!("{} do not run, and their invocations fail: {reason}", all.join(", ")),
        }));
        notes.extend(missing.iter().map(|(MissingLayer { name, reason }, functions)| {
            let functions: Vec<&str> = functions.iter().copied().collect();
            let functions = functions.join(", ");
            format!(
                "no layer {name}, without which {functions} may fail: {reason}; set it with --layer {name}=DIRECTORY"
            )
        }));
        Ok(Arc::new(Self {
            functions: entries,
            notes,
            tasks: TaskTracker::new(),
            running: watch::Sender::new(0),
            clock,
            time_scale: settings.time_scale,
            stopping: CancellationToken::new(),
            background: Background::default(),
            accepted: Arc::default(),
            recorder: Arc::clone(&settings.recorder),
            faults: Arc::clone(&settings.faults),
            queues: Arc::clone(&settings.queues),
            topics: OnceLock::new(),
        }))
    }

    /// Tells the functions of the topics, which themselves invoke functions.
    pub(crate) fn publish_to(&self, topics: Weak<dyn Publisher>) {
        // Only the first call counts, and there is one.
        let _ = self.topics.set(topics);
    }

    /// Makes functions behind an endpoint that does not respond.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unreachable(functions: &BTreeMap<String, Function>) -> Arc<Self> {
        Self::alone(functions, &(), Some(&hyper::Uri::from_static("http://127.0.0.1:1")))
    }

    /// Makes functions without anything around them, which are linked or behind an endpoint.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn alone(
        functions: &BTreeMap<String, Function>,
        linked: &dyn LinkedFunctions,
        lambda_endpoint: Option<&hyper::Uri>,
    ) -> Arc<Self> {
        use process::LocalAddresses;

        let files = tempfile::tempdir().expect("a directory");
        let any = ([127, 0, 0, 1], 1).into();
        let settings = LambdaSettings {
            endpoints: &BTreeMap::new(),
            lambda_endpoint,
            linked,
            routed: &BTreeSet::new(),
            host: &ProcessHost::new(
                std::path::Path::new(""),
                BTreeMap::new(),
                files,
                LocalAddresses {
                    api_id: "abcdefghij".to_owned(),
                    gateway: any,
                    http_api_ids: Vec::new(),
                    http: any,
                    event_apis: Vec::new(),
                    queues: any,
                },
                BTreeMap::new(),
            ),
            time_scale: 1.0,
            recorder: Recorder::new(Clock::System),
            faults: Arc::default(),
            queues: Arc::new(Queues::new(Vec::new(), Clock::System)),
        };
        Self::start(functions, &settings).expect("nothing to find")
    }

    /// Returns notes on functions that do not run.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns whether there is a function of this name with this alias or version. Versions have no code of their own
    /// here, so any number is a version.
    pub(crate) fn contains(&self, name: &str, qualifier: Option<&str>) -> bool {
        let is_version =
            |qualifier: &str| qualifier == "$LATEST" || qualifier.bytes().all(|byte| byte.is_ascii_digit());
        self.entry(name).is_some_and(|entry| {
            qualifier.is_none_or(|qualifier| is_version(qualifier) || entry.aliases.contains(qualifier))
        })
    }

    /// Returns the function of this name. A program under `cargo lambda watch` has the name of its binary.
    fn entry(&self, name: &str) -> Option<&Arc<RegisteredFunction>> {
        let by_binary = || self.functions.values().find(|entry| entry.binary.as_deref() == Some(name));
        self.functions.get(name).or_else(by_binary)
    }

    /// Invokes a function for one of many sources, such as connections. They take turns at the concurrency limit.
    pub(crate) async fn invoke_for(&self, source: &str, name: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        self.spawn(source, name, payload, new_request_id())?.await.unwrap_or_else(|ended| Err(ended.into()))
    }

    /// The same with an id of the caller's.
    pub(crate) async fn invoke_as(
        &self,
        request_id: &str,
        source: &str,
        name: &str,
        payload: Bytes,
    ) -> Result<Bytes, InvokeError> {
        self.spawn(source, name, payload, request_id.to_owned())?.await.unwrap_or_else(|ended| Err(ended.into()))
    }

    fn spawn(
        &self,
        source: &str,
        name: &str,
        payload: Bytes,
        request_id: String,
    ) -> Result<JoinHandle<Result<Bytes, InvokeError>>, InvokeError> {
        let entry = self.entry(name).ok_or_else(|| InvokeError::UnknownFunction(name.to_owned()))?;
        let (entry, name, running) = (Arc::clone(entry), name.to_owned(), RunningGuard::new(&self.running));
        let source = source.to_owned();
        entry.invocations.fetch_add(1, Ordering::Relaxed);
        // Decided here, in the order of the calls, and not in tasks that run concurrently.
        let fails_before = self.faults.inject(FaultKind::FailedInvocation).is_some();
        let fails_after = !fails_before && self.faults.inject(FaultKind::FailedAfterRun).is_some();
        let recorded = self.recorder.invoked(&name, &request_id, &payload);
        Ok(self.tasks.spawn(async move {
            let _running = running;
            let _permit = entry.concurrency.acquire(&source).await;
            let limited = async |answer: BoxFuture<'_, Result<Bytes, InvokeError>>| {
                let answer = tokio::time::timeout(entry.timeout, answer).await;
                answer.unwrap_or(Err(InvokeError::TimedOut(entry.timeout)))
            };
            let mut answer = match &entry.runner {
                _ if fails_before => Err(InvokeError::injected("injected fault: the function did not run")),
                Runner::Linked(function) => {
                    let deadline = tokio::time::Instant::now() + entry.timeout;
                    let invocation = Invocation { request_id: request_id.clone(), deadline };
                    limited(Arc::clone(function).invoke(payload, invocation)).await
                }
                Runner::Remote(function) => limited(function.invoke(payload).boxed()).await,
                // The start of a new process does not count, so the process applies the timeout itself.
                Runner::Process(function) => function.invoke(&request_id, payload).await,
                Runner::Unavailable(reason) => Err(InvokeError::FunctionError {
                    error_type: "Runtime.Unavailable".to_owned(),
                    error_message: reason.clone(),
                }),
            };
            if fails_after {
                answer = Err(InvokeError::injected("injected fault: the function ran, and its result is lost"));
            }
            if let Err(error) = &answer {
                tracing::error!(function = name, request_id, %error, "invocation failed");
            }
            recorded.answered(&answer);
            answer
        }))
    }

    /// Waits until no invocation runs.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as this borrow, so waiting cannot fail.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Counts the invocations of all functions.
    pub(crate) fn invocations(&self) -> u64 {
        self.functions.values().map(|entry| entry.invocations.load(Ordering::Relaxed)).sum()
    }

    /// Counts the invocations of one function.
    pub(crate) fn invocations_of(&self, name: &str) -> u64 {
        self.entry(name).map_or(0, |entry| entry.invocations.load(Ordering::Relaxed))
    }

    /// Says how many asynchronous invocations of which functions were given up or have not ended. `None` if there are
    /// none.
    pub(crate) fn unfinished_events(&self) -> Option<String> {
        self.accepted.unfinished()
    }

    /// Waits for all running invocations, and gives up retries.
    pub(crate) async fn finish(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Makes the id of an invocation, which its retries keep.
pub(crate) fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Counts a running invocation until it is dropped.
#[derive(Debug)]
struct RunningGuard(watch::Sender<usize>);

impl RunningGuard {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|running| *running += 1);
        Self(count.clone())
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
