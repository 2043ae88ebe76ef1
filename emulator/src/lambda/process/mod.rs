//! Functions as processes: execution environments, and the Runtime API that they poll.

mod archive;
mod code;
mod handlers;
mod host;
mod launch;
mod layers;
mod local_host;
mod runtime_api;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use hyper::body::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Child,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

#[cfg(feature = "fuzzing")]
pub(crate) use self::archive::unpack_bytes;
use self::{
    code::{CodeVersion, WATCHED_MAX},
    launch::Launch,
    runtime_api::{PendingInvocation, RuntimeApi},
};
pub(crate) use self::{
    host::{LocalAddresses, ProcessHost},
    launch::LaunchError,
    layers::MissingLayer,
    local_host::LocalHost,
};
use crate::{aws, http, invocation::InvokeError, template};

/// How long a process may take to ask for its first invocation. Lambda allows 10 s; a laptop with a cold disk needs
/// more.
const INIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the response of a process that has exited: it may arrive after the exit is seen.
const LAST_RESPONSE_TIMEOUT: Duration = Duration::from_millis(200);

/// Longest line of a function's log, in bytes. Longer lines are split. Source: CloudWatch Logs quotas.
const LOG_LINE_BYTES_MAX: u64 = 256 * 1024;

/// A function that runs in processes. Each handles one invocation at a time and is kept for the next.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    launch: Launch,
    timeout: Duration,
    clock: Clock,
    idle: Mutex<Vec<ExecutionEnvironment>>,
    /// Set when a line has said that not all of the code is watched.
    is_told_unwatched: AtomicBool,
}

impl Process {
    /// Finds what the function needs. Its first process starts with its first invocation.
    pub(super) fn new(
        name: &str,
        function: &template::Function,
        environment: BTreeMap<String, String>,
        host: &Arc<ProcessHost>,
        clock: Clock,
    ) -> Result<Self, LaunchError> {
        let launch = Launch::new(name, function, environment, host)?;
        let process = Self {
            name: name.to_owned(),
            launch,
            timeout: function.timeout,
            clock,
            idle: Mutex::default(),
            is_told_unwatched: AtomicBool::new(false),
        };
        process.version();
        Ok(process)
    }

    /// Layers of the function that are not here.
    pub(super) fn missing_layers(&self) -> &[MissingLayer] {
        &self.launch.missing
    }

    /// What is wrong with the function's handler, if its file was not found.
    pub(super) fn problem(&self) -> Option<&str> {
        self.launch.problem.as_deref()
    }

