use std::collections::BTreeMap;

use super::*;
use crate::template::{Template, TemplateInputs};

const SOCKETS: &str = "Resources:\n  Ws: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET, \
    RouteSelectionExpression: $request.body.a } }\n  F: { Type: AWS::Lambda::Function }\n";

fn parse(rest: &str) -> Template {
    Template::parse(&format!("{SOCKETS}{rest}"), &TemplateInputs::default()).expect("valid")
}

/// A function with these events.
fn with_events(events: &str) -> String {
    format!("  G: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ {events} }} }} }}\n")
}

/// Each API with its stage and route keys.
fn routes(template: &Template) -> Vec<(String, String, Vec<String>)> {
    let of = |api: &HttpApi| (api.name.clone(), api.stage.clone(), api.routes.iter().map(HttpRoute::key).collect());
    template.http_apis.iter().map(of).collect()
}

fn api<'a>(template: &'a Template, name: &str) -> &'a HttpApi {
    template.http_apis.iter().find(|api| api.name == name).expect("an API")
}

fn route<'a>(template: &'a Template, key: &str) -> &'a HttpRoute {
    let mut routes = template.http_apis.iter().flat_map(|api| &api.routes);
    routes.find(|route| route.key() == key).unwrap_or_else(|| panic!("no route {key}"))
}

fn owned(api: &str, stage: &str, routes: &[&str]) -> (String, String, Vec<String>) {
    (api.to_owned(), stage.to_owned(), routes.iter().map(|route| (*route).to_owned()).collect())
}

#[test]
fn events_are_routes_of_the_apis_that_they_name_or_that_sam_makes() {
    let template = parse(&format!(
        "  Own: {{ Type: AWS::Serverless::HttpApi, Properties: {{ StageName: dev }} }}\n  \
         Rest: {{ Type: AWS::Serverless::Api, Properties: {{ StageName: v1 }} }}\n{}",
        with_events(
            "A: { Type: HttpApi }, B: { Type: HttpApi, Properties: { ApiId: !Ref Own, Path: '/b/{c}', Method: any, \
             PayloadFormatVersion: '1.0' } }, C: { Type: Api, Properties: { Path: /c, Method: get } }, D: { Type: Api, \
             Properties: { RestApiId: !Ref Rest, Path: /d, Method: POST } }"
        )
    ));
    assert_eq!(
        routes(&template),
        [
            owned("Own", "dev", &["ANY /b/{c}"]),
            owned("Rest", "v1", &["POST /d"]),
            owned("ServerlessHttpApi", "$default", &["$default"]),
            owned("ServerlessRestApi", "Prod", &["GET /c"]),
        ]
    );
    let payload = |key: &str| match &route(&template, key).backend {
        RouteBackend::Lambda { payload, .. } => *payload,
        other => panic!("{other:?}"),
    };
    assert_eq!((payload("$default"), payload("ANY /b/{c}")), (PayloadVersion::V2, PayloadVersion::V1));
    assert!(template.notes.is_empty(), "{:?}", template.notes);
}

#[test]
fn http_apis_of_cloudformation_are_read() {
    let template = parse(
        r#"
  Quick: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP, Target: !GetAtt F.Arn } }
  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP } }
  Stage:
    Type: AWS::ApiGatewayV2::Stage
    Properties: { ApiId: !Ref Api, StageName: dev, StageVariables: { a: b } }
  Int:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Api
      IntegrationType: AWS_PROXY
      IntegrationUri: !Sub 'arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations'
      PayloadFormatVersion: 2.0
  Web:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Api
      IntegrationType: HTTP_PROXY
      IntegrationMethod: ANY
      IntegrationUri: http://a.example/{proxy}
  Bus:
    Type: AWS::ApiGatewayV2::Integration
    Properties: { ApiId: !Ref Api, IntegrationType: AWS_PROXY, IntegrationSubtype: EventBridge-PutEvents }
  One:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      { ApiId: !Ref Api, RouteKey: GET /one, Target: !Sub 'integrations/${Int}', AuthorizationType: AWS_IAM }
  Two:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: 'ANY /{proxy+}', Target: !Sub 'integrations/${Web}' }
  Three:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: POST /three, Target: !Sub 'integrations/${Bus}' }
