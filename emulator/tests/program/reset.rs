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
    let address = site.stack.aws_variables["AWS_ENDPOINT_URL_DYNAMODB"].trim_start_matches("http://").to_owned();
    let headers = format!(
        "Host: {address}\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Date: 20260101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=0\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n"
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
    assert_eq!(reset(&site, &host).await, (200, json!({"connections": 1, "tables": 1})));
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
async fn pages_of_other_sites_cannot_ask_for_it() {
    let site = Scripted::start(&[], accept).await;
    let headers = format!("Host: {}\r\nOrigin: https://example.com\r\n", site.stack.http_addr);
    assert_eq!(reset(&site, &headers).await.0, 403);
}
