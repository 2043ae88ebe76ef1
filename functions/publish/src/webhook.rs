//! Who may publish without AWS credentials: whoever signs as Standard Webhooks says, where a secret is configured.

use serde_json::Value;
use shared::{
    clock::Timestamp,
    environment::Reader,
    error::{Code, Failure, Refusal},
    function::Start,
    secrets::Secrets,
    webhook::{Headers, SigningSecrets},
};

use crate::event;

/// The check of requests to `POST /webhook`. Without a secret nothing passes: the route is there for everybody.
#[derive(Debug)]
pub(crate) struct Webhook(Option<(Secrets, String)>);

impl Webhook {
    /// The check that a function's environment describes.
    pub(crate) fn of_function(start: &Start, environment: &mut Reader<'_>) -> Self {
        let parameter: String = environment.parsed("WEBHOOK_SECRET_PARAMETER", String::new());
        if parameter.is_empty() {
            return Self(None);
        }
        Self(Secrets::of_function(start, environment).map(|secrets| (secrets, parameter)))
    }

    /// Refuses a request that is not signed. It is a failure that the secrets cannot be read.
    pub(crate) async fn check(&self, event: &Value, now: Timestamp) -> Result<Result<(), Refusal>, Failure> {
        let Some((secrets, parameter)) = &self.0 else {
            return Ok(Err(Refusal::new(Code::Unauthorized, "no secret of webhooks is configured")));
        };
        let text = secrets.get(parameter).await?;
        let secrets: SigningSecrets =
            text.reveal().parse().map_err(|error| Failure::new("reading the secrets of webhooks", error))?;
        let header = |name| event.get("headers")?.get(name)?.as_str();
        let headers = Headers {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        Ok(event::body(event).and_then(|body| secrets.check(headers, &body, now)))
    }
}
