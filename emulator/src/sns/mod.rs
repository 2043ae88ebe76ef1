//! SNS: the topics of the template, which hand messages to functions and queues, behind the API that AWS clients speak
//! (AWS query), with the operations to publish.
//!
//! Source: SNS API reference and developer guide; texts of errors from recordings of the service in LocalStack
//! (`tests/aws/services/sns/test_sns.snapshot.json`).

mod attributes;
mod notification;

use std::{collections::BTreeMap, sync::Arc};

use clock::Clock;
use http_body_util::{BodyExt, Limited};
use hyper::{Response, StatusCode, body::Bytes};
use serde_json::{Value, json};

use self::notification::Notification;
use crate::{
    aws::arn,
    aws_query::{QueryError, QueryInput, answer, element, refusal},
    http::{Body, Request, response},
    json,
    lambda::{Functions, Publisher},
    sqs::{AttributeValue, ENTRY_ID_CHARS_MAX, MessageAttribute, Queues, is_entry_id},
    template::{Subscriber, Subscription, Topic},
};

/// Largest message, in bytes. Source: SNS quotas.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Most messages of one batch. Source: SNS.
const BATCH_MAX: usize = 10;

/// Most characters of a subject. Source: SNS API reference, `Publish`.
const SUBJECT_CHARS_MAX: usize = 100;

/// Parts of an ARN, which colons separate. Source: IAM user guide.
const ARN_ELEMENTS: usize = 6;

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
        let message = Message::read(input, topic, "")?;
        if message.bytes() > MESSAGE_BYTES_MAX {
            return Err(invalid("Message too long"));
        }
        Ok(self.publish_to(topic, &message))
    }

    fn publish_batch(&self, input: &QueryInput) -> Result<String, QueryError> {
        let topic = self.topic(input.get("TopicArn").unwrap_or_default())?;
        let entries = input.list("PublishBatchRequestEntries.member");
        let ids: Vec<&str> = entries.iter().map(|entry| entry.get("Id").unwrap_or_default()).collect();
        let refused = |code: &'static str, message: String| Err(QueryError { code, message });
        if entries.is_empty() {
            return refused("EmptyBatchRequest", "The batch request doesn't contain any entries.".to_owned());
        }
        if entries.len() > BATCH_MAX {
            let message = "The batch request contains more entries than permissible.";
            return refused("TooManyEntriesInBatchRequest", message.to_owned());
        }
        if let Some(id) = ids.iter().find(|id| !is_entry_id(id)) {
            let problem =
                if id.len() > ENTRY_ID_CHARS_MAX { "is too long" } else { "contains an impermissible character" };
            let message = format!("The Id of a batch entry in the batch request {problem}: {id}");
            return refused("InvalidBatchEntryId", message);
        }
        if ids.iter().enumerate().any(|(at, id)| ids[..at].contains(id)) {
            let message = "Two or more batch entries in the request have the same Id.";
            return refused("BatchEntryIdsNotDistinct", message.to_owned());
        }
        // What is wrong with one entry refuses all of them.
        let read = |(at, entry): (usize, &QueryInput)| {
            Message::read(entry, topic, &format!("publishBatchRequestEntries.{}.member.", at + 1))
        };
        let messages: Vec<Message> = entries.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        if messages.iter().map(Message::bytes).sum::<usize>() > MESSAGE_BYTES_MAX {
            let message = "The length of all the messages put together is more than the limit.";
            return refused("BatchRequestTooLong", message.to_owned());
        }
        let done = ids.iter().zip(&messages).map(|(id, message)| {
            let member = element("Id", id) + &element("MessageId", &self.publish_to(topic, message));
            format!("<member>{member}</member>")
        });
        Ok(format!("<Successful>{}</Successful><Failed/>", done.collect::<String>()))
    }

    fn topic(&self, arn: &str) -> Result<&Topic, QueryError> {
        let elements = arn.split(':').count();
        if elements < ARN_ELEMENTS {
            let reason = format!("An ARN must have at least {ARN_ELEMENTS} elements, not {elements}");
            return Err(invalid(&format!("TopicArn Reason: {reason}")));
        }
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

/// A parameter that the service does not accept.
fn invalid(problem: &str) -> QueryError {
    QueryError { code: "InvalidParameter", message: format!("Invalid parameter: {problem}") }
}

impl Message {
    /// Reads a message, or says what is wrong with it. `path` is where it stands in the request, as the service writes
    /// that.
    fn read(input: &QueryInput, topic: &Topic, path: &str) -> Result<Self, QueryError> {
        let text = |name: &str| input.get(name).map(str::to_owned);
        let attributes = input.list("MessageAttributes.entry");
        let mut message = Self {
            text: text("Message").unwrap_or_default(),
            subject: text("Subject"),
            attributes: attributes.iter().map(|entry| attributes::read(entry, path)).collect::<Result<_, _>>()?,
            group: text("MessageGroupId"),
            deduplication: text("MessageDeduplicationId"),
        };
        if message.text.is_empty() {
            return Err(invalid("Empty message"));
        }
        let is_subject = |subject: &String| (1..=SUBJECT_CHARS_MAX).contains(&subject.chars().count());
        if message.subject.as_ref().is_some_and(|subject| !is_subject(subject)) {
            return Err(invalid("Subject"));
        }
        if topic.is_fifo && message.group.is_none() {
            return Err(invalid("The MessageGroupId parameter is required for FIFO topics"));
        }
        if topic.is_fifo && message.deduplication.is_none() && !topic.deduplicates_content {
            return Err(invalid(
                "The topic should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided \
                 explicitly",
            ));
        }
        if !topic.is_fifo && message.deduplication.is_some() {
            return Err(invalid(
                "MessageDeduplicationId Reason: The request includes MessageDeduplicationId parameter that is not \
                 valid for this topic type",
            ));
        }
        if input.get("MessageStructure") == Some("json") {
            // Of the texts for each protocol, queues and functions get the default here.
            let texts = json::read(&message.text)
                .ok_or_else(|| invalid("Message Structure - JSON message body failed to parse"))?;
            let default = texts.get("default").and_then(Value::as_str);
            let missing = || invalid("Message Structure - No default entry in JSON message body");
            message.text = default.ok_or_else(missing)?.to_owned();
        }
        Ok(message)
    }

    /// Its size as SNS counts it: the text, and names, types and values of attributes.
    fn bytes(&self) -> usize {
        let of_attribute =
            |(name, attribute): (&String, &MessageAttribute)| name.len() + attribute.kind.len() + attribute.bytes();
        self.text.len() + self.attributes.iter().map(of_attribute).sum::<usize>()
    }

    /// The attributes as filter policies see them.
    fn filterable(&self) -> Value {
        let value = |attribute: &MessageAttribute| match (attribute.kind.as_str(), &attribute.value) {
            (kind, AttributeValue::Text(text)) if kind.starts_with("Number") || kind.starts_with("String.Array") => {
                json::read(text).unwrap_or_else(|| json!(text))
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
    json::read(&message.text).is_some_and(|body| filter.pattern.matches(&body))
}

/// Answers one request.
pub(crate) async fn handle(topics: Arc<Topics>, request: Request) -> Response<Body> {
    let (status, document) = match Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await {
        Ok(body) => topics.perform(&String::from_utf8_lossy(&body.to_bytes())),
        Err(_) => (StatusCode::BAD_REQUEST, refusal(&invalid("Message too long"), NAMESPACE, "")),
    };
    response(status, "text/xml", document)
}

#[cfg(test)]
mod tests;
