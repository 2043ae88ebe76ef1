//! SQS queues.

use std::time::Duration;

use super::{
    error::TemplateError,
    resources::{Resource, Resources},
    scalar::as_text,
};

/// Default time that a received message is hidden. Source: SQS.
const VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);

/// Properties that the emulator ignores. Messages never expire, so `MessageRetentionPeriod` needs no note.
const WITHOUT_EFFECT: [&str; 1] = ["MaximumMessageSize"];

/// A queue of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its name.
    pub name: String,
    /// How long a received message is hidden.
    pub visibility: Duration,
    /// How long a receiver waits by default.
    pub wait: Duration,
    /// How long a new message is hidden by default.
    pub delay: Duration,
    /// The queue that gets messages which were received too often, and how often that is.
    pub redrive: Option<(String, u32)>,
    /// Whether messages of a group keep their order, and are not repeated.
    pub is_fifo: bool,
    /// Whether a message without a deduplication id has the digest of its body.
    pub deduplicates_content: bool,
}

impl QueueSettings {
    /// A standard queue with the defaults of the service.
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            visibility: VISIBILITY_DEFAULT,
            wait: Duration::ZERO,
            delay: Duration::ZERO,
            redrive: None,
            is_fifo: false,
            deduplicates_content: false,
        }
    }
}

/// Reads the queues, and notes on what of them is not run.
pub(super) fn read(resources: &Resources<'_>) -> Result<(Vec<QueueSettings>, Vec<String>), TemplateError> {
    let (mut queues, mut notes) = (Vec::new(), Vec::new());
    for resource in resources.of_type("AWS::SQS::Queue") {
        let is = |property: &str| resource.text(property).is_some_and(|value| value == "true");
        queues.push(QueueSettings {
            visibility: secs(resource, "VisibilityTimeout")?.unwrap_or(VISIBILITY_DEFAULT),
            wait: secs(resource, "ReceiveMessageWaitTimeSeconds")?.unwrap_or_default(),
            delay: secs(resource, "DelaySeconds")?.unwrap_or_default(),
            redrive: redrive(resource)?,
            is_fifo: resource.is_fifo()?,
            deduplicates_content: is("ContentBasedDeduplication"),
            ..QueueSettings::named(resource.name.clone())
        });
        for property in WITHOUT_EFFECT.iter().filter(|property| resource.has(property)) {
            notes.push(format!("the emulator ignores {property} of {}", resource.logical_id));
        }
    }
    Ok((queues, notes))
}

/// The dead-letter queue, and the receive count from which on it gets a message. The policy may be JSON in a text.
fn redrive(resource: &Resource<'_>) -> Result<Option<(String, u32)>, TemplateError> {
    let Some(policy) = resource.get("RedrivePolicy") else { return Ok(None) };
    let policy = match policy.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => policy.clone(),
    };
    let part = |name: &str| policy.get(name).and_then(as_text);
    let queue = part("deadLetterTargetArn").and_then(|arn| arn.rsplit(':').next().map(str::to_owned));
    let max = part("maxReceiveCount").and_then(|max| max.parse().ok()).filter(|max| (1..=1_000).contains(max));
    let policy = queue.zip(max).ok_or_else(|| {
        resource.error("invalid RedrivePolicy: expected deadLetterTargetArn, and maxReceiveCount from 1 to 1000")
    });
    policy.map(Some)
}

fn secs(resource: &Resource<'_>, property: &str) -> Result<Option<Duration>, TemplateError> {
    let number = resource.text(property).map(|text| {
        text.parse().map_err(|_| resource.error(format!("invalid {property} {text}: expected whole seconds")))
    });
    number.transpose().map(|secs| secs.map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    fn read(resources: &str) -> Result<Template, TemplateError> {
        let api = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
            RouteSelectionExpression: $request.body.action } }\n";
        Template::parse(&format!("{api}{resources}"), &Default::default())
    }

    #[test]
    fn names_of_fifo_queues_and_topics_and_no_others_end_with_fifo() {
        let template = read("  Q: { Type: AWS::SQS::Queue, Properties: { FifoQueue: true } }\n").expect("valid");
        assert_eq!((template.queues[0].name.as_str(), template.queues[0].is_fifo), ("Q.fifo", true));
        let refused = |kind: &str, properties: &str| {
            read(&format!("  Q: {{ Type: {kind}, Properties: {{ {properties} }} }}\n"))
                .expect_err("invalid")
                .to_string()
        };
        for (kind, name, fifo) in
            [("AWS::SQS::Queue", "QueueName", "FifoQueue"), ("AWS::SNS::Topic", "TopicName", "FifoTopic")]
        {
            assert_eq!(
                refused(kind, &format!("{name}: jobs, {fifo}: true")),
                format!("line 3: Q: invalid name jobs: with {fifo} it has to end with .fifo")
            );
            assert_eq!(
                refused(kind, &format!("{name}: jobs.fifo")),
                format!("line 3: Q: invalid name jobs.fifo: without {fifo}: true it cannot have a full stop")
            );
        }
    }
}
