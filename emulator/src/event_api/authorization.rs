//! Who may connect, subscribe and publish: API keys, signatures, and a Lambda authorizer with its cache.
//!
//! Source: AppSync developer guide, "Configuring authorization and authentication to secure Event APIs".

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    answers::AnswerKey,
    api::ServedEventApi,
    credentials::{Credentials, Operation},
    error::EventError,
    limits::AUTHORIZER_TIMEOUT,
};
use crate::{
    aws::ACCOUNT_ID,
    gateway::{SignatureError, authenticate_for},
    json,
    template::{AUTHORIZER_TTL_MAX, AuthMode, LambdaAuthorizer},
};

/// The service in the scope of signatures.
const SERVICE: &str = "appsync";

/// Checks the signature of a request, or of an operation of a socket with the body that its client has signed.
pub(super) fn check_signature(
    api: &ServedEventApi,
    credentials: &Credentials,
    body: &str,
) -> Result<(), SignatureError> {
    let request = credentials.signed_request();
    authenticate_for(SERVICE, &request, body.as_bytes(), api.shared.check_signatures, api.shared.clock.now())
}

/// Checks the signature of an HTTP request.
pub(super) fn check_request<B>(
    api: &ServedEventApi,
    request: &hyper::Request<B>,
    body: &[u8],
) -> Result<(), SignatureError> {
    authenticate_for(SERVICE, request, body, api.shared.check_signatures, api.shared.clock.now())
}

/// Decides about an operation, and returns who asks, as handlers are told. `signature` checks a signature; `source` is
/// whose turn it is at the function's limit.
pub(super) async fn authorize(
    api: &ServedEventApi,
    allowed: &[AuthMode],
    operation: Operation<'_>,
    credentials: &Credentials,
    headers: &Value,
    signature: impl FnOnce() -> Result<(), SignatureError>,
    source: &str,
) -> Result<Value, EventError> {
    let refused = |reason: &str| {
        let (api, operation, channel) = (&api.api.name, operation.name, operation.channel);
        tracing::info!(api, operation, channel, reason, "operation of an Event API refused");
        EventError::UNAUTHORIZED
    };
    match credentials.mode(allowed) {
        None => Err(refused("no credentials of a kind that the API allows for this")),
        Some(AuthMode::ApiKey) => {
            let given = credentials.get("x-api-key").unwrap_or_default();
            let now = api.shared.clock.now().secs();
            let is_valid = |expires: Option<i64>| expires.is_none_or(|expires| now < expires);
            let is_known = api.api.keys.iter().any(|key| key.key == given && is_valid(key.expires_secs));
            if is_known { Ok(Value::Null) } else { Err(refused("the API key is unknown or has expired")) }
        }
        Some(AuthMode::Iam) => match signature() {
            Ok(()) => Ok(json!({"accountId": ACCOUNT_ID})),
            Err(rejected) => {
                rejected.log("/event");
                Err(rejected.into())
            }
        },
        Some(AuthMode::Lambda) => {
            let token = credentials.get("authorization").unwrap_or_default();
            let Some(authorizer) = &api.api.authorizer else { return Err(refused("the API has no authorizer")) };
            let allowed = ask(api, authorizer, operation, token, headers, source).await;
            let context = allowed.map_err(|reason| refused(&reason))?;
            Ok(json!({"handlerContext": context}))
        }
        Some(AuthMode::Token) => Err(refused("the emulator does not check tokens of Cognito and OpenID Connect")),
    }
}

/// Asks the function of the authorizer, unless its answer is kept, and returns its context for handlers. The error says
/// why the client is refused.
async fn ask(
    api: &ServedEventApi,
    authorizer: &LambdaAuthorizer,
    operation: Operation<'_>,
    token: &str,
    headers: &Value,
    source: &str,
) -> Result<Value, String> {
    if authorizer.expression.as_ref().is_some_and(|expression| !expression.is_match(token)) {
        return Err("the token does not match IdentityValidationExpression".to_owned());
    }
    let verdict =
        |context: Option<Value>| context.ok_or_else(|| "the authorizer did not answer isAuthorized: true".to_owned());
    let key = AnswerKey::new(operation, token);
    if let Some(kept) = api.answers.get(&key, api.shared.clock.now()) {
        return verdict(kept);
    }
    let event = json!({
        "authorizationToken": token,
        "requestContext": {
            "apiId": api.api.api_id,
            "accountId": ACCOUNT_ID,
            "requestId": uuid::Uuid::new_v4().to_string(),
            "operation": operation.name,
            "channelNamespaceName": operation.namespace,
            "channel": operation.channel,
        },
        "requestHeaders": headers,
    });
    let name = &authorizer.function;
    let asked = api.shared.functions.invoke_for(source, name, Bytes::from(event.to_string()));
    let answer = tokio::time::timeout(AUTHORIZER_TIMEOUT, asked).await;
    let answer = answer.map_err(|_| format!("{name} did not answer within {} s", AUTHORIZER_TIMEOUT.as_secs()))?;
    let answer = answer.map_err(|error| format!("{name}: {error}"))?;
    let answer = json::read_answer(&answer).map_err(|error| format!("the answer of {name} is not JSON: {error}"))?;
    let is_authorized = answer.get("isAuthorized") == Some(&Value::Bool(true));
    let context = is_authorized.then(|| answer.get("handlerContext").cloned().unwrap_or_default());
    let ttl = match answer.get("ttlOverride").and_then(Value::as_u64) {
        Some(secs) => Duration::from_secs(secs).min(AUTHORIZER_TTL_MAX),
        None => authorizer.ttl,
    };
    api.answers.keep(key, context.clone(), ttl, api.shared.clock.now());
    verdict(context)
}
