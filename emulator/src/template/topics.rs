//! SNS topics and their subscriptions.

use serde_json::Value;

use super::{
    attributes,
    error::TemplateError,
    event_pattern::EventPattern,
    resources::{Resource, Resources},
    scalar::{self, as_text},
};
use crate::aws::arn;

/// Most characters of a name. Source: `CreateTopic` of SNS.
const NAME_CHARACTERS_MAX: usize = 256;

/// A topic of the template.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) is_fifo: bool,
    /// Whether a message without a deduplication id has one made of its text.
    pub(crate) deduplicates_content: bool,
    pub(crate) subscriptions: Vec<Subscription>,
}

/// What gets the messages of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// The last part of its ARN.
    pub(crate) id: String,
    pub(crate) subscriber: Subscriber,
    pub(crate) filter: Option<SubscriptionFilter>,
    /// Whether a queue gets the message itself.
    pub(crate) is_raw: bool,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subscriber {
    /// A function of this name.
    Function(String),
    /// A queue of this name.
    Queue(String),
}

/// A filter policy.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionFilter {
    pub(crate) pattern: EventPattern,
    /// Whether it is about the message, which then has to be JSON, and not about its attributes.
    pub(crate) reads_body: bool,
}

/// A subscription of the template that has not been read.
#[derive(Clone, Debug)]
pub(super) struct DeclaredSubscription {
    pub(super) id: String,
    pub(super) line: usize,
    pub(super) logical_id: String,
    /// ARN of the topic.
    pub(super) topic: String,
    /// ARN of the function or queue.
    pub(super) endpoint: String,
    pub(super) properties: Value,
}

impl DeclaredSubscription {
    fn of_resource(resource: &Resource<'_>) -> Self {
        Self {
            id: resource.logical_id.clone(),
            line: resource.line,
            logical_id: resource.logical_id.clone(),
            topic: resource.text("TopicArn").unwrap_or_default(),
            endpoint: resource.text("Endpoint").unwrap_or_default(),
            properties: resource.object(&["FilterPolicy", "FilterPolicyScope", "RawMessageDelivery"]),
        }
    }

    /// Reads an event `SNS` of a function. The message goes to the function, or to the queue of this ARN.
    pub(super) fn of_event(resource: &Resource<'_>, name: &str, event: &Value, queue: Option<String>) -> Self {
        let properties = event.get("Properties").cloned().unwrap_or_default();
        Self {
            id: format!("{}{name}", resource.logical_id),
            line: resource.line,
            logical_id: resource.logical_id.clone(),
            topic: properties.get("Topic").and_then(as_text).unwrap_or_default(),
            endpoint: queue.unwrap_or_else(|| arn("lambda", &format!("function:{}", resource.name))),
            properties,
        }
    }

    /// Reads one of `Subscription` of a topic.
    fn of_topic(topic: &Resource<'_>, number: usize, properties: &Value) -> Self {
        Self {
            id: format!("{}-{number}", topic.logical_id),
            line: topic.line,
            logical_id: topic.logical_id.clone(),
            topic: topic.name.clone(),
            endpoint: properties.get("Endpoint").and_then(as_text).unwrap_or_default(),
            properties: properties.clone(),
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.line, message).in_resource(&self.logical_id)
    }

    fn text(&self, property: &str) -> Option<String> {
        self.properties.get(property).and_then(as_text)
    }

    fn filter(&self) -> Result<Option<SubscriptionFilter>, TemplateError> {
        let Some(policy) = self.properties.get("FilterPolicy") else { return Ok(None) };
        let policy = scalar::policy(policy);
        if policy.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let pattern = EventPattern::parse(&policy)
            .map_err(|error| self.error(format!("invalid FilterPolicy of {}: {error}", self.id)))?;
        Ok(Some(SubscriptionFilter {
            pattern,
            reads_body: self.text("FilterPolicyScope").is_some_and(|scope| scope == "MessageBody"),
        }))
    }
}

/// Finds the topics and the subscriptions that are resources or parts of topics.
pub(super) fn declared(resources: &Resources<'_>) -> Result<(Vec<Topic>, Vec<DeclaredSubscription>), TemplateError> {
    let (mut topics, mut declared) = (Vec::new(), Vec::new());
    for topic in resources.of_type("AWS::SNS::Topic") {
        let own = topic.get("Subscription").and_then(Value::as_array);
        for (number, properties) in own.into_iter().flatten().enumerate() {
            declared.push(DeclaredSubscription::of_topic(topic, number, properties));
        }
        topics.push(Topic {
            is_fifo: topic.is_fifo()?,
            name: topic.simple_name(NAME_CHARACTERS_MAX)?,
            deduplicates_content: topic.text("ContentBasedDeduplication").is_some_and(|text| text == "true"),
            subscriptions: Vec::new(),
        });
    }
    declared.extend(resources.of_type("AWS::SNS::Subscription").map(DeclaredSubscription::of_resource));
    Ok((topics, declared))
}

