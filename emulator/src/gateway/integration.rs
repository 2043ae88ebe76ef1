//! Runs the integration of a route, and sends its response over the socket.

use std::{sync::Arc, time::Duration};

use hyper::{StatusCode, body::Bytes};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    api::Gateway,
    backlog::BacklogBounds,
    connections::Connection,
    event::{self, Event},
    ids, mapping,
    response::{self, IntegrationError},
};
use crate::{
    json,
    template::{Integration, Route},
};

impl Gateway {
    /// Runs the integration of a route with an event, and returns its response in the form of a proxy response.
    pub(super) async fn run(
        &self,
        route: &Route,
        event: &Event,
        connection: &Connection,
    ) -> Result<Value, IntegrationError> {
        match &route.integration {
            Integration::None => Ok(json!({"statusCode": 200})),
            Integration::Mapped(mapped) => self.run_mapped(mapped, event, &connection.id).await,
            Integration::HttpProxy { backend, timeout } => {
                let body = mapping::message(event).to_owned();
                let answer =
                    self.settings.http.call(&self.api, backend, event, body, self.within_limit(*timeout)).await?;
                Ok(json!({"statusCode": answer.status, "body": answer.body}))
            }
            Integration::Lambda { function, timeout } => {
                let payload = Bytes::from(event.body.to_string());
                let invoked = self.functions.invoke_for(&connection.id, function, payload);
                match tokio::time::timeout(self.within_limit(*timeout), invoked).await {
                    Err(_) => Err(IntegrationError::TimedOut),
                    // A function that exceeds its own timeout has failed, like one that throws.
                    Ok(Err(error)) => Err(IntegrationError::Internal(format!("{function}: {error}").into())),
                    Ok(Ok(answer)) => json::read_answer(&answer).map_err(|error| {
                        IntegrationError::Internal(format!("the answer of {function} is not JSON: {error}").into())
                    }),
                }
            }
        }
    }

    /// Returns the timeout of an integration: its own, or the gateway's if that is shorter.
    pub(super) fn within_limit(&self, timeout: Duration) -> Duration {
        timeout.min(self.settings.limits.integration_max)
    }

    /// Handles one message of a client: selects the route, runs it, and sends the response if the route has one.
    pub(super) async fn message(self: Arc<Self>, connection: Arc<Connection>, body: Utf8Bytes) {
        let request_id = || ids::new(ids::IdKind::Request, self.clock.now());
        let selected = self.route(&body);
        // The throttle of the stage comes first: what it refuses does not count against the account's quota.
        let admitted = selected.is_none_or(|(key, _)| self.buckets.admits(key, &self.clock))
            && self.settings.quotas.admits_request(&self.clock);
        if !admitted {
            return self.send_error(&connection, "Too Many Requests", &request_id());
        }
        let Some((key, route)) = selected else {
            return self.send_error(&connection, "Forbidden", &request_id());
        };
        let Some(_loaded) = connection.unanswered().add(&self.unanswered, BacklogBounds::UNANSWERED, body.len()) else {
            return self.send_error(&connection, "Too Many Requests", &request_id());
        };
        let event = event::message(&self, &connection, key, &body);
        match self.run(route, &event, &connection).await {
            Err(failed) => self.send_error(&connection, failed.message(), &event.request_id),
            Ok(answer) if route.responds => {
                if let Some(text) = answer.get("body").and_then(Value::as_str) {
                    self.respond(&connection, text.into());
                }
            }
            Ok(answer) => log_unseen_failure(&connection.id, key, &answer),
        }
    }

    /// Returns the route of a message: its own, else `$default`. A message never reaches `$connect` or `$disconnect`.
    fn route(&self, body: &str) -> Option<(&str, &Route)> {
        let key = self.api.selection.evaluate(body).filter(|key| !matches!(key.as_str(), "$connect" | "$disconnect"));
        let own = key.and_then(|key| self.api.routes.get_key_value(&key));
        own.or_else(|| self.api.routes.get_key_value("$default")).map(|(key, route)| (key.as_str(), route))
    }

    /// Sends the error frame of the service, with its uneven spacing. The connection stays open.
    fn send_error(&self, connection: &Connection, message: &str, request_id: &str) {
        let id = &connection.id;
        self.respond(
            connection,
            format!(r#"{{"message": "{message}", "connectionId":"{id}", "requestId":"{request_id}"}}"#).into(),
        );
    }

    fn respond(&self, connection: &Connection, text: Utf8Bytes) {
        if let Err(not_sent) = self.send(connection, text) {
            tracing::debug!(connection = connection.id, ?not_sent, "response dropped");
        }
    }
}

/// Logs the answer of a function that says it has failed, on a route whose answers nobody gets.
fn log_unseen_failure(connection: &str, route: &str, answer: &Value) {
    let Some(status) = response::status(answer).filter(StatusCode::is_server_error) else { return };
    let (status, body) = (status.as_u16(), response::shown_body(answer));
    tracing::warn!(connection, route, status, body, "the function failed, and the route has no route response");
}
