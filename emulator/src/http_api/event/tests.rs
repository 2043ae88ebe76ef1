//! Events against the documented examples: the same request, with this machine's host, ids and time.

use hyper::Request;

use super::*;
use crate::{
    http_api::{authorizer::authorizer_event, routing},
    template::{AuthorizerInput, HttpIdentitySource, PayloadVersion, Template, TemplateInputs},
};

/// 12 March 2020, 19:03:58 UTC, as in the example.
const NOW: i64 = 1_584_039_838_000;

fn api(kind: &str, properties: &str) -> HttpApi {
    let text = format!(
        "Globals: {{ Api: {{ BinaryMediaTypes: [image~1png] }} }}\nResources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, \
         Properties: {{ ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.a }} }}\n  \
         F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: {kind}, Properties: {{ \
         {properties} }} }} }} }} }}\n"
    );
    Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0)
}

/// The request of the documented example, for this path.
fn request(method: &str, path: &str) -> Parts {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "id.execute-api.us-east-1.amazonaws.com")
        .header("User-Agent", "agent")
        .header("Header1", "value1")
        .header("Header2", "value1")
        .header("Header2", "value2")
        .header("Cookie", "cookie1; cookie2")
        .header("X-Amzn-Trace-Id", "Root=1-theirs")
        .header("Content-Type", "text/plain");
    request.body(()).expect("valid").into_parts().0
}

/// Makes something of a request.
fn with<T>(api: &HttpApi, parts: &Parts, make: impl FnOnce(&Incoming<'_>) -> T) -> T {
    let full = parts.uri.path();
    let path = routing::below_stage(api, full).unwrap_or(full);
    let found = routing::best(api, parts.method.as_str(), path).expect("a route");
    make(&Incoming {
        api,
        route: found.route,
        path,
        parameters: &found.parameters,
        parts,
        peer: "192.0.2.1:9".parse().expect("an address"),
        now: Timestamp::from_millis(NOW),
        request_id: "JKJaXmPLvHcESHA=",
        uuid: "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        trace_id: &new_trace_id(Timestamp::from_millis(NOW)),
    })
}

/// Takes the random part out of the trace id.
fn without_trace(mut event: Value) -> Value {
    for name in ["x-amzn-trace-id", "X-Amzn-Trace-Id"] {
        if let Some(trace) = event.pointer_mut(&format!("/headers/{name}")) {
            assert!(
                trace.as_str().is_some_and(|trace| trace.starts_with("Root=1-5e6a879e-") && trace.len() == 40),
                "{trace}"
            );
            *trace = json!("trace");
        }
        if let Some(trace) = event.pointer_mut(&format!("/multiValueHeaders/{name}")) {
            *trace = json!(["trace"]);
        }
    }
    event
}

#[test]
fn version_2_has_the_fields_of_the_documented_example() {
    let api = api("HttpApi", "Method: POST, Path: '/{a}/path'");
    let parts = request("POST", "/my/path?parameter1=value1&parameter1=value2&parameter2=value");
    let claims = json!({"jwt": {"claims": {"claim1": "value1"}, "scopes": ["scope1"]}});
    let context = AuthorizerContext { v1: None, v2: Some(claims.clone()) };
    let event = with(&api, &parts, |incoming| incoming.v2(&Bytes::from("Hello from Lambda"), &context));
    let expected = json!({
        "version": "2.0",
        "routeKey": "POST /{a}/path",
        "rawPath": "/my/path",
        "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
        "cookies": ["cookie1", "cookie2"],
        "headers": {
            "content-type": "text/plain",
            "header1": "value1",
            "header2": "value1,value2",
            "host": "id.execute-api.us-east-1.amazonaws.com",
            "user-agent": "agent",
            "x-amzn-trace-id": "trace",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-port": "80",
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": api.api_id,
            "authorizer": claims,
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": "POST",
                "path": "/my/path",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "POST /{a}/path",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": NOW,
        },
        "body": "Hello from Lambda",
        "pathParameters": {"a": "my"},
        "isBase64Encoded": false,
    });
    assert_eq!(without_trace(event), expected);
}

#[test]
fn the_port_that_a_client_asked_is_that_of_the_host_or_of_the_protocol() {
    let api = api("HttpApi", "Path: /a, Method: get");
    for (host, port, prefix) in [
        ("shop.localhost:8766", "8766", "shop"),
        ("shop.localhost", "80", "shop"),
        ("[::1]:8766", "8766", api.api_id.as_str()),
        ("[::1]", "80", &api.api_id),
        ("127.0.0.1", "80", &api.api_id),
    ] {
        let request = Request::builder().uri("/a").header("Host", host).body(()).expect("valid").into_parts().0;
        let event = with(&api, &request, |incoming| incoming.v2(&Bytes::new(), &AuthorizerContext::default()));
        assert_eq!(event["headers"]["x-forwarded-port"], port, "{host}");
        assert_eq!(event["requestContext"]["domainPrefix"], prefix, "{host}");
    }
}

#[test]
fn version_2_leaves_out_what_does_not_exist_and_encodes_what_is_not_text() {
    let api = api("HttpApi", "");
    let mut parts = request("GET", "/");
    parts.headers.remove("cookie");
    let nobody = AuthorizerContext::default();
    let event = with(&api, &parts, |incoming| incoming.v2(&Bytes::new(), &nobody));
    let names: Vec<&str> = event.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = ["headers", "isBase64Encoded", "rawPath", "rawQueryString", "requestContext", "routeKey", "version"];
    assert_eq!((names.len(), expected.iter().all(|name| names.contains(name))), (expected.len(), true), "{names:?}");
    assert_eq!((&event["routeKey"], &event["isBase64Encoded"]), (&json!("$default"), &json!(false)));
    for (kind, encoded) in [("application/json; charset=utf-8", false), ("application/x-www-form-urlencoded", true)] {
        parts.headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        let event = with(&api, &parts, |incoming| incoming.v2(&Bytes::from("a=1"), &nobody));
        assert_eq!(event["isBase64Encoded"], json!(encoded), "{kind}");
        assert_eq!(event["body"], json!(if encoded { "YT0x" } else { "a=1" }), "{kind}");
    }
}

/// The documented event of version 1.0, which that of REST APIs resembles.
fn documented_v1(api: &HttpApi, path: &str, cased: impl Fn(&str) -> String) -> Value {
    let pairs = [
        ("Host", &["id.execute-api.us-east-1.amazonaws.com"][..]),
        ("User-Agent", &["agent"]),
        ("Header1", &["value1"]),
        ("Header2", &["value1", "value2"]),
        ("Cookie", &["cookie1; cookie2"]),
        ("Content-Type", &["text/plain"]),
        ("X-Amzn-Trace-Id", &["trace"]),
        ("X-Forwarded-For", &["192.0.2.1"]),
        ("X-Forwarded-Port", &["80"]),
        ("X-Forwarded-Proto", &["http"]),
    ];
    let headers: Map<String, Value> =
        pairs.iter().map(|(name, values)| (cased(name), json!(values.last().expect("one")))).collect();
    let lists: Map<String, Value> = pairs.iter().map(|(name, values)| (cased(name), json!(values))).collect();
    json!({
        "resource": "/my/path",
        "path": "/my/path",
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": lists,
        "queryStringParameters": {"parameter1": "value1", "parameter2": "value"},
        "multiValueQueryStringParameters": {"parameter1": ["value1", "value2"], "parameter2": ["value"]},
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": api.api_id,
            "authorizer": {"claims": null, "scopes": null},
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "httpMethod": "GET",
            "identity": {
                "accessKey": null,
                "accountId": null,
                "caller": null,
                "cognitoAuthenticationProvider": null,
                "cognitoAuthenticationType": null,
                "cognitoIdentityId": null,
                "cognitoIdentityPoolId": null,
                "principalOrgId": null,
                "sourceIp": "192.0.2.1",
                "user": null,
                "userAgent": "agent",
                "userArn": null,
            },
            "path": path,
            "protocol": "HTTP/1.1",
            "requestId": "JKJaXmPLvHcESHA=",
            "requestTime": "12/Mar/2020:19:03:58 +0000",
            "requestTimeEpoch": NOW,
            "resourceId": null,
            "resourcePath": "/my/path",
            "stage": api.stage,
        },
        "pathParameters": null,
        "stageVariables": null,
        "body": "Hello from Lambda!",
        "isBase64Encoded": false,
    })
}

