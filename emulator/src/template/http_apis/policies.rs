//! Resource policies of REST APIs: those of documents and properties, and what SAM makes of its lists.
//!
//! Source: SAM's specification (`ApiResourcePolicy`) and translator.

use serde_json::{Map, Value, json};

use super::{
    model::{ANY, HttpApi, HttpRoute},
    paths::parameter,
};
use crate::{policy, template::scalar};

/// Every resource of an API, in the short form.
pub(super) const EVERYTHING: &str = "execute-api:/*";

/// Lists of SAM's `ResourcePolicy`, without the word for their effect.
const LISTS: [&str; 5] = ["AwsAccount", "IntrinsicVpc", "IntrinsicVpce", "IpRange", "SourceVpc"];

/// The words for what is allowed, and for what is denied. SAM has no others, and does not read a list with another one.
const EFFECTS: [&str; 2] = ["Whitelist", "Blacklist"];

/// The key of SAM's `ResourcePolicy` with statements.
const CUSTOM: &str = "CustomStatements";

/// Adds the statements of a policy. `place` is where it stands.
pub(super) fn add(api: &mut HttpApi, policy: &Value, place: &str) {
    let policy = scalar::policy(policy);
    let statements = policy::statements(&policy).map(<[Value]>::to_vec);
    api.restrict(statements.map_err(|error| format!("{place}: {error}")));
}

/// The resource of a route, in the short form. Parameters are any text, and a slash at the end does not count.
pub(super) fn resource_of(stage: &str, route: &HttpRoute) -> String {
    let method = if route.method == ANY { "*" } else { &route.method };
    let path = route.path.trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let segments = path.split('/').map(|segment| if parameter(segment).is_some() { "*" } else { segment });
    format!("execute-api:/{stage}/{method}{}", segments.collect::<Vec<_>>().join("/"))
}

/// The statements that SAM makes of `ResourcePolicy` for a resource. A value that stands for a list is a list of one.
/// `place` says where a key stands.
///
/// # Errors
///
/// If anything cannot be read: without it, the API would be open to whom it keeps out.
pub(super) fn of_sam(
    settings: &Map<String, Value>,
    resource: &str,
    place: impl Fn(&str) -> String,
) -> Result<Vec<Value>, String> {
    let is_list = |key: &str| {
        let mut names = EFFECTS.iter().filter_map(|word| key.strip_suffix(word));
        names.any(|name| LISTS.contains(&name))
    };
    if let Some(unknown) = settings.keys().find(|key| *key != CUSTOM && !is_list(key)) {
        return Err(format!("{}: unknown key: write one such as IpRangeWhitelist, or {CUSTOM}", place(unknown)));
    }
    let lists = |name: &str, effect: usize| {
        let key = format!("{name}{}", EFFECTS[effect]);
        let texts = scalar::all_texts(settings.get(&key));
        texts.ok_or_else(|| format!("{}: expected a text or a list of texts", place(&key)))
    };
    let (allowed, denied) = (|name: &str| lists(name, 0), |name: &str| lists(name, 1));
    let mut statements = Vec::new();
    for (effect, accounts) in [("Allow", allowed("AwsAccount")?), ("Deny", denied("AwsAccount")?)] {
        statements.extend((!accounts.is_empty()).then(|| statement(effect, json!({"AWS": accounts}), resource)));
    }
    let mut conditions = Vec::new();
    for (operator, ranges) in [("NotIpAddress", allowed("IpRange")?), ("IpAddress", denied("IpRange")?)] {
        conditions.extend((!ranges.is_empty()).then(|| json!({operator: {"aws:SourceIp": ranges}})));
    }
    for (operator, effect) in [("StringNotEquals", 0), ("StringEquals", 1)] {
        let ids = lists("SourceVpc", effect)?;
        let (endpoints, vpcs): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id.starts_with("vpce-"));
        let endpoints = [endpoints, lists("IntrinsicVpce", effect)?].concat();
        let vpcs = [vpcs, lists("IntrinsicVpc", effect)?].concat();
        let keys = [("aws:SourceVpc", vpcs), ("aws:SourceVpce", endpoints)].into_iter();
        let keys = keys.filter(|(_, ids)| !ids.is_empty()).map(|(key, ids)| (key.to_owned(), json!(ids)));
        let keys: Map<String, Value> = keys.collect();
        conditions.extend((!keys.is_empty()).then(|| json!({operator: keys})));
    }
    for condition in conditions {
        statements.push(statement("Allow", json!("*"), resource));
        let mut denial = statement("Deny", json!("*"), resource);
        denial["Condition"] = condition;
        statements.push(denial);
    }
    match settings.get(CUSTOM) {
        None | Some(Value::Null) => {}
        Some(Value::Array(custom)) => statements.extend(custom.iter().cloned()),
        Some(one @ Value::Object(_)) => statements.push(one.clone()),
        Some(_) => return Err(format!("{}: expected a statement or a list of statements", place(CUSTOM))),
    }
    Ok(statements)
}

