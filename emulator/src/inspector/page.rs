//! The page of the inspector, and the requests that it sends.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use clock::Timestamp;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Response, StatusCode, Uri, header::HOST, http::request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::{
    embedding::Pages,
    event_api::EventApis,
    gateway::{ConnectionSummary, Gateway, MESSAGE_BYTES_MAX, SendError},
    http::{self, Body, Request},
    recorder::{RecordBatch, Recorder},
    variables::Variables,
};

/// How long a request for records waits for the next one. Bounded, because a client that is gone goes unnoticed.
const POLL_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections in the list, newest first. For the others the page shows only their number.
const CONNECTIONS_SHOWN_MAX: usize = 50;

/// Content security policy of the page: it uses only its own files and this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page beside `inspector.html`, each at `/inspector/` and its name.
macro_rules! files {
    ($($content_type:expr => $($name:literal)+;)+) => {
        [$($((concat!("/inspector/", $name), $content_type, include_str!(concat!("../../inspector/", $name)))),+),+]
    };
}

/// Path, content type and text of each file of the page.
const FILES: &[(&str, &str, &str)] = &files! {
    "text/css; charset=utf-8" => "inspector.css";
    SCRIPT => "inspector.js" "connections.js" "detail.js" "dom.js" "feed.js" "json.js" "list.js" "panes.js"
        "records.js" "requests.js" "save.js" "summary.js" "text.js" "view.js";
};
const PAGE: (&str, &str, &str) =
    ("/inspector", "text/html; charset=utf-8", include_str!("../../inspector/inspector.html"));

/// Serves the page and its records, and carries out its actions on connections.
#[derive(Debug)]
pub(crate) struct Inspector {
    recorder: Arc<Recorder>,
    gateway: Arc<Gateway>,
    event_apis: Arc<EventApis>,
    /// Port of the WebSocket gateway, to which the page connects a client of its own.
    websocket_port: u16,
    /// Labels connections with what the embedding program knows about them.
    pages: Option<Arc<dyn Pages>>,
    /// What other programs need to reach the emulator.
    variables: Arc<Variables>,
    /// Ends requests that wait for a record.
    stopping: CancellationToken,
}

impl Inspector {
    pub(crate) fn new(
        recorder: Arc<Recorder>,
        gateway: Arc<Gateway>,
        event_apis: Arc<EventApis>,
        websocket_port: u16,
        pages: Option<Arc<dyn Pages>>,
        variables: Arc<Variables>,
        stopping: CancellationToken,
    ) -> Self {
        Self { recorder, gateway, event_apis, websocket_port, pages, variables, stopping }
    }

