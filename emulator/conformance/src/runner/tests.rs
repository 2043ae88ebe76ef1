//! Runs cases against a gateway of its own.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_credential_types::Credentials;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::CaseRunner;
use crate::{
    case,
    gateway::{Address, GatewayClient},
};

type ObserverSender = Arc<Mutex<Option<mpsc::UnboundedSender<Message>>>>;

/// A gateway that echoes texts, closes on `close`, rejects the path `/refused`, and sends the observer an event of
/// every handshake.
async fn serve(stream: TcpStream, observer: ObserverSender) {
    let mut header = None;
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let callback = |request: &Request, response: Response| {
        header = request.headers().get("x-observer").and_then(|value| value.to_str().ok()).map(str::to_owned);
        if request.uri().path() != "/refused" {
            return Ok(response);
        }
        let refusal = hyper::Response::builder().status(403).header("x-kind", "no");
        let refusal: ErrorResponse = refusal.body(Some(r#"{"message":"no"}"#.to_owned())).expect("valid");
        Err(refusal)
    };
    let Ok(mut socket) = accept_hdr_async(stream, callback).await else { return };
    let (sender, mut to_observer) = mpsc::unbounded_channel();
    if let Some((_, client)) = header.as_deref().and_then(|header| header.split_once(' ')) {
        let context = json!({"eventType": "CONNECT", "connectionId": "C1=", "routeKey": "$connect"});
        let text = json!({"client": client, "by": "handler", "event": {"requestContext": context}}).to_string();
        let observer = observer.lock().expect("unpoisoned").clone().expect("an observer");
        observer.send(Message::text(text)).expect("it is there");
    }
    loop {
        let answer = tokio::select! {
            Some(message) = to_observer.recv() => message,
            Some(Ok(message)) = socket.next() => match message {
                Message::Text(text) if text.contains("identify") => {
                    *observer.lock().expect("unpoisoned") = Some(sender.clone());
                    Message::text("O1=")
                }
                Message::Text(text) if text == "close" => {
                    Message::Close(Some(CloseFrame { code: CloseCode::Size, reason: "big".into() }))
                }
                Message::Text(text) => Message::Text(text),
                Message::Close(_) => break,
                _ => continue,
            },
            else => return,
        };
        let closes = answer.is_close();
        if socket.send(answer).await.is_err() || closes {
            break;
        }
    }
    // To the end of the closing handshake.
    while let Some(Ok(_)) = socket.next().await {}
}

/// An API that answers with the head and the body of the request, and with `x-kind: told`.
async fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    let is_whole = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let length = head.to_lowercase().split_once("content-length: ").map(|(_, rest)| rest.to_owned());
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        (body.len() >= length.unwrap_or(0)).then_some(())
    };
    while is_whole(&request).is_none() {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Ok(());
        }
        request += &String::from_utf8_lossy(&part[..length]);
    }
    let (head, body) = request.split_once("\r\n\r\n").expect("a whole request");
    let answer = json!({"head": head.lines().collect::<Vec<_>>(), "body": body}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nx-kind: told\r\ncontent-length: {}\r\n\r\n", answer.len());
    stream.write_all((head + &answer).as_bytes()).await
}

async fn runner() -> CaseRunner {
    let api = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let api_url = format!("http://{}/", api.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = api.accept().await {
            tokio::spawn(tell(stream));
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/dev", listener.local_addr().expect("an address"));
    let observer = ObserverSender::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&observer)));
        }
    });
    let address = Address {
        socket: url.parse().expect("an address"),
        management: url.parse().expect("an address"),
        http_api: Some(api_url.parse().expect("an address")),
        rest_api: None,
        region: "us-east-1".to_owned(),
        token: "t".to_owned(),
        parameters: BTreeMap::new(),
    };
    let credentials = Credentials::new("a", "b", None, None, "test");
    CaseRunner::new(
        GatewayClient::new(address, Some(credentials), Duration::from_secs(20), 0).await.expect("a gateway"),
    )
}

/// The number of the step that failed, what it expected and what it got.
async fn run(runner: &mut CaseRunner, steps: &str) -> Option<(usize, String, String)> {
    let text = format!("- name: n\n  source: D\n  cite: c\n  steps: [{steps}]\n");
    let case = case::parse(&text, Path::new("t.yaml")).expect(steps).remove(0);
    runner.run(&case).await.err().map(|failure| (failure.step, failure.expected, failure.got))
}

