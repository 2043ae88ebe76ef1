//! Publishers without AWS credentials sign their requests as Standard Webhooks says, if a secret is configured.

use clock::Timestamp;
use serde_json::Value;
use shared::{
    auth::{
        secrets::SecretParameter,
        webhook::{Headers, SigningSecrets},
    },
    error::{ApiError, Code, Decision},
    runtime::{environment::Reader, function::StartContext},
};

use crate::event;

/// The check of requests to `POST /webhook`. Without a secret nothing passes: the route is there for everybody.
#[derive(Debug)]
pub(crate) struct Webhook(Option<SecretParameter<SigningSecrets>>);

impl Webhook {
    /// The check that a function's environment describes.
    pub(crate) fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        let parameter: String = environment.parsed("WEBHOOK_SECRET_PARAMETER", String::new());
        if parameter.is_empty() {
            return Self(None);
        }
        Self(SecretParameter::from_env(start, environment, parameter))
    }

    /// Refuses a request that is not signed. It is a failure that the secrets cannot be read.
    pub(crate) async fn check(&self, event: &Value, now: Timestamp) -> Decision<()> {
        let Some(secrets) = &self.0 else {
            return Ok(Err(ApiError::new(Code::Unauthorized, "no secret of webhooks is configured")));
        };
        let secrets = secrets.get().await?;
        let header = |name| event.get("headers")?.get(name)?.as_str();
        let headers = Headers {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        Ok(event::body(event).and_then(|body| secrets.check(headers, &body, now)))
    }
}
