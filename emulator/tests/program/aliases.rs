//! Functions by alias, in integrations and at the Lambda Invoke API.

use apigw_local::{FaultOptions, GatewayOptions};
use serde_json::{Value, json};

use crate::scripted::{Scripted, exchange};

async fn start() -> Scripted {
    let script = |name: String, event: Value| async move {
        Ok(json!({"statusCode": 200, "body": format!("{name} {}", event["body"].as_str().unwrap_or_default())}))
    };
    Scripted::with("aliases.yaml", &[], GatewayOptions::default(), FaultOptions::default(), script).await
}

#[tokio::test]
async fn integrations_reach_functions_by_their_aliases() {
    let site = start().await;
    let (mut socket, _) = site.client().await;
    assert_eq!(exchange(&mut socket, "hello").await, "Message hello");
}

#[tokio::test]
async fn the_invoke_api_knows_functions_by_alias_and_version_in_the_name_and_in_the_query() {
    let site = start().await;
    let arn = "arn:aws:lambda:eu-central-1:000000000000:function:Message";
    let escaped = arn.replace(':', "%3A");
    for function in [
        "Message",
        "Message?Qualifier=green",
        "Message%3Agreen",
        "Message:blue",
        "Message:$LATEST",
        "Message?Qualifier=%24LATEST",
        "Message:1",
        &escaped,
        &format!("{escaped}%3Ablue"),
        &format!("{arn}:green?Qualifier=green"),
        "000000000000:function:Message:green",
        "Connect:live",
    ] {
        let reply = site.invoke(function, "RequestResponse", r#"{"body":"hello"}"#).await;
        let name = if function == "Connect:live" { "Connect" } else { "Message" };
        assert_eq!(reply.status, 200, "{function}: {reply:?}");
        assert_eq!(reply.body, json!({"statusCode": 200, "body": format!("{name} hello")}).to_string(), "{function}");
        assert_eq!(site.invoke(function, "DryRun", "").await.status, 204, "{function}");
        assert_eq!(site.invoke(function, "Event", "{}").await.status, 202, "{function}");
    }
}

#[tokio::test]
async fn an_unknown_alias_is_not_found_and_two_that_differ_are_refused() {
    let site = start().await;
    let arn = "arn:aws:lambda:eu-central-1:000000000000:function";
    for (function, named) in [
        ("Message:live", "Message:live"),
        ("Message?Qualifier=live", "Message:live"),
        ("Connect:green", "Connect:green"),
        ("Nothing", "Nothing"),
        ("Nothing?Qualifier=live", "Nothing:live"),
    ] {
        for kind in ["RequestResponse", "Event", "DryRun"] {
            let reply = site.invoke(function, kind, "{}").await;
            assert_eq!((reply.status, reply.error_type.as_str()), (404, "ResourceNotFoundException"), "{function}");
            assert!(reply.body.contains(&format!("Function not found: {arn}:{named}\"")), "{function}: {}", reply.body);
        }
    }
    let reply = site.invoke("Message:blue?Qualifier=green", "RequestResponse", "{}").await;
    assert_eq!((reply.status, reply.error_type.as_str()), (400, "InvalidParameterValueException"));
    assert!(site.events_of("Message").is_empty() && site.events_of("Connect").is_empty());
}
