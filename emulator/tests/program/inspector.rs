//! The inspector: its records, and its actions on connections.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{Scripted, Socket, WAIT_MAX, accept, send};

/// Sends a request with `headers`, each ended by CRLF, and returns the status and body of the response.
async fn ask(address: SocketAddr, request: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let reply = send(address, request, headers, body).await;
    (reply.status, reply.body)
}

/// Acts on a connection as the inspector's page does, and returns the status.
async fn act(site: &Scripted, method: &str, id: &str, action: &str, body: &[u8]) -> u16 {
    let request = format!("{method} /inspector/connections/{}{action}", id.replace('=', "%3D"));
    let host = site.stack.http_addr;
    let headers = format!("Host: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
    ask(host, &request, &headers, body).await.0
}

/// Waits for a record of `kind` and returns all records.
async fn records_until(site: &Scripted, kind: &str) -> Vec<Value> {
    let headers = format!("Host: {}\r\n", site.stack.http_addr);
    let (mut run, mut after, mut records) = (json!(0), json!(0), Vec::new());
    loop {
        let question = format!("GET /inspector/records?run={run}&after={after}");
        let (status, body) = ask(site.stack.http_addr, &question, &headers, b"").await;
        assert_eq!(status, 200, "{body}");
        let mut batch: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(batch["missed"], 0);
        (run, after) = (batch["run"].take(), batch["last"].take());
        records.extend(batch["records"].as_array().expect("records").iter().cloned());
        if records.iter().any(|record| record["kind"] == kind) {
            return records;
        }
    }
}

fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time").expect("open").expect("a frame")
}

/// Starts a site that responds to every message with `echo` and the message. Returns one connection and its id.
async fn connected() -> (Scripted, Socket, String) {
    let site = Scripted::start(&[], |_, event: Value| async move {
        Ok(json!({"statusCode": 200, "body": format!("echo {}", event["body"].as_str().unwrap_or_default())}))
    })
    .await;
    let (socket, _) = site.connect("?k=v", &[("user-agent", "agent")]).await.expect("connected");
    let event = site.event_of("Connect").await;
    let id = event["requestContext"]["connectionId"].as_str().expect("an id").to_owned();
    (site, socket, id)
}

