//! EventBridge: `PutEvents` as AWS clients speak it (AWS JSON 1.1), and the rules of the template, which hand events to
//! functions, queues, topics and buses.
//!
//! Source: EventBridge API reference and user guide, and the model of the service in the AWS SDKs.

use std::sync::Arc;

use clock::{Clock, Timestamp};
use hyper::{Response, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    aws::{ACCOUNT_ID, REGION, arn},
    aws_json::{Protocol, ServiceError, Unreadable},
    http::{Body, Request},
    json,
    lambda::{Functions, Publisher},
    sns::Topics,
    sqs::{NewMessage, Queues},
    template::{DEFAULT_BUS, Rule, RuleTarget},
};

/// Most entries of one call. Source: EventBridge API reference.
const ENTRIES_MAX: usize = 10;

/// Largest entry, in bytes. Source: EventBridge API reference, `PutEvents`.
const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// Size of the time of an entry, in bytes. Source: EventBridge user guide, "Calculating PutEvents event entry size".
const TIME_BYTES: usize = 14;

/// Most buses that an event passes, which may lead to each other in a circle. Our own choice.
const BUSES_MAX: usize = 5;

/// Largest request, in bytes: entries with every character escaped, and the JSON around them.
const REQUEST_BYTES_MAX: usize = 6 * ENTRIES_MAX * ENTRY_BYTES_MAX + 64 * 1024;

/// The service's words for entries that are too large together.
const TOO_LARGE: &str = "Total size of the entries in the request is over the limit.";

/// The event buses of the template. Rules and entries name the bus.
#[derive(Debug)]
pub(crate) struct Buses {
    /// The rules of all buses.
    pub(crate) rules: Vec<Rule>,
    /// Functions that rules invoke.
    pub(crate) functions: Arc<Functions>,
    /// Queues that get events.
    pub(crate) queues: Arc<Queues>,
    /// Topics that get events.
    pub(crate) topics: Arc<Topics>,
    /// Time of entries without one.
    pub(crate) clock: Clock,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    source: String,
    #[serde(default)]
    detail_type: String,
    detail: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    event_bus_name: Option<String>,
    /// Seconds since 1970.
    time: Option<f64>,
}

/// Why an entry is refused.
struct EntryError {
    code: &'static str,
    message: String,
}

/// How EventBridge speaks.
const PROTOCOL: Protocol = Protocol {
    media_type: "application/x-amz-json-1.1",
    target_prefix: "AWSEvents.",
    operations: &["PutEvents"],
    request_bytes_max: REQUEST_BYTES_MAX,
    unreadable: |request| match request {
        Unreadable::Target(target) => unknown_operation(target),
        Unreadable::TooLarge => invalid(TOO_LARGE),
    },
};

/// Answers one request.
pub(crate) async fn handle(buses: Arc<Buses>, request: Request) -> Response<Body> {
    PROTOCOL.serve(request, async |_, input| buses.put_events(input)).await
}

fn unknown_operation(target: &str) -> ServiceError {
    let message = format!("the emulator supports only PutEvents of EventBridge, not {target:?}");
    ServiceError::new("UnknownOperationException", message)
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new("ValidationException", message)
}

impl Entry {
    fn bytes(&self) -> usize {
        let time = if self.time.is_some() { TIME_BYTES } else { 0 };
        let texts = [&self.source, &self.detail_type].into_iter().chain(&self.detail).chain(&self.resources);
        time + texts.map(String::len).sum::<usize>()
    }

    /// The detail, if the entry is valid.
    fn detail(&self) -> Result<Value, EntryError> {
        let required = |name: &str| EntryError {
            code: "InvalidArgument",
            message: format!("Parameter {name} is not valid. Reason: {name} is a required argument."),
        };
        if self.source.is_empty() {
            return Err(required("Source"));
        }
        if self.detail_type.is_empty() {
            return Err(required("DetailType"));
        }
        if self.source.starts_with("aws.") {
            let message = "Not authorized for the source.".to_owned();
            return Err(EntryError { code: "NotAuthorizedForSourceException", message });
        }
        let detail = self.detail.as_ref().ok_or_else(|| required("Detail"))?;
        let detail = json::read(detail).filter(Value::is_object);
        detail.ok_or_else(|| EntryError { code: "MalformedDetail", message: "Detail is malformed.".to_owned() })
    }
}

