//! `Auth` of APIs and events in SAM's form. What cannot be read of it closes the API or the route: left out, it would
//! let in whom it keeps out.
//!
//! Source: SAM's specification (`ApiAuth`, `HttpApiAuth`, `ApiFunctionAuth`, `HttpApiFunctionAuth`) and translator.

use serde_json::{Map, Value};

use super::{model::HttpApiKind, policies};
use crate::template::{scalar, yaml::YamlNode};

/// Keys of an API.
pub(super) const fn keys_of_api(kind: HttpApiKind) -> &'static [&'static str] {
    match kind {
        HttpApiKind::Http => &["Authorizers", "DefaultAuthorizer", "EnableIamAuthorizer"],
        HttpApiKind::Rest => &[
            "AddApiKeyRequiredToCorsPreflight",
            "AddDefaultAuthorizerToCorsPreflight",
            "ApiKeyRequired",
            "Authorizers",
            "DefaultAuthorizer",
            "InvokeRole",
            "ResourcePolicy",
            "UsagePlan",
        ],
    }
}

/// Keys of an event.
pub(super) const fn keys_of_event(kind: HttpApiKind) -> &'static [&'static str] {
    match kind {
        HttpApiKind::Http => &["AuthorizationScopes", "Authorizer", "InvokeRole"],
        HttpApiKind::Rest => {
            &["ApiKeyRequired", "AuthorizationScopes", "Authorizer", "InvokeRole", "OverrideApiAuth", "ResourcePolicy"]
        }
    }
}

/// `Auth` with the lines of its keys.
#[derive(Clone, Debug, Default)]
pub(in crate::template) struct SamAuth {
    settings: Map<String, Value>,
    node: Option<YamlNode>,
    line: usize,
}

impl SamAuth {
    /// Reads it. `line` is that of what it belongs to.
    ///
    /// # Errors
    ///
    /// If it is not an object with these keys, or a transform adds a part of it.
    pub(super) fn read(
        value: Option<&Value>,
        node: Option<&YamlNode>,
        line: usize,
        keys: &[&str],
    ) -> Result<Self, String> {
        let mut auth = Self { settings: Map::new(), node: node.cloned(), line };
        if let Some(line) = node.and_then(YamlNode::unread_line) {
            return Err(format!("line {line}: Auth: a transform adds a part of it, which the emulator does not read"));
        }
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(settings)) => auth.settings = settings.clone(),
            Some(_) => return Err(format!("{}: expected an object", auth.place(&[]))),
        }
        match auth.settings.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(format!("{}: unknown key: write one of {}", auth.place(&[key]), keys.join(", "))),
            None => Ok(auth),
        }
    }

    /// Where a key stands, or what is nearest to it.
    fn place(&self, keys: &[&str]) -> String {
        let (mut node, mut line) = (self.node.as_ref(), self.line);
        for key in std::iter::once(None).chain(keys.iter().map(Some)) {
            node = node.and_then(|node| key.map_or(Some(node), |key| node.get(key)));
            line = node.map_or(line, |node| node.line);
        }
        format!("line {line}: {}", [&["Auth"], keys].concat().join("."))
    }

    /// What a key has. Null is nothing.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.settings.get(key).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        let text =
            |value: &Value| scalar::as_text(value).ok_or_else(|| format!("{}: expected a text", self.place(&[key])));
        self.get(key).map(text).transpose()
    }

    /// Texts, or one that stands for a list.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let wrong = || format!("{}: expected a text or a list of texts", self.place(&[key]));
        self.get(key).map(|list| scalar::all_texts(Some(list)).ok_or_else(wrong)).transpose()
    }

    /// A truth value. The text `false`, such as that of a parameter, is true: SAM only asks whether a text is empty.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, String> {
        let wrong = || format!("{}: expected true or false", self.place(&[key]));
        let read = |value: &Value| match value.as_str() {
            Some("false") => Some(true),
            _ => scalar::truth(Some(value)),
        };
        self.get(key).map(|value| read(value).ok_or_else(wrong)).transpose()
    }

    /// An authorizer of an API, and its scopes.
    pub(super) fn authorizer(&self, name: &str) -> Option<&Value> {
        self.get("Authorizers")?.get(name)
    }

    /// The scopes of an authorizer of an API.
    pub(super) fn scopes_of(&self, name: &str) -> Result<Vec<String>, String> {
        let scopes = self.authorizer(name).and_then(|authorizer| authorizer.get("AuthorizationScopes"));
        let place = || self.place(&["Authorizers", name, "AuthorizationScopes"]);
        scalar::all_texts(scopes).ok_or_else(|| format!("{}: expected a text or a list of texts", place()))
    }

    /// The statements of `ResourcePolicy` for a resource, if there are any.
    pub(super) fn statements(&self, resource: &str) -> Option<Result<Vec<Value>, String>> {
        const KEY: &str = "ResourcePolicy";
        let statements = match self.get(KEY)? {
            Value::Object(settings) => policies::of_sam(settings, resource, |key| self.place(&[KEY, key])),
            _ => Err(format!("{}: expected an object", self.place(&[KEY]))),
        };
        let is_empty = statements.as_ref().is_ok_and(Vec::is_empty);
        (!is_empty).then_some(statements)
    }
}

#[cfg(test)]
mod tests {
    use crate::template::{HttpApi, HttpAuthorization, HttpRoute, Template, TemplateInputs};