fn statement(effect: &str, principal: Value, resource: &str) -> Value {
    json!({"Effect": effect, "Principal": principal, "Action": "execute-api:Invoke", "Resource": resource})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Template, TemplateInputs};

    fn read(rest: &str) -> Vec<HttpApi> {
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n{rest}"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis
    }

    #[test]
    fn policies_of_properties_and_documents_are_read() {
        let statement = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
        let policy = "{ Statement: { Effect: Deny, Principal: '*', Action: '*', Resource: '*' } }";
        let apis = read(&format!(
            "  A: {{ Type: AWS::ApiGateway::RestApi, Properties: {{ Policy: {policy} }} }}\n  B: {{ Type: \
             AWS::ApiGateway::RestApi, Properties: {{ Body: {{ paths: {{}}, x-amazon-apigateway-policy: {policy} }} }} \
             }}\n  C: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1, DefinitionBody: {{ paths: {{}}, \
             x-amazon-apigateway-policy: {policy} }} }} }}\n  D: {{ Type: AWS::ApiGateway::RestApi, Properties: {{ \
             Policy: 'no JSON' }} }}\n  E: {{ Type: AWS::ApiGateway::RestApi }}\n  G: {{ Type: \
             AWS::ApiGateway::RestApi, Properties: {{ Policy: {{ Version: 2020-01-01, Statement: [] }} }} }}\n  H: {{ \
             Type: AWS::ApiGateway::RestApi, Properties: {{ Policy: {{ Statement: [{{ Fn::Transform: {{ Name: x }} }}] \
             }} }} }}\n"
        ));
        let policies: Vec<_> = apis.iter().map(|api| (api.name.as_str(), api.policy.clone())).collect();
        let denied = Some(Ok(vec![statement]));
        let unread = |text: &str| Some(Err(text.to_owned()));
        let expected = [
            ("A", denied.clone()),
            ("B", denied.clone()),
            (
                "D",
                unread("line 6: Policy: expected an object with a Statement, which is an object or a list of objects"),
            ),
            ("E", None),
            ("G", unread("line 8: Policy: it has the Version \"2020-01-01\": write 2012-10-17")),
            ("H", unread("line 9: Policy: a transform adds a part of it, which the emulator does not read")),
            ("C", denied),
        ];
        assert_eq!(policies, expected);
    }

    #[test]
    fn lists_of_sam_become_statements_of_the_api_or_of_one_route() {
        let policy = "{ IpRangeWhitelist: [10.0.0.0/8], SourceVpcBlacklist: [vpc-1, vpce-2], AwsAccountWhitelist: \
                      ['1'], CustomStatements: { Effect: Allow } }";
        let apis = read(&format!(
            "  A: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1, Auth: {{ ResourcePolicy: {policy} }} }} \
             }}\n  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: Api, Properties: {{ \
             Path: '/a/{{id}}/', Method: any, Auth: {{ ResourcePolicy: {{ IpRangeBlacklist: [192.0.2.1] }} }} }} }} }} \
             }} }}\n"
        ));
        let allowed = |resource: &str| statement("Allow", json!("*"), resource);
        let denied = |resource: &str, condition: Value| {
            let mut denial = statement("Deny", json!("*"), resource);
            denial["Condition"] = condition;
            denial
        };
        let vpcs = json!({"StringEquals": {"aws:SourceVpc": ["vpc-1"], "aws:SourceVpce": ["vpce-2"]}});
        assert_eq!(
            apis[0].policy,
            Some(Ok(vec![
                statement("Allow", json!({"AWS": ["1"]}), EVERYTHING),
                allowed(EVERYTHING),
                denied(EVERYTHING, json!({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}})),
                allowed(EVERYTHING),
                denied(EVERYTHING, vpcs),
                json!({"Effect": "Allow"}),
            ]))
        );
        let route = "execute-api:/Prod/*/a/*";
        assert_eq!(
            apis[1].policy,
            Some(Ok(vec![allowed(route), denied(route, json!({"IpAddress": {"aws:SourceIp": ["192.0.2.1"]}}))]))
        );
    }

    /// The policy of an API with this `ResourcePolicy`.
    fn policy_of(settings: &str) -> Option<Result<Vec<Value>, String>> {
        let api = "A: { Type: AWS::Serverless::Api, Properties: { StageName: v1, Auth: { ResourcePolicy:";
        read(&format!("  {api}\n    {settings} }} }} }}\n")).remove(0).policy
    }

    #[test]
    fn every_list_of_sam_restricts_and_a_value_may_stand_for_a_list_of_one() {
        for (settings, statements, condition) in [
            ("{ IpRangeWhitelist: 10.0.0.0/8 }", 2, json!({"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8"]}})),
            ("{ IpRangeBlacklist: !Select [0, [a, b]] }", 2, json!({"IpAddress": {"aws:SourceIp": ["a"]}})),
            ("{ SourceVpcWhitelist: vpce-1 }", 2, json!({"StringNotEquals": {"aws:SourceVpce": ["vpce-1"]}})),
            ("{ IntrinsicVpcWhitelist: [vpc-1] }", 2, json!({"StringNotEquals": {"aws:SourceVpc": ["vpc-1"]}})),
            ("{ IntrinsicVpcBlacklist: vpc-1 }", 2, json!({"StringEquals": {"aws:SourceVpc": ["vpc-1"]}})),
            ("{ IntrinsicVpceWhitelist: [x] }", 2, json!({"StringNotEquals": {"aws:SourceVpce": ["x"]}})),
            ("{ IntrinsicVpceBlacklist: [x] }", 2, json!({"StringEquals": {"aws:SourceVpce": ["x"]}})),
            ("{ AwsAccountWhitelist: 1 }", 1, Value::Null),
        ] {
            let policy = policy_of(settings).expect(settings).expect(settings);
            assert_eq!((policy.len(), &policy[statements - 1]["Condition"]), (statements, &condition), "{settings}");
        }
        assert_eq!(policy_of("{ IpRangeWhitelist: [] }"), None);
    }

    #[test]
    fn what_cannot_be_read_of_sam_s_policy_is_named_with_its_line() {
        for (settings, reason) in [
            (
                "{ IpRangeWhitelists: [10.0.0.0/8] }",
                "line 4: Auth.ResourcePolicy.IpRangeWhitelists: unknown key: write",
            ),
            ("{ IpRangeAllowlist: [10.0.0.0/8] }", "line 4: Auth.ResourcePolicy.IpRangeAllowlist: unknown key: write"),
            (
                "{ IpRangeWhitelist: { a: b } }",
                "line 4: Auth.ResourcePolicy.IpRangeWhitelist: expected a text or a list",
            ),
            (
                "{\n      IpRangeBlacklist: [[a]] }",
                "line 5: Auth.ResourcePolicy.IpRangeBlacklist: expected a text or a list",
            ),
            (
                "{ CustomStatements: all }",
                "line 4: Auth.ResourcePolicy.CustomStatements: expected a statement or a list",
            ),
            ("open", "line 4: Auth.ResourcePolicy: expected an object"),
        ] {
            let policy = policy_of(settings).expect(settings).expect_err(settings);
            assert!(policy.starts_with(reason), "{settings}: {policy}");
        }
    }

    #[test]
    fn the_policy_of_an_event_is_for_the_methods_of_its_path_so_far_and_closes_the_api_if_it_cannot_be_read() {
        let policy = |auth: &str| {
            let event = |method: &str, auth: &str| {
                format!(
                    "{{ Type: Api, Properties: {{ RestApiId: !Ref A, Path: /a, Method: {method}, Auth: {auth} }} }}"
                )
            };
            let (before, own, later) = (event("get", "{}"), event("post", auth), event("put", "{}"));
            let mut apis = read(&format!(
                "  A: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1 }} }}\n  F: {{ Type: \
                 AWS::Serverless::Function, Properties: {{ Events: {{ E: {before}, G: {own}, H: {later} }} }} }}\n"
            ));
            apis.remove(0).policy.expect(auth)
        };
        let reason = policy("{ ResourcePolicy: { IpRange: a } }").expect_err("unreadable");
        assert!(reason.starts_with("line 4: Auth.ResourcePolicy.IpRange: unknown key"), "{reason}");
        let range = "ResourcePolicy: { IpRangeWhitelist: 10.0.0.0/8 }";
        for auth in [format!("{{ {range} }}"), format!("{{ {range}, AuthorizationScopes: {{ a: b }} }}")] {
            let statements = policy(&auth).expect(&auth);
            let found: Vec<_> = statements.iter().map(|one| (&one["Effect"], &one["Resource"])).collect();
            let [allow, deny, get, post] =
                ["Allow", "Deny", "execute-api:/v1/GET/a", "execute-api:/v1/POST/a"].map(Value::from);
            assert_eq!(found, [(&allow, &get), (&deny, &get), (&allow, &post), (&deny, &post)], "{auth}");
        }
    }
}
