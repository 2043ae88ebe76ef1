//! Handlers of a channel namespace that are Lambda functions (`Behavior: DIRECT`).
//!
//! Source: AppSync developer guide, "Direct Lambda integration" and "Context reference"; the event is that of
//! Powertools for AWS Lambda, "AppSync Events".

use std::{collections::BTreeMap, sync::Arc};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    api::ServedEventApi,
    error::{EventError, Refused},
};
use crate::{json, template::DirectHandler};

/// What a handler is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handled<'a> {
    pub(super) api: &'a Arc<ServedEventApi>,
    pub(super) namespace: &'a str,
    /// With a slash before each segment.
    pub(super) channel: &'a str,
    pub(super) identity: &'a Value,
    pub(super) headers: &'a Value,
    /// Whose turn it is at the function's limit.
    pub(super) source: &'a str,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Broadcast(String),
    /// It reaches nobody, and is not among the failed ones.
    Filtered,
    /// It has failed, with this message.
    Failed(String),
}

impl Handled<'_> {
    /// Asks a handler about events, each with its id. They are in their order again.
    pub(super) async fn publish(&self, handler: &DirectHandler, events: &[(String, String)]) -> Vec<Decision> {
        let forwarded = || events.iter().map(|(_, event)| Decision::Broadcast(event.clone())).collect();
        let asked: Vec<Value> =
            events.iter().map(|(id, event)| json!({"id": id, "payload": json::read(event)})).collect();
        let event = self.event("PUBLISH", &Value::from(asked));
        if handler.is_asynchronous {
            self.start(handler, event);
            return forwarded();
        }
        match self.ask(handler, event).await.and_then(|answer| decisions(&answer, events)) {
            Ok(decisions) => decisions,
            Err(reason) => {
                let function = &handler.function;
                tracing::warn!(function, channel = self.channel, reason, "handler of a channel namespace failed");
                let failed = || Decision::Failed("There was an error processing the message".to_owned());
                events.iter().map(|_| failed()).collect()
            }
        }
    }

    /// Asks a handler about a subscription.
    pub(super) async fn subscribe(&self, handler: &DirectHandler) -> Result<(), EventError> {
        let event = self.event("SUBSCRIBE", &Value::Null);
        if handler.is_asynchronous {
            self.start(handler, event);
            return Ok(());
        }
        let refused = |message: String| EventError { refused: Refused::Subscription, message: message.into() };
        match self.ask(handler, event).await {
            Ok(answer) => match answer.get("error").filter(|error| !error.is_null()) {
                Some(error) => Err(refused(text(error))),
                None => Ok(()),
            },
            Err(reason) => {
                let function = &handler.function;
                tracing::warn!(function, channel = self.channel, reason, "handler of a channel namespace failed");
                Err(refused("There was an error processing the subscription".to_owned()))
            }
        }
    }

    fn event(&self, operation: &str, events: &Value) -> Bytes {
        let segments: Vec<&str> = self.channel.split('/').skip(1).collect();
        let event = json!({
            "identity": self.identity,
            "result": null,
            "request": {"headers": self.headers, "domainName": null},
            "info": {
                "channel": {"path": self.channel, "segments": segments},
                "channelNamespace": {"name": self.namespace},
                "operation": operation,
            },
            "error": null,
            "prev": null,
            "stash": {},
            "outErrors": [],
            "events": events,
        });
        Bytes::from(event.to_string())
    }

    async fn ask(&self, handler: &DirectHandler, event: Bytes) -> Result<Value, String> {
        let answer = self.api.shared.functions.invoke_for(self.source, &handler.function, event).await;
        let answer = answer.map_err(|error| error.to_string())?;
        json::read_answer(&answer).map_err(|error| format!("its answer is not JSON: {error}"))
    }

    fn start(&self, handler: &DirectHandler, event: Bytes) {
        if let Err(error) = self.api.shared.functions.invoke_async(&handler.function, event) {
            tracing::warn!(function = handler.function, %error, "handler of a channel namespace not started");
        }
    }
}

/// What an answer says of each event. An id that is unknown or stands twice makes it invalid.
fn decisions(answer: &Value, events: &[(String, String)]) -> Result<Vec<Decision>, String> {
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        tracing::warn!(error = text(error), "handler of a channel namespace reported an error");
    }
    let given = match answer.get("events") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(given)) => given.as_slice(),
        Some(_) => return Err("its events are not a list".to_owned()),
    };
    let mut decided: BTreeMap<&str, Decision> = BTreeMap::new();
    for item in given.iter().filter(|item| !item.is_null()) {
        let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        if !events.iter().any(|(known, _)| known == id) {
            return Err(format!("it returned an event with the unknown id {id:?}"));
        }
        let decision = match item.get("error").filter(|error| !error.is_null()) {
            Some(error) => Decision::Failed(text(error)),
            None => Decision::Broadcast(item.get("payload").unwrap_or(&Value::Null).to_string()),
        };
        if decided.insert(id, decision).is_some() {
            return Err(format!("it returned the event {id} twice"));
        }
    }
    Ok(events.iter().map(|(id, _)| decided.remove(id.as_str()).unwrap_or(Decision::Filtered)).collect())
}

/// A text as it is, and anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_changes_drops_or_fails_events_and_an_invalid_one_decides_nothing() {
        let events = ["a", "b", "c"].map(|id| (id.to_owned(), "1".to_owned()));
        let given = |events: Value| json!({"events": events});
        let mixed = given(json!([null, {"id": "c", "payload": {"n": 2}}, {"id": "a", "error": "no"}]));
        let expected =
            [Decision::Failed("no".to_owned()), Decision::Filtered, Decision::Broadcast(r#"{"n":2}"#.to_owned())];
        assert_eq!(decisions(&mixed, &events).as_deref(), Ok(&expected[..]));
        for nothing in [json!(null), json!({}), given(json!([])), json!({"error": {"a": 1}})] {
            let filtered = [const { Decision::Filtered }; 3];
            assert_eq!(decisions(&nothing, &events).as_deref(), Ok(&filtered[..]), "{nothing}");
        }
        for invalid in [json!({"events": 1}), given(json!([{"id": "d"}])), given(json!([{"id": "a"}, {"id": "a"}]))] {
            assert!(decisions(&invalid, &events).is_err(), "{invalid}");
        }
    }
}
