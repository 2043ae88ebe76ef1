//! Functions behind streams of tables, queues, topics and rules.

use apigw_local::{FaultOptions, GatewayOptions};
use serde_json::{Value, json};

use crate::scripted::{Scripted, ScriptedResult, ask, eventually};

async fn start<F>(script: impl Fn(String, Value) -> F + Send + Sync + 'static) -> Scripted
where
    F: Future<Output = ScriptedResult> + Send + 'static,
{
    Scripted::with("sources.yaml", &[], GatewayOptions::default(), FaultOptions::default(), script).await
}

/// Calls a service of the emulator, which must do as it is told.
async fn call(site: &Scripted, service: &str, target: &str, input: Value) -> Value {
    let address = site.stack.aws_variables[&format!("AWS_ENDPOINT_URL_{service}")].trim_start_matches("http://");
    let signature = "AWS4-HMAC-SHA256 Credential=local/20261130/eu-central-1/x/aws4_request, SignedHeaders=host, \
        Signature=0";
    let headers = format!(
        "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: {target}\r\nX-Amz-Date: 20261130T000000Z\r\n\
         Authorization: {signature}\r\n"
    );
    let reply = ask(address.parse().expect("an address"), "POST /", &headers, &input.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

async fn put(site: &Scripted, id: &str, kind: &str) {
    let item = json!({"id": {"S": id}, "kind": {"S": kind}});
    call(site, "DYNAMODB", "DynamoDB_20120810.PutItem", json!({"TableName": "Items", "Item": item})).await;
}

/// Receives one message of the queue for what was given up.
async fn given_up(site: &Scripted) -> Value {
    let input = json!({"QueueUrl": "/GivenUp", "WaitTimeSeconds": 20, "AttributeNames": ["All"]});
    let received = call(site, "SQS", "AmazonSQS.ReceiveMessage", input).await;
    received["Messages"][0].clone()
}

async fn send(site: &Scripted, body: Value) {
    let input = json!({"QueueUrl": "/Jobs", "MessageBody": body.to_string()});
    call(site, "SQS", "AmazonSQS.SendMessage", input).await;
}

/// What a field of the records of each event is.
fn records_of(site: &Scripted, function: &str, pointer: &str) -> Vec<Vec<Value>> {
    let of = |event: Value| {
        let records = event["Records"].as_array().expect("records");
        records.iter().map(|record| record.pointer(pointer).cloned().unwrap_or_default()).collect()
    };
    site.events_of(function).into_iter().map(of).collect()
}

#[tokio::test]
async fn a_function_gets_the_changes_of_a_table_in_their_order() {
    let site = start(|_, _| async { Ok(Value::Null) }).await;
    for (id, kind) in [("a", "x"), ("b", "x"), ("a", "y")] {
        put(&site, id, kind).await;
    }
    let key = json!({"TableName": "Items", "Key": {"id": {"S": "a"}}});
    call(&site, "DYNAMODB", "DynamoDB_20120810.DeleteItem", key).await;
    eventually("four records", || records_of(&site, "Streamed", "").concat().len() == 4).await;
    assert_eq!(records_of(&site, "Streamed", "/eventName").concat(), ["INSERT", "INSERT", "MODIFY", "REMOVE"]);
    assert_eq!(records_of(&site, "Streamed", "/dynamodb/Keys/id/S").concat(), ["a", "b", "a", "a"]);
    assert!(site.events_of("Fragile").is_empty(), "the filter lets nothing through");
    site.stack.stop().await;
}

#[tokio::test]
async fn a_batch_that_fails_is_split_retried_and_recorded() {
    let site = start(|name, event| async move {
        let has = |id: &str| {
            let records = event["Records"].as_array().expect("records").iter();
            records.clone().find(|record| record["dynamodb"]["Keys"]["id"]["S"] == id).cloned()
        };
        if name != "Fragile" {
            return Ok(Value::Null);
        }
        match (has("bad"), has("worse")) {
            (_, Some(_)) => Err("worse"),
            (Some(bad), _) => Ok(json!({"batchItemFailures": [{"itemIdentifier": bad["dynamodb"]["SequenceNumber"]}]})),
            _ => Ok(json!({"batchItemFailures": []})),
        }
    })
    .await;
    for id in ["a", "b", "bad", "c"] {
        put(&site, id, "wanted").await;
    }
    let record: Value = serde_json::from_str(given_up(&site).await["Body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(record["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(record["DDBStreamBatchInfo"]["batchSize"], 1);
    eventually("the rest", || records_of(&site, "Fragile", "").last().is_some_and(|last| last.len() == 1)).await;
    eventually("the record after it", || {
        let last = records_of(&site, "Fragile", "/dynamodb/Keys/id/S").pop();
        last.is_some_and(|last| last == ["c"])
    })
    .await;
    let ids = records_of(&site, "Fragile", "/dynamodb/Keys/id/S");
    assert_eq!(ids[0], ["a", "b", "bad", "c"]);
    assert_eq!(ids[1..], [vec![json!("bad")], vec![json!("bad")], vec![json!("c")]], "nothing that is done again");
    put(&site, "worse", "wanted").await;
    assert_eq!(given_up(&site).await["Attributes"]["ApproximateReceiveCount"], "1");
    site.stack.stop().await;
}

#[tokio::test]
async fn a_message_is_deleted_comes_back_or_becomes_a_dead_letter() {
    let site = start(|name, event| async move {
        let failing = |record: &Value| record["body"].as_str().is_some_and(|body| body.contains("bad"));
        let records = event["Records"].as_array().expect("records").iter();
        let failed: Vec<_> = records
            .filter(|record| failing(record))
            .map(|record| json!({"itemIdentifier": record["messageId"]}))
            .collect();
        Ok(if name == "Worker" { json!({"batchItemFailures": failed}) } else { Value::Null })
    })
    .await;
    send(&site, json!({"n": 1})).await;
    send(&site, json!({"n": 0})).await;
    send(&site, json!({"n": 2, "is": "bad"})).await;
    let letter = given_up(&site).await;
    assert_eq!(letter["Body"], json!({"n": 2, "is": "bad"}).to_string());
    let bodies = records_of(&site, "Worker", "/body").concat();
    let count = |body: Value| {
        let body = Value::from(body.to_string());
        bodies.iter().filter(|one| **one == body).count()
    };
    assert_eq!(count(json!({"n": 1})), 1, "{bodies:?}");
    assert_eq!(count(json!({"n": 2, "is": "bad"})), 2, "as often as the redrive policy allows");
    assert_eq!(count(json!({"n": 0})), 0, "the filter deletes it");
    let counts = json!({"QueueUrl": "/Jobs", "AttributeNames": ["All"]});
    let counts = call(&site, "SQS", "AmazonSQS.GetQueueAttributes", counts).await;
    assert_eq!(counts["Attributes"]["ApproximateNumberOfMessages"], "0");
    assert_eq!(counts["Attributes"]["ApproximateNumberOfMessagesNotVisible"], "0");
    site.stack.stop().await;
}

/// Publishes a message of a kind to the topic.
async fn publish(site: &Scripted, message: &str, kind: &str) {
    let address = site.stack.aws_variables["AWS_ENDPOINT_URL_SNS"].trim_start_matches("http://");
    let form = format!(
        "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-central-1%3A000000000000%3ATopic\
         &Message={message}&MessageAttributes.entry.1.Name=kind&MessageAttributes.entry.1.Value.DataType=String\
         &MessageAttributes.entry.1.Value.StringValue={kind}"
    );
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    let reply = ask(address.parse().expect("an address"), "POST /", headers, &form).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn a_topic_notifies_functions_and_queues() {
    let site = start(|name, _| async move { if name == "Notified" { Err("no") } else { Ok(Value::Null) } }).await;
    publish(&site, "a%20b", "other").await;
    publish(&site, "c", "wanted").await;
    let notified = site.event_of("Notified").await;
    assert_eq!(notified["Records"][0]["Sns"]["Message"], "c");
    assert_eq!(notified["Records"][0]["Sns"]["MessageAttributes"]["kind"]["Value"], "wanted");
    // Without retries its event goes to the topic of its dead letters at once.
    let letter: Value = serde_json::from_str(given_up(&site).await["Body"].as_str().expect("a text")).expect("JSON");
    assert_eq!(serde_json::from_str::<Value>(letter["Message"].as_str().expect("a text")).expect("JSON"), notified);
    let input = json!({"QueueUrl": "/Copies", "MaxNumberOfMessages": 10});
    let copies = call(&site, "SQS", "AmazonSQS.ReceiveMessage", input).await;
    let bodies = copies["Messages"].as_array().expect("messages").iter().map(|message| message["Body"].clone());
    assert_eq!(bodies.collect::<Vec<_>>(), ["a b", "c"]);
    eventually("both through the queue of SAM", || records_of(&site, "Buffered", "").concat().len() == 2).await;
    assert_eq!(site.events_of("Notified").len(), 1);
    site.stack.stop().await;
}

#[tokio::test]
async fn a_rule_hands_events_to_topics_queues_and_buses() {
    let site = start(|_, _| async { Ok(Value::Null) }).await;
    let entry = json!({"Source": "orders", "DetailType": "new", "Detail": "{\"id\":7}", "EventBusName": "bus"});
    call(&site, "EVENTBRIDGE", "AWSEvents.PutEvents", json!({"Entries": [entry]})).await;
    assert_eq!(given_up(&site).await["Body"], "{\"id\":7}");
    let input = json!({"QueueUrl": "/Copies"});
    let copies = call(&site, "SQS", "AmazonSQS.ReceiveMessage", input).await;
    assert_eq!(copies["Messages"][0]["Body"], "\"order 7\"");
    assert_eq!(site.event_of("Ordered").await["detail"], json!({"id": 7}));
    site.stack.stop().await;
}
