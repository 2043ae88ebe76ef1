//! `$connect`: records a new connection, and its subscription when the address or a header names a region.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde::Serialize;
use shared::{
    environment::InvalidEnvironment,
    error::Failure,
    event,
    function::{Function, Start},
    opening::{DefaultRegion, Handshake, Opening},
    subscriptions::Subscriptions,
};
use tokio::time::Instant;

/// The function's state.
#[derive(Debug)]
pub struct Connect {
    subscriptions: Subscriptions,
    default_region: DefaultRegion,
}

/// The verdict: a status outside 200-299 refuses the handshake with that same status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl Function for Connect {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = Verdict;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::of_function(start, &mut environment);
        let default_region = environment.parsed("DEFAULT_REGION", DefaultRegion(None));
        environment.finish(Self { subscriptions, default_region })
    }

    async fn handle(&self, event: Self::Event, _until: Instant) -> Result<Verdict, Failure> {
        let connection = event::connection_id(&event)?;
        let address = event.request_context.identity.source_ip.as_deref().and_then(|address| address.parse().ok());
        let handshake = Handshake {
            region: event.query_string_parameters.first("region"),
            region_header: event.headers.get("x-region").and_then(|value| value.to_str().ok()),
            format: event.query_string_parameters.first("format"),
        };
        match Opening::of(connection, address, handshake, &self.default_region) {
            Ok(opening) => {
                self.subscriptions.open(&opening).await?;
                Ok(Verdict { status_code: 200, body: None })
            }
            Err(refusal) => Ok(Verdict {
                status_code: refusal.code.http_status(),
                body: Some(serde_json::json!({"error": refusal.body()}).to_string()),
            }),
        }
    }
}
