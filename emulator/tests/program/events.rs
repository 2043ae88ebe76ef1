//! Events of functions: what is in them, and when they arrive.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::scripted::{Scripted, UPGRADE, WAIT_MAX, accept, next};

/// Calls the management API and returns the status.
async fn call(site: &Scripted, method: &str, id: &str, body: &str) -> u16 {
    site.manage(method, id, body).await.status
}

fn id_of(event: &Value) -> String {
    event["requestContext"]["connectionId"].as_str().expect("an id").to_owned()
}

/// Starts a site whose `$connect` returns once for every permit that is added.
async fn held_at_connect() -> (Scripted, Arc<Semaphore>) {
    let returned = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&returned);
    let site = Scripted::start(&[], move |name, _| {
        let gate = Arc::clone(&gate);
        async move {
            if name == "Connect" {
                gate.acquire().await.expect("open").forget();
            }
            Ok(json!({"statusCode": 200}))
        }
    })
    .await;
    (site, returned)
}

#[tokio::test]
async fn behind_a_proxy_that_keeps_the_host_the_domain_name_is_the_gateway_s_address() {
    let site = Scripted::start(&[], accept).await;
    let (_socket, _) = site.connect("", &[("host", "localhost:5173")]).await.expect("connected");
    let event = site.event_of("Connect").await;
    assert_eq!(event["requestContext"]["domainName"], json!(site.stack.ws_addr.to_string()));
    assert_eq!(event["headers"]["Host"], "localhost:5173", "what the client sent stays");
}

#[tokio::test]
async fn nothing_reaches_a_connection_before_connect_has_returned() {
    let (site, returned) = held_at_connect().await;
    let (connected, ()) = tokio::join!(site.connect("", &[]), async {
        let id = id_of(&site.event_of("Connect").await);
        assert_eq!(call(&site, "POST", &id, "too early").await, 410);
        assert_eq!(site.stack.connected(), 0);
        returned.add_permits(1);
    });
    let (mut socket, _) = connected.expect("connected");
    let id = id_of(&site.event_of("Connect").await);
    assert_eq!(call(&site, "POST", &id, "in time").await, 200);
    assert_eq!(next(&mut socket).await, "in time");
}

#[tokio::test]
async fn a_client_that_hangs_up_during_connect_is_disconnected_after_it() {
    let (site, returned) = held_at_connect().await;
    let mut socket = TcpStream::connect(site.stack.ws_addr).await.expect("connected");
    let request = format!("GET /dev HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n{UPGRADE}\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let id = id_of(&site.event_of("Connect").await);
    drop(socket);
    returned.add_permits(1);
    assert_eq!(id_of(&site.event_of("Disconnect").await), id);
}

#[tokio::test]
async fn the_event_of_disconnect_has_the_close_status_and_reason() {
    let check = |end: &'static str, code: u16, reason: &'static str| async move {
        let site = Scripted::start(&[], accept).await;
        let (mut socket, _) = site.connect("", &[]).await.expect("connected");
        let id = id_of(&site.event_of("Connect").await);
        match end {
            "no status" => socket.close(None).await.expect("sent"),
            "a status" => {
                let frame = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
                socket.close(Some(frame)).await.expect("sent");
            }
            "deleted" => assert_eq!(call(&site, "DELETE", &id, "").await, 204),
            "binary" => socket.send(Message::binary("x")).await.expect("sent"),
            _ => drop(socket),
        }
        let event = site.event_of("Disconnect").await;
        let context = &event["requestContext"];
        assert_eq!(
            (&context["disconnectStatusCode"], &context["disconnectReason"]),
            (&json!(code), &json!(reason)),
            "{end}"
        );
        assert_eq!(id_of(&event), id);
    };
    check("no status", 1005, "Client-side close frame status not set").await;
    check("a status", 1001, "bye").await;
    check("deleted", 1000, "Connection Closed Normally").await;
    check("binary", 1003, "Binary is not supported").await;
    check("vanished", 1006, "").await;
}

#[tokio::test]
async fn a_slow_integration_is_answered_with_a_frame_and_a_two_way_route_with_its_body() {
    let script = |name: String, event: Value| async move {
        if name == "Message" && event["body"] == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(json!({"statusCode": 200, "body": format!("echo {}", event["body"].as_str().unwrap_or_default())}))
    };
    let site = Scripted::start(&[], script).await;
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    socket.send(Message::text("slow")).await.expect("sent");
    // The integration has 300 ms. It delays no other message, as in the service.
    socket.send(Message::text("quick")).await.expect("sent");
    assert_eq!(next(&mut socket).await, "echo quick");
    let frame = next(&mut socket).await;
    assert!(frame.starts_with(r#"{"message": "Endpoint request timed out", "connectionId":""#), "{frame}");
    assert!(frame.contains(r#"", "requestId":""#) && frame.ends_with(r#""}"#), "{frame}");
    socket.send(Message::text("still open")).await.expect("sent");
    assert_eq!(next(&mut socket).await, "echo still open");
}

#[tokio::test]
async fn a_fragmented_message_arrives_whole_and_a_ping_frame_is_answered_and_reaches_no_function() {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    let script = |_: String, event: Value| async move { Ok(json!({"statusCode": 200, "body": event["body"]})) };
    let site = Scripted::start(&[], script).await;
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    socket.send(Message::Ping("p".into())).await.expect("sent");
    let pong = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time").expect("open").expect("a frame");
    assert_eq!(pong, Message::Pong("p".into()));
    let part = |text: &'static str, code, last| Message::Frame(Frame::message(text, OpCode::Data(code), last));
    for frame in
        [part("one ", Data::Text, false), part("two ", Data::Continue, false), part("three", Data::Continue, true)]
    {
        socket.send(frame).await.expect("sent");
    }
    assert_eq!(next(&mut socket).await, "one two three");
    assert_eq!(site.events_of("Message").len(), 1);
}

#[tokio::test]
async fn headers_of_the_handshake_keep_their_case() {
    let site = Scripted::start(&[], accept).await;
    let mut socket = TcpStream::connect(site.stack.ws_addr).await.expect("connected");
    let request = "GET /dev HTTP/1.1\r\nhost: localhost\r\nConnection: Upgrade\r\nUPGRADE: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nsec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nx-Region: PL\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("sent");
    let event = site.event_of("Connect").await;
    let names: Vec<&String> = event["headers"].as_object().expect("headers").keys().collect();
    let added = ["X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"];
    let written = ["host", "Sec-WebSocket-Version", "sec-websocket-KEY", "x-Region"];
    assert_eq!(names, written.iter().chain(&added).collect::<Vec<_>>());
    assert_eq!(event["headers"]["x-Region"], "PL");
}
