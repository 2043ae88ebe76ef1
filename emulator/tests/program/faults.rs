//! Injected faults, as an application sees them.

use std::time::{Duration, Instant};

use apigw_local::{FaultKind, FaultOptions, GatewayOptions};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{HttpReply, SCRIPTED, Scripted, Socket, WAIT_MAX, ask, echo, eventually, exchange, next};

/// Seed of every test, so that you can repeat a failure.
const SEED: u64 = 20_261_122;

/// Starts a site with faults, whose functions echo messages.
async fn site(faults: &[&str]) -> Scripted {
    seeded(SEED, faults).await
}

async fn seeded(seed: u64, faults: &[&str]) -> Scripted {
    let faults = faults.iter().map(|fault| fault.parse().expect("a fault")).collect();
    Scripted::with(SCRIPTED, &[], GatewayOptions::default(), FaultOptions { faults, seed: Some(seed) }, echo).await
}

fn injected(site: &Scripted, kind: FaultKind) -> u64 {
    site.stack.faults()[&kind]
}

fn is_empty(reply: &HttpReply, status: u16, error_type: &str) -> bool {
    (reply.status, reply.error_type.as_str(), reply.body.as_str()) == (status, error_type, "")
}

/// Shows that nothing else reached the client: the next frame is the response to a message that is sent now.
async fn answers(socket: &mut Socket) {
    assert_eq!(exchange(socket, "still there").await, "still there");
}

#[tokio::test]
async fn a_lost_disconnect_never_runs() {
    let site = site(&["lost-disconnect=1"]).await;
    let (socket, _) = site.client().await;
    drop(socket);
    eventually("the fault is injected", || injected(&site, FaultKind::LostDisconnect) == 1).await;
    site.stack.settled().await;
    assert!(site.events_of("Disconnect").is_empty());
    assert_eq!(site.stack.connected(), 0);
}

#[tokio::test]
async fn a_false_gone_is_returned_for_an_open_connection() {
    let site = site(&["false-gone=1"]).await;
    let (mut socket, id) = site.client().await;
    for method in ["POST", "GET"] {
        let reply = site.manage(method, &id, "x").await;
        assert!(is_empty(&reply, 410, "GoneException"), "{method}: {reply:?}");
    }
    answers(&mut socket).await;
    assert_eq!(site.manage("DELETE", &id, "").await.status, 204);
    assert_eq!(injected(&site, FaultKind::FalseGone), 2);
}

#[tokio::test]
async fn a_throttled_post_delivers_nothing() {
    let site = site(&["throttled-post=1"]).await;
    let (mut socket, id) = site.client().await;
    let reply = site.manage("POST", &id, "x").await;
    assert!(is_empty(&reply, 429, "LimitExceededException"), "{reply:?}");
    answers(&mut socket).await;
    assert_eq!(site.manage("GET", &id, "").await.status, 200);
    assert_eq!(injected(&site, FaultKind::ThrottledPost), 1);
}

#[tokio::test]
async fn a_slow_post_delivers_at_once_and_returns_later() {
    let site = site(&["slow-post=1:300ms"]).await;
    let (mut socket, id) = site.client().await;
    let started = Instant::now();
    let (posted, received_after) = tokio::join!(site.manage("POST", &id, "x"), async {
        assert_eq!(next(&mut socket).await, "x");
        started.elapsed()
    });
    assert_eq!(posted.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300) && received_after < started.elapsed());
}

#[tokio::test]
async fn a_hung_post_delivers_and_does_not_return_while_the_program_runs() {
    let site = site(&["hung-post=1"]).await;
    let (mut socket, id) = site.client().await;
    {
        let posting = site.manage("POST", &id, "x");
        tokio::pin!(posting);
        tokio::select! {
            answer = &mut posting => panic!("answered: {answer:?}"),
            text = next(&mut socket) => assert_eq!(text, "x"),
        }
        tokio::select! {
            answer = &mut posting => panic!("answered: {answer:?}"),
            () = answers(&mut socket) => {}
        }
    }
    assert_eq!(injected(&site, FaultKind::HungPost), 1);
    let started = Instant::now();
    site.stack.stop().await;
    // The emulator waits at most ten seconds for unfinished work.
    assert!(started.elapsed() < Duration::from_secs(9), "a hung response delayed the end");
}