const QUERY: &str = "?parameter1=value1&parameter1=value2&parameter2=value";

#[test]
fn version_1_has_the_fields_of_the_documented_example() {
    let api = api("HttpApi", "Method: GET, Path: /my/path, PayloadFormatVersion: '1.0'");
    let parts = request("GET", &format!("/my/path{QUERY}"));
    let nobody = AuthorizerContext::default();
    let event = with(&api, &parts, |incoming| incoming.v1(&Bytes::from("Hello from Lambda!"), &nobody));
    let mut expected = documented_v1(&api, "/my/path", str::to_ascii_lowercase);
    expected["version"] = json!("1.0");
    assert_eq!(without_trace(event), expected);
}

#[test]
fn a_rest_event_has_the_fields_of_the_documented_example() {
    let api = api("Api", "Method: GET, Path: /my/path");
    let parts = request("GET", &format!("/Prod/my/path{QUERY}"));
    let nobody = AuthorizerContext::default();
    let mut event = with(&api, &parts, |incoming| incoming.v1(&Bytes::from("Hello from Lambda!"), &nobody));
    let mut expected = documented_v1(&api, "/Prod/my/path", str::to_owned);
    // As recorded events have it: the last value, ids of their own, and no authorizer where there is none.
    expected["queryStringParameters"]["parameter1"] = json!("value2");
    let context = expected["requestContext"].as_object_mut().expect("an object");
    context.remove("authorizer");
    for id in ["requestId", "resourceId"] {
        let own = event["requestContext"][id].take();
        assert!(own.as_str().is_some_and(|own| !own.is_empty()), "{id}: {own}");
        context.insert(id.to_owned(), Value::Null);
    }
    assert_eq!(without_trace(event), expected);
}

