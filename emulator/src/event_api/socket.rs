//! The sockets of an Event API: the handshake, and one socket to its end.
//!
//! Source: AppSync developer guide, "Understanding the Event API WebSocket protocol".

use std::{net::SocketAddr, pin::pin, sync::Arc};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, USER_AGENT},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    api::ServedEventApi,
    authorization,
    credentials::{Credentials, Operation, header_object},
    error::{EventError, Refused},
    frames::{self, Answer},
    limits::BODY_BYTES_MAX,
    subscriptions::Session,
};
use crate::{
    faults::FaultKind,
    gateway::{
        CLOSE_TIMEOUT, CloseReason, Connection, OutboundReceiver, READ_BUFFER_BYTES, SEND_TIMEOUT, Upgrade,
        close_reason, new_connection_id, outbound,
    },
    http::{Body, Request},
};

/// The subprotocol of all sockets.
const SUBPROTOCOL: &str = "aws-appsync-event-ws";

/// What the subprotocol with the credentials begins with.
const HEADER: &str = "header-";

/// The operation that authorizers are asked about.
const OPERATION: &str = "EVENT_CONNECT";

/// How a socket whose client is refused is closed. The codes of the service are unknown: these are ministack's.
const UNAUTHORIZED: CloseReason = CloseReason { code: CloseCode::Library(4401), reason: "Unauthorized" };
const BAD_HEADER: CloseReason = CloseReason { code: CloseCode::Library(4400), reason: "Bad Request" };

/// Credentials are base64 for URLs, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

type Socket<S> = WebSocketStream<S>;

/// Upgrades a request. A client that may not connect gets a WebSocket too, with one frame that says so.
pub(super) async fn connect(api: &Arc<ServedEventApi>, mut request: Request, peer: SocketAddr) -> Response<Body> {
    let shared = &api.shared;
    let now = shared.clock.now();
    let id = new_connection_id(now);
    let shown: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let attempt = shared.recorder.handshake(Some(&id), request.uri(), &shown, peer);
    let refuse = |status: StatusCode, error: EventError| {
        attempt.answered(status, &error.message);
        let mut response = error.response();
        *response.status_mut() = status;
        response
    };
    let bad = |message| refuse(StatusCode::BAD_REQUEST, EventError::new(Refused::BadRequest, message));
    let Some(asked) = Upgrade::asked(&request) else {
        return bad("expected a WebSocket handshake: connect to ws:// or wss:// with a WebSocket client");
    };
    let offered = subprotocols(request.headers());
    if !offered.iter().any(|offered| offered == SUBPROTOCOL) {
        return bad("expected the subprotocol aws-appsync-event-ws");
    }
    if !api.has_room() {
        let error = EventError::new(Refused::LimitExceeded, "too many connections, or the emulator stops");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    }
    if !api.admits_connect() {
        return refuse(StatusCode::TOO_MANY_REQUESTS, EventError::THROTTLED);
    }
    let headers = header_object(request.headers());
    let credentials = credentials(&offered, request.headers());
    let authorized = match &credentials {
        Ok(credentials) => {
            let operation = Operation { name: OPERATION, namespace: None, channel: None };
            let signature = || authorization::check_signature(api, credentials, "{}");
            authorization::authorize(api, &api.api.connect, operation, credentials, &headers, signature, &id).await
        }
        Err(error) => Err(error.clone()),
    };
    let refused = authorized.err();
    let verdict = refused.as_ref().map(|error| format!("connection_error: {}", error.message)).unwrap_or_default();
    attempt.answered(StatusCode::SWITCHING_PROTOCOLS, &verdict);

    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (outbound, waiting) = outbound(&shared.waiting);
    let host = text(HOST).unwrap_or_default();
    let connection = Arc::new(Connection::new(id, now, peer, text(USER_AGENT), host, outbound));
    let session = Session::new(connection, credentials.unwrap_or_default(), headers, shared.socket_bucket());
    let session = Arc::new(session);
    if refused.is_none() {
        api.add(&session);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    shared.tasks.spawn(run(Arc::clone(api), session, upgrade, waiting, refused));
    asked.answer(Some(HeaderValue::from_static(SUBPROTOCOL)))
}

/// A session with the first key of an API.
#[cfg(feature = "fuzzing")]
pub(super) fn session_for_fuzzing(api: &ServedEventApi) -> (Arc<Session>, OutboundReceiver) {
    let (outbound, waiting) = outbound(&api.shared.waiting);
    let now = api.shared.clock.now();
    let peer = ([127, 0, 0, 1], 1).into();
    let connection = Connection::new(new_connection_id(now), now, peer, None, String::new(), outbound);
    let key = api.api.keys.first().map(|key| key.key.clone());
    let credentials = Credentials::of_object(&serde_json::json!({"x-api-key": key})).unwrap_or_default();
    let session = Arc::new(Session::new(Arc::new(connection), credentials, Value::Null, None));
    api.add(&session);
    (session, waiting)
}

fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|offered| offered.trim().to_owned()).collect()
}

