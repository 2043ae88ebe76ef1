//! The events that functions receive, as recorded from the service: a missing value is absent, not null. They are JSON
//! written by hand, not with the types that handlers parse, so that tests see a difference between the two.

use std::net::SocketAddr;

use clock::Timestamp;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

use super::{
    api::Gateway,
    connections::{CloseReason, Connection},
    ids,
};
use crate::{
    aws::{API_HOST, REGION, URL_SUFFIX, arn},
    http::{host_and_port, is_of_containers},
};

/// Headers and query parameters of a handshake, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshake {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
}

/// An event with the id of its request.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) body: Value,
}

/// Makes the event of `$connect`.
pub(super) fn connect(gateway: &Gateway, connection: &Connection, handshake: &Handshake) -> Event {
    let mut event = Map::new();
    insert_both_forms(&mut event, "headers", "multiValueHeaders", &handshake.headers);
    if !handshake.query.is_empty() {
        insert_both_forms(&mut event, "queryStringParameters", "multiValueQueryStringParameters", &handshake.query);
    }
    let mut event = finish(gateway, connection, "$connect", "CONNECT", event, Map::new());
    if let (Some(authorizer), Some(Value::Object(context))) =
        (connection.authorizer.get(), event.body.pointer_mut("/requestContext/authorizer"))
    {
        context.insert("integrationLatency".to_owned(), json!(authorizer.latency_ms));
    }
    event
}

