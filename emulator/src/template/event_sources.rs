//! Event source mappings: streams of tables and queues that invoke functions.
//!
//! Source: `AWS::Lambda::EventSourceMapping` of CloudFormation, and the events `DynamoDB` and `SQS` of SAM.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    error::TemplateError,
    event_pattern::EventPattern,
    queues::QueueSettings,
    resources::{Resource, Resources},
    scalar::as_text,
};
use crate::aws::{function_name, stream_arn};

/// Records of one invocation by default. Source: Lambda.
const STREAM_BATCH_DEFAULT: usize = 100;

/// Messages of one invocation by default. Source: Lambda.
const QUEUE_BATCH_DEFAULT: usize = 10;

/// Most records or messages of one invocation. Source: Lambda.
const BATCH_MAX: usize = 10_000;

/// Most messages of one invocation from a FIFO queue, or without a window. Source: Lambda.
const BATCH_WITHOUT_WINDOW_MAX: usize = 10;

/// Longest batching window. Source: Lambda.
const WINDOW_MAX: Duration = Duration::from_secs(300);

/// Batches of a queue that run at once by default. Source: Lambda, which starts with five.
const CONCURRENCY_DEFAULT: usize = 5;

/// Bounds of `MaximumConcurrency`. Source: Lambda.
const CONCURRENCY_LIMIT: std::ops::RangeInclusive<usize> = 2..=1_000;

/// Most filters of a mapping. Source: Lambda.
const FILTERS_MAX: usize = 5;

/// The one value of `FunctionResponseTypes`.
const REPORTS_FAILURES: &str = "ReportBatchItemFailures";

/// Properties that only mappings of streams have. Source: Lambda, `CreateEventSourceMapping`.
const OF_STREAMS: [&str; 6] = [
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "StartingPosition",
];

/// What mappings of FIFO queues do not have either.
const OF_STANDARD_QUEUES: &str = "MaximumBatchingWindowInSeconds";

/// Those that only mappings of queues have.
const OF_QUEUES: [&str; 1] = ["ScalingConfig"];

/// Properties of a mapping that the emulator reads, except its function and its source.
const PROPERTIES: [&str; 13] = [
    "BatchSize",
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "Enabled",
    "FilterCriteria",
    "FunctionResponseTypes",
    "MaximumBatchingWindowInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "ParallelizationFactor",
    "ScalingConfig",
    "StartingPosition",
    "TumblingWindowInSeconds",
];

/// What invokes a function with batches.
#[derive(Clone, Debug)]
pub(crate) struct EventSourceMapping {
    /// Its name in logs.
    pub(crate) name: String,
    /// Name of the function.
    pub(crate) function: String,
    pub(crate) source: EventSource,
    pub(crate) batch_max: usize,
    /// How long a batch that is not full waits for more.
    pub(crate) window: Duration,
    /// An event has to match one of them, if there are any.
    pub(crate) filters: Vec<EventFilter>,
    /// Whether the function's answer names what failed.
    pub(crate) reports_failures: bool,
    /// How often a batch of a stream is retried. `None` is without end.
    pub(crate) retries_max: Option<u32>,
    /// The age at which a record of a stream is given up.
    pub(crate) age_max: Option<Duration>,
    /// Whether a batch of a stream that fails is split in two.
    pub(crate) bisects: bool,
    /// ARN of the destination for batches of a stream that are given up.
    pub(crate) on_failure: Option<String>,
    /// Batches of a queue that run at once.
    pub(crate) concurrency: usize,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    /// The stream of the table of this name.
    Stream(String),
    /// The queue of this name.
    Queue(String),
}

/// A filter of events.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventFilter {
    pub(crate) pattern: EventPattern,
    /// Whether it looks into the body of a message, which then has to be JSON.
    pub(crate) reads_body: bool,
}

/// A table whose stream invokes a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableStream {
    pub(crate) table: String,
    pub(crate) view: StreamView,
}

/// The images in the records of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamView {
    Keys,
    New,
    Old,
    Both,
}

impl TableStream {
    pub(crate) fn arn(&self) -> String {
        stream_arn(&self.table)
    }
}

impl StreamView {
    fn parse(name: &str) -> Option<Self> {
        [Self::Keys, Self::New, Self::Old, Self::Both].into_iter().find(|view| view.name() == name)
    }

    /// Its name in templates and records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Keys => "KEYS_ONLY",
            Self::New => "NEW_IMAGE",
            Self::Old => "OLD_IMAGE",
            Self::Both => "NEW_AND_OLD_IMAGES",
        }
    }
}

