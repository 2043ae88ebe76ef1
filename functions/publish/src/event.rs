//! The three ways in which a publication arrives.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use shared::{
    error::{Code, Refusal},
    publication::{IdempotencyKey, Publication},
};

/// Headers that may carry the idempotency key, the first that is there counts. HTTP APIs lower-case header names.
const KEY_HEADERS: [&str; 2] = ["idempotency-key", "webhook-id"];

/// The header that carries it where requests are signed: the others are not part of what is signed.
const SIGNED_KEY_HEADERS: [&str; 1] = ["webhook-id"];

/// The route whose requests are signed as webhooks, as the service names it.
const WEBHOOK_ROUTE: &str = "POST /webhook";

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// An HTTP client, through the HTTP API.
    Http,
    /// EventBridge, or whoever invoked the function.
    Invocation,
}

/// Reads an event of any of the three kinds.
pub(crate) fn parse(event: Value) -> (Caller, Result<Publication, Refusal>) {
    if event.pointer("/requestContext/http").is_some() {
        return (Caller::Http, http(&event));
    }
    let publication = match event {
        Value::Object(mut fields) if fields.contains_key("detail-type") => eventbridge(&mut fields),
        Value::Object(fields) => Publication::from_fields(fields),
        _ => Err(Refusal::new(Code::NotAnObject, "the event must be an object")),
    };
    (Caller::Invocation, publication)
}

/// Whether an event is a request that has to be signed.
pub(crate) fn is_webhook(event: &Value) -> bool {
    event.pointer("/requestContext/routeKey").is_some_and(|route| route == WEBHOOK_ROUTE)
}

/// The body of a request, as it was sent.
pub(crate) fn body(event: &Value) -> Result<Cow<'_, [u8]>, Refusal> {
    let text = event.get("body").and_then(Value::as_str).unwrap_or_default();
    if !event.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default() {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    BASE64_STANDARD.decode(text).map(Cow::Owned).map_err(|error| {
        Refusal::new(Code::BadJson, format!("the body is not the base64 that the event says: {error}"))
    })
}

fn http(event: &Value) -> Result<Publication, Refusal> {
    let mut publication = Publication::from_bytes(&body(event)?)?;
    let header = |name: &&'static str| Some((*name, event.get("headers")?.get(*name)?.as_str()?));
    let names = if is_webhook(event) { &SIGNED_KEY_HEADERS[..] } else { &KEY_HEADERS[..] };
    if let Some((name, key)) = names.iter().find_map(header) {
        publication.idempotency_key = Some(IdempotencyKey::parse(key, name)?);
    }
    Ok(publication)
}

fn eventbridge(event: &mut Map<String, Value>) -> Result<Publication, Refusal> {
    let Some(Value::Object(detail)) = event.remove("detail") else {
        return Err(Refusal::of_field(Code::InvalidField, "detail", "detail must be an object"));
    };
    let mut publication = Publication::from_fields(detail)?;
    // The id of the event itself names a call of PutEvents: a source that repeats a call says so in the detail.
    if publication.idempotency_key.is_none()
        && let Some(id) = event.get("id").and_then(Value::as_str)
    {
        publication.idempotency_key = Some(IdempotencyKey::parse(id, "id")?);
    }
    Ok(publication)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert() -> Value {
        json!({"region": "pl", "id": "from-body", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 90}})
    }

    fn key(event: Value) -> (Caller, Option<String>) {
        let (caller, publication) = parse(event);
        (caller, publication.expect("valid").idempotency_key.map(|key| key.as_str().to_owned()))
    }

    fn http_event(headers: Value, body: &str, base64: bool) -> Value {
        json!({"version": "2.0", "headers": headers, "requestContext": {"http": {"method": "POST"}}, "body": body, "isBase64Encoded": base64})
    }

    #[test]
    fn the_idempotency_key_comes_from_the_first_place_that_has_one() {
        let body = alert().to_string();
        let from = |headers| key(http_event(headers, &body, false)).1.expect("a key");
        assert_eq!(from(json!({"idempotency-key": "a", "webhook-id": "b"})), "a");
        assert_eq!(from(json!({"webhook-id": "b"})), "b");
        assert_eq!(from(json!({})), "from-body");
        let event =
            |detail| json!({"version": "0", "id": "event-1", "detail-type": "v", "source": "s", "detail": detail});
        assert_eq!(key(event(alert())), (Caller::Invocation, Some("from-body".to_owned())));
        let mut unnamed = alert();
        unnamed.as_object_mut().expect("an object").remove("id");
        assert_eq!(key(event(unnamed)), (Caller::Invocation, Some("event-1".to_owned())));
        assert_eq!(key(alert()), (Caller::Invocation, Some("from-body".to_owned())));
    }

    #[test]
    fn of_a_signed_request_only_a_signed_header_is_the_key() {
        let mut event = http_event(json!({"idempotency-key": "a", "webhook-id": "b"}), &alert().to_string(), false);
        event["requestContext"]["routeKey"] = json!("POST /webhook");
        assert!(is_webhook(&event));
        assert_eq!(key(event).1.as_deref(), Some("b"));
    }

    #[test]
    fn a_body_in_base64_is_decoded() {
        let encoded = BASE64_STANDARD.encode(alert().to_string());
        assert_eq!(key(http_event(json!({}), &encoded, true)).0, Caller::Http);
    }

    #[test]
    fn bad_events_are_refused() {
        let code = |event| parse(event).1.expect_err("bad").code;
        assert_eq!(code(json!([])), Code::NotAnObject);
        assert_eq!(code(json!({"detail-type": "x"})), Code::InvalidField);
        assert_eq!(code(http_event(json!({}), "%", true)), Code::BadJson);
        assert_eq!(code(http_event(json!({}), "\u{fffd}", false)), Code::BadJson);
        assert_eq!(code(http_event(json!({"webhook-id": ""}), &alert().to_string(), false)), Code::InvalidField);
        assert_eq!(code(json!({"requestContext": {"http": {}}})), Code::BadJson);
    }
}