#[tokio::test]
async fn a_case_passes_when_every_step_finds_what_it_expects() {
    let mut runner = runner().await;
    for steps in [
        "{connect: {}}, {send: {text: hi}}, {expect: {text: hi}}, {send: {json: {a: 1}}}, {expect: {json: {a: 1}}}",
        "{connect: {path: /refused, status: 403, response-headers: {x-kind: 'no'}, body: {message: 'no'}}}",
        r#"{connect: {path: /refused, status: 403, body: '{"message":"no"}'}}"#,
        "{connect: {}}, {send: {fragments: [a, b]}}, {expect: {text: ab}}, {send: {ping: p}}, {expect: {pong: p}}",
        "{connect: {}}, {send: {fill: {bytes: 10, frame: 4}}}, {expect: {fill: 10}}",
        "{connect: {}}, {send: {text: close}}, {expect: {close: {code: 1009, reason: big}}}",
        "{connect: {}}, {expect-event: {type: CONNECT, event: {requestContext: {connectionId: '{client.id}'}}}}",
        "{connect: {}}, {send: {text: 'I am {client.id}'}}, {expect: {text: I am C1=}}",
        "{connect: {}}, {expect-event: {type: CONNECT}}, {expect-no-event: {type: CONNECT}}",
        "{request: {api: http, path: /a/b, response-headers: {x-kind: told}, body: !regex '.*GET /a/b HTTP/1.1.*'}}",
        "{request: {api: http, method: PUT, path: /, query: {a: {b: 1}}, data: hi, body: {body: hi}}}",
        r#"{request: {api: http, path: /, query: {a: {b: 1}}, body: !regex '.*"GET /\?a=%7B%22b%22%3A1%7D .*'}}"#,
        "{request: {api: http, path: /, body: !regex '.*X-Conformance: t\".*'}}",
        "{request: {api: http, path: /, status: null, response-headers: {x-kind: told}}}",
        "{request: {api: http, path: /, token: wrong, body: !regex '.*X-Conformance: tx\".*'}}",
        "{request: {api: http, path: /, headers: {x-a: [b, c]}, body: !regex '.*X-A: b\".*X-A: c\".*'}}",
    ] {
        assert_eq!(run(&mut runner, steps).await, None, "{steps}");
    }
}

#[tokio::test]
async fn a_case_fails_at_the_step_that_finds_something_else() {
    let mut runner = runner().await;
    for (steps, step, expected, got) in [
        ("{connect: {path: /refused}}", 1, "status 101", "status 403"),
        ("{connect: {status: 403}}", 1, "status 403", "status 101"),
        ("{connect: {path: /refused, status: 403, response-headers: {x-kind: y}}}", 1, "header x-kind", "no"),
        ("{connect: {path: /refused, status: 403, body: {message: y}}}", 1, "body message", "no"),
        ("{connect: {}}, {send: {text: hi}}, {expect: {text: ho}}", 3, "ho", "hi"),
        ("{connect: {}}, {send: {text: hi}}, {expect: {json: 1}}", 3, "JSON", "hi"),
        ("{connect: {}}, {send: {json: {a: 1}}}, {expect: {json: {a: 2}}}", 3, "a: 2", "1"),
        ("{connect: {}}, {send: {text: hi}}, {expect: {fill: 2}}", 3, "2 bytes", "hi"),
        ("{connect: {}}, {send: {text: xxx}}, {expect: {fill: 2}}", 3, "2 bytes", "xxx"),
        ("{connect: {}}, {send: {text: hi}}, {expect: {pong: hi}}", 3, "a pong frame", "the text hi"),
        ("{connect: {}}, {send: {ping: p}}, {expect: {pong: q}}", 3, "q", "p"),
        ("{connect: {}}, {send: {text: close}}, {expect: {close: {code: 1003}}}", 3, "1003", "1009"),
        ("{connect: {}}, {send: {text: close}}, {expect: {close: {code: 1009, reason: x}}}", 3, "reason", "big"),
        ("{connect: {}}, {send: {text: close}}, {expect: {text: close}}", 3, "the text close", "a close frame"),
        ("{connect: {}}, {expect: {within: 0, text: hi}}", 2, "hi", "nothing"),
        ("{connect: {}}, {drop: {}}, {send: {text: hi}}", 3, "connected", "no connection"),
        (
            "{connect: {}}, {expect-event: {type: CONNECT, event: {requestContext: {routeKey: x}}}}",
            2,
            "routeKey",
            "$connect",
        ),
        ("{connect: {}}, {expect-event: {type: CONNECT, event: {requestContext: !absent }}}", 2, "nothing", "$connect"),
        ("{connect: {}}, {expect-event: {type: CONNECT, posted: {status: 410}}}", 2, "status", "nothing"),
        ("{connect: {}}, {send: {text: '{client.id}'}}, {expect-no-event: {type: CONNECT}}", 3, "no event", "CONNECT"),
        ("{connect: {}}, {send: {text: '{unknown}'}}", 2, "{unknown}", "nothing"),
        ("{request: {api: http, path: /, status: 404}}", 1, "status 404", "status 200"),
        ("{request: {api: http, path: /, response-headers: {x-kind: x}}}", 1, "header x-kind", "told"),
        ("{request: {api: http, path: /, body: {body: x}}}", 1, "body body", "\"\""),
        ("{request: {api: rest, path: /}}", 1, "status 200", "no address"),
    ] {
        let failure = run(&mut runner, steps).await.unwrap_or_else(|| panic!("{steps} must fail"));
        assert_eq!(failure.0, step, "{steps}: {failure:?}");
        assert!(failure.1.contains(expected) && failure.2.contains(got), "{steps}: {failure:?}");
    }
}