/// The mappings of a template, and what they read.
#[derive(Debug, Default)]
pub(super) struct EventSources {
    pub(super) mappings: Vec<EventSourceMapping>,
    pub(super) streams: Vec<TableStream>,
    pub(super) notes: Vec<String>,
}

/// A mapping of the template that has not been read.
#[derive(Clone, Debug)]
pub(super) struct DeclaredMapping {
    /// Its name in logs and notes.
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) logical_id: String,
    /// Name or ARN of the function.
    pub(super) function: String,
    /// ARN of the source.
    pub(super) source: String,
    pub(super) properties: Value,
}

impl DeclaredMapping {
    /// Reads an event `DynamoDB` or `SQS` of a function. `None` if it is another.
    pub(super) fn of_event(resource: &Resource<'_>, name: &str, event: &Value) -> Option<Self> {
        let source = match event["Type"].as_str()? {
            "DynamoDB" => "Stream",
            "SQS" => "Queue",
            _ => return None,
        };
        let properties = event.get("Properties").cloned().unwrap_or_default();
        Some(Self {
            name: format!("{}{name}", resource.logical_id),
            line: resource.line,
            logical_id: resource.logical_id.clone(),
            function: resource.name.clone(),
            source: properties.get(source).and_then(as_text).unwrap_or_default(),
            properties,
        })
    }

    /// The queue that SAM puts between a topic and a function.
    pub(super) fn of_queue(resource: &Resource<'_>, name: &str, queue: &str, properties: &Value) -> Self {
        Self {
            name: format!("{}{name}", resource.logical_id),
            line: resource.line,
            logical_id: resource.logical_id.clone(),
            function: resource.name.clone(),
            source: queue.to_owned(),
            properties: properties.clone(),
        }
    }

