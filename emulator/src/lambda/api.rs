//! The Lambda Invoke API: `POST /2015-03-31/functions/{name}/invocations`.

use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Response, StatusCode, body::Bytes};
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Functions, PAYLOAD_BYTES_MAX};
use crate::{
    aws::arn,
    http::{Body, Request, response},
    invocation::InvokeError,
};

/// Largest payload of an asynchronous invocation, in bytes. Source: Lambda quotas (1 MB since October 2025).
const ASYNC_PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// The source of synchronous invocations at the concurrency limit: those that wait for nobody have another.
const SOURCE: &str = "Invoke";

pub(crate) async fn handle(functions: Arc<Functions>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let name = path
        .strip_prefix("/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"))
        .and_then(|name| percent_decode_str(name).decode_utf8().ok());
    let Some(name) = name.filter(|_| request.method() == Method::POST) else {
        return error(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            "unknown operation: expected POST /2015-03-31/functions/{name}/invocations",
        );
    };
    // The name may be an ARN. Either form may end in an alias or a version, which the query may have instead.
    let reference = name.rsplit(":function:").next().unwrap_or_default();
    let (name, named) = match reference.split_once(':') {
        Some((name, qualifier)) => (name.to_owned(), Some(qualifier.to_owned())),
        None => (reference.to_owned(), None),
    };
    let asked = qualifier(request.uri().query().unwrap_or_default());
    if asked.is_some() && named.is_some() && asked != named {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        );
    }
    let qualifier = asked.or(named);
    if !functions.contains(&name, qualifier.as_deref()) {
        let of = qualifier.map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
        return unknown(&format!("{}{of}", arn("lambda", &format!("function:{name}"))));
    }
    let kind = request
        .headers()
        .get("x-amz-invocation-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("RequestResponse")
        .to_owned();
    let limit = if kind == "Event" { ASYNC_PAYLOAD_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
    let payload = match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let message = format!("payload too large: expected at most {limit} bytes");
            return error(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message);
        }
    };
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { payload };
    if let Err(invalid) = serde_json::from_slice::<IgnoredAny>(&payload) {
        let message = format!("Could not parse request body into json: {invalid}");
        return error(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message);
    }
    match kind.as_str() {
        "Event" => match functions.invoke_async(&name, payload) {
            Ok(()) => response(StatusCode::ACCEPTED, "application/json", Bytes::new()),
            Err(InvokeError::TooManyEvents) => {
                error(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
            }
            Err(_) => unknown(&name),
        },
        "DryRun" => response(StatusCode::NO_CONTENT, "application/json", Bytes::new()),
        "RequestResponse" => match functions.invoke_for(SOURCE, &name, payload).await {
            Ok(answer) => response(StatusCode::OK, "application/json", answer),
            Err(InvokeError::UnknownFunction(_)) => unknown(&name),
            Err(failure) => {
                let mut response = response(StatusCode::OK, "application/json", failure.payload());
                response
                    .headers_mut()
                    .insert("x-amz-function-error", hyper::header::HeaderValue::from_static("Unhandled"));
                response
            }
        },
        other => error(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValueException",
            &format!("invalid invocation type `{other}`: expected RequestResponse, Event or DryRun"),
        ),
    }
}

/// Returns the parameter `Qualifier` of a query.
fn qualifier(query: &str) -> Option<String> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("Qualifier="))?;
    Some(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

fn unknown(function: &str) -> Response<Body> {
    error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &format!("Function not found: {function}"))
}

fn error(status: StatusCode, kind: &'static str, message: &str) -> Response<Body> {
    let body = json!({"Type": "User", "message": message}).to_string();
    let mut response: Response<Full<Bytes>> = response(status, "application/json", body);
    response.headers_mut().insert("x-amzn-errortype", hyper::header::HeaderValue::from_static(kind));
    response
}
