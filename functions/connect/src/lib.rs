//! `$connect`: records a new connection, and its subscription when the address or a header names a region.

use std::collections::BTreeMap;

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::Clock;
use serde::Serialize;
use shared::{
    auth::{
        access::{Authorization, Regions, USER_FIELD, authorizer_field},
        connect::{ConnectPolicy, ConnectionLimits, DefaultRegion, Handshake},
        origin::AllowedOrigins,
        token::{self, SUBPROTOCOL},
    },
    error::InternalError,
    limits::{CONNECTIONS_PER_USER_DEFAULT, SEATS_MAX},
    model::connect_request::ConnectRequest,
    protocol::event,
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::subscriptions::Subscriptions,
};

#[derive(Debug)]
pub struct Connect {
    subscriptions: Subscriptions,
    default_region: DefaultRegion,
    authorization: Authorization,
    origins: AllowedOrigins,
    limits: ConnectionLimits,
    clock: Clock,
}

/// The verdict: a status outside 200-299 refuses the handshake with that same status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectResponse {
    status_code: u16,
    /// The subprotocol that was chosen: a browser ends a connection whose answer has none of those that it offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<&'static str, &'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl Function for Connect {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = ConnectResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::from_env(start, &mut environment);
        let default_region = environment.parsed("DEFAULT_REGION", DefaultRegion(None));
        let authorization = environment.parsed(Authorization::VARIABLE, Authorization::Off);
        let origins = environment.parsed(AllowedOrigins::VARIABLE, AllowedOrigins::default());
        let limits = ConnectionLimits {
            per_address: environment.whole_number("CONNECTIONS_PER_ADDRESS", 0, 0..=SEATS_MAX),
            per_user: environment.whole_number("CONNECTIONS_PER_USER", CONNECTIONS_PER_USER_DEFAULT, 0..=SEATS_MAX),
        };
        let clock = start.clock.clone();
        environment.finish(Self { subscriptions, default_region, authorization, origins, limits, clock })
    }

    async fn handle(&self, event: Self::Event, _invocation: Invocation) -> Result<ConnectResponse, InternalError> {
        let connection = event::connection(&event, &self.clock)?;
        let handshake = Handshake {
            region: event.query_string_parameters.first("region"),
            region_header: event.headers.get("x-region").and_then(|value| value.to_str().ok()),
            format: event.query_string_parameters.first("format"),
            origin: event.headers.get("origin").and_then(|value| value.to_str().ok()),
            address: event.request_context.identity.source_ip.as_deref().and_then(|address| address.parse().ok()),
            user: authorizer_field(&event, USER_FIELD),
        };
        let regions = Regions::of_event(&event, self.authorization);
        let policy = ConnectPolicy {
            default_region: &self.default_region,
            origins: &self.origins,
            regions: &regions,
            limits: self.limits,
        };
        let opened = match ConnectRequest::of(connection, handshake, policy) {
            Ok(opening) => self.subscriptions.open(&opening).await?,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = opened {
            return Ok(ConnectResponse {
                status_code: refusal.code.http_status(),
                headers: None,
                body: Some(serde_json::json!({"error": refusal.body()}).to_string()),
            });
        }
        let offered = event.headers.get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        let headers = offered
            .is_some_and(token::offers_subprotocol)
            .then(|| BTreeMap::from([("Sec-WebSocket-Protocol", SUBPROTOCOL)]));
        Ok(ConnectResponse { status_code: 200, headers, body: None })
    }
}
