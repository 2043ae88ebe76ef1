//! Reads a SAM or CloudFormation template into what the emulator creates: functions, tables, APIs, schedules, rules.

mod cron;
mod error;
mod event_pattern;
mod functions;
mod http_apis;
mod identity;
mod integrations;
mod intrinsics;
mod packages;
mod queues;
mod references;
mod resources;
mod sam_sockets;
mod schedule_expression;
mod selection;
mod sockets;
mod throttles;

mod websocket_api;
mod yaml;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

#[cfg(feature = "fuzzing")]
pub(crate) use self::selection::SelectionExpression;
pub use self::{
    cron::CronExpression,
    error::{LoadError, TemplateError},
    event_pattern::EventPattern,
    functions::{Code, Function, Rule, Schedule},
    packages::Package,
    queues::QueueSettings,
    schedule_expression::ScheduleExpression,
    yaml::{YamlError, YamlNode},
};
pub(crate) use self::{
    functions::{DEFAULT_BUS, HttpRoute},
    http_apis::Cors,
    identity::IdentitySource,
    integrations::{HttpBackend, Integration, IntegrationBackend, MappedIntegration, ParameterTarget, Passthrough},
    selection::ResponseHead,
    throttles::{Throttle, Throttles},
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};
use self::{intrinsics::Resolver, resources::Resources};

/// The source of a template.
#[derive(Clone, Debug)]
pub enum TemplateSource {
    /// A file. Paths in it are relative to its directory.
    File(PathBuf),
    /// The text itself.
    Text {
        /// The template, YAML or JSON.
        text: &'static str,
        /// The directory to which paths in it are relative.
        directory: PathBuf,
    },
}

impl From<PathBuf> for TemplateSource {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

/// Everything in a template that the emulator creates.
#[derive(Clone, Debug)]
pub struct Template {
    /// Directory of the template, to which paths in it are relative.
    pub directory: PathBuf,
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
    /// Tables by name: the properties of each in the form of `CreateTable`.
    pub tables: BTreeMap<String, Value>,
    /// Queues.
    pub queues: Vec<QueueSettings>,
    /// The WebSocket API.
    pub(crate) sockets: WebSocketApi,
    /// Routes of HTTP APIs.
    pub(crate) http_routes: Vec<HttpRoute>,
    /// CORS configuration of the HTTP APIs, if there is one.
    pub(crate) cors: Option<Cors>,
    /// Rate limits of the routes of HTTP APIs.
    pub(crate) http_throttles: Throttles,
    /// Schedules of functions.
    pub schedules: Vec<Schedule>,
    /// Rules of event buses.
    pub rules: Vec<Rule>,
    /// What the emulator does not run of the template, one sentence each.
    pub notes: Vec<String>,
}

impl Template {
    /// Reads a template. `parameters` override the defaults of its parameters.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is invalid, or has something that the emulator cannot run.
    pub fn load(source: &TemplateSource, parameters: &BTreeMap<String, String>) -> Result<Self, LoadError> {
        let (text, path, directory) = match source {
            TemplateSource::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable(path.clone(), error))?;
                (Cow::Owned(text), path.clone(), path.parent().map(Path::to_owned).unwrap_or_default())
            }
            TemplateSource::Text { text, directory } => {
                (Cow::Borrowed(*text), directory.join("template.yaml"), directory.clone())
            }
        };
        let mut template = Self::parse(&text, parameters).map_err(|error| LoadError::Invalid(path, error))?;
        for function in template.functions.values_mut() {
            if let Code::Packaged(package) = &function.code
                && let Some(found) = package.find(if directory == Path::new("") { Path::new(".") } else { &directory })
            {
                function.code = Code::Path(found.display().to_string());
            }
        }
        Ok(Self { directory, ..template })
    }

    /// Reads the text of a template.
    pub(crate) fn parse(text: &str, parameters: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let root = YamlNode::parse(text, intrinsics::long_form)
            .map_err(|YamlError { line, message }| TemplateError::at(line, message))?;
        let resolver = Resolver::new(&root, parameters)?;
        let resources = Resources::of(&root, &resolver)?;
        let tables = resources
            .of_type("AWS::DynamoDB::Table")
            .map(|table| (table.name.clone(), table.properties.clone()))
            .chain(
                resources
                    .of_type("AWS::Serverless::SimpleTable")
                    .map(|table| (table.name.clone(), simple_table(&table.properties))),
            )
            .collect();
        let sockets = sockets::read(&resources)?;
        let functions = functions::read(&root, &resolver, &resources)?;
        let http_apis = http_apis::read(&root, &resolver, &resources)?;
        let (queues, of_queues) = queues::read(&resources)?;
        Ok(Self {
            directory: PathBuf::new(),
            functions: functions.functions,
            tables,
            queues,
            sockets,
            http_routes: functions.http_routes,
            cors: http_apis.cors,
            http_throttles: http_apis.throttles,
            schedules: functions.schedules,
            rules: functions.rules,
            notes: [functions.notes, http_apis.notes, of_queues].concat(),
        })
    }
}

