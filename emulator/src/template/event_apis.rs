//! Event APIs of AppSync: `AWS::AppSync::Api` with its channel namespaces and API keys.
//!
//! Source: the resource schemas of CloudFormation, and the service model of AppSync.

use std::{collections::BTreeMap, time::Duration};

use regex::Regex;
use serde_json::Value;

use super::{
    error::TemplateError,
    references::{FunctionReference, function_of},
    resources::{Resource, Resources},
    scalar,
};

/// Longest name of an API or a channel namespace. Source: the service model of AppSync.
const NAME_CHARS_MAX: usize = 50;

/// Longest time for which the answer of an authorizer is kept. Source: the service model of AppSync.
pub(crate) const AUTHORIZER_TTL_MAX: Duration = Duration::from_secs(3_600);

/// An Event API.
#[derive(Clone, Debug)]
pub(crate) struct EventApi {
    /// Its logical id.
    pub(crate) name: String,
    /// 26 lower-case letters and digits.
    pub(crate) api_id: String,
    /// What a client may connect with.
    pub(crate) connect: Vec<AuthMode>,
    pub(crate) authorizer: Option<LambdaAuthorizer>,
    pub(crate) keys: Vec<EventApiKey>,
    /// By name, which is the first segment of each channel in it.
    pub(crate) namespaces: BTreeMap<String, ChannelNamespace>,
}

impl EventApi {
    /// Names of the functions of its authorizer and its handlers.
    pub(super) fn functions(&self) -> impl Iterator<Item = &str> {
        let namespaces = self.namespaces.values();
        let handlers = namespaces.flat_map(|namespace| [&namespace.on_publish, &namespace.on_subscribe]).flatten();
        let authorizer = self.authorizer.iter().map(|authorizer| authorizer.function.as_str());
        authorizer.chain(handlers.map(|handler| handler.function.as_str()))
    }
}

/// A kind of authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthMode {
    ApiKey,
    Iam,
    Lambda,
    /// Tokens of Cognito or of another provider, which the emulator does not check.
    Token,
}

/// The Lambda authorizer of an Event API.
#[derive(Clone, Debug)]
pub(crate) struct LambdaAuthorizer {
    /// Name of the function.
    pub(crate) function: String,
    /// How long its answers are kept unless they say otherwise. Zero keeps none.
    pub(crate) ttl: Duration,
    /// Tokens that do not match are refused without a call.
    pub(crate) expression: Option<Regex>,
}

/// An API key.
#[derive(Clone, Debug)]
pub(crate) struct EventApiKey {
    pub(crate) key: String,
    /// Seconds since the Unix epoch.
    pub(crate) expires_secs: Option<i64>,
}

/// A channel namespace.
#[derive(Clone, Debug)]
pub(crate) struct ChannelNamespace {
    pub(crate) publish: Vec<AuthMode>,
    pub(crate) subscribe: Vec<AuthMode>,
    pub(crate) on_publish: Option<DirectHandler>,
    pub(crate) on_subscribe: Option<DirectHandler>,
}

/// A function that handles publishes or subscriptions.
#[derive(Clone, Debug)]
pub(crate) struct DirectHandler {
    /// Its name.
    pub(crate) function: String,
    /// Whether nothing waits for it.
    pub(crate) is_asynchronous: bool,
}

/// The Event APIs of a template.
#[derive(Debug, Default)]
pub(super) struct ParsedEventApis {
    pub(super) apis: Vec<EventApi>,
    /// The functions that their authorizers name.
    pub(super) references: Vec<FunctionReference>,
    pub(super) notes: Vec<String>,
}

