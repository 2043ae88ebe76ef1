//! Authorization of handshakes: `AWS_IAM`, and Lambda authorizers of type REQUEST. Nothing is cached.
//!
//! Source: API Gateway developer guide, "Lambda REQUEST authorizers for WebSocket APIs".

use std::borrow::Cow;

use hyper::{StatusCode, body::Bytes};

use super::{
    api::Gateway,
    authorizer_answer::{AnswerError, DENIED, NOT_ALLOWED, context_of},
    connections::{AuthorizerContext, Connection},
    event::{self, Handshake},
    signature::SignatureError,
};
use crate::{
    invocation::InvokeError,
    json,
    template::{Authorization, Authorizer, IdentitySource},
};

/// Error message of a function that refuses a client with 401.
const UNAUTHORIZED: &str = "Unauthorized";

/// A refused handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandshakeRefusal {
    pub(super) status: StatusCode,
    pub(super) message: Cow<'static, str>,
    /// Why, where the client is not told: for the log and the inspector.
    pub(super) reason: Cow<'static, str>,
    /// For the header `x-amzn-errortype`.
    pub(super) error_type: Option<&'static str>,
}

impl HandshakeRefusal {
    /// The quota or the throttle of handshakes is used up.
    pub(super) const TOO_MANY: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        message: Cow::Borrowed("Too Many Requests"),
        reason: Cow::Borrowed(""),
        error_type: Some("TooManyRequestsException"),
    };
    const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, UNAUTHORIZED);
    const DENIED: Self = Self::new(StatusCode::FORBIDDEN, DENIED);
    const NOT_ALLOWED: Self = Self::new(StatusCode::FORBIDDEN, NOT_ALLOWED);

    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message: Cow::Borrowed(message), reason: Cow::Borrowed(""), error_type: None }
    }

    /// The authorizer failed, or its response is invalid.
    fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error") }
    }
}

impl From<SignatureError> for HandshakeRefusal {
    fn from(rejected: SignatureError) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            message: rejected.message,
            reason: Cow::Borrowed(""),
            error_type: Some(rejected.error_type),
        }
    }
}

impl From<AnswerError> for HandshakeRefusal {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Denied => Self::DENIED,
            AnswerError::NotAllowed => Self::NOT_ALLOWED,
            AnswerError::Invalid(reason) => Self::failed(reason),
        }
    }
}

/// Decides whether a client may connect. Returns the context of a Lambda authorizer, which later events carry.
pub(super) async fn authorize(
    gateway: &Gateway,
    authorization: &Authorization,
    connection: &Connection,
    handshake: &Handshake,
    authenticated: Result<(), SignatureError>,
) -> Result<Option<AuthorizerContext>, HandshakeRefusal> {
    match authorization {
        Authorization::None => Ok(None),
        Authorization::Iam => {
            authenticated.inspect_err(|rejected| rejected.log(&format!("/{}", gateway.stage())))?;
            Ok(None)
        }
        Authorization::Lambda(authorizer) => {
            invoke_authorizer(gateway, authorizer, connection, handshake).await.map(Some)
        }
    }
}

async fn invoke_authorizer(
    gateway: &Gateway,
    authorizer: &Authorizer,
    connection: &Connection,
    handshake: &Handshake,
) -> Result<AuthorizerContext, HandshakeRefusal> {
    if !authorizer.identity_sources.iter().all(|source| is_present(source, handshake)) {
        return Err(HandshakeRefusal::UNAUTHORIZED);
    }
    let event = event::authorize(gateway, connection, handshake);
    let asked_at = gateway.clock.now();
    let name = &authorizer.function;
    let response = match gateway.functions.invoke_for(&connection.id, name, Bytes::from(event.body.to_string())).await {
        Ok(answer) => json::read_answer(&answer)
            .map_err(|error| HandshakeRefusal::failed(format!("the answer of {name} is not JSON: {error}")))?,
        Err(InvokeError::FunctionError { error_message, .. }) if error_message == UNAUTHORIZED => {
            return Err(HandshakeRefusal::UNAUTHORIZED);
        }
        Err(error) => return Err(HandshakeRefusal::failed(format!("{name}: {error}"))),
    };
    let latency = gateway.clock.now().since(asked_at).as_millis();
    let values = context_of(&response, &event::method_arn(gateway))?;
    Ok(AuthorizerContext { values, latency_ms: u64::try_from(latency).unwrap_or(u64::MAX) })
}

/// Returns whether an identity source is present and not empty. Otherwise the function is not invoked.
fn is_present(source: &IdentitySource, handshake: &Handshake) -> bool {
    let (pairs, ignoring_case, name) = match source {
        IdentitySource::Header(name) => (&handshake.headers, true, name),
        IdentitySource::Query(name) => (&handshake.query, false, name),
    };
    let matches =
        |candidate: &str| if ignoring_case { candidate.eq_ignore_ascii_case(name) } else { candidate == name };
    pairs.iter().any(|(candidate, value)| matches(candidate) && !value.is_empty())
}
