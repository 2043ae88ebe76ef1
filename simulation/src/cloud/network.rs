//! The network between the functions and AWS: what is on its way, and what never arrives.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, Response, header::UPGRADE};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rand::RngExt;
use shared::runtime::network::{Network, Stream};
use tokio::{io::duplex, time::sleep};

use crate::{
    client::{Call, Lost, Reply, World},
    cloud::{Cloud, event_api::PUBLISH_PATH},
};

/// Bytes that are on their way at most.
const PIPE_BYTES: usize = 64 * 1024;

/// Milliseconds until it is noticed that a connection has broken, at most. Clients wait no longer than four seconds.
const BREAK_MS: f64 = 6_000.0;

impl Cloud {
    /// Where the functions' own HTTP clients lead.
    pub(super) fn network(self: &Arc<Self>, process: &str) -> Network {
        let (cloud, process) = (Arc::clone(self), process.to_owned());
        Network::Simulated(Arc::new(move |address| {
            let (cloud, process) = (Arc::clone(&cloud), process.clone());
            async move {
                let ms = cloud.draw(&process, |random| random.random_range(1..4_u64));
                sleep(Duration::from_millis(ms)).await;
                let (near, far) = duplex(PIPE_BYTES);
                let host = address.to_string();
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        respond(Arc::clone(&cloud), process.clone(), host.clone(), request)
                    });
                    // It ends with the client's half.
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(far), service);
                    drop(connection.with_upgrades().await);
                });
                Ok(Stream::new(TokioIo::new(near)))
            }
            .boxed()
        }))
    }
}

async fn respond(
    cloud: Arc<Cloud>,
    process: String,
    host: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    if request.headers().contains_key(UPGRADE) {
        return cloud.upgrade(process, request).await;
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = Call {
        process,
        method: head.method.to_string(),
        uri: format!("{}{}", host.trim_end_matches('/'), head.uri),
        operation: header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned(),
        signature: header("authorization").to_owned(),
        body,
        ..Call::default()
    };
    // An error ends the connection without an answer.
    let Reply { status, body } = cloud.answer(call).await.map_err(std::io::Error::other)?;
    let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
    response.map_err(std::io::Error::other)
}

/// Many messages of one moment are under way.
#[derive(Debug)]
pub(crate) struct Flood(Arc<Cloud>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.floods.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What becomes of a request.
struct Fate {
    there: Duration,
    back: Duration,
    is_lost: bool,
    is_answer_lost: bool,
    /// Until a break is noticed.
    broken: Duration,
}

impl Cloud {
    /// Begins a flood, which lasts until what is returned is dropped.
    pub(crate) fn flood(self: &Arc<Self>) -> Flood {
        self.floods.fetch_add(1, Ordering::Relaxed);
        Flood(Arc::clone(self))
    }

    fn fate(&self, process: &str) -> Fate {
        let weather = self.weather();
        let is_flooded = process.contains("SubscribeFunction") && self.floods.load(Ordering::Relaxed) > 0;
        let most_ms = if is_flooded { 60 } else { 6 };
        self.draw(process, |random| {
            let mut way = || {
                if let Some(ms) = self.settings.way_ms {
                    return Duration::from_millis(ms);
                }
                let is_slow = random.random_bool(weather.slow_requests / 2.0);
                Duration::from_millis(if is_slow {
                    random.random_range(50..3_000)
                } else {
                    random.random_range(1..most_ms)
                })
            };
            let (there, back) = (way(), way());
            let is_lost = random.random_bool(weather.lost_requests);
            let is_answer_lost = random.random_bool(weather.lost_answers);
            let at_once = random.random_bool(0.7);
            let broken = if at_once { 0.0 } else { random.random_range(0.0..BREAK_MS) };
            Fate { there, back, is_lost, is_answer_lost, broken: Duration::from_secs_f64(broken / 1_000.0) }
        })
    }

    async fn travel(self: Arc<Self>, call: Call) -> Result<Reply, Lost> {
        let fate = self.fate(&call.process);
        sleep(fate.there).await;
        if fate.is_lost {
            self.note_lost_handover(&call);
            sleep(fate.broken).await;
            return Err(Lost);
        }
        let reply = self.carry_out_call(&call).await;
        self.note(|| {
            let what = if call.operation.is_empty() {
                format!("{} {}", call.method, path(&call.uri))
            } else {
                call.operation.clone()
            };
            format!("{} {what}: {}", call.process, reply.status)
        });
        if fate.is_answer_lost {
            sleep(fate.broken).await;
            return Err(Lost);
        }
        sleep(fate.back).await;
        Ok(reply)
    }
}

/// The path of an address.
fn path(uri: &str) -> &str {
    let after_scheme = uri.find("://").map_or(0, |at| at + 3);
    uri[after_scheme..].find('/').map_or("/", |at| &uri[after_scheme + at..])
}

impl Cloud {
    async fn carry_out_call(self: &Arc<Self>, call: &Call) -> Reply {
        let path = path(&call.uri);
        match call.operation.as_str() {
            "" if path.contains("/@connections/") => self.manage(call, path).await,
            "" if path.contains("/functions/") => self.take_invocation(call, path).await,
            "" if path == "/counts" => self.feed().await,
            "" if path == PUBLISH_PATH && call.method == "POST" => self.publish_event(call).await,
            "" => self.issuer(path),
            "GetParameter" => self.parameter(call),
            "PutEvents" => self.put_events(call),
            "ReceiveMessage" | "DeleteMessage" => self.queue(call).await,
            _ => {
                let (reply, units) = self.database(call).await;
                if call.process.starts_with("ScorerFunction") && call.operation == "PutItem" && reply.status == 200 {
                    self.note_found(call);
                }
                self.bill(&call.process, units);
                reply
            }
        }
    }
}

impl World for Cloud {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>> {
        let call = Call { process: Self::lane(&call.process).to_owned(), ..call };
        async move {
            if self.dies_at_request(&call.process, false) {
                return std::future::pending().await;
            }
            self.check_rate(&call);
            // What has left takes effect, also where the one that asked for it ends meanwhile.
            let (cloud, process) = (Arc::clone(&self), call.process.clone());
            let busy = self.begin();
            let under_way = tokio::spawn(async move {
                let reply = cloud.travel(call).await;
                drop(busy);
                reply
            });
            if self.dies_at_request(&process, true) {
                return std::future::pending().await;
            }
            under_way.await.unwrap_or_else(|ended| match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Lost),
            })
        }
        .boxed()
    }
}
