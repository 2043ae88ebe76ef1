//! The answers of Lambda authorizers: a policy, and a context that events carry.

use serde_json::{Map, Value, json};

use crate::policy::{self, Decision, PolicyError};

/// The message for a client that the policy denies. Source: recorded from REST APIs.
pub(crate) const DENIED: &str =
    "User is not authorized to access this resource with an explicit deny in an identity-based policy";

/// The message for a client that no statement allows. Source: as above.
pub(crate) const NOT_ALLOWED: &str = "User is not authorized to access this resource because no identity-based policy \
    allows the execute-api:Invoke action";

/// Why an answer allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerError {
    /// A statement denies it.
    Denied,
    /// No statement speaks of it.
    NotAllowed,
    /// It does not have the form of an authorizer's answer, for this reason.
    Invalid(String),
}

impl AnswerError {
    fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }
}

/// Evaluates the policy of an answer for one resource.
pub(crate) fn check_policy(answer: &Value, method_arn: &str) -> Result<(), AnswerError> {
    let statements = policy::statements(&answer["policyDocument"]);
    match statements.and_then(|statements| policy::decide(statements, "execute-api:Invoke", method_arn)) {
        Ok(Decision::Allowed) => Ok(()),
        Ok(Decision::Denied) => Err(AnswerError::Denied),
        Ok(Decision::NotAllowed) => Err(AnswerError::NotAllowed),
        Err(PolicyError::Document) => {
            Err(AnswerError::invalid("the answer of the authorizer has no policyDocument with a Statement"))
        }
        Err(error) => Err(AnswerError::Invalid(format!("the policy of the authorizer is invalid: {error}"))),
    }
}

/// The context of an answer as the function wrote it. It may be missing.
pub(crate) fn context_object(answer: &Value) -> Result<Map<String, Value>, AnswerError> {
    match answer.get("context") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(context)) => Ok(context.clone()),
        Some(_) => Err(AnswerError::invalid("the context of the authorizer is not an object")),
    }
}

/// Who the client is, as a field of the context, if the answer says so.
pub(crate) fn principal(answer: &Value) -> Result<Option<(String, Value)>, AnswerError> {
    match answer.get("principalId") {
        None | Some(Value::Null) => Ok(None),
        Some(principal @ Value::String(_)) => Ok(Some(("principalId".to_owned(), principal.clone()))),
        Some(_) => Err(AnswerError::invalid("the principalId of the authorizer is not a text")),
    }
}

/// Evaluates the answer of an authorizer. Returns the context that events carry: values as texts, and who the client
/// is, if the function says so.
pub(crate) fn context_of(answer: &Value, method_arn: &str) -> Result<Map<String, Value>, AnswerError> {
    check_policy(answer, method_arn)?;
    let mut context = context_object(answer)?;
    for (name, value) in &mut context {
        match value {
            Value::Null | Value::String(_) => {}
            Value::Bool(_) | Value::Number(_) => *value = json!(value.to_string()),
            Value::Array(_) | Value::Object(_) => {
                return Err(AnswerError::Invalid(format!(
                    "{name} in the context of the authorizer is a list or an object: only texts, numbers and truth \
                     values are allowed"
                )));
            }
        }
    }
    context.extend(principal(answer)?);
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
        assert_eq!(context_of(&answer, ARN).map(Value::Object), Ok(values));
        assert_eq!(context_of(&json!({"policyDocument": allow()}), ARN), Ok(Map::new()));
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
            (json!({"policyDocument": {"Version": "1", "Statement": []}}), "it has the Version \"1\""),
        ] {
            let refusal = context_of(&answer, ARN).expect_err("refused");
            let AnswerError::Invalid(said) = &refusal else { panic!("{answer}: {refusal:?}") };
            assert!(said.contains(reason), "{answer}: {said}");
        }
    }

    #[test]
    fn a_policy_that_denies_or_allows_something_else_lets_nobody_in() {
        let evaluated = |statements: Value| {
            context_of(&json!({"principalId": "user", "policyDocument": {"Statement": statements}}), ARN)
        };
        let deny = json!({"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": "*/prod/*"});
        assert_eq!(evaluated(json!([allow()["Statement"], deny])), Err(AnswerError::Denied));
        assert_eq!(evaluated(json!([])), Err(AnswerError::NotAllowed));
    }
}
