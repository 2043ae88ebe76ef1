//! `GET /alerts`: the log over HTTP, for history, for what a client has missed, and for those who cannot hold a WebSocket.

mod request;
mod response;

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::{
    environment::InvalidEnvironment,
    error::{Chain, Failure},
    function::{Function, Start},
    history::History,
    paging,
};
use tokio::time::Instant;

pub use self::response::Response;

/// The function's state.
#[derive(Debug)]
pub struct Alerts {
    history: History,
}

/// What the function reads of an event of an HTTP API (payload version 2.0).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// By lower-case name.
    headers: BTreeMap<String, String>,
    /// Decoded; several values of one name are joined by commas.
    query_string_parameters: BTreeMap<String, String>,
}

impl Function for Alerts {
    type Event = Event;
    type Response = Response;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let history = History::of_function(start, &mut environment);
        environment.finish(Self { history })
    }

    async fn handle(&self, event: Event, _until: Instant) -> Result<Response, Failure> {
        let request = match request::parse(&event) {
            Ok(request) => request,
            Err(refusal) => return Ok(response::refused(&refusal)),
        };
        match paging::read(&self.history, &request.audiences, &request.begin, request.limit).await {
            Ok(batch) => Ok(response::of(&request, &batch)),
            Err(failure) => {
                tracing::error!(error = %Chain(&failure), "alerts not read");
                Ok(response::unavailable(request.form))
            }
        }
    }
}