#[test]
fn a_rest_event_has_null_for_what_does_not_exist_and_encodes_binary_types_only() {
    let api = api("Api", "Method: any, Path: '/{proxy+}'");
    let nobody = AuthorizerContext::default();
    let mut parts = request("POST", "/a/b%20c/");
    let event = with(&api, &parts, |incoming| incoming.v1(&Bytes::new(), &nobody));
    for name in ["queryStringParameters", "multiValueQueryStringParameters", "stageVariables", "body"] {
        assert_eq!(event.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(event["pathParameters"], json!({"proxy": "a/b%20c"}));
    assert_eq!((&event["resource"], &event["path"]), (&json!("/{proxy+}"), &json!("/a/b%20c/")));
    for (kind, encoded) in [("image/png", true), ("application/octet-stream", false)] {
        parts.headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        let event = with(&api, &parts, |incoming| incoming.v1(&Bytes::from("\x01\x02"), &nobody));
        assert_eq!(event["isBase64Encoded"], json!(encoded), "{kind}");
    }
}

fn sources(names: &[&str]) -> Vec<HttpIdentitySource> {
    let mut sources: Vec<_> = names.iter().map(|name| HttpIdentitySource::Header((*name).to_owned())).collect();
    sources.push(HttpIdentitySource::Query("parameter2".to_owned()));
    sources
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn authorizers_get_the_fields_of_the_documented_examples() {
    let http = api("HttpApi", "Method: GET, Path: '/{a}/path'");
    let parts = request("GET", &format!("/my/path{QUERY}"));
    let asked = |api: &HttpApi, parts: &Parts, input: &AuthorizerInput| {
        with(api, parts, |incoming| authorizer_event(incoming, input)).expect("its identity sources are there")
    };
    let arn = format!("arn:aws:execute-api:eu-central-1:000000000000:{}/$default/GET/my/path", http.api_id);

    let v2 = AuthorizerInput::Request { sources: sources(&["header1"]), payload: PayloadVersion::V2 };
    let event = asked(&http, &parts, &v2);
    assert_eq!(
        names(&event),
        [
            "cookies",
            "headers",
            "identitySource",
            "pathParameters",
            "queryStringParameters",
            "rawPath",
            "rawQueryString",
            "requestContext",
            "routeArn",
            "routeKey",
            "type",
            "version",
        ]
    );
    assert_eq!((&event["routeArn"], &event["identitySource"]), (&json!(arn), &json!(["value1", "value"])));

    let v1 = AuthorizerInput::Request { sources: sources(&["header1"]), payload: PayloadVersion::V1 };
    let event = asked(&http, &parts, &v1);
    assert_eq!(
        names(&event),
        [
            "authorizationToken",
            "headers",
            "httpMethod",
            "identitySource",
            "methodArn",
            "path",
            "pathParameters",
            "queryStringParameters",
            "requestContext",
            "resource",
            "stageVariables",
            "type",
            "version",
        ]
    );
    assert_eq!((&event["methodArn"], &event["identitySource"]), (&json!(arn), &json!("value1,value")));

    let rest = api("Api", "Method: GET, Path: '/{a}/path'");
    let parts = request("GET", &format!("/Prod/my/path{QUERY}"));
    let event = asked(&rest, &parts, &v1);
    assert_eq!(
        names(&event),
        [
            "headers",
            "httpMethod",
            "methodArn",
            "multiValueHeaders",
            "multiValueQueryStringParameters",
            "path",
            "pathParameters",
            "queryStringParameters",
            "requestContext",
            "resource",
            "stageVariables",
            "type",
        ]
    );
    assert_eq!((&event["type"], &event["stageVariables"]), (&json!("REQUEST"), &json!({})));
    let arn = format!("arn:aws:execute-api:eu-central-1:000000000000:{}/Prod/GET/my/path", rest.api_id);
    let token = AuthorizerInput::Token { header: "header1".to_owned(), pattern: None };
    let expected = json!({"type": "TOKEN", "authorizationToken": "value1", "methodArn": arn});
    assert_eq!(asked(&rest, &parts, &token), expected);
}

#[test]
fn without_its_identity_sources_an_authorizer_is_not_asked() {
    let api = api("Api", "Method: GET, Path: /a");
    let parts = request("GET", "/a");
    let pattern = |text: &str| Some(regex::Regex::new(text).expect("valid"));
    for input in [
        AuthorizerInput::Request { sources: sources(&[]), payload: PayloadVersion::V1 },
        AuthorizerInput::Token { header: "other".to_owned(), pattern: None },
        AuthorizerInput::Token { header: "header1".to_owned(), pattern: pattern("^x") },
    ] {
        let refused = with(&api, &parts, |incoming| authorizer_event(incoming, &input)).is_err();
        assert!(refused, "{input:?}");
    }
}
