//! Messages of queues, and how they look to receivers and to functions.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Timestamp;
use serde_json::{Map, Value, json};

use crate::aws::{ACCOUNT_ID, REGION};

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewMessage {
    pub(crate) body: String,
    pub(crate) attributes: BTreeMap<String, MessageAttribute>,
    /// The group in a FIFO queue.
    pub(crate) group: Option<String>,
    /// The deduplication id in a FIFO queue.
    pub(crate) deduplication: Option<String>,
    /// How long it is hidden at first, if that is not what its queue says.
    pub(crate) delay: Option<Duration>,
}

/// An attribute of a message of SQS or SNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageAttribute {
    /// `String`, `Number` or `Binary`, or one of these with a label, such as `Number.int`.
    pub(crate) kind: String,
    pub(crate) value: AttributeValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeValue {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<String> for NewMessage {
    fn from(body: String) -> Self {
        Self { body, ..Self::default() }
    }
}

impl NewMessage {
    /// Its size as SQS counts it: the body, and names, types and values of attributes.
    pub(super) fn bytes(&self) -> usize {
        let of_attribute =
            |(name, attribute): (&String, &MessageAttribute)| name.len() + attribute.kind.len() + attribute.bytes();
        self.body.len() + self.attributes.iter().map(of_attribute).sum::<usize>()
    }

    /// The deduplication id of a message without one, if its queue makes it of the body.
    pub(super) fn digest_of_content(&self) -> String {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest(&self.body))
    }

    /// The digest with which clients check attributes. Source: SQS developer guide, "Calculating the MD5 message digest
    /// for message attributes".
    pub(super) fn digest_of_attributes(&self) -> Option<String> {
        // No attribute is larger than a message.
        let part = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        let attribute = |(name, attribute): (&String, &MessageAttribute)| {
            let (kind, value) = match &attribute.value {
                AttributeValue::Text(text) => (1, text.as_bytes()),
                AttributeValue::Bytes(bytes) => (2, bytes.as_slice()),
            };
            [part(name.as_bytes()), part(attribute.kind.as_bytes()), vec![kind], part(value)].concat()
        };
        let text: Vec<u8> = self.attributes.iter().flat_map(attribute).collect();
        (!text.is_empty()).then(|| format!("{:x}", md5::compute(text)))
    }
}

/// Most characters of the name of an attribute. Source: SQS developer guide, "Amazon SQS message attributes".
const ATTRIBUTE_NAME_CHARACTERS_MAX: usize = 256;

/// Whether an attribute may have this name. Source: the same.
fn is_attribute_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    name.len() <= ATTRIBUTE_NAME_CHARACTERS_MAX
        && name.bytes().all(is_character)
        && name.split('.').all(|part| !part.is_empty())
        && !["aws.", "amazon."].iter().any(|prefix| lower.starts_with(prefix))
}

impl MessageAttribute {
    /// An attribute as JSON of the API.
    pub(crate) fn of_json(value: &Value) -> Option<Self> {
        let kind = value.get("DataType")?.as_str()?.to_owned();
        let text = value.get("StringValue").and_then(Value::as_str);
        let bytes = || value.get("BinaryValue").and_then(Value::as_str);
        let value = match text {
            Some(text) => AttributeValue::Text(text.to_owned()),
            None => AttributeValue::Bytes(BASE64_STANDARD.decode(bytes()?).ok()?),
        };
        Some(Self { kind, value })
    }

