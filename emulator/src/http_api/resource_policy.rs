//! Resource policies of REST APIs. Clients here have no VPC, and the emulator does not know who signed a request: a
//! policy that depends on what is unknown lets nobody in.
//!
//! Source: API Gateway developer guide, "How API Gateway resource policies affect authorization workflow" and "AWS
//! condition keys that can be used in API Gateway resource policies"; IAM user guide, "IAM JSON policy elements:
//! Condition operators".

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::{
    aws::arn,
    policy::{Decision, PolicyError, Spelling, decide_where},
    template::{HttpApi, HttpAuthorization, is_within},
};

/// What a policy is asked about.
const ACTION: &str = "execute-api:Invoke";

/// The address of a client on this machine.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Kinds of principals.
const PRINCIPALS: [&str; 4] = ["AWS", "CanonicalUser", "Federated", "Service"];

/// Keys of a condition that requests from outside a VPC do not have.
const OF_VPCS: [&str; 3] = ["aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip"];

/// The key of a condition on TLS, in lower case.
const SECURE_TRANSPORT: &str = "aws:securetransport";

/// The statements of an API's policy with whole ARNs, all of which can be evaluated.
#[derive(Clone, Debug)]
pub(super) struct ResourcePolicy {
    statements: Vec<Value>,
    /// Whether requests of some routes are signed.
    has_signed_routes: bool,
}

impl ResourcePolicy {
    /// Reads the policy of an API, if it has one.
    ///
    /// # Errors
    ///
    /// If it cannot be evaluated here, whatever a request is.
    pub(super) fn of(api: &HttpApi) -> Option<Result<Self, PolicyError>> {
        let mut statements = match api.policy.clone()? {
            Ok(statements) => statements,
            Err(reason) => return Some(Err(PolicyError::Unread(reason))),
        };
        let whole = |resource: &mut Value| {
            if let Some(rest) = resource.as_str().and_then(|resource| resource.strip_prefix("execute-api:/")) {
                *resource = Value::from(arn("execute-api", &format!("{}/{rest}", api.api_id)));
            }
        };
        for statement in &mut statements {
            for element in ["Resource", "NotResource"] {
                match statement.get_mut(element) {
                    Some(Value::Array(several)) => several.iter_mut().for_each(whole),
                    Some(one) => whole(one),
                    None => {}
                }
            }
        }
        let has_signed_routes = api.routes.iter().any(|route| matches!(route.authorization, HttpAuthorization::Iam));
        let policy = Self { statements, has_signed_routes };
        Some(policy.check().map(|()| policy))
    }

    /// Evaluates every statement, also those that are for few resources. What is wrong with one does not depend on the
    /// request.
    fn check(&self) -> Result<(), PolicyError> {
        decide_where(&self.statements, ACTION, ("", Spelling::Written), |_, _| Ok(true))?;
        for (index, statement) in self.statements.iter().enumerate() {
            self.applies(index + 1, statement, HERE)?;
        }
        Ok(())
    }

    /// Decides about a request for a resource. It has to be allowed as the client wrote it and in its normal form.
    pub(super) fn decide(&self, resource: &str, client: IpAddr) -> Decision {
        let applies = |number: usize, statement: &Value| self.applies(number, statement, client);
        let decisions = [Spelling::Written, Spelling::Normal].map(|spelling| {
            // The check has found all errors. One that it missed lets nobody in.
            decide_where(&self.statements, ACTION, (resource, spelling), applies).unwrap_or(Decision::Denied)
        });
        match decisions {
            [Decision::Allowed, Decision::Allowed] => Decision::Allowed,
            [Decision::Denied, _] | [_, Decision::Denied] => Decision::Denied,
            _ => Decision::NotAllowed,
        }
    }

    /// Whether it depends on where a client is.
    fn has_places(&self) -> bool {
        let conditions = self.statements.iter().filter_map(|statement| statement["Condition"].as_object());
        let mut keys = conditions.flat_map(|operators| operators.values()).filter_map(Value::as_object).flatten();
        keys.any(|(key, _)| !key.eq_ignore_ascii_case(SECURE_TRANSPORT))
    }

    fn applies(&self, number: usize, statement: &Value, client: IpAddr) -> Result<bool, PolicyError> {
        if statement.get("NotPrincipal").is_some() {
            return Err(PolicyError::Principal(number));
        }
        let is_for_all = is_for_all(&statement["Principal"]).ok_or(PolicyError::PrincipalForm(number))?;
        if !is_for_all && self.has_signed_routes {
            return Err(PolicyError::Principal(number));
        }
        for element in ["Resource", "NotResource"] {
            if let Some(variable) = listed(&statement[element]).iter().find(|resource| has_variable(resource)) {
                return Err(PolicyError::Variable(number, variable.to_string()));
            }
        }
        let operators = match statement.get("Condition") {
            None => None,
            Some(condition) => Some(condition.as_object().ok_or(PolicyError::ConditionForm(number))?),
        };
        let mut holds = true;
        for (operator, keys) in operators.into_iter().flatten() {
            let unknown = |key: &str| PolicyError::UnknownCondition(number, format!("{operator} {key}"));
            let keys = keys.as_object().filter(|keys| !keys.is_empty());
            for (key, values) in keys.ok_or_else(|| unknown(""))? {
                holds &= is_met(operator, key, values, client).ok_or_else(|| unknown(key))?;
            }
        }
        Ok(is_for_all && holds)
    }
}

