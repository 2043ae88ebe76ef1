//! One run: connect, subscribe, publish, and wait for the alert, all within [`CANARY_TIME_MAX`].

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, future::try_join};
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    error::InternalError,
    limits::{CANARY_CLOSE_MAX, CANARY_TIME_MAX},
    model::audience::CANARY,
    runtime::https::quoted,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The handshake has no answer yet.
    Connecting,
    /// The subscription is not confirmed yet.
    Subscribing,
    /// publish has not answered yet.
    Publishing,
    /// The alert is published and has not arrived yet.
    Arriving,
}

/// A run whose alert did not arrive.
#[derive(Debug)]
pub(crate) struct CanaryFailure {
    /// How far it came.
    pub(crate) stage: Stage,
    /// Why it came no further.
    pub(crate) failure: InternalError,
}

/// The time of the run is up.
#[derive(Debug, thiserror::Error)]
#[error("nothing arrived within {CANARY_TIME_MAX:?}")]
struct TimedOut;

/// The other side closed the socket.
#[derive(Debug, thiserror::Error)]
#[error("the socket was closed, with the code {0:?}")]
struct Closed(Option<u16>);

/// The subscription was answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("the answer is {0}")]
struct Refused(String);

/// Runs once, and returns the time from the call of publish to the frame. `run` is the id of the video of the alert.
pub(crate) async fn run<W: AsyncRead + AsyncWrite + Unpin>(
    connecting: impl Future<Output = Result<WebSocketStream<W>, InternalError>>,
    publishing: impl Future<Output = Result<(), InternalError>>,
    run: &str,
) -> Result<Duration, CanaryFailure> {
    let mut stage = Stage::Connecting;
    let ended = timeout(CANARY_TIME_MAX, steps(&mut stage, connecting, publishing, run)).await;
    match ended.unwrap_or_else(|_| Err(InternalError::new("waiting for the alert of the canary", TimedOut))) {
        Ok((latency, socket)) => {
            close(socket).await;
            Ok(latency)
        }
        Err(failure) => Err(CanaryFailure { stage, failure }),
    }
}

async fn steps<W: AsyncRead + AsyncWrite + Unpin>(
    stage: &mut Stage,
    connecting: impl Future<Output = Result<WebSocketStream<W>, InternalError>>,
    publishing: impl Future<Output = Result<(), InternalError>>,
    run: &str,
) -> Result<(Duration, WebSocketStream<W>), InternalError> {
    let mut socket = connecting.await?;
    *stage = Stage::Subscribing;
    subscribe(&mut socket).await?;
    *stage = Stage::Publishing;
    let called_at = Instant::now();
    let published = async {
        publishing.await?;
        *stage = Stage::Arriving;
        Ok(())
    };
    // The frame may come before the answer of publish.
    let arrived = async {
        arrival(&mut socket, run).await?;
        Ok(called_at.elapsed())
    };
    let ((), latency) = try_join(published, arrived).await?;
    Ok((latency, socket))
}

/// Subscribes to the region of the canary, and waits until that is confirmed.
async fn subscribe<W: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<W>) -> Result<(), InternalError> {
    let doing = "subscribing the canary";
    let message = json!({"type": "subscribe_region", "region": CANARY});
    socket.send(Message::text(message.to_string())).await.map_err(|error| InternalError::new(doing, error))?;
    loop {
        let frame = next(socket, doing).await?;
        // Alerts that go to everyone may come first. The gateway's own errors have no type.
        match (frame["type"].as_str(), &frame["connectionId"]) {
            (Some("subscribed"), _) => return Ok(()),
            (Some("error"), _) | (None, Value::String(_)) => {
                return Err(InternalError::new(doing, Refused(quoted(frame.to_string().as_bytes()))));
            }
            _ => {}
        }
    }
}

/// Waits for the alert of this run.
async fn arrival<W: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<W>,
    run: &str,
) -> Result<(), InternalError> {
    loop {
        let frame = next(socket, "waiting for the alert of the canary").await?;
        if frame["region"] == CANARY && frame["video"]["id"] == run {
            return Ok(());
        }
    }
}

/// The next frame of text, as JSON; null where it is none.
async fn next<W: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<W>,
    doing: &'static str,
) -> Result<Value, InternalError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap_or_default()),
            Some(Ok(Message::Close(frame))) => {
                return Err(InternalError::new(doing, Closed(frame.map(|frame| frame.code.into()))));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(InternalError::new(doing, error)),
            None => return Err(InternalError::new(doing, Closed(None))),
        }
    }
}

/// Closes in order, so that the gateway runs `$disconnect` at once. A failure changes nothing of what the run has
/// shown.
async fn close<W: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<W>) {
    let closing = async {
        if socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    if timeout(CANARY_CLOSE_MAX, closing).await.is_err() {
        tracing::debug!("the socket of the canary was not closed in order");
    }
}

#[cfg(test)]
mod tests;
