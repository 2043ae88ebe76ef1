//! SQS queues.

use std::time::Duration;

use super::{
    error::TemplateError,
    resources::{Resource, Resources},
};

/// Default time that a received message is hidden. Source: SQS.
const VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);

/// Properties that the emulator ignores. Messages never expire, so `MessageRetentionPeriod` needs no note.
const WITHOUT_EFFECT: [&str; 3] = ["DelaySeconds", "MaximumMessageSize", "RedrivePolicy"];

/// A queue of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its name.
    pub name: String,
    /// How long a received message is hidden.
    pub visibility: Duration,
    /// How long a receiver waits by default.
    pub wait: Duration,
}

/// Reads the queues, and notes on what of them is not run.
pub(super) fn read(resources: &Resources<'_>) -> Result<(Vec<QueueSettings>, Vec<String>), TemplateError> {
    let (mut queues, mut notes) = (Vec::new(), Vec::new());
    for resource in resources.of_type("AWS::SQS::Queue") {
        queues.push(QueueSettings {
            name: resource.name.clone(),
            visibility: secs(resource, "VisibilityTimeout")?.unwrap_or(VISIBILITY_DEFAULT),
            wait: secs(resource, "ReceiveMessageWaitTimeSeconds")?.unwrap_or_default(),
        });
        if resource.text("FifoQueue").is_some_and(|fifo| fifo == "true") {
            notes.push(format!(
                "{} runs as a standard queue: messages may repeat and change their order",
                resource.logical_id
            ));
        }
        for property in WITHOUT_EFFECT.iter().filter(|property| resource.has(property)) {
            notes.push(format!("the emulator ignores {property} of {}", resource.logical_id));
        }
    }
    Ok((queues, notes))
}

fn secs(resource: &Resource<'_>, property: &str) -> Result<Option<Duration>, TemplateError> {
    let number = resource.text(property).map(|text| {
        text.parse().map_err(|_| resource.error(format!("invalid {property} {text}: expected whole seconds")))
    });
    number.transpose().map(|secs| secs.map(Duration::from_secs))
}
