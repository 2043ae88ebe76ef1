//! The connection to which the functions post every event that they receive.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    case::{EventKind, HANDLER},
    gateway::{GatewayClient, RequestError, Socket},
    runner,
};

/// Why events cannot be seen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserverError {
    /// The observer's handshake has no answer.
    #[error("the observer cannot connect")]
    Handshake(#[from] RequestError),
    /// The observer was not let in.
    #[error("the observer is refused with {0}: {1}")]
    Refused(u16, String),
    /// The functions do not say what the observer's id is.
    #[error("the function on the route one-way has not posted the observer's id, but {0}")]
    Nameless(String),
}

/// What a function told.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ObservedEvent {
    client: String,
    by: String,
    /// The event.
    pub(crate) event: Value,
    /// What became of the function's own post.
    pub(crate) posted: Option<Value>,
}

/// A connection and what it was told.
pub(crate) struct Observer {
    socket: Socket,
    id: String,
    told: Vec<ObservedEvent>,
    taken: Vec<ObservedEvent>,
}

impl Observer {
    /// Connects and asks for its own id.
    pub(crate) async fn start(gateway: &GatewayClient) -> Result<Self, ObserverError> {
        let (answer, socket) = gateway.connect(runner::handshake(gateway)).await?;
        let mut socket = socket.ok_or(ObserverError::Refused(answer.status, answer.body))?;
        let ask = Message::text(json!({"action": "one-way", "identify": true}).to_string());
        let nameless = |what: String| ObserverError::Nameless(what);
        socket.send(ask).await.map_err(|error| nameless(error.to_string()))?;
        let deadline = Instant::now() + gateway.wait;
        loop {
            match timeout_at(deadline, socket.next()).await {
                Err(_) => return Err(nameless("nothing".to_owned())),
                Ok(Some(Ok(Message::Text(id)))) if id.starts_with('{') => return Err(nameless(id.to_string())),
                Ok(Some(Ok(Message::Text(id)))) => {
                    return Ok(Self { socket, id: id.to_string(), told: Vec::new(), taken: Vec::new() });
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(other) => return Err(nameless(format!("{other:?}"))),
            }
        }
    }

    /// What the handshake of an observed client says, `label` being its name.
    pub(crate) fn header(&self, label: &str) -> String {
        format!("{} {label}", self.id)
    }

    /// The first event of a kind that was not taken yet. `None` when there is none in time.
    pub(crate) async fn take(&mut self, label: &str, kind: &EventKind, wait: Duration) -> Option<ObservedEvent> {
        let is_meant = |told: &ObservedEvent| {
            told.client == label && told.by == kind.by && told.event["requestContext"]["eventType"] == kind.event_type
        };
        let deadline = Instant::now() + wait;
        loop {
            if let Some(index) = self.told.iter().position(is_meant) {
                let told = self.told.remove(index);
                self.taken.push(told.clone());
                return Some(told);
            }
            self.receive(deadline).await?;
        }
    }

    /// The id of a client, which every event of its has.
    pub(crate) async fn id_of(&mut self, label: &str, wait: Duration) -> Option<String> {
        let deadline = Instant::now() + wait;
        loop {
            let of_client = self.told.iter().chain(&self.taken).find(|told| told.client == label);
            if let Some(id) = of_client.and_then(|told| told.event["requestContext"]["connectionId"].as_str()) {
                return Some(id.to_owned());
            }
            self.receive(deadline).await?;
        }
    }

    /// Waits until a handler has run for a client.
    pub(crate) async fn handled(&mut self, label: &str, wait: Duration) -> Option<()> {
        let deadline = Instant::now() + wait;
        while !self.told.iter().any(|told| told.client == label && told.by == HANDLER) {
            self.receive(deadline).await?;
        }
        Some(())
    }

    /// Everything that functions told of a client and no step took, for whoever looks for a mistake.
    pub(crate) fn untaken(&self, label: &str) -> String {
        let of_client = self.told.iter().filter(|told| told.client == label);
        let name = |told: &ObservedEvent| format!("{} by the {}", told.event["requestContext"]["eventType"], told.by);
        let names: Vec<_> = of_client.map(name).collect();
        if names.is_empty() { "no event".to_owned() } else { names.join(", ") }
    }

    /// Takes in one frame. `None` when none comes, or none will.
    async fn receive(&mut self, deadline: Instant) -> Option<()> {
        let frame = timeout_at(deadline, self.socket.next()).await.ok()??.ok()?;
        if let Message::Text(text) = frame {
            self.told.extend(serde_json::from_str::<ObservedEvent>(&text));
        }
        Some(())
    }
}