    fn apis(resources: &str) -> Vec<HttpApi> {
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n{resources}"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis
    }

    /// The route of an event of an API, each with this `Auth`.
    fn route(kind: &str, of_api: &str, of_event: &str) -> HttpRoute {
        let (of_sam, id) = if kind == "Api" { ("Api", "RestApiId") } else { ("HttpApi", "ApiId") };
        let event = format!("{{ {id}: !Ref A, Path: /a, Method: get, Auth: {of_event} }}");
        let mut all = apis(&format!(
            "  A: {{ Type: 'AWS::Serverless::{of_sam}', Properties: {{ StageName: v1, Auth: {of_api} }} }}\n  F: {{ \
             Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: {kind}, Properties: {event} }} }} \
             }} }}\n"
        ));
        all.remove(0).routes.remove(0)
    }

    #[test]
    fn what_cannot_be_read_of_auth_closes_the_routes_and_is_named_with_its_line() {
        let (scopes, listed) = ("AuthorizationScopes: { a: b }", "expected a text or a list of texts");
        let pool = format!("Authorizers: {{ P: {{ UserPoolArn: x, {scopes} }} }}, DefaultAuthorizer: P");
        for (kind, of_api, of_event, reason) in [
            ("Api", "{ DefaultAuthoriser: P }", "{}", "line 3: Auth.DefaultAuthoriser: unknown key: write one of"),
            ("HttpApi", "{ ApiKeyRequired: true }", "{}", "line 3: Auth.ApiKeyRequired: unknown key: write one of"),
            ("Api", "AWS_IAM", "{}", "line 3: Auth: expected an object"),
            ("Api", "{ Fn::Transform: { Name: x } }", "{}", "line 3: Auth: a transform adds a part of it"),
            ("Api", "{ DefaultAuthorizer: [P] }", "{}", "line 3: Auth.DefaultAuthorizer: expected a text"),
            ("Api", "{ DefaultAuthorizer: P }", "{}", "its authorizer P is not among those of its API"),
            ("Api", "{ ApiKeyRequired: needed }", "{}", "line 3: Auth.ApiKeyRequired: expected true or false"),
            (
                "Api",
                &format!("{{ {pool} }}"),
                "{}",
                &format!("line 3: Auth.Authorizers.P.AuthorizationScopes: {listed}"),
            ),
            ("Api", "{}", "{ Authoriser: P }", "line 4: Auth.Authoriser: unknown key: write one of"),
            ("HttpApi", "{}", "{ ResourcePolicy: {} }", "line 4: Auth.ResourcePolicy: unknown key: write one of"),
            ("Api", "{}", "[P]", "line 4: Auth: expected an object"),
            ("Api", "{}", "{ Fn::Transform: { Name: x } }", "line 4: Auth: a transform adds a part of it"),
            ("Api", "{}", "{ Authorizer: [P] }", "line 4: Auth.Authorizer: expected a text"),
            ("HttpApi", "{}", &format!("{{ {scopes} }}"), &format!("line 4: Auth.AuthorizationScopes: {listed}")),
            ("Api", "{}", "{ ApiKeyRequired: 1 }", "line 4: Auth.ApiKeyRequired: expected true or false"),
        ] {
            let route = route(kind, of_api, of_event);
            let unserved = route.unserved().unwrap_or_else(|| panic!("{of_api} {of_event}: {route:?}"));
            assert!(unserved.starts_with(reason), "{of_api} {of_event}: {unserved}");
        }
    }

    #[test]
    fn what_stands_for_a_list_or_a_truth_value_counts_and_null_is_nothing() {
        let api = "{ DefaultAuthorizer: AWS_IAM, ApiKeyRequired: yes }";
        let read = route("Api", api, "{ Authorizer: null, AuthorizationScopes: one }");
        assert!(matches!(read.authorization, HttpAuthorization::Iam), "{read:?}");
        assert_eq!((read.scopes, read.needs_api_key), (vec!["one".to_owned()], true));
        let read = route("Api", api, "{ Authorizer: NONE, ApiKeyRequired: off }");
        assert!(matches!(read.authorization, HttpAuthorization::None) && !read.needs_api_key, "{read:?}");
    }

    #[test]
    fn the_text_false_asks_for_a_key_as_in_sam_and_the_value_does_not() {
        for (value, needs_api_key) in [("'false'", true), ("false", false), ("'true'", true)] {
            let of_api = format!("{{ ApiKeyRequired: {value} }}");
            assert_eq!(route("Api", &of_api, "{}").needs_api_key, needs_api_key, "{value}");
            let of_event = route("Api", "{ ApiKeyRequired: true }", &of_api);
            assert_eq!(of_event.needs_api_key, needs_api_key, "{value} of an event");
        }
    }

    #[test]
    fn routes_of_a_document_are_closed_with_their_api() {
        let document = "{ paths: { /a: { get: { x-amazon-apigateway-integration: { type: mock } } } } }";
        let closed = apis(&format!(
            "  A: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1, Auth: {{ Default: P }}, DefinitionBody: \
             {document} }} }}\n"
        ));
        let authorization = &closed[0].routes[0].authorization;
        let HttpAuthorization::Unserved(reason) = authorization else { panic!("{authorization:?}") };
        assert!(reason.starts_with("line 3: Auth.Default: unknown key"), "{reason}");
    }
}
