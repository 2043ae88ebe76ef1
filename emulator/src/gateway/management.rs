//! The management API: `POST`, `GET` and `DELETE` on `/@connections/{id}`.
//!
//! Statuses, headers and bodies are as recorded from the service. AWS clients read the type of an error only from
//! `x-amzn-errortype`.

use std::time::{Duration, Instant};

use clock::Timestamp;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use percent_encoding::percent_decode_str;
use serde_json::json;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use super::{api::Gateway, connections::Connection, ids, limits::MESSAGE_BYTES_MAX, outbound::SendError};
use crate::{
    faults::FaultKind,
    http::{Body, Request, response},
};

/// How long a hung POST hangs: longer than any function runs. Source: Lambda quotas.
const HUNG_POST_DURATION: Duration = Duration::from_secs(15 * 60);

// Every response has these ids.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const EXTENDED_ID: HeaderName = HeaderName::from_static("x-amz-apigw-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Handles a call on the connection whose id is in the path, percent-encoded or not.
pub(super) async fn handle(gateway: &Gateway, id: &str, request: Request) -> Response<Body> {
    let (id, method, began) = (percent_decode_str(id).decode_utf8_lossy(), request.method().clone(), Instant::now());
    let mut response = respond(gateway, &id, request).await;
    let kind = response.headers().get(ERROR_TYPE).and_then(|kind| kind.to_str().ok());
    gateway.recorder.management(&id, &method, response.status(), kind, began.elapsed());
    // From the thread's own generator: the system's needs a system call for each id.
    let request_id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let extended_id = ids::new(ids::IdKind::Request, gateway.clock.now());
    let headers = response.headers_mut();
    for (name, value) in
        [(REQUEST_ID, request_id.to_string()), (EXTENDED_ID, extended_id), (TRACE_ID, format!("Root=1-{request_id}"))]
    {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

async fn respond(gateway: &Gateway, id: &str, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(data) = Limited::new(body, MESSAGE_BYTES_MAX).collect().await else {
        let body = json!({"message": format!("data exceeds {MESSAGE_BYTES_MAX} bytes")});
        return error(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", body.to_string());
    };
    let request = hyper::Request::from_parts(head, data.to_bytes());
    if let Err(rejected) = gateway.authenticate(&request, request.body()) {
        rejected.log(request.uri().path());
        let body = json!({"message": rejected.message});
        return error(StatusCode::FORBIDDEN, rejected.error_type, body.to_string());
    }
    let settings = &gateway.settings;
    let throttled = || error(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", "");
    if !settings.quotas.admits_request(&gateway.clock) {
        return throttled();
    }
    if !ids::is_well_formed(id) {
        let body = json!({"message": format!("Invalid connectionId: {id}")});
        return error(StatusCode::BAD_REQUEST, "BadRequestException", body.to_string());
    }
    let gone = || error(StatusCode::GONE, "GoneException", "");
    let Some(connection) = gateway.connections.get(id) else { return gone() };
    let injected = |kind| settings.faults.inject(kind);
    match *request.method() {
        Method::POST | Method::GET if injected(FaultKind::FalseGone).is_some() => gone(),
        Method::POST if injected(FaultKind::ThrottledPost).is_some() => throttled(),
        Method::POST => match gateway.send(&connection, text(request.body())) {
            Err(SendError::Gone) => gone(),
            Err(SendError::BufferFull) => throttled(),
            Ok(()) => {
                if injected(FaultKind::HungPost).is_some() {
                    wait(gateway, HUNG_POST_DURATION).await;
                    return error(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeoutException", "");
                }
                if let Some(delay) = injected(FaultKind::SlowPost) {
                    wait(gateway, delay).await;
                }
                response(StatusCode::OK, "application/json", Bytes::new())
            }
        },
        Method::GET => response(StatusCode::OK, "application/json", description(&connection)),
        Method::DELETE => {
            gateway.close_connection(&connection);
            let mut response = response(StatusCode::NO_CONTENT, "application/json", Bytes::new());
            response.headers_mut().remove(CONTENT_TYPE);
            response
        }
        _ => error(StatusCode::FORBIDDEN, "ForbiddenException", json!({"message": "Forbidden"}).to_string()),
    }
}

/// Delays a response, but not the end of the program.
async fn wait(gateway: &Gateway, duration: Duration) {
    // Either outcome ends the wait.
    let _ = tokio::time::timeout(duration, gateway.closing.cancelled()).await;
}

/// Decodes the text for the client. What is not UTF-8 becomes U+FFFD; an encoded surrogate becomes a single one.
fn text(data: &Bytes) -> tokio_tungstenite::tungstenite::Utf8Bytes {
    if let Ok(text) = std::str::from_utf8(data) {
        return text.into();
    }
    let mut text = String::with_capacity(data.len());
    let mut rest: &[u8] = data;
    while !rest.is_empty() {
        let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        text.push_str(valid);
        rest = &rest[valid.len()..];
        rest = match rest {
            [] => rest,
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, behind @ ..] => {
                text.push(char::REPLACEMENT_CHARACTER);
                behind
            }
            _ => {
                let invalid = rest.utf8_chunks().next().map_or(rest, |chunk| chunk.invalid());
                text.push(char::REPLACEMENT_CHARACTER);
                &rest[invalid.len()..]
            }
        };
    }
    text.into()
}

fn error(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(status, "application/json", body);
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(kind));
    response
}

/// Writes the response to GET with the whitespace of the service.
fn description(connection: &Connection) -> String {
    format!(
        "{{\n  \"identity\" : {{\n    \"sourceIp\" : {},\n    \"userAgent\" : {}\n  }},\n  \
         \"connectedAt\" : \"{}\",\n  \"lastActiveAt\" : \"{}\"\n}}",
        json!(connection.peer.ip().to_string()),
        json!(connection.user_agent),
        iso_millis(connection.connected_at),
        iso_millis(connection.last_active_at()),
    )
}

/// Formats a time with exactly three digits of milliseconds.
fn iso_millis(at: Timestamp) -> String {
    const ISO: &[FormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.millis()) * 1_000_000).ok();
    at.and_then(|at| at.format(ISO).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_of_milliseconds() {
        assert_eq!(iso_millis(Timestamp::from_millis(1_605_442_994_700)), "2020-11-15T12:23:14.700Z");
    }

    #[test]
    fn broken_utf8_becomes_a_replacement_character() {
        let table: [(&[u8], &str); 6] = [
            (b"plain \xc5\xbc", "plain \u{17c}"),
            (b"a\xff", "a\u{fffd}"),
            (b"\xff\xfeb", "\u{fffd}\u{fffd}b"),
            (b"a\xed\xa0\x80b", "a\u{fffd}b"),
            (b"\xed\xa0\x80\xed\xbf\xbf", "\u{fffd}\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
        ];
        for (data, expected) in table {
            assert_eq!(text(&Bytes::from_static(data)).as_str(), expected, "{data:x?}");
        }
    }
}
