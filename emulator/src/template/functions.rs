//! Lambda functions, and the events that invoke them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::{
    code::{self, Code},
    error::TemplateError,
    event_pattern::EventPattern,
    event_sources::DeclaredMapping,
    http_apis::HttpEvent,
    layers::{self, Layer},
    queues::{DeclaredQueue, QueueSettings},
    resources::{Resource, Resources},
    rules::{self, Rule, RuleTarget},
    scalar,
    schedule_expression::ScheduleExpression,
    topics::DeclaredSubscription,
    yaml::YamlNode,
};
use crate::aws::{arn, function_name};

/// Default timeout of a function. Source: Lambda and SAM.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// Default memory of a function, in megabytes. Source: Lambda and SAM.
const MEMORY_MB_DEFAULT: u32 = 128;

/// How often Lambda retries a failed asynchronous invocation by default. Source: Lambda.
const ASYNC_RETRIES_DEFAULT: u8 = 2;

/// Types of events that invoke functions here.
const EVENTS: [&str; 9] =
    ["Api", "DynamoDB", "CloudWatchEvent", "EventBridgeRule", "HttpApi", "Schedule", "ScheduleV2", "SNS", "SQS"];

/// A Lambda function of the template.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its key in the template.
    pub logical_id: String,
    /// Its line in the template.
    pub line: usize,
    /// Where its code is.
    pub code: Code,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// The tool that has to build it, such as `esbuild`.
    pub build_method: Option<String>,
    /// The language that runs it, such as `python3.13`; none for a container image.
    pub runtime: Option<String>,
    /// Whether it is a container image.
    pub is_image: bool,
    /// Entry point in the code.
    pub handler: Option<String>,
    /// The cargo binary that it is built from, if cargo-lambda builds it.
    pub binary: Option<String>,
    /// Longest time an invocation may take.
    pub timeout: Duration,
    /// Memory in megabytes. The function can read it; the emulator does not enforce it.
    pub memory_mb: u32,
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// How often a failed asynchronous invocation is retried, at most twice.
    pub async_retries: u8,
    /// Names of its aliases. All run the same code.
    pub aliases: BTreeSet<String>,
    /// ARN of the destination for asynchronous invocations whose retries failed.
    pub on_failure: Option<String>,
    /// ARN of the dead-letter queue, which gets the event of such an invocation.
    pub dead_letters: Option<String>,
}

/// A schedule that invokes a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Name of the rule, as the function sees it in events.
    pub name: String,
    /// Name of the function.
    pub function: String,
    /// When it is invoked.
    pub times: ScheduleExpression,
    /// Payload of the invocation. Without one, it is the event of EventBridge.
    pub input: Option<String>,
}

/// The functions of a template, and what invokes them.
#[derive(Debug, Default)]
pub(super) struct ParsedFunctions {
    pub(super) functions: BTreeMap<String, Function>,
    pub(super) http_events: Vec<HttpEvent>,
    pub(super) schedules: Vec<Schedule>,
    pub(super) rules: Vec<Rule>,
    pub(super) mappings: Vec<DeclaredMapping>,
    pub(super) subscriptions: Vec<DeclaredSubscription>,
    /// Queues that SAM puts between a topic and a function.
    pub(super) queues: Vec<DeclaredQueue>,
    pub(super) notes: Vec<String>,
}

pub(super) fn read(resources: &Resources<'_>) -> Result<ParsedFunctions, TemplateError> {
    let mut found = ParsedFunctions::default();
    let serverless = resources.of_type("AWS::Serverless::Function");
    for resource in serverless.chain(resources.of_type("AWS::Lambda::Function")) {
        found.functions.insert(resource.name.clone(), function(resource)?);
        for (name, node) in resource.entries("Events") {
            match node.get("Type").and_then(YamlNode::text) {
                Some(kind) if !EVENTS.contains(&kind) => found.notes.push(not_run(resource, name, kind)),
                _ => {
                    let event = resource.value_of(node);
                    event.map(|event| read_event(resource, name, &event, &mut found)).transpose()?;
                }
            }
        }
    }
    for alias in resources.of_type("AWS::Lambda::Alias") {
        let (function, name) = (alias.required_text("FunctionName")?, alias.required_text("Name")?);
        if let Some(function) = found.functions.get_mut(function_name(&function)) {
            function.aliases.insert(name);
        }
    }
    Ok(found)
}