    fn of_resource(resource: &Resource<'_>) -> Self {
        Self {
            name: resource.logical_id.clone(),
            line: resource.line,
            logical_id: resource.logical_id.clone(),
            function: resource.text("FunctionName").unwrap_or_default(),
            source: resource.text("EventSourceArn").unwrap_or_default(),
            properties: resource.object(&PROPERTIES),
        }
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.line, format!("{}: {}", self.name, message.into())).in_resource(&self.logical_id)
    }

    fn text(&self, property: &str) -> Option<String> {
        self.properties.get(property).and_then(as_text)
    }

    /// A whole number within bounds. -1 is none, where the service takes it for that.
    fn number(&self, property: &str, min: i64, max: i64) -> Result<Option<u64>, TemplateError> {
        let Some(text) = self.text(property) else { return Ok(None) };
        if text == "-1" && matches!(property, "MaximumRetryAttempts" | "MaximumRecordAgeInSeconds") {
            return Ok(None);
        }
        let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
            self.error(format!("invalid {property} {text}: expected a whole number from {min} to {max}"))
        });
        number.map(Some)
    }

    fn filters(&self) -> Result<Vec<EventFilter>, TemplateError> {
        let filters = self.properties.pointer("/FilterCriteria/Filters").and_then(Value::as_array);
        let filters: Vec<_> = filters.into_iter().flatten().collect();
        if filters.len() > FILTERS_MAX {
            return Err(self.error(format!("invalid FilterCriteria: more than {FILTERS_MAX} filters")));
        }
        let filter = |filter: &&Value| {
            let text = filter.get("Pattern").and_then(as_text).unwrap_or_default();
            let invalid = |why: String| self.error(format!("invalid FilterCriteria {text}: {why}"));
            let pattern: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
            Ok(EventFilter {
                reads_body: pattern.get("body").is_some_and(Value::is_object),
                pattern: EventPattern::parse(&pattern).map_err(|error| invalid(error.to_string()))?,
            })
        };
        filters.iter().map(filter).collect()
    }

    fn read(&self, source: EventSource, is_fifo: bool) -> Result<EventSourceMapping, TemplateError> {
        let is_queue = matches!(source, EventSource::Queue(_));
        let window = self.number("MaximumBatchingWindowInSeconds", 0, WINDOW_MAX.as_secs() as i64)?;
        let window = window.map(Duration::from_secs).unwrap_or_default();
        let is_small = is_queue && (is_fifo || window.is_zero());
        let batch_max = if is_small { BATCH_WITHOUT_WINDOW_MAX } else { BATCH_MAX };
        let batch_default = if is_queue { QUEUE_BATCH_DEFAULT } else { STREAM_BATCH_DEFAULT };
        let batch = self.number("BatchSize", 1, batch_max as i64)?;
        if !is_queue && !matches!(self.text("StartingPosition").as_deref(), Some("LATEST" | "TRIM_HORIZON")) {
            return Err(self.error("invalid StartingPosition: expected LATEST or TRIM_HORIZON"));
        }
        let concurrency = self.properties.pointer("/ScalingConfig/MaximumConcurrency").and_then(as_text);
        let concurrency = concurrency.map(|text| {
            let max = text.parse().ok().filter(|max| CONCURRENCY_LIMIT.contains(max));
            max.ok_or_else(|| {
                self.error(format!("invalid MaximumConcurrency {text}: expected a whole number from 2 to 1000"))
            })
        });
        let concurrency = concurrency.transpose()?.unwrap_or(CONCURRENCY_DEFAULT);
        let response_types = self.properties.get("FunctionResponseTypes").and_then(Value::as_array);
        if response_types.into_iter().flatten().any(|kind| kind != REPORTS_FAILURES) {
            return Err(self.error(format!("invalid FunctionResponseTypes: expected {REPORTS_FAILURES}")));
        }
        let on_failure = self.properties.pointer("/DestinationConfig/OnFailure/Destination").and_then(as_text);
        Ok(EventSourceMapping {
            name: self.name.clone(),
            function: function_name(&self.function).to_owned(),
            source,
            batch_max: batch.map_or(batch_default, |batch| batch as usize),
            window,
            filters: self.filters()?,
            reports_failures: response_types.into_iter().flatten().any(|kind| kind == REPORTS_FAILURES),
            retries_max: self.number("MaximumRetryAttempts", 0, 10_000)?.map(|retries| retries as u32),
            age_max: self.number("MaximumRecordAgeInSeconds", 60, 604_800)?.map(Duration::from_secs),
            bisects: self.text("BisectBatchOnFunctionError").is_some_and(|bisects| bisects == "true"),
            on_failure: on_failure.filter(|_| !is_queue),
            concurrency: concurrency.min(CONCURRENCY_DEFAULT),
        })
    }

    /// A note on properties that a mapping of this source has not.
    fn foreign(&self, source: &EventSource, is_fifo: bool) -> Option<String> {
        let (kind, foreign, more) = match source {
            EventSource::Stream(_) => ("stream", &OF_QUEUES[..], None),
            EventSource::Queue(_) if is_fifo => ("FIFO queue", &OF_STREAMS[..], Some(OF_STANDARD_QUEUES)),
            EventSource::Queue(_) => ("queue", &OF_STREAMS[..], None),
        };
        let foreign = foreign.iter().copied().chain(more);
        let mut found: Vec<&str> = foreign.filter(|property| self.properties.get(property).is_some()).collect();
        found.sort_unstable();
        (!found.is_empty()).then(|| format!("AWS refuses {}: a {kind} has no {}", self.name, found.join(", ")))
    }

    fn not_run(&self, why: &str) -> String {
        let function = if self.function.is_empty() { "(none)" } else { function_name(&self.function) };
        format!("{function} is not invoked by {}: {why}", self.name)
    }
}

/// Finds the mappings that are resources.
pub(super) fn declared(resources: &Resources<'_>) -> Vec<DeclaredMapping> {
    resources.of_type("AWS::Lambda::EventSourceMapping").map(DeclaredMapping::of_resource).collect()
}

