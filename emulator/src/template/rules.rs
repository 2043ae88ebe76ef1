//! Rules of event buses: the events of functions, and `AWS::Events::Rule`.
//!
//! Source: EventBridge user guide, and `AWS::Events::Rule` of CloudFormation.

use serde_json::{Map, Value};

use super::{
    error::TemplateError,
    event_pattern::EventPattern,
    resources::{Resource, Resources},
    scalar::as_text,
    schedule_expression::ScheduleExpression,
};
use crate::aws::REGION;

/// The bus that every account has.
pub(crate) const DEFAULT_BUS: &str = "default";

/// Most targets of a rule. Source: EventBridge quotas.
const TARGETS_MAX: usize = 5;

/// Hands the events that match to a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The bus whose events it gets.
    pub bus: String,
    /// Which events.
    pub pattern: EventPattern,
    /// What gets them.
    pub target: RuleTarget,
    /// What the target gets of an event.
    pub input: RuleInput,
}

/// What gets the events of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleTarget {
    /// The function of this name.
    Function(String),
    /// A queue, with the group of the messages if it is a FIFO queue.
    Queue(String, Option<String>),
    /// The topic of this name.
    Topic(String),
    /// The bus of this name.
    Bus(String),
}

/// What a target gets of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleInput {
    /// The event.
    Event,
    /// This text.
    Text(String),
    /// A part of the event.
    Part(EventPath),
    /// A text with parts of the event.
    Template {
        /// The parts, by the names that the text has for them.
        parts: Vec<(String, EventPath)>,
        /// The text.
        text: String,
    },
}

/// A path to a part of an event, such as `$.detail.items[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPath(Vec<EventStep>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum EventStep {
    Field(String),
    Element(usize),
}

impl EventPath {
    fn parse(text: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for (at, part) in text.strip_prefix('$')?.split('.').enumerate() {
            let (field, elements) = part.split_once('[').unwrap_or((part, ""));
            if field.contains(['*', '?', '(', ')']) || (field.is_empty() && at > 0) {
                return None;
            }
            if !field.is_empty() {
                steps.push(EventStep::Field(field.to_owned()));
            }
            for element in elements.split('[').filter(|element| !element.is_empty()) {
                let element = element.strip_suffix(']')?;
                let quoted = element.strip_prefix('\'').and_then(|element| element.strip_suffix('\''));
                steps.push(match quoted {
                    Some(field) => EventStep::Field(field.to_owned()),
                    None => EventStep::Element(element.parse().ok()?),
                });
            }
        }
        Some(Self(steps))
    }

    /// The part of an event. `None` if it has none.
    pub(crate) fn find<'a>(&self, event: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(event, |value, step| match step {
            EventStep::Field(name) => value.get(name),
            EventStep::Element(at) => value.get(at),
        })
    }
}

/// The rules and schedules of a template that are resources.
#[derive(Debug, Default)]
pub(super) struct ParsedRules {
    pub(super) rules: Vec<Rule>,
    /// Names, expressions, functions and inputs of schedules.
    pub(super) schedules: Vec<(String, ScheduleExpression, String, Option<String>)>,
    pub(super) notes: Vec<String>,
}

/// What is in the template.
pub(super) struct Present<'a> {
    pub(super) function: &'a dyn Fn(&str) -> bool,
    pub(super) queue: &'a dyn Fn(&str) -> bool,
    pub(super) topic: &'a dyn Fn(&str) -> bool,
}

/// Reads the input of a target, or of an event of a function. Says what of it is not supported.
pub(super) fn input(properties: &Value) -> Result<RuleInput, String> {
    let path = |path: &Value| {
        let text = as_text(path).unwrap_or_default();
        EventPath::parse(&text).ok_or_else(|| format!("the path {text}"))
    };
    if let Some(input) = properties.get("Input").and_then(as_text) {
        return Ok(RuleInput::Text(input));
    }
    if let Some(part) = properties.get("InputPath") {
        return path(part).map(RuleInput::Part);
    }
    let Some(transformer) = properties.get("InputTransformer") else { return Ok(RuleInput::Event) };
    let parts = transformer.get("InputPathsMap").and_then(Value::as_object).into_iter().flatten();
    Ok(RuleInput::Template {
        parts: parts.map(|(name, part)| Ok((name.clone(), path(part)?))).collect::<Result<_, String>>()?,
        text: transformer.get("InputTemplate").and_then(as_text).unwrap_or_default(),
    })
}

