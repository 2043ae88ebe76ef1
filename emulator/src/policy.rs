//! Decides what the statements of a policy say of one action on one resource: that of an authorizer, or of a REST API.
//!
//! Source: IAM user guide, "IAM JSON policy elements reference" and "Policy evaluation logic". Actions are compared
//! without regard to case, and whatever a statement does not name it does not apply to. What is not understood is an
//! error: left out, it would let in whom it keeps out.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Elements of a policy.
const ELEMENTS: [&str; 3] = ["Version", "Id", "Statement"];

/// Versions of the language.
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];

/// Elements of a statement.
const ELEMENTS_OF_STATEMENT: [&str; 9] =
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// A statement denies it, which wins.
    Denied,
    /// No statement speaks of it.
    NotAllowed,
}

/// How the resource of a request is compared with those that statements name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Both as they are written.
    Written,
    /// Both decoded and without slashes at their ends: a route may be for all spellings of its path. The root of an API
    /// keeps its slash, which `/*` names.
    Normal,
}

/// Why a policy is not evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("expected an object with a Statement, which is an object or a list of objects")]
    Document,
    #[error("it has the unknown element {0}: a policy has Version, Id and Statement")]
    UnknownElement(String),
    #[error("it has the Version {0}: write 2012-10-17")]
    Version(Value),
    #[error("statement {0} is not an object")]
    Statement(usize),
    #[error(
        "statement {0} has the unknown element {1}: write one of {elements}",
        elements = ELEMENTS_OF_STATEMENT.join(", ")
    )]
    UnknownElementOfStatement(usize, String),
    #[error("statement {0} has the Effect {1}: write Allow or Deny")]
    Effect(usize, Value),
    #[error("statement {0} has to have either {1} or Not{1}, a text or a list of texts")]
    Element(usize, &'static str),
    #[error("statement {0} has a Condition, which is not evaluated here: take it out to try the policy locally")]
    Condition(usize),
    #[error("statement {0} has the condition {1}, which is not evaluated here: take it out to try the policy locally")]
    UnknownCondition(usize, String),
    #[error(
        "statement {0} has a Condition that is not an object of operators, such as {{\"IpAddress\": \
         {{\"aws:SourceIp\": \"192.0.2.0/24\"}}}}"
    )]
    ConditionForm(usize),
    #[error("statement {0} has a variable in {1}, which is not evaluated here: take it out to try the policy locally")]
    Variable(usize, String),
    #[error("statement {0} has no Principal that is \"*\" or an object such as {{\"AWS\": \"*\"}}")]
    PrincipalForm(usize),
    #[error(
        "statement {0} is for named principals, and who signed a request is not known here: write \"Principal\": \"*\" \
         to try the policy locally"
    )]
    Principal(usize),
    /// The template does not say it in a form that is read, for this reason.
    #[error("{0}")]
    Unread(String),
}

/// The statements of a policy.
///
/// # Errors
///
/// If it is none, or of another version.
pub(crate) fn statements(document: &Value) -> Result<&[Value], PolicyError> {
    let elements = document.as_object().ok_or(PolicyError::Document)?;
    if let Some(unknown) = elements.keys().find(|element| !ELEMENTS.contains(&element.as_str())) {
        return Err(PolicyError::UnknownElement(unknown.clone()));
    }
    if let Some(version) = elements.get("Version")
        && !VERSIONS.iter().any(|known| version == known)
    {
        return Err(PolicyError::Version(version.clone()));
    }
    match elements.get("Statement") {
        Some(Value::Array(statements)) => Ok(statements),
        Some(statement @ Value::Object(_)) => Ok(std::slice::from_ref(statement)),
        _ => Err(PolicyError::Document),
    }
}

/// Evaluates the statements of an authorizer. What they allow is the resource as the authorizer was told it, and what
/// they deny is every spelling of it.
///
/// # Errors
///
/// If a statement is invalid, or applies under a condition.
pub(crate) fn decide(statements: &[Value], action: &str, resource: &str) -> Result<Decision, PolicyError> {
    let decided = |spelling: Spelling| {
        decide_where(statements, action, (resource, spelling), |number, statement| match statement.get("Condition") {
            // AWS's classes for Java write null where there is none (`IamPolicyResponse` of aws-lambda-java-events).
            None | Some(Value::Null) => Ok(true),
            Some(Value::Object(condition)) if condition.is_empty() => Ok(true),
            Some(_) => Err(PolicyError::Condition(number)),
        })
    };
    match decided(Spelling::Normal)? {
        Decision::Denied => Ok(Decision::Denied),
        Decision::Allowed | Decision::NotAllowed => decided(Spelling::Written),
    }
}