/// Reads the mappings whose functions and sources are here.
pub(super) fn read<'a>(
    declared: Vec<DeclaredMapping>,
    timeout_of_function: impl Fn(&str) -> Option<Duration>,
    tables: &BTreeMap<String, Value>,
    queue_of_name: impl Fn(&str) -> Option<&'a QueueSettings>,
) -> Result<EventSources, TemplateError> {
    let mut found = EventSources::default();
    for declared in declared {
        if declared.text("Enabled").is_some_and(|enabled| enabled == "false") {
            continue;
        }
        let Some(timeout) = timeout_of_function(function_name(&declared.function)) else {
            found.notes.push(declared.not_run("the template has no such function"));
            continue;
        };
        if declared.properties.get("TumblingWindowInSeconds").is_some() {
            found.notes.push(declared.not_run("the emulator does not support TumblingWindowInSeconds"));
            continue;
        }
        let parts: Vec<&str> = declared.source.split(':').collect();
        let queue = match parts.as_slice() {
            ["arn", _, "sqs", _, _, queue] => queue_of_name(queue),
            _ => None,
        };
        if let Some(queue) = queue {
            let (function, visibility) = (function_name(&declared.function), queue.visibility.as_secs());
            if queue.visibility < timeout {
                found.notes.push(format!(
                    "AWS refuses {}: the VisibilityTimeout of {} is {visibility} s, less than the Timeout of \
                     {function}, {} s; here a message may come back while the function still works on it",
                    declared.name,
                    queue.name,
                    timeout.as_secs()
                ));
            }
            let source = EventSource::Queue(queue.name.clone());
            found.notes.extend(declared.foreign(&source, queue.is_fifo));
            found.mappings.push(declared.read(source, queue.is_fifo)?);
            continue;
        }
        match parts.as_slice() {
            ["arn", _, "dynamodb", _, _, table, ..] => {
                let table = table.strip_prefix("table/").and_then(|table| table.split('/').next()).unwrap_or_default();
                let view = tables.get(table).and_then(|table| table.pointer("/StreamSpecification/StreamViewType"));
                let Some(view) = view.and_then(Value::as_str).and_then(StreamView::parse) else {
                    let why = format!("the table {table} has no StreamSpecification in the template");
                    found.notes.push(declared.not_run(&why));
                    continue;
                };
                if !found.streams.iter().any(|stream| stream.table == table) {
                    found.streams.push(TableStream { table: table.to_owned(), view });
                }
                let source = EventSource::Stream(table.to_owned());
                found.notes.extend(declared.foreign(&source, false));
                found.mappings.push(declared.read(source, false)?);
            }
            _ => {
                let why = format!(
                    "the emulator runs streams of tables and queues of the template, not {}",
                    if declared.source.is_empty() { "(none)" } else { &declared.source }
                );
                found.notes.push(declared.not_run(&why));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    const BASE: &str = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
        RouteSelectionExpression: $request.body.action } }\n  \
        T: { Type: AWS::DynamoDB::Table, Properties: { TableName: table, StreamSpecification: { StreamViewType: \
        NEW_IMAGE } } }\n  Plain: { Type: AWS::DynamoDB::Table }\n  \
        Q: { Type: AWS::SQS::Queue, Properties: { QueueName: q.fifo, FifoQueue: true } }\n  \
        G: { Type: AWS::Lambda::Function, Properties: { Code: . } }\n";

    fn parse(kind: &str, properties: &str) -> Result<Template, TemplateError> {
        let function = format!(
            "  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: {kind}, Properties: \
             {properties} }} }} }} }}\n"
        );
        Template::parse(&format!("{BASE}{function}"), &Default::default())
    }

    fn mapping(kind: &str, properties: &str) -> EventSourceMapping {
        let template = parse(kind, properties).expect("valid");
        let [mapping] = template.event_sources.as_slice() else { panic!("{:?}", template.notes) };
        mapping.clone()
    }

    fn refusal(kind: &str, properties: &str) -> String {
        parse(kind, properties).expect_err("invalid").to_string()
    }

    #[test]
    fn defaults_are_those_of_lambda() {
        let stream = mapping("DynamoDB", "{ Stream: !GetAtt T.StreamArn, StartingPosition: LATEST }");
        assert_eq!((&stream.source, stream.batch_max), (&EventSource::Stream("table".to_owned()), 100));
        assert_eq!((stream.window, stream.retries_max, stream.age_max), (Duration::ZERO, None, None));
        let queue = mapping("SQS", "{ Queue: !GetAtt Q.Arn }");
        assert_eq!((queue.source, queue.batch_max), (EventSource::Queue("q.fifo".to_owned()), 10));
        assert_eq!(queue.concurrency, 5);
        let few = mapping("SQS", "{ Queue: !GetAtt Q.Arn, ScalingConfig: { MaximumConcurrency: 2 } }");
        assert_eq!(few.concurrency, 2);
        let many = mapping("SQS", "{ Queue: !GetAtt Q.Arn, ScalingConfig: { MaximumConcurrency: 1000 } }");
        assert_eq!(many.concurrency, 5);
        let unbounded = "{ Stream: !GetAtt T.StreamArn, StartingPosition: LATEST, MaximumRetryAttempts: -1 }";
        assert_eq!(mapping("DynamoDB", unbounded).retries_max, None);
    }

    #[test]
    fn what_the_service_would_refuse_is_refused_with_its_line() {
        assert_eq!(
            refusal("DynamoDB", "{ Stream: !GetAtt T.StreamArn }"),
            "line 7: F: FE: invalid StartingPosition: expected LATEST or TRIM_HORIZON"
        );
        assert_eq!(
            refusal("SQS", "{ Queue: !GetAtt Q.Arn, BatchSize: 11 }"),
            "line 7: F: FE: invalid BatchSize 11: expected a whole number from 1 to 10"
        );
        for max in ["1", "1001", "many"] {
            assert_eq!(
                refusal("SQS", &format!("{{ Queue: !GetAtt Q.Arn, ScalingConfig: {{ MaximumConcurrency: {max} }} }}")),
                format!("line 7: F: FE: invalid MaximumConcurrency {max}: expected a whole number from 2 to 1000")
            );
        }
        assert_eq!(
            refusal("SQS", "{ Queue: !GetAtt Q.Arn, FunctionResponseTypes: [All] }"),
            "line 7: F: FE: invalid FunctionResponseTypes: expected ReportBatchItemFailures"
        );
        let pattern = "{ Queue: !GetAtt Q.Arn, FilterCriteria: { Filters: [{ Pattern: '{\"body\": 1}' }] } }";
        assert_eq!(
            refusal("SQS", pattern),
            "line 7: F: FE: invalid FilterCriteria {\"body\": 1}: body: expected a list, or an object with fields"
        );
    }

    #[test]
    fn what_cannot_be_run_is_noted() {
        let notes = |kind: &str, properties: &str| parse(kind, properties).expect("valid").notes;
        assert_eq!(
            notes("SQS", "{ Queue: !GetAtt Q.Arn, MaximumBatchingWindowInSeconds: 5, StartingPosition: LATEST }"),
            ["AWS refuses FE: a FIFO queue has no MaximumBatchingWindowInSeconds, StartingPosition"]
        );
        let of_queue = "{ Stream: !GetAtt T.StreamArn, StartingPosition: LATEST, ScalingConfig: { \
            MaximumConcurrency: 2 } }";
        assert_eq!(notes("DynamoDB", of_queue), ["AWS refuses FE: a stream has no ScalingConfig"]);
        assert_eq!(
            notes("DynamoDB", "{ Stream: !GetAtt Plain.StreamArn, StartingPosition: LATEST }"),
            ["F is not invoked by FE: the table Plain has no StreamSpecification in the template"]
        );
        assert_eq!(
            notes("SQS", "{ Queue: 'arn:aws:sqs:eu-central-1:1:elsewhere' }"),
            ["F is not invoked by FE: the emulator runs streams of tables and queues of the template, not \
                 arn:aws:sqs:eu-central-1:1:elsewhere"]
        );
        assert!(notes("SQS", "{ Queue: !GetAtt Q.Arn, Enabled: false }").is_empty());
    }

    #[test]
    fn a_queue_that_hides_messages_for_less_than_the_function_takes_is_noted() {
        let resources = |visibility: u64| {
            format!(
                "{BASE}  S: {{ Type: AWS::SQS::Queue, Properties: {{ VisibilityTimeout: {visibility} }} }}\n  \
                 M: {{ Type: AWS::Lambda::EventSourceMapping, Properties: {{ FunctionName: !Ref H, EventSourceArn: \
                 !GetAtt S.Arn }} }}\n  H: {{ Type: AWS::Lambda::Function, Properties: {{ Code: ., Timeout: 10 }} }}\n"
            )
        };
        let notes = |visibility| Template::parse(&resources(visibility), &Default::default()).expect("valid").notes;
        assert_eq!(
            notes(9),
            ["AWS refuses M: the VisibilityTimeout of S is 9 s, less than the Timeout of H, 10 s; here a message may \
              come back while the function still works on it"]
        );
        assert!(notes(10).is_empty());
    }

    #[test]
    fn a_mapping_names_its_function_with_or_without_an_alias() {
        for function in ["G", "!GetAtt G.Arn", "'arn:aws:lambda:eu-central-1:1:function:G:live'"] {
            let mapping = format!(
                "  M: {{ Type: AWS::Lambda::EventSourceMapping, Properties: {{ FunctionName: {function}, \
                 EventSourceArn: !GetAtt Q.Arn }} }}\n"
            );
            let template = Template::parse(&format!("{BASE}{mapping}"), &Default::default()).expect("valid");
            assert_eq!(template.event_sources[0].function, "G", "{function}");
        }
    }
}
