//! All error codes that clients and publishers see, and the errors behind them.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use lambda_runtime::Diagnostic;
use serde::Serialize;

/// A code that a client or publisher can branch on. The name on the wire never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The text is not JSON, or not in UTF-8, or nests too deeply, or names a key twice.
    BadJson,
    /// The JSON is not an object.
    NotAnObject,
    /// The message has no `type`, or one that does not exist.
    UnknownType,
    /// A field that must be there is not.
    MissingField,
    /// A field is there with a value that it cannot have.
    InvalidField,
    /// The text does not name a region.
    InvalidRegion,
    /// The title has more characters than there may be.
    TitleTooLong,
    /// The body, or the alert made of it, is larger than the limit.
    TooLarge,
    /// The token or signature is missing or invalid.
    Unauthorized,
    /// The token, or the origin of the page, does not allow this.
    Forbidden,
    /// A rate limit is reached: wait, then repeat the request.
    RateLimited,
    /// The limit of connections or subscriptions is reached: close or leave something first. Waiting does not help.
    LimitReached,
    /// The connection has been closed, whatever its socket says: connect again, and the same request may succeed.
    ConnectionClosed,
    /// The idempotency key was used for something else.
    IdempotencyConflict,
    /// As many regions have a log as the deployment allows.
    TooManyRegions,
    /// The log of the region has no such number.
    UnknownAlert,
    /// The alert with that number has expired.
    AlertExpired,
    /// The alert may or may not have been published.
    OutcomeUnknown,
    /// The service could not do it just now.
    Unavailable,
}

impl Code {
    /// Whether the same request may succeed later.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::ConnectionClosed | Self::OutcomeUnknown | Self::Unavailable)
    }

    /// The HTTP status that carries the code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadJson
            | Self::NotAnObject
            | Self::UnknownType
            | Self::MissingField
            | Self::InvalidField
            | Self::InvalidRegion
            | Self::TitleTooLong => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::UnknownAlert => 404,
            Self::ConnectionClosed | Self::AlertExpired => 410,
            Self::TooLarge => 413,
            Self::RateLimited | Self::LimitReached => 429,
            Self::IdempotencyConflict | Self::TooManyRegions => 409,
            Self::OutcomeUnknown | Self::Unavailable => 503,
        }
    }
}

/// A request that is answered with an error: what a person reads, and what a program branches on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What a program branches on.
    pub code: Code,
    /// Path of the field at fault, such as `video.title`.
    pub field: Option<String>,
    /// One sentence that says what to do.
    pub message: String,
    /// How long to wait before the same request can pass, if that is known.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// A refusal of the request as a whole.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into(), retry_after: None }
    }

    /// A refusal because of one field.
    pub fn of_field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, field: Some(field.into()), message: message.into(), retry_after: None }
    }

    /// What to answer when the service itself failed; the cause is for the log, not for the client.
    pub fn unavailable() -> Self {
        Self::new(Code::Unavailable, "the service could not do this just now, try again")
    }

    /// What to answer where the connection has closed.
    pub fn connection_closed() -> Self {
        Self::new(Code::ConnectionClosed, "this connection has been closed, connect again")
    }

    /// What to answer when it is not known whether an alert was published.
    pub fn outcome_unknown() -> Self {
        let message = "the alert may have been published or not: \
                       repeat it with the same idempotency key, which publishes it once; \
                       without a key, look for it with GET /alerts before you repeat it";
        Self::new(Code::OutcomeUnknown, message)
    }

    /// The answer if a new region would exceed the number of regions that the deployment allows.
    pub fn too_many_regions() -> Self {
        let message = "as many regions have alerts as the deployment allows (RegionsMax); \
                       a region goes two days after its last alert";
        Self::of_field(Code::TooManyRegions, "region", message)
    }

    /// What to answer when an idempotency key was used for another publication.
    pub fn idempotency_conflict() -> Self {
        Self::new(Code::IdempotencyConflict, "the idempotency key was used for another publication: use a new one")
    }

    /// The answer if a rate limit is exceeded. `allowed` is a noun phrase such as `10 messages per second`.
    pub fn rate_limited(allowed: &str, retry_after: Duration) -> Self {
        let message = format!("at most {allowed}, try again in {} ms", retry_after.as_millis());
        Self { retry_after: Some(retry_after), ..Self::new(Code::RateLimited, message) }
    }

    /// The refusal as JSON: the fields `code`, `message`, `retryable`, `field` where one is at fault, and
    /// `retry_after_ms` where it is known.
    pub fn body(&self) -> ApiErrorBody<'_> {
        ApiErrorBody {
            code: self.code,
            message: &self.message,
            field: self.field.as_deref(),
            retryable: self.code.retryable(),
            retry_after_ms: self.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// A [`ApiError`] as it goes over the wire.
#[derive(Debug, Serialize)]
pub struct ApiErrorBody<'a> {
    code: Code,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The outcome of a request, in two levels:
///
/// - `Ok(Ok(value))`: it was carried out.
/// - `Ok(Err(ApiError))`: it was refused, and the client is told why. Nothing is wrong with the service.
/// - `Err(InternalError)`: something that the service depends on failed. The log has the causes; the client is told
///   `unavailable`, or Lambda retries the invocation.
pub type Decision<T> = Result<Result<T, ApiError>, InternalError>;

/// A failure of something that the service depends on: what was being done, and the cause as the error's source.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing} failed")]
pub struct InternalError {
    doing: &'static str,
    #[source]
    source: Arc<dyn StdError + Send + Sync>,
}

impl InternalError {
    /// Wraps `source`, which happened while `doing` something: a noun phrase such as `reading the head of a region`.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { doing, source: Arc::from(source.into()) }
    }
}

/// What an authorizer fails with to refuse a handshake with 401. API Gateway looks for this very message.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

/// What Lambda reports for a failed invocation: a stable type, and the whole chain of causes.
impl From<InternalError> for Diagnostic {
    fn from(failure: InternalError) -> Self {
        if failure.source.is::<Unauthorized>() {
            return Self { error_type: "Unauthorized".to_owned(), error_message: Unauthorized.to_string() };
        }
        Self { error_type: "Failure".to_owned(), error_message: ErrorChain(&failure).to_string() }
    }
}

/// An error with all its causes on one line. The AWS clients say only "service error" without their source.
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_a_stable_form() {
        let refusal = ApiError::of_field(Code::MissingField, "video.title", "video.title is missing");
        assert_eq!(
            serde_json::to_string(&refusal.body()).expect("serialisable"),
            r#"{"code":"missing_field","message":"video.title is missing","field":"video.title","retryable":false}"#
        );
        assert!(ApiError::unavailable().body().retryable);
        assert!(!Code::LimitReached.retryable(), "the same would be refused until something is left");
        let limited = ApiError::rate_limited("10 messages per second", Duration::from_millis(80));
        assert_eq!(
            serde_json::to_string(&limited.body()).expect("serialisable"),
            concat!(
                r#"{"code":"rate_limited","message":"at most 10 messages per second, try again in 80 ms","#,
                r#""retryable":true,"retry_after_ms":80}"#,
            )
        );
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let cause = std::io::Error::other("connection refused");
        let failure = InternalError::new("reading a page", InternalError::new("querying", cause));
        assert_eq!(ErrorChain(&failure).to_string(), "reading a page failed: querying failed: connection refused");
    }
}