"#,
    );
    assert_eq!(
        routes(&template),
        [owned("Quick", "$default", &["$default"]), owned("Api", "dev", &["GET /one", "ANY /{proxy+}", "POST /three"]),]
    );
    assert_eq!(api(&template, "Api").stage_variables, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let one = route(&template, "GET /one");
    assert!(matches!(&one.backend, RouteBackend::Lambda { payload: PayloadVersion::V2, .. }), "{one:?}");
    assert!(matches!(one.authorization, HttpAuthorization::Iam));
    let two = route(&template, "ANY /{proxy+}");
    assert!(matches!(&two.backend, RouteBackend::Http(ProxiedServer { method: None, .. })), "{two:?}");
    assert_eq!(
        template.notes,
        ["POST /three of Api is not served: the emulator does not run its integration Bus, which calls \
          EventBridge-PutEvents"]
    );
}

#[test]
fn rest_apis_of_cloudformation_are_read_as_frameworks_write_them() {
    let template = parse(
        r#"
  Api: { Type: AWS::ApiGateway::RestApi, Properties: { Name: x, BinaryMediaTypes: [image/png] } }
  A:
    Type: AWS::ApiGateway::Resource
    Properties: { RestApiId: !Ref Api, ParentId: !GetAtt Api.RootResourceId, PathPart: a }
  B:
    Type: AWS::ApiGateway::Resource
    Properties: { RestApiId: !Ref Api, ParentId: !Ref A, PathPart: '{b+}' }
  Deployed: { Type: AWS::ApiGateway::Deployment, Properties: { RestApiId: !Ref Api, StageName: dev } }
  Root:
    Type: AWS::ApiGateway::Method
    Properties: &method
      RestApiId: !Ref Api
      ResourceId: !GetAtt Api.RootResourceId
      HttpMethod: GET
      ApiKeyRequired: true
      Integration:
        Type: AWS_PROXY
        IntegrationHttpMethod: POST
        Uri: !Sub 'arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations'
  All:
    Type: AWS::ApiGateway::Method
    Properties: { <<: *method, ResourceId: !Ref B, HttpMethod: ANY, ApiKeyRequired: false, AuthorizationType: NONE }
  Preflight:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Api
      ResourceId: !Ref B
      HttpMethod: OPTIONS
      Integration:
        Type: MOCK
        RequestTemplates: { application/json: '{statusCode:200}' }
        IntegrationResponses:
          - StatusCode: '200'
            ResponseParameters: { method.response.header.Access-Control-Allow-Origin: "'*'" }
            ResponseTemplates: { application/json: '' }
  Own:
    Type: AWS::ApiGateway::Method
    Properties: { RestApiId: !Ref Api, ResourceId: !Ref A, HttpMethod: GET, Integration: { Type: AWS, Uri: x } }
  Lost: { Type: AWS::ApiGateway::Method, Properties: { RestApiId: !Ref Api, ResourceId: nowhere, HttpMethod: GET } }
"#,
    );
    let keys = ["GET /", "ANY /a/{b+}", "OPTIONS /a/{b+}", "GET /a"];
    assert_eq!(routes(&template), [owned("Api", "dev", &keys)]);
    assert!(route(&template, "GET /").needs_api_key && !route(&template, "ANY /a/{b+}").needs_api_key);
    let RouteBackend::Mock(mock) = &route(&template, "OPTIONS /a/{b+}").backend else { panic!("no mock") };
    assert_eq!((mock.status, mock.body.as_str()), (200, ""));
    assert_eq!(mock.headers, BTreeMap::from([("access-control-allow-origin".to_owned(), "*".to_owned())]));
    assert_eq!(
        template.notes,
        [
            "the method Lost is not served: the template does not have its resource",
            "GET /a of Api is not served: the emulator does not run the integration of Own, which is of type AWS",
        ]
    );
}

