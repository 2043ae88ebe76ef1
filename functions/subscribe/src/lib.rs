//! Messages of clients: `subscribe_region`, `unsubscribe_region`, and whatever else arrives at `$default`.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde::Serialize;
use shared::{
    access::{Authorization, Regions},
    alert::Format,
    connection::ConnectionId,
    environment::InvalidEnvironment,
    error::{Chain, Failure, Refusal},
    event,
    function::{Function, Start},
    history::History,
    message::{self, Audiences, Reply, Request, Subscribed},
    position::Positions,
    resumption,
    subscriptions::Subscriptions,
};
use tokio::time::Instant;

/// The function's state.
#[derive(Debug)]
pub struct Subscribe {
    subscriptions: Subscriptions,
    history: History,
    authorization: Authorization,
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
        let history = History::of_function(start, &mut environment);
        let authorization = environment.parsed(Authorization::VARIABLE, Authorization::Off);
        environment.finish(Self { subscriptions, history, authorization })
    }

    async fn handle(&self, event: Self::Event, _until: Instant) -> Result<Answer, Failure> {
        let connection = event::connection_id(&event)?;
        let regions = Regions::of_event(&event, self.authorization);
        let request = message::parse(event.body.as_deref().unwrap_or_default());
        let body = match request.and_then(|request| request.allowed_to(&regions)) {
            Ok(request) => self.answer(&connection, &request).await,
            Err(refusal) => Reply::Error(refusal.body()).frame(),
        };
        Ok(Answer { status_code: 200, body })
    }
}

impl Subscribe {
    async fn answer(&self, connection: &ConnectionId, request: &Request) -> String {
        let frame = match request {
            Request::Subscribe { audiences, format, since } => {
                self.subscribe(connection, audiences, *format, since.as_ref()).await
            }
            Request::Unsubscribe { audiences } => {
                let done = self.subscriptions.unsubscribe(connection, audiences.as_slice()).await;
                done.map(|()| Reply::Unsubscribed(audiences.into()).frame())
            }
        };
        frame.unwrap_or_else(|failure| {
            tracing::error!(%connection, error = %Chain(&failure), "message not carried out");
            Reply::Error(Refusal::unavailable().body()).frame()
        })
    }

    /// Writes the subscription first and then reads the log: an alert is in the answer, or is pushed, or both.
    async fn subscribe(
        &self,
        connection: &ConnectionId,
        audiences: &Audiences,
        format: Format,
        since: Option<&Positions>,
    ) -> Result<String, Failure> {
        self.subscriptions.subscribe(connection, audiences.as_slice(), format).await?;
        let resumption = resumption::resume(&self.history, audiences.as_slice(), since).await?;
        Ok(Reply::Subscribed(Subscribed::new(audiences, &resumption, format)).frame())
    }
}
