//! `$disconnect`: removes every trace of a connection, and leaves a mark that it has closed.

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use shared::{
    error::InternalError,
    protocol::event,
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::subscriptions::Subscriptions,
};

#[derive(Debug)]
pub struct Disconnect {
    subscriptions: Subscriptions,
}

impl Function for Disconnect {
    type Event = ApiGatewayWebsocketProxyRequest;
    type Response = serde_json::Value;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::from_env(start, &mut environment);
        environment.finish(Self { subscriptions })
    }

    async fn handle(&self, event: Self::Event, _invocation: Invocation) -> Result<Self::Response, InternalError> {
        self.subscriptions.close(&event::connection_id(&event)?).await?;
        Ok(serde_json::json!({"statusCode": 200}))
    }
}
