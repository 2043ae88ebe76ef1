//! Parameters of Systems Manager, behind the one operation that the functions need (AWS JSON 1.1).
//!
//! Source: Systems Manager API reference, "GetParameter".

use std::{collections::BTreeMap, sync::Arc};

use http_body_util::{BodyExt, Limited};
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    aws::arn,
    http::{Body, Request, response},
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

/// Answers one request from the secrets, by name.
pub(crate) async fn handle(secrets: Arc<BTreeMap<String, String>>, request: Request) -> Response<Body> {
    let (status, body) = match answer(&secrets, request).await {
        Ok(parameter) => (StatusCode::OK, json!({"Parameter": parameter})),
        Err((kind, message)) => (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message})),
    };
    response(status, "application/x-amz-json-1.1", body.to_string())
}

/// The parameter, or the kind and the message of a refusal.
async fn answer(secrets: &BTreeMap<String, String>, request: Request) -> Result<Value, (&'static str, String)> {
    if request.headers().get("x-amz-target").is_none_or(|target| target != "AmazonSSM.GetParameter") {
        return Err(("UnknownOperationException", "only GetParameter is there locally".to_owned()));
    }
    let invalid = |message: String| ("ValidationException", message);
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let body = body.map_err(|_| invalid(format!("a request has at most {REQUEST_BYTES_MAX} bytes")))?.to_bytes();
    let asked: GetParameter = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    if !asked.with_decryption {
        return Err(invalid("locally a secret is read with WithDecryption only".to_owned()));
    }
    let value = secrets.get(&asked.name);
    let value = value.ok_or_else(|| ("ParameterNotFound", format!("--secret names no {}", asked.name)))?;
    let separator = if asked.name.starts_with('/') { "" } else { "/" };
    Ok(json!({
        "Name": asked.name,
        "Type": "SecureString",
        "Value": value,
        "Version": 1,
        "ARN": arn("ssm", &format!("parameter{separator}{}", asked.name)),
        "DataType": "text",
    }))
}
