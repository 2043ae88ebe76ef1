//! Authorization of handshakes: `AWS_IAM`, and Lambda authorizers of type REQUEST. Nothing is cached.
//!
//! Source: API Gateway developer guide, "Lambda REQUEST authorizers for WebSocket APIs".

use std::borrow::Cow;

use hyper::{StatusCode, body::Bytes};
use serde_json::{Map, Value, json};

use super::{
    api::Gateway,
    connections::{AuthorizerContext, Connection},
    event::{self, Handshake},
    policy::{self, Decision},
    signature::SignatureError,
};
use crate::{
    invocation::InvokeError,
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
    const DENIED: Self = Self::new(
        StatusCode::FORBIDDEN,
        "User is not authorized to access this resource with an explicit deny in an identity-based policy",
    );
    const NOT_ALLOWED: Self = Self::new(
        StatusCode::FORBIDDEN,
        "User is not authorized to access this resource because no identity-based policy allows the execute-api:Invoke \
         action",
    );

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
        Ok(answer) => serde_json::from_slice(&answer)
            .map_err(|error| HandshakeRefusal::failed(format!("the answer of {name} is not JSON: {error}")))?,
        Err(InvokeError::FunctionError { error_message, .. }) if error_message == UNAUTHORIZED => {
            return Err(HandshakeRefusal::UNAUTHORIZED);
        }
        Err(error) => return Err(HandshakeRefusal::failed(format!("{name}: {error}"))),
    };
    let latency = gateway.clock.now().since(asked_at).as_millis();
    let values = evaluate(&response, &event::method_arn(gateway))?;
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

/// Evaluates the response of an authorizer. Returns the context that events carry: values as texts, and who the client
/// is, if the function says so.
fn evaluate(answer: &Value, method_arn: &str) -> Result<Map<String, Value>, HandshakeRefusal> {
    let statements = match answer.pointer("/policyDocument/Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
        _ => {
            return Err(HandshakeRefusal::failed(
                "the answer of the authorizer has no policyDocument with a Statement",
            ));
        }
    };
    match policy::decide(statements, "execute-api:Invoke", method_arn) {
        Ok(Decision::Allowed) => {}
        Ok(Decision::Denied) => return Err(HandshakeRefusal::DENIED),
        Ok(Decision::NotAllowed) => return Err(HandshakeRefusal::NOT_ALLOWED),
        Err(error) => {
            return Err(HandshakeRefusal::failed(format!("the policy of the authorizer is invalid: {error}")));
        }
    }
    let mut context = Map::new();
    match answer.get("context") {
        None | Some(Value::Null) => {}
        Some(Value::Object(values)) => {
            for (name, value) in values {
                let value = match value {
                    Value::Null | Value::String(_) => value.clone(),
                    Value::Bool(_) | Value::Number(_) => json!(value.to_string()),
                    Value::Array(_) | Value::Object(_) => {
                        return Err(HandshakeRefusal::failed(format!(
                            "{name} in the context of the authorizer is a list or an object: only texts, numbers and \
                             truth values are allowed"
                        )));
                    }
                };
                context.insert(name.clone(), value);
            }
        }
        Some(_) => return Err(HandshakeRefusal::failed("the context of the authorizer is not an object")),
    }
    match answer.get("principalId") {
        None | Some(Value::Null) => {}
        Some(principal @ Value::String(_)) => _ = context.insert("principalId".to_owned(), principal.clone()),
        Some(_) => return Err(HandshakeRefusal::failed("the principalId of the authorizer is not a text")),
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:execute-api:eu-central-1:000000000000:abcdefghij/prod/$connect";

    fn allow() -> Value {
        json!({"Statement": {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}})
    }

    #[test]
    fn the_context_has_texts_and_the_principal_if_there_is_one() {
        let context = json!({"n": 7, "yes": true, "none": null, "text": "x"});
        let answer = json!({"principalId": "user", "policyDocument": allow(), "context": context});
        let values = json!({"n": "7", "yes": "true", "none": null, "text": "x", "principalId": "user"});
        assert_eq!(evaluate(&answer, ARN).map(Value::Object), Ok(values));
        assert_eq!(evaluate(&json!({"policyDocument": allow()}), ARN), Ok(Map::new()));
    }

    #[test]
    fn a_response_that_is_none_is_refused_with_the_reason() {
        for (answer, reason) in [
            (json!({"principalId": "u"}), "no policyDocument"),
            (json!({"principalId": "u", "policyDocument": {"Statement": "x"}}), "no policyDocument"),
            (json!({"principalId": "u", "policyDocument": allow(), "context": {"a": []}}), "a in the context"),
            (json!({"principalId": "u", "policyDocument": allow(), "context": "x"}), "not an object"),
            (json!({"principalId": 7, "policyDocument": allow()}), "not a text"),
            (json!({"policyDocument": {"Statement": [{"Effect": "Allow"}]}}), "statement 1"),
        ] {
            let refusal = evaluate(&answer, ARN).expect_err("refused");
            assert_eq!(refusal.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
            assert!(refusal.reason.contains(reason), "{answer}: {}", refusal.reason);
        }
    }

    #[test]
    fn a_policy_that_denies_or_allows_something_else_is_403() {
        let evaluated = |statements: Value| {
            evaluate(&json!({"principalId": "user", "policyDocument": {"Statement": statements}}), ARN)
        };
        let deny = json!({"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": "*/prod/*"});
        assert_eq!(evaluated(json!([allow()["Statement"], deny])), Err(HandshakeRefusal::DENIED));
        assert_eq!(evaluated(json!([])), Err(HandshakeRefusal::NOT_ALLOWED));
    }
}
