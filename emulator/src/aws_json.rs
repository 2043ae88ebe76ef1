//! AWS JSON, the protocol of SQS, EventBridge and Systems Manager: a header names the operation, and input and output
//! are JSON.
//!
//! Source: Smithy, "AWS JSON 1.0 protocol" and "AWS JSON 1.1 protocol".

use http_body_util::{BodyExt, Limited};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use crate::http::{Body, Request, response};

/// How a service speaks the protocol.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// The media type of requests and responses.
    pub(crate) media_type: &'static str,
    /// What stands before the name of an operation in `X-Amz-Target`.
    pub(crate) target_prefix: &'static str,
    /// The operations. Another one is an error before its input is read, unless there are none here: then the service
    /// itself decides, after that.
    pub(crate) operations: &'static [&'static str],
    /// Largest request, in bytes.
    pub(crate) request_bytes_max: usize,
    /// The service's own words for a request that is not a call.
    pub(crate) unreadable: fn(Unreadable<'_>) -> ServiceError,
}

/// A request that is not a call of the service.
#[derive(Debug)]
pub(crate) enum Unreadable<'a> {
    /// The target names no operation of the service; empty if there is none.
    Target(&'a str),
    /// The body has more bytes than a request may have.
    TooLarge,
}

/// An error in the words of the service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServiceError {
    pub(crate) status: StatusCode,
    /// Its name in the model, which clients read from the body.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    /// Its name from before the service spoke JSON, which some clients go by.
    pub(crate) query_code: Option<&'static str>,
}

impl ServiceError {
    /// An error with status 400.
    pub(crate) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind, message: message.into(), query_code: None }
    }
}

impl Protocol {
    /// Reads a call, hands its operation and input to `perform`, and writes the output or the error.
    pub(crate) async fn serve(
        &self,
        request: Request,
        perform: impl AsyncFnOnce(&str, &[u8]) -> Result<Value, ServiceError>,
    ) -> Response<Body> {
        let result = match self.read(request).await {
            Ok((operation, input)) => perform(&operation, &input).await,
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(output) => return response(StatusCode::OK, self.media_type, output.to_string()),
            Err(error) => error,
        };
        let body = json!({"__type": error.kind, "message": error.message});
        let mut response = response(error.status, self.media_type, body.to_string());
        if let Some(code) = error.query_code {
            let name = HeaderName::from_static("x-amzn-query-error");
            response.headers_mut().insert(name, HeaderValue::from_static(code));
        }
        response
    }

    async fn read(&self, request: Request) -> Result<(String, Bytes), ServiceError> {
        let (head, body) = request.into_parts();
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let is_known = |operation: &&str| self.operations.is_empty() || self.operations.contains(operation);
        let operation = target.strip_prefix(self.target_prefix).filter(is_known);
        let operation = operation.ok_or_else(|| (self.unreadable)(Unreadable::Target(target)))?;
        let body = Limited::new(body, self.request_bytes_max).collect().await;
        let body = body.map_err(|_| (self.unreadable)(Unreadable::TooLarge))?.to_bytes();
        Ok((operation.to_owned(), body))
    }
}