/// Reads the Event APIs, in the order of the template.
pub(super) fn read(resources: &Resources<'_>) -> Result<ParsedEventApis, TemplateError> {
    let mut found = ParsedEventApis::default();
    for api in resources.of_type("AWS::AppSync::Api") {
        let read = read_api(api, resources, &mut found)?;
        found.apis.push(read);
    }
    let is_here = |id: &str| found.apis.iter().any(|api| api.api_id == id);
    for namespace in resources.of_type("AWS::AppSync::ChannelNamespace") {
        let id = namespace.required_text("ApiId")?;
        if !is_here(&id) {
            let hint = "expected !GetAtt API.ApiId of an AWS::AppSync::Api in this template; !Ref is its ARN";
            return Err(namespace.error(format!("unknown ApiId {id}: {hint}")));
        }
    }
    Ok(found)
}

fn read_api(
    api: &Resource<'_>,
    resources: &Resources<'_>,
    found: &mut ParsedEventApis,
) -> Result<EventApi, TemplateError> {
    api.refuse_transform("EventConfig")?;
    checked_name(api)?;
    let config = api.get("EventConfig").filter(|config| config.is_object());
    let config = config.ok_or_else(|| api.error("EventConfig is missing"))?;
    let required = |property: &str| {
        let list = config.get(property).and_then(Value::as_array);
        list.ok_or_else(|| api.error(format!("EventConfig has no {property}, which is a list")))
    };
    let providers = modes(api, "AuthProviders", required("AuthProviders")?)?;
    let within = |resource: &Resource<'_>, property: &str, list: &[Value]| {
        let modes = modes(resource, property, list)?;
        match modes.iter().find(|mode| !providers.contains(mode)) {
            Some(mode) => Err(resource.error(format!("{property} has {mode:?}, which is not among AuthProviders"))),
            None => Ok(modes),
        }
    };
    let connect = within(api, "ConnectionAuthModes", required("ConnectionAuthModes")?)?;
    let publish = within(api, "DefaultPublishAuthModes", required("DefaultPublishAuthModes")?)?;
    let subscribe = within(api, "DefaultSubscribeAuthModes", required("DefaultSubscribeAuthModes")?)?;
    if providers.contains(&AuthMode::Token) {
        found.notes.push(format!(
            "{} refuses tokens of Cognito and OpenID Connect: the emulator does not check them at Event APIs",
            api.logical_id
        ));
    }
    let authorizer = read_authorizer(api, config, found)?;
    let mut namespaces = BTreeMap::new();
    let of_api = |resource: &&Resource<'_>| resource.text("ApiId").is_some_and(|id| id == api.name);
    for namespace in resources.of_type("AWS::AppSync::ChannelNamespace").filter(of_api) {
        let name = checked_name(namespace)?;
        let own = |property: &str, default: &[AuthMode]| match namespace.get(property) {
            Some(Value::Array(list)) => within(namespace, property, list),
            Some(Value::Null) | None => Ok(default.to_vec()),
            Some(_) => Err(namespace.error(format!("invalid {property}: expected a list"))),
        };
        let read = ChannelNamespace {
            publish: own("PublishAuthModes", &publish)?,
            subscribe: own("SubscribeAuthModes", &subscribe)?,
            on_publish: handler(namespace, "OnPublish", resources, found),
            on_subscribe: handler(namespace, "OnSubscribe", resources, found),
        };
        note_on_code(namespace, found);
        if namespaces.insert(name.clone(), read).is_some() {
            return Err(namespace.error(format!("another channel namespace of {} has the name {name}", api.logical_id)));
        }
    }
    let keys = resources.of_type("AWS::AppSync::ApiKey").filter(of_api).map(|key| EventApiKey {
        key: format!("da2-{}", key.name),
        expires_secs: key.text("Expires").and_then(|expires| expires.parse().ok()),
    });
    Ok(EventApi {
        name: api.logical_id.clone(),
        api_id: api.name.clone(),
        connect,
        authorizer,
        keys: keys.collect(),
        namespaces,
    })
}

