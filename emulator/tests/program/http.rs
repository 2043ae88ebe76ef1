//! HTTP and REST APIs beside the sockets.

use apigw_local::{FaultOptions, GatewayOptions};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};

use crate::{
    cli::RunningProgram,
    scripted::{HttpReply, RAW, Scripted, ScriptedResult, WAIT_MAX, ask, send},
    templates::serve_echo,
};

/// Answers with the event, or as the query says. The authorizer goes by what it is shown.
async fn script(name: String, event: Value) -> ScriptedResult {
    if name == "Authorize" {
        let shown = event["authorizationToken"].as_str().or(event["queryStringParameters"]["token"].as_str());
        return match (shown, event["identitySource"][0].as_str()) {
            (Some("good"), _) => Ok(policy("Allow")),
            (Some("bad"), _) => Ok(policy("Deny")),
            (Some("nobody"), _) => Err("Unauthorized"),
            (Some("half"), _) => Ok(json!({RAW: policy("Allow").to_string().replace("red", r"\ud83d")})),
            (_, Some("half")) => Ok(json!({RAW: r#"{"isAuthorized": true, "context": {"user": "\ud83d"}}"#})),
            (_, Some("slow")) => std::future::pending().await,
            (_, Some(user)) => Ok(json!({"isAuthorized": user == "ann", "context": {"user": user, "roles": ["a"]}})),
            _ => Ok(json!("no answer of an authorizer")),
        };
    }
    match event["queryStringParameters"]["answer"].as_str() {
        Some("throw") => Err("it broke"),
        Some("malformed") => Ok(json!({"statusCode": 200, "body": {"not": "a text"}})),
        Some("half") => Ok(json!({RAW: r#"{"statusCode": 200, "body": "cut \ud83d"}"#})),
        Some("slow") => std::future::pending().await,
        Some("interim") => Ok(json!({"statusCode": 101, "headers": {"Upgrade": "websocket"}, "body": ""})),
        Some("framed") => {
            let headers = json!({"Content-Length": "3", "Transfer-Encoding": "chunked", "Connection": "keep-alive"});
            Ok(json!({"statusCode": 200, "headers": headers, "body": "whole"}))
        }
        _ => Ok(json!({"statusCode": 200, "body": event.to_string()})),
    }
}

fn policy(effect: &str) -> Value {
    json!({
        "principalId": "user-1",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{
                "Action": "execute-api:Invoke",
                "Effect": effect,
                "Resource": ["*/Prod/GET/*", "*/closed/GET/*"],
            }],
        },
        "context": {"team": "red", "level": 3},
    })
}

async fn start_with(parameters: &[(&str, &str)], gateway: GatewayOptions) -> Scripted {
    Scripted::with("http.yaml", parameters, gateway, FaultOptions::default(), script).await
}

async fn start() -> Scripted {
    start_with(&[], GatewayOptions::default()).await
}

async fn get(site: &Scripted, path: &str, headers: &str) -> HttpReply {
    ask(site.stack.http_addr, &format!("GET {path}"), headers, "").await
}

/// The event that the function got for a GET.
async fn event(site: &Scripted, path: &str, headers: &str) -> Value {
    let reply = get(site, path, headers).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

/// A header of the answer to a GET.
async fn header(site: &Scripted, path: &str, name: &str) -> Option<String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("http://{}{path}", site.stack.http_addr).parse().expect("an address");
    let response = client.get(uri).await.expect("an answer");
    response.headers().get(name).map(|value| value.to_str().expect("a text").to_owned())
}

fn message(reply: &HttpReply) -> Value {
    serde_json::from_str::<Value>(&reply.body).expect("JSON")["message"].clone()
}

#[tokio::test]
async fn a_path_with_the_stage_and_one_without_lead_to_the_same_route() {
    let site = start().await;
    for (path, resource, whole) in [
        ("/hello", "/hello", "/hello"),
        ("/Prod/hello/", "/hello", "/Prod/hello/"),
        ("/stage/users", "/users", "/stage/users"),
    ] {
        let event = event(&site, path, "").await;
        assert_eq!(event["resource"], resource, "{path}");
        assert_eq!(event["requestContext"]["path"], whole, "{path}");
    }
    let item = event(&site, "/items/a%20b?x=1", "Cookie: c=d\r\n").await;
    assert_eq!((&item["version"], &item["routeKey"]), (&json!("2.0"), &json!("GET /items/{id}")));
    assert_eq!((&item["pathParameters"], &item["cookies"]), (&json!({"id": "a b"}), &json!(["c=d"])));
    assert_eq!(
        (&item["rawPath"], &item["requestContext"]["http"]["path"]),
        (&json!("/items/a b"), &json!("/items/a b"))
    );
    let old = event(&site, "/old/a%20b", "").await;
    assert_eq!((&old["path"], &old["requestContext"]["path"]), (&json!("/old/a b"), &json!("/old/a b")));
    let encoded = event(&site, "/Prod/hell%6F", "").await;
    assert_eq!(encoded["path"], "/hell%6F", "REST APIs leave it");
    assert_eq!(event(&site, "/small/only", "").await["routeKey"], "GET /only");
    let old = event(&site, "/old/a/b", "").await;
    assert_eq!((&old["version"], &old["pathParameters"]), (&json!("1.0"), &json!({"proxy": "a/b"})));
    let staged = event(&site, "/v2/anything", "").await;
    assert_eq!((&staged["routeKey"], &staged["rawPath"]), (&json!("$default"), &json!("/v2/anything")));
    assert_eq!(staged["requestContext"]["stage"], "v2");
    let variables = &site.stack.function_variables["Shop"];
    assert_eq!(variables["REST_URL"], format!("http://{}/Prod/hello", site.stack.http_addr));
    assert_eq!(variables["HTTP_URL"], format!("http://{}", site.stack.http_addr));
    site.stack.stop().await;
}

#[tokio::test]
async fn an_api_has_a_host_name_of_its_own() {
    let site = start().await;
    let named = |name: &str| format!("Host: {name}.localhost:{}\r\n", site.stack.http_addr.port());
    let of = async |name: &str, path: &str| send(site.stack.http_addr, &format!("GET {path}"), &named(name), b"").await;
    assert_eq!(of("ServerlessRestApi", "/hello").await.status, 200);
    assert_eq!(of("rest", "/hello").await.status, 404, "{:?}", of("rest", "/hello").await);
    assert!(of("plain", "/health").await.body.contains("$default"));
    assert_eq!(get(&site, "/health", "").await.body, r#"{"status":"ok"}"#);
    let plain = of("plain", "/hello").await;
    assert_eq!(serde_json::from_str::<Value>(&plain.body).expect("JSON")["routeKey"], "$default");
    site.stack.stop().await;
}

#[tokio::test]
async fn failures_are_those_of_the_kind_of_api() {
    let limit =
        GatewayOptions { integration_timeout: Some(std::time::Duration::from_secs(1)), ..GatewayOptions::default() };
    let site = start_with(&[], limit).await;
    for (path, status, text) in [
        ("/hello?answer=throw", 502, "Internal server error"),
        ("/hello?answer=malformed", 502, "Internal server error"),
        ("/hello?answer=slow", 504, "Endpoint request timed out"),
        ("/items/1?answer=throw", 500, "Internal Server Error"),
        ("/items/1?answer=malformed", 500, "Internal Server Error"),
        ("/items/1?answer=slow", 503, "Service Unavailable"),
        ("/hello?answer=interim", 502, "Internal server error"),
        ("/items/1?answer=interim", 500, "Internal Server Error"),
    ] {
        let reply = get(&site, path, "").await;
        assert_eq!((reply.status, message(&reply)), (status, json!(text)), "{path}");
        assert_eq!(reply.error_type, if status == 502 { "InternalServerErrorException" } else { "" }, "{path}");
    }
    // A Lambda authorizer has a limit too.
    let reply = get(&site, "/v2/closed", "X-User: slow\r\n").await;
    assert_eq!((reply.status, message(&reply)), (500, json!("Internal Server Error")));
    // An answer is not malformed because a function has cut a text in the middle of a character.
    for (path, headers) in [
        ("GET /hello?answer=half", ""),
        ("GET /items/1?answer=half", ""),
        ("GET /token/1?answer=half", "Authorization: half\r\n"),
        ("PUT /v2/things/1?answer=half", "X-User: half\r\n"),
    ] {
        let reply = ask(site.stack.http_addr, path, headers, "").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "cut \u{fffd}"), "{path}");
    }
    let large = "x".repeat(10 * 1024 * 1024 + 1);
    for (path, text) in [
        ("/hello", "HTTP content length exceeded 10485760 bytes."),
        ("/old/a", r#"{"message":"Request Entity Too Large"}"#),
    ] {
        let reply = ask(site.stack.http_addr, &format!("POST {path}"), "", &large).await;
        assert_eq!((reply.status, reply.body.as_str()), (413, text), "{path}");
    }
    site.stack.stop().await;
}

#[tokio::test]
async fn an_event_that_is_too_large_for_lambda_is_413() {
    let site = start().await;
    let (plain, binary) = ("Content-Type: text/plain\r\n", "Content-Type: image/png\r\n");
    for (method_and_path, headers, megabytes, expected) in [
        ("POST /hello", plain, 5, (200, "")),
        ("POST /hello", plain, 6, (413, "BadRequestException")),
        ("POST /old/a", plain, 5, (200, "")),
        // As base64 it has 6.7 MB.
        ("POST /old/a", binary, 5, (413, "")),
    ] {
        let reply = ask(site.stack.http_addr, method_and_path, headers, &"x".repeat(megabytes * 1024 * 1024)).await;
        let found = (reply.status, reply.error_type.as_str());
        assert_eq!(found, expected, "{method_and_path} {headers} {megabytes}");
        if reply.status == 413 {
            let text = if reply.error_type.is_empty() { "Request Entity Too Large" } else { "Request Too Long" };
            assert_eq!(message(&reply), text, "{method_and_path} {headers} {megabytes}");
        }
    }
    site.stack.stop().await;
}

#[tokio::test]
async fn refusals_before_the_authorizer_are_the_gateway_s_as_all_others_are() {
    let site = start().await;
    let page = "Origin: https://shop.example\r\n";
    let (large, long) = ("x".repeat(10 * 1024 * 1024 + 1), format!("{page}X-Long: {}\r\n", "x".repeat(10_240)));
    for (headers, body, status) in [(page, large.as_str(), 413), (long.as_str(), "", 431)] {
        let reply = ask(site.stack.http_addr, "PUT /v2/things/1", headers, body).await;
        assert_eq!((reply.status, reply.header("apigw-requestid").is_empty()), (status, false), "{}", reply.head);
        assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example", "{}", reply.head);
    }
    let headers = |count: usize| (0..count).map(|index| format!("X-{index}: a\r\n")).collect::<String>();
    for path in ["/hello", "/items/1"] {
        let reply = get(&site, path, &headers(300)).await;
        let event: Value = serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.head));
        assert!(event["headers"].as_object().is_some_and(|all| all.len() > 300), "{path}");
        let reply = get(&site, path, &headers(1_001)).await;
        assert_eq!((reply.status, reply.body.contains("Request Header Fields Too Large")), (431, true), "{path}");
    }
    let reply = get(&site, "/hello", &long).await;
    assert_eq!((reply.status, reply.header("x-refused")), (431, "yes"), "{}", reply.head);
    assert!(!reply.header("x-amzn-requestid").is_empty(), "{}", reply.head);
    site.stack.stop().await;
    let quota = Some("1:1".parse().expect("a rate"));
    let busy = start_with(&[], GatewayOptions { request_rate: quota, ..GatewayOptions::default() }).await;
    let refused = async {
        loop {
            let reply = get(&busy, "/hello", "").await;
            if reply.status != 200 {
                break reply;
            }
        }
    };
    let reply = tokio::time::timeout(WAIT_MAX, refused).await.expect("a quota of one request a second");
    assert_eq!((reply.status, reply.error_type.as_str()), (429, "TooManyRequestsException"));
    assert_eq!(reply.header("x-refused"), "yes", "{}", reply.head);
    busy.stack.stop().await;
}

#[tokio::test]
async fn the_gateway_frames_responses_itself_and_names_the_request() {
    let site = start().await;
    for (path, ids) in [
        ("/items/1?answer=framed", &["apigw-requestid"][..]),
        ("/hello?answer=framed", &["x-amzn-requestid", "x-amz-apigw-id", "x-amzn-trace-id"]),
    ] {
        let reply = get(&site, path, "").await;
        assert_eq!((reply.status, reply.body.as_str(), reply.header("content-length")), (200, "whole", "5"), "{path}");
        assert_eq!((reply.header("transfer-encoding"), reply.header("connection")), ("", "close"), "{path}");
        assert!(ids.iter().all(|id| !reply.header(id).is_empty()), "{path}: {}", reply.head);
    }
    let reply = get(&site, "/hello", "").await;
    let event: Value = serde_json::from_str(&reply.body).expect("JSON");
    let context = &event["requestContext"];
    assert_eq!(context["requestId"], reply.header("x-amzn-requestid"));
    assert_eq!(context["extendedRequestId"], reply.header("x-amz-apigw-id"));
    assert_eq!(event["headers"]["X-Amzn-Trace-Id"], reply.header("x-amzn-trace-id"));
    let reply = get(&site, "/items/1", "").await;
    let event: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(event["requestContext"]["requestId"], reply.header("apigw-requestid"));
    site.stack.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_named_at_the_start_and_in_the_answer() {
    let site = start().await;
    let notes = site.stack.notes.join("\n");
    for (request, status, text) in [
        (
            "POST /stage/users",
            501,
            "POST /users is not served here: the emulator does not run the integration of RestPost",
        ),
        ("GET /pool", 501, "GET /pool is not served here: its authorizer ByPool checks tokens of a Cognito user pool"),
    ] {
        let reply = ask(site.stack.http_addr, request, "", "").await;
        assert_eq!(reply.status, status, "{request}: {}", reply.body);
        let said = message(&reply);
        assert!(said.as_str().is_some_and(|said| said.starts_with(text)), "{said}");
        let reason = text.split_once(": ").expect("a reason").1;
        assert!(notes.contains(reason), "{notes}");
    }
    assert!(site.events_of("Shop").is_empty());
    let missing = ask(site.stack.http_addr, "GET /stage/user", "", "").await;
    assert_eq!((missing.status, missing.error_type.as_str()), (403, "MissingAuthenticationTokenException"));
    let body: Value = serde_json::from_str(&missing.body).expect("JSON");
    assert_eq!(body["message"], "Missing Authentication Token");
    assert!(
        body["hint"].as_str().is_some_and(|hint| hint.contains("no route for GET /stage/user; near it are ")),
        "{body}"
    );
    site.stack.stop().await;
}

#[tokio::test]
async fn rest_authorizers_let_in_refuse_or_break() {
    let site = start().await;
    let by_token = async |token: &str| get(&site, "/Prod/token/7", &format!("Authorization: {token}\r\n")).await;
    let reply = by_token("good").await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let event: Value = serde_json::from_str(&reply.body).expect("JSON");
    let context = &event["requestContext"]["authorizer"];
    assert_eq!((&context["principalId"], &context["level"]), (&json!("user-1"), &json!("3")));
    assert!(context["integrationLatency"].is_u64(), "{context}");
    let asked = site.event_of("Authorize").await;
    let arn = asked["methodArn"].as_str().expect("an ARN").to_owned();
    assert_eq!(asked, json!({"type": "TOKEN", "authorizationToken": "good", "methodArn": arn}));
    assert!(arn.ends_with("/Prod/GET/token/7"), "{arn}");

    let denied = by_token("bad").await;
    assert_eq!((denied.status, denied.error_type.as_str()), (403, "AccessDeniedException"));
    assert!(denied.body.contains(r#""Message":"User is not authorized to access this resource with an explicit deny"#));
    for (token, status, body) in
        [("nobody", 401, json!({"message": "Unauthorized"})), ("other", 500, json!({"message": null}))]
    {
        let reply = by_token(token).await;
        assert_eq!((reply.status, reply.body), (status, body.to_string()), "{token}");
    }
    let asked = site.events_of("Authorize").len();
    assert_eq!((get(&site, "/token/7", "").await.status, get(&site, "/request", "").await.status), (401, 401));
    assert_eq!(site.events_of("Authorize").len(), asked, "without its identity source it is not asked");
    assert_eq!(header(&site, "/token/7", "x-refused").await.as_deref(), Some("yes"), "the gateway response");
    assert_eq!(header(&site, "/stage/none", "x-refused").await, None, "that of another API");
    assert_eq!(get(&site, "/request?token=good", "").await.status, 200);
    assert_eq!(get(&site, "/request?token=bad", "").await.status, 403);

    let without_key = get(&site, "/paid", "").await;
    assert_eq!((without_key.status, message(&without_key)), (403, json!("Forbidden")));
    assert_eq!(get(&site, "/paid", "X-Api-Key: any\r\n").await.status, 200);
    site.stack.stop().await;
}

#[tokio::test]
async fn the_resource_policy_of_a_rest_api_decides_before_its_authorizers() {
    let site = start().await;
    let denied = async |path: &str, headers: &str, reason: &str| {
        let reply = get(&site, &format!("/closed{path}"), headers).await;
        assert_eq!((reply.status, reply.error_type.as_str()), (403, "AccessDeniedException"), "{path}");
        let said = serde_json::from_str::<Value>(&reply.body).expect("JSON")["Message"].clone();
        let said = said.as_str().expect("a text");
        assert!(said.starts_with("User: anonymous is not authorized to perform: execute-api:Invoke on resource: "));
        assert!(said.contains(":********0000:") && said.ends_with(&format!("/closed/GET{path} {reason}")), "{said}");
        assert_eq!(reply.header("x-refused"), "yes", "{}", reply.head);
    };
    for spelling in ["/denied", "/denied/", "/%64enied"] {
        denied(spelling, "", "with an explicit deny in a resource-based policy").await;
    }
    let not_allowed = "because no resource-based policy allows the execute-api:Invoke action";
    denied("/neither", "", not_allowed).await;
    // Only the account is masked.
    denied("/000000000000/neither", "", not_allowed).await;
    assert_eq!(get(&site, "/closed/allowed", "").await.status, 200);
    // Where nothing denies it, the authorizer decides.
    for (token, status) in [("good", 200), ("bad", 403), ("nobody", 401)] {
        let reply = get(&site, "/closed/asked", &format!("Authorization: {token}\r\n")).await;
        assert_eq!(reply.status, status, "{token}: {}", reply.body);
    }
    let reply = get(&site, "/unknown/far", "Referer: https://shop.example/a\r\n").await;
    let why = "statement 1 has the condition StringLike aws:Referer, which is not evaluated here: take it out to try \
               the policy locally";
    assert_eq!(reply.status, 501);
    assert!(reply.body.contains(why), "{}", reply.body);
    let note = format!("the REST API Unknown is not served: its resource policy cannot be evaluated, {why}");
    assert!(site.stack.notes.contains(&note), "{:?}", site.stack.notes);
    site.stack.stop().await;
}

#[tokio::test]
async fn signatures_are_checked_if_the_options_say_so_and_otherwise_a_note_says_that_they_are_not() {
    let open = start().await;
    assert_eq!(get(&open, "/iam", "").await.status, 200);
    let note = "AWS_IAM of GET /iam is not checked: requests that are unsigned or wrongly signed are let in without \
        --check-signatures";
    assert!(open.stack.notes.iter().any(|own| own == note), "{:?}", open.stack.notes);
    open.stack.stop().await;

    let checked = GatewayOptions { check_signatures: true, ..GatewayOptions::default() };
    let site = start_with(&[], checked).await;
    assert!(!site.stack.notes.iter().any(|own| own == note));
    let unsigned = get(&site, "/iam", "").await;
    assert_eq!((unsigned.status, message(&unsigned)), (403, json!("Missing Authentication Token")));
    let wrong = get(&site, "/iam", "Authorization: AWS4-HMAC-SHA256 x\r\n").await;
    assert_eq!((wrong.status, wrong.error_type.as_str()), (403, "IncompleteSignatureException"));
    site.stack.stop().await;
}

#[tokio::test]
async fn a_simple_answer_of_an_authorizer_decides_and_its_context_keeps_its_types() {
    let site = start().await;
    let put = async |headers: &str| ask(site.stack.http_addr, "PUT /v2/things/1", headers, "").await;
    let reply = put("X-User: ann\r\n").await;
    let event: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(event["requestContext"]["authorizer"], json!({"lambda": {"user": "ann", "roles": ["a"]}}));
    for (headers, status, text) in [("X-User: bob\r\n", 403, "Forbidden"), ("", 401, "Unauthorized")] {
        let reply = put(headers).await;
        assert_eq!((reply.status, message(&reply)), (status, json!(text)), "{headers}");
    }
    site.stack.stop().await;
}

#[tokio::test]
async fn a_route_with_a_jwt_authorizer_lets_nobody_in_whose_token_cannot_be_checked() {
    let site = start().await;
    let reply = get(&site, "/orders", "").await;
    assert_eq!((reply.status, message(&reply)), (401, json!("Unauthorized")));
    assert_eq!(header(&site, "/orders", "www-authenticate").await.as_deref(), Some("Bearer"));
    let reply = get(&site, "/orders", "Authorization: Bearer x.y.z\r\n").await;
    assert_eq!((reply.status, message(&reply)), (401, json!("Unauthorized")));
    // Its issuer does not answer. The token is {"alg":"RS256","kid":"a"}.{}.
    let unverifiable = "Authorization: Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.e30.AAAA\r\n";
    let reply = get(&site, "/admin", unverifiable).await;
    assert_eq!((reply.status, message(&reply)), (500, json!("Internal Server Error")));
    assert!(site.events_of("Shop").is_empty());
    site.stack.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_may_do_what_cors_allows_and_no_more() {
    let site = start().await;
    let page = |origin: &str| format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
    let preflight = "Access-Control-Request-Method: POST\r\n";
    let (shop, evil) = (page("https://shop.example"), page("https://evil.example"));
    let status = async |request: &str, headers: &str| ask(site.stack.http_addr, request, headers, "").await.status;
    // A REST API answers preflights with a route, and what that allows may be sent.
    assert_eq!(status("OPTIONS /Prod/hello", &format!("{shop}{preflight}")).await, 200);
    assert_eq!(status("POST /Prod/hello", &shop).await, 200);
    assert_eq!(status("POST /Prod/hello", &evil).await, 403);
    assert_eq!(status("PUT /Prod/hello", &shop).await, 403);
    assert_eq!(status("GET /Prod/hello", &evil).await, 200, "browsers hide the answer");
    // An HTTP API goes by its configuration. Its route for everything gets preflights too.
    let asks_to_put = "Access-Control-Request-Method: PUT\r\n";
    let events = site.events_of("Shop").len();
    assert_eq!(status("OPTIONS /v2/things/1", &format!("{shop}{asks_to_put}")).await, 200);
    assert_eq!(site.events_of("Shop")[events]["routeKey"], "$default");
    assert_eq!(status("OPTIONS /v2/things/1", &format!("{evil}{asks_to_put}")).await, 403);
    assert_eq!(status("PUT /v2/things/1", &format!("{shop}X-User: ann\r\n")).await, 200);
    assert_eq!(status("PUT /v2/things/1", &format!("{evil}X-User: ann\r\n")).await, 403);
    assert_eq!(status("POST /old/a", &shop).await, 403, "another API's configuration is not its");
    // Nor is that of an API with another method of the path, nor the response of one to preflights.
    assert_eq!(status("PUT /puts/1", &evil).await, 403);
    assert_eq!(status("OPTIONS /puts/1", &format!("{evil}{asks_to_put}")).await, 403);
    assert_eq!(status("POST /posts/1", &shop).await, 403);
    assert_eq!(get(&site, "/puts/1", &evil).await.header("access-control-allow-origin"), "*");
    assert_eq!(status("PUT /puts/1", "").await, 200);
    // The emulator's own paths are not a route's for everything.
    assert_eq!(status("PUT /reset", &shop).await, 403);
    assert_eq!(status("OPTIONS /reset", &format!("{shop}Access-Control-Request-Method: POST\r\n")).await, 403);
    assert_eq!(status("GET /health", "").await, 200);
    assert_eq!(status("POST /reset", "").await, 200);
    site.stack.stop().await;
}

#[tokio::test]
async fn functions_that_answer_preflights_are_reached_by_pages_of_this_machine() {
    let site = start().await;
    let page = |origin: &str| format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
    let (own, evil) = (page("http://localhost:5173"), page("https://evil.example"));
    let asked = "Access-Control-Request-Method: POST\r\n";
    let send = async |request: &str, headers: &str| ask(site.stack.http_addr, request, headers, "").await;
    // Its route is for all methods.
    let preflight = send("OPTIONS /old/a", &format!("{own}{asked}")).await;
    let event: Value = serde_json::from_str(&preflight.body).expect("the event");
    assert_eq!((preflight.status, &event["httpMethod"]), (200, &json!("OPTIONS")));
    assert_eq!(send("POST /old/a", &own).await.status, 200);
    assert_eq!(send("OPTIONS /old/a", &format!("{evil}{asked}")).await.status, 403);
    assert_eq!(send("POST /old/a", &evil).await.status, 403);
    // The configuration of an API decides, and so do its authorizers.
    assert_eq!(send("POST /v2/things", &own).await.status, 403);
    let closed = format!("{}Access-Control-Request-Method: PUT\r\n", page("https://shop.example"));
    let refused = send("OPTIONS /v2/closed", &closed).await;
    assert_eq!((refused.status, message(&refused)), (401, json!("Unauthorized")));
    let allowed = send("OPTIONS /v2/closed", &format!("{closed}X-User: ann\r\n")).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-methods")), (200, "PUT"));
    // A page of an allowed origin sees that there is no route.
    let missing = send("DELETE /small/only", &page("https://small.example")).await;
    assert_eq!((missing.status, message(&missing)), (404, json!("Not Found")));
    assert_eq!(missing.header("access-control-allow-origin"), "https://small.example");
    assert_eq!(send("DELETE /small/only", &evil).await.status, 403);
    assert_eq!(send("DELETE /health", &page("https://shop.example")).await.status, 403);
    site.stack.stop().await;
}

#[tokio::test]
async fn an_http_proxy_passes_requests_and_responses_on() {
    let server = serve_echo().await.to_string();
    let site = start_with(&[("Server", &server)], GatewayOptions::default()).await;
    let headers = "X-Static: yes\r\nContent-Type: text/plain\r\n";
    let reply = ask(site.stack.http_addr, "PATCH /v2/proxied/a%20b/c?d=%20e", headers, "body").await;
    let got: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!((&got["method"], &got["path"]), (&json!("PATCH"), &json!("/base/a%20b/c?d=%20e")));
    assert_eq!((&got["static"], &got["type"], &got["body"]), (&json!("yes"), &json!("text/plain"), &json!("body")));
    let host = site.stack.http_addr;
    assert_eq!(got["forwarded"], format!(r#"for=127.0.0.1;host="{host}";proto=http"#));
    assert_eq!(got["via"], "HTTP/1.1 AmazonAPIGateway");
    let before = "Forwarded: for=192.0.2.1;proto=https\r\nVia: 1.1 edge\r\n";
    let got: Value = serde_json::from_str(&get(&site, "/v2/proxied/a", before).await.body).expect("JSON");
    let forwarded = format!(r#"for=192.0.2.1;proto=https, for=127.0.0.1;host="{host}";proto=http"#);
    assert_eq!(got["forwarded"], forwarded);
    assert_eq!(get(&site, "/proxied/fail", "").await.status, 503);
    let one = get(&site, "/v2/one/a%2Fb%20c", "TE: trailers\r\n").await;
    let got: Value = serde_json::from_str(&one.body).expect("JSON");
    assert_eq!((&got["path"], &got["te"]), (&json!("/one/a%2Fb%20c/end"), &Value::Null));
    let kept = get(&site, "/v2/one/kept", "").await;
    assert_eq!((kept.status, kept.header("keep-alive"), kept.header("upgrade")), (200, "", ""));
    site.stack.stop().await;
    let limit = GatewayOptions {
        integration_timeout: Some(std::time::Duration::from_millis(100)),
        ..GatewayOptions::default()
    };
    let slow = start_with(&[("Server", &server)], limit).await;
    // The limit of WAIT_MAX is below that of the template.
    assert_eq!(get(&slow, "/v2/one/never", "").await.status, 503);
    slow.stack.stop().await;
    let nobody = start().await;
    assert_eq!(get(&nobody, "/proxied/a", "").await.status, 503);
    nobody.stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn a_function_of_node_answers_both_kinds_of_api() {
    let running = RunningProgram::with("tests/program/http_node.yaml", &[]);
    let address = running.address("http://");
    let address = address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let get = async |path: &str| ask(address, &format!("GET {path}"), "", "").await.body;
    assert_eq!(get("/pets/7").await, r#"{"version":"2.0","id":"7"}"#);
    assert_eq!(get("/Prod/dogs/7").await, r#"{"resource":"/dogs/{id}","id":"7"}"#);
    let printed = running.lines.join("\n");
    assert!(printed.contains(&format!("# the REST API ServerlessRestApi: http://{address}/Prod\n")), "{printed}");
}