impl Buses {
    /// Carries out `PutEvents`.
    pub(crate) fn put_events(&self, input: &[u8]) -> Result<Value, ServiceError> {
        let PutEvents { entries } = serde_json::from_slice(input)
            .map_err(|error| ServiceError::new("SerializationException", error.to_string()))?;
        if !(1..=ENTRIES_MAX).contains(&entries.len()) {
            let constraint = if entries.is_empty() { "greater than or equal to 1" } else { "less than or equal to 10" };
            return Err(invalid(format!(
                "1 validation error detected: Value at 'entries' failed to satisfy constraint: \
             Member must have length {constraint}"
            )));
        }
        if entries.iter().any(|entry| entry.bytes() > ENTRY_BYTES_MAX) {
            return Err(invalid(TOO_LARGE));
        }
        let results: Vec<_> = entries.into_iter().map(|entry| self.put(entry)).collect();
        let failed = results.iter().filter(|result| result.is_err()).count();
        let results = results.into_iter().map(|result| match result {
            Ok(id) => json!({"EventId": id}),
            Err(EntryError { code, message }) => json!({"ErrorCode": code, "ErrorMessage": message}),
        });
        Ok(json!({"FailedEntryCount": failed, "Entries": results.collect::<Vec<_>>()}))
    }

    /// Accepts an entry, invokes the functions of matching rules, and returns the id of the event.
    fn put(&self, entry: Entry) -> Result<String, EntryError> {
        let detail = entry.detail()?;
        let id = uuid::Uuid::new_v4().to_string();
        let time = entry.time.map_or(self.clock.now().secs(), |secs| secs.floor() as i64);
        let event = json!({
            "version": "0",
            "id": id,
            "detail-type": entry.detail_type,
            "source": entry.source,
            "account": ACCOUNT_ID,
            "time": Timestamp::from_millis(time.saturating_mul(1_000)).rfc3339_secs(),
            "region": REGION,
            "resources": entry.resources,
            "detail": detail,
        });
        let bus = entry.event_bus_name.as_deref().unwrap_or(DEFAULT_BUS);
        self.dispatch(bus.rsplit('/').next().unwrap_or_default(), &event, 1);
        Ok(id)
    }

    /// Hands an event to the targets of the rules that match. `buses` counts the buses that it has come to.
    fn dispatch(&self, bus: &str, event: &Value, buses: usize) {
        let mut rules = self.rules.iter().filter(|rule| rule.bus == bus && rule.pattern.matches(event)).peekable();
        if rules.peek().is_none() {
            tracing::info!(bus, id = %event["id"], source = %event["source"], "event matched no rule");
        }
        for rule in rules {
            let rule_arn = arn("events", &format!("rule/{}", rule.name));
            let input = rule.input.of(event, (&rule.name, &rule_arn));
            let is_delivered = match &rule.target {
                RuleTarget::Function(function) => self.functions.invoke_async(function, Bytes::from(input)).is_ok(),
                RuleTarget::Queue(queue, group) => {
                    let deduplication = group.as_ref().map(|_| event["id"].to_string());
                    let message = NewMessage { group: group.clone(), deduplication, ..NewMessage::from(input) };
                    self.queues.send(queue, message).is_some()
                }
                RuleTarget::Topic(topic) => self.topics.publish(topic, &input),
                RuleTarget::Bus(_) if buses >= BUSES_MAX => false,
                RuleTarget::Bus(other) => {
                    self.dispatch(other, event, buses + 1);
                    true
                }
            };
            if !is_delivered {
                tracing::error!(rule = rule.name, target = ?rule.target, "event not delivered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_that_javascript_and_python_read_is_one() {
        let detail_of = |detail: &str| {
            let entry = json!({"Source": "s", "DetailType": "t", "Detail": detail});
            let entry: Entry = serde_json::from_value(entry).expect("an entry");
            entry.detail().map_err(|error| error.code)
        };
        let deep = format!(r#"{{"a": "x", "d": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for detail in [r#"{"a": "x", "n": 1e400}"#, r#"{"a": "x", "half": "\ud83d"}"#, &deep] {
            assert_eq!(detail_of(detail).expect(detail)["a"], "x");
        }
        for detail in ["[]", "{", "", "{]}"] {
            assert_eq!(detail_of(detail), Err("MalformedDetail"), "{detail}");
        }
    }
}
