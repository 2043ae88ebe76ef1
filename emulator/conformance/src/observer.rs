//! The observer: a connection to which the functions post every event that they receive.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    case::{EventKind, HANDLER},
    gateway::{GatewayClient, RequestError, Socket},
};

/// Why events cannot be observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserverError {
    /// The observer's handshake has no response.
    #[error("the observer cannot connect")]
    Handshake(#[from] RequestError),
    /// The gateway rejected the observer.
    #[error("the observer was rejected with status {0}: {1}")]
    Rejected(u16, String),
    /// The functions did not post the observer's id.
    #[error("expected the observer's id from the function of the route one-way, got {0}")]
    NoId(String),
}

/// An event that a function posted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ObservedEvent {
    client: String,
    by: String,
    /// The event.
    pub(crate) event: Value,
    /// The result of the function's own post.
    pub(crate) posted: Option<Value>,
}

/// The connection and the events that it received.
pub(crate) struct Observer {
    socket: Socket,
    id: String,
    events: Vec<ObservedEvent>,
    /// Events that a step has taken.
    taken: Vec<ObservedEvent>,
}

impl Observer {
    /// Connects and requests its own id.
    pub(crate) async fn start(gateway: &GatewayClient) -> Result<Self, ObserverError> {
        let (response, socket) = gateway.connect(gateway.handshake()).await?;
        let mut socket = socket.ok_or(ObserverError::Rejected(response.status, response.body))?;
        let ask = Message::text(json!({"action": "one-way", "identify": true}).to_string());
        let no_id = |got: String| ObserverError::NoId(got);
        socket.send(ask).await.map_err(|error| no_id(error.to_string()))?;
        let deadline = Instant::now() + gateway.wait;
        loop {
            match timeout_at(deadline, socket.next()).await {
                Err(_) => return Err(no_id("nothing".to_owned())),
                Ok(Some(Ok(Message::Text(id)))) if id.starts_with('{') => return Err(no_id(id.to_string())),
                Ok(Some(Ok(Message::Text(id)))) => {
                    return Ok(Self { socket, id: id.to_string(), events: Vec::new(), taken: Vec::new() });
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(other) => return Err(no_id(format!("{other:?}"))),
            }
        }
    }

    /// The header for the handshake of the client that is called `label`.
    pub(crate) fn header(&self, label: &str) -> String {
        format!("{} {label}", self.id)
    }

    /// Takes the first event of a kind. `None` if there is none in time.
    pub(crate) async fn take(&mut self, label: &str, kind: &EventKind, wait: Duration) -> Option<ObservedEvent> {
        let is_meant = |event: &ObservedEvent| {
            event.client == label
                && event.by == kind.by
                && event.event["requestContext"]["eventType"] == kind.event_type
        };
        let deadline = Instant::now() + wait;
        loop {
            if let Some(index) = self.events.iter().position(is_meant) {
                let event = self.events.remove(index);
                self.taken.push(event.clone());
                return Some(event);
            }
            self.receive(deadline).await?;
        }
    }

    /// The connection id of a client, from any of its events.
    pub(crate) async fn id_of(&mut self, label: &str, wait: Duration) -> Option<String> {
        let deadline = Instant::now() + wait;
        loop {
            let of_client = self.events.iter().chain(&self.taken).find(|event| event.client == label);
            if let Some(id) = of_client.and_then(|event| event.event["requestContext"]["connectionId"].as_str()) {
                return Some(id.to_owned());
            }
            self.receive(deadline).await?;
        }
    }

    /// Waits until the handler has run for a client.
    pub(crate) async fn handled(&mut self, label: &str, wait: Duration) -> Option<()> {
        let deadline = Instant::now() + wait;
        while !self.events.iter().any(|event| event.client == label && event.by == HANDLER) {
            self.receive(deadline).await?;
        }
        Some(())
    }

    /// The events of a client that no step has taken, for a message.
    pub(crate) fn untaken(&self, label: &str) -> String {
        let of_client = self.events.iter().filter(|event| event.client == label);
        let name =
            |event: &ObservedEvent| format!("{} by the {}", event.event["requestContext"]["eventType"], event.by);
        let names: Vec<_> = of_client.map(name).collect();
        if names.is_empty() { "no event".to_owned() } else { names.join(", ") }
    }

    /// Receives one frame. `None` if none comes in time, or the connection has ended.
    async fn receive(&mut self, deadline: Instant) -> Option<()> {
        let frame = timeout_at(deadline, self.socket.next()).await.ok()??.ok()?;
        if let Message::Text(text) = frame {
            self.events.extend(serde_json::from_str::<ObservedEvent>(&text));
        }
        Some(())
    }
}
