//! `$connect`: records a new connection, and its subscription when the address or a header names a region.

use std::{net::IpAddr, str::FromStr};

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde::Serialize;
use shared::{
    alert::Format,
    audience::Audience,
    connection::ConnectionId,
    environment::InvalidEnvironment,
    error::{Code, Failure, Refusal},
    function::{Function, Start},
    subscriptions::{Opening, Subscriptions},
};

/// The function's state.
#[derive(Debug)]
pub struct Connect {
    subscriptions: Subscriptions,
    default_region: DefaultRegion,
}

/// What a client subscribes to that names no region: nothing, `ALL`, or one region.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DefaultRegion(Option<Audience>);

impl FromStr for DefaultRegion {
    type Err = shared::audience::InvalidRegion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("none") {
            Ok(Self(None))
        } else {
            text.parse().map(|audience| Self(Some(audience)))
        }
    }
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

    async fn handle(&self, event: Self::Event) -> Result<Verdict, Failure> {
        match opening(&event, &self.default_region) {
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

fn opening(event: &ApiGatewayWebsocketProxyRequest, default_region: &DefaultRegion) -> Result<Opening, Refusal> {
    let query = |name| event.query_string_parameters.first(name);
    let header = || event.headers.get("x-region").and_then(|value| value.to_str().ok());
    let (audience, chosen) =
        match query("region").map(|region| (region, "region")).or(header().map(|region| (region, "X-Region"))) {
            Some((region, field)) => {
                let audience: Audience = region.parse().map_err(|error: shared::audience::InvalidRegion| {
                    Refusal::of_field(Code::InvalidRegion, field, error.to_string())
                })?;
                (Some(audience), true)
            }
            None => (default_region.0.clone(), false),
        };
    let format = match query("format") {
        Some(format) => format.parse().map_err(|error: shared::alert::InvalidFormat| {
            Refusal::of_field(Code::InvalidField, "format", error.to_string())
        })?,
        None if chosen || audience.is_some() => Format::NewTrending,
        None => Format::ViralAlert,
    };
    Ok(Opening { connection: connection_id(event)?, address: address(event), audience, format })
}

fn connection_id(event: &ApiGatewayWebsocketProxyRequest) -> Result<ConnectionId, Refusal> {
    event.request_context.connection_id.as_deref().and_then(|id| id.parse().ok()).ok_or_else(|| {
        Refusal::of_field(
            Code::InvalidField,
            "connectionId",
            "the event carries no connection id: is this a WebSocket API?",
        )
    })
}

fn address(event: &ApiGatewayWebsocketProxyRequest) -> Option<IpAddr> {
    event.request_context.identity.source_ip.as_deref()?.parse().ok()
}
