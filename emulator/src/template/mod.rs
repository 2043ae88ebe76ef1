//! Reads a SAM or CloudFormation template into what the emulator creates: functions, tables, APIs, schedules, rules.

mod attributes;
mod code;
mod constraints;
mod cron;
mod document;
mod error;
mod event_apis;
mod event_pattern;
mod event_sources;
mod exports;
mod functions;
mod globals;
mod http_apis;
mod identity;
mod inputs;
mod integrations;
mod intrinsics;
mod json_text;
mod layers;
mod location;
mod names;
mod packages;
mod parameters;
mod parts;
mod queues;
mod references;
mod resources;
mod rules;
mod sam_sockets;
mod samconfig;
mod scalar;
mod schedule_expression;
mod secrets;
mod selection;
mod service_integrations;
mod services;
mod sockets;
mod source;
mod stacks;
mod stored_parameters;
mod tables;
mod throttles;
mod topics;
mod triggers;
mod unknown;
mod websocket_api;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

pub(crate) use self::{
    attributes::event_api_hosts,
    event_apis::{
        AUTHORIZER_TTL_MAX, AuthMode, DirectHandler, EventApi, LambdaAuthorizer, is_segment as is_channel_segment,
    },
    event_pattern::is_within,
    event_sources::{EventFilter, EventSource, EventSourceMapping, StreamView, TableStream},
    http_apis::{
        ANY, AuthorizerInput, Cors, DEFAULT, HttpApi, HttpApiKind, HttpAuthorization, HttpAuthorizer,
        HttpIdentitySource, HttpRoute, JwtAuthorizer, MockResponse, PayloadVersion, ProxiedServer, RouteBackend,
        parameter,
    },
    identity::IdentitySource,
    integrations::{HttpBackend, Integration, IntegrationBackend, MappedIntegration, ParameterTarget, Passthrough},
    rules::DEFAULT_BUS,
    selection::ResponseHead,
    service_integrations::{IntegratedService, ServiceCall},
    stored_parameters::StoredParameter,
    throttles::{Throttle, Throttles},
    topics::{Subscriber, Subscription, Topic},
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};
pub use self::{
    code::Code,
    cron::CronExpression,
    error::{LoadError, TemplateError},
    event_pattern::EventPattern,
    functions::{Function, Schedule},
    inputs::TemplateInputs,
    layers::Layer,
    packages::Package,
    queues::QueueSettings,
    rules::{EventPath, Rule, RuleInput, RuleTarget},
    schedule_expression::ScheduleExpression,
    source::TemplateSource,
    yaml::{YamlError, YamlNode},
};
use self::{parts::Parts, unknown::Unknown};
#[cfg(feature = "fuzzing")]
pub(crate) use self::{samconfig::read as read_samconfig, selection::SelectionExpression};

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
    /// HTTP and REST APIs.
    pub(crate) http_apis: Vec<HttpApi>,
    /// Event APIs of AppSync.
    pub(crate) event_apis: Vec<EventApi>,
    /// Schedules of functions.
    pub schedules: Vec<Schedule>,
    /// Rules of event buses.
    pub rules: Vec<Rule>,
    /// Streams and queues that invoke functions.
    pub(crate) event_sources: Vec<EventSourceMapping>,
    /// Streams of tables that invoke functions.
    pub(crate) streams: Vec<TableStream>,
    /// Topics with their subscriptions.
    pub(crate) topics: Vec<Topic>,
    /// Parameters of Systems Manager, by name.
    pub(crate) stored_parameters: BTreeMap<String, StoredParameter>,
    /// What the emulator does not run of the template, one sentence each.
    pub notes: Vec<String>,
}

/// What a template without a WebSocket API is refused with.
const NO_WEBSOCKET_API: &str = "the template has no WebSocket API: expected an AWS::Serverless::WebSocketApi, \
    or an AWS::ApiGatewayV2::Api with ProtocolType WEBSOCKET; `sam local start-api` runs REST and HTTP APIs alone";

/// Looks for the templates that a directory means.
#[cfg(feature = "fuzzing")]
pub(crate) fn locate(directory: &std::path::Path) -> Result<usize, LoadError> {
    location::find(directory).map(|found| found.len())
}

impl Template {
    /// Reads a template, with what the user adds to it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is invalid, or has something that the emulator cannot run.
    pub fn load(source: &TemplateSource, inputs: &TemplateInputs) -> Result<Self, LoadError> {
        let sources = source.open()?;
        let unknown = Unknown::default();
        let parts = stacks::read(&sources, inputs, &unknown)?;
        let first = sources.first().map(|source| (source.path.clone(), source.directory.clone()));
        let (path, directory) = first.unwrap_or_default();
        Self::of_parts(parts, directory, unknown.notes(inputs)).map_err(|error| LoadError::Invalid(path, error))
    }

