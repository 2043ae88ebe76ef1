//! Frames that the gateway itself sends, byte for byte.

use apigw_local::{FaultOptions, GatewayOptions};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::scripted::{Scripted, WAIT_MAX};

#[tokio::test]
async fn error_frames_have_the_recorded_form_and_the_socket_stays_open() {
    let script =
        |name: String, _| async move { if name == "Failing" { Err("it broke") } else { Ok(json!({"done": 1})) } };
    let site = Scripted::with("frames.yaml", &[], GatewayOptions::default(), FaultOptions::default(), script).await;
    let stack = &site.stack;
    // $connect is a MOCK integration that accepts every client. The template has no stage, so it is called prod.
    let (mut socket, _) = connect_async(format!("ws://{}/prod", stack.ws_addr)).await.expect("connected");
    let cases = [
        ("not JSON", "Forbidden"),
        (r#"{"a":"go"}"#, "Forbidden"),
        (r#"{"a":"go","b":"fail"}"#, "Internal server error"),
    ];
    for (message, expected) in cases {
        socket.send(Message::text(message)).await.expect("sent");
        let frame =
            tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time").expect("open").expect("a frame");
        let frame = frame.to_text().expect("a text").to_owned();
        let ids: serde_json::Value = serde_json::from_str(&frame).expect("JSON");
        let id = |name: &str| ids[name].as_str().expect("an id").to_owned();
        let (connection, request) = (id("connectionId"), id("requestId"));
        assert_eq!((connection.len(), request.len()), (16, 16));
        let recorded =
            format!(r#"{{"message": "{expected}", "connectionId":"{connection}", "requestId":"{request}"}}"#);
        assert_eq!(frame, recorded, "{message}");
    }
    // A route without a route response sends nothing: the next frame belongs to the next message.
    socket.send(Message::text(r#"{"a":"go","b":"quiet"}"#)).await.expect("sent");
    socket.close(None).await.expect("closed");
    let end = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
    assert!(matches!(end, Some(Ok(Message::Close(_)))), "{end:?}");
    site.stack.stop().await;
}
