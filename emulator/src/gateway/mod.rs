//! An API Gateway WebSocket API: handshake, routes, integrations, frames and the management API.
//!
//! `docs/emulator.md` says how the real one behaves, with the source of each claim.

mod actions;
mod api;
mod authorizer;
mod authorizer_answer;
mod backend;
mod backlog;
mod connections;
mod event;
mod handshake;
mod ids;
mod integration;
mod limits;
mod management;
mod mapping;
mod outbound;
mod query;
mod response;
mod settings;
mod signature;
mod socket;

use std::{net::SocketAddr, sync::Arc};

use hyper::{
    Method, Response, StatusCode,
    header::{HOST, HeaderValue},
};

pub(crate) use self::{
    api::{Gateway, upgrades},
    authorizer_answer::{AnswerError, DENIED, NOT_ALLOWED, check_policy, context_object, context_of, principal},
    backlog::{Backlog, BacklogBounds},
    connections::{CloseReason, Connection, Connections},
    event::clf_time,
    handshake::{Upgrade, header_name},
    ids::{new_connection_id, new_request_id},
    limits::{CLOSE_TIMEOUT, MESSAGE_BYTES_MAX, SEND_TIMEOUT},
    outbound::{OutboundReceiver, SendError, outbound},
    query::query,
    response::status,
    settings::GatewaySettings,
    signature::{SignatureError, authenticate, authenticate_for},
    socket::{READ_BUFFER_BYTES, close_reason},
};
pub use self::{connections::ConnectionSummary, settings::GatewayOptions};
use crate::http::{Body, Request, json};

/// Evaluates a policy, whatever it says.
#[cfg(feature = "fuzzing")]
pub(crate) fn judge(statements: &[serde_json::Value], action: &str, resource: &str) {
    if let Err(error) = crate::policy::decide(statements, action, resource) {
        assert!(!error.to_string().is_empty());
    }
}

impl Gateway {
    /// Handles one request: a handshake, or a call of the management API.
    ///
    /// Both are served below the stage, as under the API's own address, and at the root, as behind a custom domain.
    pub(crate) async fn handle(self: Arc<Self>, request: Request, peer: SocketAddr) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let path = self.within_stage(&path);
        if let Some(id) = path.strip_prefix("@connections/").or_else(|| path.strip_prefix("%40connections/")) {
            return management::handle(&self, id, request).await;
        }
        match (path, upgrades(request.headers())) {
            ("", true) if self.closing.is_cancelled() => {
                json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"message": "Service Unavailable"}))
            }
            // Boxed, to keep the future of a post small: posts are far more frequent.
            ("", true) => Box::pin(handshake::handle(self, request, peer)).await,
            ("", false) if request.method() == Method::GET => {
                self.recorder
                    .handshake(None, request.uri(), &[], peer)
                    .answered(StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
                json(StatusCode::UPGRADE_REQUIRED, &serde_json::json!({"message": "Upgrade Required"}))
            }
            _ => {
                // The most common mistake: an endpoint whose path is not the stage.
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("{host}");
                tracing::warn!(
                    path = request.uri().path(),
                    websocket_url = format!("ws://{host}/{}", self.stage()),
                    management_endpoint = format!("http://{host}/{}", self.stage()),
                    "request outside the stage refused"
                );
                self.recorder
                    .handshake(None, request.uri(), &[], peer)
                    .answered(StatusCode::FORBIDDEN, "Forbidden: outside the stage");
                let mut response = json(StatusCode::FORBIDDEN, &serde_json::json!({"message": "Forbidden"}));
                // AWS clients read the type of an error from this header.
                response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("ForbiddenException"));
                response
            }
        }
    }

    /// Serves bytes as if a client had sent them, and waits for everything that they cause.
    #[cfg(feature = "fuzzing")]
    pub(crate) async fn serve_bytes(self: Arc<Self>, bytes: &[u8]) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (client, server) = tokio::io::duplex(bytes.len().max(1));
        let (mut replies, mut requests) = tokio::io::split(client);
        let (outbound, waiting) = outbound(&self.waiting);
        let now = self.clock.now();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let id = ids::new(ids::IdKind::Connection, now);
        let connection = connections::Connection::new(id, now, peer, None, "localhost".to_owned(), outbound);
        let connection = Arc::new(connection);
        self.connections.insert(Arc::clone(&connection));
        requests.write_all(bytes).await.expect("room for all");
        requests.shutdown().await.expect("open");
        let (mut read, served) = (Vec::new(), socket::serve(&self, &connection, server, waiting));
        let (_, ended) = tokio::join!(replies.read_to_end(&mut read), tokio::time::timeout(CLOSE_TIMEOUT * 2, served));
        ended.expect("it ends when the bytes do");
        while !self.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
