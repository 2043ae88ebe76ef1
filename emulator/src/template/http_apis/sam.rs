//! APIs in SAM's form: events `HttpApi` and `Api` of functions, and the APIs that they name or that SAM makes for them.
//!
//! Source: SAM's specification and translator.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    HttpApis, authorizers, cors, elsewhere,
    event::HttpEvent,
    gateway_responses,
    model::{HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, PayloadVersion, RouteBackend},
    open_api, policies,
    sam_auth::{SamAuth, keys_of_api},
    transformed,
};
use crate::template::{
    error::TemplateError,
    intrinsics::Resolver,
    references::{http_integration_timeout, integration_timeout},
    resources::Resources,
    scalar,
    throttles::Throttles,
    yaml::YamlNode,
};

/// The stage of the REST API that SAM makes for events without an API. Source: SAM.
const IMPLICIT_STAGE: &str = "Prod";

/// An API with what its routes get from it.
struct SamApi {
    api: HttpApi,
    /// `Auth`, without which nobody may use the API if it cannot be read.
    auth: Result<SamAuth, String>,
    /// `Cors` of a REST API.
    cors: Option<Value>,
    /// Whether SAM adds events to it. It leaves the OpenAPI document of a REST API alone, unless told to merge.
    takes_events: bool,
    /// The routes of events, in their order.
    events: Vec<HttpRoute>,
}

impl SamApi {
    /// Reads an API from its properties.
    fn read(
        mut api: HttpApi,
        property: impl Fn(&str) -> Option<Value>,
        auth: (Option<&YamlNode>, usize),
        invalid: impl Fn(String) -> TemplateError,
        notes: &mut Vec<String>,
    ) -> Result<Self, TemplateError> {
        let text = |name: &str| property(name).as_ref().and_then(scalar::as_text);
        api.stage = text("StageName").unwrap_or(api.stage);
        let variables = match api.kind {
            HttpApiKind::Http => property("StageVariables"),
            HttpApiKind::Rest => property("Variables"),
        };
        api.stage_variables = scalar::named_texts(variables.as_ref());
        if api.kind == HttpApiKind::Http {
            let configuration = property("CorsConfiguration").map(|given| {
                cors::configuration(&given)
                    .ok_or_else(|| invalid("invalid CorsConfiguration: expected an object or a boolean".to_owned()))
            });
            api.cors = configuration.transpose()?;
        }
        let types = property("BinaryMediaTypes");
        let types = scalar::texts(types.as_ref());
        // A slash may be written as in JSON pointers.
        api.binary_types = types.map(|kind| kind.replace("~1", "/")).collect();
        if let Some(responses) = property("GatewayResponses") {
            gateway_responses::read_sam(&mut api, &responses, notes);
        }
        let kind = api.kind;
        let cors = property("Cors").filter(|_| kind == HttpApiKind::Rest);
        let (node, line) = auth;
        let auth = SamAuth::read(property("Auth").as_ref(), node, line, keys_of_api(kind));
        if let Some(statements) = auth.as_ref().ok().and_then(|auth| auth.statements(policies::EVERYTHING)) {
            api.restrict(statements);
        }
        let mut read = Self { api, auth, cors, takes_events: true, events: Vec::new() };
        if let Some(document) = property("DefinitionBody") {
            read.takes_events =
                kind == HttpApiKind::Http || authorizers::is_true(property("MergeDefinitions").as_ref());
            let otherwise = read.default_authorization();
            open_api::read(&mut read.api, &document, &otherwise, notes);
            read.need_api_key(0);
        } else if property("DefinitionUri").is_some() {
            read.leave_out(elsewhere("DefinitionUri"));
        }
        Ok(read)
    }

    /// Serves nothing of an API whose OpenAPI document cannot be read.
    fn leave_out(&mut self, reason: String) {
        self.takes_events = false;
        self.api.close(reason);
    }

    /// Adds the route of an event.
    fn add(&mut self, event: &HttpEvent) {
        if !self.takes_events {
            return;
        }
        let mut route = route_of(event);
        if let Err(reason) = self.secure(&mut route, event) {
            route.authorization = HttpAuthorization::Unserved(reason);
        }
        self.events.push(route);
    }

