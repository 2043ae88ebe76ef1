use serde_json::{Value, json};

use super::*;
use crate::dynamodb::{Store, open};

/// A store with a table `t` whose stream has these images, and a table `other` without one.
fn store(view: StreamView) -> (Arc<Store>, StreamReader) {
    let table = json!({
        "AttributeDefinitions": [{"AttributeName": "Id", "AttributeType": "N"}],
        "KeySchema": [{"AttributeName": "Id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": true},
    });
    let tables = [("table".to_owned(), table.clone()), ("other".to_owned(), table)].into();
    let stream = TableStream { table: "table".to_owned(), view };
    let store = open(None, &tables, &[stream], None, &Clock::System).expect("opened");
    let reader = store.stream("table").expect("a stream").reader();
    (store, reader)
}

fn perform(store: &Store, operation: &str, input: &Value) {
    let (status, answer) = store.carry_out(operation, &input.to_string());
    assert_eq!(status, StatusCode::OK, "{answer}");
}

fn message(text: &str) -> Value {
    json!({"Id": {"N": "101"}, "Message": {"S": text}})
}

/// The records so far, which the reader then has.
async fn records(reader: &StreamReader) -> Vec<Value> {
    let records = reader.next(100, usize::MAX, std::time::Duration::ZERO).await;
    reader.advance(records.last().expect("one at least"));
    records.iter().map(|record| record.event.clone()).collect()
}

fn names(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["eventName"].as_str()).collect()
}

#[tokio::test]
async fn records_are_as_documented() {
    // Source: Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB", example event.
    let (store, reader) = store(StreamView::Both);
    let put = |text: &str| json!({"TableName": "table", "Item": message(text)});
    perform(&store, "PutItem", &put("New item!"));
    perform(&store, "PutItem", &put("New item!"));
    perform(&store, "PutItem", &json!({"TableName": "other", "Item": message("elsewhere")}));
    perform(&store, "PutItem", &put("This item has changed"));
    perform(&store, "DeleteItem", &json!({"TableName": "table", "Key": {"Id": {"N": "101"}}}));
    let mut records = records(&reader).await;
    let mut sequences = Vec::new();
    for record in &mut records {
        let of_record = record.as_object_mut().expect("an object");
        assert_eq!(of_record.remove("eventID").and_then(|id| id.as_str().map(str::len)), Some(32));
        let change = of_record["dynamodb"].as_object_mut().expect("an object");
        assert!(change.remove("ApproximateCreationDateTime").is_some_and(|time| time.is_i64()));
        sequences.push(change.remove("SequenceNumber").expect("a number").as_str().expect("a text").to_owned());
    }
    assert!(sequences.is_sorted() && sequences.len() == 3, "{sequences:?}");
    let record = |name: &str, mut change: Value, bytes: usize| {
        change["Keys"] = json!({"Id": {"N": "101"}});
        change["StreamViewType"] = json!("NEW_AND_OLD_IMAGES");
        change["SizeBytes"] = json!(bytes);
        json!({
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": REGION,
            "dynamodb": change,
            "eventSourceARN": crate::aws::stream_arn("table"),
        })
    };
    let (first, second) = (message("New item!"), message("This item has changed"));
    assert_eq!(
        records,
        [
            record("INSERT", json!({"NewImage": first}), 26),
            record("MODIFY", json!({"NewImage": second, "OldImage": first}), 59),
            record("REMOVE", json!({"OldImage": second}), 38),
        ]
    );
}

#[tokio::test]
async fn a_view_has_its_images_only() {
    for (view, images) in [
        (StreamView::Keys, &[][..]),
        (StreamView::New, &["NewImage"]),
        (StreamView::Old, &["OldImage"]),
        (StreamView::Both, &["NewImage", "OldImage"]),
    ] {
        let (store, reader) = store(view);
        for text in ["a", "b"] {
            perform(&store, "PutItem", &json!({"TableName": "table", "Item": message(text)}));
        }
        let change = records(&reader).await.swap_remove(1);
        let found = ["NewImage", "OldImage"].into_iter().filter(|image| change["dynamodb"].get(image).is_some());
        assert_eq!(found.collect::<Vec<_>>(), images, "{}", view.name());
    }
}

