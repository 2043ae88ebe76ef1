//! The functions of a connection, whose requests to DynamoDB take effect in any order.

use apigw_local::Tables;
use clock::Clock;
use serde_json::json;
use shared::runtime::function::{Function, Invocation};
use simulation::{Delays, Engine, engine::template, environment, start};
use tokio::time::{Duration, Instant};

fn invocation() -> Invocation {
    Invocation { request_id: "request".to_owned(), deadline: Instant::now() + Duration::from_secs(29) }
}

fn event(kind: &str, body: Option<&str>) -> aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest {
    let event = json!({
        "requestContext": {
            "connectionId": "eHrdFcnvvHcCE-w=", "eventType": kind, "connectedAt": 1_700_000_000_000_i64,
            "requestTimeEpoch": 1_700_000_000_500_i64, "identity": {"sourceIp": "192.0.2.1"},
        },
        "body": body,
        "isBase64Encoded": false,
    });
    serde_json::from_value(event).expect("an event")
}

#[tokio::test(start_paused = true)]
async fn a_connection_opens_subscribes_and_closes_in_virtual_time() {
    let tables = Tables::of_template(&template()).expect("the template");
    let world = Delays::new(Engine::new(&tables), 1, 1..20);
    let clock = Clock::System;
    let connect: connect::Connect = start(&world, "connect", &clock, environment(&[]));
    let subscribe: subscribe::Subscribe = start(&world, "subscribe", &clock, environment(&[]));
    let disconnect: disconnect::Disconnect = start(&world, "disconnect", &clock, environment(&[]));
    connect.handle(event("CONNECT", None), invocation()).await.expect("connected");
    let message = r#"{"type":"subscribe_region","regions":["PL","DE"]}"#;
    subscribe.handle(event("MESSAGE", Some(message)), invocation()).await.expect("subscribed");
    let audiences = |world: &Delays| {
        let items = world.engine().items("SubscriptionsTable");
        items.iter().map(|item| item["audience"]["S"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for audience in ["@everyone", "PL", "DE"] {
        assert!(audiences(&world).iter().any(|found| found == audience), "{audience}");
    }
    disconnect.handle(event("DISCONNECT", None), invocation()).await.expect("disconnected");
    assert!(audiences(&world).iter().all(|found| found.starts_with("@connection#")), "{:?}", audiences(&world));
}