    /// Sets who may use the route of an event. An error is why that cannot be read.
    fn secure(&mut self, route: &mut HttpRoute, event: &HttpEvent) -> Result<(), String> {
        let (auth, own) = (self.auth.as_ref().map_err(String::clone)?, event.auth.as_ref().map_err(String::clone)?);
        // Also where nothing else of the event can be read: it restricts all routes of the API.
        if own.get("ResourcePolicy").is_some() {
            // It is for all methods that the path has so far. Source: SAM's translator.
            let known = self.api.routes.iter().chain(&self.events).filter(|known| known.path == route.path);
            let resource = |route| policies::resource_of(&self.api.stage, route);
            let resources: BTreeSet<String> = known.chain([&*route]).map(resource).collect();
            for statements in resources.iter().filter_map(|resource| own.statements(resource)) {
                self.api.restrict(statements);
            }
        }
        let name = match own.text("Authorizer")? {
            Some(name) => Some(name),
            None => auth.text("DefaultAuthorizer")?,
        };
        route.authorization = self.authorization(name.as_deref());
        route.scopes = match (own.texts("AuthorizationScopes")?, &name) {
            (Some(scopes), _) => scopes,
            (None, Some(name)) => auth.scopes_of(name)?,
            (None, None) => Vec::new(),
        };
        let needs_api_key = [own.truth("ApiKeyRequired")?, auth.truth("ApiKeyRequired")?];
        route.needs_api_key = needs_api_key.into_iter().flatten().next().unwrap_or_default();
        Ok(())
    }

    /// Lets routes from this one on need a key if the API says that all do. Source: SAM's translator.
    fn need_api_key(&mut self, from: usize) {
        // Without a readable `Auth`, all routes are closed in the end.
        let Ok(auth) = &self.auth else { return };
        let is_for_preflights = auth.truth("AddApiKeyRequiredToCorsPreflight") != Ok(Some(false));
        let is_needed = auth.truth("ApiKeyRequired");
        for route in self.api.routes[from..].iter_mut().filter(|route| is_for_preflights || route.method != "OPTIONS") {
            match &is_needed {
                Ok(is_needed) => route.needs_api_key |= is_needed.unwrap_or_default(),
                Err(reason) => route.authorization = HttpAuthorization::Unserved(reason.clone()),
            }
        }
    }

    /// Who may use a route that does not say it.
    fn default_authorization(&self) -> HttpAuthorization {
        let name = self.auth.as_ref().map_err(String::clone).and_then(|auth| auth.text("DefaultAuthorizer"));
        name.map_or_else(HttpAuthorization::Unserved, |name| self.authorization(name.as_deref()))
    }

    /// Who may use a route with an authorizer of this name.
    fn authorization(&self, name: Option<&str>) -> HttpAuthorization {
        let name = match name {
            None | Some("NONE") => return HttpAuthorization::None,
            Some("AWS_IAM") => return HttpAuthorization::Iam,
            Some(name) => name,
        };
        let auth = match &self.auth {
            Ok(auth) => auth,
            Err(reason) => return HttpAuthorization::Unserved(reason.clone()),
        };
        match (auth.authorizer(name), self.api.kind) {
            (Some(given), HttpApiKind::Http) => authorizers::of_sam_http(name, given, &self.api.stage_variables),
            (Some(given), HttpApiKind::Rest) => authorizers::of_sam_rest(name, given, &self.api.stage_variables),
            (None, _) => authorizers::unserved(name, "is not among those of its API"),
        }
    }

    /// Adds the routes of events, of which the last one with a key counts, also where the document has that key without
    /// an integration. Then adds the routes for preflight requests.
    fn finish(mut self) -> HttpApi {
        let mut keys = BTreeSet::new();
        let mut events: Vec<HttpRoute> = self.events.drain(..).rev().filter(|route| keys.insert(route.key())).collect();
        events.reverse();
        self.api.routes.retain(|known| !keys.contains(&known.key()));
        self.api.routes.append(&mut events);
        if let Some(cors) = &self.cors {
            let count = self.api.routes.len();
            cors::add_preflights(&mut self.api.routes, cors);
            let for_preflights = self.auth.as_ref().map(|auth| auth.truth("AddDefaultAuthorizerToCorsPreflight"));
            if for_preflights != Ok(Ok(Some(false))) {
                let authorization = self.default_authorization();
                self.api.routes[count..].iter_mut().for_each(|route| route.authorization = authorization.clone());
            }
            self.need_api_key(count);
        }
        if let Err(reason) = self.auth {
            let unserved = HttpAuthorization::Unserved(reason);
            self.api.routes.iter_mut().for_each(|route| route.authorization = unserved.clone());
        }
        self.api
    }
}