/// Reads the function that handles publishes or subscriptions itself. What else handles them does not run.
fn handler(
    namespace: &Resource<'_>,
    kind: &str,
    resources: &Resources<'_>,
    found: &mut ParsedEventApis,
) -> Option<DirectHandler> {
    let config = namespace.get("HandlerConfigs")?.get(kind)?;
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str);
    if text("/Behavior") != Some("DIRECT") {
        return None;
    }
    let name = text("/Integration/DataSourceName").unwrap_or_default();
    let is_of_api = |source: &&Resource<'_>| source.name == name && source.text("ApiId") == namespace.text("ApiId");
    let source = resources.of_type("AWS::AppSync::DataSource").find(is_of_api);
    let uri = source.and_then(|source| {
        let uri = source.pointer("/LambdaConfig/LambdaFunctionArn").and_then(scalar::as_text)?;
        found.references.push(FunctionReference::new(source, &uri));
        Some(uri)
    });
    let function = uri.as_deref().and_then(function_of);
    if function.is_none() {
        found.notes.push(format!(
            "{kind} of the channel namespace {} does not run: the data source {name:?} is not a Lambda function of the \
             template",
            namespace.logical_id
        ));
    }
    let is_asynchronous = text("/Integration/LambdaConfig/InvokeType") == Some("EVENT");
    function.map(|function| DirectHandler { function: function.to_owned(), is_asynchronous })
}

/// Notes handlers that are code for AppSync.
fn note_on_code(namespace: &Resource<'_>, found: &mut ParsedEventApis) {
    if ["CodeHandlers", "CodeS3Location"].iter().any(|property| namespace.has(property)) {
        found.notes.push(format!(
            "the handlers of the channel namespace {} do not run, unless they are functions: the emulator passes each \
             event on as it is, and lets in every subscription that is authorized, also those that onSubscribe would \
             refuse; to run them here, make them functions (HandlerConfigs with Behavior: DIRECT)",
            namespace.logical_id
        ));
    }
}

/// Reads the `Name` of an API or a channel namespace.
fn checked_name(resource: &Resource<'_>) -> Result<String, TemplateError> {
    let name = resource.required_text("Name")?;
    let is_namespace = resource.kind == "AWS::AppSync::ChannelNamespace";
    let is_valid = if is_namespace {
        is_segment(&name)
    } else {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' ');
        (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed)
    };
    let expected = if is_namespace { "letters, digits and inner hyphens" } else { "letters, digits, _, - and spaces" };
    let refused = || resource.error(format!("invalid Name {name}: expected 1 to {NAME_CHARS_MAX} {expected}"));
    is_valid.then(|| name.clone()).ok_or_else(refused)
}