    /// What the service would refuse about it. Source: SQS developer guide, "Amazon SQS message attributes".
    pub(super) fn problem(&self, name: &str) -> Option<String> {
        let kind = self.kind.split('.').next().unwrap_or_default();
        let is_known = match self.value {
            AttributeValue::Text(_) => matches!(kind, "String" | "Number"),
            AttributeValue::Bytes(_) => kind == "Binary",
        };
        if !is_known {
            return Some(format!(
                "The type of message (user) attribute '{name}' is invalid. You must use only the following supported \
                 type prefixes: Binary, Number, String."
            ));
        }
        if self.bytes() == 0 {
            return Some(format!("Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."));
        }
        if !is_attribute_name(name) {
            return Some(format!(
                "Invalid message (user) attribute name '{name}': expected at most {ATTRIBUTE_NAME_CHARACTERS_MAX} \
                 letters, digits, hyphens, underscores and single periods between them, not beginning with AWS. or \
                 Amazon."
            ));
        }
        let is_number = kind != "Number" || self.text().parse::<f64>().is_ok_and(f64::is_finite);
        (!is_number).then(|| format!("Can't cast the value of message (user) attribute '{name}' to a number."))
    }

    /// The size of its value.
    pub(crate) fn bytes(&self) -> usize {
        match &self.value {
            AttributeValue::Text(text) => text.len(),
            AttributeValue::Bytes(bytes) => bytes.len(),
        }
    }

    /// Its value as text: bytes in base64.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            AttributeValue::Text(text) => text.clone(),
            AttributeValue::Bytes(bytes) => BASE64_STANDARD.encode(bytes),
        }
    }

    fn to_json(&self) -> Value {
        let name = match self.value {
            AttributeValue::Text(_) => "StringValue",
            AttributeValue::Bytes(_) => "BinaryValue",
        };
        json!({"DataType": self.kind, name: self.text()})
    }
}

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReceivedMessage {
    pub(super) id: String,
    /// Differs each time: only the last receiver can delete a message.
    pub(super) receipt: String,
    pub(super) content: NewMessage,
    pub(super) sequence: Option<String>,
    pub(super) sent_at: Timestamp,
    pub(super) first_received_at: Timestamp,
    pub(super) receives: u32,
}

impl ReceivedMessage {
    pub(super) fn bytes(&self) -> usize {
        self.content.bytes()
    }

    /// What the service says about it.
    fn system_attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![
            ("ApproximateReceiveCount", self.receives.to_string()),
            ("SentTimestamp", self.sent_at.millis().to_string()),
            ("SenderId", ACCOUNT_ID.to_owned()),
            ("ApproximateFirstReceiveTimestamp", self.first_received_at.millis().to_string()),
        ];
        attributes.extend(self.sequence.clone().map(|sequence| ("SequenceNumber", sequence)));
        attributes.extend(self.content.group.clone().map(|group| ("MessageGroupId", group)));
        attributes.extend(self.content.deduplication.clone().map(|id| ("MessageDeduplicationId", id)));
        attributes
    }

    /// The message in the response to a receiver that asked for these attributes.
    pub(super) fn to_json(&self, system_names: &[String], names: &[String]) -> Value {
        let mut json = json!({
            "MessageId": self.id,
            "ReceiptHandle": self.receipt,
            "MD5OfBody": digest(&self.content.body),
            "Body": self.content.body,
        });
        let attributes = named(self.system_attributes(), system_names);
        if !attributes.is_empty() {
            json["Attributes"] = attributes.into();
        }
        let is_wanted = |name: &str| {
            let matches = |asked: &String| {
                let prefix = asked.strip_suffix(".*");
                asked == name || asked == "All" || prefix.is_some_and(|prefix| name.starts_with(prefix))
            };
            names.iter().any(matches)
        };
        let mut wanted = self.content.attributes.clone();
        wanted.retain(|name, _| is_wanted(name));
        let wanted = NewMessage { attributes: wanted, ..NewMessage::default() };
        if let Some(digest) = wanted.digest_of_attributes() {
            json["MD5OfMessageAttributes"] = digest.into();
            let attributes = wanted.attributes.iter().map(|(name, value)| (name.clone(), value.to_json()));
            json["MessageAttributes"] = Value::Object(attributes.collect());
        }
        json
    }

    /// The message in the event of a function. Source: Lambda developer guide, "Using Lambda with Amazon SQS".
    pub(super) fn record(&self, queue_arn: &str) -> Value {
        let attribute = |(name, attribute): (&String, &MessageAttribute)| {
            let value = match attribute.value {
                AttributeValue::Text(_) => "stringValue",
                AttributeValue::Bytes(_) => "binaryValue",
            };
            let json = json!({
                value: attribute.text(),
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": attribute.kind,
            });
            (name.clone(), json)
        };
        let system = self.system_attributes().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        let mut record = json!({
            "messageId": self.id,
            "receiptHandle": self.receipt,
            "body": self.content.body,
            "attributes": Value::Object(system.collect()),
            "messageAttributes": Value::Object(self.content.attributes.iter().map(attribute).collect()),
            "md5OfBody": digest(&self.content.body),
            "eventSource": "aws:sqs",
            "eventSourceARN": queue_arn,
            "awsRegion": REGION,
        });
        if let Some(digest) = self.content.digest_of_attributes() {
            record["md5OfMessageAttributes"] = digest.into();
        }
        record
    }
}