/// The credentials of a handshake: those of its subprotocol, or its headers, as AWS's client for Swift has them.
fn credentials(offered: &[String], headers: &HeaderMap) -> Result<Credentials, EventError> {
    let Some(encoded) = offered.iter().find_map(|offered| offered.strip_prefix(HEADER)) else {
        return Ok(Credentials::of_headers(headers));
    };
    let bad = |message| EventError::new(Refused::BadRequest, message);
    let object = BASE64.decode(encoded).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let credentials = object.as_ref().and_then(Credentials::of_object);
    let credentials =
        credentials.ok_or(bad("The subprotocol header-… is not an object in JSON and base64 for URLs"))?;
    match credentials.get("host") {
        Some(_) => Ok(credentials),
        None => Err(bad("The credentials of the subprotocol header-… have no host")),
    }
}

/// How a socket ended.
enum SocketEnd {
    /// The client closed the connection with a status and a reason, or is lost.
    ByClient(u16, String),
    /// The API closes the connection, and sends a close frame.
    ByApi(CloseReason),
    /// The TCP connection is cut, as an injected fault.
    Cut,
}

impl SocketEnd {
    fn lost() -> Self {
        Self::ByClient(CloseReason::LOST.code.into(), String::new())
    }
}

/// Serves a socket until it ends, then ends its subscriptions.
async fn run(
    api: Arc<ServedEventApi>,
    session: Arc<Session>,
    upgrade: OnUpgrade,
    waiting: OutboundReceiver,
    refused: Option<EventError>,
) {
    let (code, reason) = match upgrade.await {
        Ok(upgraded) => serve(&api, &session, TokioIo::new(upgraded), waiting, refused).await,
        Err(_) => CloseReason::LOST.into(),
    };
    let connection = &session.connection;
    api.remove(&session);
    tracing::debug!(connection = connection.id, code, reason, "connection of an Event API closed");
    let lived = api.shared.clock.now().since(connection.connected_at);
    api.shared.recorder.closed(&connection.id, code, &reason, lived);
}

/// Speaks WebSocket over a stream until it ends, and returns the close status and reason.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    api: &Arc<ServedEventApi>,
    session: &Arc<Session>,
    stream: S,
    mut waiting: OutboundReceiver,
    refused: Option<EventError>,
) -> (u16, String) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(BODY_BYTES_MAX))
        .max_message_size(Some(BODY_BYTES_MAX));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let ended = match refused {
        Some(error) => {
            let frame = error.frame("connection_error", None).to_string();
            let sent = send(api, session, &mut socket, frame.into()).await;
            let reason = if error.refused == Refused::BadRequest { BAD_HEADER } else { UNAUTHORIZED };
            sent.err().unwrap_or(SocketEnd::ByApi(reason))
        }
        None => exchange(api, session, &mut socket, &mut waiting).await,
    };
    // From here on no event is accepted and then lost.
    waiting.close();
    api.remove(session);
    match ended {
        SocketEnd::Cut => CloseReason::LOST.into(),
        SocketEnd::ByClient(code, reason) => {
            let _ = timeout(CLOSE_TIMEOUT, finish(&mut socket)).await;
            (code, reason)
        }
        SocketEnd::ByApi(closing) => {
            let frame = CloseFrame { code: closing.code, reason: closing.reason.into() };
            let _ = timeout(CLOSE_TIMEOUT, async {
                socket.close(Some(frame)).await?;
                finish(&mut socket).await;
                Ok::<_, Error>(())
            })
            .await;
            closing.into()
        }
    }
}

