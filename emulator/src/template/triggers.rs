//! What invokes functions besides routes: streams, queues, topics, rules and schedules. Each may be in another template
//! than its function.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    error::TemplateError,
    event_sources::{self, DeclaredMapping, EventSourceMapping, TableStream},
    functions::{Function, ParsedFunctions, Schedule},
    queues::QueueSettings,
    resources::Resources,
    rules::{self, DeclaredRule, Present, Rule},
    topics::{self, DeclaredSubscription, Topic},
};

/// What templates declare, before anybody knows whether it leads anywhere.
#[derive(Debug, Default)]
pub(super) struct DeclaredTriggers {
    mappings: Vec<DeclaredMapping>,
    topics: Vec<Topic>,
    subscriptions: Vec<DeclaredSubscription>,
    rules: Vec<DeclaredRule>,
}

/// What runs.
#[derive(Debug)]
pub(super) struct Triggers {
    pub(super) event_sources: Vec<EventSourceMapping>,
    pub(super) streams: Vec<TableStream>,
    pub(super) topics: Vec<Topic>,
    pub(super) rules: Vec<Rule>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) notes: Vec<String>,
}

impl DeclaredTriggers {
    /// Takes those of functions, and reads the resources.
    pub(super) fn of(functions: &mut ParsedFunctions, resources: &Resources<'_>) -> Result<Self, TemplateError> {
        let (topics, mut subscriptions) = topics::declared(resources)?;
        let mut mappings = std::mem::take(&mut functions.mappings);
        mappings.extend(event_sources::declared(resources));
        subscriptions.append(&mut functions.subscriptions);
        Ok(Self { mappings, topics, subscriptions, rules: rules::declared(resources)? })
    }

    /// Adds those of another template.
    pub(super) fn extend(&mut self, other: Self) {
        self.mappings.extend(other.mappings);
        self.topics.extend(other.topics);
        self.subscriptions.extend(other.subscriptions);
        self.rules.extend(other.rules);
    }

    /// Finds what they lead from and to. What is not here is a note.
    pub(super) fn find(
        mut self,
        functions: &BTreeMap<String, Function>,
        tables: &BTreeMap<String, Value>,
        queues: &[QueueSettings],
    ) -> Result<Triggers, TemplateError> {
        let is_function = |name: &str| functions.contains_key(name);
        let timeout = |name: &str| functions.get(name).map(|function| function.timeout);
        let queue = |name: &str| queues.iter().find(|queue| queue.name == name);
        let is_queue = |name: &str| queue(name).is_some();
        let sources = event_sources::read(self.mappings, timeout, tables, queue)?;
        let of_topics = topics::subscribe(&mut self.topics, self.subscriptions, is_function, is_queue)?;
        let is_topic = |name: &str| self.topics.iter().any(|topic| topic.name == name);
        let rules = rules::read(self.rules, &Present { function: &is_function, queue: &is_queue, topic: &is_topic });
        let schedules = rules.schedules.into_iter();
        let schedule = |(name, times, function, input)| Schedule { name, function, times, input };
        Ok(Triggers {
            event_sources: sources.mappings,
            streams: sources.streams,
            topics: self.topics,
            rules: rules.rules,
            schedules: schedules.map(schedule).collect(),
            notes: [sources.notes, of_topics, rules.notes].concat(),
        })
    }
}
