//! Takes everything back to how it was at the start, between two tests: `POST /reset`.

use std::{sync::Arc, time::Duration};

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::{
    dynamodb::Store,
    error::ErrorChain,
    event_api::EventApis,
    gateway::Gateway,
    http::{self, Body},
    lambda::Functions,
    sqs::Queues,
};

/// How long connections may take to end, and functions to finish what they do: as long as an integration may take, and
/// longer than the first process of a function needs on a machine that does much else.
const RESET_TIMEOUT: Duration = Duration::from_secs(30);

/// What is taken back. Processes of functions keep running, with what they have in memory.
#[derive(Debug)]
pub(crate) struct Reset {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) event_apis: Arc<EventApis>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) database: Arc<Store>,
    pub(crate) queues: Arc<Queues>,
}

impl Reset {
    /// Closes all connections, waits until `$disconnect` and all other invocations have ended, and then removes the
    /// items of the tables, what waits in streams and queues, and retries. Removes nothing where something does not
    /// end. Resets at the same time take turns.
    pub(crate) async fn handle(&self) -> Response<Body> {
        let connections = self.gateway.connected() + self.event_apis.connected();
        let ended = async {
            self.event_apis.disconnect_all().await;
            self.gateway.disconnect_all().await;
            let paused = self.functions.background.pause().await;
            self.functions.settled().await;
            paused
        };
        let Ok(paused) = tokio::time::timeout(RESET_TIMEOUT, ended).await else {
            let message = format!(
                "connections or invocations have not ended within {} s, and nothing was removed: stop what connects, \
                 and what the functions wait for",
                RESET_TIMEOUT.as_secs()
            );
            return http::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"message": message}));
        };
        let database = Arc::clone(&self.database);
        let cleared = tokio::task::spawn_blocking(move || database.clear()).await;
        let cleared = cleared.map_err(|ended| ended.to_string());
        match cleared.and_then(|cleared| cleared.map_err(|error| ErrorChain(&error).to_string())) {
            Ok(tables) => {
                self.queues.reset();
                paused.forget();
                http::json(StatusCode::OK, &json!({"connections": connections, "tables": tables}))
            }
            Err(message) => http::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": message})),
        }
    }
}