    /// Returns the state of the code, and says once if a part of it is not watched.
    fn version(&self) -> CodeVersion {
        let version = self.launch.version();
        if !version.is_complete && !self.is_told_unwatched.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                function = self.name,
                watched = WATCHED_MAX,
                "code has too many files: only the first are watched, changes of others need a restart"
            );
        }
        version
    }

    /// Invokes the function in an idle process with the current code, or in a new one. Stops a process that does not
    /// respond.
    pub(super) async fn invoke(&self, request_id: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        let version = self.version();
        loop {
            let (mut environment, is_new) = match self.take_idle(version) {
                Some(environment) => (environment, false),
                None => (ExecutionEnvironment::start(&self.name, &self.launch, version).await?, true),
            };
            match environment.invoke(request_id, payload.clone(), self.timeout, &self.clock).await {
                InvocationEnd::Answered(answer) => {
                    self.idle().push(environment);
                    return answer;
                }
                InvocationEnd::Ended(answer) => return answer,
                InvocationEnd::NotTaken(error) if is_new => return Err(error),
                // A process may exit after its last response, as Node.js does after an uncaught error.
                InvocationEnd::NotTaken(_) => {}
            }
        }
    }

    /// Takes the most recent environment that still runs. Stops those with older code.
    fn take_idle(&self, version: CodeVersion) -> Option<ExecutionEnvironment> {
        let mut idle = self.idle();
        let before = idle.len();
        idle.retain_mut(|environment| environment.version == version && environment.is_running());
        if idle.len() < before {
            tracing::info!(function = self.name, "process replaced: its code changed, or it exited");
        }
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<ExecutionEnvironment>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One process and its Runtime API. Dropping it stops the process.
#[derive(Debug)]
struct ExecutionEnvironment {
    function_arn: String,
    version: CodeVersion,
    child: Child,
    invocations: mpsc::Sender<PendingInvocation>,
    exchange: Arc<RuntimeApi>,
    /// The request id for the lines of the log.
    request_id: watch::Sender<String>,
    _api: DropGuard,
}

impl Drop for ExecutionEnvironment {
    /// Also stops the processes that the process has started.
    fn drop(&mut self) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // It is fine if the group has already exited.
        group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

impl ExecutionEnvironment {
    async fn start(name: &str, launch: &Launch, version: CodeVersion) -> Result<Self, InvokeError> {
        let failed = |error: &dyn std::fmt::Display| InvokeError::FunctionError {
            error_type: "Runtime.InvalidEntrypoint".to_owned(),
            error_message: format!("cannot start the process: {error}"),
        };
        let listener = http::Listener::bind(([127, 0, 0, 1], 0).into(), &[]).await.map_err(|error| failed(&error))?;
        let address = listener.address.to_string();
        let (invocations, waiting) = mpsc::channel(1);
        let exchange = RuntimeApi::new(waiting);
        let shutdown = CancellationToken::new();
        // Stops the Runtime API if this function fails.
        let api = shutdown.clone().drop_guard();
        let shared = Arc::clone(&exchange);
        tokio::spawn(http::serve(listener, None, shutdown, move |request, _| Arc::clone(&shared).handle(request)));

        let log_stream = uuid::Uuid::new_v4().simple().to_string();
        let launch = launch.clone();
        // A changed zip file is unpacked first, which may take seconds.
        let command = tokio::task::spawn_blocking(move || launch.command(version, &address, &log_stream)).await;
        let mut command = command.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let request_id = watch::Sender::new("init".to_owned());
        for output in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            tokio::spawn(log(name.to_owned(), output, request_id.subscribe()));
        }
        tokio::select! {
            started = exchange.started() => started?,
            ended = child.wait() => return Err(exited(&ended)),
            () = tokio::time::sleep(INIT_TIMEOUT) => return Err(InvokeError::TimedOut(INIT_TIMEOUT)),
        }
        Ok(Self {
            function_arn: aws::arn("lambda", &format!("function:{name}")),
            version,
            child,
            invocations,
            exchange,
            request_id,
            _api: api,
        })
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    async fn invoke(&mut self, request_id: &str, payload: Bytes, limit: Duration, clock: &Clock) -> InvocationEnd {
        let (answer, answered) = oneshot::channel();
        self.request_id.send_replace(request_id.to_owned());
        let invocation = PendingInvocation {
            request_id: request_id.to_owned(),
            function_arn: self.function_arn.clone(),
            payload,
            deadline: clock.now().after(limit),
            answer,
        };
        // The receiver lives as long as this does. A process that has exited is noticed below.
        let _ = self.invocations.send(invocation).await;
        let mut answered = std::pin::pin!(timeout(limit, answered));
        tokio::select! {
            biased;
            answered = &mut answered => match answered {
                Ok(Ok(answer)) => InvocationEnd::Answered(answer),
                Ok(Err(_)) => InvocationEnd::Ended(Err(exited(&self.child.wait().await))),
                Err(_) => InvocationEnd::Ended(Err(InvokeError::TimedOut(limit))),
            },
            ended = self.child.wait() => match timeout(LAST_RESPONSE_TIMEOUT, answered).await {
                Ok(Ok(Ok(answer))) => InvocationEnd::Ended(answer),
                _ if !self.exchange.has_taken(request_id) => InvocationEnd::NotTaken(exited(&ended)),
                _ => InvocationEnd::Ended(Err(exited(&ended))),
            },
        }
    }
}

/// How an invocation in one environment ended.
enum InvocationEnd {
    /// With a result or a reported error. The environment can be reused.
    Answered(Result<Bytes, InvokeError>),
    /// The environment ended too.
    Ended(Result<Bytes, InvokeError>),
    /// The environment ended before it took the invocation.
    NotTaken(InvokeError),
}

fn exited(ended: &std::io::Result<std::process::ExitStatus>) -> InvokeError {
    let how = match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    InvokeError::FunctionError {
        error_type: "Runtime.ExitError".to_owned(),
        error_message: format!("Runtime exited without providing a reason: {how}"),
    }
}

type ProcessOutput = Box<dyn AsyncRead + Send + Unpin>;

fn boxed(output: impl AsyncRead + Send + Unpin + 'static) -> ProcessOutput {
    Box::new(output)
}

/// Logs the output of a function line by line until it ends.
async fn log(function: String, output: ProcessOutput, request_id: watch::Receiver<String>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(LOG_LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let request_id = request_id.borrow().clone();
                tracing::info!(target: "function", "{function} [{request_id}] {}", text.trim_end());
            }
        }
    }
}
