//! Requests to EventBridge and Systems Manager that AWS clients do not send, and the page at the root.

use serde_json::{Value, json};

use crate::scripted::{Scripted, accept, ask};

#[tokio::test]
async fn an_unknown_operation_is_named_before_its_input_is_read_and_input_is_strict() {
    let site = Scripted::start(&[], accept).await;
    for (variable, target, body, kind) in [
        ("EVENTBRIDGE", "AWSEvents.PutRule", "", "UnknownOperationException"),
        ("EVENTBRIDGE", "AWSEvents.PutEvents", "{", "SerializationException"),
        ("EVENTBRIDGE", "AWSEvents.PutEvents", r#"{"Entries":[],"Entries":[]}"#, "SerializationException"),
        ("EVENTBRIDGE", "AWSEvents.PutEvents", r#"{"Entries":[]}"#, "ValidationException"),
        ("SSM", "AmazonSSM.GetParameters", "{", "UnknownOperationException"),
        ("SSM", "AmazonSSM.GetParameter", "{", "ValidationException"),
        ("SSM", "AmazonSSM.GetParameter", r#"{"Name":"a","WithDecryption":true}"#, "ParameterNotFound"),
        ("SQS", "AmazonSQS.Forget", "{}", "com.amazonaws.sqs#UnsupportedOperation"),
        ("SQS", "AmazonSQS.Forget", "{", "com.amazon.coral.service#InvalidParameterValueException"),
    ] {
        let address = site.stack.aws_variables[&format!("AWS_ENDPOINT_URL_{variable}")].trim_start_matches("http://");
        let headers = format!("X-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.1\r\n");
        let reply = ask(address.parse().expect("an address"), "POST /", &headers, body).await;
        let error: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!((reply.status, error["__type"].as_str()), (400, Some(kind)), "{target} {body}: {error}");
    }
}

#[tokio::test]
async fn the_root_leads_a_browser_to_the_inspector_and_head_is_not_a_get() {
    let site = Scripted::start(&[], accept).await;
    assert_eq!(ask(site.stack.http_addr, "GET /", "", "").await.status, 302);
    assert_eq!(ask(site.stack.http_addr, "HEAD /", "", "").await.status, 404);
    assert_eq!(ask(site.stack.http_addr, "POST /", "", "").await.status, 404);
}

#[tokio::test]
async fn an_invocation_without_a_payload_has_an_empty_event_and_one_that_is_not_json_does_not_run() {
    let site = Scripted::start(&[], accept).await;
    assert_eq!(site.invoke("Message", "RequestResponse", "").await.status, 200);
    assert_eq!(site.events_of("Message"), [json!({})]);
    for kind in ["RequestResponse", "Event"] {
        let reply = site.invoke("Message", kind, r#"{"Records":"#).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.body.contains("Could not parse request body into json"), "{}", reply.body);
    }
    assert_eq!(site.events_of("Message").len(), 1);
}
