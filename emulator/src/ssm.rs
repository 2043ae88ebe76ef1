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

/// Answers one request from the secrets, by name.
pub(crate) async fn handle(secrets: Arc<BTreeMap<String, String>>, request: Request) -> Response<Body> {
    PROTOCOL.serve(request, async |_, input| get_parameter(&secrets, input)).await
}

fn get_parameter(secrets: &BTreeMap<String, String>, input: &[u8]) -> Result<Value, ServiceError> {
    let asked: GetParameter = serde_json::from_slice(input).map_err(|error| invalid(error.to_string()))?;
    if !asked.with_decryption {
        return Err(invalid("the emulator returns a secret only with WithDecryption"));
    }
    let value = secrets.get(&asked.name);
    let value = value.ok_or_else(|| {
        ServiceError::new("ParameterNotFound", format!("unknown parameter {}: set it with --secret", asked.name))
    })?;
    let separator = if asked.name.starts_with('/') { "" } else { "/" };
    Ok(json!({"Parameter": {
        "Name": asked.name,
        "Type": "SecureString",
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