/// The name of a bus in its name or ARN.
pub(super) fn bus_name(text: Option<String>) -> String {
    let text = text.unwrap_or_else(|| DEFAULT_BUS.to_owned());
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A rule of the template whose targets have not been read.
#[derive(Clone, Debug)]
pub(super) struct DeclaredRule {
    logical_id: String,
    name: String,
    bus: String,
    pattern: Option<EventPattern>,
    times: Option<ScheduleExpression>,
    targets: Vec<Value>,
}

/// Finds the rules that are resources.
pub(super) fn declared(resources: &Resources<'_>) -> Result<Vec<DeclaredRule>, TemplateError> {
    let rules = resources.of_type("AWS::Events::Rule");
    let enabled = rules.filter(|rule| rule.text("State").is_none_or(|state| state != "DISABLED"));
    enabled.map(DeclaredRule::of).collect()
}

/// Reads the rules whose targets are here.
pub(super) fn read(declared: Vec<DeclaredRule>, present: &Present<'_>) -> ParsedRules {
    let mut found = ParsedRules::default();
    for rule in declared {
        if rule.targets.len() > TARGETS_MAX {
            let (name, count) = (&rule.logical_id, rule.targets.len());
            found
                .notes
                .push(format!("AWS refuses the rule {name}: it has {count} targets, and {TARGETS_MAX} are allowed"));
        }
        for properties in &rule.targets {
            match (input(properties), target(properties, present)) {
                (Ok(input), Ok(target)) => rule.reach(target, input, &mut found),
                (Err(why), _) | (_, Err(why)) => found.notes.push(rule.not_reached(&why)),
            }
        }
    }
    found
}

impl DeclaredRule {
    fn of(resource: &Resource<'_>) -> Result<Self, TemplateError> {
        let pattern = resource.get("EventPattern").map(|pattern| {
            let pattern = match pattern.as_str() {
                Some(text) => serde_json::from_str(text).unwrap_or_default(),
                None => pattern.clone(),
            };
            EventPattern::parse(&pattern).map_err(|error| resource.error(format!("invalid EventPattern: {error}")))
        });
        let times = resource.text("ScheduleExpression").map(|expression| {
            let times = ScheduleExpression::parse(&expression);
            times.map_err(|error| resource.error(format!("invalid ScheduleExpression: {error}")))
        });
        Ok(Self {
            logical_id: resource.logical_id.clone(),
            name: resource.text("Name").unwrap_or_else(|| resource.logical_id.clone()),
            bus: bus_name(resource.text("EventBusName")),
            pattern: pattern.transpose()?,
            times: times.transpose()?.flatten(),
            targets: resource.get("Targets").and_then(Value::as_array).cloned().unwrap_or_default(),
        })
    }

    fn reach(&self, target: RuleTarget, input: RuleInput, found: &mut ParsedRules) {
        if let Some(times) = &self.times {
            let input = match &input {
                RuleInput::Event => Some(None),
                RuleInput::Text(text) => Some(Some(text.clone())),
                _ => None,
            };
            match (&target, input) {
                (RuleTarget::Function(function), Some(input)) => {
                    found.schedules.push((self.name.clone(), times.clone(), function.clone(), input));
                }
                _ => found.notes.push(self.not_reached("schedules of other targets than functions")),
            }
        }
        if let Some(pattern) = &self.pattern {
            let (name, bus, pattern) = (self.name.clone(), self.bus.clone(), pattern.clone());
            found.rules.push(Rule { name, bus, pattern, target, input });
        }
    }

    fn not_reached(&self, what: &str) -> String {
        format!("a target of the rule {} gets nothing: the emulator does not support {what}", self.logical_id)
    }
}

fn target(properties: &Value, present: &Present<'_>) -> Result<RuleTarget, String> {
    let arn = properties.get("Arn").and_then(as_text).unwrap_or_default();
    match arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "lambda", _, _, "function", function, ..] if (present.function)(function) => {
            Ok(RuleTarget::Function((*function).to_owned()))
        }
        ["arn", _, "sqs", _, _, queue] if (present.queue)(queue) => {
            let group = properties.pointer("/SqsParameters/MessageGroupId").and_then(as_text);
            Ok(RuleTarget::Queue((*queue).to_owned(), group))
        }
        ["arn", _, "sns", _, _, topic] if (present.topic)(topic) => Ok(RuleTarget::Topic((*topic).to_owned())),
        ["arn", _, "events", region, _, bus] if *region == REGION && bus.starts_with("event-bus/") => {
            Ok(RuleTarget::Bus(bus_name(Some((*bus).to_owned()))))
        }
        _ => Err(format!("the target {}", if arn.is_empty() { "(none)" } else { &arn })),
    }
}

