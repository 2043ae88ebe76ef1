//! The canary's surroundings: a socket that carries bytes, and what is known of its runs.
//!
//! All other clients of a world are models, which the gateway hands frames. The canary is a function, so a real
//! handshake and real frames go to its WebSocket client.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use http::{
    HeaderMap, Request, Response,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming as Body},
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use serde_json::Value;
use shared::{auth::token::SUBPROTOCOL, model::audience::CANARY};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

use crate::client::Lost;
use crate::cloud::{Cloud, Incoming, InvocationError, Socket, Visitor, lock};

/// Seconds within which a socket breaks, if it does. A run takes as long at most.
const RUN_S: f64 = 10.0;

/// Time after the last fault from which on a run has to succeed.
const CALM: Duration = Duration::from_secs(30);

/// What is known of the canary.
#[derive(Default)]
pub(super) struct Canary {
    /// Runs that have not ended, by process.
    under_way: BTreeMap<String, CanaryRun>,
    /// Publications, by the id of the run.
    published: BTreeMap<String, CanaryPublication>,
}

/// A run of the canary, as the world sees it.
#[derive(Default)]
struct CanaryRun {
    /// Whether nothing goes wrong any more.
    is_calm: bool,
    connection: String,
    /// The ids under which it published.
    published: BTreeSet<String>,
    was_limited: bool,
    /// Its socket broke, as all others did.
    was_cut: bool,
    /// The ids that it was sent.
    heard: BTreeSet<String>,
}

/// What publish was asked for by a run, and answered.
#[derive(Clone, Debug)]
pub struct CanaryPublication {
    pub sent_ms: u64,
    pub attempts: u32,
    /// Without those that were lost with an invocation that died.
    pub answers: Vec<Value>,
}

/// The token among the subprotocols.
fn token_of(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    offered.split(", ").find_map(|protocol| protocol.strip_prefix("bearer.")).map(str::to_owned)
}

impl Cloud {
    /// Publications of the canary, by the id of the run.
    pub fn canary_publications(&self) -> BTreeMap<String, CanaryPublication> {
        lock(&self.canary).published.clone()
    }

    /// An invocation of the canary begins.
    pub(super) fn canary_begins(&self, process: &str) {
        let is_calm = self.planned().is_calm() || self.is_calm_for(CALM);
        lock(&self.canary).under_way.insert(process.to_owned(), CanaryRun { is_calm, ..CanaryRun::default() });
    }