/// The attributes that the request names, or all of them for `All`.
pub(super) fn named(attributes: Vec<(&'static str, String)>, names: &[String]) -> Map<String, Value> {
    let asked_for = |name: &str| names.iter().any(|asked| asked == name || asked == "All");
    let attributes = attributes.into_iter().filter(|(name, _)| asked_for(name));
    attributes.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// The digest with which clients check a body.
pub(super) fn digest(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attributes_and_numbers_have_a_form() {
        let problem = |name: &str, kind: &str, text: &str| {
            MessageAttribute { kind: kind.to_owned(), value: AttributeValue::Text(text.to_owned()) }.problem(name)
        };
        for name in ["a", "a.b", "A-1_x", "awsome", &"n".repeat(256)] {
            assert_eq!(problem(name, "String", "x"), None, "{name}");
        }
        for name in ["aws.x", "Amazon.x", "a..b", ".a", "a.", "a b", "ż", "", &"n".repeat(257)] {
            let problem = problem(name, "String", "x").expect(name);
            assert!(problem.starts_with("Invalid message (user) attribute name"), "{problem}");
        }
        for number in ["1", "-2.5", "1e10", "007"] {
            assert_eq!(problem("n", "Number.int", number), None, "{number}");
        }
        for text in ["abc", "1 2", "NaN", "inf"] {
            let why = problem("n", "Number", text);
            assert_eq!(why.as_deref(), Some("Can't cast the value of message (user) attribute 'n' to a number."));
        }
    }

    #[test]
    fn the_record_of_a_function_is_as_documented() {
        // Source: Lambda developer guide, "Using Lambda with Amazon SQS", example message event.
        let attribute = |kind: &str, value: AttributeValue| MessageAttribute { kind: kind.to_owned(), value };
        let message = ReceivedMessage {
            id: "059f36b4-87a3-44ab-83d2-661975830a7d".to_owned(),
            receipt: "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...".to_owned(),
            content: NewMessage {
                attributes: [(
                    "myAttribute".to_owned(),
                    attribute("String", AttributeValue::Text("myValue".to_owned())),
                )]
                .into(),
                ..NewMessage::from("Test message.".to_owned())
            },
            sequence: None,
            sent_at: Timestamp::from_millis(1_545_082_649_183),
            first_received_at: Timestamp::from_millis(1_545_082_649_185),
            receives: 1,
        };
        let mut record = message.record("arn:aws:sqs:us-east-2:123456789012:my-queue");
        let digest = record.as_object_mut().expect("an object").remove("md5OfMessageAttributes");
        // Computed by another implementation of the documented steps.
        assert_eq!(digest, Some(json!("7c0ce6358e063c1ed17ed00520448716")));
        assert_eq!(
            record,
            json!({
                "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
                "body": "Test message.",
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1545082649183",
                    "SenderId": ACCOUNT_ID,
                    "ApproximateFirstReceiveTimestamp": "1545082649185"
                },
                "messageAttributes": {
                    "myAttribute": {
                        "stringValue": "myValue",
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": "String"
                    }
                },
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
                "awsRegion": REGION
            })
        );
    }
}
