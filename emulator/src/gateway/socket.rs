//! One open socket, from the end of the handshake to the end of `$disconnect`.

use std::{pin::pin, sync::Arc};

use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use super::{
    api::Gateway,
    connections::{CloseReason, Connection},
    event,
    limits::{CLOSE_TIMEOUT, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX},
    outbound::{NotWritten, OutboundReceiver, Outgoing},
    settings::Limits,
};
use crate::faults::FaultKind;

/// Bytes of the read buffer. It is zeroed before each read, and the default of 128 KB would be most of the memory of an
/// idle connection.
pub(crate) const READ_BUFFER_BYTES: usize = 1024;

/// How a socket ended.
enum SocketEnd {
    /// The client closed the connection with a status and a reason, or is lost.
    ByClient(u16, String),
    /// The gateway closes the connection, and sends a close frame.
    ByGateway(CloseReason),
    /// The TCP connection is cut, as an injected fault.
    Cut,
}

impl From<NotWritten<()>> for SocketEnd {
    fn from(not_written: NotWritten<()>) -> Self {
        match not_written {
            NotWritten::Lost => Self::ByClient(CloseReason::LOST.code.into(), String::new()),
            NotWritten::Ended(()) => Self::ByGateway(CloseReason::NORMAL),
        }
    }
}

/// Serves a socket until it ends, then runs `$disconnect`.
pub(super) async fn run(
    gateway: Arc<Gateway>,
    connection: Arc<Connection>,
    upgrade: OnUpgrade,
    waiting: OutboundReceiver,
) {
    let (code, reason) = match upgrade.await {
        Ok(upgraded) => serve(&gateway, &connection, TokioIo::new(upgraded), waiting).await,
        Err(_) => CloseReason::LOST.into(),
    };
    gateway.connections.remove(&connection.id);
    tracing::debug!(connection = connection.id, code, reason, "connection closed");
    gateway.recorder.closed(&connection.id, code, &reason, gateway.clock.now().since(connection.connected_at));
    if let Some(route) = gateway.api.routes.get("$disconnect")
        && gateway.buckets.admits("$disconnect", &gateway.clock)
        && gateway.settings.faults.inject(FaultKind::LostDisconnect).is_none()
    {
        let event = event::disconnect(&gateway, &connection, code, &reason);
        // Nothing waits for the response; a failure was logged where it happened.
        let _ = gateway.run(route, &event, &connection).await;
    }
}

/// Speaks WebSocket over a stream until it ends, and returns the close status and reason.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    gateway: &Arc<Gateway>,
    connection: &Arc<Connection>,
    stream: S,
    mut waiting: OutboundReceiver,
) -> (u16, String) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let Limits { idle_max, life_max, .. } = gateway.settings.limits;
    let faults = &gateway.settings.faults;
    let is_cut = || faults.inject(FaultKind::DroppedConnection).is_some();
    let (frames, mut socket) = socket.split();
    // This task alone cuts the connection.
    waiting.attach(Box::pin(frames), !faults.has(FaultKind::DroppedConnection));
    let opened = Instant::now();
    let mut active = opened;
    let mut closing = pin!(gateway.closing.cancelled());
    let mut closed = pin!(connection.closed());
    // Reset when it expires, not with every message.
    let mut limit = pin!(sleep_until((opened + idle_max).min(opened + life_max)));
    let ended = loop {
        tokio::select! {
            outgoing = waiting.outgoing() => {
                if let Outgoing::Text(text) = &outgoing {
                    if is_cut() {
                        break SocketEnd::Cut;
                    }
                    active = Instant::now();
                    gateway.note_sent(connection, text);
                }
                if let Err(end) = waiting.write_until(outgoing, closed.as_mut()).await {
                    break end.into();
                }
            }
            incoming = socket.next() => {
                active = Instant::now();
                if let Some(Ok(message)) = &incoming {
                    gateway.recorder.received(&connection.id, message);
                }
                match incoming {
                    Some(Ok(Message::Text(_))) if is_cut() => break SocketEnd::Cut,
                    Some(Ok(Message::Text(body))) => {
                        connection.note_received(gateway.clock.now());
                        // The service promises no order between messages of a connection, and delays none for another.
                        gateway.tasks.spawn(Arc::clone(gateway).message(Arc::clone(connection), body));
                    }
                    Some(Ok(Message::Binary(_))) => break SocketEnd::ByGateway(CloseReason::BINARY),
                    Some(Ok(Message::Close(frame))) => break closed_by_client(frame),
                    // The WebSocket library answers pings, but keeps any number of answers that a client does not read.
                    Some(Ok(Message::Ping(_))) => {
                        let pong = waiting.pong();
                        if let Err(end) = waiting.write_until(pong, closed.as_mut()).await {
                            break end.into();
                        }
                    }
                    Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(error)) => break broken(&error),
                    None => break SocketEnd::ByClient(CloseReason::LOST.code.into(), String::new()),
                }
            },
            () = &mut closed => break SocketEnd::ByGateway(CloseReason::NORMAL),
            () = &mut closing => break SocketEnd::ByGateway(CloseReason::GOING_AWAY),
            () = &mut limit => {
                active = waiting.written_at().map_or(active, |at| active.max(at));
                let deadline = (active + idle_max).min(opened + life_max);
                if deadline <= Instant::now() {
                    break SocketEnd::ByGateway(CloseReason::GOING_AWAY);
                }
                limit.as_mut().reset(deadline);
            }
        }
    };
    // From here on no post finds the connection, so that none is accepted and then lost.
    let frames = waiting.close();
    gateway.connections.remove(&connection.id);
    match ended {
        SocketEnd::Cut => CloseReason::LOST.into(),
        SocketEnd::ByClient(code, reason) => {
            let _ = timeout(CLOSE_TIMEOUT, finish(&mut socket)).await;
            (code, reason)
        }
        SocketEnd::ByGateway(closing) => {
            let frame = CloseFrame { code: closing.code, reason: closing.reason.into() };
            let _ = timeout(CLOSE_TIMEOUT, async {
                let mut frames = frames.ok_or(Error::AlreadyClosed)?;
                // Messages that were accepted before come first.
                while let Some(text) = waiting.try_recv() {
                    gateway.note_sent(connection, &text);
                    frames.send(Message::Text(text)).await?;
                }
                frames.send(Message::Close(Some(frame))).await?;
                finish(&mut socket).await;
                Ok::<_, Error>(())
            })
            .await;
            closing.into()
        }
    }
}

/// Reads to the end. This sends the answer to a close frame, or waits for it.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut SplitStream<WebSocketStream<S>>) {
    while let Some(Ok(_)) = socket.next().await {}
}

fn closed_by_client(frame: Option<CloseFrame>) -> SocketEnd {
    match frame {
        Some(CloseFrame { code, reason }) => SocketEnd::ByClient(code.into(), reason.to_string()),
        None => SocketEnd::ByClient(1005, "Client-side close frame status not set".to_owned()),
    }
}

fn broken(error: &Error) -> SocketEnd {
    match close_reason(error) {
        Some(reason) => SocketEnd::ByGateway(reason),
        None => SocketEnd::ByClient(CloseReason::LOST.code.into(), String::new()),
    }
}

/// How a socket is closed after an error of its client. `None` if the client is lost.
pub(crate) fn close_reason(error: &Error) -> Option<CloseReason> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseReason::TOO_BIG),
        Error::Utf8(_) => Some(CloseReason::NOT_UTF8),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseReason::PROTOCOL),
        _ => None,
    }
}