#[tokio::test]
async fn every_way_to_write_leaves_records() {
    let (store, reader) = store(StreamView::New);
    let key = |id: u32| json!({"Id": {"N": id.to_string()}});
    let put = |id: u32| json!({"PutRequest": {"Item": key(id)}});
    let batch = json!({"table": [put(1), put(2)], "other": [put(3)]});
    perform(&store, "BatchWriteItem", &json!({"RequestItems": batch}));
    let delete = json!({"table": [{"DeleteRequest": {"Key": key(2)}}]});
    perform(&store, "BatchWriteItem", &json!({"RequestItems": delete}));
    let update = |id: u32| {
        json!({
            "TableName": "table",
            "Key": key(id),
            "UpdateExpression": "SET n = :n",
            "ExpressionAttributeValues": {":n": {"N": "1"}},
        })
    };
    perform(&store, "UpdateItem", &update(1));
    let check = json!({"TableName": "table", "Key": key(9), "ConditionExpression": "attribute_not_exists(Id)"});
    let items = json!([
        {"Update": update(4)},
        {"Put": {"TableName": "table", "Item": key(5)}},
        {"Delete": {"TableName": "table", "Key": key(1)}},
        {"ConditionCheck": check},
    ]);
    perform(&store, "TransactWriteItems", &json!({"TransactItems": items}));
    perform(&store, "ExecuteStatement", &json!({"Statement": "INSERT INTO \"table\" VALUE {'Id': 6}"}));
    perform(&store, "ExecuteStatement", &json!({"Statement": "DELETE FROM \"table\" WHERE Id = 6"}));
    let all = records(&reader).await;
    assert_eq!(names(&all), ["INSERT", "INSERT", "REMOVE", "MODIFY", "INSERT", "INSERT", "REMOVE", "INSERT", "REMOVE"]);
    let refused = json!({"TableName": "table", "Item": key(5), "ConditionExpression": "attribute_not_exists(Id)"});
    assert_ne!(store.carry_out("PutItem", &refused.to_string()).0, StatusCode::OK);
    perform(&store, "PutItem", &json!({"TableName": "table", "Item": key(7)}));
    assert_eq!(names(&records(&reader).await), ["INSERT"], "a write that fails leaves none");
}

#[tokio::test]
async fn what_expires_is_removed_by_the_service() {
    let (store, reader) = store(StreamView::Old);
    let item = |id: u32, ttl: i64| json!({"Id": {"N": id.to_string()}, "ttl": {"N": ttl.to_string()}});
    let now = store.clock.now().secs();
    for (id, ttl) in [(1, 1), (2, now + 1_000)] {
        perform(&store, "PutItem", &json!({"TableName": "table", "Item": item(id, ttl)}));
    }
    assert_eq!(store.streams.sweep(&store.database, now).expect("swept"), 1);
    let records = records(&reader).await;
    assert_eq!(names(&records), ["INSERT", "INSERT", "REMOVE"]);
    assert_eq!(records[2]["dynamodb"]["OldImage"], item(1, 1));
    assert_eq!(records[2]["userIdentity"], json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"}));
}

#[tokio::test]
async fn records_of_concurrent_writes_have_the_order_of_the_writes() {
    let (store, reader) = store(StreamView::Both);
    let writers = (0..4).map(|_| {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            for _ in 0..25 {
                let update = json!({
                    "TableName": "table",
                    "Key": {"Id": {"N": "1"}},
                    "UpdateExpression": "ADD n :one",
                    "ExpressionAttributeValues": {":one": {"N": "1"}},
                });
                perform(&store, "UpdateItem", &update);
            }
        })
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().expect("written"));
    let records = records(&reader).await;
    let numbers: Vec<_> = records.iter().map(|record| record["dynamodb"]["NewImage"]["n"]["N"].clone()).collect();
    assert_eq!(numbers, (1..=100).map(|n| json!(n.to_string())).collect::<Vec<_>>());
}
