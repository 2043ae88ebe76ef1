//! Lambda: functions by name, invoked in this process or wherever a Lambda Invoke API answers.

pub(crate) mod api;
mod in_process;
mod remote;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::body::Bytes;
use serde_json::json;
use shared::{clock::Clock, environment::Environment};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::task::TaskTracker;

use self::{in_process::InProcess, remote::Remote};
use crate::{
    faults::{FaultKind, Faults},
    template::Function,
};

/// Why an invocation has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvokeError {
    /// There is no such function.
    #[error("there is no function {0} in the template")]
    UnknownFunction(String),
    /// The function reported an error, or panicked.
    #[error("{error_type}: {error_message}")]
    FunctionError {
        /// What a program branches on.
        error_type: String,
        /// What a person reads.
        error_message: String,
    },
    /// The function took longer than it may.
    #[error("Task timed out after {:.2} seconds", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Where the functions run there is no answer.
    #[error("no answer from the Lambda endpoint {0}: is it running?")]
    Unreachable(String),
}

impl InvokeError {
    /// What Lambda reports when the process of a function ends in the middle.
    fn injected(error_message: &str) -> Self {
        Self::FunctionError { error_type: "Runtime.ExitError".to_owned(), error_message: error_message.to_owned() }
    }

    /// The payload of a failed invocation, as Lambda writes it.
    pub(crate) fn payload(&self) -> Bytes {
        let payload = match self {
            Self::FunctionError { error_type, error_message } => {
                json!({"errorType": error_type, "errorMessage": error_message})
            }
            Self::TimedOut(_) => json!({"errorType": "Sandbox.Timedout", "errorMessage": self.to_string()}),
            other => json!({"errorType": "Runtime.Unavailable", "errorMessage": other.to_string()}),
        };
        Bytes::from(payload.to_string())
    }
}

/// Invocations of one function at once; more of them wait. Lambda starts 1,000 environments instead, but when all sockets
/// close at the same moment, this machine could not open as many connections to the database.
const CONCURRENCY_MAX: usize = 64;