    /// Handles a request to the inspector.
    pub(crate) async fn handle(&self, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let (Some((_, content_type, text)), &Method::GET) = (file(&path), request.method()) {
            return http::page(content_type, text, POLICY);
        }
        match (request.method(), path.strip_prefix("/inspector/").unwrap_or_default()) {
            (&Method::GET, "records") => {
                // Numbers and texts cannot fail to be JSON.
                let batch = serde_json::to_vec(&self.records(request.uri()).await).unwrap_or_default();
                http::no_store(http::response(StatusCode::OK, "application/json", batch))
            }
            (&Method::GET, "connections") => {
                http::no_store(http::json(StatusCode::OK, &self.connections(&request.into_parts().0).await))
            }
            (&Method::GET, "env") => {
                let mut text = self.variables.to_shell();
                // A container reaches this machine under the name that it has just used.
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                let name = host.split(':').next().unwrap_or_default();
                if http::is_of_containers(name) {
                    text = text.replace(&Ipv4Addr::LOCALHOST.to_string(), name);
                }
                http::no_store(http::response(StatusCode::OK, "text/plain; charset=utf-8", text))
            }
            (&Method::POST | &Method::DELETE, rest) => match rest.strip_prefix("connections/") {
                Some(rest) => self.act(rest, request).await,
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    /// Returns the records after the number in the query, waiting up to [`POLL_TIMEOUT`] for one.
    async fn records(&self, uri: &Uri) -> RecordBatch {
        let number = |name: &str| {
            let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<i64>().ok())
        };
        let after = number("after").and_then(|after| u64::try_from(after).ok()).unwrap_or_default();
        tokio::select! {
            batch = self.recorder.next(number("run").map(Timestamp::from_millis), after) => batch,
            () = tokio::time::sleep(POLL_TIMEOUT) => self.recorder.after(after),
            () = self.stopping.cancelled() => self.recorder.after(after),
        }
    }

    /// Lists the newest connections that match the query, and the address of the gateway for this browser.
    async fn connections(&self, request: &Parts) -> Value {
        let part = searched(&request.uri);
        let (summaries, found) = self.gateway.summaries(&part, CONNECTIONS_SHOWN_MAX);
        let (of_events, of_events_found) = self.event_apis.summaries(&part, CONNECTIONS_SHOWN_MAX);
        let mut connections: Vec<Value> =
            of_events.iter().map(|(api, summary)| with_labels(summary, &[format!("Event API {api}")])).collect();
        for summary in summaries {
            let labels = match &self.pages {
                Some(pages) => pages.labels(&summary.connection_id).await,
                None => Vec::new(),
            };
            connections.push(with_labels(&summary, &labels));
        }
        connections.sort_by_key(|connection| std::cmp::Reverse(connection["connectedAt"].to_string()));
        connections.truncate(CONNECTIONS_SHOWN_MAX);
        json!({
            "webSocketUrl": self.gateway.address_for(request, self.websocket_port),
            "hasPages": self.pages.is_some(),
            "connected": self.gateway.connected() + self.event_apis.connected(),
            "found": found + of_events_found,
            "connections": connections,
        })
    }

    /// Handles POST on `{id}/received` or `{id}/sent` with a text, and DELETE on `{id}`.
    async fn act(&self, path: &str, request: Request) -> Response<Body> {
        let (id, action) = path.split_once('/').unwrap_or((path, ""));
        let id = percent_decode_str(id).decode_utf8_lossy();
        let done = match (request.method(), action) {
            (&Method::DELETE, "") => self.gateway.close(&id).or_else(|_| self.event_apis.close(&id)),
            (&Method::POST, "received" | "sent") => {
                let text = match text(request).await {
                    Ok(text) => text,
                    Err((status, message)) => return refused(status, message),
                };
                let is_of_events = self.event_apis.contains(&id);
                match (action, is_of_events) {
                    ("sent", true) => self.event_apis.push(&id, text),
                    (_, true) => self.event_apis.receive(&id, text),
                    ("sent", false) => self.gateway.push(&id, text),
                    (_, false) => self.gateway.receive(&id, text),
                }
            }
            _ => return not_found(),
        };
        match done {
            Ok(()) => {
                let mut response = Response::new(Body::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(SendError::Gone) => refused(StatusCode::GONE, "The connection is not open"),
            Err(SendError::BufferFull) => {
                refused(StatusCode::TOO_MANY_REQUESTS, "Too many messages wait for this client: it does not read")
            }
        }
    }
}

/// A connection with its labels, for the page.
fn with_labels(summary: &ConnectionSummary, labels: &[String]) -> Value {
    let mut connection = json!(summary);
    connection["labels"] = json!(labels);
    connection
}

/// Returns the parameter `search` of a query.
fn searched(uri: &Uri) -> String {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    let found = pairs.find_map(|pair| pair.strip_prefix("search=")).unwrap_or_default();
    percent_decode_str(found).decode_utf8_lossy().into_owned()
}

/// Returns whether a path is the inspector's.
pub(crate) fn is_for(path: &str) -> bool {
    path.starts_with("/inspector/") || file(path).is_some()
}

/// Returns whether a path is a file of the page. Another site may link to it, but cannot read it or show it in a frame.
pub(crate) fn is_public(path: &str) -> bool {
    file(path).is_some()
}

/// Returns the file of a path, which may end in a slash.
fn file(path: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let path = path.trim_end_matches('/');
    std::iter::once(&PAGE).chain(FILES).find(|(file, ..)| *file == path)
}

/// Reads the body as a message.
async fn text(request: Request) -> Result<Utf8Bytes, (StatusCode, &'static str)> {
    let body = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect().await;
    let body = body.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "Message too long: expected at most 128 KB"))?;
    Utf8Bytes::try_from(body.to_bytes()).map_err(|_| (StatusCode::BAD_REQUEST, "Invalid message: expected UTF-8"))
}

fn refused(status: StatusCode, message: &str) -> Response<Body> {
    http::json(status, &json!({"message": message}))
}

fn not_found() -> Response<Body> {
    refused(StatusCode::NOT_FOUND, "Not Found")
}
