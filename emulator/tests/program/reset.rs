//! `POST /reset`: a fresh start between two tests.

use apigw_local::{FaultOptions, GatewayOptions};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{Scripted, WAIT_MAX, accept, send};

async fn reset(site: &Scripted, headers: &str) -> (u16, Value) {
    let reply = send(site.stack.http_addr, "POST /reset", headers, b"").await;
    (reply.status, serde_json::from_str(&reply.body).unwrap_or_default())
}

/// Calls the table's API.
async fn table(site: &Scripted, operation: &str, body: Value) -> Value {
    call(site, "DYNAMODB", &format!("DynamoDB_20120810.{operation}"), body).await
}

/// Calls an API of AWS.
async fn call(site: &Scripted, service: &str, target: &str, body: Value) -> Value {
    let address = &site.stack.aws_variables[&format!("AWS_ENDPOINT_URL_{service}")];
    let address = address.trim_start_matches("http://").to_owned();
    let headers = format!(
        "Host: {address}\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=0\r\nX-Amz-Target: {target}\r\n"
    );
    let reply = send(address.parse().expect("an address"), "POST /", &headers, body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

#[tokio::test]
async fn connections_end_their_disconnect_runs_and_tables_are_empty() {
    let (gateway, faults) = (GatewayOptions::default(), FaultOptions::default());
    let site = Scripted::with("reset.yaml", &[], gateway, faults, accept).await;
    let host = format!("Host: {}\r\n", site.stack.http_addr);
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    table(&site, "PutItem", json!({"TableName": "things", "Item": {"id": {"S": "a"}}})).await;
    assert_eq!(reset(&site, &host).await, (200, json!({"connections": 1, "tables": 2})));
    match tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time") {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1000),
        other => panic!("no close frame: {other:?}"),
    }
    assert_eq!(site.events_of("Disconnect").len(), 1, "it has run when the answer comes");
    assert_eq!(table(&site, "Scan", json!({"TableName": "things"})).await["Count"], 0);
    // It goes on as new.
    table(&site, "PutItem", json!({"TableName": "things", "Item": {"id": {"S": "b"}}})).await;
    let (_open, _) = site.connect("", &[]).await.expect("connected");
    assert_eq!(reset(&site, &host).await.1["connections"], 1);
}

#[tokio::test]
async fn what_was_to_be_repeated_is_forgotten_and_does_not_hold_up_what_comes() {
    let script = |name: String, event: Value| async move {
        let key = &event["Records"][0]["dynamodb"]["Keys"]["id"]["N"];
        if name == "Changed" && key == "1" { Err("it always fails") } else { Ok(json!({"statusCode": 200})) }
    };
    let (gateway, faults) = (GatewayOptions::default(), FaultOptions::default());
    let site = Scripted::with("reset.yaml", &[], gateway, faults, script).await;
    let host = format!("Host: {}\r\n", site.stack.http_addr);
    let put = async |id: &str| {
        table(&site, "PutItem", json!({"TableName": "numbers", "Item": {"id": {"N": id}}})).await;
    };
    let send = async || {
        let url = format!("{}/000000000000/ordered.fifo", site.stack.aws_variables["AWS_ENDPOINT_URL_SQS"]);
        let message = json!({"QueueUrl": url, "MessageBody": "same", "MessageGroupId": "g"});
        call(&site, "SQS", "AmazonSQS.SendMessage", message).await;
        call(&site, "SQS", "AmazonSQS.ReceiveMessage", json!({"QueueUrl": url})).await["Messages"][0]["Body"].take()
    };
    // The key is that of the item, whatever its spelling in the request.
    put("1.0").await;
    let failed = site.event_of("Changed").await;
    assert_eq!(failed["Records"][0]["dynamodb"]["Keys"], json!({"id": {"N": "1"}}));
    assert_eq!(send().await, "same");
    assert_eq!(reset(&site, &host).await.0, 200);

    assert_eq!(send().await, "same", "it is not a repetition");
    put("2").await;
    let keys = |event: &Value| event["Records"][0]["dynamodb"]["Keys"]["id"]["N"].clone();
    let arrived = async {
        while !site.events_of("Changed").iter().any(|event| keys(event) == "2") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, arrived).await.expect("behind nothing");
}

#[tokio::test]
async fn resets_at_the_same_time_take_turns() {
    let (gateway, faults) = (GatewayOptions::default(), FaultOptions::default());
    let site = Scripted::with("reset.yaml", &[], gateway, faults, accept).await;
    let host = format!("Host: {}\r\n", site.stack.http_addr);
    let all = futures_util::future::join_all((0..20).map(|_| reset(&site, &host))).await;
    assert!(all.iter().all(|(status, _)| *status == 200), "{all:?}");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_ask_for_it() {
    let site = Scripted::start(&[], accept).await;
    let headers = format!("Host: {}\r\nOrigin: https://example.com\r\n", site.stack.http_addr);
    assert_eq!(reset(&site, &headers).await.0, 403);
}