/// Exchanges frames with a client until the socket has to end.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    api: &Arc<ServedEventApi>,
    session: &Arc<Session>,
    socket: &mut Socket<S>,
    waiting: &mut OutboundReceiver,
) -> SocketEnd {
    let shared = &api.shared;
    let is_cut = || shared.faults.inject(FaultKind::DroppedConnection).is_some();
    let mut alive = interval_at(Instant::now() + shared.keep_alive, shared.keep_alive);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = pin!(shared.closing.cancelled());
    let mut closed = pin!(session.connection.closed());
    let mut life = pin!(sleep(shared.life_max));
    // Answers that wait for an authorizer. Their number and bytes are bounded by the backlog.
    let mut answers: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
    loop {
        let outbound: Utf8Bytes = tokio::select! {
            text = waiting.recv() => {
                if is_cut() {
                    return SocketEnd::Cut;
                }
                text
            }
            Some(answer) = answers.next(), if !answers.is_empty() => answer.text.into(),
            _ = alive.tick() => Utf8Bytes::from_static(r#"{"type":"ka"}"#),
            incoming = socket.next() => {
                if let Some(Ok(message)) = &incoming {
                    shared.recorder.received(&session.connection.id, message);
                }
                match incoming {
                    Some(Ok(Message::Text(_))) if is_cut() => return SocketEnd::Cut,
                    Some(Ok(Message::Text(text))) => {
                        session.connection.note_received(shared.clock.now());
                        let mut answer = frames::answer(Arc::clone(api), Arc::clone(session), text).boxed();
                        // What needs no authorizer is answered at once, in the order of the frames.
                        match (&mut answer).now_or_never() {
                            Some(Answer { text, is_after_events }) => {
                                let first = if is_after_events { waiting.len() } else { 0 };
                                for _ in 0..first {
                                    let Some(event) = waiting.try_recv() else { break };
                                    if let Err(end) = send(api, session, socket, event).await {
                                        return end;
                                    }
                                }
                                text.into()
                            }
                            None => {
                                answers.push(answer);
                                continue;
                            }
                        }
                    }
                    Some(Ok(Message::Binary(_))) => return SocketEnd::ByApi(CloseReason::BINARY),
                    Some(Ok(Message::Close(frame))) => return closed_by_client(frame),
                    // The WebSocket library answers pings, but keeps any number of answers that a client does not read.
                    Some(Ok(Message::Ping(_))) => match unless_closed(session, socket.flush()).await {
                        Ok(()) => continue,
                        Err(end) => return end,
                    },
                    Some(Ok(Message::Pong(_) | Message::Frame(_))) => continue,
                    Some(Err(error)) => return close_reason(&error).map_or_else(SocketEnd::lost, SocketEnd::ByApi),
                    None => return SocketEnd::lost(),
                }
            },
            () = &mut closed => return SocketEnd::ByApi(CloseReason::NORMAL),
            () = &mut closing => return SocketEnd::ByApi(CloseReason::GOING_AWAY),
            () = &mut life => return SocketEnd::ByApi(CloseReason::GOING_AWAY),
        };
        if let Err(end) = send(api, session, socket, outbound).await {
            return end;
        }
    }
}

/// Sends a frame.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    api: &ServedEventApi,
    session: &Session,
    socket: &mut Socket<S>,
    text: Utf8Bytes,
) -> Result<(), SocketEnd> {
    session.connection.note_sent(api.shared.clock.now());
    api.shared.recorder.sent(&session.connection.id, &text);
    unless_closed(session, socket.send(Message::Text(text))).await
}

/// Writes, and says how the socket has to end if the client does not take it in time, or if it is closed meanwhile.
async fn unless_closed(session: &Session, write: impl Future<Output = Result<(), Error>>) -> Result<(), SocketEnd> {
    tokio::select! {
        // First, so that what is noted as sent is at least begun.
        biased;
        written = timeout(SEND_TIMEOUT, write) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(SocketEnd::lost()),
        },
        () = session.connection.closed() => Err(SocketEnd::ByApi(CloseReason::NORMAL)),
    }
}

/// Reads to the end. This sends the answer to a close frame, or waits for it.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) {
    while let Some(Ok(_)) = socket.next().await {}
}

fn closed_by_client(frame: Option<CloseFrame>) -> SocketEnd {
    match frame {
        Some(CloseFrame { code, reason }) => SocketEnd::ByClient(code.into(), reason.to_string()),
        None => SocketEnd::ByClient(CloseCode::Status.into(), String::new()),
    }
}
