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
    let (kind, value) = match (parameters.secrets.get(&asked.name), parameters.stored.get(&asked.name)) {
        (Some(value), _) if asked.with_decryption => ("SecureString", value),
        (None, Some(stored)) => (stored.kind.as_str(), &stored.value),
        (None, None) if asked.with_decryption => {
            let message = format!("unknown parameter {}: set it with --secret", asked.name);
            return Err(ServiceError::new("ParameterNotFound", message));
        }
        _ => return Err(invalid("the emulator returns a secret only with WithDecryption")),
    };
    let separator = if asked.name.starts_with('/') { "" } else { "/" };
    Ok(json!({"Parameter": {
        "Name": asked.name,
        "Type": kind,
        "Value": value,
        "Version": 1,
        "ARN": arn("ssm", &format!("parameter{separator}{}", asked.name)),
        "DataType": "text",
    }}))
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
}
