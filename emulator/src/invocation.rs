//! Invocations of functions and their errors, and the interface of functions that are linked into the program.

use std::{collections::BTreeMap, error::Error, fmt, sync::Arc, time::Duration};

use clock::Clock;
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use serde_json::json;
use tokio::{task::JoinError, time::Instant};

use crate::template::Function;

/// Functions that are linked into the program. `()` has none.
pub trait LinkedFunctions: fmt::Debug + Send + Sync {
    /// Starts a function that is linked into this program. `None` runs the function as a process.
    ///
    /// # Errors
    ///
    /// If a linked function cannot start, such as without a variable. The emulator then does not start.
    fn start(&self, function: &Function, setting: FunctionSetting) -> Option<Result<Arc<dyn Invoke>, StartFailure>> {
        let _ = (function, setting);
        None
    }
}

impl LinkedFunctions for () {}

/// Why a linked function cannot start.
pub type StartFailure = Box<dyn Error + Send + Sync>;

/// What a linked function gets at its start.
#[derive(Clone, Debug)]
pub struct FunctionSetting {
    /// Environment variables: those of the template, and those that lead AWS clients to the emulator.
    pub environment: BTreeMap<String, String>,
    /// The clock of the emulator.
    pub clock: Clock,
}

/// A function that is linked into the program.
pub trait Invoke: fmt::Debug + Send + Sync {
    /// Handles one event and returns the result, both as JSON. The emulator drops the future at the function's timeout.
    ///
    /// # Errors
    ///
    /// If the function fails. Use [`InvokeError::FunctionError`]; a panic becomes one with `From<JoinError>`.
    fn invoke(
        self: Arc<Self>,
        payload: Bytes,
        invocation: Invocation,
    ) -> BoxFuture<'static, Result<Bytes, InvokeError>>;
}

/// The context of an invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The id of the request. Retries of an asynchronous invocation keep it.
    pub request_id: String,
    /// When the function times out.
    pub deadline: Instant,
}

/// Why an invocation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The template has no such function.
    #[error("unknown function `{0}`: the template does not have it")]
    UnknownFunction(String),
    /// The function reported an error, or panicked.
    #[error("{error_type}: {error_message}")]
    FunctionError {
        /// The type of the error, for programs.
        error_type: String,
        /// The message, for people.
        error_message: String,
    },
    /// The function took longer than its timeout.
    #[error("Task timed out after {:.2} seconds", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Too many asynchronous invocations wait.
    #[error("too many asynchronous invocations wait or run: send fewer, or wait until some have ended")]
    TooManyEvents,
    /// The Lambda endpoint that runs the functions did not respond.
    #[error("no response from the Lambda endpoint {0}: check that it is running")]
    Unreachable(String),
}

impl InvokeError {
    /// Makes the error that Lambda reports when the process of a function exits during an invocation.
    pub(crate) fn injected(error_message: &str) -> Self {
        Self::FunctionError { error_type: "Runtime.ExitError".to_owned(), error_message: error_message.to_owned() }
    }

    /// Returns the payload of a failed invocation, as Lambda writes it.
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

impl From<JoinError> for InvokeError {
    /// Reports a panic of a function. As in the Lambda runtime, it ends only the invocation.
    fn from(ended: JoinError) -> Self {
        let error_message = match ended.try_into_panic() {
            Err(cancelled) => cancelled.to_string(),
            Ok(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => {
                    panic.downcast::<&str>().map_or_else(|_| "unknown panic".to_owned(), |text| (*text).to_owned())
                }
            },
        };
        Self::FunctionError { error_type: "Panic".to_owned(), error_message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_with_its_message() {
        let expected = InvokeError::FunctionError { error_type: "Panic".to_owned(), error_message: "no 7".to_owned() };
        let formatted = tokio::spawn(async { panic!("no {}", 7) }).await.map(|()| unreachable!()).expect_err("a panic");
        assert_eq!(InvokeError::from(formatted), expected);
        let plain = tokio::spawn(async { panic!("no 7") }).await.map(|()| unreachable!()).expect_err("a panic");
        assert_eq!(InvokeError::from(plain), expected);
    }
}
