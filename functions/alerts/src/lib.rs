//! `GET /alerts`: the log over HTTP, for history, for what a client has missed, and for those who cannot hold a
//! WebSocket.

mod request;
mod response;

use std::collections::BTreeMap;

use serde::Deserialize;
use shared::{
    auth::token::Authenticator,
    error::{ErrorChain, InternalError},
    protocol::leg::EventsLeg,
    replay::paging,
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::alerts::history::History,
};

use self::response::CachedBy;
pub use self::response::Response;

#[derive(Debug)]
pub struct Alerts {
    history: History,
    authenticator: Authenticator,
    /// What clients are told of the Event API.
    events: Option<EventsLeg>,
}

/// What the function reads of an event of an HTTP API (payload version 2.0). It may hold a token, so nothing can print
/// it.
#[derive(Clone, Default, Deserialize)]
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

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let history = History::from_env(start, &mut environment);
        let authenticator = Authenticator::from_env(start, &mut environment);
        let events = EventsLeg::from_env(&mut environment);
        environment.finish(Self { history, authenticator, events })
    }

    async fn handle(&self, event: Event, _invocation: Invocation) -> Result<Response, InternalError> {
        let principal = match self.authenticator.admit(request::token(&event)).await {
            Ok(Ok(principal)) => principal,
            Ok(Err(rejected)) => {
                tracing::info!(reason = %rejected, "reading refused");
                return Ok(response::refused(&rejected.into()));
            }
            Err(failure) => {
                tracing::error!(error = %ErrorChain(&failure), "token not checked");
                return Ok(response::unavailable(request::form(&event)));
            }
        };
        let request = match request::parse(&event, &principal.regions) {
            Ok(request) => request,
            Err(refusal) => return Ok(response::refused(&refusal)),
        };
        match paging::read(&self.history, &request.audiences, &request.begin, request.limit).await {
            Ok(batch) => {
                let cached_by = if self.authenticator.is_on() { CachedBy::Client } else { CachedBy::Anybody };
                Ok(response::of(&request, &batch, self.events.as_ref(), cached_by))
            }
            Err(failure) => {
                tracing::error!(error = %ErrorChain(&failure), "alerts not read");
                Ok(response::unavailable(request.form))
            }
        }
    }
}