/// The functions of a template, ready to be invoked.
///
/// An invocation runs to its end even if nobody waits for it any more, as in Lambda: a publisher that hangs up must not
/// stop publish between the commit and the dispatch.
#[derive(Debug)]
pub(crate) struct Functions {
    functions: BTreeMap<String, Arc<Entry>>,
    tasks: TaskTracker,
    /// How many invocations run.
    running: watch::Sender<usize>,
    invocations: AtomicU64,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Entry {
    timeout: Duration,
    /// Invocations that may run at once.
    concurrency: Semaphore,
    runner: Runner,
}

/// Where a function runs.
#[derive(Debug)]
enum Runner {
    InProcess(InProcess),
    Remote(Box<Remote>),
}

/// A function that cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the function {function}")]
pub struct StartError {
    function: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Functions {
    /// Starts every function, with the variables of the template and the `endpoints` added to its environment.
    pub(crate) fn start(
        functions: &BTreeMap<String, Function>,
        endpoints: &BTreeMap<String, String>,
        lambda_endpoint: Option<&hyper::Uri>,
        faults: Arc<Faults>,
    ) -> Result<Arc<Self>, StartError> {
        let client = remote::client();
        let mut entries = BTreeMap::new();
        for (name, function) in functions {
            let runner = match lambda_endpoint {
                Some(endpoint) => Runner::Remote(Box::new(Remote::new(client.clone(), endpoint, name, function))),
                None => {
                    let environment: Environment = function
                        .environment
                        .iter()
                        .chain(endpoints)
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect();
                    let in_process = InProcess::start(function, environment, Clock::System)
                        .map_err(|source| StartError { function: name.clone(), source })?;
                    Runner::InProcess(in_process)
                }
            };
            entries.insert(
                name.clone(),
                Arc::new(Entry { timeout: function.timeout, concurrency: Semaphore::new(CONCURRENCY_MAX), runner }),
            );
        }
        Ok(Arc::new(Self {
            functions: entries,
            tasks: TaskTracker::new(),
            running: watch::Sender::new(0),
            invocations: AtomicU64::new(0),
            faults,
        }))
    }

    /// Whether there is a function of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// Invokes a function and waits for its answer.
    pub(crate) async fn invoke(&self, name: &str, payload: Bytes) -> Result<Bytes, InvokeError> {
        self.spawn(name, payload)?.await.unwrap_or_else(|ended| Err(panicked(ended)))
    }

    /// Starts an invocation and does not wait for it. A failure is logged where it happens.
    pub(crate) fn invoke_async(&self, name: &str, payload: Bytes) -> Result<(), InvokeError> {
        self.spawn(name, payload).map(drop)
    }

    fn spawn(&self, name: &str, payload: Bytes) -> Result<JoinHandle<Result<Bytes, InvokeError>>, InvokeError> {
        let entry = self.functions.get(name).ok_or_else(|| InvokeError::UnknownFunction(name.to_owned()))?;
        let (entry, name, running) = (Arc::clone(entry), name.to_owned(), Running::new(&self.running));
        self.invocations.fetch_add(1, Ordering::Relaxed);
        // Decided here, in the order of the calls, and not where invocations run side by side.
        let fails_before = self.faults.inject(FaultKind::FailedInvocation).is_some();
        let fails_after = !fails_before && self.faults.inject(FaultKind::FailedAfterRun).is_some();
        Ok(self.tasks.spawn(async move {
            let _running = running;
            // The semaphore is never closed, so there is always a permit in the end.
            let _permit = entry.concurrency.acquire().await;
            let answer = async {
                if fails_before {
                    return Err(InvokeError::injected("injected fault: the function did not run"));
                }
                match &entry.runner {
                    Runner::InProcess(function) => function.invoke(payload).await,
                    Runner::Remote(function) => function.invoke(payload).await,
                }
            };
            let answer = tokio::time::timeout(entry.timeout, answer).await;
            let mut answer = answer.unwrap_or(Err(InvokeError::TimedOut(entry.timeout)));
            if fails_after {
                answer = Err(InvokeError::injected("injected fault: the function ran, and its answer is lost"));
            }
            if let Err(error) = &answer {
                tracing::error!(function = name, %error, "invocation failed");
            }
            answer
        }))
    }

    /// Waits until no invocation runs.
    pub(crate) async fn settled(&self) {
        // The sender lives as long as this borrow, so waiting cannot fail.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// How many invocations there were.
    pub(crate) fn invocations(&self) -> u64 {
        self.invocations.load(Ordering::Relaxed)
    }

    /// Waits until the last invocation has ended.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Counts an invocation as long as it runs, however it ends.
#[derive(Debug)]
struct Running(watch::Sender<usize>);

impl Running {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|running| *running += 1);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// A panic ends an invocation with an error, as in the Lambda runtime, and nothing else.
fn panicked(ended: JoinError) -> InvokeError {
    let error_message = match ended.try_into_panic() {
        Err(cancelled) => cancelled.to_string(),
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => {
                panic.downcast::<&str>().map_or_else(|_| "unknown panic".to_owned(), |text| (*text).to_owned())
            }
        },
    };
    InvokeError::FunctionError { error_type: "Panic".to_owned(), error_message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_with_its_message() {
        let message = async |task: JoinHandle<()>| match panicked(task.await.expect_err("it panics")) {
            InvokeError::FunctionError { error_type, error_message } => (error_type, error_message),
            other => panic!("{other}"),
        };
        let expected = ("Panic".to_owned(), "no 7".to_owned());
        assert_eq!(message(tokio::spawn(async { panic!("no {}", 7) })).await, expected);
        assert_eq!(message(tokio::spawn(async { panic!("no 7") })).await, expected);
    }
}
