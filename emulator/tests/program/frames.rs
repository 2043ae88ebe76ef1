//! Frames that the gateway itself sends, byte for byte.

use std::{path::Path, time::Duration};

use futures_util::{SinkExt, StreamExt};
use local::{Options, Stack};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// Bound of every wait.
const WAIT_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn error_frames_have_the_recorded_form_and_the_socket_stays_open() {
    let any_port = "127.0.0.1:0".parse().expect("an address");
    let options = Options {
        ws_addr: any_port,
        http_addr: any_port,
        template: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/frames.yaml"),
        parameters: Default::default(),
        secrets: Default::default(),
        data_dir: None,
        table_capacity: None,
        hosts: Vec::new(),
        lambda_endpoint: None,
        processes: false,
        time_scale: 1.0,
        gateway: Default::default(),
        faults: Default::default(),
    };
    let stack = Stack::start(&options).await.expect("started");
    // A MOCK integration lets everybody in; there is no stage in the template, which is called prod then.
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
    // A route without a route response answers nothing, whatever its function returns: the next frame is for the next message.
    socket.send(Message::text(r#"{"a":"go","b":"quiet"}"#)).await.expect("sent");
    socket.close(None).await.expect("closed");
    let end = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
    assert!(matches!(end, Some(Ok(Message::Close(_)))), "{end:?}");
    stack.stop().await;
}
