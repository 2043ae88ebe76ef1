//! SQS queues.

use std::time::Duration;

use super::{
    error::TemplateError,
    resources::{Resource, Resources},
};

/// How long a message is hidden after it was received where nothing else is said. Source: SQS.
const VISIBILITY_DEFAULT: Duration = Duration::from_secs(30);

/// Properties that change nothing locally. That messages never expire locally is nothing that anybody waits for.
const WITHOUT_EFFECT: [&str; 3] = ["DelaySeconds", "MaximumMessageSize", "RedrivePolicy"];

/// A queue of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its name.
    pub name: String,
    /// How long a message is hidden after it was received.
    pub visibility: Duration,
    /// How long a receiver waits who does not say.
    pub wait: Duration,
}

/// Reads the queues, and notes on what of them is not run.
pub(super) fn read(resources: &Resources) -> Result<(Vec<QueueSettings>, Vec<String>), TemplateError> {
    let (mut queues, mut notes) = (Vec::new(), Vec::new());
    for resource in resources.of_type("AWS::SQS::Queue") {
        queues.push(QueueSettings {
            name: resource.name.clone(),
            visibility: secs(resource, "VisibilityTimeout")?.unwrap_or(VISIBILITY_DEFAULT),
            wait: secs(resource, "ReceiveMessageWaitTimeSeconds")?.unwrap_or_default(),
        });
        if resource.text("FifoQueue").is_some_and(|fifo| fifo == "true") {
            notes.push(format!(
                "{} is a queue like any other locally: neither in order nor without repeats",
                resource.logical_id
            ));
        }
        for property in WITHOUT_EFFECT.iter().filter(|property| resource.properties.get(**property).is_some()) {
            notes.push(format!("{property} of {} has no effect locally", resource.logical_id));
        }
    }
    Ok((queues, notes))
}

fn secs(resource: &Resource, property: &str) -> Result<Option<Duration>, TemplateError> {
    let number = resource
        .text(property)
        .map(|text| text.parse().map_err(|_| resource.error(format!("{property} must be a whole number of seconds"))));
    number.transpose().map(|secs| secs.map(Duration::from_secs))
}
