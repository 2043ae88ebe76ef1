//! The Lambda Invoke API: `POST /2015-03-31/functions/{name}/invocations`.

use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{Functions, InvokeError};
use crate::http::{Body, origin::is_cross_site, response};

/// Largest payload of a synchronous invocation, in bytes. Source: Lambda quotas.
const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Largest payload of an asynchronous invocation, in bytes. Source: Lambda quotas (1 MB since October 2025).
const ASYNC_PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Answers one request.
pub(crate) async fn handle(functions: Arc<Functions>, request: Request<Incoming>) -> Response<Body> {
    if is_cross_site(request.headers()) {
        return error(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "a page of another site may not invoke functions",
        );
    }
    let path = request.uri().path().to_owned();
    let name = path
        .strip_prefix("/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"))
        .and_then(|name| percent_decode_str(name).decode_utf8().ok());
    let Some(name) = name.filter(|_| request.method() == Method::POST) else {
        return error(
            StatusCode::NOT_FOUND,
            "UnknownOperationException",
            "this is the Lambda Invoke API: POST /2015-03-31/functions/{name}/invocations",
        );
    };
    // A function may be named by its ARN, with or without a version.
    let name = name.split(":function:").last().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
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
            let message = format!("the payload has more than {limit} bytes");
            return error(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message);
        }
    };
    let unknown = || error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &format!("Function not found: {name}"));
    match kind.as_str() {
        "Event" => match functions.invoke_async(&name, payload) {
            Ok(()) => response(StatusCode::ACCEPTED, "application/json", Bytes::new()),
            Err(_) => unknown(),
        },
        "DryRun" if functions.contains(&name) => response(StatusCode::NO_CONTENT, "application/json", Bytes::new()),
        "DryRun" => unknown(),
        "RequestResponse" => match functions.invoke(&name, payload).await {
            Ok(answer) => response(StatusCode::OK, "application/json", answer),
            Err(InvokeError::UnknownFunction(_)) => unknown(),
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
            &format!("there is no invocation type {other}"),
        ),
    }
}

fn error(status: StatusCode, kind: &'static str, message: &str) -> Response<Body> {
    let body = json!({"Type": "User", "message": message}).to_string();
    let mut response: Response<Full<Bytes>> = response(status, "application/json", body);
    response.headers_mut().insert("x-amzn-errortype", hyper::header::HeaderValue::from_static(kind));
    response
}