/// Whether a principal is everybody. `None` if it is none.
fn is_for_all(principal: &Value) -> Option<bool> {
    let Value::Object(kinds) = principal else { return (principal == "*").then_some(true) };
    let is_named = |name: &Value| name.is_string() || name.is_number();
    let is_kind = |(kind, names): (&String, &Value)| {
        PRINCIPALS.contains(&kind.as_str()) && !listed(names).is_empty() && listed(names).iter().all(is_named)
    };
    let is_well_formed = !kinds.is_empty() && kinds.iter().all(is_kind);
    is_well_formed.then(|| kinds.get("AWS").is_some_and(|names| listed(names).iter().any(|name| name == "*")))
}

/// The values of a list, or a value that stands for a list of one.
fn listed(values: &Value) -> &[Value] {
    match values {
        Value::Array(several) => several,
        one => std::slice::from_ref(one),
    }
}

fn has_variable(resource: &Value) -> bool {
    resource.as_str().is_some_and(|resource| resource.contains("${"))
}

/// Whether a client meets a condition. `None` if that is not known here.
fn is_met(operator: &str, key: &str, values: &Value, client: IpAddr) -> Option<bool> {
    let (operator, if_exists) =
        operator.strip_suffix("IfExists").map_or((operator, false), |operator| (operator, true));
    let key = key.to_ascii_lowercase();
    let values = listed(values);
    if values.is_empty() {
        return None;
    }
    let is_of_vpc = OF_VPCS.contains(&key.as_str());
    match operator {
        "Null" if is_of_vpc || key == "aws:sourceip" => {
            let asks_for_none: Vec<bool> = values.iter().map(truth).collect::<Option<_>>()?;
            Some(asks_for_none.contains(&is_of_vpc))
        }
        // The service has TLS only.
        "Bool" if key == SECURE_TRANSPORT => {
            let wanted: Vec<bool> = values.iter().map(truth).collect::<Option<_>>()?;
            Some(wanted.contains(&true))
        }
        "IpAddress" | "NotIpAddress" if key == "aws:sourceip" => {
            let mut is_in = false;
            for range in values {
                is_in |= contains(range.as_str()?, client)?;
            }
            Some(is_in == (operator == "IpAddress"))
        }
        // What is not there equals nothing.
        "IpAddress" | "StringEquals" | "StringEqualsIgnoreCase" | "StringLike" if is_of_vpc => Some(if_exists),
        "NotIpAddress" | "StringNotEquals" | "StringNotEqualsIgnoreCase" | "StringNotLike" if is_of_vpc => Some(true),
        _ => None,
    }
}

fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// Whether a range, such as `192.0.2.0/24`, or an address is that of a client. `None` if it is neither.
fn contains(range: &str, client: IpAddr) -> Option<bool> {
    let (network, bits) = range.split_once('/').map_or((range, None), |(network, bits)| (network, Some(bits)));
    let network: IpAddr = network.parse().ok()?;
    let most = if network.is_ipv4() { u32::BITS } else { u128::BITS };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
    Some(is_within(client.to_canonical(), network, bits))
}

