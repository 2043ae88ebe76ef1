//! An API Gateway WebSocket API: handshake, routes, integrations, frames and the management API.
//!
//! How the real one behaves, and how sure that is, stands in `docs/emulator.md`.

mod authorizer;
mod connections;
mod event;
mod handshake;
mod ids;
mod integration;
mod management;
pub(crate) mod selection;
mod socket;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{HeaderValue, UPGRADE},
};
use shared::clock::Clock;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::connections::Connections;
pub(crate) use self::connections::Summary;
use crate::{
    http::{Body, json},
    lambda::Functions,
    template::WebSocketApi,
};

/// How long connections may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Time without any frame after which a connection is closed.
    idle_max: Duration,
    /// Time after which a connection is closed in any case.
    life_max: Duration,
}

impl Limits {
    /// The limits of the service. Source: API Gateway quotas.
    const REAL: Self = Self { idle_max: Duration::from_secs(10 * 60), life_max: Duration::from_secs(2 * 60 * 60) };

    /// The real limits, passing `scale` times faster, so that a cut after two hours can be seen in seconds.
    pub(crate) fn scaled(scale: f64) -> Self {
        Self { idle_max: Self::REAL.idle_max.div_f64(scale), life_max: Self::REAL.life_max.div_f64(scale) }
    }
}

/// Largest frame from a client. Source: API Gateway quotas.
const FRAME_BYTES_MAX: usize = 32 * 1024;

/// Largest message, from a client or in a post. Source: API Gateway quotas.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Messages waiting for one client before posts to it answer 429. The real buffer's size is not documented.
const OUTBOUND_MESSAGES_MAX: usize = 256;

/// Time that a client has to take one frame before it counts as lost. The real limit is not documented.
const SEND_WAIT: Duration = Duration::from_secs(10);

/// Time that a client has to answer a close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// One WebSocket API on one stage.
#[derive(Debug)]
pub(crate) struct Gateway {
    api: WebSocketApi,
    functions: Arc<Functions>,
    connections: Connections,
    clock: Clock,
    limits: Limits,
    /// Sockets and the `$disconnect` invocations that follow them.
    tasks: TaskTracker,
    /// Cancelled when every socket shall close.
    closing: CancellationToken,
}

impl Gateway {
    /// A gateway that invokes `functions` as `api` says.
    pub(crate) fn new(api: WebSocketApi, functions: Arc<Functions>, clock: Clock, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            api,
            functions,
            connections: Connections::default(),
            clock,
            limits,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// The stage, first segment of the address.
    pub(crate) fn stage(&self) -> &str {
        &self.api.stage
    }

    /// What is connected now.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        self.connections.summaries()
    }

    /// Answers one request: a handshake, or a call of the management API.
    ///
    /// Both are served below the stage, as under the API's own address, and at the root, as behind a custom domain.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix('/').unwrap_or(&path);
        let path = match path.strip_prefix(self.stage()) {
            Some("") => "",
            Some(rest) if rest.starts_with('/') => &rest[1..],
            _ => path,
        };
        if let Some(id) = path.strip_prefix("@connections/").or_else(|| path.strip_prefix("%40connections/")) {
            return management::handle(&self, id, request).await;
        }
        let upgrades =
            request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        match (path, upgrades) {
            ("", true) if self.closing.is_cancelled() => {
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"message": "Service Unavailable"}))
            }
            ("", true) => handshake::handle(self, request, peer).await,
            ("", false) if request.method() == Method::GET => {
                json(StatusCode::UPGRADE_REQUIRED, &serde_json::json!({"message": "Upgrade Required"}))
            }
            _ => {
                // The commonest mistake of all: an endpoint whose path is not the stage.
                tracing::warn!(
                    path = request.uri().path(),
                    stage = self.stage(),
                    "request outside of the stage refused"
                );
                let mut response = json(StatusCode::FORBIDDEN, &serde_json::json!({"message": "Forbidden"}));
                // AWS clients read the kind of an error from this header.
                response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("ForbiddenException"));
                response
            }
        }
    }

    /// Closes every socket with a close frame and waits until `$disconnect` has run for each.
    pub(crate) async fn finish(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