impl RuleInput {
    /// What a target gets of an event. `rule` is the name of the rule and its ARN.
    pub(crate) fn of(&self, event: &Value, rule: (&str, &str)) -> String {
        match self {
            Self::Event => event.to_string(),
            Self::Text(text) => text.clone(),
            Self::Part(path) => path.find(event).unwrap_or(&Value::Null).to_string(),
            Self::Template { parts, text } => {
                let mut values: Map<String, Value> = parts
                    .iter()
                    .map(|(name, path)| (name.clone(), path.find(event).cloned().unwrap_or_else(|| Value::from(""))))
                    .collect();
                values.insert("aws.events.rule-name".to_owned(), rule.0.into());
                values.insert("aws.events.rule-arn".to_owned(), rule.1.into());
                values.insert("aws.events.event.ingestion-time".to_owned(), event["time"].clone());
                values.insert("aws.events.event.json".to_owned(), event.clone());
                values.insert("aws.events.event".to_owned(), event.clone());
                filled(text, &values)
            }
        }
    }
}

/// Puts values where a text names them, `<name>`. Within quotation marks a string goes as it is.
///
/// Source: EventBridge user guide, "Amazon EventBridge input transformation".
fn filled(text: &str, values: &Map<String, Value>) -> String {
    let (mut filled, mut rest, mut is_quoted) = (String::new(), text, false);
    while let Some(at) = rest.find(['<', '"', '\\']) {
        filled.push_str(&rest[..at]);
        let (special, after) = rest[at..].split_at(1);
        rest = after;
        let named = after.split_once('>').and_then(|(name, tail)| Some((values.get(name)?, tail)));
        match (special, named) {
            ("<", Some((value, tail))) => {
                let json = value.to_string();
                match (is_quoted, value) {
                    // The escapes of a string, without its own quotation marks.
                    (true, Value::String(_)) => filled.push_str(&json[1..json.len() - 1]),
                    (true, _) => filled.push_str(&json.replace('\\', "\\\\").replace('"', "\\\"")),
                    (false, _) => filled.push_str(&json),
                }
                rest = tail;
            }
            ("\\", _) => {
                // What is escaped neither begins nor ends a string.
                let escaped = rest.chars().next().map_or(0, char::len_utf8);
                filled.push_str(special);
                filled.push_str(&rest[..escaped]);
                rest = &rest[escaped..];
            }
            _ => {
                is_quoted ^= special == "\"";
                filled.push_str(special);
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_with_more_targets_than_eventbridge_takes_is_a_note() {
        let notes = |count: usize| {
            let targets = vec![json!({"Arn": "arn:aws:sqs:eu-central-1:000000000000:q"}); count];
            let rule = DeclaredRule {
                logical_id: "Many".to_owned(),
                name: "many".to_owned(),
                bus: DEFAULT_BUS.to_owned(),
                pattern: EventPattern::parse(&json!({"source": ["s"]})).ok(),
                times: None,
                targets,
            };
            let found = read(vec![rule], &Present { function: &|_| true, queue: &|_| true, topic: &|_| true });
            assert_eq!(found.rules.len(), count, "all of them get events here");
            found.notes
        };
        assert_eq!(notes(5), Vec::<String>::new());
        assert_eq!(notes(6), ["AWS refuses the rule Many: it has 6 targets, and 5 are allowed"]);
    }

    #[test]
    fn a_path_leads_to_fields_and_elements() {
        let event = json!({"detail": {"items": [{"a b": 1}, 2]}, "detail-type": "t"});
        for (path, found) in [
            ("$", Some(&event)),
            ("$.detail-type", Some(&event["detail-type"])),
            ("$.detail.items[1]", Some(&json!(2))),
            ("$.detail.items[0]['a b']", Some(&json!(1))),
            ("$.detail.none", None),
        ] {
            assert_eq!(EventPath::parse(path).expect("valid").find(&event), found, "{path}");
        }
        for path in ["detail", "$.detail.*", "$..a", "$.a[x]", "$.a[?(@.b)]"] {
            assert_eq!(EventPath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_transformer_fills_its_template_as_documented() {
        // Source: EventBridge user guide, "Amazon EventBridge input transformation", "Common examples".
        let event = json!({
            "time": "2015-11-11T21:29:54Z",
            "detail": {"instance-id": "i-0123456789", "state": "RUNNING", "list": [1, "a"]},
        });
        let filled = |template: &str| {
            let paths = json!({"instance": "$.detail.instance-id", "status": "$.detail.state", "list": "$.detail.list",
                "none": "$.detail.none"});
            let input = json!({"InputTransformer": {"InputPathsMap": paths, "InputTemplate": template}});
            input_of(&input).of(&event, ("r", "arn:r"))
        };
        assert_eq!(filled("\"instance <instance> is in <status>\""), "\"instance i-0123456789 is in RUNNING\"");
        assert_eq!(
            filled("{\"instance\" : <instance>, \"status\": \"<status>\", \"l\": <list>, \"t\": \"<list>\"}"),
            "{\"instance\" : \"i-0123456789\", \"status\": \"RUNNING\", \"l\": [1,\"a\"], \"t\": \"[1,\\\"a\\\"]\"}"
        );
        assert_eq!(filled("{\"n\": \"<none>\", \"r\": <aws.events.rule-name>}"), "{\"n\": \"\", \"r\": \"r\"}");
        assert_eq!(
            filled("{\"a\": \"x\\\"<status>\", \"b\": <unknown>}"),
            "{\"a\": \"x\\\"RUNNING\", \"b\": <unknown>}"
        );
    }

    fn input_of(properties: &Value) -> RuleInput {
        input(properties).expect("supported")
    }

    #[test]
    fn a_part_or_a_text_replaces_the_event() {
        let event = json!({"detail": {"n": 1}});
        let of = |properties: Value| input_of(&properties).of(&event, ("r", "arn:r"));
        assert_eq!(of(json!({})), event.to_string());
        assert_eq!(of(json!({"InputPath": "$.detail"})), "{\"n\":1}");
        assert_eq!(of(json!({"Input": "{}"})), "{}");
        assert_eq!(input(&json!({"InputPath": "$.*"})), Err("the path $.*".to_owned()));
    }

    #[test]
    fn a_rule_may_have_a_schedule() {
        let text = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
            RouteSelectionExpression: $request.body.action } }\n  F: { Type: AWS::Lambda::Function }\n  \
            Q: { Type: AWS::SQS::Queue }\n  \
            R: { Type: AWS::Events::Rule, Properties: { Name: every, ScheduleExpression: rate(1 minute), Targets: [ { \
            Arn: !GetAtt F.Arn, Input: '{}' }, { Arn: !GetAtt Q.Arn }, { Arn: !GetAtt Other.Arn } ] } }\n  \
            Other: { Type: AWS::StepFunctions::StateMachine }\n";
        let template = crate::template::Template::parse(text, &Default::default()).expect("valid");
        let [schedule] = template.schedules.as_slice() else { panic!("{:?}", template.schedules) };
        assert_eq!((schedule.name.as_str(), schedule.function.as_str()), ("every", "F"));
        assert_eq!(schedule.input.as_deref(), Some("{}"));
        assert_eq!(
            template.notes[1..3],
            [
                "a target of the rule R gets nothing: the emulator does not support schedules of other targets than \
                 functions",
                "a target of the rule R gets nothing: the emulator does not support the target \
                 arn:aws:states:eu-central-1:000000000000:stateMachine:Other",
            ]
        );
    }
}
