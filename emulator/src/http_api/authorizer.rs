//! Who may use a route: `AWS_IAM`, Lambda authorizers and JWT authorizers. Nothing is cached.
//!
//! Source: API Gateway developer guide, "Control access to HTTP APIs with AWS Lambda authorizers" and "Use API Gateway
//! Lambda authorizers".

use std::time::Duration;

use hyper::{StatusCode, body::Bytes};
use serde_json::{Value, json};

use super::{
    HttpApis,
    event::{AuthorizerContext, Incoming},
    jwt::{self, TokenError},
    refusal::{Refusal, UNAUTHORIZED},
    resource_policy::ResourcePolicy,
};
use crate::{
    gateway::{self, AnswerError, check_policy, context_object, context_of, principal},
    invocation::InvokeError,
    json::read_answer,
    policy::{Decision, PolicyError},
    template::{
        AuthorizerInput, HttpApiKind, HttpAuthorization, HttpAuthorizer, HttpIdentitySource, JwtAuthorizer,
        PayloadVersion,
    },
};

/// How long a Lambda authorizer may take. Source: API Gateway quotas for HTTP APIs; for REST APIs it is not documented,
/// and this is the limit of their integrations.
const fn timeout_of(kind: HttpApiKind) -> Duration {
    match kind {
        HttpApiKind::Http => Duration::from_secs(10),
        HttpApiKind::Rest => Duration::from_secs(29),
    }
}

impl HttpApis {
    /// Decides whether a request may reach its route. Returns what events carry of the decision.
    pub(super) async fn authorize(
        &self,
        incoming: &Incoming<'_>,
        policy: Option<&Result<ResourcePolicy, PolicyError>>,
        body: &Bytes,
    ) -> Result<AuthorizerContext, Refusal> {
        let policy = policy.map(|policy| policy.as_ref().map_err(unevaluated)).transpose()?;
        let mut refusal = policy.and_then(|policy| refusal_of(policy, incoming));
        // Who fails at a user pool is told that. Any other authorizer is asked only if the policy does not refuse.
        if !matches!(incoming.route.authorization, HttpAuthorization::Jwt(_)) {
            refusal.take().map_or(Ok(()), Err)?;
        }
        let context = match &incoming.route.authorization {
            HttpAuthorization::None => AuthorizerContext::default(),
            // On a developer's machine clients have no credentials. A note at the start says that nothing is checked.
            HttpAuthorization::Iam if !self.check_signatures => AuthorizerContext::default(),
            HttpAuthorization::Iam => {
                let request = hyper::Request::from_parts(incoming.parts.clone(), ());
                gateway::authenticate(&request, body, true, incoming.now).map_err(|rejected| {
                    rejected.log(incoming.parts.uri.path());
                    Refusal::Signature(rejected)
                })?;
                AuthorizerContext::default()
            }
            HttpAuthorization::Lambda(authorizer) => self.ask(incoming, authorizer).await?,
            HttpAuthorization::Jwt(authorizer) => self.check_token(incoming, authorizer).await?,
            HttpAuthorization::Unserved(reason) => return Err(Refusal::Unserved(reason.clone())),
        };
        refusal.map_or(Ok(()), Err)?;
        // Which keys are valid is not in the template.
        if incoming.route.needs_api_key && incoming.header_values("x-api-key").is_none_or(|key| key.is_empty()) {
            return Err(Refusal::ApiKey);
        }
        Ok(context)
    }

