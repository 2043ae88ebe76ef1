//! The Lambda Runtime API of one execution environment.
//!
//! Source: Lambda developer guide, "Using the Lambda runtime API for custom runtimes", version 2018-06-01.

use std::sync::{Arc, Mutex, PoisonError};

use clock::Timestamp;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Response, StatusCode, body::Bytes, header::HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    http::{Body, Request, json, response},
    invocation::InvokeError,
    json::read_answer,
};

/// Largest response of a function, in bytes. Source: Lambda quotas.
const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Delivers the result of an invocation to the caller.
type ResponseSender = oneshot::Sender<Result<Bytes, InvokeError>>;

/// One invocation for the function.
#[derive(Debug)]
pub(super) struct PendingInvocation {
    pub(super) request_id: String,
    pub(super) function_arn: String,
    pub(super) payload: Bytes,
    pub(super) deadline: Timestamp,
    pub(super) answer: ResponseSender,
}

/// The phases of a new execution environment.
#[derive(Clone, Debug)]
pub(super) enum InitPhase {
    /// The process is starting.
    Starting,
    /// It has asked for an invocation.
    Ready,
    /// It has reported an error of its initialization.
    Failed(InvokeError),
}

/// The Runtime API, shared with its execution environment.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    waiting: tokio::sync::Mutex<mpsc::Receiver<PendingInvocation>>,
    /// The invocation that the function is handling.
    current: Mutex<Option<(String, ResponseSender)>>,
    phase: watch::Sender<InitPhase>,
}

impl RuntimeApi {
    pub(super) fn new(waiting: mpsc::Receiver<PendingInvocation>) -> Arc<Self> {
        Arc::new(Self {
            waiting: tokio::sync::Mutex::new(waiting),
            current: Mutex::default(),
            phase: watch::Sender::new(InitPhase::Starting),
        })
    }

    /// Waits until the environment is ready or has failed.
    pub(super) async fn started(&self) -> Result<(), InvokeError> {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as this borrow, so waiting cannot fail.
        match phase.wait_for(|phase| !matches!(phase, InitPhase::Starting)).await.as_deref() {
            Ok(InitPhase::Failed(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Returns whether the function is handling an invocation.
    pub(super) fn has_taken(&self, request_id: &str) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|(id, _)| id == request_id)
    }

    /// Handles one request of the runtime.
    pub(super) async fn handle(self: Arc<Self>, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let Some(resource) = path.strip_prefix("/2018-06-01/runtime/") else { return not_found() };
        let parts: Vec<&str> = resource.split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["init", "error"]) => {
                let error = reported(request).await;
                self.phase.send_replace(InitPhase::Failed(error));
                accepted()
            }
            (&Method::POST, ["invocation", id, "response"]) => {
                let answer = match Limited::new(request.into_body(), RESPONSE_BYTES_MAX).collect().await {
                    Ok(body) => Ok(body.to_bytes()),
                    Err(_) => Err(InvokeError::FunctionError {
                        error_type: "Function.ResponseSizeTooLarge".to_owned(),
                        error_message: format!("response too large: expected at most {RESPONSE_BYTES_MAX} bytes"),
                    }),
                };
                self.answer(id, answer)
            }
            (&Method::POST, ["invocation", id, "error"]) => {
                let error = reported(request).await;
                self.answer(id, Err(error))
            }
            _ => not_found(),
        }
    }

    async fn next(&self) -> Response<Body> {
        self.phase.send_if_modified(|phase| {
            let starting = matches!(phase, InitPhase::Starting);
            if starting {
                *phase = InitPhase::Ready;
            }
            starting
        });
        let Some(invocation) = self.waiting.lock().await.recv().await else {
            return json(
                StatusCode::GONE,
                &json!({"errorType": "Shutdown", "errorMessage": "the emulator is stopping"}),
            );
        };
        let mut response = response(StatusCode::OK, "application/json", invocation.payload);
        let trace: String = uuid::Uuid::new_v4().simple().to_string();
        for (name, value) in [
            ("lambda-runtime-aws-request-id", invocation.request_id.clone()),
            ("lambda-runtime-deadline-ms", invocation.deadline.millis().to_string()),
            ("lambda-runtime-invoked-function-arn", invocation.function_arn),
            ("lambda-runtime-trace-id", format!("Root=1-{}-{};Sampled=0", &trace[..8], &trace[8..])),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((invocation.request_id, invocation.answer));
        response
    }

    /// Passes a result to the caller. Refuses a result for another invocation than the current one.
    fn answer(&self, request_id: &str, answer: Result<Bytes, InvokeError>) -> Response<Body> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.take_if(|(id, _)| id == request_id) {
            Some((_, waiting)) => {
                // After a timeout nothing waits for it.
                let _ = waiting.send(answer);
                accepted()
            }
            None => json(
                StatusCode::BAD_REQUEST,
                &json!({"errorType": "InvalidRequestID", "errorMessage": "unknown request id"}),
            ),
        }
    }
}

fn accepted() -> Response<Body> {
    json(StatusCode::ACCEPTED, &json!({"status": "OK"}))
}

fn not_found() -> Response<Body> {
    json(
        StatusCode::NOT_FOUND,
        &json!({"errorType": "NotFound", "errorMessage": "unknown operation of the Lambda Runtime API"}),
    )
}

/// Returns the error in the body of a request, or in its header if the body has none.
async fn reported(request: Request) -> InvokeError {
    let header = request.headers().get("lambda-runtime-function-error-type").cloned();
    let body = Limited::new(request.into_body(), RESPONSE_BYTES_MAX).collect().await.map(|body| body.to_bytes());
    let body: Value = body.ok().and_then(|body| read_answer(&body).ok()).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let named = header.as_ref().and_then(|header| header.to_str().ok()).map(str::to_owned);
    InvokeError::FunctionError {
        error_type: text("errorType").or(named).unwrap_or_else(|| "Runtime.UnknownReason".to_owned()),
        error_message: text("errorMessage").unwrap_or_default(),
    }
}
