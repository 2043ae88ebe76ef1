//! SNS: the topics of the template, which hand messages to functions and queues, behind the API that AWS clients speak
//! (AWS query), with the operations to publish.
//!
//! Source: SNS API reference and developer guide.

mod notification;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Clock;
use http_body_util::{BodyExt, Limited};
use hyper::{Response, StatusCode, body::Bytes};
use serde_json::{Value, json};

use self::notification::Notification;
use crate::{
    aws::arn,
    aws_query::{QueryError, QueryInput, answer, element, refusal},
    http::{Body, Request, response},
    lambda::{Functions, Publisher},
    sqs::{AttributeValue, MessageAttribute, Queues, is_entry_id},
    template::{Subscriber, Subscription, Topic},
};

/// Largest message, in bytes. Source: SNS quotas.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Most messages of one batch. Source: SNS.
const BATCH_MAX: usize = 10;

/// Most characters of a subject. Source: SNS API reference, `Publish`.
const SUBJECT_CHARS_MAX: usize = 100;

/// Largest request, in bytes: a form with every byte escaped, and its names.
const REQUEST_BYTES_MAX: usize = 3 * MESSAGE_BYTES_MAX + 64 * 1024;

/// The namespace of documents. Source: SNS API reference.
const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";

/// The topics of a template.
#[derive(Debug)]
pub(crate) struct Topics {
    topics: BTreeMap<String, Topic>,
    functions: Arc<Functions>,
    queues: Arc<Queues>,
    clock: Clock,
}

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    text: String,
    subject: Option<String>,
    attributes: BTreeMap<String, MessageAttribute>,
    group: Option<String>,
    deduplication: Option<String>,
}

impl Topics {
    pub(crate) fn new(topics: Vec<Topic>, functions: Arc<Functions>, queues: Arc<Queues>, clock: Clock) -> Arc<Self> {
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        Arc::new(Self { topics, functions, queues, clock })
    }

    /// Carries out an operation that a form names. Returns the status and the document of the response.
    pub(crate) fn perform(&self, form: &str) -> (StatusCode, String) {
        let input = QueryInput::parse(form);
        let request_id = uuid::Uuid::new_v4().to_string();
        let operation = input.get("Action").unwrap_or_default();
        let result = match operation {
            "Publish" => self.publish_one(&input),
            "PublishBatch" => self.publish_batch(&input),
            _ => {
                let message = format!("the emulator supports only Publish and PublishBatch of SNS, not {operation:?}");
                Err(QueryError { code: "InvalidAction", message })
            }
        };
        match result {
            Ok(result) => (StatusCode::OK, answer(operation, NAMESPACE, &result, &request_id)),
            Err(error) => {
                let status = if error.code == "NotFound" { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
                (status, refusal(&error, NAMESPACE, &request_id))
            }
        }
    }

    fn publish_one(&self, input: &QueryInput) -> Result<String, QueryError> {
        Ok(element("MessageId", &self.publish_form(input)?))
    }

    /// Carries out `Publish`, and returns the id of the message.
    pub(crate) fn publish_form(&self, input: &QueryInput) -> Result<String, QueryError> {
        let arn = input.get("TopicArn").or_else(|| input.get("TargetArn")).unwrap_or_default();
        let topic = self.topic(arn)?;
        Ok(self.publish_to(topic, &Message::read(input, topic)?))
    }

    fn publish_batch(&self, input: &QueryInput) -> Result<String, QueryError> {
        let topic = self.topic(input.get("TopicArn").unwrap_or_default())?;
        let entries = input.list("PublishBatchRequestEntries.member");
        let ids: Vec<&str> = entries.iter().map(|entry| entry.get("Id").unwrap_or_default()).collect();
        if entries.is_empty() {
            return Err(QueryError { code: "EmptyBatchRequest", message: "The batch has no entries.".to_owned() });
        }
        if entries.len() > BATCH_MAX {
            let message = format!("The batch has more than {BATCH_MAX} entries.");
            return Err(QueryError { code: "TooManyEntriesInBatchRequest", message });
        }
        if ids.iter().any(|id| !is_entry_id(id)) {
            let message = "The batch entry id can only contain alphanumeric characters, hyphens and underscores. It \
                           can be at most 80 letters long.";
            return Err(QueryError { code: "InvalidBatchEntryId", message: message.to_owned() });
        }
        if let Some((_, repeated)) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            return Err(QueryError { code: "BatchEntryIdsNotDistinct", message: format!("Id {repeated} repeated.") });
        }
        let (mut done, mut failed) = (String::new(), String::new());
        for (id, entry) in ids.iter().zip(&entries) {
            match Message::read(entry, topic) {
                Ok(message) => {
                    let message_id = self.publish_to(topic, &message);
                    let member = element("Id", id) + &element("MessageId", &message_id);
                    done.push_str(&format!("<member>{member}</member>"));
                }
                Err(error) => {
                    let error = element("Code", error.code) + &element("Message", &error.message);
                    let member = element("Id", id) + &error + &element("SenderFault", "true");
                    failed.push_str(&format!("<member>{member}</member>"));
                }
            }
        }
        Ok(format!("<Successful>{done}</Successful><Failed>{failed}</Failed>"))
    }

    fn topic(&self, arn: &str) -> Result<&Topic, QueryError> {
        let topic = arn.rsplit(':').next().and_then(|name| self.topics.get(name));
        topic.ok_or_else(|| QueryError { code: "NotFound", message: "Topic does not exist".to_owned() })
    }

