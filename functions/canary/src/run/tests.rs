//! Runs in virtual time, against a gateway at the other end of a pipe.

use std::{
    future::{pending, ready},
    io,
};

use shared::error::ErrorChain;
use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, frame::coding::CloseCode};

use super::*;

type Gateway = WebSocketStream<DuplexStream>;

/// Both ends of a socket: the canary's, and the gateway's.
async fn sockets() -> (WebSocketStream<DuplexStream>, Gateway) {
    let (near, far) = duplex(64 * 1024);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    (near, WebSocketStream::from_raw_socket(far, Role::Server, None).await)
}

async fn say(gateway: &mut Gateway, frame: Value) {
    gateway.send(Message::text(frame.to_string())).await.expect("an open socket");
}

async fn heard(gateway: &mut Gateway) -> Value {
    let message = gateway.next().await.expect("a frame").expect("an open socket");
    serde_json::from_str(message.to_text().expect("a text")).expect("JSON")
}

fn alert(region: &str, id: &str) -> Value {
    let video = json!({"id": id, "title": "Canary"});
    json!({"type": "viral_alert", "region": region, "seq": 1, "epoch": 9, "id": "a", "video": video})
}

/// Reads the subscription and confirms it.
async fn confirm(gateway: &mut Gateway) {
    assert_eq!(heard(gateway).await, json!({"type": "subscribe_region", "region": "X-CANARY"}));
    say(gateway, json!({"type": "subscribed", "region": "X-CANARY", "positions": {}})).await;
}

/// The stage and the reason of a run that ends in silence, and how long it took.
async fn silence(
    connecting: impl Future<Output = Result<WebSocketStream<DuplexStream>, InternalError>>,
    publishing: impl Future<Output = Result<(), InternalError>>,
) -> (Stage, String, Duration) {
    let began = Instant::now();
    let CanaryFailure { stage, failure } = run(connecting, publishing, "run-1").await.expect_err("silence");
    (stage, ErrorChain(&failure).to_string(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_alert_of_this_run_arrives_whatever_else_does_and_the_socket_is_closed() {
    let (near, mut far) = sockets().await;
    let gateway = async {
        // Of an alert that goes to everyone, before the answer.
        say(&mut far, alert("PL", "v1")).await;
        confirm(&mut far).await;
        say(&mut far, alert("X-CANARY", "run-0")).await;
        say(&mut far, alert("PL", "run-1")).await;
        far.send(Message::Ping("p".into())).await.expect("an open socket");
        sleep(Duration::from_millis(300)).await;
        say(&mut far, alert("X-CANARY", "run-1")).await;
        while let Some(Ok(message)) = far.next().await {
            if message.is_close() {
                return true;
            }
        }
        false
    };
    // publish answers after the frame has come.
    let publishing = async {
        sleep(Duration::from_millis(500)).await;
        Ok(())
    };
    let (latency, is_closed) = tokio::join!(run(ready(Ok(near)), publishing, "run-1"), gateway);
    assert_eq!(latency.expect("arrived"), Duration::from_millis(300));
    assert!(is_closed, "in order");
}

#[tokio::test(start_paused = true)]
async fn a_run_in_which_something_hangs_ends_after_ten_seconds_and_says_where() {
    let hung = silence(pending(), ready(Ok(()))).await;
    assert_eq!((hung.0, hung.2), (Stage::Connecting, CANARY_TIME_MAX));

    let (near, _far) = sockets().await;
    let hung = silence(ready(Ok(near)), ready(Ok(()))).await;
    assert_eq!((hung.0, hung.2), (Stage::Subscribing, CANARY_TIME_MAX));

    let (near, mut far) = sockets().await;
    let (hung, ()) = tokio::join!(silence(ready(Ok(near)), pending()), confirm(&mut far));
    assert_eq!((hung.0, hung.2), (Stage::Publishing, CANARY_TIME_MAX));

    let (near, mut far) = sockets().await;
    let (hung, ()) = tokio::join!(silence(ready(Ok(near)), ready(Ok(()))), confirm(&mut far));
    assert_eq!((hung.0, hung.2), (Stage::Arriving, CANARY_TIME_MAX));
    assert!(hung.1.contains("nothing arrived within 10s"), "{}", hung.1);
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_ends_the_run_at_once() {
    let refused =
        silence(ready(Err(InternalError::new("connecting", io::Error::other("no route")))), ready(Ok(()))).await;
    assert_eq!(refused, (Stage::Connecting, "connecting failed: no route".to_owned(), Duration::ZERO));

    let (near, mut far) = sockets().await;
    let failing = ready(Err(InternalError::new("publishing", io::Error::other("throttled"))));
    let (failed, ()) = tokio::join!(silence(ready(Ok(near)), failing), confirm(&mut far));
    assert_eq!(failed, (Stage::Publishing, "publishing failed: throttled".to_owned(), Duration::ZERO));

    for answer in [
        json!({"type": "error", "code": "forbidden", "message": "the token does not allow X-CANARY"}),
        json!({"message": "Internal server error", "connectionId": "c", "requestId": "r"}),
    ] {
        let (near, mut far) = sockets().await;
        let (refused, ()) = tokio::join!(silence(ready(Ok(near)), ready(Ok(()))), say(&mut far, answer.clone()));
        assert_eq!((refused.0, refused.2), (Stage::Subscribing, Duration::ZERO));
        assert!(refused.1.contains(answer["message"].as_str().expect("a text")), "{}", refused.1);
    }

    let (near, mut far) = sockets().await;
    let gateway = async {
        confirm(&mut far).await;
        let going_away = CloseFrame { code: CloseCode::Away, reason: "".into() };
        far.close(Some(going_away)).await.expect("an open socket");
    };
    let (closed, ()) = tokio::join!(silence(ready(Ok(near)), ready(Ok(()))), gateway);
    assert_eq!((closed.0, closed.2), (Stage::Arriving, Duration::ZERO));
    assert!(closed.1.contains("1001"), "{}", closed.1);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_the_close_costs_a_second_and_the_run_counts() {
    let (near, mut far) = sockets().await;
    let gateway = async {
        confirm(&mut far).await;
        say(&mut far, alert("X-CANARY", "run-1")).await;
    };
    let began = Instant::now();
    let (latency, ()) = tokio::join!(run(ready(Ok(near)), ready(Ok(())), "run-1"), gateway);
    assert_eq!((latency.expect("arrived"), began.elapsed()), (Duration::ZERO, CANARY_CLOSE_MAX));
}