#[tokio::test]
async fn a_connection_is_recorded_from_the_handshake_to_its_end() {
    let (site, mut socket, id) = connected().await;
    socket.send(Message::text("hello")).await.expect("sent");
    assert_eq!(next(&mut socket).await, Message::text("echo hello"));
    let signed = "Host: localhost\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n";
    let (status, _) = ask(site.stack.ws_addr, &format!("POST /dev/@connections/{id}"), signed, b"pushed").await;
    assert_eq!((status, next(&mut socket).await), (200, Message::text("pushed")));
    ask(site.stack.ws_addr, "GET /dev/@connections/undefined", signed, b"").await;
    socket.close(None).await.expect("closed");
    site.event_of("Disconnect").await;

    let records = records_until(&site, "closed").await;
    let numbers: Vec<_> = records.iter().map(|record| record["number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let handshake = of(&records, "handshake")[0];
    assert_eq!((&handshake["status"], &handshake["uri"]), (&json!(101), &json!("/dev?k=v")));
    assert!(handshake["payload"].as_str().is_some_and(|headers| headers.contains(r#"["user-agent","agent"]"#)));
    let (received, sent) = (of(&records, "received"), of(&records, "sent"));
    assert_eq!((&received[0]["payload"], &received[0]["frame"]), (&json!("hello"), &json!("text")));
    assert_eq!(sent.iter().map(|record| &record["payload"]).collect::<Vec<_>>(), ["echo hello", "pushed"]);
    for record in [handshake, received[0], sent[0], sent[1], of(&records, "closed")[0]] {
        assert_eq!(record["connectionId"], json!(id));
    }
    assert_eq!(of(&records, "closed")[0]["code"], 1005);

    let (invoked, answered) = (of(&records, "invoked"), of(&records, "answered"));
    assert_eq!((&invoked[0]["function"], &invoked[1]["function"]), (&json!("Connect"), &json!("Message")));
    let event: Value = serde_json::from_str(invoked[1]["payload"].as_str().expect("an event")).expect("JSON");
    assert_eq!(event, site.event_of("Message").await);
    let answer = answered.iter().find(|answer| answer["invoked"] == invoked[1]["number"]).expect("an answer");
    assert_eq!(answer["payload"], r#"{"statusCode":200,"body":"echo hello"}"#);
    assert_eq!((&answer["requestId"], &answer["error"]), (&invoked[1]["requestId"], &Value::Null));
    assert!(answer["ms"].as_f64().is_some_and(|ms| ms > 0.0));

    let management = of(&records, "management").into_iter();
    let management: Vec<_> =
        management.map(|call| [&call["method"], &call["connectionId"], &call["status"], &call["error"]]).collect();
    assert_eq!(management[0], [&json!("POST"), &json!(id), &json!(200), &Value::Null]);
    assert_eq!(management[1], [&json!("GET"), &json!("undefined"), &json!(400), &json!("BadRequestException")]);
}

#[tokio::test]
async fn refusals_and_failures_are_recorded_too() {
    let site = Scripted::start(&[], |_, event: Value| async move {
        match event["queryStringParameters"]["how"].as_str() {
            Some("throw") => Err("no table"),
            Some("fail") => Ok(json!({"statusCode": 500, "body": "no item"})),
            _ => Ok(json!({"statusCode": 401})),
        }
    })
    .await;
    assert_eq!(site.connect("", &[]).await.err(), Some(401));
    assert_eq!(site.connect("?how=throw", &[]).await.err(), Some(502));
    assert_eq!(site.connect("?how=fail", &[]).await.err(), Some(500));
    assert_eq!(ask(site.stack.ws_addr, "GET /prod", "Host: localhost\r\n", b"").await.0, 403);
    let records = records_until(&site, "handshake").await;
    let statuses: Vec<_> = of(&records, "handshake").iter().map(|record| record["status"].clone()).collect();
    assert_eq!(statuses, [401, 502, 500, 403]);
    assert_eq!(of(&records, "handshake")[3]["connectionId"], Value::Null);
    // What the client is not told stands here.
    let messages: Vec<_> = of(&records, "handshake").iter().map(|record| record["message"].clone()).collect();
    assert_eq!(messages[..2], ["Unauthorized", "Internal server error: Connect: Error: no table"]);
    assert_eq!(messages[2], "Internal Server Error: no item");
    assert_eq!(of(&records, "answered")[1]["error"], "Error: no table");
}

#[tokio::test]
async fn a_message_is_sent_as_the_client_or_to_it_and_the_connection_is_closed() {
    let (site, mut socket, id) = connected().await;
    assert_eq!(act(&site, "POST", &id, "/received", b"as the client").await, 204);
    assert_eq!(next(&mut socket).await, Message::text("echo as the client"));
    let event = site.event_of("Message").await;
    assert_eq!((&event["body"], &event["requestContext"]["connectionId"]), (&json!("as the client"), &json!(id)));
    let records = records_until(&site, "sent").await;
    assert_eq!(of(&records, "received")[0]["resent"], true);

    assert_eq!(act(&site, "POST", &id, "/sent", b"to the client").await, 204);
    assert_eq!(next(&mut socket).await, Message::text("to the client"));

    for action in ["/received", "/sent"] {
        assert_eq!(act(&site, "POST", &id, action, &vec![b'x'; 128 * 1024 + 1]).await, 413);
        assert_eq!(act(&site, "POST", &id, action, b"\xff").await, 400);
        assert_eq!(act(&site, "POST", "Gto47d9-DoECGqg=", action, b"x").await, 410);
    }
    assert_eq!(act(&site, "POST", &id, "/other", b"x").await, 404);

    assert_eq!(act(&site, "DELETE", &id, "", b"").await, 204);
    match next(&mut socket).await {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1000),
        other => panic!("no close frame: {other}"),
    }
    assert_eq!(site.event_of("Disconnect").await["requestContext"]["disconnectStatusCode"], 1000);
    assert_eq!(act(&site, "DELETE", &id, "", b"").await, 410);
    assert_eq!(site.events_of("Message").len(), 1);
}

#[tokio::test]
async fn requests_of_another_site_are_refused() {
    let (site, mut socket, id) = connected().await;
    let host = site.stack.http_addr;
    let own = format!("Host: {host}\r\n");
    for headers in [
        format!("{own}Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n"),
        format!("{own}Sec-Fetch-Site: same-site\r\nOrigin: http://127.0.0.1:3000\r\n"),
        format!("{own}Origin: https://evil.example\r\n"),
        format!("{own}Origin: null\r\n"),
        // A host name of the other site that points here. For the browser it is the same origin.
        format!("Host: evil.example:{0}\r\nOrigin: http://evil.example:{0}\r\n", host.port()),
    ] {
        for action in ["POST", "DELETE"].iter().zip(["/received", ""]) {
            let request = format!("{} /inspector/connections/{id}{}", action.0, action.1);
            assert_eq!(ask(host, &request, &headers, b"x").await.0, 403, "{headers}");
        }
        assert_eq!(ask(host, "GET /inspector/records", &headers, b"").await.0, 403, "{headers}");
    }
    assert_eq!(ask(host, "GET /inspector", &own, b"").await.0, 200);
    // None of it had an effect, and a program that is not a browser may send it.
    assert_eq!(ask(host, &format!("POST /inspector/connections/{id}/sent"), &own, b"first").await.0, 204);
    assert_eq!(next(&mut socket).await, Message::text("first"));
    assert!(site.events_of("Message").is_empty());
}

#[tokio::test]
async fn connections_are_found_by_id_address_and_agent() {
    let (site, _socket, id) = connected().await;
    let _newer = site.connect("", &[("user-agent", "Another 100%")]).await.expect("connected");
    let found = async |search: &str| {
        let request = format!("GET /inspector/connections?search={search}");
        let (_, body) = ask(site.stack.http_addr, &request, "Host: localhost\r\n", b"").await;
        let local: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(local["connected"], 2);
        assert_eq!(local["hasPages"], false);
        let agents = local["connections"].as_array().expect("connections").iter();
        let mut agents: Vec<_> = agents.map(|one| one["userAgent"].as_str().expect("an agent").to_owned()).collect();
        assert_eq!(local["found"], agents.len());
        // Connections of the same millisecond are ordered by id.
        agents.sort();
        agents
    };
    assert_eq!(found("").await, ["Another 100%", "agent"]);
    assert_eq!(found("127.0").await, ["Another 100%", "agent"]);
    assert_eq!(found(&id.replace('=', "%3D")).await, ["agent"]);
    assert_eq!(found("another%20100%25").await, ["Another 100%"]);
    assert!(found("nobody").await.is_empty());
}

#[tokio::test]
async fn a_waiting_request_for_records_does_not_delay_the_end() {
    let site = Scripted::start(&[], accept).await;
    let headers = format!("Host: {}\r\n", site.stack.http_addr);
    let (_, body) = ask(site.stack.http_addr, "GET /inspector/records", &headers, b"").await;
    let run = serde_json::from_str::<Value>(&body).expect("JSON")["run"].clone();
    let question = format!("GET /inspector/records?run={run}&after=0");
    let (http_addr, stack) = (site.stack.http_addr, site.stack);
    let waiting = tokio::spawn(async move { ask(http_addr, &question, &headers, b"").await });
    let stopped = tokio::time::timeout(Duration::from_secs(8), stack.stop());
    stopped.await.expect("before the request has waited for 20 s");
    waiting.abort();
}

#[tokio::test]
async fn a_page_of_another_site_reaches_nothing_that_listens_here() {
    let (site, mut socket, id) = connected().await;
    let lambda = site.stack.aws_variables["AWS_ENDPOINT_URL_LAMBDA"].trim_start_matches("http://").parse();
    let (gateway, lambda) = (site.stack.ws_addr, lambda.expect("an address"));
    // With a signature in the query, a browser would send such a post without a preflight.
    let post = format!("POST /dev/@connections/{id}?X-Amz-Signature=x");
    let invoke = "POST /2015-03-31/functions/Message/invocations";
    for origin in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for (address, request) in
            [(gateway, post.as_str()), (lambda, invoke), (site.stack.http_addr, "GET /inspector/connections")]
        {
            let (status, body) = ask(address, request, &format!("Host: {address}\r\n{origin}"), b"{}").await;
            assert_eq!(status, 403, "{request}: {body}");
        }
    }
    let (status, _) = ask(site.stack.http_addr, "GET /inspector/connections", "Host: evil.example\r\n", b"").await;
    assert_eq!(status, 403, "a host name that somebody could point here");
    assert!(site.events_of("Message").is_empty());
    let (status, _) = ask(gateway, &post, &format!("Host: {gateway}\r\n"), b"first").await;
    assert_eq!((status, next(&mut socket).await), (200, Message::text("first")), "nothing came before it");
}
