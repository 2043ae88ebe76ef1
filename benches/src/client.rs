//! Clients that cost almost no CPU, so that the server is measured: raw sockets, no compression, no copies.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{Outcome, WAIT_MAX};

/// Concurrent handshakes.
const CONNECTING_MAX: usize = 64;

/// A WebSocket that only receives.
#[derive(Debug)]
pub(crate) struct Subscriber {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Subscriber {
    /// Connects to `ws://host/path`, with a query.
    pub(crate) async fn connect(url: &str, query: &str) -> Outcome<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let address = url.strip_prefix("ws://").ok_or("not a ws address")?;
        let (host, path) = address.split_once('/').ok_or("no path")?;
        let mut socket = TcpStream::connect(host).await?;
        // 16 random bytes in base64: serverless-offline tells connections apart by them.
        let key = format!("{:021}A==", COUNT.fetch_add(1, Ordering::Relaxed));
        let request = format!(
            "GET /{path}{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut subscriber = Self { socket, buffer: Vec::new() };
        let end = loop {
            if let Some(end) = subscriber.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            subscriber.read().await?;
        };
        if !subscriber.buffer.starts_with(b"HTTP/1.1 101 ") {
            return Err(String::from_utf8_lossy(&subscriber.buffer).into_owned().into());
        }
        subscriber.buffer.drain(..end);
        Ok(subscriber)
    }

    /// Waits for the next frame and returns when it arrived.
    pub(crate) async fn frame(&mut self) -> Outcome<Instant> {
        timeout(WAIT_MAX, self.any_frame()).await.map_err(|_| "no frame in time")?
    }

    /// Waits for the next frame without a bound.
    pub(crate) async fn any_frame(&mut self) -> Outcome<Instant> {
        loop {
            if let Some(bytes) = frame_bytes(&self.buffer) {
                let at = Instant::now();
                self.buffer.drain(..bytes);
                return Ok(at);
            }
            self.read().await?;
        }
    }

    /// Sends a close frame and waits for the answer.
    pub(crate) async fn close(mut self) -> Outcome<()> {
        // Status 1000, masked with zeros.
        self.socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await?;
        self.frame().await.map(drop)
    }

    async fn read(&mut self) -> Outcome<()> {
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err("the socket ended".into()),
            _ => Ok(()),
        }
    }
}

/// Returns the length of the first frame once it is complete. Frames of a server are not masked.
fn frame_bytes(buffer: &[u8]) -> Option<usize> {
    let bytes = match *buffer {
        [_, short, ..] if short < 126 => 2 + usize::from(short),
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        _ => return None,
    };
    (buffer.len() >= bytes).then_some(bytes)
}

/// Connects many subscribers with a query.
pub(crate) async fn connect_all(url: &str, query: &str, count: usize) -> Outcome<Vec<Subscriber>> {
    let mut connecting = JoinSet::new();
    let mut connected = Vec::with_capacity(count);
    for _ in 0..count {
        if connecting.len() >= CONNECTING_MAX {
            connected.push(connecting.join_next().await.ok_or("nothing connects")???);
        }
        let (url, query) = (url.to_owned(), query.to_owned());
        connecting.spawn(async move { Subscriber::connect(&url, &query).await });
    }
    while let Some(subscriber) = connecting.join_next().await {
        connected.push(subscriber??);
    }
    Ok(connected)
}

/// Posts a body to `http://host/`, which must be answered with 200.
pub(crate) async fn post(url: &str, body: &str) -> Outcome<()> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = TcpStream::connect(host).await?;
    let length = body.len();
    let request =
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    socket.read_to_string(&mut response).await?;
    if response.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(response.into()) }
}
