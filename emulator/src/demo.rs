//! The demo page, and what pages ask the local mode that no deployed API answers.

mod cost;

use hyper::{
    Method, Response, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderValue},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use shared::tables::subscriptions::Subscriptions;

use crate::{
    gateway::Gateway,
    http::{self, Body, Request},
};

/// Connections, the newest, whose subscriptions are looked up for a page; beyond that it shows the number alone.
const CONNECTIONS_SHOWN_MAX: usize = 50;

/// Scripts and styles come from here alone, and no text becomes markup; thumbnails from anywhere; sockets to any port of a laptop.
const POLICY: &str = "default-src 'self'; img-src 'self' https: data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Files of the page, by path.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../../client/index.html")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../../client/demo.css")),
    ("/demo.js", "text/javascript; charset=utf-8", include_str!("../../client/demo.js")),
    ("/viral-alerts.js", "text/javascript; charset=utf-8", include_str!("../../client/viral-alerts.js")),
    ("/viral-toast.js", "text/javascript; charset=utf-8", include_str!("../../client/viral-toast.js")),
];

/// What the page shows of the project's own service. Another template has none of it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) subscriptions: Option<Subscriptions>,
    /// Score from which an alert is published.
    pub(crate) score_threshold: Option<f64>,
}

/// Whether a request is for the page itself, to which another site may lead: it says nothing of this machine, and a browser
/// lets no other site read it.
pub(crate) fn is_public(path: &str) -> bool {
    path == "/cost" || FILES.iter().any(|(file, ..)| *file == path)
}

/// Answers a request for the page. `None` when it is for something else.
pub(crate) async fn handle(
    request: &Request,
    gateway: &Gateway,
    websocket_port: u16,
    service: &Service,
) -> Option<Response<Body>> {
    if request.method() != Method::GET {
        return None;
    }
    let path = request.uri().path();
    if path == "/local.json" {
        return Some(no_store(http::json(StatusCode::OK, &state(request, gateway, websocket_port, service).await)));
    }
    if path == "/cost" {
        return Some(no_store(cost::answer(request.uri().query().unwrap_or_default())));
    }
    let (_, content_type, text) = FILES.into_iter().find(|(file, ..)| *file == path)?;
    Some(file(content_type, text, POLICY))
}

/// A file of a page that may do what `policy` says.
pub(crate) fn file(content_type: &'static str, text: &'static str, policy: &'static str) -> Response<Body> {
    let mut response = no_store(http::response(StatusCode::OK, content_type, text));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

async fn state(request: &Request, gateway: &Gateway, websocket_port: u16, service: &Service) -> Value {
    // The page may be open on another machine: it reaches the gateway by the name it reached this server.
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let (summaries, found) = gateway.summaries(&searched(request.uri()), CONNECTIONS_SHOWN_MAX);
    let connected = gateway.connected();
    let mut connections = Vec::new();
    for summary in summaries {
        let mut audiences = match (&service.subscriptions, summary.connection_id.parse()) {
            (Some(subscriptions), Ok(id)) => subscriptions.audiences_of(&id).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        audiences.retain(|audience| !audience.starts_with('@'));
        audiences.sort();
        let mut connection = json!(summary);
        connection["audiences"] = json!(audiences);
        connections.push(connection);
    }
    json!({
        "webSocketUrl": format!("ws://{name}:{websocket_port}/{}", gateway.stage()),
        "connected": connected,
        "found": found,
        "connections": connections,
        "scoreThreshold": service.score_threshold,
    })
}

/// What the page looks for among the connections: the parameter `search`.
fn searched(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let found = pairs.filter_map(|pair| pair.strip_prefix("search=")).next().unwrap_or_default();
    percent_decode_str(found).decode_utf8_lossy().into_owned()
}

pub(crate) fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