    async fn check_token(
        &self,
        incoming: &Incoming<'_>,
        authorizer: &JwtAuthorizer,
    ) -> Result<AuthorizerContext, Refusal> {
        let scopes = &incoming.route.scopes;
        let refused =
            |reason: &'static str, status: StatusCode| Refusal::Token { reason, status, scopes: scopes.join(" ") };
        let given = identity(&authorizer.source, incoming).filter(|given| !given.is_empty());
        let given = given.ok_or_else(|| refused("", StatusCode::UNAUTHORIZED))?;
        let token = match given.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => given.as_str(),
        };
        match self.issuers.check(authorizer, scopes, token, &self.clock).await {
            Ok(claims) => Ok(jwt::context(incoming.api.kind, &claims, scopes)),
            Err(TokenError::Invalid(reason)) => {
                tracing::info!(route = incoming.route.key(), reason, "token refused");
                Err(refused(reason, StatusCode::UNAUTHORIZED))
            }
            Err(TokenError::Scope) => Err(refused("the token does not have a required scope", StatusCode::FORBIDDEN)),
            Err(TokenError::Unverifiable(reason)) => Err(Refusal::Failed(reason)),
        }
    }

    async fn ask(&self, incoming: &Incoming<'_>, authorizer: &HttpAuthorizer) -> Result<AuthorizerContext, Refusal> {
        let event = authorizer_event(incoming, &authorizer.input)?;
        let (source, asked_at) = (incoming.peer.to_string(), self.clock.now());
        let name = &authorizer.function;
        let limit = self.within(timeout_of(incoming.api.kind));
        let invoked = self.functions.invoke_for(&source, name, Bytes::from(event.to_string()));
        let Ok(invoked) = tokio::time::timeout(limit, invoked).await else {
            return Err(Refusal::Failed(format!("{name} did not respond within {} ms", limit.as_millis())));
        };
        let answer = match invoked {
            Ok(answer) => read_answer(&answer)
                .map_err(|error| Refusal::Failed(format!("the answer of {name} is not JSON: {error}")))?,
            Err(InvokeError::FunctionError { error_message, .. }) if error_message == UNAUTHORIZED => {
                return Err(Refusal::Unauthorized);
            }
            Err(error) => return Err(Refusal::Failed(format!("{name}: {error}"))),
        };
        if authorizer.is_simple {
            return simple_context(&answer);
        }
        if incoming.api.kind == HttpApiKind::Http {
            return policy_context(&answer, &incoming.method_arn()).map_err(Refusal::Denied);
        }
        let mut context = context_of(&answer, &incoming.method_arn()).map_err(Refusal::Denied)?;
        let latency = u64::try_from(self.clock.now().since(asked_at).as_millis()).unwrap_or(u64::MAX);
        context.insert("integrationLatency".to_owned(), json!(latency));
        Ok(AuthorizerContext { v1: Some(Value::Object(context)), v2: None })
    }
}

/// Why the resource policy of its API refuses a request, if it does. What no statement speaks of only a Lambda
/// authorizer or a signature may allow.
///
/// Source: API Gateway developer guide, "How API Gateway resource policies affect authorization workflow".
fn refusal_of(policy: &ResourcePolicy, incoming: &Incoming<'_>) -> Option<Refusal> {
    let decision = policy.decide(&incoming.method_arn(), incoming.peer.ip());
    let is_refused = match decision {
        Decision::Denied => true,
        Decision::NotAllowed => {
            matches!(incoming.route.authorization, HttpAuthorization::None | HttpAuthorization::Jwt(_))
        }
        Decision::Allowed => false,
    };
    is_refused.then_some(Refusal::Policy { is_denied: decision == Decision::Denied })
}

fn unevaluated(error: &PolicyError) -> Refusal {
    Refusal::Unserved(format!("the resource policy of its API: {error}"))
}

/// The decision of a simple answer, with its context.
fn simple_context(answer: &Value) -> Result<AuthorizerContext, Refusal> {
    match answer.get("isAuthorized").and_then(Value::as_bool) {
        Some(true) => {}
        Some(false) => return Err(Refusal::Forbidden),
        None => return Err(Refusal::failed("the answer of the authorizer has no isAuthorized, true or false")),
    }
    let context = context_object(answer).map_err(Refusal::Denied)?;
    let v2 = Some(json!({"lambda": context}));
    Ok(AuthorizerContext { v1: Some(Value::Object(context)), v2 })
}

/// The context of an HTTP API's authorizer that answers with a policy, if that allows the request. Version 1.0 of
/// events also says who the client is.
fn policy_context(answer: &Value, method_arn: &str) -> Result<AuthorizerContext, AnswerError> {
    check_policy(answer, method_arn)?;
    let mut context = context_object(answer)?;
    let v2 = Some(json!({"lambda": context}));
    context.extend(principal(answer)?);
    Ok(AuthorizerContext { v1: Some(Value::Object(context)), v2 })
}

