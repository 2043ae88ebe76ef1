//! Messages of clients: `subscribe_region`, `unsubscribe_region`, and whatever else arrives at `$default`.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde::Serialize;
use shared::{
    connection::ConnectionId,
    environment::InvalidEnvironment,
    error::{Chain, Failure, Refusal},
    event,
    function::{Function, Start},
    message::{self, Reply, Request},
    subscriptions::Subscriptions,
};
use tokio::time::Instant;

/// The function's state.
#[derive(Debug)]
pub struct Subscribe {
    subscriptions: Subscriptions,
}

/// What the gateway sends back over the socket, as the routes have route responses. The status is always 200: what
/// API Gateway does with the body of any other is not documented.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    status_code: u16,
    body: String,
}

impl Function for Subscribe {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = Answer;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::of_function(start, &mut environment);
        environment.finish(Self { subscriptions })
    }

    async fn handle(&self, event: Self::Event, _until: Instant) -> Result<Answer, Failure> {
        let connection = event::connection_id(&event)?;
        let body = match message::parse(event.body.as_deref().unwrap_or_default()) {
            Ok(request) => self.answer(&connection, &request).await,
            Err(refusal) => Reply::Error(refusal.body()).frame(),
        };
        Ok(Answer { status_code: 200, body })
    }
}

impl Subscribe {
    async fn answer(&self, connection: &ConnectionId, request: &Request) -> String {
        let (done, reply) = match request {
            Request::Subscribe { audiences, format } => (
                self.subscriptions.subscribe(connection, audiences.as_slice(), *format).await,
                Reply::Subscribed(audiences.into()),
            ),
            Request::Unsubscribe { audiences } => (
                self.subscriptions.unsubscribe(connection, audiences.as_slice()).await,
                Reply::Unsubscribed(audiences.into()),
            ),
        };
        match done {
            Ok(()) => reply.frame(),
            Err(failure) => {
                tracing::error!(%connection, error = %Chain(&failure), "message not carried out");
                Reply::Error(Refusal::unavailable().body()).frame()
            }
        }
    }
}