    /// It asks publish for its alert. Returns the id of the run.
    pub(super) fn canary_publishes(&self, process: &str, event: &[u8]) -> Option<String> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let id = event["canary"].as_str()?.to_owned();
        let mut canary = lock(&self.canary);
        if let Some(run) = canary.under_way.get_mut(process) {
            run.published.insert(id.clone());
        }
        let fresh = CanaryPublication { sent_ms: self.elapsed_ms(), attempts: 0, answers: Vec::new() };
        canary.published.entry(id.clone()).or_insert(fresh).attempts += 1;
        Some(id)
    }

    /// publish has answered.
    pub(super) fn canary_is_answered(&self, process: &str, id: &str, result: &Result<Vec<u8>, InvocationError>) {
        let mut canary = lock(&self.canary);
        let answer = match result {
            Ok(answer) => serde_json::from_slice(answer).unwrap_or_default(),
            Err(InvocationError::Failed(failure)) => {
                let is_limited = failure.contains("RateLimited");
                if let Some(run) = canary.under_way.get_mut(process) {
                    run.was_limited |= is_limited;
                }
                let code = if is_limited { "rate_limited" } else { "unavailable" };
                serde_json::json!({"error": {"code": code}})
            }
            Err(InvocationError::Died | InvocationError::TimedOut) => return,
        };
        if let Some(publication) = canary.published.get_mut(id) {
            publication.answers.push(answer);
        }
    }

    /// Guarantee 11: an invocation of the canary has ended.
    pub(super) fn canary_ends(&self, process: &str, result: &Result<Vec<u8>, InvocationError>) {
        let Some(run) = lock(&self.canary).under_way.remove(process) else { return };
        let answer = result.as_ref().ok().and_then(|answer| serde_json::from_slice::<Value>(answer).ok());
        let has_arrived = answer.as_ref().is_some_and(|answer| answer["arrived"] == true);
        if has_arrived && run.heard.is_disjoint(&run.published) {
            let CanaryRun { published, heard, .. } = &run;
            self.breaks(
                11,
                format!("{process} says that its alert arrived: it published {published:?}, heard {heard:?}"),
            );
        }
        let is_excused = run.was_limited || run.was_cut || self.was_over_quota(&run.connection);
        if !has_arrived && run.is_calm && !is_excused {
            self.breaks(11, format!("{process} hears nothing where nothing goes wrong: {answer:?}"));
        }
    }

    /// Its socket breaks.
    fn canary_is_cut(&self, process: &str) {
        if let Some(run) = lock(&self.canary).under_way.get_mut(process) {
            run.was_cut = true;
        }
    }

    /// A frame goes to the canary.
    fn canary_hears(&self, process: &str, text: &str) {
        self.note(|| format!("{process} receives {text}"));
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let Some(id) = frame["video"]["id"].as_str() else { return };
        if frame["region"] != CANARY && frame["everyone"] != true {
            self.breaks(3, format!("the canary is sent {id} of {}", frame["region"]));
        }
        if let Some(run) = lock(&self.canary).under_way.get_mut(process)
            && frame["region"] == CANARY
        {
            run.heard.insert(id.to_owned());
        }
    }

    /// Answers the handshake of a real WebSocket client.
    pub(super) async fn upgrade(
        self: Arc<Self>,
        process: String,
        mut request: Request<Body>,
    ) -> Result<Response<Full<Bytes>>, std::io::Error> {
        if self.dies_at_request(&process, false) {
            return std::future::pending().await;
        }
        let is_lost = self.chance(&process, self.weather().lost_requests);
        if is_lost {
            return Err(std::io::Error::other(Lost));
        }
        let headers = request.headers();
        let token = token_of(headers);
        let has_token = token.is_some();
        let accepted = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY).map_or(&[], |key| key.as_bytes()));
        let upgrade = hyper::upgrade::on(&mut request);
        let name = format!("socket of {process}");
        let visitor = Visitor { name, address: "192.0.2.2".to_owned(), query: Vec::new(), token };
        // The gateway goes on with the handshake of a client that is gone.
        let cloud = Arc::clone(&self);
        let opening = tokio::spawn(async move {
            let socket = cloud.handshake(&visitor).await?;
            if let Some(run) = lock(&cloud.canary).under_way.get_mut(&process) {
                run.connection.clone_from(&socket.line.id);
            }
            tokio::spawn(carry(cloud, process, socket, upgrade));
            Ok::<_, u16>(())
        });
        let opened = opening.await.unwrap_or_else(|ended| match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(500),
        });
        let response = match opened {
            Ok(()) => {
                let response = Response::builder()
                    .status(101)
                    .header(CONNECTION, "Upgrade")
                    .header(UPGRADE, "websocket")
                    .header(SEC_WEBSOCKET_ACCEPT, accepted);
                if has_token { response.header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) } else { response }
            }
            Err(status) => Response::builder().status(status),
        };
        response.body(Full::default()).map_err(std::io::Error::other)
    }
}

/// Carries frames between a real WebSocket client and the gateway, until either has gone or the socket breaks.
async fn carry(cloud: Arc<Cloud>, process: String, mut socket: Socket, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut client: WebSocketStream<TokioIo<Upgraded>> =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let weather = cloud.weather();
    let (breaks, is_silent, after) = cloud.draw(&format!("socket of {process}"), |random| {
        let share = 1.0 - (1.0 - weather.broken_sockets).powf(RUN_S);
        (random.random_bool(share), random.random_bool(weather.silent_breaks), random.random_range(0.0..RUN_S))
    });
    let breaks_at = Instant::now() + Duration::from_secs_f64(after);
    // What is on its way to the client.
    let mut coming: Option<(Instant, Incoming)> = None;
    loop {
        let arrives_at = coming.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            () = sleep_until(breaks_at), if breaks && !cloud.is_calm() => {
                socket.line.breaks(is_silent);
                // Nothing comes through any more, and the client does not know.
                while is_silent && matches!(client.next().await, Some(Ok(_))) {}
                return;
            }
            () = sleep_until(arrives_at.unwrap_or(breaks_at)), if arrives_at.is_some() => {
                let sent = match coming.take() {
                    Some((_, Incoming::Frame(text))) => {
                        cloud.canary_hears(&process, &text);
                        client.send(Message::text(text)).await
                    }
                    // It breaks without a close.
                    Some((_, Incoming::Closed(1006))) => return cloud.canary_is_cut(&process),
                    Some((_, Incoming::Closed(code))) => {
                        client.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await
                    }
                    None => Ok(()),
                };
                if sent.is_err() {
                    return;
                }
            }
            next = socket.incoming.recv(), if arrives_at.is_none() => match next {
                Some(next) => coming = Some(next),
                None => return,
            },
            message = client.next() => match message {
                Some(Ok(Message::Text(text))) => socket.line.send(text.to_string()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