/// Evaluates the statements. Of one that is for the action on the resource, `applies` says whether it applies, by its
/// number and itself.
///
/// # Errors
///
/// If a statement is invalid, and those of `applies`.
pub(crate) fn decide_where(
    statements: &[Value],
    action: &str,
    (resource, spelling): (&str, Spelling),
    applies: impl Fn(usize, &Value) -> Result<bool, PolicyError>,
) -> Result<Decision, PolicyError> {
    let action = action.to_ascii_lowercase();
    let normal = normal(resource);
    let is_resource = |pattern: &str| match spelling {
        Spelling::Written => matches(pattern, resource),
        Spelling::Normal => {
            let pattern = decoded(pattern);
            matches(&pattern, &normal) || matches(pattern.trim_end_matches('/'), &normal)
        }
    };
    let mut decision = Decision::NotAllowed;
    for (index, statement) in statements.iter().enumerate() {
        let number = index + 1;
        let elements = statement.as_object().ok_or(PolicyError::Statement(number))?;
        if let Some(unknown) = elements.keys().find(|element| !ELEMENTS_OF_STATEMENT.contains(&element.as_str())) {
            return Err(PolicyError::UnknownElementOfStatement(number, unknown.clone()));
        }
        let denies = match statement["Effect"].as_str() {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err(PolicyError::Effect(number, statement["Effect"].clone())),
        };
        let of_action =
            named(statement, "Action", "NotAction", |pattern| matches(&pattern.to_ascii_lowercase(), &action));
        let of_resource = named(statement, "Resource", "NotResource", is_resource);
        let is_meant = of_action.ok_or(PolicyError::Element(number, "Action"))?
            & of_resource.ok_or(PolicyError::Element(number, "Resource"))?;
        if !is_meant || !applies(number, statement)? {
            continue;
        }
        if denies {
            decision = Decision::Denied;
        } else if decision == Decision::NotAllowed {
            decision = Decision::Allowed;
        }
    }
    Ok(decision)
}

/// A resource decoded and without slashes at its end, unless nothing else follows its method (`API/STAGE/METHOD/`).
fn normal(resource: &str) -> String {
    let decoded = decoded(resource);
    let trimmed = decoded.trim_end_matches('/');
    let is_root = trimmed.len() < decoded.len() && trimmed.matches('/').count() == 2;
    if is_root { format!("{trimmed}/") } else { trimmed.to_owned() }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
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
            (json!("*"), PolicyError::Statement(1)),
        ] {
            assert_eq!(decided(json!([statement])), Err(error), "{statement}");
        }
        for (element, value, error) in [
            ("Condition", condition.clone(), PolicyError::Condition(1)),
            ("Condition", json!([condition]), PolicyError::Condition(1)),
            ("Condition", json!("x"), PolicyError::Condition(1)),
            ("Conditions", condition.clone(), PolicyError::UnknownElementOfStatement(1, "Conditions".to_owned())),
            ("condition", json!({}), PolicyError::UnknownElementOfStatement(1, "condition".to_owned())),
        ] {
            let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            statement[element] = value;
            assert_eq!(decided(json!([statement])), Err(error), "{statement}");
        }
        // A condition of a statement that does not apply decides nothing.
        let elsewhere = json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition});
        for none in [json!({}), Value::Null] {
            let allow = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": none});
            assert_eq!(decided(json!([elsewhere, allow])), Ok(Decision::Allowed), "{none}");
        }
    }

    #[test]
    fn a_denial_is_for_every_spelling_of_a_path_and_an_allowance_for_the_one_that_it_names() {
        let allow = |resource: &str| json!({"Effect": "Allow", "Action": "*", "Resource": resource});
        let deny = |element: &str, path: &str| {
            let mut statement = json!({"Effect": "Deny", "Action": "*"});
            statement[element] = json!(format!("*/GET{path}"));
            statement
        };
        for (denied, asked) in [
            ("/a", "/a/"),
            ("/a", "/a//"),
            ("/a", "/%61"),
            ("/a/", "/a"),
            ("/%61", "/a"),
            ("/a%20b", "/%61%20b/"),
            ("/a b", "/a%20b"),
            ("/", "/"),
            ("/*", "/"),
        ] {
            let statements = [allow("*"), deny("Resource", denied)];
            let decided = decide(&statements, ACTION, &format!("api/prod/GET{asked}"));
            assert_eq!(decided, Ok(Decision::Denied), "{denied} {asked}");
        }
        for (statement, asked) in [
            (deny("Resource", "/a"), "/a/b"),
            (deny("NotResource", "/a"), "/a"),
            (deny("Resource", "/a/*"), "/a"),
            (deny("NotResource", "/*"), "/"),
        ] {
            let decided = decide(&[allow("*"), statement], ACTION, &format!("api/prod/GET{asked}"));
            assert_eq!(decided, Ok(Decision::Allowed), "{asked}");
        }
        let allowed = |resource: &str, asked: &str| decide(&[allow(resource)], ACTION, asked);
        let told = "api/prod/GET/a%20b/";
        assert_eq!(allowed(told, told), Ok(Decision::Allowed), "as the authorizer is told");
        assert_eq!(allowed("api/prod/GET/a", "api/prod/GET/a/"), Ok(Decision::NotAllowed));
    }

    #[test]
    fn a_policy_of_another_form_or_version_is_refused() {
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        for document in [
            json!({"Statement": statement}),
            json!({"Version": "2012-10-17", "Id": "x", "Statement": [statement]}),
            json!({"Version": "2008-10-17", "Statement": [statement]}),
        ] {
            assert_eq!(statements(&document), Ok(std::slice::from_ref(&statement)), "{document}");
        }
        for (document, error) in [
            (json!("x"), PolicyError::Document),
            (json!({}), PolicyError::Document),
            (json!({"Statement": "x"}), PolicyError::Document),
            (json!({"Version": "2012-10-18", "Statement": []}), PolicyError::Version(json!("2012-10-18"))),
            (json!({"Version": 2, "Statement": []}), PolicyError::Version(json!(2))),
            (json!({"Statement": [], "statement": []}), PolicyError::UnknownElement("statement".to_owned())),
        ] {
            assert_eq!(statements(&document), Err(error), "{document}");
        }
    }
}
