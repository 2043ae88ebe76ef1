//! SQS queues.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    error::TemplateError,
    resources::{Resource, Resources},
    scalar::{self, as_text},
};

/// Default time that a received message is hidden. Source: SQS.
const VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);

/// Bounds of what a queue says in seconds. Source: `SetQueueAttributes` of SQS.
const VISIBILITY_SECS: RangeInclusive<u64> = 0..=43_200;
const WAIT_SECS: RangeInclusive<u64> = 0..=20;
const DELAY_SECS: RangeInclusive<u64> = 0..=900;
const RETENTION_SECS: RangeInclusive<u64> = 60..=1_209_600;

/// Most characters of a name. Source: `CreateQueue` of SQS.
const NAME_CHARACTERS_MAX: usize = 80;

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

/// A queue, before anybody knows what other templates declare.
#[derive(Clone, Debug)]
pub(super) struct DeclaredQueue {
    logical_id: String,
    line: usize,
    pub(super) settings: QueueSettings,
}

impl DeclaredQueue {
    /// The queue that a resource declares.
    pub(super) fn of(resource: &Resource<'_>, settings: QueueSettings) -> Self {
        Self { logical_id: resource.logical_id.clone(), line: resource.line, settings }
    }
}

/// Reads the queues, and notes on what of them is not run.
pub(super) fn read(resources: &Resources<'_>) -> Result<(Vec<DeclaredQueue>, Vec<String>), TemplateError> {
    let (mut queues, mut notes) = (Vec::new(), Vec::new());
    for resource in resources.of_type("AWS::SQS::Queue") {
        let is = |property: &str| resource.text(property).is_some_and(|value| value == "true");
        let settings = QueueSettings {
            visibility: secs(resource, "VisibilityTimeout", VISIBILITY_SECS)?.unwrap_or(VISIBILITY_DEFAULT),
            wait: secs(resource, "ReceiveMessageWaitTimeSeconds", WAIT_SECS)?.unwrap_or_default(),
            delay: secs(resource, "DelaySeconds", DELAY_SECS)?.unwrap_or_default(),
            redrive: redrive(resource)?,
            is_fifo: resource.is_fifo()?,
            deduplicates_content: is("ContentBasedDeduplication"),
            ..QueueSettings::named(resource.simple_name(NAME_CHARACTERS_MAX)?)
        };
        secs(resource, "MessageRetentionPeriod", RETENTION_SECS)?;
        if settings.deduplicates_content && !settings.is_fifo {
            return Err(resource.error("invalid ContentBasedDeduplication: only a FIFO queue has it"));
        }
        queues.push(DeclaredQueue::of(resource, settings));
        for property in WITHOUT_EFFECT.iter().filter(|property| resource.has(property)) {
            notes.push(format!("the emulator ignores {property} of {}", resource.logical_id));
        }
    }
    Ok((queues, notes))
}

/// Compares one of all queues with the others: refuses the name of one before it, and a dead-letter queue of the other
/// kind. Returns a note if no template has its dead-letter queue.
pub(super) fn check(queues: &[DeclaredQueue], at: usize) -> Result<Option<String>, TemplateError> {
    let DeclaredQueue { logical_id, line, settings } = &queues[at];
    let error = |message: String| TemplateError::at(*line, message).in_resource(logical_id);
    if queues[..at].iter().any(|queue| queue.settings.name == settings.name) {
        return Err(error(format!("another queue has the name {}", settings.name)));
    }
    let Some((target, _)) = &settings.redrive else { return Ok(None) };
    match queues.iter().find(|queue| queue.settings.name == *target) {
        Some(target) if target.settings.is_fifo != settings.is_fifo => Err(error(
            "invalid RedrivePolicy: the dead-letter queue of a FIFO queue is a FIFO queue, that of a standard queue a \
             standard one"
                .to_owned(),
        )),
        Some(_) => Ok(None),
        None => Ok(Some(format!(
            "messages that {logical_id} gives up stay in it: the template has no queue {target} for them"
        ))),
    }
}

/// The dead-letter queue, and the receive count from which on it gets a message. The policy may be JSON in a text.
fn redrive(resource: &Resource<'_>) -> Result<Option<(String, u32)>, TemplateError> {
    let Some(policy) = resource.get("RedrivePolicy") else { return Ok(None) };
    let policy = scalar::policy(policy);
    let part = |name: &str| policy.get(name).and_then(as_text);
    let queue = part("deadLetterTargetArn").and_then(|arn| arn.rsplit(':').next().map(str::to_owned));
    let max = part("maxReceiveCount").and_then(|max| max.parse().ok()).filter(|max| (1..=1_000).contains(max));
    let policy = queue.zip(max).ok_or_else(|| {
        resource.error("invalid RedrivePolicy: expected deadLetterTargetArn, and maxReceiveCount from 1 to 1000")
    });
    policy.map(Some)
}

fn secs(
    resource: &Resource<'_>,
    property: &str,
    bounds: RangeInclusive<u64>,
) -> Result<Option<Duration>, TemplateError> {
    let number = resource.text(property).map(|text| {
        text.parse().ok().filter(|secs| bounds.contains(secs)).ok_or_else(|| {
            let (min, max) = bounds.clone().into_inner();
            resource.error(format!("invalid {property} {text}: expected whole seconds from {min} to {max}"))
        })
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

    #[test]
    fn what_the_service_refuses_of_a_queue_is_refused_with_its_line() {
        for (properties, why) in [
            ("VisibilityTimeout: 43201", "invalid VisibilityTimeout 43201: expected whole seconds from 0 to 43200"),
            ("DelaySeconds: 901", "invalid DelaySeconds 901: expected whole seconds from 0 to 900"),
            (
                "ReceiveMessageWaitTimeSeconds: 21",
                "invalid ReceiveMessageWaitTimeSeconds 21: expected whole seconds from 0 to 20",
            ),
            (
                "MessageRetentionPeriod: 30",
                "invalid MessageRetentionPeriod 30: expected whole seconds from 60 to 1209600",
            ),
            ("QueueName: a.b", "invalid name a.b: expected at most 80 letters, digits, hyphens and underscores"),
            ("ContentBasedDeduplication: true", "invalid ContentBasedDeduplication: only a FIFO queue has it"),
            (
                "RedrivePolicy: { deadLetterTargetArn: !GetAtt F.Arn, maxReceiveCount: 3 }",
                "invalid RedrivePolicy: the dead-letter queue of a FIFO queue is a FIFO queue, that of a standard \
                 queue a standard one",
            ),
            ("QueueName: F.fifo, FifoQueue: true", "another queue has the name F.fifo"),
        ] {
            let resources = format!(
                "  F: {{ Type: AWS::SQS::Queue, Properties: {{ FifoQueue: true }} }}\n  \
                 Q: {{ Type: AWS::SQS::Queue, Properties: {{ {properties} }} }}\n"
            );
            let refused = read(&resources).expect_err(properties).to_string();
            assert_eq!(refused, format!("line 4: Q: {why}"));
        }
        let elsewhere = "  Q: { Type: AWS::SQS::Queue, Properties: { RedrivePolicy: { deadLetterTargetArn: \
            'arn:aws:sqs:eu-central-1:000000000000:dead', maxReceiveCount: 3 } } }\n";
        let notes = read(elsewhere).expect("valid").notes;
        assert_eq!(notes, ["messages that Q gives up stay in it: the template has no queue dead for them"]);
    }
}