    /// Reads the text of a template, without looking at files or at whether its functions exist.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn parse(text: &str, inputs: &TemplateInputs) -> Result<Self, TemplateError> {
        let unknown = Unknown::default();
        let parts = stacks::read_text(text, inputs, &unknown)?;
        Self::of_parts(parts, PathBuf::new(), unknown.notes(inputs))
    }

    fn of_parts(mut parts: Parts, directory: PathBuf, notes: Vec<String>) -> Result<Self, TemplateError> {
        parts.find_layers();
        let http = parts.http.finish(&parts.functions);
        let queues: Vec<QueueSettings> = parts.queues.into_iter().map(|queue| queue.settings).collect();
        let triggers = parts.triggers.find(&parts.functions, &parts.tables, &queues)?;
        Ok(Self {
            directory,
            functions: parts.functions,
            tables: parts.tables,
            queues,
            sockets: parts.sockets.ok_or_else(|| TemplateError::new(NO_WEBSOCKET_API))?,
            http_apis: http.apis,
            event_apis: parts.event_apis,
            schedules: [parts.schedules, triggers.schedules].concat(),
            rules: [parts.rules, triggers.rules].concat(),
            stored_parameters: parts.stored_parameters,
            event_sources: triggers.event_sources,
            streams: triggers.streams,
            topics: triggers.topics,
            notes: [parts.notes, http.notes, triggers.notes, notes].concat(),
        })
    }

    /// Names of the functions that a route or an authorizer invokes.
    pub(crate) fn routed(&self) -> BTreeSet<String> {
        let routes = self.http_apis.iter().flat_map(|api| &api.routes);
        let of_events = self.event_apis.iter().flat_map(EventApi::functions);
        let of_routes = routes.flat_map(HttpRoute::functions);
        self.sockets.functions().chain(of_routes).chain(of_events).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(text: &str) -> String {
        Template::parse(text, &TemplateInputs::default()).expect_err("must be refused").to_string()
    }

    #[test]
    fn templates_of_the_fuzz_targets_are_valid() {
        for text in [
            include_str!("../../tests/program/fuzzed.yaml"),
            include_str!("../../tests/program/fuzzed_events.yaml"),
            include_str!("../../tests/program/fuzzed_http.yaml"),
            include_str!("../../tests/program/fuzzed_services.yaml"),
        ] {
            Template::parse(text, &TemplateInputs::default()).expect("valid");
        }
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
        let parse = |kind: &str, properties: &str| {
            Template::parse(&with(kind, properties), &TemplateInputs::default()).expect("valid")
        };
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
        let parse = |properties| Template::parse(&with(properties), &TemplateInputs::default()).expect("valid");
        let rule = parse("{ EventBusName: other, Input: '{}', Pattern: { detail: { n: [ { numeric: ['>', 5] } ] } } }");
        let [rule] = rule.rules.as_slice() else { panic!("{rule:?}") };
        assert_eq!((rule.bus.as_str(), &rule.input), ("other", &RuleInput::Text("{}".to_owned())));
        assert!(
            rule.pattern.matches(&json!({"detail": {"n": 6}})) && !rule.pattern.matches(&json!({"detail": {"n": 5}}))
        );
        assert!(parse("{ State: DISABLED, Pattern: { source: [a] } }").rules.is_empty());
        let template = parse("{ InputPath: $.detail.*, Pattern: { source: [a] } }");
        assert_eq!(
            template.notes,
            ["F is not invoked by its event E: the emulator does not support the path $.detail.*"]
        );
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
        let tables = Template::parse(text, &TemplateInputs::default()).expect("valid").tables;
        let key = |table: &str| tables[table]["AttributeDefinitions"][0].clone();
        assert_eq!(key("Plain"), json!({"AttributeName": "id", "AttributeType": "S"}));
        assert_eq!(key("named"), json!({"AttributeName": "n", "AttributeType": "N"}));
    }

    const API: &str = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
        RouteSelectionExpression: $request.body.action } }\n";

    fn parse(rest: &str) -> Template {
        Template::parse(&format!("{API}{rest}"), &TemplateInputs::default()).expect("valid")
    }

    #[test]
    fn what_no_route_needs_is_not_evaluated() {
        let template = parse(
            "  Sub: { Type: AWS::EC2::Subnet, Properties: { AvailabilityZone: !Select [7, !GetAZs ''], VpcId: !Ref \
             Typo } }\n  \
             F: { Type: AWS::Serverless::Function, Properties: { VpcConfig: { SubnetIds: [!ImportValue s] }, Role: \
             !GetAtt Nowhere.Arn, Policies: !Bad x, Code: { S3Bucket: !Ref Typo, S3Key: a.zip }, Events: { S: { \
             Type: MQ, Properties: { Broker: !Ref Typo } } }, Environment: { Variables: { A: b } } } }\n",
        );
        assert_eq!(template.functions["F"].environment["A"], "b");
        assert_eq!(template.notes, ["F is not invoked by its event S: the emulator does not run events of type MQ"]);
        assert_eq!(
            refusal(&format!(
                "{API}  F: {{ Type: AWS::Serverless::Function, Properties: {{ Environment: {{ Variables: {{ A: !Ref \
                 Typo }} }} }} }}\n"
            )),
            "line 3: F: unknown resource or parameter Typo"
        );
    }

    #[test]
    fn parts_that_the_emulator_does_not_read_are_one_note() {
        let template = parse(
            "  Fn::ForEach::Tabs: [N, [A, B], { 'T${N}': { Type: AWS::DynamoDB::Table } }]\n  \
             Fn::Transform: { Name: AWS::Include, Parameters: { Location: more.yaml } }\n  \
             Nested: { Type: AWS::Serverless::Application, Properties: { Location: base.yaml } }\n  \
             F: { Type: AWS::Serverless::Function, Properties: { Environment: { Variables: { A: !Ref FromInclude } } } \
             }\n",
        );
        assert_eq!(
            template.notes,
            [
                "the emulator does not read Fn::ForEach::Tabs, Fn::Transform, the nested stack Nested",
                "only AWS knows FromInclude: functions see made-up values; set them with --value FromInclude=VALUE",
            ]
        );
    }

    #[test]
    fn parameters_of_systems_manager_have_their_names_or_logical_ids() {
        let parameter = "Type: AWS::SSM::Parameter, Properties: { Type: String, ";
        let template = parse(&format!(
            "  A: {{ {parameter} Name: /a/url, Value: !Sub 'https://${{Api}}/x' }} }}\n  B: {{ {parameter} Value: 1 }} \
             }}\n"
        ));
        let value = |name: &str| template.stored_parameters.get(name).map(|stored| stored.value.as_str());
        assert!(value("/a/url").is_some_and(|value| value.ends_with("/x") && !value.contains('$')));
        assert_eq!((value("B"), value("A")), (Some("1"), None));
    }

    #[test]
    fn services_that_are_not_here_are_named_in_one_note() {
        let template = parse(
            "  ServerlessDeploymentBucket: { Type: AWS::S3::Bucket }\n  Pool: { Type: AWS::Cognito::UserPool }\n  \
             Files: { Type: AWS::S3::Bucket }\n  More: { Type: AWS::S3::Bucket }\n",
        );
        let note = "not here, so that functions call the real AWS for it: Cognito (Pool), S3 (Files)";
        assert_eq!(template.notes, [note]);
        let none = parse("  ServerlessDeploymentBucket: { Type: AWS::S3::Bucket }\n");
        assert!(none.notes.is_empty(), "{:?}", none.notes);
    }

    #[test]
    fn all_parameters_that_are_missing_are_named_at_once() {
        assert_eq!(
            refusal(&format!(
                "Parameters:\n  A: {{ Type: String }}\n  B: {{ Type: String }}\n  C: {{ Type: String, \
                Default: c }}\n{API}"
            )),
            "line 2: the parameters A, B have no default: set them with --parameter A=VALUE --parameter B=VALUE"
        );
        assert_eq!(
            refusal(&format!("Parameters:\n  A: {{ Type: String }}\n{API}")),
            "line 2: the parameter A has no default: set it with --parameter A=VALUE"
        );
        let of_assets = "Parameters:\n  AssetParameters0a1bS3VersionKeyC2: { Type: String }\n";
        let of_cdk = "  F: { Type: AWS::Lambda::Function, Properties: { Code: { S3Bucket: b, S3Key: !Select [1, !Split \
            ['||', !Ref AssetParameters0a1bS3VersionKeyC2]] } } }\n";
        assert!(Template::parse(&format!("{of_assets}{API}{of_cdk}"), &TemplateInputs::default()).is_ok());
    }

    #[test]
    fn a_repeated_key_is_noted_and_globals_apply_to_every_type() {
        let template = Template::parse(
            "Globals:\n  WebSocketApi: { RouteSelectionExpression: $request.body.action, StageVariables: { MODE: \
             fast } }\n  SimpleTable: { PrimaryKey: { Name: key } }\n  Function: { Timeout: 9 }\nResources:\n  \
             Ws: { Type: AWS::Serverless::WebSocketApi, Properties: { Routes: { a: { FunctionArn: F } } } }\n  \
             Table: { Type: AWS::Serverless::SimpleTable }\n  F: { Type: AWS::Serverless::Function, IgnoreGlobals: \
             [Timeout] }\n  Table: { Type: AWS::Serverless::SimpleTable }\n",
            &TemplateInputs::default(),
        )
        .expect("valid");
        assert_eq!(template.sockets.stage_variables["MODE"], "fast");
        assert_eq!(template.tables["Table"]["KeySchema"][0]["AttributeName"], "key");
        assert_eq!(template.functions["F"].timeout.as_secs(), 3);
        let note = "the key Table stands twice: the value in line 9 counts, as with SAM";
        assert_eq!(template.notes, [note]);
        let error = refusal(&format!("{API}  Q: {{ Type: x }}\n  Q: {{}}\n"));
        assert!(error.starts_with("line 4: Q: Type is missing; the key Q stands twice: "), "{error}");
    }

    #[test]
    fn a_global_table_has_its_one_replica_here() {
        let template = parse(
            "  T: { Type: AWS::DynamoDB::GlobalTable, Properties: { TableName: all, AttributeDefinitions: [{ \
             AttributeName: id, AttributeType: S }], KeySchema: [{ AttributeName: id, KeyType: HASH }], BillingMode: \
             PROVISIONED, Replicas: [{ Region: !Ref AWS::Region }], GlobalSecondaryIndexes: [{ IndexName: i, \
             WriteProvisionedThroughputSettings: {}, KeySchema: [{ AttributeName: id, KeyType: HASH }], Projection: { \
             ProjectionType: ALL } }] } }\n",
        );
        let table = &template.tables["all"];
        assert_eq!(table["BillingMode"], "PAY_PER_REQUEST");
        let index = table["GlobalSecondaryIndexes"][0].as_object().expect("an index");
        assert_eq!(index.keys().collect::<Vec<_>>(), ["IndexName", "KeySchema", "Projection"]);
    }

    #[test]
    fn of_several_websocket_apis_the_first_with_routes_runs() {
        let template = Template::parse(
            &format!(
                "{API}  Second: {{ Type: AWS::Serverless::WebSocketApi, Properties: {{ RouteSelectionExpression: \
                 $request.body.a, Routes: {{ a: {{ FunctionArn: x }} }} }} }}\n"
            ),
            &TemplateInputs::default(),
        )
        .expect("valid");
        assert!(template.sockets.routes.contains_key("a"));
        assert_eq!(template.notes, ["the WebSocket API Api is not run: the emulator runs one, which is Second"]);
    }

    #[test]
    fn a_function_or_alias_that_does_not_exist_is_refused_with_the_line_of_its_route() {
        let load = |arn: &'static str| {
            let text = format!(
                "Resources:\n  F: {{ Type: AWS::Serverless::Function, Properties: {{ AutoPublishAlias: live }} }}\n  \
                 Ws: {{ Type: AWS::Serverless::WebSocketApi, Properties: {{ RouteSelectionExpression: $request.body.a, \
                 Routes: {{ a: {{ FunctionArn: {arn} }} }} }} }}\n"
            );
            let parts = stacks::read_text(&text, &TemplateInputs::default(), &Unknown::default());
            let parts = parts.expect("valid");
            let checked = parts.references.iter().try_for_each(|reference| reference.check(&parts.functions));
            checked.map_err(|error| error.to_string())
        };
        for known in ["!Ref F.Alias", "!GetAtt F.Arn", "!Sub '${F.Arn}:$LATEST'", "!Ref F.Version", "!Ref F"] {
            assert_eq!(load(known), Ok(()), "{known}");
        }
        assert_eq!(
            load("'arn:aws:lambda:eu-central-1:000000000000:function:nobody'"),
            Err("line 3: Ws: unknown function nobody: the template does not have it".to_owned())
        );
        assert_eq!(load("!Sub '${F.Arn}:blue'"), Err("line 3: Ws: unknown alias blue of the function F".to_owned()));
    }

    #[test]
    fn names_that_double_with_each_line_are_refused_soon() {
        let queues = (0..60).map(|n| {
            let next = n + 1;
            format!(
                "  Q{n}: {{ Type: AWS::SQS::Queue, Properties: {{ QueueName: !Sub '${{Q{next}}}${{Q{next}}}' }} }}\n"
            )
        });
        let text = format!("{API}{}  Q60: {{ Type: AWS::SQS::Queue }}\n", queues.collect::<String>());
        assert!(refusal(&text).ends_with("the values of the template are too large"), "{}", refusal(&text));
        let circle = format!(
            "{API}  Q: {{ Type: AWS::SQS::Queue, Properties: {{ QueueName: !FindInMap [M, a, b] }} }}\n\
            Mappings: {{ M: {{ a: {{ b: !FindInMap [M, a, b] }} }} }}\n"
        );
        assert!(Template::parse(&circle, &TemplateInputs::default()).is_ok());
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_name_and_line() {
        let api = "Resources:\n  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
            RouteSelectionExpression: $request.body.action } }\n";
        let with = |rest: &str| format!("{api}{rest}");
        assert!(refusal("Resources: {}").ends_with("runs REST and HTTP APIs alone"));
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