#[test]
fn authorizers_are_those_of_the_api_and_what_cannot_be_decided_is_not_open() {
    let template = parse(
        r#"
  Http:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Jwt
        Authorizers:
          Jwt:
            IdentitySource: $request.header.Authorization
            AuthorizationScopes: [read]
            JwtConfiguration: { issuer: https://a.example, audience: [x] }
          Asks:
            FunctionArn: !GetAtt F.Arn
            AuthorizerPayloadFormatVersion: 2.0
            EnableSimpleResponses: true
            Identity: { Headers: [A] }
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Cors: "'*'"
      Auth:
        DefaultAuthorizer: Token
        Authorizers:
          Token: { FunctionArn: !GetAtt F.Arn, Identity: { Header: X, ValidationExpression: a.* } }
          Pool: { UserPoolArn: arn }
          Known: { UserPoolArn: 'arn:aws:cognito-idp:us-east-1:1:userpool/us-east-1_Ab1', Identity: { Header: X } }
  G:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: { Type: HttpApi, Properties: { ApiId: !Ref Http, Path: /jwt, Method: get } }
        B: { Type: HttpApi, Properties: { ApiId: !Ref Http, Path: /asks, Method: get, Auth: { Authorizer: Asks } } }
        C: { Type: HttpApi, Properties: { ApiId: !Ref Http, Path: /open, Method: get, Auth: { Authorizer: NONE } } }
        D: { Type: Api, Properties: { RestApiId: !Ref Rest, Path: /token, Method: get } }
        E: { Type: Api, Properties: { RestApiId: !Ref Rest, Path: /pool, Method: get, Auth: { Authorizer: Pool } } }
        H: { Type: Api, Properties: { RestApiId: !Ref Rest, Path: /known, Method: get, Auth: { Authorizer: Known } } }
        F: { Type: Api, Properties: { RestApiId: !Ref Rest, Path: /typo, Method: get, Auth: { Authorizer: Typo } } }
"#,
    );
    let HttpAuthorization::Jwt(jwt) = &route(&template, "GET /jwt").authorization else { panic!("no JWT") };
    assert_eq!((jwt.issuer.as_str(), &jwt.audiences), ("https://a.example", &Some(vec!["x".to_owned()])));
    assert_eq!(route(&template, "GET /jwt").scopes, ["read"]);
    let HttpAuthorization::Lambda(asks) = &route(&template, "GET /asks").authorization else { panic!("no function") };
    assert!(asks.is_simple && asks.function == "F");
    assert!(matches!(route(&template, "GET /open").authorization, HttpAuthorization::None));
    let HttpAuthorization::Lambda(token) = &route(&template, "GET /token").authorization else { panic!("no function") };
    let AuthorizerInput::Token { header, pattern: Some(pattern) } = &token.input else { panic!("{token:?}") };
    assert_eq!((header.as_str(), pattern.as_str()), ("X", "^(?:a.*)$"));
    let HttpAuthorization::Jwt(known) = &route(&template, "GET /known").authorization else { panic!("no pool") };
    assert_eq!(known.issuer, "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Ab1");
    assert_eq!((&known.source, &known.audiences), (&HttpIdentitySource::Header("X".to_owned()), &None));
    let preflight = route(&template, "OPTIONS /token");
    assert!(matches!(preflight.authorization, HttpAuthorization::Lambda(_)), "as SAM does by default: {preflight:?}");
    assert_eq!(
        template.notes,
        [
            "GET /pool of Rest is not served: its authorizer Pool checks tokens of a Cognito user pool that only AWS \
             knows (set its ARN with --value), which the emulator cannot decide",
            "GET /typo of Rest is not served: its authorizer Typo is not among those of its API, which the emulator \
             cannot decide",
        ]
    );
}

#[test]
fn cors_of_a_rest_api_adds_a_route_for_preflights_to_each_path() {
    let read = |cors: &str| {
        let events = "A: { Type: Api, Properties: { Path: /a, Method: get } }, B: { Type: Api, Properties: { Path: /a, \
                      Method: post } }, C: { Type: Api, Properties: { Path: /c, Method: any } }, D: { Type: Api, \
                      Properties: { Path: /d, Method: options } }";
        let text = format!("Globals: {{ Api: {{ Cors: {cors} }} }}\n{SOCKETS}{}", with_events(events));
        Template::parse(&text, &TemplateInputs::default()).expect("valid")
    };
    let headers = |template: &Template, key: &str| match &route(template, key).backend {
        RouteBackend::Mock(mock) => mock.headers.clone(),
        other => panic!("{other:?}"),
    };
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("access-control-{name}"), (*value).to_owned())).collect()
    };
    let all = read("\"'*'\"");
    assert_eq!(headers(&all, "OPTIONS /a"), pairs(&[("allow-origin", "*"), ("allow-methods", "GET,OPTIONS,POST")]));
    let any = pairs(&[("allow-origin", "*"), ("allow-methods", "DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT")]);
    assert_eq!(headers(&all, "OPTIONS /c"), any);
    assert!(matches!(route(&all, "OPTIONS /d").backend, RouteBackend::Lambda { .. }), "its own stays");
    let some =
        read("{ AllowOrigin: \"'https://a.example'\", AllowMethods: \"'GET'\", AllowHeaders: \"'X'\", MaxAge: 60 }");
    let expected =
        [("allow-origin", "https://a.example"), ("allow-methods", "GET"), ("allow-headers", "X"), ("max-age", "60")];
    assert_eq!(headers(&some, "OPTIONS /a"), pairs(&expected));
}

