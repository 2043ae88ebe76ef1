//! Parameters of Systems Manager, behind the one operation that the functions need (AWS JSON 1.1).
//!
//! Source: Systems Manager API reference, "GetParameter".

use std::{collections::BTreeMap, sync::Arc};

use hyper::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    aws::arn,
    aws_json::{Protocol, ServiceError, Unreadable},
    http::{Body, Request},
    template::StoredParameter,
};

/// Largest request, in bytes: a name has at most 2,048.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameter {
    name: String,
    #[serde(default)]
    with_decryption: bool,
}

/// The parameters of Systems Manager, by name.
#[derive(Debug)]
pub(crate) struct Parameters {
    /// Secrets that the user sets. They replace what the template makes.
    pub(crate) secrets: BTreeMap<String, String>,
    /// What the template makes.
    pub(crate) stored: BTreeMap<String, StoredParameter>,
}

/// How Systems Manager speaks.
const PROTOCOL: Protocol = Protocol {
    media_type: "application/x-amz-json-1.1",
    target_prefix: "AmazonSSM.",
    operations: &["GetParameter"],
    request_bytes_max: REQUEST_BYTES_MAX,
    unreadable: |request| match request {
        Unreadable::Target(_) => unknown_operation(),
        Unreadable::TooLarge => invalid(format!("the request has more than {REQUEST_BYTES_MAX} bytes")),
    },
};

/// Answers one request from the parameters.
pub(crate) async fn handle(parameters: Arc<Parameters>, request: Request) -> Response<Body> {
    PROTOCOL.serve(request, async |_, input| get_parameter(&parameters, input)).await
}

fn get_parameter(parameters: &Parameters, input: &[u8]) -> Result<Value, ServiceError> {
    let asked: GetParameter = serde_json::from_slice(input).map_err(|error| invalid(error.to_string()))?;
    let (name, selector) = parameters.name_and_selector(&asked.name);
    let (kind, value) = match (parameters.secrets.get(&name), parameters.stored.get(&name)) {
        (Some(value), _) if asked.with_decryption => ("SecureString", value),
        (Some(_), _) => return Err(invalid("the emulator returns a secret only with WithDecryption")),
        (None, Some(stored)) => (stored.kind.as_str(), &stored.value),
        (None, None) => {
            let message = format!("unknown parameter {name}: set it with --secret");
            return Err(ServiceError::new("ParameterNotFound", message));
        }
    };
    if selector.as_ref().is_some_and(|selector| selector != ":1") {
        let message = format!("the parameter {name} has only the version 1 here, and no labels");
        return Err(ServiceError::new("ParameterVersionNotFound", message));
    }
    let separator = if name.starts_with('/') { "" } else { "/" };
    let mut found = json!({
        "Name": name,
        "Type": kind,
        "Value": value,
        "Version": 1,
        "ARN": arn("ssm", &format!("parameter{separator}{name}")),
        "DataType": "text",
    });
    if let Some(selector) = selector {
        found["Selector"] = Value::from(selector);
    }
    Ok(json!({"Parameter": found}))
}

impl Parameters {
    /// The name in a name or ARN, and the version or label after it (`:1`). The ARN of `a` is that of `/a`.
    fn name_and_selector(&self, asked: &str) -> (String, Option<String>) {
        let name = match asked.split_once(":parameter/") {
            Some((arn, name)) if arn.starts_with("arn:") => {
                let (bare, _) = split_selector(name);
                let is_bare = self.secrets.contains_key(bare) || self.stored.contains_key(bare);
                if is_bare { name.to_owned() } else { format!("/{name}") }
            }
            _ => asked.to_owned(),
        };
        let (name, selector) = split_selector(&name);
        (name.to_owned(), selector.map(str::to_owned))
    }
}

/// Names have no colons.
fn split_selector(name: &str) -> (&str, Option<&str>) {
    name.find(':').map_or((name, None), |at| (&name[..at], Some(&name[at..])))
}

fn unknown_operation() -> ServiceError {
    ServiceError::new("UnknownOperationException", "the emulator supports only GetParameter of Systems Manager")
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new("ValidationException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_template_need_no_decryption_and_secrets_replace_them() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let stored = |value: &str| StoredParameter { kind: "String".to_owned(), value: value.to_owned() };
        let parameters = Parameters {
            secrets: [of("/secret", "s"), of("/both", "s")].into(),
            stored: [("/plain".to_owned(), stored("p")), ("/both".to_owned(), stored("p"))].into(),
        };
        let get = |name: &str, with_decryption: bool| {
            let asked = json!({"Name": name, "WithDecryption": with_decryption}).to_string();
            let found = get_parameter(&parameters, asked.as_bytes()).ok()?;
            let text = |field: &str| found["Parameter"][field].as_str().unwrap_or_default().to_owned();
            Some((text("Type"), text("Value")))
        };
        let (plain, secret) = (Some(of("String", "p")), Some(of("SecureString", "s")));
        assert_eq!((get("/plain", false), get("/plain", true)), (plain.clone(), plain));
        assert_eq!((get("/secret", true), get("/both", true)), (secret.clone(), secret));
        assert_eq!((get("/secret", false), get("/both", false), get("/none", true)), (None, None, None));
    }

    #[test]
    fn a_parameter_has_an_arn_and_a_version_and_another_one_is_not_found() {
        let stored = |name: &str| {
            (name.to_owned(), StoredParameter { kind: "String".to_owned(), value: format!("value of {name}") })
        };
        let parameters = Parameters { secrets: BTreeMap::new(), stored: [stored("/a/b"), stored("bare")].into() };
        let get = |name: &str| get_parameter(&parameters, json!({"Name": name}).to_string().as_bytes());
        for (asked, name) in [
            ("/a/b:1", "/a/b"),
            ("arn:aws:ssm:eu-central-1:000000000000:parameter/a/b", "/a/b"),
            ("arn:aws:ssm:eu-central-1:000000000000:parameter/bare:1", "bare"),
        ] {
            let found = get(asked).expect("found");
            assert_eq!(
                (&found["Parameter"]["Name"], &found["Parameter"]["Value"]),
                (&json!(name), &json!(format!("value of {name}")))
            );
            assert_eq!(found["Parameter"]["Selector"], if asked.ends_with(":1") { json!(":1") } else { Value::Null });
        }
        for (asked, code) in [
            ("/none", "ParameterNotFound"),
            ("/none:1", "ParameterNotFound"),
            ("/a/b:2", "ParameterVersionNotFound"),
            ("/a/b:label", "ParameterVersionNotFound"),
        ] {
            assert_eq!(get(asked).expect_err("not found").kind, code, "{asked}");
        }
    }
}
