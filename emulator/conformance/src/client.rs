//! A WebSocket client that reads all the time, as browsers do, so it responds to pings and close frames at once.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::Socket;

/// How long a gateway may take to end the TCP connection after both close frames.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connected client. Its TCP connection ends when this is dropped.
pub(crate) struct Client {
    to_send: mpsc::UnboundedSender<Message>,
    /// Frames except pings, and finally why there are no more.
    received: mpsc::UnboundedReceiver<Result<Message, String>>,
    task: JoinHandle<()>,
}

impl Client {
    pub(crate) fn new(socket: Socket) -> Self {
        let (to_send, sent) = mpsc::unbounded_channel();
        let (sender, received) = mpsc::unbounded_channel();
        Self { to_send, received, task: tokio::spawn(drive(socket, sent, sender)) }
    }

    /// Sends a frame. `false` if the connection has ended.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.to_send.send(message).is_ok()
    }

    /// Receives the next frame that is not a ping. An error says what came instead.
    pub(crate) async fn receive(&mut self, wait: Duration) -> Result<Message, String> {
        match timeout(wait, self.received.recv()).await {
            Err(_) => Err(format!("nothing within {wait:?}")),
            Ok(None) => Err("the end of the connection".to_owned()),
            Ok(Some(received)) => received,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends and receives until the closing handshake is over, or the connection breaks.
async fn drive(
    mut socket: Socket,
    mut to_send: mpsc::UnboundedReceiver<Message>,
    sender: mpsc::UnboundedSender<Result<Message, String>>,
) {
    // An error means that the client was dropped.
    let forward = |result| drop(sender.send(result));
    let broken = |error: tokio_tungstenite::tungstenite::Error| format!("the end of the connection: {error}");
    loop {
        let closes = tokio::select! {
            Some(message) = to_send.recv() => {
                let closes = message.is_close();
                if let Err(error) = socket.send(message).await {
                    // Frames that the gateway sent before it closed the connection say more than the error.
                    read_to_end(&mut socket, &forward).await;
                    return forward(Err(broken(error)));
                }
                closes
            }
            received = socket.next() => match received {
                None => return forward(Err("the end of the connection without a close frame".to_owned())),
                Some(Err(error)) => return forward(Err(broken(error))),
                Some(Ok(Message::Ping(_))) => false,
                Some(Ok(message)) => {
                    let closes = message.is_close();
                    forward(Ok(message));
                    closes
                }
            },
        };
        if closes {
            return read_to_end(&mut socket, &forward).await;
        }
    }
}

/// Reads the rest of the closing handshake.
async fn read_to_end(socket: &mut Socket, forward: &impl Fn(Result<Message, String>)) {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while let Ok(Some(Ok(message))) = timeout_at(deadline, socket.next()).await {
        forward(Ok(message));
    }
}