fn function(resource: &Resource<'_>) -> Result<Function, TemplateError> {
    let whole = |property: &str| match resource.get(property) {
        None => Ok(None),
        Some(number) => scalar::as_text(number)
            .and_then(|number| number.parse::<u32>().ok())
            .map(Some)
            .ok_or_else(|| resource.error(format!("invalid {property} {number}: expected a whole number"))),
    };
    let timeout = whole("Timeout")?.map_or(TIMEOUT_DEFAULT, |secs| Duration::from_secs(secs.into()));
    let mut environment = BTreeMap::new();
    for (name, value) in resource.pointer("/Environment/Variables").and_then(Value::as_object).into_iter().flatten() {
        let text = scalar::as_text(value)
            .ok_or_else(|| resource.error(format!("invalid environment variable {name}: expected a string")))?;
        environment.insert(name.clone(), text);
    }
    let metadata = resource.metadata();
    let build_method = metadata.and_then(|metadata| metadata.get("BuildMethod")).and_then(Value::as_str);
    let built_by_cargo = build_method == Some("rust-cargolambda");
    let binary = metadata.and_then(|metadata| metadata.pointer("/BuildProperties/Binary")).and_then(Value::as_str);
    let asynchronous = |pointer: &str| resource.pointer(&format!("/EventInvokeConfig/{pointer}"));
    let retries = asynchronous("MaximumRetryAttempts").and_then(scalar::as_text);
    let dead_letters = resource.pointer("/DeadLetterQueue/TargetArn");
    let dead_letters = dead_letters.or_else(|| resource.pointer("/DeadLetterConfig/TargetArn"));
    Ok(Function {
        logical_id: resource.logical_id.clone(),
        line: resource.line,
        code: code::of(resource, ["CodeUri", "Code"]),
        layers: layers::of(resource),
        build_method: build_method.map(str::to_owned),
        runtime: resource.text("Runtime"),
        is_image: resource.text("PackageType").is_some_and(|kind| kind == "Image"),
        handler: resource.text("Handler"),
        binary: binary.filter(|_| built_by_cargo).map(str::to_owned),
        timeout,
        memory_mb: whole("MemorySize")?.unwrap_or(MEMORY_MB_DEFAULT),
        environment,
        async_retries: match retries {
            None => ASYNC_RETRIES_DEFAULT,
            Some(retries) => retries
                .parse()
                .ok()
                .filter(|retries| *retries <= ASYNC_RETRIES_DEFAULT)
                .ok_or_else(|| resource.error("invalid MaximumRetryAttempts: expected 0, 1 or 2"))?,
        },
        aliases: resource.text("AutoPublishAlias").into_iter().collect(),
        on_failure: asynchronous("DestinationConfig/OnFailure/Destination").and_then(scalar::as_text),
        dead_letters: dead_letters.and_then(scalar::as_text),
    })
}