/// The value of an identity source.
fn identity(source: &HttpIdentitySource, incoming: &Incoming<'_>) -> Option<String> {
    match source {
        HttpIdentitySource::Header(name) => incoming.header_values(name),
        HttpIdentitySource::Query(name) => incoming.query_value(name),
        HttpIdentitySource::Constant(value) => Some(value.clone()),
    }
}

/// Makes the event of a Lambda authorizer. Without its identity sources it is not invoked.
pub(super) fn authorizer_event(incoming: &Incoming<'_>, input: &AuthorizerInput) -> Result<Value, Refusal> {
    let (sources, payload) = match input {
        AuthorizerInput::Token { header, pattern } => {
            let token = incoming.header_values(header).filter(|token| !token.is_empty());
            let is_well_formed = |token: &String| pattern.as_ref().is_none_or(|pattern| pattern.is_match(token));
            let token = token.filter(is_well_formed).ok_or(Refusal::Unauthorized)?;
            let arn = incoming.method_arn();
            return Ok(json!({"type": "TOKEN", "methodArn": arn, "authorizationToken": token}));
        }
        AuthorizerInput::Request { sources, payload } => (sources, *payload),
    };
    let values = sources.iter().map(|source| identity(source, incoming).filter(|value| !value.is_empty()));
    let values: Vec<String> = values.collect::<Option<_>>().ok_or(Refusal::Unauthorized)?;
    let (nothing, nobody) = (Bytes::new(), AuthorizerContext::default());
    let (mut event, removed) = match (incoming.api.kind, payload) {
        (HttpApiKind::Http, PayloadVersion::V2) => (incoming.v2(&nothing, &nobody), &["isBase64Encoded"][..]),
        (HttpApiKind::Http, PayloadVersion::V1) => (
            incoming.v1(&nothing, &nobody),
            &["body", "isBase64Encoded", "multiValueHeaders", "multiValueQueryStringParameters"][..],
        ),
        (HttpApiKind::Rest, _) => (incoming.v1(&nothing, &nobody), &["body", "isBase64Encoded"][..]),
    };
    let Value::Object(fields) = &mut event else { return Ok(event) };
    fields.retain(|name, _| !removed.contains(&name.as_str()));
    fields.insert("type".to_owned(), json!("REQUEST"));
    match (incoming.api.kind, payload) {
        (HttpApiKind::Http, PayloadVersion::V2) => {
            fields.insert("routeArn".to_owned(), json!(incoming.method_arn()));
            fields.insert("identitySource".to_owned(), json!(values));
        }
        (HttpApiKind::Http, PayloadVersion::V1) => {
            fields.insert("methodArn".to_owned(), json!(incoming.method_arn()));
            fields.insert("identitySource".to_owned(), json!(values.join(",")));
            fields.insert("authorizationToken".to_owned(), json!(values.join(",")));
        }
        (HttpApiKind::Rest, _) => {
            fields.insert("methodArn".to_owned(), json!(incoming.method_arn()));
            // Here, what does not exist is empty instead of null.
            for value in fields.values_mut().filter(|value| value.is_null()) {
                *value = json!({});
            }
        }
    }
    if payload == PayloadVersion::V1
        && let Some(Value::Object(context)) = fields.get_mut("requestContext")
    {
        context.remove("authorizer");
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_of_an_http_api_has_a_context_with_types_and_a_principal_in_version_1_only() {
        let allow = json!({"Statement": {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}});
        let answer = |context: Value, principal: Value| {
            let answer = json!({"policyDocument": allow, "context": context, "principalId": principal});
            policy_context(&answer, "arn:aws:execute-api:eu-central-1:000000000000:a/$default/GET/x")
        };
        let context = answer(json!({"level": 3}), json!("ann")).expect("allowed");
        assert_eq!(context.v2, Some(json!({"lambda": {"level": 3}})));
        assert_eq!(context.v1, Some(json!({"level": 3, "principalId": "ann"})));
        for (context, principal) in [(json!("x"), json!("ann")), (json!({}), json!(7))] {
            let refused = answer(context, principal);
            assert!(matches!(refused, Err(AnswerError::Invalid(_))), "{refused:?}");
        }
    }
}