/// The table that SAM makes of a `SimpleTable`: it has a partition key and no sort key.
fn simple_table(properties: &Value) -> Value {
    let key = |property: &str| properties.pointer(&format!("/PrimaryKey/{property}")).and_then(Value::as_str);
    let name = key("Name").unwrap_or("id");
    let kind = match key("Type") {
        Some("Number") => "N",
        Some("Binary") => "B",
        _ => "S",
    };
    json!({
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind}],
        "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Template::parse(text, &BTreeMap::new()).expect_err("must be refused").to_string()
    }

    #[test]
    fn schedules_are_read_and_others_are_refused_or_noted() {
        let with = |kind: &str, properties: &str| {
            format!(
                "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
                 RouteSelectionExpression: $request.body.action }} }}\n  \
                F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: {kind}, Properties: \
                {properties} }} }} }} }}\n"
            )
        };
        let parse =
            |kind: &str, properties: &str| Template::parse(&with(kind, properties), &BTreeMap::new()).expect("valid");
        let noon = ScheduleExpression::parse("cron(0 12 * * ? *)").expect("valid").expect("known");
        for (kind, properties) in [
            ("Schedule", "{ Schedule: 'cron(0 12 * * ? *)' }"),
            ("ScheduleV2", "{ ScheduleExpression: 'cron(0 12 * * ? *)', ScheduleExpressionTimezone: UTC }"),
        ] {
            let template = parse(kind, properties);
            let [schedule] = template.schedules.as_slice() else { panic!("{:?}", template.schedules) };
            assert_eq!(schedule.times, noon);
        }
        let zone = "ScheduleExpressionTimezone: Europe/Warsaw";
        assert_eq!(
            parse("ScheduleV2", &format!("{{ ScheduleExpression: rate(1 minute), {zone} }}")).schedules.len(),
            1
        );
        let template = parse("ScheduleV2", &format!("{{ ScheduleExpression: 'cron(0 12 * * ? *)', {zone} }}"));
        assert!(template.schedules.is_empty());
        assert_eq!(
            template.notes,
            ["F is not invoked by its schedule E: the emulator runs cron(…) in UTC, not in Europe/Warsaw"]
        );
        assert_eq!(
            parse("ScheduleV2", "{ ScheduleExpression: 'at(2027-01-01T00:00:00)' }").notes,
            ["F is not invoked by its schedule E: the emulator runs rate(…) and cron(…), not at(2027-01-01T00:00:00)"]
        );
        assert_eq!(
            refusal(&with("Schedule", "{ Schedule: 'cron(0 25 * * ? *)' }")),
            "line 3: F: invalid schedule of the event E: invalid hours \"25\": expected 0-23"
        );
    }

    #[test]
    fn rules_are_read_and_invalid_patterns_are_refused() {
        let with = |properties: &str| {
            format!(
                "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
                 RouteSelectionExpression: $request.body.action }} }}\n  \
                F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: EventBridgeRule, \
                Properties: {properties} }} }} }} }}\n"
            )
        };
        let parse = |properties| Template::parse(&with(properties), &BTreeMap::new()).expect("valid");
        let rule = parse("{ EventBusName: other, Input: '{}', Pattern: { detail: { n: [ { numeric: ['>', 5] } ] } } }");
        let [rule] = rule.rules.as_slice() else { panic!("{rule:?}") };
        assert_eq!((rule.bus.as_str(), rule.input.as_deref()), ("other", Some("{}")));
        assert!(
            rule.pattern.matches(&json!({"detail": {"n": 6}})) && !rule.pattern.matches(&json!({"detail": {"n": 5}}))
        );
        assert!(parse("{ State: DISABLED, Pattern: { source: [a] } }").rules.is_empty());
        let template = parse("{ InputPath: $.detail, Pattern: { source: [a] } }");
        assert_eq!(template.notes, ["F is not invoked by its event E: the emulator does not support InputPath"]);
        assert_eq!(
            refusal(&with("{ Pattern: { source: a } }")),
            "line 3: F: invalid pattern of the event E: source: expected a list, or an object with fields"
        );
    }

    #[test]
    fn a_simple_table_has_the_key_that_it_names_or_id() {
        let text = "Resources:\n  Api: { Type: AWS::Serverless::WebSocketApi, Properties: { RouteSelectionExpression: \
            $request.body.a, Routes: { a: { FunctionArn: x } } } }\n  \
            Plain: { Type: AWS::Serverless::SimpleTable }\n  \
            Own: { Type: AWS::Serverless::SimpleTable, Properties: { TableName: named, PrimaryKey: { Name: n, Type: \
            Number } } }\n";
        let tables = Template::parse(text, &BTreeMap::new()).expect("valid").tables;
        let key = |table: &str| tables[table]["AttributeDefinitions"][0].clone();
        assert_eq!(key("Plain"), json!({"AttributeName": "id", "AttributeType": "S"}));
        assert_eq!(key("named"), json!({"AttributeName": "n", "AttributeType": "N"}));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_name_and_line() {
        let api = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
            RouteSelectionExpression: $request.body.action } }\n";
        let with = |rest: &str| format!("{api}{rest}");
        assert!(refusal("Resources: {}").starts_with("the template has no WebSocket API: expected "));
        assert_eq!(
            refusal(&with(
                "  I: { Type: AWS::ApiGatewayV2::Integration, Properties: { ApiId: !Ref Api, IntegrationType: VPC } \
                 }\n  R: { Type: AWS::ApiGatewayV2::Route, Properties: { ApiId: !Ref Api, RouteKey: a, Target: !Sub \
                 'integrations/${I}' } }\n"
            )),
            "line 3: I: invalid IntegrationType VPC: the emulator runs AWS, AWS_PROXY, HTTP, HTTP_PROXY and MOCK"
        );
        assert_eq!(
            refusal(&with(
                "  R: { Type: AWS::ApiGatewayV2::Route, Properties: { ApiId: !Ref Api, RouteKey: a, Target: \
                 integrations/None } }\n"
            )),
            "line 3: R: invalid Target integrations/None: expected integrations/ and the logical id of an integration"
        );
        assert_eq!(
            refusal(&with("  T: { Type: AWS::DynamoDB::Table, Properties: { TableName: !Ref Nothing } }\n")),
            "line 3: T: unknown resource or parameter Nothing"
        );
    }
}
