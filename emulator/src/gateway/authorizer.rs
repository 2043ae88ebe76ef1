//! Authorization of handshakes: `AWS_IAM`, and Lambda authorizers of type REQUEST. Nothing is cached.
//!
//! Source: API Gateway developer guide, "Lambda REQUEST authorizers for WebSocket APIs".

use std::borrow::Cow;

use hyper::{StatusCode, body::Bytes};
use serde_json::{Map, Value, json};

use super::{
    api::Gateway,
    connections::Connection,
    event::{self, Handshake},
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
    /// For the header `x-amzn-errortype`.
    pub(super) error_type: Option<&'static str>,
}

impl HandshakeRefusal {
    /// The quota or the throttle of handshakes is used up.
    pub(super) const TOO_MANY: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        message: Cow::Borrowed("Too Many Requests"),
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
    const INVALID_RESPONSE: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error");

    const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message: Cow::Borrowed(message), error_type: None }
    }
}

impl From<SignatureError> for HandshakeRefusal {
    fn from(rejected: SignatureError) -> Self {
        Self { status: StatusCode::FORBIDDEN, message: rejected.message, error_type: Some(rejected.error_type) }
    }
}

/// Decides whether a client may connect. Returns the context of a Lambda authorizer, which later events carry.
pub(super) async fn authorize(
    gateway: &Gateway,
    authorization: &Authorization,
    connection: &Connection,
    handshake: &Handshake,
    authenticated: Result<(), SignatureError>,
) -> Result<Option<Value>, HandshakeRefusal> {
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
) -> Result<Value, HandshakeRefusal> {
    if !authorizer.identity_sources.iter().all(|source| is_present(source, handshake)) {
        return Err(HandshakeRefusal::UNAUTHORIZED);
    }
    let event = event::authorize(gateway, connection, handshake);
    let asked_at = gateway.clock.now();
    let response = match gateway
        .functions
        .invoke_for(&connection.id, &authorizer.function, Bytes::from(event.body.to_string()))
        .await
    {
        Ok(answer) => serde_json::from_slice(&answer).map_err(|_| HandshakeRefusal::INVALID_RESPONSE)?,
        Err(InvokeError::FunctionError { error_message, .. }) if error_message == UNAUTHORIZED => {
            return Err(HandshakeRefusal::UNAUTHORIZED);
        }
        Err(_) => return Err(HandshakeRefusal::INVALID_RESPONSE),
    };
    let latency = gateway.clock.now().since(asked_at).as_millis();
    evaluate_policy(&response, &event::method_arn(gateway), u64::try_from(latency).unwrap_or(u64::MAX))
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

/// Evaluates the policy in an authorizer's response, and returns the context that later events carry.
fn evaluate_policy(answer: &Value, method_arn: &str, latency_ms: u64) -> Result<Value, HandshakeRefusal> {
    let principal = answer.get("principalId").and_then(Value::as_str).ok_or(HandshakeRefusal::INVALID_RESPONSE)?;
    let statements = match answer.pointer("/policyDocument/Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return Err(HandshakeRefusal::INVALID_RESPONSE),
    };
    let applies = |statement: &&Value| {
        any_matches(statement.get("Action"), "execute-api:Invoke") && any_matches(statement.get("Resource"), method_arn)
    };
    let has = |effect: &str| {
        statements.iter().filter(|statement| applies(statement)).any(|statement| statement["Effect"] == effect)
    };
    if has("Deny") {
        return Err(HandshakeRefusal::DENIED);
    }
    if !has("Allow") {
        return Err(HandshakeRefusal::NOT_ALLOWED);
    }
    let mut context = match answer.get("context") {
        None | Some(Value::Null) => Map::new(),
        // Only scalars are allowed.
        Some(Value::Object(context)) if !context.values().any(|value| value.is_object() || value.is_array()) => {
            context.clone()
        }
        Some(_) => return Err(HandshakeRefusal::INVALID_RESPONSE),
    };
    context.insert("principalId".to_owned(), json!(principal));
    context.insert("integrationLatency".to_owned(), json!(latency_ms));
    Ok(Value::Object(context))
}

/// Returns whether a text matches a pattern, or one of several.
fn any_matches(patterns: Option<&Value>, text: &str) -> bool {
    match patterns {
        Some(Value::String(pattern)) => matches(pattern, text),
        Some(Value::Array(patterns)) => patterns.iter().filter_map(Value::as_str).any(|pattern| matches(pattern, text)),
        _ => false,
    }
}

/// Matches with `*` for any characters and `?` for one. Backtracks only to the last `*`, in quadratic time at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:execute-api:eu-central-1:000000000000:abcdefghij/prod/$connect";

    #[test]
    fn patterns_match_as_in_policies() {
        for pattern in ["*", ARN, "arn:aws:execute-api:*:*:*/prod/*", "arn:aws:execute-api:*/$connect", "*/?rod/*"] {
            assert!(matches(pattern, ARN), "{pattern}");
        }
        for pattern in ["", "arn:aws:execute-api:*/dev/*", "*/prod", "?", "arn"] {
            assert!(!matches(pattern, ARN), "{pattern}");
        }
        assert!(!matches(&"*a".repeat(50), &"b".repeat(5_000)), "and in reasonable time");
    }

    #[test]
    fn the_policy_decides_and_a_denial_wins() {
        let action = "execute-api:Invoke";
        let statement =
            |effect: &str, resource: &str| json!({"Effect": effect, "Action": action, "Resource": resource});
        let evaluated = |statements: Value| {
            let response =
                json!({"principalId": "user", "policyDocument": {"Statement": statements}, "context": {"n": 7}});
            evaluate_policy(&response, ARN, 21)
        };
        let context = json!({"n": 7, "principalId": "user", "integrationLatency": 21});
        assert_eq!(evaluated(json!([statement("Allow", "*")])), Ok(context.clone()));
        assert_eq!(evaluated(statement("Allow", ARN)), Ok(context));
        assert_eq!(
            evaluated(json!([statement("Allow", "*"), statement("Deny", "*/prod/*")])),
            Err(HandshakeRefusal::DENIED)
        );
        assert_eq!(evaluated(json!([statement("Allow", "*/dev/*")])), Err(HandshakeRefusal::NOT_ALLOWED));
        assert_eq!(evaluated(json!([])), Err(HandshakeRefusal::NOT_ALLOWED));
        assert_eq!(evaluated(json!("x")), Err(HandshakeRefusal::INVALID_RESPONSE));
        assert_eq!(
            evaluate_policy(&json!({"policyDocument": {"Statement": []}}), ARN, 0),
            Err(HandshakeRefusal::INVALID_RESPONSE)
        );
        let nested =
            json!({"principalId": "u", "policyDocument": {"Statement": statement("Allow", "*")}, "context": {"a": []}});
        assert_eq!(evaluate_policy(&nested, ARN, 0), Err(HandshakeRefusal::INVALID_RESPONSE));
    }
}
