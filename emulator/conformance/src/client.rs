//! A client that reads all the time, as browsers do: pings and close frames are answered while a case looks elsewhere.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::tungstenite::Message;

use crate::gateway::Socket;

/// Time that a gateway has to end the TCP connection after both close frames.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// A connected client. Its TCP connection ends when this is dropped.
pub(crate) struct Client {
    to_send: mpsc::UnboundedSender<Message>,
    /// Frames but for pings, and in the end why there are no more.
    received: mpsc::UnboundedReceiver<Result<Message, String>>,
    task: JoinHandle<()>,
}

impl Client {
    pub(crate) fn new(socket: Socket) -> Self {
        let (to_send, sent) = mpsc::unbounded_channel();
        let (tell, received) = mpsc::unbounded_channel();
        Self { to_send, received, task: tokio::spawn(drive(socket, sent, tell)) }
    }

    /// Sends a frame. Whether it arrives is seen in what comes back; `false` when the connection has ended before.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.to_send.send(message).is_ok()
    }

    /// The next frame that is not a ping, or what there is instead.
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
    tell: mpsc::UnboundedSender<Result<Message, String>>,
) {
    // Whoever does not listen any more does not miss anything.
    let tell = |what| drop(tell.send(what));
    let broken = |error: tokio_tungstenite::tungstenite::Error| format!("the end of the connection: {error}");
    loop {
        let closes = tokio::select! {
            Some(message) = to_send.recv() => {
                let closes = message.is_close();
                if let Err(error) = socket.send(message).await {
                    // What the gateway said before it stopped listening is the better answer.
                    read_to_end(&mut socket, &tell).await;
                    return tell(Err(broken(error)));
                }
                closes
            }
            received = socket.next() => match received {
                None => return tell(Err("the end of the connection without a close frame".to_owned())),
                Some(Err(error)) => return tell(Err(broken(error))),
                Some(Ok(Message::Ping(_))) => false,
                Some(Ok(message)) => {
                    let closes = message.is_close();
                    tell(Ok(message));
                    closes
                }
            },
        };
        if closes {
            return read_to_end(&mut socket, &tell).await;
        }
    }
}

/// The rest of the closing handshake.
async fn read_to_end(socket: &mut Socket, tell: &impl Fn(Result<Message, String>)) {
    let deadline = Instant::now() + CLOSE_WAIT;
    while let Ok(Some(Ok(message))) = timeout_at(deadline, socket.next()).await {
        tell(Ok(message));
    }
}