/// Adds the subscriptions to their topics, and returns notes on those that have no effect.
pub(super) fn subscribe(
    topics: &mut Vec<Topic>,
    declared: Vec<DeclaredSubscription>,
    has_function: impl Fn(&str) -> bool,
    has_queue: impl Fn(&str) -> bool,
) -> Result<Vec<String>, TemplateError> {
    let mut notes = Vec::new();
    for declared in declared {
        let name = declared.topic.rsplit(':').next().unwrap_or_default();
        // One of another stack, whose ARN is often a parameter: whoever publishes to it here is a test.
        if declared.topic.starts_with("arn:") && !topics.iter().any(|topic| topic.name == name) {
            notes.push(format!("the topic {name} is not in the template: it is here with the subscriptions of it"));
            let is_fifo = name.ends_with(attributes::FIFO_SUFFIX);
            topics.push(Topic {
                name: name.to_owned(),
                is_fifo,
                deduplicates_content: false,
                subscriptions: Vec::new(),
            });
        }
        let Some(topic) = topics.iter_mut().find(|topic| topic.name == name) else {
            notes.push(format!("the subscription {} has no effect: the template has no topic {name}", declared.id));
            continue;
        };
        let subscriber = match declared.endpoint.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", _, "lambda", _, _, "function", function, ..] if has_function(function) => {
                Subscriber::Function((*function).to_owned())
            }
            ["arn", _, "sqs", _, _, queue] if has_queue(queue) => Subscriber::Queue((*queue).to_owned()),
            _ => {
                notes.push(format!(
                    "the subscription {} has no effect: the emulator delivers to functions and queues of the template, \
                     not to {}",
                    declared.id,
                    if declared.endpoint.is_empty() { "(none)" } else { &declared.endpoint }
                ));
                continue;
            }
        };
        let is_allowed = match &subscriber {
            Subscriber::Function(_) => !topic.is_fifo,
            Subscriber::Queue(queue) => topic.is_fifo || !queue.ends_with(attributes::FIFO_SUFFIX),
        };
        if !is_allowed {
            let [topic, subscriber] =
                if topic.is_fifo { ["a FIFO topic", "a function"] } else { ["a standard topic", "a FIFO queue"] };
            return Err(
                declared.error(format!("invalid subscription {}: {topic} does not send to {subscriber}", declared.id))
            );
        }
        topic.subscriptions.push(Subscription {
            id: declared.id.clone(),
            subscriber,
            filter: declared.filter()?,
            is_raw: declared.text("RawMessageDelivery").is_some_and(|raw| raw == "true"),
        });
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    fn read(resources: &str) -> Result<Template, TemplateError> {
        let base = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
            RouteSelectionExpression: $request.body.action } }\n  \
            Q: { Type: AWS::SQS::Queue }\n  Fifo: { Type: AWS::SQS::Queue, Properties: { FifoQueue: true } }\n  \
            Topic: { Type: AWS::SNS::Topic }\n  Line: { Type: AWS::SNS::Topic, Properties: { FifoTopic: true } }\n  \
            F: { Type: AWS::Lambda::Function, Properties: { Code: . } }\n";
        Template::parse(&format!("{base}{resources}"), &Default::default())
    }

    fn subscribed(topic: &str, protocol: &str, endpoint: &str) -> Result<Template, TemplateError> {
        read(&format!(
            "  S: {{ Type: AWS::SNS::Subscription, Properties: {{ TopicArn: {topic}, Protocol: {protocol}, Endpoint: \
             {endpoint} }} }}\n"
        ))
    }

    #[test]
    fn a_topic_of_another_stack_is_here_with_its_subscriptions() {
        let arn = "'arn:aws:sns:eu-central-1:000000000000:elsewhere'";
        let template = subscribed(arn, "lambda", "!GetAtt F.Arn").expect("valid");
        let topic = template.topics.iter().find(|topic| topic.name == "elsewhere").expect("made");
        assert_eq!(topic.subscriptions.len(), 1);
        let note = "the topic elsewhere is not in the template: it is here with the subscriptions of it";
        assert_eq!(template.notes, [note]);
    }

    #[test]
    fn names_that_the_service_refuses_are_refused_with_their_line() {
        let named =
            |name: &str| read(&format!("  T: {{ Type: AWS::SNS::Topic, Properties: {{ TopicName: '{name}' }} }}\n"));
        for name in ["a b", "ä", "a:b", &"n".repeat(257)] {
            assert_eq!(
                named(name).expect_err("refused").to_string(),
                format!(
                    "line 8: T: invalid name {name}: expected at most 256 letters, digits, hyphens and underscores"
                )
            );
        }
        named(&"n".repeat(256)).expect("valid");
        named("a-b_C1").expect("valid");
    }

    #[test]
    fn fifo_topics_send_to_queues_and_standard_ones_not_to_fifo_queues() {
        let refused =
            |topic, protocol, endpoint| subscribed(topic, protocol, endpoint).expect_err("refused").to_string();
        assert_eq!(
            refused("!Ref Topic", "sqs", "!GetAtt Fifo.Arn"),
            "line 8: S: invalid subscription S: a standard topic does not send to a FIFO queue"
        );
        assert_eq!(
            refused("!Ref Line", "lambda", "!GetAtt F.Arn"),
            "line 8: S: invalid subscription S: a FIFO topic does not send to a function"
        );
        for (topic, protocol, endpoint) in [
            ("!Ref Line", "sqs", "!GetAtt Fifo.Arn"),
            ("!Ref Line", "sqs", "!GetAtt Q.Arn"),
            ("!Ref Topic", "sqs", "!GetAtt Q.Arn"),
            ("!Ref Topic", "lambda", "!GetAtt F.Arn"),
        ] {
            subscribed(topic, protocol, endpoint).expect("valid");
        }
    }
}