/// Reads the APIs in SAM's form.
pub(super) fn read(
    root: &YamlNode,
    resolver: &Resolver<'_>,
    resources: &Resources<'_>,
    events: Vec<HttpEvent>,
    found: &mut HttpApis,
) -> Result<(), TemplateError> {
    let mut apis: Vec<SamApi> = Vec::new();
    for (kind, of_type) in
        [(HttpApiKind::Http, "AWS::Serverless::HttpApi"), (HttpApiKind::Rest, "AWS::Serverless::Api")]
    {
        for resource in resources.of_type(of_type) {
            let mut api = HttpApi::new(&resource.logical_id, &resource.name, kind);
            api.throttles = if kind == HttpApiKind::Http { Throttles::read(resource)? } else { Throttles::default() };
            let property = |name: &str| resource.get(name).cloned();
            let auth = (resource.node("Auth"), resource.line);
            let mut read = SamApi::read(api, property, auth, |message| resource.error(message), &mut found.notes)?;
            if let Some(reason) = transformed(resource, "DefinitionBody") {
                read.leave_out(reason);
            }
            apis.push(read);
        }
    }
    for event in events {
        let implicit_id = resolver.api_id(implicit_name(event.kind));
        // It may be named by `Ref` or by its logical id. Source: SAM's translator.
        let named = event.api().unwrap_or_else(|| implicit_id.clone());
        let is_named = |api: &HttpApi| api.kind == event.kind && [&api.api_id, &api.name].contains(&&named);
        if let Some(api) = apis.iter_mut().find(|api| is_named(&api.api)) {
            api.add(&event);
        } else if [implicit_id.as_str(), implicit_name(event.kind)].contains(&named.as_str()) {
            let mut api = implicit(root, resolver, event.kind, &implicit_id, &mut found.notes)?;
            api.add(&event);
            apis.push(api);
        } else {
            let HttpEvent { name, function, .. } = &event;
            found.notes.push(format!(
                "{function} is not invoked by its event {name}: SAM adds routes to APIs in its own form, of the same \
                 template"
            ));
        }
    }
    found.apis.extend(apis.into_iter().map(SamApi::finish));
    Ok(())
}

/// The name of the API that SAM makes for events that name none.
pub(super) fn implicit_name(kind: HttpApiKind) -> &'static str {
    match kind {
        HttpApiKind::Http => "ServerlessHttpApi",
        HttpApiKind::Rest => "ServerlessRestApi",
    }
}

/// The API that SAM makes, whose properties are `Globals`.
fn implicit(
    root: &YamlNode,
    resolver: &Resolver<'_>,
    kind: HttpApiKind,
    id: &str,
    notes: &mut Vec<String>,
) -> Result<SamApi, TemplateError> {
    let section = if kind == HttpApiKind::Http { "HttpApi" } else { "Api" };
    let globals = root.get("Globals").and_then(|globals| globals.get(section));
    let line = globals.map_or(0, |globals| globals.line);
    let mut properties = BTreeMap::new();
    for (name, node) in globals.map(YamlNode::entries).unwrap_or_default() {
        properties.extend(resolver.read(node)?.map(|value| (name.clone(), value)));
    }
    let invalid = |message: String| TemplateError::at(line, format!("Globals: {section}: {message}"));
    let mut api = HttpApi::new(implicit_name(kind), id, kind);
    if kind == HttpApiKind::Http {
        let settings = Value::Object(properties.clone().into_iter().collect());
        api.throttles = Throttles::of_properties(&settings).map_err(&invalid)?;
    } else {
        api.stage = IMPLICIT_STAGE.to_owned();
    }
    // The stage of this API always has this name.
    properties.remove("StageName");
    let auth = (globals.and_then(|globals| globals.get("Auth")), line);
    SamApi::read(api, |name| properties.get(name).cloned(), auth, invalid, notes)
}

