//! The authorizer of the Event API: whether a client may connect, and which channels it may subscribe to.
//!
//! Source: AppSync Events developer guide, "Configuring authorization and authentication to secure Event APIs".

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    auth::token::{self, Principal},
    limits::AUTHORIZED_FOR_MAX,
    model::channel,
};

/// What clients send in place of a token where they have none: AppSync refuses an empty one.
const ANONYMOUS: &str = "anonymous";

/// What the function reads of a question of AppSync. It holds a token, so nothing can print it.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelQuestion {
    authorization_token: Option<String>,
    request_context: RequestContext,
}

#[derive(Clone, Deserialize)]
struct RequestContext {
    operation: String,
    /// As the client wrote it. `None` when it connects.
    channel: Option<String>,
}

/// The answer to AppSync.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelAnswer {
    is_authorized: bool,
    /// Seconds for which AppSync gives the same answer to the same token, operation and channel without asking.
    ttl_override: u64,
}

impl ChannelQuestion {
    /// The token, with or without the word `Bearer` before it.
    pub(crate) fn token(&self) -> Option<&str> {
        let text = self.authorization_token.as_deref()?;
        let token = token::of_authorization(text).unwrap_or(text);
        Some(token).filter(|token| *token != ANONYMOUS)
    }

    /// The answer to somebody who was let in.
    ///
    /// # Errors
    ///
    /// Why it is not allowed, for the log.
    pub(crate) fn answer_to(&self, principal: &Principal, now: Timestamp) -> Result<ChannelAnswer, &'static str> {
        let RequestContext { operation, channel } = &self.request_context;
        match operation.as_str() {
            "EVENT_CONNECT" => {}
            "EVENT_SUBSCRIBE" => {
                let audience = channel.as_deref().and_then(channel::audience).ok_or("no channel has this name")?;
                if !principal.regions.allow(&audience) {
                    return Err("the token does not allow the channel");
                }
            }
            "EVENT_PUBLISH" => return Err("only deliver may publish"),
            _ => return Err("the operation is unknown"),
        }
        let left = principal.expires_at.map_or(AUTHORIZED_FOR_MAX, |end| end.since(now).min(AUTHORIZED_FOR_MAX));
        Ok(ChannelAnswer { is_authorized: true, ttl_override: left.as_secs() })
    }
}

impl ChannelAnswer {
    /// A refusal. The next question is asked again: the token may be valid by then.
    pub(crate) fn refused() -> Self {
        Self { is_authorized: false, ttl_override: 0 }
    }
}

#[cfg(test)]
mod tests {
    use aws_types::SdkConfig;
    use clock::Clock;
    use serde_json::{Value, json};
    use shared::runtime::{
        environment::Environment,
        function::{Function, Invocation, StartContext},
        metrics::Metrics,
        network::Network,
    };

    use super::*;
    use crate::{Authorize, Question};

    const NOW: i64 = 1_795_000_000_000;

    /// The examples of the developer guide, with another token and namespace.
    fn question(operation: &str, channel: Option<&str>, token: &str) -> Value {
        json!({
            "authorizationToken": token,
            "requestContext": {
                "apiId": "aaaaaa123123123example123",
                "accountId": "111122223333",
                "requestId": "f4081827-1111-4444-5555-5cf4695f339f",
                "operation": operation,
                "channelNamespaceName": channel.map(|_| "alerts"),
                "channel": channel,
            },
            "requestHeaders": {"header": "value"},
        })
    }

    fn read(question: Value) -> ChannelQuestion {
        match serde_json::from_value(question).expect("a question") {
            Question::Channel(question) => question,
            Question::Connection(_) => panic!("not taken for a question of AppSync"),
        }
    }

    fn ola(patterns: &str, seconds_left: i64) -> Principal {
        Principal {
            id: "ola".to_owned(),
            regions: patterns.parse().expect("patterns"),
            publishes: patterns.parse().expect("patterns"),
            user: Some("ola".to_owned()),
            name: None,
            expires_at: Some(Timestamp::from_millis(NOW + 1_000 * seconds_left)),
        }
    }

