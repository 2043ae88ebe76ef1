//! The events that functions receive, in the form that was recorded from the real service: what is not there is
//! absent, not null. They are written as JSON by hand and never with the types that handlers parse, so that a
//! difference between the two is seen.

use serde_json::{Map, Value, json};
use shared::clock::Timestamp;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use super::{
    Gateway,
    connections::{Closing, Connection},
    ids,
};
use crate::template::URL_SUFFIX;

/// Headers of the handshake, in order, and the parameters of its query.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshake {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
}

/// An event with the id of the request that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) body: Value,
}

/// `$connect`.
pub(super) fn connect(gateway: &Gateway, connection: &Connection, handshake: &Handshake) -> Event {
    let mut event = Map::new();
    insert_both_forms(&mut event, "headers", "multiValueHeaders", &handshake.headers);
    if !handshake.query.is_empty() {
        insert_both_forms(&mut event, "queryStringParameters", "multiValueQueryStringParameters", &handshake.query);
    }
    finish(gateway, connection, "$connect", "CONNECT", event, Map::new())
}

/// A message on `route_key`, which is `$default` where that was the fallback.
pub(super) fn message(gateway: &Gateway, connection: &Connection, route_key: &str, body: &str) -> Event {
    let message_id = ids::new(ids::Kind::Connection, gateway.clock.now());
    let context = Map::from_iter([("messageId".to_owned(), json!(message_id))]);
    let mut event = finish(gateway, connection, route_key, "MESSAGE", Map::new(), context);
    if let Value::Object(fields) = &mut event.body {
        let encoded = fields.remove("isBase64Encoded");
        fields.insert("body".to_owned(), json!(body));
        fields.extend(encoded.map(|encoded| ("isBase64Encoded".to_owned(), encoded)));
    }
    event
}

/// `$disconnect`, with the status and reason of the close frame.
pub(super) fn disconnect(gateway: &Gateway, connection: &Connection, code: u16, reason: &str) -> Event {
    let mut event = Map::new();
    let headers = [("Host", connection.host.as_str()), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    insert_both_forms(&mut event, "headers", "multiValueHeaders", &headers);
    let context = Map::from_iter([
        ("disconnectStatusCode".to_owned(), json!(code)),
        ("disconnectReason".to_owned(), json!(reason)),
    ]);
    finish(gateway, connection, "$disconnect", "DISCONNECT", event, context)
}

impl From<Closing> for (u16, String) {
    fn from(closing: Closing) -> Self {
        (closing.code.into(), closing.reason.to_owned())
    }
}

fn finish(
    gateway: &Gateway,
    connection: &Connection,
    route_key: &str,
    event_type: &str,
    mut event: Map<String, Value>,
    extra_context: Map<String, Value>,
) -> Event {
    let now = gateway.clock.now();
    let request_id = ids::new(ids::Kind::Request, now);
    let mut identity = Map::new();
    if let Some(user_agent) = &connection.user_agent {
        identity.insert("userAgent".to_owned(), json!(user_agent));
    }
    identity.insert("sourceIp".to_owned(), json!(connection.peer.ip().to_string()));
    let mut context = Map::new();
    context.insert("routeKey".to_owned(), json!(route_key));
    context.extend(extra_context);
    let rest = json!({
        "eventType": event_type,
        "extendedRequestId": request_id,
        "requestTime": clf_time(now),
        "messageDirection": "IN",
        "stage": gateway.api.stage,
        "connectedAt": connection.connected_at.millis(),
        "requestTimeEpoch": now.millis(),
        "identity": identity,
        "requestId": request_id,
        "domainName": domain_name(&connection.host, &gateway.api.api_id),
        "connectionId": connection.id,
        "apiId": gateway.api.api_id,
    });
    if let Value::Object(rest) = rest {
        context.extend(rest);
    }
    event.insert("requestContext".to_owned(), Value::Object(context));
    event.insert("isBase64Encoded".to_owned(), json!(false));
    Event { request_id, body: Value::Object(event) }
}

/// The host that the client named, as behind a custom domain; the API's own where it named none.
fn domain_name(host: &str, api_id: &str) -> String {
    if host.is_empty() {
        format!("{api_id}.execute-api.{}.{URL_SUFFIX}", crate::template::REGION)
    } else {
        host.to_owned()
    }
}

/// One value per name (the last one counts) and all values per name.
fn insert_both_forms(event: &mut Map<String, Value>, single: &str, multiple: &str, pairs: &[(String, String)]) {
    let mut last = Map::new();
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        last.insert(name.clone(), json!(value));
        match all.get_mut(name) {
            Some(Value::Array(values)) => values.push(json!(value)),
            _ => {
                all.insert(name.clone(), json!([value]));
            }
        }
    }
    event.insert(single.to_owned(), Value::Object(last));
    event.insert(multiple.to_owned(), Value::Object(all));
}

/// Common log format, such as `19/Feb/2024:07:11:42 +0000`.
fn clf_time(at: Timestamp) -> String {
    const CLF: &[FormatItem<'_>] =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    OffsetDateTime::from_unix_timestamp(at.secs()).ok().and_then(|at| at.format(CLF).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_recorded() {
        assert_eq!(clf_time(Timestamp::from_millis(1_708_326_702_790)), "19/Feb/2024:07:11:42 +0000");
    }
}