#[test]
fn what_is_elsewhere_is_named() {
    let template = parse(&format!(
        "  Api: {{ Type: AWS::ApiGateway::RestApi, Properties: {{ BodyS3Location: {{ Bucket: b }} }} }}\n  \
         Http: {{ Type: AWS::Serverless::HttpApi, Properties: {{ DefinitionUri: x.yaml }} }}\n  \
         Quick: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: HTTP, Target: \
         'arn:aws:lambda:eu-central-1:1:function:gone' }} }}\n{}",
        with_events(
            "A: { Type: Api, Properties: { RestApiId: !Ref Api, Path: /a, Method: get } }, B: { Type: HttpApi, \
             Properties: { ApiId: !Ref Http, Path: /b, Method: get } }"
        )
    ));
    assert!(api(&template, "Http").routes.is_empty(), "with a document, events are no routes");
    assert_eq!(
        template.notes,
        [
            "G is not invoked by its event A: SAM adds routes to APIs in its own form, of the same template",
            "$default of Quick is not served: no template has its function gone",
            "the REST API Api is not served as a whole: the emulator does not read the OpenAPI document of its \
             BodyS3Location: write it into the template",
            "the HTTP API Http is not served as a whole: the emulator does not read the OpenAPI document of its \
             DefinitionUri: write it into the template",
        ]
    );
}