    #[test]
    fn a_channel_is_allowed_to_those_whose_token_has_its_region() {
        let subscribes = |patterns: &str, channel: &str| {
            let question = read(question("EVENT_SUBSCRIBE", Some(channel), "t"));
            question.answer_to(&ola(patterns, 60), Timestamp::from_millis(NOW)).is_ok()
        };
        for (patterns, channel) in [("PL", "/alerts/PL"), ("E*", "alerts/EU"), ("*", "/alerts/DE"), ("*", "/alerts/*")]
        {
            assert!(subscribes(patterns, channel), "{patterns} {channel}");
        }
        for (patterns, channel) in [
            ("PL", "/alerts/DE"),
            ("PL", "/alerts/*"),
            ("E*,P*", "/alerts/*"),
            ("", "/alerts/PL"),
            ("*", "/alerts/pl"),
            ("*", "/alerts/P*"),
            ("*", "/other/PL"),
            ("*", "/*"),
        ] {
            assert!(!subscribes(patterns, channel), "{patterns} {channel}");
        }
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_the_token_lives_and_five_minutes_at_most() {
        let question = read(question("EVENT_CONNECT", None, "t"));
        let kept = |principal: &Principal| {
            let answer = question.answer_to(principal, Timestamp::from_millis(NOW + 500)).expect("allowed");
            json!(answer)
        };
        for (left, seconds) in [(3_600, 300), (301, 300), (300, 299), (10, 9), (0, 0), (-30, 0)] {
            assert_eq!(kept(&ola("", left)), json!({"isAuthorized": true, "ttlOverride": seconds}), "{left}");
        }
        let anonymous = Principal { expires_at: None, ..ola("*", 0) };
        assert_eq!(kept(&anonymous)["ttlOverride"], 300);
    }

    #[test]
    fn nobody_may_publish_and_an_operation_that_does_not_exist_is_refused() {
        for (operation, channel) in [("EVENT_PUBLISH", Some("/alerts/PL")), ("EVENT_DELETE", None), ("", None)] {
            let question = read(question(operation, channel, "t"));
            assert!(question.answer_to(&ola("*", 60), Timestamp::from_millis(NOW)).is_err(), "{operation}");
        }
    }

    #[test]
    fn a_token_may_have_its_scheme_before_it_and_a_client_without_one_says_anonymous() {
        let token = |text: &str| read(question("EVENT_CONNECT", None, text)).token().map(str::to_owned);
        assert_eq!(token("a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(token("Bearer a.b.c").as_deref(), Some("a.b.c"));
        assert_eq!(token("anonymous"), None);
        assert_eq!(token("Bearer anonymous"), None);
    }

    #[test]
    fn a_question_of_the_gateway_is_not_taken_for_one_of_appsync() {
        let event: Value = serde_json::from_str(include_str!("../../../events/authorize.json")).expect("JSON");
        assert!(matches!(serde_json::from_value(event), Ok(Question::Connection(_))));
    }

    async fn answer(authorization: &str, event: Value) -> Value {
        let variables = [("AUTHORIZATION", authorization), ("TOKEN_SECRET_PARAMETER", "/token")];
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let sdk = SdkConfig::builder().build();
        let (network, clock, metrics) = (Network::System, Clock::System, Metrics::Off);
        let start = StartContext { environment, sdk, network, clock, metrics };
        let authorize = Authorize::start(&start).expect("a valid environment");
        let invocation = Invocation { request_id: "r".to_owned(), deadline: tokio::time::Instant::now() };
        let question = serde_json::from_value(event).expect("a question");
        json!(authorize.handle(question, invocation).await.expect("an answer"))
    }

    #[tokio::test]
    async fn without_tokens_everybody_may_subscribe_and_with_them_a_client_without_one_gets_a_refusal_and_not_an_error()
    {
        let event = |channel| question("EVENT_SUBSCRIBE", Some(channel), ANONYMOUS);
        for mode in ["off", "optional"] {
            let allowed = json!({"isAuthorized": true, "ttlOverride": 300});
            assert_eq!(answer(mode, event("/alerts/*")).await, allowed, "{mode}");
            let refused = json!({"isAuthorized": false, "ttlOverride": 0});
            assert_eq!(answer(mode, event("/alerts/P*")).await, refused, "{mode}");
            assert_eq!(answer(mode, question("EVENT_PUBLISH", Some("/alerts/PL"), ANONYMOUS)).await, refused);
        }
        assert_eq!(answer("required", event("/alerts/*")).await["isAuthorized"], false);
        assert_eq!(answer("required", question("EVENT_CONNECT", None, ANONYMOUS)).await["isAuthorized"], false);
    }
}
