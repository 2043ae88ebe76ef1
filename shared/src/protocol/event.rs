//! What functions read from their events.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::{Clock, Timestamp};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Value, value::RawValue};

use crate::{
    error::InternalError,
    model::{
        connection::{Connection, ConnectionId},
        strict_json::whole_characters,
    },
};

/// Whatever somebody invoked a function with. Half a character in it, which would fail the invocation before the
/// function sees it, is [mended](whole_characters).
#[derive(Clone, Debug)]
pub struct AnyEvent(pub Value);

impl<'de> Deserialize<'de> for AnyEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        serde_json::from_str(&whole_characters(json.get())).map(Self).map_err(D::Error::custom)
    }
}

/// The event is not one of a WebSocket API.
#[derive(Debug, thiserror::Error)]
#[error("the event has no usable requestContext.connectionId; is the function behind a WebSocket API?")]
struct NoConnection;

/// The connection that an event is about.
pub fn connection_id(event: &ApiGatewayWebsocketProxyRequest) -> Result<ConnectionId, InternalError> {
    let id = event.request_context.connection_id.as_deref().and_then(|id| id.parse().ok());
    id.ok_or_else(|| InternalError::new("reading an event", NoConnection))
}

/// The connection that an event is about, and when it began: now, where the event does not say.
pub fn connection(event: &ApiGatewayWebsocketProxyRequest, clock: &Clock) -> Result<Connection, InternalError> {
    let since = match event.request_context.connected_at {
        ms @ 1.. => Timestamp::from_millis(ms),
        _ => clock.now(),
    };
    Ok(Connection { id: connection_id(event)?, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_may_hold_half_a_character() {
        let AnyEvent(event) =
            serde_json::from_slice(br#"{"detail":{"title":"a \ud83d"},"n":[1,null]}"#).expect("an event");
        assert_eq!(event, serde_json::json!({"detail": {"title": "a \u{fffd}"}, "n": [1, null]}));
        assert!(serde_json::from_slice::<AnyEvent>(b"{").is_err());
    }
}