#[test]
fn routes_in_open_api_documents_are_read_with_their_security() {
    let template = parse(
        r#"
  Rest:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      Cors: "'*'"
      DefinitionBody:
        swagger: '2.0'
        paths:
          /open: &path
            get:
              security: []
              x-amazon-apigateway-integration: &integration
                type: aws_proxy
                httpMethod: POST
                uri: !Sub 'arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${F.Arn}/invocations'
          /token: { post: { security: [{ Token: [] }], x-amazon-apigateway-integration: *integration } }
          /any: { x-amazon-apigateway-any-method: { x-amazon-apigateway-integration: *integration } }
          /pool: { get: { security: [{ Pool: [] }], x-amazon-apigateway-integration: *integration } }
          /key: { get: { security: [{ Key: [] }], x-amazon-apigateway-integration: *integration } }
          /typo: { get: { security: [{ Typo: [] }], x-amazon-apigateway-integration: *integration } }
          /own: { get: { x-amazon-apigateway-integration: { type: aws, uri: x } } }
          /shared:
            get: { x-amazon-apigateway-integration: { $ref: '#/components/x-amazon-apigateway-integrations/a' } }
          /lost: { get: { x-amazon-apigateway-integration: { $ref: '#/components/x' } } }
        components: { x-amazon-apigateway-integrations: { a: *integration } }
        security: [{ Iam: [] }]
        securityDefinitions:
          Iam: { type: apiKey, name: Authorization, in: header, x-amazon-apigateway-authtype: awsSigv4 }
          Key: { type: apiKey, name: x-api-key, in: header }
          Token:
            type: apiKey
            name: X-Token
            in: header
            x-amazon-apigateway-authorizer:
              type: token
              authorizerUri: !Sub 'arn:aws:apigateway:eu-central-1:lambda:path/functions/${F.Arn}/invocations'
          Pool: { x-amazon-apigateway-authorizer: { type: cognito_user_pools } }
  Http:
    Type: AWS::ApiGatewayV2::Api
    Properties:
      Body:
        openapi: '3.0.1'
        paths:
          /$default: { x-amazon-apigateway-any-method: { x-amazon-apigateway-integration: &proxy { type: aws_proxy,
            payloadFormatVersion: '2.0', uri: !GetAtt F.Arn } } }
          /jwt/{id}: { get: { security: [{ Jwt: [read] }], x-amazon-apigateway-integration: *proxy } }
        components:
          securitySchemes:
            Jwt:
              type: oauth2
              x-amazon-apigateway-authorizer:
                type: jwt
                identitySource: $request.header.Authorization
                jwtConfiguration: { issuer: https://a.example, audience: [x] }
        x-amazon-apigateway-cors: { allowOrigins: ['*'], maxAge: 7 }
"#,
    );
    assert_eq!(routes(&template)[0], owned("Http", "$default", &["$default", "GET /jwt/{id}"]));
    let jwt = route(&template, "GET /jwt/{id}");
    assert!(matches!(jwt.authorization, HttpAuthorization::Jwt(_)) && jwt.scopes == ["read"], "{jwt:?}");
    assert_eq!(api(&template, "Http").cors.as_ref().expect("one").max_age_secs, Some(7));
    let rest = api(&template, "Rest");
    let of = |key: &str| rest.routes.iter().find(|route| route.key() == key).unwrap_or_else(|| panic!("no {key}"));
    assert!(matches!(of("GET /open").authorization, HttpAuthorization::None));
    assert!(matches!(of("ANY /any").authorization, HttpAuthorization::Iam), "that of the document");
    assert!(of("GET /key").needs_api_key);
    let HttpAuthorization::Lambda(token) = &of("POST /token").authorization else { panic!("no function") };
    assert!(matches!(&token.input, AuthorizerInput::Token { header, .. } if header == "X-Token"), "{token:?}");
    assert!(matches!(of("OPTIONS /token").backend, RouteBackend::Mock(_)));
    assert!(matches!(of("GET /shared").backend, RouteBackend::Lambda { .. }));
    assert!(of("GET /lost").unserved().is_some_and(|reason| reason.contains("is not in the OpenAPI document")));
    let reasons = ["GET /pool", "GET /typo", "GET /own"].map(|key| of(key).unserved().unwrap_or_default());
    assert!(reasons[0].contains("Cognito") && reasons[1].contains("Typo is not in") && reasons[2].contains("type AWS"));
}

#[test]
fn integrations_of_an_http_api_are_the_same_in_an_open_api_document_and_as_resources() {
    let reasons = |api: &str, rest: &str| {
        let function = "  F: { Type: AWS::Serverless::Function }\n";
        let template =
            parse(&format!("{function}  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {api} }}\n{rest}"));
        route(&template, "GET /a").unserved().unwrap_or_default().to_owned()
    };
    for (document, properties, reason) in [
        (
            "requestParameters: { 'overwrite:path': /b }",
            "RequestParameters: { 'overwrite:path': /b }",
            "maps parameters",
        ),
        ("responseParameters: { '200': {} }", "ResponseParameters: { '200': {} }", "maps parameters"),
        ("integrationSubtype: SQS-SendMessage", "IntegrationSubtype: SQS-SendMessage", "calls SQS-SendMessage"),
        ("connectionType: VPC_LINK", "ConnectionType: VPC_LINK", "is private (VPC link)"),
        ("httpMethod: POST", "IntegrationMethod: POST", ""),
    ] {
        let integration = format!("{{ type: aws_proxy, uri: !GetAtt F.Arn, {document} }}");
        let operation = format!("{{ get: {{ x-amazon-apigateway-integration: {integration} }} }}");
        let by_document = reasons(&format!("{{ Body: {{ openapi: '3.0.1', paths: {{ /a: {operation} }} }} }}"), "");
        let by_resources = reasons(
            "{ ProtocolType: HTTP }",
            &format!(
                "  I: {{ Type: AWS::ApiGatewayV2::Integration, Properties: {{ ApiId: !Ref Api, IntegrationType: \
                 AWS_PROXY, IntegrationUri: !GetAtt F.Arn, {properties} }} }}\n  R: {{ Type: \
                 AWS::ApiGatewayV2::Route, Properties: {{ ApiId: !Ref Api, RouteKey: GET /a, Target: !Sub \
                 'integrations/${{I}}' }} }}\n"
            ),
        );
        let what = |reason: &str| reason.split_once(", which ").map_or("", |(_, what)| what).to_owned();
        assert_eq!((what(&by_document).as_str(), what(&by_resources).as_str()), (reason, reason), "{properties}");
        assert_eq!((by_document.is_empty(), by_resources.is_empty()), (reason.is_empty(), reason.is_empty()));
    }
}

#[test]
fn gateway_responses_add_their_headers_to_errors_and_what_else_they_say_is_noted() {
    let template = parse(
        r#"
  Raw: { Type: AWS::ApiGateway::RestApi }
  Errors:
    Type: AWS::ApiGateway::GatewayResponse
    Properties:
      RestApiId: !Ref Raw
      ResponseType: DEFAULT_4XX
      StatusCode: '400'
      ResponseParameters: { gatewayresponse.header.Access-Control-Allow-Origin: "'*'" }
  Sam:
    Type: AWS::Serverless::Api
    Properties:
      StageName: v1
      GatewayResponses:
        DEFAULT_5XX: { ResponseParameters: { Headers: { X-Kind: "'failed'" } } }
        UNAUTHORIZED: { StatusCode: 403 }
"#,
    );
    let headers = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert_eq!(api(&template, "Raw").error_headers.client, headers("access-control-allow-origin", "*"));
    assert_eq!(api(&template, "Sam").error_headers.server, headers("x-kind", "failed"));
    assert_eq!(
        template.notes,
        [
            "of the gateway response DEFAULT_4XX of Raw only the headers have an effect here",
            "the gateway response UNAUTHORIZED of Sam has no effect here",
        ]
    );
}

#[test]
fn an_api_is_closed_to_other_origins_until_a_parameter_names_them() {
    let text = "Parameters:\n  Origins: { Type: CommaDelimitedList, Default: '' }\n\
         Conditions:\n  Open: !Not [!Equals [!Join ['', !Ref Origins], '']]\nResources:\n  \
         Ws: { Type: AWS::Serverless::WebSocketApi, Properties: { RouteSelectionExpression: $request.body.a, \
         Routes: { a: { FunctionArn: x } } } }\n  \
         H: { Type: AWS::Serverless::HttpApi, Properties: { CorsConfiguration: !If [Open, { AllowOrigins: !Ref \
         Origins, AllowMethods: [GET], MaxAge: 3600 }, !Ref AWS::NoValue] } }\n";
    let read = |parameters: BTreeMap<String, String>| {
        let inputs = TemplateInputs { parameters, ..TemplateInputs::default() };
        Template::parse(text, &inputs).expect("valid").http_apis.remove(0).cors
    };
    assert_eq!(read(BTreeMap::new()), None);
    let origins = "https://a.example,http://localhost:3000";
    let cors = read([("Origins".to_owned(), origins.to_owned())].into()).expect("configured");
    assert_eq!(cors.origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!((cors.methods, cors.max_age_secs, cors.credentials), (vec!["GET".to_owned()], Some(3_600), false));
}

#[test]
fn cors_is_read_from_globals_and_from_either_kind_of_api() {
    let any = Cors { origins: vec!["*".to_owned()], ..Cors::default() };
    let globals = format!(
        "Globals: {{ HttpApi: {{ CorsConfiguration: true }} }}\n{SOCKETS}{}",
        with_events("A: { Type: HttpApi }")
    );
    let template = Template::parse(&globals, &TemplateInputs::default()).expect("valid");
    assert_eq!(api(&template, "ServerlessHttpApi").cors, Some(any.clone()));
    let template = parse(
        "  A: { Type: AWS::Serverless::HttpApi, Properties: { CorsConfiguration: { AllowOrigins: [x] } } }\n  \
         B: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP, CorsConfiguration: { AllowOrigins: ['*'] \
         } } }\n",
    );
    assert_eq!(api(&template, "A").cors.as_ref().expect("its own").origins, ["x"]);
    assert_eq!(api(&template, "B").cors, Some(any));
}