/// Notes on the policies of APIs: those that cannot be evaluated, and those that depend on where clients are.
pub(crate) fn policy_notes(apis: &[HttpApi]) -> Vec<String> {
    let note = |api: &HttpApi| {
        let (kind, name) = (api.kind.name(), &api.name);
        match ResourcePolicy::of(api)? {
            Err(error) => {
                Some(format!("the {kind} {name} is not served: its resource policy cannot be evaluated, {error}"))
            }
            Ok(policy) if policy.has_places() => Some(format!(
                "the resource policy of {name} depends on where clients are: here they have the address that the \
                 emulator sees, such as {HERE}, and no VPC"
            )),
            Ok(_) => None,
        }
    };
    apis.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::{Template, TemplateInputs};

    /// A REST API with these statements, whose route may be for signed requests.
    fn api(statements: Value, signed: bool) -> HttpApi {
        let policy = json!({"Statement": statements});
        let authorization = if signed { "AWS_IAM" } else { "NONE" };
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n  Shop:\n    Type: AWS::ApiGateway::RestApi\n    \
             Properties: {{ Policy: {policy} }}\n  Get:\n    Type: AWS::ApiGateway::Method\n    Properties: {{ \
             RestApiId: !Ref Shop, ResourceId: !GetAtt Shop.RootResourceId, HttpMethod: GET, AuthorizationType: \
             {authorization} }}\n"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0)
    }

    fn decided(statements: Value) -> Result<Decision, PolicyError> {
        let api = api(statements, false);
        let resource = arn("execute-api", &format!("{}/prod/GET/a", api.api_id));
        let policy = ResourcePolicy::of(&api).expect("a policy");
        policy.map(|policy| policy.decide(&resource, IpAddr::from([192, 0, 2, 7])))
    }

    /// A statement for everybody with other elements.
    fn statement(effect: &str, others: Value) -> Value {
        let mut all = json!({"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": "*"});
        let elements = all.as_object_mut().expect("an object");
        elements.extend(others.as_object().expect("an object").clone());
        all
    }

    fn under(effect: &str, operator: &str, key: &str, values: Value) -> Value {
        statement(effect, json!({"Condition": {operator: {key: values}}}))
    }

    #[test]
    fn a_policy_without_conditions_decides_by_principal_and_resource() {
        let allow = statement("Allow", json!({}));
        for (statements, decision) in [
            (json!([statement("Deny", json!({"Action": "*"})), allow]), Decision::Denied),
            (json!([allow]), Decision::Allowed),
            (json!([]), Decision::NotAllowed),
            (json!([statement("Allow", json!({"Resource": "execute-api:/prod/GET/a"}))]), Decision::Allowed),
            (json!([statement("Allow", json!({"Resource": ["execute-api:/*/POST/*"]}))]), Decision::NotAllowed),
            (json!([allow, statement("Deny", json!({"Resource": "execute-api:/*/GET/*"}))]), Decision::Denied),
            (json!([statement("Allow", json!({"Principal": {"AWS": ["*"]}}))]), Decision::Allowed),
            // Nobody who did not sign is such a principal.
            (json!([statement("Allow", json!({"Principal": {"AWS": "1"}}))]), Decision::NotAllowed),
            (json!([allow, statement("Deny", json!({"Principal": {"AWS": "1"}}))]), Decision::Allowed),
        ] {
            assert_eq!(decided(statements.clone()), Ok(decision), "{statements}");
        }
    }

    #[test]
    fn conditions_are_judged_by_the_address_of_the_client_without_a_vpc_and_as_over_tls() {
        for (operator, key, values, applies) in [
            ("IpAddress", "aws:SourceIp", json!("192.0.2.0/24"), true),
            ("IpAddress", "AWS:sourceip", json!(["10.0.0.0/8", "192.0.2.7"]), true),
            ("IpAddress", "aws:SourceIp", json!(["0.0.0.0/0"]), true),
            ("IpAddress", "aws:SourceIp", json!(["2001:db8::/32"]), false),
            ("NotIpAddress", "aws:SourceIp", json!(["192.0.2.0/24"]), false),
            ("NotIpAddress", "aws:SourceIp", json!(["10.0.0.0/8"]), true),
            ("StringEquals", "aws:SourceVpc", json!("vpc-1"), false),
            ("StringEqualsIfExists", "aws:SourceVpc", json!("vpc-1"), true),
            ("StringNotEquals", "aws:sourceVpce", json!(["vpce-1"]), true),
            ("Null", "aws:SourceVpc", json!("true"), true),
            ("Null", "aws:SourceVpc", json!(false), false),
            ("Null", "aws:SourceIp", json!("false"), true),
            ("Bool", "aws:SecureTransport", json!("true"), true),
            ("Bool", "aws:SecureTransport", json!(false), false),
        ] {
            let expected = if applies { Decision::Allowed } else { Decision::NotAllowed };
            let found = decided(json!([under("Allow", operator, key, values.clone())]));
            assert_eq!(found, Ok(expected), "{operator} {key} {values}");
        }
        let both = json!({"Condition": {
            "IpAddress": {"aws:SourceIp": "192.0.2.7"},
            "StringEquals": {"aws:SourceVpc": "vpc-1"},
        }});
        assert_eq!(decided(json!([statement("Allow", both)])), Ok(Decision::NotAllowed), "all have to hold");
    }

    const CONDITION_FORM: &str =
        "statement 2 has a Condition that is not an object of operators, such as {\"IpAddress\"";

    #[test]
    fn a_resource_has_to_be_allowed_as_it_is_written_and_in_its_normal_form() {
        let allow = |path: &str| statement("Allow", json!({"Resource": format!("execute-api:/prod/GET{path}")}));
        let deny = |path: &str| statement("Deny", json!({"Resource": format!("execute-api:/*/GET{path}")}));
        for (statements, path, decision) in [
            (json!([allow("/*"), deny("/a")]), "/a/", Decision::Denied),
            (json!([allow("/*"), deny("/a")]), "/%61", Decision::Denied),
            (json!([allow("/*"), deny("/a")]), "/b", Decision::Allowed),
            (json!([allow("/a")]), "/a", Decision::Allowed),
            (json!([allow("/a")]), "/a/", Decision::NotAllowed),
            (json!([allow("/a"), allow("/a/")]), "/a/", Decision::Allowed),
            (json!([allow("/*")]), "/", Decision::Allowed),
            (json!([allow("/")]), "/", Decision::Allowed),
            (json!([allow("/a")]), "/", Decision::NotAllowed),
            (json!([allow("/*"), deny("/")]), "/", Decision::Denied),
            (json!([allow("/*"), deny("/*")]), "/", Decision::Denied),
        ] {
            let api = api(statements.clone(), false);
            let resource = arn("execute-api", &format!("{}/prod/GET{path}", api.api_id));
            let policy = ResourcePolicy::of(&api).expect("a policy").expect("valid");
            assert_eq!(policy.decide(&resource, HERE), decision, "{statements} {path}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_lets_nobody_in_and_is_noted() {
        let allow = statement("Allow", json!({}));
        for (statement, reason) in [
            (
                under("Deny", "StringLike", "aws:Referer", json!("*")),
                "statement 2 has the condition StringLike aws:Referer, which is not evaluated here: take it out to try",
            ),
            (under("Deny", "IpAddress", "aws:SourceIp", json!("nowhere")), "statement 2 has the condition IpAddress"),
            (under("Deny", "Bool", "aws:SecureTransport", json!("x")), "statement 2 has the condition Bool"),
            (under("Deny", "Bool", "aws:ViaAWSService", json!("false")), "statement 2 has the condition Bool"),
            (statement("Deny", json!({"NotPrincipal": {"AWS": "1"}})), "statement 2 is for named principals"),
            (statement("deny", json!({})), "statement 2 has the Effect"),
            // Also where the request in question is for another resource.
            (
                statement("Deny", json!({"Resource": "execute-api:/x", "Condition": {"Bool": 1}})),
                "statement 2 has the condition Bool",
            ),
            (statement("Allow", json!({"Condition": [{"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}]})), CONDITION_FORM),
            (statement("Allow", json!({"Condition": "x"})), CONDITION_FORM),
            (statement("Allow", json!({"Condition": null})), CONDITION_FORM),
            (statement("Allow", json!({"Condition": {"IpAddress": {}}})), "statement 2 has the condition IpAddress"),
            (under("Allow", "NotIpAddress", "aws:SourceIp", json!([])), "statement 2 has the condition NotIpAddress"),
            (statement("Allow", json!({"Conditions": {}})), "statement 2 has the unknown element Conditions: write"),
            (statement("Allow", json!({"condition": {}})), "statement 2 has the unknown element condition: write"),
            (statement("Deny", json!({"Principal": null})), "statement 2 has no Principal that is \"*\" or"),
            (statement("Deny", json!({"Principal": {"aws": "*"}})), "statement 2 has no Principal that is"),
            (statement("Deny", json!({"Principal": ["*"]})), "statement 2 has no Principal that is"),
            (
                statement("Deny", json!({"Resource": ["*", "execute-api:/${aws:username}"]})),
                "statement 2 has a variable in \"arn:aws:execute-api:",
            ),
            (Value::Null, "statement 2 is not an object"),
        ] {
            let statements = json!([allow, statement]);
            let error = decided(statements.clone()).expect_err("unknown").to_string();
            assert!(error.starts_with(reason), "{statement}: {error}");
            let notes = policy_notes(&[api(statements, false)]);
            let note = format!("the REST API Shop is not served: its resource policy cannot be evaluated, {error}");
            assert_eq!(notes, [note]);
        }
        let named = json!([allow, statement("Allow", json!({"Principal": {"AWS": "1"}}))]);
        let notes = policy_notes(&[api(named.clone(), true)]);
        let advice = "write \"Principal\": \"*\" to try the policy locally";
        assert!(notes[0].contains("statement 2 is for named principals") && notes[0].ends_with(advice), "{notes:?}");
        assert_eq!(policy_notes(&[api(named, false)]), Vec::<String>::new());
        let secure = json!([under("Allow", "Bool", "aws:SecureTransport", json!("true"))]);
        assert_eq!(policy_notes(&[api(secure, false)]), Vec::<String>::new());
        let placed = json!([under("Allow", "IpAddress", "aws:SourceIp", json!("127.0.0.1"))]);
        let notes = policy_notes(&[api(placed, false)]);
        assert!(notes[0].starts_with("the resource policy of Shop depends on where clients are"), "{notes:?}");
    }
}
