//! Load on a gateway: how fast clients connect, and how long one alert takes to reach all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::{GatewayClient, HttpRequest, RequestError, Socket};

/// Handshakes in flight. Functions that a gateway starts for each of them need memory.
const CONNECTING_MAX: usize = 8;

/// Posts in flight, and TCP connections that are kept for them.
pub(crate) const POSTS_MAX: usize = 64;

/// How the text of an alert begins.
const ALERT: &str = "alert";

/// Alerts before the measured ones, to warm a JIT compiler.
const WARM_UP_ALERTS: usize = 3;

/// Measured alerts.
const ALERTS: usize = 5;

/// Longest wait for the last frame of an alert.
const ALERT_WAIT: Duration = Duration::from_secs(300);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A request has no response.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A handshake was refused.
    #[error("handshake refused with status {0}: {1}")]
    Refused(u16, String),
    /// A socket ended, or brought something else.
    #[error("expected {expected} on each socket, got {got}")]
    Frame { expected: String, got: String },
    /// A post was refused.
    #[error("post refused with status {0}: {1}")]
    Post(u16, String),
    /// Not every socket has the alert.
    #[error("alert reached {0} of {1} sockets within {ALERT_WAIT:?}")]
    Lost(usize, usize),
}

/// Connects `count` clients, then posts alerts to all of them. Returns the figures as JSON.
pub(crate) async fn measure(gateway: &GatewayClient, count: usize) -> Result<Value, LoadError> {
    // The functions' first start is not part of the rate.
    drop(connected(gateway).await?);
    let started = Instant::now();
    let connecting = stream::iter(0..count).map(|_| connected(gateway)).buffer_unordered(CONNECTING_MAX);
    let sockets: Vec<Socket> = connecting.try_collect().await?;
    let connect_time = started.elapsed();
    let asking = stream::iter(sockets).map(|socket| identified(gateway, socket)).buffer_unordered(CONNECTING_MAX);
    let (ids, sockets): (Vec<String>, Vec<Socket>) = asking.try_collect::<Vec<_>>().await?.into_iter().unzip();
    let mut audience = Audience::of(sockets);
    let mut millis = Vec::with_capacity(ALERTS);
    for number in 0..WARM_UP_ALERTS + ALERTS {
        let time = audience.alert(gateway, &ids, number).await?;
        if number >= WARM_UP_ALERTS {
            millis.push(time.as_secs_f64() * 1_000.0);
        }
    }
    Ok(json!({
        "sockets": count,
        "connects_in_flight": CONNECTING_MAX,
        "connects_per_second": count as f64 / connect_time.as_secs_f64(),
        "posts_in_flight": POSTS_MAX,
        "alert_millis": millis,
    }))
}

async fn connected(gateway: &GatewayClient) -> Result<Socket, LoadError> {
    let (response, socket) = gateway.connect(gateway.handshake()).await?;
    socket.ok_or(LoadError::Refused(response.status, response.body))
}

/// Asks a function for the id of a connection.
async fn identified(gateway: &GatewayClient, mut socket: Socket) -> Result<(String, Socket), LoadError> {
    let wrong = |got: String| LoadError::Frame { expected: "its connection id".to_owned(), got };
    let ask = Message::text(json!({"action": "one-way", "identify": true}).to_string());
    socket.send(ask).await.map_err(|error| wrong(error.to_string()))?;
    match timeout(gateway.wait, socket.next()).await {
        Ok(Some(Ok(Message::Text(id)))) if !id.starts_with('{') => Ok((id.to_string(), socket)),
        other => Err(wrong(format!("{other:?}"))),
    }
}

fn text_of(number: usize) -> String {
    format!("{ALERT} {number}")
}

/// Sockets, each with a task that reads its frames.
struct Audience {
    size: usize,
    /// Frames that have arrived on all sockets.
    arrived: Arc<AtomicUsize>,
    /// When the last frame of an alert has arrived.
    completed: mpsc::UnboundedReceiver<Instant>,
    /// Keeps the channel open when all readers have ended: why they did is what counts.
    _complete: mpsc::UnboundedSender<Instant>,
    readers: JoinSet<LoadError>,
}

impl Audience {
    fn of(sockets: Vec<Socket>) -> Self {
        let (complete, completed) = mpsc::unbounded_channel();
        let arrived = Arc::new(AtomicUsize::new(0));
        let size = sockets.len();
        let mut readers = JoinSet::new();
        for socket in sockets {
            readers.spawn(read(socket, size, Arc::clone(&arrived), complete.clone()));
        }
        Self { size, arrived, completed, _complete: complete, readers }
    }

    /// Posts an alert to every connection. Returns the time from the first post to the last frame.
    async fn alert(&mut self, gateway: &GatewayClient, ids: &[String], number: usize) -> Result<Duration, LoadError> {
        let started = Instant::now();
        let posting = async {
            let mut posts = stream::iter(ids).map(|id| post(gateway, id, number)).buffer_unordered(POSTS_MAX);
            while posts.try_next().await?.is_some() {}
            Ok(())
        };
        let arriving = async {
            tokio::select! {
                completed = timeout(ALERT_WAIT, self.completed.recv()) => {
                    let arrived = self.arrived.load(Ordering::Relaxed) - number * self.size;
                    completed.ok().flatten().ok_or(LoadError::Lost(arrived, self.size))
                }
                Some(Ok(error)) = self.readers.join_next() => Err(error),
            }
        };
        let ((), last) = tokio::try_join!(posting, arriving)?;
        Ok(last.duration_since(started))
    }
}

async fn post(gateway: &GatewayClient, id: &str, number: usize) -> Result<(), LoadError> {
    let management = gateway.address.management.to_string();
    let request = HttpRequest {
        method: "POST".to_owned(),
        uri: format!("{}/@connections/{}", management.trim_end_matches('/'), utf8_percent_encode(id, NON_ALPHANUMERIC)),
        body: text_of(number).into_bytes(),
        signed: true,
        ..Default::default()
    };
    let response = gateway.call(request).await?;
    // serverless-offline answers 204.
    if matches!(response.status, 200..300) { Ok(()) } else { Err(LoadError::Post(response.status, response.body)) }
}

/// Reads alerts, each of which has to come once and in order. Returns when one does not.
async fn read(
    mut socket: Socket,
    size: usize,
    arrived: Arc<AtomicUsize>,
    complete: mpsc::UnboundedSender<Instant>,
) -> LoadError {
    let mut number = 0;
    loop {
        let expected = text_of(number);
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text.as_str() == expected => number += 1,
            // Some gateways answer on every route.
            Some(Ok(Message::Text(text))) if !text.starts_with(ALERT) => continue,
            other => return LoadError::Frame { expected, got: format!("{other:?}") },
        }
        if (arrived.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(size) {
            // The receiver outlives the readers.
            let _ = complete.send(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
