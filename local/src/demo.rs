//! The demo page, and the requests that only it makes: a deployed API does not have them.

mod cost;

use apigw_local::{Body, Pages, Site, json_response, no_store, page};
use aws_sdk_dynamodb::Client;
use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use hyper::{Method, Response, StatusCode, Uri, http::request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use shared::tables::subscriptions::{Subscriptions, TABLE_VARIABLE};

use crate::functions::sdk_config;

/// Variable of the functions with the lowest score of an alert.
const THRESHOLD_VARIABLE: &str = "SCORE_THRESHOLD";

/// Newest connections that the page shows with their subscriptions; of the others it shows the number.
const CONNECTIONS_SHOWN_MAX: usize = 50;

/// Content security policy: scripts and styles from here only, thumbnails from anywhere, sockets to any address, and no
/// text that becomes markup.
const POLICY: &str = "default-src 'self'; img-src 'self' https: data:; connect-src 'self' ws: wss:; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Files of the page, by path.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("../../client/index.html")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../../client/demo.css")),
    ("/demo.js", "text/javascript; charset=utf-8", include_str!("../../client/demo.js")),
    ("/viral-alerts.js", "text/javascript; charset=utf-8", include_str!("../../client/viral-alerts.js")),
    ("/viral-alerts-recent.js", "text/javascript; charset=utf-8", include_str!("../../client/viral-alerts-recent.js")),
    ("/viral-toast.js", "text/javascript; charset=utf-8", include_str!("../../client/viral-toast.js")),
];

/// The page and the state that it shows.
#[derive(Debug)]
pub(crate) struct DemoPage {
    site: Site,
    subscriptions: Option<Subscriptions>,
    /// Lowest score of an alert.
    score_threshold: Option<f64>,
}

impl DemoPage {
    pub(crate) fn new(site: Site) -> Self {
        let variable = |name: &str| site.function_variables.values().find_map(|variables| variables.get(name));
        let subscriptions = variable(TABLE_VARIABLE).map(|table| {
            let client = Client::new(&sdk_config(&site.aws_variables.clone().into_iter().collect()));
            Subscriptions::new(client, table.clone(), Clock::System)
        });
        let score_threshold = variable(THRESHOLD_VARIABLE).and_then(|threshold| threshold.parse().ok());
        Self { subscriptions, score_threshold, site }
    }

    async fn state(&self, request: &Parts) -> Value {
        let (summaries, found) = self.site.connections(&searched(&request.uri), CONNECTIONS_SHOWN_MAX);
        let connected = self.site.connected();
        let mut connections = Vec::new();
        for summary in summaries {
            let mut connection = json!(summary);
            connection["audiences"] = json!(self.audiences(&summary.connection_id).await);
            connections.push(connection);
        }
        json!({
            "webSocketUrl": self.site.websocket_url(request),
            "connected": connected,
            "found": found,
            "connections": connections,
            "scoreThreshold": self.score_threshold,
        })
    }

    /// The subscriptions of a connection, sorted.
    async fn audiences(&self, connection_id: &str) -> Vec<String> {
        let mut audiences = match (&self.subscriptions, connection_id.parse()) {
            (Some(subscriptions), Ok(id)) => subscriptions.audiences_of(&id).await.unwrap_or_default(),
            _ => Vec::new(),
        };
        audiences.retain(|audience| !audience.starts_with('@'));
        audiences.sort();
        audiences
    }

    async fn answer(&self, request: &Parts) -> Option<Response<Body>> {
        if request.method != Method::GET {
            return None;
        }
        match request.uri.path() {
            "/local.json" => Some(no_store(json_response(StatusCode::OK, &self.state(request).await))),
            "/cost" => Some(no_store(cost::answer(request.uri.query().unwrap_or_default()))),
            path => {
                let (_, content_type, text) = FILES.into_iter().find(|(file, ..)| *file == path)?;
                Some(page(content_type, text, POLICY))
            }
        }
    }
}

impl Pages for DemoPage {
    fn is_public(&self, path: &str) -> bool {
        path == "/cost" || FILES.iter().any(|(file, ..)| *file == path)
    }

    fn labels<'a>(&'a self, connection_id: &'a str) -> BoxFuture<'a, Vec<String>> {
        self.audiences(connection_id).boxed()
    }

    fn handle<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Option<Response<Body>>> {
        self.answer(request).boxed()
    }
}

/// The query parameter `search`, which filters the connections.
fn searched(uri: &Uri) -> String {
    let pairs = uri.query().unwrap_or_default().split('&');
    let found = pairs.filter_map(|pair| pair.strip_prefix("search=")).next().unwrap_or_default();
    percent_decode_str(found).decode_utf8_lossy().into_owned()
}