/// The route of an event, without authorization.
fn route_of(event: &HttpEvent) -> HttpRoute {
    let millis = event.properties.get("TimeoutInMillis");
    let (payload, timeout) = match event.kind {
        HttpApiKind::Http => {
            let version = event.text("PayloadFormatVersion");
            let payload = version.map_or(PayloadVersion::V2, |version| authorizers::payload(Some(&version)));
            (payload, http_integration_timeout(millis))
        }
        HttpApiKind::Rest => (PayloadVersion::V1, integration_timeout(millis)),
    };
    let backend = RouteBackend::Lambda { function: event.function.clone(), payload, timeout };
    HttpRoute::new(&event.method, &event.path, backend)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::template::{HttpAuthorization, HttpRoute, Template, TemplateInputs};

    const SOCKETS: &str = "Resources:\n  Ws: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
        RouteSelectionExpression: $request.body.a } }\n";

    fn parse(rest: &str) -> Template {
        Template::parse(&format!("{SOCKETS}{rest}"), &TemplateInputs::default()).expect("valid")
    }

    /// Route keys of the API with this name.
    fn keys(template: &Template, name: &str) -> Vec<String> {
        let api = template.http_apis.iter().find(|api| api.name == name).expect("an API");
        api.routes.iter().map(HttpRoute::key).collect()
    }

    #[test]
    fn an_event_is_for_every_request_if_it_says_neither_path_nor_method_and_only_of_an_http_api() {
        let read = |kind: &str, properties: &str| {
            let event = format!("E: {{ Type: {kind}, Properties: {{ {properties} }} }}");
            let function =
                format!("  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ {event} }} }} }}");
            Template::parse(&format!("{SOCKETS}{function}\n"), &TemplateInputs::default())
        };
        assert_eq!(keys(&read("HttpApi", "").expect("valid"), "ServerlessHttpApi"), ["$default"]);
        for (kind, properties, missing) in [
            ("HttpApi", "Path: /a", "Method"),
            ("HttpApi", "Method: get", "Path"),
            ("Api", "Path: /a", "Method"),
            ("Api", "", "Path"),
        ] {
            let error = read(kind, properties).expect_err(properties).to_string();
            assert_eq!(error, format!("line 3: F: the event E has no {missing}"));
        }
    }

    #[test]
    fn an_event_may_name_its_api_without_ref() {
        let template = parse(
            "  Own: { Type: AWS::Serverless::HttpApi }\n  Rest: { Type: AWS::Serverless::Api, Properties: { StageName: \
             v1 } }\n  F: { Type: AWS::Serverless::Function, Properties: { Events: { A: { Type: HttpApi, Properties: { \
             ApiId: Own, Path: /a, Method: get } }, B: { Type: Api, Properties: { RestApiId: Rest, Path: /b, Method: \
             get } }, C: { Type: Api, Properties: { RestApiId: !Ref ServerlessRestApi, Path: /c, Method: get } }, D: { \
             Type: Api, Properties: { RestApiId: ServerlessRestApi, Path: /d, Method: get } }, E: { Type: Api, \
             Properties: { RestApiId: Own, Path: /e, Method: get } } } } }\n",
        );
        assert_eq!(
            (keys(&template, "Own"), keys(&template, "Rest")),
            (vec!["GET /a".to_owned()], vec!["GET /b".into()])
        );
        assert_eq!(keys(&template, "ServerlessRestApi"), ["GET /c", "GET /d"]);
        let note = "F is not invoked by its event E: SAM adds routes to APIs in its own form, of the same template";
        assert_eq!(template.notes, [note]);
    }

    #[test]
    fn an_api_whose_routes_need_keys_needs_them_for_its_document_and_for_preflights() {
        let document = "{ paths: { /a: { get: { x-amazon-apigateway-integration: { type: mock } } } } }";
        for (auth, expected) in [
            ("{}", [("GET /a", false), ("OPTIONS /a", false)]),
            ("{ ApiKeyRequired: true }", [("GET /a", true), ("OPTIONS /a", true)]),
            (
                "{ ApiKeyRequired: true, AddApiKeyRequiredToCorsPreflight: false }",
                [("GET /a", true), ("OPTIONS /a", false)],
            ),
        ] {
            let template = parse(&format!(
                "  A: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1, Cors: \"'*'\", Auth: {auth}, \
                 DefinitionBody: {document} }} }}\n"
            ));
            let routes = template.http_apis[0].routes.iter().map(|route| (route.key(), route.needs_api_key));
            let expected = expected.map(|(key, needs_api_key)| (key.to_owned(), needs_api_key));
            assert_eq!(routes.collect::<Vec<_>>(), expected, "{auth}");
        }
        let template = parse(&format!(
            "  A: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1, Auth: {{ ApiKeyRequired: needed }}, \
             DefinitionBody: {document} }} }}\n"
        ));
        let authorization = &template.http_apis[0].routes[0].authorization;
        let HttpAuthorization::Unserved(reason) = authorization else { panic!("{authorization:?}") };
        assert!(reason.starts_with("line 3: Auth.ApiKeyRequired: expected true or false"), "{reason}");
    }

    #[test]
    fn events_are_added_to_open_api_documents_where_sam_does_it() {
        let read = |kind: &str, event: &str, rest: &str| {
            let document = "{ paths: { /doc: { get: { x-amazon-apigateway-integration: { type: aws_proxy, uri: \
                            'arn:aws:lambda:eu-central-1:1:function:gone' } } }, /e: { get: { summary: ours } } } }";
            let id = if event == "Api" { "RestApiId" } else { "ApiId" };
            let template = parse(&format!(
                "  A: {{ Type: 'AWS::Serverless::{kind}', Properties: {{ StageName: v1, DefinitionBody: {document} \
                 {rest} }} }}\n  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: {event}, \
                 Properties: {{ {id}: !Ref A, Path: /e, Method: get }} }} }} }} }}\n"
            ));
            let functions: Vec<String> = template
                .http_apis
                .iter()
                .flat_map(|api| &api.routes)
                .filter(|route| route.unserved().is_none())
                .map(HttpRoute::key)
                .collect();
            (keys(&template, "A"), functions)
        };
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let (both, served) = (owned(&["GET /doc", "GET /e"]), owned(&["GET /e"]));
        assert_eq!(read("HttpApi", "HttpApi", ""), (both.clone(), served.clone()));
        assert_eq!(read("Api", "Api", ", MergeDefinitions: true"), (both.clone(), served));
        assert_eq!(read("Api", "Api", ""), (both, Vec::new()), "the document stays as it is");
    }

    #[test]
    fn of_events_with_one_key_the_last_counts_and_many_events_are_read_in_time() {
        let read = |count: usize, last: &str| {
            let event = |index| format!("E{index}: {{ Type: HttpApi, Properties: {{ Path: /{index}, Method: get }} }}");
            let events: Vec<String> = (0..count).map(event).collect();
            let function = |id: &str, events: &str| {
                format!("  {id}: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ {events} }} }} }}\n")
            };
            parse(&format!("{}{}", function("F", &events.join(", ")), function("G", last)))
        };
        let template = read(3, "E: { Type: HttpApi, Properties: { Path: /1, Method: GET } }");
        assert_eq!(keys(&template, "ServerlessHttpApi"), ["GET /0", "GET /2", "GET /1"]);
        assert_eq!(template.http_apis[0].routes[2].functions().collect::<Vec<_>>(), ["G"]);
        let began = Instant::now();
        assert_eq!(keys(&read(20_000, ""), "ServerlessHttpApi").len(), 20_000);
        // Two seconds on a busy machine. If each event were compared with all before it, it would take minutes.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn an_included_document_is_named() {
        let template = parse(
            "  A: { Type: AWS::Serverless::Api, Properties: { StageName: v1, DefinitionBody: { Fn::Transform: { Name: \
             AWS::Include, Parameters: { Location: api.yaml } } } } }\n",
        );
        let reason = template.http_apis[0].unserved.as_deref().expect("a reason");
        assert!(reason.contains("Fn::Transform in DefinitionBody"), "{reason}");
        assert!(template.notes.iter().any(|note| note.starts_with("the REST API A is not served as a whole")));
    }
}