    /// Hands a message to the subscriptions whose filter it passes, and returns its id.
    fn publish_to(&self, topic: &Topic, message: &Message) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        let topic_arn = arn("sns", &topic.name);
        for subscription in topic.subscriptions.iter().filter(|one| passes(one, message)) {
            let subscription_arn = format!("{topic_arn}:{}", subscription.id);
            let notification = Notification {
                topic_arn: &topic_arn,
                subscription_arn: &subscription_arn,
                message_id: &id,
                message,
                at: self.clock.now(),
            };
            match &subscription.subscriber {
                Subscriber::Function(function) => {
                    let payload = Bytes::from(notification.event().to_string());
                    if let Err(error) = self.functions.invoke_async(function, payload) {
                        tracing::error!(topic = topic.name, function, %error, "notification not delivered");
                    }
                }
                Subscriber::Queue(queue) => {
                    let sent = self.queues.send(queue, notification.for_queue(subscription.is_raw));
                    if sent.is_none() {
                        tracing::error!(topic = topic.name, queue, "notification not delivered");
                    }
                }
            }
        }
        id
    }
}

impl Publisher for Topics {
    fn publish(&self, topic: &str, text: &str) -> bool {
        let message = Message { text: text.to_owned(), ..Message::default() };
        self.topics.get(topic).map(|topic| self.publish_to(topic, &message)).is_some()
    }
}

impl Message {
    fn read(input: &QueryInput, topic: &Topic) -> Result<Self, QueryError> {
        let invalid = |message: String| QueryError { code: "InvalidParameter", message };
        let text = |name: &str| input.get(name).map(str::to_owned);
        let mut message = Self {
            text: text("Message").unwrap_or_default(),
            subject: text("Subject"),
            attributes: BTreeMap::new(),
            group: text("MessageGroupId"),
            deduplication: text("MessageDeduplicationId"),
        };
        if message.text.is_empty() {
            return Err(invalid("Invalid parameter: Empty message".to_owned()));
        }
        if message.text.len() > MESSAGE_BYTES_MAX {
            return Err(invalid("Invalid parameter: Message too long".to_owned()));
        }
        if message.subject.as_ref().is_some_and(|subject| subject.chars().count() > SUBJECT_CHARS_MAX) {
            return Err(invalid("Invalid parameter: Subject".to_owned()));
        }
        if topic.is_fifo && message.group.is_none() {
            let reason = "The MessageGroupId parameter is required for FIFO topics";
            return Err(invalid(format!("Invalid parameter: {reason}")));
        }
        if input.get("MessageStructure") == Some("json") {
            // Of the texts for each protocol, queues and functions get the default here.
            let texts: Value = serde_json::from_str(&message.text).map_err(|_| {
                invalid("Invalid parameter: Message Structure - JSON message body failed to parse".into())
            })?;
            let default = texts.get("default").and_then(Value::as_str);
            let reason = "Message Structure - No default entry in JSON message body";
            message.text = default.ok_or_else(|| invalid(format!("Invalid parameter: {reason}")))?.to_owned();
        }
        for entry in input.list("MessageAttributes.entry") {
            let name = entry.get("Name").unwrap_or_default().to_owned();
            let value = match (entry.get("Value.StringValue"), entry.get("Value.BinaryValue")) {
                (Some(text), _) => Some(AttributeValue::Text(text.to_owned())),
                (None, Some(bytes)) => BASE64_STANDARD.decode(bytes).ok().map(AttributeValue::Bytes),
                (None, None) => None,
            };
            let kind = entry.get("Value.DataType").unwrap_or_default().to_owned();
            let value = value.filter(|_| !name.is_empty() && !kind.is_empty());
            let refused = || QueryError {
                code: "ParameterValueInvalid",
                message: format!("The message attribute '{name}' is invalid."),
            };
            let value = value.ok_or_else(refused)?;
            message.attributes.insert(name, MessageAttribute { kind, value });
        }
        Ok(message)
    }

    /// The attributes as filter policies see them.
    fn filterable(&self) -> Value {
        let value = |attribute: &MessageAttribute| match (attribute.kind.as_str(), &attribute.value) {
            (kind, AttributeValue::Text(text)) if kind.starts_with("Number") || kind.starts_with("String.Array") => {
                serde_json::from_str(text).unwrap_or_else(|_| json!(text))
            }
            (_, AttributeValue::Text(text)) => json!(text),
            (_, AttributeValue::Bytes(_)) => Value::Null,
        };
        let attributes = self.attributes.iter().map(|(name, attribute)| (name.clone(), value(attribute)));
        Value::Object(attributes.collect())
    }
}

/// Whether a message passes the filter policy of a subscription.
///
/// Source: SNS developer guide, "Amazon SNS message filtering".
fn passes(subscription: &Subscription, message: &Message) -> bool {
    let Some(filter) = &subscription.filter else { return true };
    if !filter.reads_body {
        return filter.pattern.matches(&message.filterable());
    }
    serde_json::from_str(&message.text).is_ok_and(|body| filter.pattern.matches(&body))
}

/// Answers one request.
pub(crate) async fn handle(topics: Arc<Topics>, request: Request) -> Response<Body> {
    let (status, document) = match Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await {
        Ok(body) => topics.perform(&String::from_utf8_lossy(&body.to_bytes())),
        Err(_) => {
            let error = QueryError { code: "InvalidParameter", message: "Invalid parameter: Message too long".into() };
            (StatusCode::BAD_REQUEST, refusal(&error, NAMESPACE, ""))
        }
    };
    response(status, "text/xml", document)
}

#[cfg(test)]
mod tests;