#[tokio::test]
async fn a_dropped_connection_ends_without_a_close_frame_and_its_message_is_lost() {
    for by_client in [true, false] {
        let site = site(&["dropped-connection=1"]).await;
        let (mut socket, id) = site.client().await;
        if by_client {
            socket.send(Message::text("x")).await.expect("sent");
        } else {
            assert_eq!(site.manage("POST", &id, "x").await.status, 200, "the sender does not notice");
        }
        let end = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
        assert!(matches!(end, None | Some(Err(_))), "{end:?}");
        let context = site.event_of("Disconnect").await["requestContext"].clone();
        assert_eq!((&context["disconnectStatusCode"], &context["disconnectReason"]), (&json!(1006), &json!("")));
        assert!(site.events_of("Message").is_empty());
        assert_eq!(injected(&site, FaultKind::DroppedConnection), 1);
    }
}

#[tokio::test]
async fn a_failed_invocation_is_a_502_whether_or_not_the_function_ran() {
    for (fault, kind, ran) in
        [("failed-invocation=1", FaultKind::FailedInvocation, 0), ("failed-after-run=1", FaultKind::FailedAfterRun, 1)]
    {
        let site = site(&[fault]).await;
        assert_eq!(site.connect("", &[]).await.err(), Some(502), "{fault}");
        assert_eq!((site.events_of("Connect").len(), injected(&site, kind)), (ran, 1), "{fault}");
    }
}

#[tokio::test]
async fn the_same_seed_and_the_same_requests_give_the_same_faults() {
    let run = async |seed: u64| {
        let site = seeded(seed, &["false-gone=0.3", "throttled-post=0.3"]).await;
        let (_socket, id) = site.client().await;
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(site.manage("POST", &id, "x").await.status);
        }
        (statuses, site.stack.faults())
    };
    let first = run(SEED).await;
    assert_eq!(run(SEED).await, first);
    assert_ne!(run(SEED + 1).await.0, first.0);
    let counted = |status: u16| first.0.iter().filter(|other| **other == status).count();
    let expected = [(FaultKind::FalseGone, counted(410) as u64), (FaultKind::ThrottledPost, counted(429) as u64)];
    assert_eq!(first.1, expected.into());
    assert!(counted(410) > 0 && counted(429) > 0 && counted(200) > 0, "{:?}", first.0);
}

#[tokio::test]
async fn delete_closes_a_connection_whose_client_does_not_read() {
    for by_page in [false, true] {
        let site = site(&[]).await;
        let (_socket, id) = site.client().await;
        let large = "x".repeat(100_000);
        let mut posts = 0;
        while site.manage("POST", &id, &large).await.status == 200 {
            posts += 1;
            assert!(posts < 2_000, "the client reads nothing, so that its buffer fills");
        }
        let closed = match by_page {
            true => ask(site.stack.http_addr, &format!("DELETE /inspector/connections/{id}"), "", "").await,
            false => site.manage("DELETE", &id, "").await,
        };
        assert_eq!(closed.status, 204);
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(site.manage(method, &id, "").await.status, 410, "{method}: it is gone at once");
        }
        let context = site.event_of("Disconnect").await["requestContext"].clone();
        let ended = (&context["disconnectStatusCode"], &context["disconnectReason"]);
        assert_eq!(ended, (&json!(1000), &json!("Connection Closed Normally")));
    }
}

#[tokio::test]
async fn what_was_posted_before_delete_comes_before_the_close_frame() {
    let site = site(&[]).await;
    let (mut socket, id) = site.client().await;
    for number in 0..20 {
        assert_eq!(site.manage("POST", &id, &number.to_string()).await.status, 200);
    }
    assert_eq!(site.manage("DELETE", &id, "").await.status, 204);
    for number in 0..20 {
        assert_eq!(next(&mut socket).await, number.to_string());
    }
    let end = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
    assert!(matches!(end, Some(Ok(Message::Close(Some(_))))), "{end:?}");
}
