//! Authorizer of `$connect` and of the Event API: checks the token, and says which regions it allows.
//!
//! Source: API Gateway developer guide, "Create a REQUEST authorizer for a WebSocket API".

mod channels;

use std::collections::BTreeMap;

use clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    auth::{
        access::{NAME_FIELD, PUBLISH_FIELD, REGIONS_FIELD, USER_FIELD},
        token::{self, Authenticator, Principal},
    },
    error::{InternalError, Unauthorized},
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
};

use self::channels::{ChannelAnswer, ChannelQuestion};

#[derive(Debug)]
pub struct Authorize {
    authenticator: Authenticator,
    clock: Clock,
}

/// Who asks: AppSync's questions have an operation.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Question {
    Channel(ChannelQuestion),
    Connection(ConnectionQuestion),
}

/// What the function reads of a question of API Gateway. It holds a token, so nothing can print it.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionQuestion {
    method_arn: String,
    /// Names as the client wrote them.
    headers: Option<BTreeMap<String, String>>,
    /// Decoded.
    query_string_parameters: Option<BTreeMap<String, String>>,
}

impl ConnectionQuestion {
    /// The token of the address, or of the subprotocols.
    fn token(&self) -> Option<&str> {
        let in_query = || token::of_parameter(self.query_string_parameters.as_ref()?.get("token")?);
        let mut headers = self.headers.iter().flatten();
        let in_subprotocols = || {
            let offered = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
            token::of_subprotocols(offered?.1)
        };
        in_query().or_else(in_subprotocols)
    }
}

/// The answer to whoever asked.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum AuthorizerResponse {
    Channel(ChannelAnswer),
    Connection(ConnectionAnswer),
}

/// Who connects, what that allows, and what later events say of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionAnswer {
    principal_id: String,
    policy_document: Value,
    context: Value,
}

impl Function for Authorize {
    type Event = Question;
    type Response = AuthorizerResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let authenticator = Authenticator::from_env(start, &mut environment);
        environment.finish(Self { authenticator, clock: start.clock.clone() })
    }

    async fn handle(&self, question: Question, _invocation: Invocation) -> Result<AuthorizerResponse, InternalError> {
        match question {
            Question::Connection(question) => self.connection(&question).await.map(AuthorizerResponse::Connection),
            Question::Channel(question) => self.channel(&question).await.map(AuthorizerResponse::Channel),
        }
    }
}

impl Authorize {
    async fn connection(&self, question: &ConnectionQuestion) -> Result<ConnectionAnswer, InternalError> {
        match self.authenticator.admit(question.token()).await? {
            Ok(principal) => Ok(allowed(&question.method_arn, &principal)),
            Err(rejected) => {
                tracing::info!(reason = %rejected, "connection refused");
                Err(refusal())
            }
        }
    }

    /// A refusal is an answer here, while API Gateway has to be told by a failure.
    async fn channel(&self, question: &ChannelQuestion) -> Result<ChannelAnswer, InternalError> {
        let admitted = self.authenticator.admit(question.token()).await?;
        let answer = match &admitted {
            Ok(principal) => question.answer_to(principal, self.clock.now()).map_err(str::to_owned),
            Err(rejected) => Err(rejected.to_string()),
        };
        Ok(answer.unwrap_or_else(|reason| {
            tracing::info!(reason, "channel refused");
            ChannelAnswer::refused()
        }))
    }
}

/// What a refusal fails with. Its line in the log is told from others by the filters of the template.
fn refusal() -> InternalError {
    InternalError::new("authorizing a connection", Unauthorized)
}

fn allowed(method_arn: &str, principal: &Principal) -> ConnectionAnswer {
    ConnectionAnswer {
        principal_id: principal.id.clone(),
        policy_document: json!({
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": method_arn}],
        }),
        context: context(principal),
    }
}

/// A context has texts, numbers and booleans, and no lists. What a token does not say is left out.
fn context(principal: &Principal) -> Value {
    let publishes = principal.publishes.to_string();
    let mut context = json!({REGIONS_FIELD: principal.regions.to_string()});
    let said = [
        (PUBLISH_FIELD, Some(publishes.as_str())),
        (USER_FIELD, principal.user.as_deref()),
        (NAME_FIELD, principal.name.as_deref()),
    ];
    for (field, text) in said {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            context[field] = json!(text);
        }
    }
    context
}

#[cfg(test)]
mod tests {
    use shared::forms;

    use super::*;

    #[test]
    fn what_a_context_says_is_what_the_golden_file_has() {
        let golden: Value = serde_json::from_str(include_str!("../../../shared/forms/authorizer_context.1.json"))
            .expect("a golden file");
        let regions = |patterns: &str| patterns.parse().expect("patterns");
        let ola = Principal {
            id: "ola".to_owned(),
            regions: regions("PL,E*"),
            publishes: regions("PL"),
            user: Some("ola".to_owned()),
            name: Some("Ola Ż".to_owned()),
            expires_at: None,
        };
        let anonymous = Principal {
            id: "anonymous".to_owned(),
            regions: regions("*"),
            publishes: regions(""),
            user: None,
            name: None,
            expires_at: None,
        };
        let written = json!({"everything": context(&ola), "anonymous": context(&anonymous)});
        let form = forms::named("authorizer_context").expect("a form");
        form.check(&golden, &written).unwrap_or_else(|changed| panic!("{changed}"));
    }

    #[test]
    fn the_filters_of_the_template_tell_refusals_from_failures() {
        let template = include_str!("../../../template.yaml");
        for comparison in ["=", "!="] {
            let pattern =
                format!(r#"'{{ $.level = "ERROR" && $.fields.message {comparison} "*source: Unauthorized*" }}'"#);
            assert_eq!(template.matches(&pattern).count(), 1, "{pattern}");
        }
        // The runtime logs a failure as its debug form.
        let line = |failure: &InternalError| format!("{failure:?}");
        assert!(line(&refusal()).contains("source: Unauthorized"));
        let failure =
            InternalError::new("reading a secret parameter", std::io::Error::other("Unauthorized by the service"));
        assert!(!line(&failure).contains("source: Unauthorized"), "{}", line(&failure));
    }

    #[test]
    fn an_empty_token_in_the_address_does_not_hide_the_one_in_the_subprotocol() {
        let token_of = |parameter: Option<&str>, offered: Option<&str>| {
            let pairs = |name: &str, value: Option<&str>| {
                value.map(|value| BTreeMap::from([(name.to_owned(), value.to_owned())]))
            };
            let question = ConnectionQuestion {
                headers: pairs("Sec-WebSocket-Protocol", offered),
                query_string_parameters: pairs("token", parameter),
                ..ConnectionQuestion::default()
            };
            question.token().map(str::to_owned)
        };
        let offered = Some("viral-alerts, bearer.b");
        assert_eq!(token_of(Some("a"), offered).as_deref(), Some("a"));
        assert_eq!(token_of(Some(""), offered).as_deref(), Some("b"));
        assert_eq!(token_of(None, offered).as_deref(), Some("b"));
        assert_eq!(token_of(Some(""), Some("viral-alerts")), None);
    }
}
