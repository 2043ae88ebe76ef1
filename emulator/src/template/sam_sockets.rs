//! `AWS::Serverless::WebSocketApi`, read as SAM transforms it (translator 1.112 and later).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    error::TemplateError,
    identity::identity_sources,
    integrations::Integration,
    references::{FunctionReference, function_of, integration_timeout, selection, stage_variables},
    resources::Resource,
    scalar,
    throttles::Throttles,
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};

/// The default stage. Source: SAM.
const STAGE_DEFAULT: &str = "default";

pub(super) fn read(api: &Resource<'_>, references: &mut Vec<FunctionReference>) -> Result<WebSocketApi, TemplateError> {
    let authorization = authorization(api, references)?;
    let specifications = api.get("Routes").and_then(Value::as_object).filter(|routes| !routes.is_empty());
    let specifications = specifications.ok_or_else(|| api.error("Routes must have at least one route"))?;
    if authorization != Authorization::None && !specifications.contains_key("$connect") {
        return Err(api.error("Auth needs a $connect route"));
    }
    let mut routes = BTreeMap::new();
    for (key, specification) in specifications {
        let special = matches!(key.as_str(), "$connect" | "$disconnect" | "$default");
        if !special && !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(api.error(format!("invalid route key {key}: SAM takes letters and digits only")));
        }
        let arn = specification.get("FunctionArn").and_then(scalar::as_text);
        let arn = arn.ok_or_else(|| api.error(format!("the route {key} has no FunctionArn")))?;
        let function = function_of(&arn).unwrap_or(&arn).to_owned();
        references.push(FunctionReference::new(api, &arn));
        let timeout = integration_timeout(specification.get("IntegrationTimeout"));
        let route = Route {
            integration: Integration::Lambda { function, timeout },
            // SAM creates no route response, so the client gets no response.
            responds: false,
            authorization: if key == "$connect" { authorization.clone() } else { Authorization::None },
        };
        routes.insert(key.clone(), route);
    }
    Ok(WebSocketApi {
        api_id: api.name.clone(),
        stage: api.text("StageName").unwrap_or_else(|| STAGE_DEFAULT.to_owned()),
        stage_variables: stage_variables(api),
        selection: selection(api)?,
        routes,
        throttles: Throttles::read(api)?,
    })
}

fn authorization(api: &Resource<'_>, references: &mut Vec<FunctionReference>) -> Result<Authorization, TemplateError> {
    api.refuse_transform("Auth")?;
    let Some(auth) = api.get("Auth").filter(|auth| !auth.is_null()) else { return Ok(Authorization::None) };
    match auth.get("AuthType").and_then(Value::as_str) {
        Some("NONE") => Ok(Authorization::None),
        Some("AWS_IAM") => Ok(Authorization::Iam),
        Some("CUSTOM") => {
            let arn = auth.get("AuthArn").and_then(scalar::as_text);
            let arn = arn.ok_or_else(|| api.error("AuthArn must be specified if AuthType is CUSTOM"))?;
            let function = function_of(&arn).unwrap_or(&arn);
            references.push(FunctionReference::new(api, &arn));
            let identity_sources = identity_sources(api, auth.get("IdentitySource"))?;
            Ok(Authorization::Lambda(Authorizer { function: function.to_owned(), identity_sources }))
        }
        _ => Err(api.error("AuthType must be AWS_IAM, CUSTOM or NONE")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::template::{IdentitySource, Template, TemplateInputs};

    fn parse(api: &str) -> Result<WebSocketApi, TemplateError> {
        let functions = "Resources:\n  F: { Type: AWS::Serverless::Function, Properties: { FunctionName: named } }\n";
        Template::parse(
            &format!("{functions}  Api:\n    Type: AWS::Serverless::WebSocketApi\n    Properties: {api}\n"),
            &TemplateInputs::default(),
        )
        .map(|template| template.sockets)
    }

    #[test]
    fn the_resource_of_sam_is_read_as_sam_transforms_it() {
        let api = parse(
            "{ RouteSelectionExpression: $request.body.action, Auth: { AuthType: CUSTOM, AuthArn: !GetAtt F.Arn, \
             IdentitySource: [route.request.header.A] }, \
             Routes: { $connect: { FunctionArn: !GetAtt F.Arn }, say: { FunctionArn: !GetAtt F.Arn, \
             IntegrationTimeout: 500, RouteResponseSelectionExpression: $default } } }",
        )
        .expect("valid");
        assert_eq!((api.stage.as_str(), api.routes.len()), ("default", 2));
        let say = &api.routes["say"];
        let Integration::Lambda { function, timeout } = &say.integration else { panic!("{:?}", say.integration) };
        assert_eq!((function.as_str(), *timeout), ("named", Duration::from_millis(500)));
        assert!(!say.responds && say.authorization == Authorization::None);
        let authorizer =
            Authorizer { function: "named".to_owned(), identity_sources: vec![IdentitySource::Header("A".to_owned())] };
        assert_eq!(api.routes["$connect"].authorization, Authorization::Lambda(authorizer));
    }

    #[test]
    fn nothing_that_restricts_who_may_connect_is_left_out() {
        let routes = "RouteSelectionExpression: $request.body.a, Routes: { $connect: { FunctionArn: !GetAtt F.Arn } }";
        let custom = "AuthType: CUSTOM, AuthArn: !GetAtt F.Arn, IdentitySource: route.request.header.A";
        let api = parse(&format!("{{ {routes}, Auth: {{ {custom} }} }}")).expect("valid");
        let Authorization::Lambda(authorizer) = &api.routes["$connect"].authorization else { panic!("{api:?}") };
        assert_eq!(authorizer.identity_sources, [IdentitySource::Header("A".to_owned())]);
        let error = parse(&format!("{{ {routes}, Auth: {{ Fn::Transform: {{ Name: x }} }} }}")).expect_err("unread");
        assert_eq!(error.to_string(), "line 5: Api: the emulator does not read a transform in Auth");
    }

    #[test]
    fn what_sam_would_refuse_is_refused() {
        let check = |api: &str, expected: &str| {
            assert_eq!(parse(api).expect_err(api).to_string(), format!("line 4: Api: {expected}"))
        };
        check("{ RouteSelectionExpression: $request.body.a }", "Routes must have at least one route");
        check(
            "{ RouteSelectionExpression: $request.body.a, Routes: { a_b: { FunctionArn: x } } }",
            "invalid route key a_b: SAM takes letters and digits only",
        );
        check("{ RouteSelectionExpression: $request.body.a, Routes: { ab: {} } }", "the route ab has no FunctionArn");
        check("{ Routes: { ab: { FunctionArn: x } } }", "RouteSelectionExpression is missing");
        check(
            "{ RouteSelectionExpression: $request.body.a, Auth: { AuthType: AWS_IAM }, Routes: { ab: { FunctionArn: x \
             } } }",
            "Auth needs a $connect route",
        );
        check(
            "{ RouteSelectionExpression: $request.body.a, Auth: { AuthType: JWT }, Routes: { ab: { FunctionArn: x } } \
             }",
            "AuthType must be AWS_IAM, CUSTOM or NONE",
        );
    }
}