/// Returns whether a text can be a segment of a channel. Source: AppSync developer guide, "Understanding channel
/// namespaces".
pub(crate) fn is_segment(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn modes(resource: &Resource<'_>, property: &str, list: &[Value]) -> Result<Vec<AuthMode>, TemplateError> {
    let mode = |item: &Value| match item.get("AuthType").and_then(Value::as_str) {
        Some("API_KEY") => Ok(AuthMode::ApiKey),
        Some("AWS_IAM") => Ok(AuthMode::Iam),
        Some("AWS_LAMBDA") => Ok(AuthMode::Lambda),
        Some("AMAZON_COGNITO_USER_POOLS" | "OPENID_CONNECT") => Ok(AuthMode::Token),
        other => Err(resource.error(format!(
            "invalid AuthType {} in {property}: expected API_KEY, AWS_IAM, AWS_LAMBDA, AMAZON_COGNITO_USER_POOLS or \
             OPENID_CONNECT",
            other.unwrap_or("(none)")
        ))),
    };
    list.iter().map(mode).collect()
}

/// Reads the one Lambda authorizer that an API may have.
fn read_authorizer(
    api: &Resource<'_>,
    config: &Value,
    found: &mut ParsedEventApis,
) -> Result<Option<LambdaAuthorizer>, TemplateError> {
    let providers = config.get("AuthProviders").and_then(Value::as_array).into_iter().flatten();
    let is_lambda = |provider: &&Value| provider.get("AuthType").and_then(Value::as_str) == Some("AWS_LAMBDA");
    let mut providers = providers.filter(is_lambda);
    let Some(provider) = providers.next() else { return Ok(None) };
    if providers.next().is_some() {
        return Err(api.error("AuthProviders has two of AWS_LAMBDA: an Event API may have one"));
    }
    let config = provider.get("LambdaAuthorizerConfig");
    let text = |property: &str| config.and_then(|config| scalar::as_text(config.get(property)?));
    let uri = text("AuthorizerUri").ok_or_else(|| api.error("LambdaAuthorizerConfig has no AuthorizerUri"))?;
    let function = function_of(&uri);
    let function =
        function.ok_or_else(|| api.error(format!("invalid AuthorizerUri {uri}: expected a function's ARN")))?;
    found.references.push(FunctionReference::new(api, &uri));
    let ttl = match text("AuthorizerResultTtlInSeconds") {
        None => Duration::ZERO,
        Some(secs) => {
            let ttl = secs.parse().map(Duration::from_secs).ok().filter(|ttl| *ttl <= AUTHORIZER_TTL_MAX);
            let max = AUTHORIZER_TTL_MAX.as_secs();
            let refused = || api.error(format!("invalid AuthorizerResultTtlInSeconds {secs}: expected 0 to {max}"));
            ttl.ok_or_else(refused)?
        }
    };
    let expression = match text("IdentityValidationExpression").map(|expression| Regex::new(&expression)).transpose() {
        Ok(expression) => expression,
        Err(_) => {
            let note = "has an IdentityValidationExpression that is not a regular expression here: the authorizer gets \
                        every token";
            found.notes.push(format!("{} {note}", api.logical_id));
            None
        }
    };
    Ok(Some(LambdaAuthorizer { function: function.to_owned(), ttl, expression }))
}

#[cfg(test)]
mod tests {
    use crate::template::{Template, TemplateInputs};

    use super::*;

    fn parse(config: &str, rest: &str) -> Result<Template, TemplateError> {
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n  Auth: {{ Type: AWS::Serverless::Function }}\n  \
             Api: {{ Type: AWS::AppSync::Api, Properties: {{ Name: crowd, EventConfig: {config} }} }}\n{rest}"
        );
        Template::parse(&text, &TemplateInputs::default())
    }

    fn config(providers: &str, of_all: &str) -> String {
        format!(
            "{{ AuthProviders: [{providers}], ConnectionAuthModes: [{of_all}], DefaultPublishAuthModes: [{of_all}], \
             DefaultSubscribeAuthModes: [{of_all}] }}"
        )
    }

    const KEY: &str = "{ AuthType: API_KEY }";

    #[test]
    fn an_api_has_the_namespaces_and_keys_that_name_it_and_their_modes_override_its_own() {
        let providers = "{ AuthType: API_KEY }, { AuthType: AWS_IAM }, { AuthType: AWS_LAMBDA, \
            LambdaAuthorizerConfig: { AuthorizerUri: !GetAtt Auth.Arn, AuthorizerResultTtlInSeconds: 60 } }";
        let rest = "  Ns: { Type: AWS::AppSync::ChannelNamespace, Properties: { ApiId: !GetAtt Api.ApiId, \
            Name: alerts, PublishAuthModes: [{ AuthType: AWS_IAM }] } }\n  \
            Key: { Type: AWS::AppSync::ApiKey, Properties: { ApiId: !GetAtt Api.ApiId } }\n  \
            F: { Type: AWS::Serverless::Function, Properties: { Environment: { Variables: { NS: !Ref Ns, \
            API: !Ref Api, KEY: !GetAtt Key.ApiKey, URL: !Sub 'https://${Api.Dns.Http}/event', \
            WS: !GetAtt Api.Dns.Realtime } } } }\n";
        let template = parse(&config(providers, KEY), rest).expect("valid");
        let [api] = template.event_apis.as_slice() else { panic!("{:?}", template.event_apis) };
        let namespace = &api.namespaces["alerts"];
        assert_eq!((&namespace.publish, &namespace.subscribe), (&vec![AuthMode::Iam], &vec![AuthMode::ApiKey]));
        let authorizer = api.authorizer.as_ref().expect("one");
        assert_eq!((authorizer.function.as_str(), authorizer.ttl), ("Auth", Duration::from_secs(60)));
        let variables = &template.functions["F"].environment;
        let (http, realtime) = super::super::event_api_hosts(&api.api_id);
        let arn = format!("arn:aws:appsync:eu-central-1:000000000000:apis/{}", api.api_id);
        assert_eq!((&variables["API"], &variables["NS"]), (&arn, &format!("{arn}/channelNamespace/alerts")));
        assert_eq!((&variables["URL"], &variables["WS"]), (&format!("https://{http}/event"), &realtime));
        assert_eq!((&variables["KEY"], api.api_id.len(), http.find('.')), (&api.keys[0].key, 26, Some(26)));
        assert!(!http.starts_with(&api.api_id) && template.notes.is_empty(), "{:?}", template.notes);
    }

    #[test]
    fn what_is_invalid_is_refused_with_what_would_be_right() {
        let namespace = |properties: &str| {
            format!("  Ns: {{ Type: AWS::AppSync::ChannelNamespace, Properties: {{ {properties} }} }}\n")
        };
        let of_api = "ApiId: !GetAtt Api.ApiId";
        for (config, rest, expected) in [
            ("{}".to_owned(), String::new(), "EventConfig has no AuthProviders"),
            (
                config("{ AuthType: KEY }", KEY),
                String::new(),
                "invalid AuthType KEY in AuthProviders: expected API_KEY",
            ),
            (config(KEY, "{ AuthType: AWS_IAM }"), String::new(), "ConnectionAuthModes has Iam, which is not among"),
            (config("{ AuthType: AWS_LAMBDA }", "{ AuthType: AWS_LAMBDA }"), String::new(), "has no AuthorizerUri"),
            (config(KEY, KEY), namespace("ApiId: !Ref Api, Name: a"), "!Ref is its ARN"),
            (
                config(KEY, KEY),
                namespace(&format!("{of_api}, Name: a_b")),
                "invalid Name a_b: expected 1 to 50 letters",
            ),
            (
                config(KEY, KEY),
                namespace(&format!("{of_api}, Name: a"))
                    + &namespace(&format!("{of_api}, Name: a")).replace("Ns", "N2"),
                "has the name a",
            ),
        ] {
            let error = parse(&config, &rest).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn handlers_and_tokens_that_are_not_checked_are_noted() {
        let rest = "  Ns: { Type: AWS::AppSync::ChannelNamespace, Properties: { ApiId: !GetAtt Api.ApiId, Name: a, \
            CodeHandlers: 'export const onPublish = (c) => c.events' } }\n";
        let providers = format!("{KEY}, {{ AuthType: OPENID_CONNECT }}");
        let notes = parse(&config(&providers, KEY), rest).expect("valid").notes;
        assert!(
            notes.iter().any(|note| note.contains("the handlers of the channel namespace Ns do not run")
                && note.ends_with("make them functions (HandlerConfigs with Behavior: DIRECT)")),
            "{notes:?}"
        );
        assert!(notes.iter().any(|note| note.starts_with("Api refuses tokens of Cognito")), "{notes:?}");
        let lambda = "{ AuthType: AWS_LAMBDA, LambdaAuthorizerConfig: { AuthorizerUri: !GetAtt Auth.Arn, \
            IdentityValidationExpression: '(?!a)' } }";
        let notes = parse(&config(lambda, "{ AuthType: AWS_LAMBDA }"), "").expect("valid").notes;
        assert!(notes.iter().any(|note| note.ends_with("the authorizer gets every token")), "{notes:?}");
    }
}