/// Makes the event of a Lambda authorizer. Unlike that of `$connect`, it has the headers of the upgrade.
pub(super) fn authorize(gateway: &Gateway, connection: &Connection, handshake: &Handshake) -> Event {
    let mut headers = handshake.headers.clone();
    headers.extend(
        [("Connection", "upgrade"), ("content-length", "0"), ("Upgrade", "websocket")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let mut event =
        Map::from_iter([("type".to_owned(), json!("REQUEST")), ("methodArn".to_owned(), json!(method_arn(gateway)))]);
    insert_both_forms(&mut event, "headers", "multiValueHeaders", &headers);
    insert_both_forms(&mut event, "queryStringParameters", "multiValueQueryStringParameters", &handshake.query);
    event.insert("stageVariables".to_owned(), json!(gateway.api.stage_variables));
    let mut event = finish(gateway, connection, "$connect", "CONNECT", event, Map::new());
    if let Value::Object(fields) = &mut event.body {
        fields.remove("isBase64Encoded");
    }
    event
}

/// Returns the resource that a policy for `$connect` names.
pub(super) fn method_arn(gateway: &Gateway) -> String {
    arn("execute-api", &format!("{}/{}/$connect", gateway.api.api_id, gateway.api.stage))
}

/// Makes the event of a message on `route_key`, which may be `$default`.
pub(super) fn message(gateway: &Gateway, connection: &Connection, route_key: &str, body: &str) -> Event {
    let message_id = ids::new(ids::IdKind::Connection, gateway.clock.now());
    let context = Map::from_iter([("messageId".to_owned(), json!(message_id))]);
    let mut event = finish(gateway, connection, route_key, "MESSAGE", Map::new(), context);
    if let Value::Object(fields) = &mut event.body {
        let encoded = fields.remove("isBase64Encoded");
        fields.insert("body".to_owned(), json!(body));
        fields.extend(encoded.map(|encoded| ("isBase64Encoded".to_owned(), encoded)));
    }
    event
}

/// Makes the event of `$disconnect`, with the status and reason of the close frame.
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

impl From<CloseReason> for (u16, String) {
    fn from(closing: CloseReason) -> Self {
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
    let request_id = ids::new(ids::IdKind::Request, now);
    let mut identity = Map::new();
    if let Some(user_agent) = &connection.user_agent {
        identity.insert("userAgent".to_owned(), json!(user_agent));
    }
    identity.insert("sourceIp".to_owned(), json!(connection.peer.ip().to_string()));
    let mut context = Map::new();
    context.insert("routeKey".to_owned(), json!(route_key));
    if let Some(authorizer) = connection.authorizer.get() {
        context.insert("authorizer".to_owned(), Value::Object(authorizer.values.clone()));
    }
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
        "domainName": domain_name(&connection.host, &gateway.api.api_id, gateway.address),
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

/// Returns the host that the client named if it leads here, or the API's own host if it named none. Behind a proxy that
/// keeps the name, such as a development server's, that name leads to the proxy, so it is the gateway's address.
fn domain_name(host: &str, api_id: &str, own: SocketAddr) -> String {
    if host.is_empty() {
        return format!("{api_id}{API_HOST}{REGION}.{URL_SUFFIX}");
    }
    // The loaders of functions lead these here.
    let is_in_cloud = host.contains(API_HOST);
    let (name, port) = host_and_port(host);
    // The functions run on this machine, which containers know by a name of their own.
    if is_in_cloud || (port == Some(own.port()) && !is_of_containers(&name)) {
        host.to_owned()
    } else {
        own.to_string()
    }
}

/// Inserts the last value of each name, and all values of each name.
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

/// Formats a time in the common log format, such as `19/Feb/2024:07:11:42 +0000`.
pub(crate) fn clf_time(at: Timestamp) -> String {
    const CLF: &[FormatItem<'_>] =
        format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    OffsetDateTime::from_unix_timestamp(at.secs()).ok().and_then(|at| at.format(CLF).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use clock::Clock;

    use super::*;
    use crate::{
        gateway::{GatewayOptions, GatewaySettings, outbound},
        lambda::Functions,
        recorder::Recorder,
        template::{Template, TemplateInputs},
    };

    // Events recorded from the service, with other ids and addresses.
    const CONNECT: &str = include_str!("recorded/connect.json");
    const MESSAGE: &str = include_str!("recorded/message.json");
    const DISCONNECT: &str = include_str!("recorded/disconnect.json");

    async fn parts() -> (Arc<Gateway>, Connection) {
        let template = Template::parse(include_str!("../../tests/program/fuzzed.yaml"), &TemplateInputs::default());
        let template = template.expect("valid");
        let functions = Functions::unreachable(&BTreeMap::new());
        let now = 1_708_326_702_789;
        let clock = Clock::Manual(Arc::new(now.into()));
        let recorder = Recorder::new(clock.clone());
        let settings =
            GatewaySettings::new(&GatewayOptions::default(), 1.0, Arc::default(), Arc::default(), Arc::default());
        let address = ([127, 0, 0, 1], 8765).into();
        let gateway = Gateway::new(template.sockets, address, functions, None, clock, settings, recorder);
        let connection = Connection::new(
            "Gto47d9-DoECGqg=".to_owned(),
            Timestamp::from_millis(now),
            "127.0.0.1:9".parse().expect("an address"),
            Some("agent".to_owned()),
            "abc123defg.execute-api.us-east-1.amazonaws.com".to_owned(),
            outbound(&Arc::default()).0,
        );
        (gateway, connection)
    }

    /// Compares an event with a recorded one, except the ids, which are new each time.
    fn check(gateway: &Gateway, event: &Event, recorded: &str) {
        let mut recorded: Value = serde_json::from_str(recorded).expect("JSON");
        let context = &mut recorded["requestContext"];
        context["requestId"] = json!(event.request_id);
        context["extendedRequestId"] = json!(event.request_id);
        context["apiId"] = json!(gateway.api.api_id);
        if let Some(message_id) = event.body["requestContext"].get("messageId") {
            assert_eq!(message_id.as_str().map(str::len), Some(16));
            context["messageId"] = message_id.clone();
        }
        assert_eq!(event.body, recorded);
        let keys =
            |value: &Value| value["requestContext"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&event.body), keys(&recorded));
    }

    #[tokio::test]
    async fn events_are_those_that_were_recorded() {
        let (gateway, connection) = parts().await;
        let recorded: Value = serde_json::from_str(CONNECT).expect("JSON");
        let headers = recorded["headers"].as_object().expect("an object");
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()));
        let handshake = Handshake { headers: headers.collect(), query: vec![("k".to_owned(), "v".to_owned())] };
        check(&gateway, &connect(&gateway, &connection, &handshake), CONNECT);
        check(&gateway, &message(&gateway, &connection, "$default", r#"{"a": 1}"#), MESSAGE);
        check(&gateway, &disconnect(&gateway, &connection, 1001, "Going away"), DISCONNECT);
    }

    #[test]
    fn the_domain_name_leads_here_also_behind_a_proxy_that_keeps_the_host() {
        let own = "127.0.0.1:8765".parse().expect("an address");
        for (host, expected) in [
            ("", "abcdefghij.execute-api.eu-central-1.amazonaws.com"),
            ("abcdefghij.execute-api.eu-central-1.amazonaws.com", "abcdefghij.execute-api.eu-central-1.amazonaws.com"),
            ("localhost:8765", "localhost:8765"),
            ("[::1]:8765", "[::1]:8765"),
            ("localhost:5173", "127.0.0.1:8765"),
            ("host.docker.internal:8765", "127.0.0.1:8765"),
            ("chat.example.com", "127.0.0.1:8765"),
        ] {
            assert_eq!(domain_name(host, "abcdefghij", own), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_absent_and_repeated_parameters_are_kept() {
        let (gateway, connection) = parts().await;
        let event = connect(&gateway, &connection, &Handshake::default()).body;
        assert!(event.get("queryStringParameters").is_none() && event.get("body").is_none(), "{event}");
        let query = [("k", "1"), ("k", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let event = connect(&gateway, &connection, &Handshake { headers: Vec::new(), query: query.into() }).body;
        assert_eq!(event["queryStringParameters"], json!({"k": "2"}));
        assert_eq!(event["multiValueQueryStringParameters"], json!({"k": ["1", "2"]}));
    }
}
