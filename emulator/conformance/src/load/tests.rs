//! Measures a gateway of its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_credential_types::Credentials;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{ALERTS, LoadError, measure};
use crate::gateway::{Address, GatewayClient};

/// Senders to the clients, by connection id.
type Clients = Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Message>>>>;

/// A client that learns its id and gets what is posted to it.
async fn serve_socket(stream: TcpStream, clients: Clients) {
    let mut socket = accept_async(stream).await.expect("a handshake");
    let (sender, mut posted) = mpsc::unbounded_channel();
    let id = {
        let mut clients = clients.lock().expect("unpoisoned");
        let id = format!("C{}=", clients.len());
        clients.insert(id.clone(), sender);
        id
    };
    loop {
        let frame = tokio::select! {
            Some(frame) = posted.recv() => frame,
            Some(Ok(Message::Text(_))) = socket.next() => Message::text(id.clone()),
            else => return,
        };
        if socket.send(frame).await.is_err() {
            return;
        }
    }
}

/// Delivers posts of one TCP connection, each `copies` times.
async fn serve_posts(stream: TcpStream, clients: Clients, copies: usize) {
    let mut stream = BufReader::new(stream);
    let (mut id, mut length, mut line) = (String::new(), 0, String::new());
    while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        let lower = line.to_ascii_lowercase();
        if let Some((_, rest)) = line.split_once("/dev/@connections/") {
            id = rest.split(' ').next().expect("an id").replace("%3D", "=");
        } else if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        } else if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("a body");
            let text = String::from_utf8(body).expect("a text");
            for _ in 0..copies {
                let frame = Message::text(text.clone());
                // A client that has seen what it should not is gone.
                let _ = clients.lock().expect("unpoisoned")[&id].send(frame);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("a response");
        }
        line.clear();
    }
}

async fn gateway(copies: usize) -> GatewayClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/dev", listener.local_addr().expect("an address"));
    let clients = Clients::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let clients = Arc::clone(&clients);
            tokio::spawn(async move {
                let mut first = [0];
                stream.peek(&mut first).await.expect("a request");
                match &first {
                    b"G" => serve_socket(stream, clients).await,
                    _ => serve_posts(stream, clients, copies).await,
                }
            });
        }
    });
    let address = Address {
        socket: url.parse().expect("an address"),
        management: url.parse().expect("an address"),
        http_api: None,
        rest_api: None,
        region: "us-east-1".to_owned(),
        token: "t".to_owned(),
        parameters: BTreeMap::new(),
    };
    let credentials = Credentials::new("a", "b", None, None, "test");
    GatewayClient::new(address, Some(credentials), Duration::from_secs(20), super::POSTS_MAX).await.expect("a gateway")
}

#[tokio::test]
async fn every_alert_that_reaches_all_clients_has_a_time() {
    let figures = measure(&gateway(1).await, 20).await.expect("figures");
    let times = figures["alert_millis"].as_array().expect("times");
    assert_eq!((&figures["sockets"], times.len()), (&20.into(), ALERTS));
    assert!(times.iter().all(|time| time.as_f64().is_some_and(|millis| millis > 0.0)), "{times:?}");
}

#[tokio::test]
async fn an_alert_that_comes_twice_is_an_error() {
    let error = measure(&gateway(2).await, 2).await.expect_err("no figures");
    let LoadError::Frame { expected, got } = &error else { panic!("{error:?}") };
    assert!(expected == "alert 1" && got.contains("alert 0"), "{error:?}");
}
