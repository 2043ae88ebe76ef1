//! Lambda: functions by name, invoked in this process, in processes of their own, or wherever a Lambda Invoke API answers.

pub(crate) mod api;
mod asynchronous;
mod concurrency;
pub(crate) mod process;
mod remote;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use hyper::body::Bytes;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    concurrency::FairConcurrencyLimit,
    process::{Process, ProcessHost},
    remote::Remote,
};
use crate::{
    faults::{FaultKind, Faults},
    invocation::{FunctionSetting, Invocation, Invoke, InvokeError, LinkedFunctions},
    recorder::Recorder,
    sqs::Queues,
    template::Function,
};

/// Invocations of one function at once; more of them wait. Lambda starts 1,000 environments instead, but when all sockets
/// close at the same moment, this machine could not open as many connections to the database.
const CONCURRENCY_MAX: usize = 64;

/// The same for a function that runs in processes: one of Node.js takes 45 MB.
const PROCESSES_MAX: usize = 16;

/// Where functions run, and what they are given.
#[derive(Clone, Debug)]
pub(crate) struct LambdaSettings<'a> {
    /// Variables that every function gets, before all others: they lead to the services of the local mode.
    pub(crate) endpoints: &'a BTreeMap<String, String>,
    /// The Lambda Invoke API that runs all functions, if one does.
    pub(crate) lambda_endpoint: Option<&'a hyper::Uri>,
    /// The functions that are linked into the program.
    pub(crate) linked: &'a dyn LinkedFunctions,
    /// What functions need that run as processes.
    pub(crate) host: &'a Arc<ProcessHost>,
    /// How many times faster than in Lambda the waits between retries pass.
    pub(crate) time_scale: f64,
    /// What is told of every invocation.
    pub(crate) recorder: Arc<Recorder>,
    /// Which invocations fail on purpose.
    pub(crate) faults: Arc<Faults>,
    /// Where records of failed invocations go.
    pub(crate) queues: Arc<Queues>,
}

/// The functions of a template, ready to be invoked.
///
/// An invocation runs to its end even if nobody waits for it any more, as in Lambda: a publisher that hangs up must not
/// stop publish between the commit and the dispatch.
#[derive(Debug)]
pub(crate) struct Functions {
    functions: BTreeMap<String, Arc<RegisteredFunction>>,
    tasks: TaskTracker,
    /// How many invocations run.
    running: watch::Sender<usize>,
    clock: Clock,
    time_scale: f64,
    /// Cancelled when nothing shall be tried again.
    stopping: CancellationToken,
    recorder: Arc<Recorder>,
    faults: Arc<Faults>,
    queues: Arc<Queues>,
}

#[derive(Debug)]
struct RegisteredFunction {
    binary: Option<String>,
    timeout: Duration,
    /// Invocations that may run at once.
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
}

/// A function that cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the function {function} in line {line} of the template")]
pub struct FunctionStartError {
    function: String,
    line: usize,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Functions {
    /// Makes every function ready, in the setting that is given.
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
            let process = Process::new(name, function, environment, settings.host, clock.clone())?;
            Ok(Runner::Process(Box::new(process)))
        };
        let mut entries = BTreeMap::new();
        for (name, function) in functions {
            let runner = runner(name, function).map_err(|source| FunctionStartError {
                function: function.logical_id.clone(),
                line: function.line,
                source,
            })?;
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
        Ok(Arc::new(Self {
            functions: entries,
            tasks: TaskTracker::new(),
            running: watch::Sender::new(0),
            clock,
            time_scale: settings.time_scale,
            stopping: CancellationToken::new(),
            recorder: Arc::clone(&settings.recorder),
            faults: Arc::clone(&settings.faults),
            queues: Arc::clone(&settings.queues),
        }))
    }

    /// Functions behind an endpoint where nothing answers.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unreachable(functions: &BTreeMap<String, Function>) -> Arc<Self> {
        let files = tempfile::tempdir().expect("a directory");
        let any = ([127, 0, 0, 1], 1).into();
        let settings = LambdaSettings {
            endpoints: &BTreeMap::new(),
            lambda_endpoint: Some(&hyper::Uri::from_static("http://127.0.0.1:1")),
            linked: &(),
            host: &ProcessHost::new(std::path::Path::new(""), files, "abcdefghij", any, any, BTreeMap::new()),
            time_scale: 1.0,
            recorder: Recorder::new(Clock::System),
            faults: Arc::default(),
            queues: Arc::new(Queues::new(Vec::new(), String::new(), Clock::System)),
        };
        Self::start(functions, &settings).expect("nothing to find")
    }

    /// Whether there is a function of this name, with such an alias or version. Versions have no code of their own here, so any number is one.
    pub(crate) fn contains(&self, name: &str, qualifier: Option<&str>) -> bool {
        let is_version =
            |qualifier: &str| qualifier == "$LATEST" || qualifier.bytes().all(|byte| byte.is_ascii_digit());
        self.entry(name).is_some_and(|entry| {
            qualifier.is_none_or(|qualifier| is_version(qualifier) || entry.aliases.contains(qualifier))
        })
    }

    /// The function of this name. A program under `cargo lambda watch` knows itself by its binary.
    fn entry(&self, name: &str) -> Option<&Arc<RegisteredFunction>> {
        let by_binary = || self.functions.values().find(|entry| entry.binary.as_deref() == Some(name));
        self.functions.get(name).or_else(by_binary)
    }

    /// Invokes a function and waits for its answer.
    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        self.invoke_for("", name, payload).await
    }

    /// The same for one of many sources, which take turns where the function has more to do than it may at once.
    pub(crate) async fn invoke_for(&self, source: &str, name: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        self.spawn(source, name, payload, new_request_id())?.await.unwrap_or_else(|ended| Err(ended.into()))
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
        // Decided here, in the order of the calls, and not where invocations run side by side.
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
                // The time of a new process to start does not count, so it keeps the limit itself.
                Runner::Process(function) => function.invoke(&request_id, payload).await,
            };
            if fails_after {
                answer = Err(InvokeError::injected("injected fault: the function ran, and its answer is lost"));
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

    /// How many invocations there were, of all functions.
    pub(crate) fn invocations(&self) -> u64 {
        self.functions.values().map(|entry| entry.invocations.load(Ordering::Relaxed)).sum()
    }

    /// How many invocations of one function there were.
    pub(crate) fn invocations_of(&self, name: &str) -> u64 {
        self.entry(name).map_or(0, |entry| entry.invocations.load(Ordering::Relaxed))
    }

    /// Waits until the last invocation has ended. What waits to be tried again is given up.
    pub(crate) async fn finish(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Names an invocation, with all attempts at it.
fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Counts an invocation as long as it runs, however it ends.
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
