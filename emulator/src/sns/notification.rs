//! What subscribers of a topic get.

use clock::Timestamp;
use serde_json::{Map, Value, json};

use super::Message;
use crate::{
    aws::{REGION, URL_SUFFIX},
    sqs::{AttributeValue, NewMessage},
};

/// A message on its way to a subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification<'a> {
    pub(super) topic_arn: &'a str,
    pub(super) subscription_arn: &'a str,
    pub(super) message_id: &'a str,
    pub(super) message: &'a Message,
    pub(super) at: Timestamp,
}

impl Notification<'_> {
    /// The event of a function. Source: Lambda developer guide, "Invoking Lambda functions with Amazon SNS
    /// notifications".
    pub(super) fn event(self) -> Value {
        let mut notification = self.fields("SigningCertUrl", "UnsubscribeUrl");
        notification.insert("Subject".to_owned(), json!(self.message.subject));
        notification.insert("MessageAttributes".to_owned(), Value::Object(self.attributes()));
        json!({"Records": [{
            "EventVersion": "1.0",
            "EventSubscriptionArn": self.subscription_arn,
            "EventSource": "aws:sns",
            "Sns": notification,
        }]})
    }

    /// The message of a queue: raw, or with what SNS writes about it. Source: SNS developer guide, "Fanout to Amazon
    /// SQS queues" and "Amazon SNS raw message delivery".
    pub(super) fn for_queue(self, is_raw: bool) -> NewMessage {
        let Message { text, attributes, group, deduplication, .. } = self.message.clone();
        let of_fifo = NewMessage { group, deduplication, ..NewMessage::default() };
        if is_raw {
            return NewMessage { body: text, attributes, ..of_fifo };
        }
        let mut notification = self.fields("SigningCertURL", "UnsubscribeURL");
        notification.extend(self.message.subject.as_ref().map(|subject| ("Subject".to_owned(), json!(subject))));
        if !attributes.is_empty() {
            notification.insert("MessageAttributes".to_owned(), Value::Object(self.attributes()));
        }
        NewMessage { body: Value::Object(notification).to_string(), ..of_fifo }
    }

    fn fields(self, certificate: &str, unsubscribe: &str) -> Map<String, Value> {
        let host = format!("https://sns.{REGION}.{URL_SUFFIX}");
        let entries = [
            ("Type", "Notification".to_owned()),
            ("MessageId", self.message_id.to_owned()),
            ("TopicArn", self.topic_arn.to_owned()),
            ("Message", self.message.text.clone()),
            ("Timestamp", self.at.rfc3339()),
            ("SignatureVersion", "1".to_owned()),
            ("Signature", "none".to_owned()),
            (certificate, format!("{host}/SimpleNotificationService-none.pem")),
            (unsubscribe, format!("{host}/?Action=Unsubscribe&SubscriptionArn={}", self.subscription_arn)),
        ];
        entries.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
    }

    fn attributes(self) -> Map<String, Value> {
        let attributes = self.message.attributes.iter().map(|(name, attribute)| {
            let kind = match attribute.value {
                AttributeValue::Text(_) => attribute.kind.as_str(),
                AttributeValue::Bytes(_) => "Binary",
            };
            (name.clone(), json!({"Type": kind, "Value": attribute.text()}))
        });
        attributes.collect()
    }
}
