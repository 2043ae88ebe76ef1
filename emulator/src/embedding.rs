//! What a program adds to the emulator when it embeds it: functions that run in its own process, and pages.

use std::{collections::BTreeMap, error::Error, fmt, sync::Arc};

use clock::Clock;
use futures_util::future::BoxFuture;
use hyper::{HeaderMap, Response, body::Bytes, http::request::Parts};
use tokio::{task::JoinError, time::Instant};

use crate::{
    gateway::{ConnectionSummary, Gateway},
    http::Body,
    lambda::InvokeError,
    template::Function,
};

/// A program that embeds the emulator. `()` adds nothing: every function runs as a process.
pub trait Embedding: fmt::Debug + Send + Sync {
    /// Starts a function that is linked into this program. `None` runs the function as a process.
    ///
    /// # Errors
    ///
    /// If the function is linked in and cannot start, such as with a variable missing. The emulator then does not start.
    fn start(&self, function: &Function, setting: FunctionSetting) -> Option<Result<Arc<dyn Invoke>, StartFailure>> {
        let _ = (function, setting);
        None
    }

    /// Makes the pages that the HTTP address serves beside the HTTP API and the inspector.
    fn pages(&self, site: Site) -> Option<Arc<dyn Pages>> {
        let _ = site;
        None
    }
}

impl Embedding for () {}

/// Why a function that is linked in cannot start.
pub type StartFailure = Box<dyn Error + Send + Sync>;

/// What a function that is linked in gets at its start.
#[derive(Clone, Debug)]
pub struct FunctionSetting {
    /// Its environment variables: those of the template, and those that lead AWS clients to the emulator.
    pub environment: BTreeMap<String, String>,
    /// The time.
    pub clock: Clock,
}

/// A function that is linked into the program.
pub trait Invoke: fmt::Debug + Send + Sync {
    /// Handles one event, JSON in and JSON out. The emulator drops the future when the function's time-out has passed.
    fn invoke(
        self: Arc<Self>,
        payload: Bytes,
        invocation: Invocation,
    ) -> BoxFuture<'static, Result<Bytes, InvokeError>>;
}

/// What a function knows of the invocation that it handles.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The id of the request. It stays the same when an asynchronous invocation is retried.
    pub request_id: String,
    /// When the time-out of the function passes.
    pub deadline: Instant,
}

/// Pages of the program that embeds the emulator.
pub trait Pages: fmt::Debug + Send + Sync {
    /// Returns whether a page of another site may link to this path: one that tells nothing of this machine.
    fn is_public(&self, path: &str) -> bool;

    /// Says in a few words each what the program knows of a connection, such as its subscriptions, for the inspector.
    fn labels<'a>(&'a self, connection_id: &'a str) -> BoxFuture<'a, Vec<String>> {
        let _ = connection_id;
        Box::pin(async { Vec::new() })
    }

    /// Answers a request that is neither for the HTTP API nor for the inspector. `None` answers 404.
    fn handle<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Option<Response<Body>>>;
}

/// The running emulator, as the pages of the program see it.
#[derive(Clone, Debug)]
pub struct Site {
    pub(crate) websocket_port: u16,
    /// The variables that lead AWS clients to the emulator.
    pub aws_variables: BTreeMap<String, String>,
    /// The variables that the template gives to functions, by the function's name.
    pub function_variables: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) gateway: Arc<Gateway>,
}

impl Site {
    /// The address of the WebSocket API by the name under which a request has reached this machine.
    pub fn websocket_url(&self, headers: &HeaderMap) -> String {
        self.gateway.address_for(headers, self.websocket_port)
    }

    /// The number of open connections.
    pub fn connected(&self) -> usize {
        self.gateway.connected()
    }

    /// The newest connections whose id or address contains `part`, at most `max`, and how many there are of them.
    pub fn connections(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        self.gateway.summaries(part, max)
    }
}

impl From<JoinError> for InvokeError {
    /// Reports a panic of a function, which ends its invocation and nothing else, as in the Lambda runtime.
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
