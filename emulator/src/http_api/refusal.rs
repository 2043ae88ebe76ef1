//! Errors of the gateway itself, and what clients are told of them.

use hyper::{
    Response, StatusCode,
    header::{HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use serde_json::{Value, json};

use super::{
    event::Incoming,
    jwt,
    response::{self, BackendFailure},
};
use crate::{
    aws::ACCOUNT_ID,
    gateway::{AnswerError, DENIED, NOT_ALLOWED, SignatureError},
    http::{self, Body},
    template::HttpApiKind,
};

/// What a client is told with 401, and the error message of a function that refuses one in this way.
pub(super) const UNAUTHORIZED: &str = "Unauthorized";

/// The header `x-amzn-errortype`, by which AWS clients know errors.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Why the gateway answers a request with an error of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It says nothing of the client, or what the authorizer calls unauthorized.
    Unauthorized,
    /// The authorizer does not let the client in.
    Denied(AnswerError),
    /// A simple answer says no.
    Forbidden,
    /// The resource policy of the API denies it, or nothing allows it.
    Policy { is_denied: bool },
    /// The authorizer failed, for this reason.
    Failed(String),
    /// It has no signature, or a wrong one.
    Signature(SignatureError),
    /// It has no API key.
    ApiKey,
    /// Its token is refused. An empty reason means that there is none.
    Token { reason: &'static str, status: StatusCode, scopes: String },
    /// The emulator does not support the authorizer.
    Unserved(String),
    /// A throttle or a quota is used up.
    TooMany,
    /// Its request line and headers are too large.
    HeadTooLarge,
    /// Its body has more bytes than this.
    TooLarge { bytes_max: usize },
    /// What is behind its route failed.
    Backend(BackendFailure),
}

impl Refusal {
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(reason.into())
    }

    /// What the client is told.
    pub(super) fn response(self, incoming: &Incoming<'_>) -> Response<Body> {
        let kind = incoming.api.kind;
        let route = incoming.route.key();
        let answer = |status: StatusCode, body: Value, error_type: &'static str| {
            let mut response = http::json(status, &body);
            if kind == HttpApiKind::Rest {
                response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error_type));
            }
            response
        };
        let message = |text: &str| json!({"message": text});
        let forbidden = || answer(StatusCode::FORBIDDEN, message("Forbidden"), "ForbiddenException");
        match (self, kind) {
            (Self::Unauthorized, _) => answer(StatusCode::UNAUTHORIZED, message(UNAUTHORIZED), "UnauthorizedException"),
            (Self::Denied(AnswerError::Denied), HttpApiKind::Rest) => {
                answer(StatusCode::FORBIDDEN, json!({"Message": DENIED}), "AccessDeniedException")
            }
            (Self::Denied(AnswerError::NotAllowed), HttpApiKind::Rest) => {
                answer(StatusCode::FORBIDDEN, json!({"Message": NOT_ALLOWED}), "AccessDeniedException")
            }
            (Self::Denied(AnswerError::Denied | AnswerError::NotAllowed) | Self::Forbidden | Self::ApiKey, _) => {
                forbidden()
            }
            (Self::Failed(reason) | Self::Denied(AnswerError::Invalid(reason)), kind) => {
                tracing::warn!(route, reason, "authorizer failed");
                let body = match kind {
                    HttpApiKind::Rest => json!({"message": null}),
                    HttpApiKind::Http => message("Internal Server Error"),
                };
                answer(StatusCode::INTERNAL_SERVER_ERROR, body, "AuthorizerConfigurationException")
            }
            (Self::Signature(rejected), HttpApiKind::Rest) => {
                answer(StatusCode::FORBIDDEN, message(&rejected.message), rejected.error_type)
            }
            (Self::Signature(_), HttpApiKind::Http) => forbidden(),
            (Self::Token { reason, status, .. }, HttpApiKind::Rest) => {
                let text = match (reason, status) {
                    (_, StatusCode::FORBIDDEN) => "Forbidden",
                    (jwt::EXPIRED, _) => "The incoming token has expired",
                    _ => UNAUTHORIZED,
                };
                answer(status, message(text), "UnauthorizedException")
            }
            (Self::Token { reason, status, scopes }, HttpApiKind::Http) => {
                let text = if status == StatusCode::FORBIDDEN { "Forbidden" } else { UNAUTHORIZED };
                let error = if status == StatusCode::FORBIDDEN { "insufficient_scope" } else { "invalid_token" };
                let challenge = match reason {
                    "" => "Bearer".to_owned(),
                    reason => format!("Bearer scope=\"{scopes}\" error=\"{error}\" error_description=\"{reason}\""),
                };
                let mut response = http::json(status, &message(text));
                let challenge = HeaderValue::from_str(&challenge).ok();
                response.headers_mut().extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
                response
            }
            (Self::Policy { is_denied }, _) => {
                tracing::info!(route, is_denied, "request refused by the resource policy of its API");
                // The service shows the last digits of the account.
                let resource = incoming.method_arn().replacen(ACCOUNT_ID, &format!("********{}", &ACCOUNT_ID[8..]), 1);
                let reason = match is_denied {
                    true => "with an explicit deny in a resource-based policy",
                    false => "because no resource-based policy allows the execute-api:Invoke action",
                };
                let text = format!(
                    "User: anonymous is not authorized to perform: execute-api:Invoke on resource: {resource} {reason}"
                );
                answer(StatusCode::FORBIDDEN, json!({"Message": text}), "AccessDeniedException")
            }
            (Self::Unserved(reason), _) => response::unserved(&route, &reason),
            (Self::TooMany, _) => {
                answer(StatusCode::TOO_MANY_REQUESTS, message("Too Many Requests"), "TooManyRequestsException")
            }
            (Self::HeadTooLarge, _) => {
                http::json(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &message("Request Header Fields Too Large"))
            }
            (Self::TooLarge { bytes_max }, kind) => response::too_large(kind, bytes_max),
            (Self::Backend(failure), kind) => response::of_failure(kind, failure),
        }
    }
}
