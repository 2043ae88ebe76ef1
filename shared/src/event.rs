//! What the functions behind the WebSocket API read from its events.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;

use crate::{connection::ConnectionId, error::Failure};

/// The function was invoked with something that is no event of a WebSocket API.
#[derive(Debug, thiserror::Error)]
#[error("the event has no usable requestContext.connectionId; is the function behind a WebSocket API?")]
struct NoConnection;

/// The connection that an event is about.
pub fn connection_id(event: &ApiGatewayWebsocketProxyRequest) -> Result<ConnectionId, Failure> {
    let id = event.request_context.connection_id.as_deref().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::new("reading an event", NoConnection))
}