fn read_event(
    resource: &Resource<'_>,
    name: &str,
    event: &Value,
    found: &mut ParsedFunctions,
) -> Result<(), TemplateError> {
    let property = |key: &str| event.get("Properties").and_then(|properties| properties.get(key));
    let text = |key: &str| {
        property(key).and_then(scalar::as_text).ok_or_else(|| resource.error(format!("the event {name} has no {key}")))
    };
    match event.get("Type").and_then(Value::as_str) {
        Some("Api" | "HttpApi") => found.http_events.extend(HttpEvent::of(resource, name, event)?),
        Some("Schedule" | "ScheduleV2") => {
            let key = if event["Type"] == "Schedule" { "Schedule" } else { "ScheduleExpression" };
            if is_disabled(event) {
                return Ok(());
            }
            let expression = text(key)?;
            let times = ScheduleExpression::parse(&expression)
                .map_err(|error| resource.error(format!("invalid schedule of the event {name}: {error}")))?;
            let zone = property("ScheduleExpressionTimezone").and_then(scalar::as_text);
            let zone = zone.filter(|zone| zone != "UTC" && matches!(times, Some(ScheduleExpression::Cron(_))));
            match (times, zone) {
                (Some(times), None) => found.schedules.push(Schedule {
                    name: format!("{}-{name}", resource.logical_id),
                    function: resource.name.clone(),
                    times,
                    input: property("Input").and_then(scalar::as_text),
                }),
                (Some(_), Some(zone)) => found.notes.push(format!(
                    "{} is not invoked by its schedule {name}: the emulator runs cron(…) in UTC, not in {zone}",
                    resource.logical_id
                )),
                (None, _) => found.notes.push(format!(
                    "{} is not invoked by its schedule {name}: the emulator runs rate(…) and cron(…), not {expression}",
                    resource.logical_id
                )),
            }
        }
        Some("EventBridgeRule" | "CloudWatchEvent") => read_rule(resource, name, event, found)?,
        Some("DynamoDB" | "SQS") => found.mappings.extend(DeclaredMapping::of_event(resource, name, event)),
        Some("SNS") => read_subscription(resource, name, event, found),
        other => found.notes.push(not_run(resource, name, other.unwrap_or("(none)"))),
    }
    Ok(())
}

/// Reads an event `SNS`, which may put a queue between the topic and the function.
fn read_subscription(resource: &Resource<'_>, name: &str, event: &Value, found: &mut ParsedFunctions) {
    let between = event.pointer("/Properties/SqsSubscription").filter(|between| **between != Value::Bool(false));
    let queue = between.map(|between| match between.get("QueueArn").and_then(scalar::as_text) {
        Some(queue) => queue,
        None => {
            let queue = QueueSettings::named(format!("{}{name}Queue", resource.name));
            let queue_arn = arn("sqs", &queue.name);
            found.queues.push(DeclaredQueue::of(resource, queue));
            queue_arn
        }
    });
    if let (Some(between), Some(queue)) = (between, &queue) {
        found.mappings.push(DeclaredMapping::of_queue(resource, name, queue, between));
    }
    found.subscriptions.push(DeclaredSubscription::of_event(resource, name, event, queue));
}

fn not_run(resource: &Resource<'_>, event: &str, kind: &str) -> String {
    let function = &resource.logical_id;
    format!("{function} is not invoked by its event {event}: the emulator does not run events of type {kind}")
}

fn is_disabled(event: &Value) -> bool {
    let property = |key: &str| event.get("Properties").and_then(|properties| properties.get(key));
    property("Enabled").and_then(scalar::as_text).is_some_and(|enabled| enabled == "false")
        || property("State").is_some_and(|state| state == "DISABLED")
}

fn read_rule(
    resource: &Resource<'_>,
    name: &str,
    event: &Value,
    found: &mut ParsedFunctions,
) -> Result<(), TemplateError> {
    if is_disabled(event) {
        return Ok(());
    }
    let property = |key: &str| event.get("Properties").and_then(|properties| properties.get(key));
    let input = match rules::input(event.get("Properties").unwrap_or(&Value::Null)) {
        Ok(input) => input,
        Err(what) => {
            let function = &resource.logical_id;
            found
                .notes
                .push(format!("{function} is not invoked by its event {name}: the emulator does not support {what}"));
            return Ok(());
        }
    };
    let pattern = EventPattern::parse(property("Pattern").unwrap_or(&Value::Null))
        .map_err(|error| resource.error(format!("invalid pattern of the event {name}: {error}")))?;
    found.rules.push(Rule {
        name: format!("{}-{name}", resource.logical_id),
        bus: rules::bus_name(property("EventBusName").and_then(scalar::as_text)),
        pattern,
        target: RuleTarget::Function(resource.name.clone()),
        input,
    });
    Ok(())
}
