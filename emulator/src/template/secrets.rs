//! Dynamic references: `{{resolve:ssm:…}}` and `{{resolve:secretsmanager:…}}` in texts of a template.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{scalar::as_text, unknown::Unknown};

/// How a dynamic reference begins.
const OPENING: &str = "{{resolve:";

/// Replaces the dynamic references of a text. Those whose secret is not known stay. `None` if there is none.
pub(super) fn resolved(text: &str, secrets: &BTreeMap<String, String>, unknown: &Unknown) -> Option<String> {
    let mut rest = text;
    let mut resolved = String::new();
    let mut found = false;
    while let Some((before, after)) = rest.split_once(OPENING) {
        let Some((reference, tail)) = after.split_once("}}") else { break };
        found = true;
        resolved.push_str(before);
        match value(reference, secrets, unknown) {
            Some(value) => resolved.push_str(&value),
            None => {
                resolved.push_str(OPENING);
                resolved.push_str(reference);
                resolved.push_str("}}");
            }
        }
        rest = tail;
    }
    found.then(|| resolved + rest)
}

fn value(reference: &str, secrets: &BTreeMap<String, String>, unknown: &Unknown) -> Option<String> {
    let (service, id) = reference.split_once(':')?;
    let (name, key) = match service {
        "ssm" | "ssm-secure" => (without_version(id), None),
        "secretsmanager" => of_secret(id),
        _ => return None,
    };
    let secret = secrets.get(name).and_then(|secret| match key {
        None => Some(secret.clone()),
        Some(key) => as_text(serde_json::from_str::<Value>(secret).ok()?.get(key)?),
    });
    if secret.is_none() {
        unknown.secret(name);
    }
    secret
}

/// `NAME` or `NAME:VERSION`.
fn without_version(id: &str) -> &str {
    match id.rsplit_once(':') {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => id,
    }
}

/// `ID`, `ID:SecretString`, or `ID:SecretString:KEY:STAGE:VERSION`, where an id may be an ARN. Returns the name and the
/// key.
fn of_secret(id: &str) -> (&str, Option<&str>) {
    let (id, rest) = id.split_once(":SecretString").unwrap_or((id, ""));
    let key = rest.split(':').nth(1).filter(|key| !key.is_empty());
    let name = id.rsplit_once(":secret:").map_or(id, |(_, name)| name);
    (name.trim_end_matches(':'), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_where_they_are_referred_to() {
        let secrets = [("/app/a", "1"), ("s", r#"{"k": "two", "n": 3}"#)];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let unknown = Unknown::default();
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(resolved(text, &secrets, &unknown).as_deref(), expected, "{text}");
        };
        check("plain", None);
        check("{{resolve:ssm:/app/a", None);
        check("<{{resolve:ssm:/app/a}}{{resolve:ssm-secure:/app/a:12}}>", Some("<11>"));
        check("{{resolve:secretsmanager:s:SecretString:k}}", Some("two"));
        check("{{resolve:secretsmanager:s:SecretString:n:AWSCURRENT:}}", Some("3"));
        let arn = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:s";
        check(&format!("{{{{resolve:secretsmanager:{arn}:SecretString:k::}}}}"), Some("two"));
        check("{{resolve:secretsmanager:s}}", Some(r#"{"k": "two", "n": 3}"#));
        assert!(unknown.notes(&Default::default()).is_empty());
        check("{{resolve:ssm:/b}}", Some("{{resolve:ssm:/b}}"));
        check("{{resolve:secretsmanager:s:SecretString:none}}", Some("{{resolve:secretsmanager:s:SecretString:none}}"));
        assert_eq!(unknown.notes(&Default::default()), ["no secret /b, s is known; set it with --secret /b=VALUE"]);
    }
}
