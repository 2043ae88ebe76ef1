//! Decides what the statements of an authorizer's policy say of one action on one resource.
//!
//! Source: IAM user guide, "IAM JSON policy elements reference" and "Policy evaluation logic". Actions are compared
//! without regard to case, and whatever a statement does not name it does not apply to.

use serde_json::Value;

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    /// A statement denies it, which wins.
    Denied,
    /// No statement speaks of it.
    NotAllowed,
}

/// Why a policy is not evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PolicyError {
    #[error("statement {0} has the Effect {1}: write Allow or Deny")]
    Effect(usize, Value),
    #[error("statement {0} has to have either {1} or Not{1}, a text or a list of texts")]
    Element(usize, &'static str),
    #[error("statement {0} has a Condition, which is not evaluated here: take it out to try the policy locally")]
    Condition(usize),
}

/// Evaluates the statements.
///
/// # Errors
///
/// If a statement is invalid, or applies under a condition.
pub(super) fn decide(statements: &[Value], action: &str, resource: &str) -> Result<Decision, PolicyError> {
    let action = action.to_ascii_lowercase();
    let mut decision = Decision::NotAllowed;
    for (index, statement) in statements.iter().enumerate() {
        let number = index + 1;
        let denies = match statement["Effect"].as_str() {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err(PolicyError::Effect(number, statement["Effect"].clone())),
        };
        let of_action =
            named(statement, "Action", "NotAction", |pattern| matches(&pattern.to_ascii_lowercase(), &action));
        let of_resource = named(statement, "Resource", "NotResource", |pattern| matches(pattern, resource));
        let applies = of_action.ok_or(PolicyError::Element(number, "Action"))?
            & of_resource.ok_or(PolicyError::Element(number, "Resource"))?;
        if !applies {
            continue;
        }
        if statement["Condition"].as_object().is_some_and(|condition| !condition.is_empty()) {
            return Err(PolicyError::Condition(number));
        }
        if denies {
            decision = Decision::Denied;
        } else if decision == Decision::NotAllowed {
            decision = Decision::Allowed;
        }
    }
    Ok(decision)
}

/// Whether an element names something, or its opposite does not. `None` unless exactly one of both is there.
fn named(statement: &Value, element: &str, opposite: &str, is_match: impl Fn(&str) -> bool) -> Option<bool> {
    let any = |patterns: &Value| match patterns {
        Value::String(pattern) => Some(is_match(pattern)),
        Value::Array(patterns) => {
            patterns.iter().try_fold(false, |any, pattern| Some(any | is_match(pattern.as_str()?)))
        }
        _ => None,
    };
    match (statement.get(element), statement.get(opposite)) {
        (Some(patterns), None) => any(patterns),
        (None, Some(patterns)) => any(patterns).map(|is_named| !is_named),
        _ => None,
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
    use serde_json::json;

    use super::*;

    const ACTION: &str = "execute-api:Invoke";
    const ARN: &str = "arn:aws:execute-api:eu-central-1:000000000000:abcdefghij/prod/$connect";

    fn decided(statements: Value) -> Result<Decision, PolicyError> {
        decide(statements.as_array().expect("a list"), ACTION, ARN)
    }

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
    fn a_denial_wins_wherever_it_stands() {
        let allow = json!({"Effect": "Allow", "Action": ACTION, "Resource": "*"});
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": ["*/dev/*", "*/prod/*"]});
        assert_eq!(decided(json!([allow])), Ok(Decision::Allowed));
        assert_eq!(decided(json!([allow, deny])), Ok(Decision::Denied));
        assert_eq!(decided(json!([deny, allow])), Ok(Decision::Denied));
        assert_eq!(decided(json!([])), Ok(Decision::NotAllowed));
    }

    #[test]
    fn actions_have_no_case_and_resources_have() {
        let allows = |action: &str, resource: &str| {
            decided(json!([{"Effect": "Allow", "Action": action, "Resource": resource}])) == Ok(Decision::Allowed)
        };
        assert!(allows("Execute-API:INVOKE", ARN));
        assert!(allows("execute-api:inv*", "*"));
        assert!(!allows("execute-api:ManageConnections", "*"));
        assert!(!allows(ACTION, &ARN.to_ascii_uppercase()));
    }

    #[test]
    fn opposites_apply_to_what_they_do_not_name() {
        let decided = |element: &str, value: Value, effect: &str| {
            let mut statement = json!({"Effect": effect, "Action": ACTION, "Resource": "*"});
            let statement_map = statement.as_object_mut().expect("an object");
            statement_map.remove(element.trim_start_matches("Not"));
            statement_map.insert(element.to_owned(), value);
            decided(json!([statement]))
        };
        assert_eq!(decided("NotAction", json!("execute-api:invoke"), "Allow"), Ok(Decision::NotAllowed));
        assert_eq!(decided("NotAction", json!(["s3:*"]), "Allow"), Ok(Decision::Allowed));
        assert_eq!(decided("NotResource", json!("*/dev/*"), "Deny"), Ok(Decision::Denied));
        assert_eq!(decided("NotResource", json!([ARN]), "Deny"), Ok(Decision::NotAllowed));
    }

    #[test]
    fn what_cannot_be_decided_is_refused_with_the_statement() {
        let condition = json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}});
        for (statement, error) in [
            (json!({"Effect": "allow", "Action": "*", "Resource": "*"}), PolicyError::Effect(1, json!("allow"))),
            (json!({"Effect": "Allow", "Resource": "*"}), PolicyError::Element(1, "Action")),
            (json!({"Effect": "Allow", "Action": "*"}), PolicyError::Element(1, "Resource")),
            (json!({"Effect": "Allow", "Action": [7], "Resource": "*"}), PolicyError::Element(1, "Action")),
            (
                json!({"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}),
                PolicyError::Element(1, "Action"),
            ),
            (
                json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}),
                PolicyError::Condition(1),
            ),
        ] {
            assert_eq!(decided(json!([statement])), Err(error), "{statement}");
        }
        // A condition of a statement that does not apply decides nothing.
        let elsewhere = json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition});
        let allow = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}});
        assert_eq!(decided(json!([elsewhere, allow])), Ok(Decision::Allowed));
    }
}
