//! `$disconnect`: removes every trace of a connection.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use shared::{
    connection::InvalidConnectionId,
    environment::InvalidEnvironment,
    error::Failure,
    function::{Function, Start},
    subscriptions::Subscriptions,
};

/// The function's state.
#[derive(Debug)]
pub struct Disconnect {
    subscriptions: Subscriptions,
}

impl Function for Disconnect {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = serde_json::Value;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::of_function(start, &mut environment);
        environment.finish(Self { subscriptions })
    }

    async fn handle(&self, event: Self::Event) -> Result<Self::Response, Failure> {
        let connection = event.request_context.connection_id.unwrap_or_default();
        let connection = connection
            .parse()
            .map_err(|error: InvalidConnectionId| Failure::new("reading a disconnect event", error))?;
        self.subscriptions.close(&connection).await?;
        Ok(serde_json::json!({"statusCode": 200}))
    }
}
