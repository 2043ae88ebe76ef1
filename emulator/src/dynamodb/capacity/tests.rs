//! Units of requests, and what is throttled.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::*;

#[test]
fn a_capacity_is_two_whole_numbers_above_zero() {
    assert_eq!("3000:1000".parse(), Ok(TableCapacity::SERVICE));
    for text in ["", "3000", "0:1", "1:0", "a:b", "1:2:3", "-1:1"] {
        assert_eq!(text.parse::<TableCapacity>(), Err(TableCapacityError(text.to_owned())));
    }
}

/// A database with one table, and a clock that stands still.
fn world(limits: &str) -> (Database, Capacity, Arc<AtomicI64>) {
    let database = Database::memory().expect("a database");
    let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
    let definitions = ["p", "s", "g"].map(|name| json!({"AttributeName": name, "AttributeType": "S"}));
    let table = json!({
        "TableName": "table",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": definitions,
        "KeySchema": [key("p", "HASH"), key("s", "RANGE")],
        "GlobalSecondaryIndexes": [
            {"IndexName": "by_g", "KeySchema": [key("g", "HASH")], "Projection": {"ProjectionType": "KEYS_ONLY"}},
        ],
    });
    assert_eq!(carry_out(&database, "CreateTable", &table.to_string()).0, StatusCode::OK);
    let ms = Arc::new(AtomicI64::new(0));
    let capacity = Capacity::new(limits.parse().expect("a capacity"), Clock::Manual(Arc::clone(&ms)));
    (database, capacity, ms)
}

fn call(world: &(Database, Capacity, Arc<AtomicI64>), operation: &str, input: Value) -> (bool, Value) {
    let (status, body) = world.1.carry_out(&world.0, operation, &input.to_string());
    (status == StatusCode::OK, serde_json::from_str(&body).expect("JSON"))
}

fn named(partition: &str, sort: &str) -> Value {
    json!({"p": {"S": partition}, "s": {"S": sort}})
}

fn put(partition: &str, sort: &str, more: &[(&str, &str)]) -> Value {
    let mut item = named(partition, sort);
    for (name, value) in more {
        item[*name] = json!({"S": value});
    }
    json!({"TableName": "table", "Item": item})
}

/// How many of these requests succeed before one is throttled.
fn taken(world: &(Database, Capacity, Arc<AtomicI64>), operation: &str, input: &Value) -> usize {
    (0..100_000).take_while(|_| call(world, operation, input.clone()).0).count()
}

#[test]
fn a_partition_takes_what_it_has_and_no_more_and_others_are_unharmed() {
    let world = world("3000:1000");
    let item = put("a", "1", &[]);
    assert_eq!(taken(&world, "PutItem", &item), 1_000);
    let (_, refused) = call(&world, "PutItem", item.clone());
    assert_eq!(refused["__type"], "com.amazonaws.dynamodb.v20120810#ThrottlingException");
    assert_eq!(refused["throttlingReasons"][0]["reason"], "TableWriteKeyRangeThroughputExceeded", "{refused}");
    assert_eq!(taken(&world, "PutItem", &put("b", "1", &[])), 1_000, "another partition");
    let get = |consistent: bool| json!({"TableName": "table", "Key": named("a", "1"), "ConsistentRead": consistent});
    assert_eq!(taken(&world, "GetItem", &get(true)), 3_000, "reads have their own");
    world.2.store(10, Relaxed);
    assert_eq!(taken(&world, "PutItem", &item), 10, "what has come back within 10 ms");
    assert_eq!(taken(&world, "GetItem", &get(false)), 60);
    let used = world.1.used();
    assert_eq!((used.write, used.read, used.throttled), (2_010.0, 3_030.0, 6));
}

#[test]
fn units_are_those_of_the_developer_guide() {
    let check = |operation: &str, input: Value, reads: f64, writes: f64| {
        let world = world("40000:40000");
        assert!(call(&world, "PutItem", put("a", "old", &[("x", &"x".repeat(9_000))])).0);
        let before = world.1.used();
        let (done, answer) = call(&world, operation, input);
        assert!(done, "{answer}");
        assert!(answer.get("ConsumedCapacity").is_none(), "not requested: {answer}");
        let used = world.1.used();
        assert_eq!((used.read - before.read, used.write - before.write), (reads, writes), "{operation}");
    };
    let get = |consistent: bool| json!({"TableName": "table", "Key": named("a", "old"), "ConsistentRead": consistent});
    check("GetItem", get(true), 3.0, 0.0);
    check("GetItem", get(false), 1.5, 0.0);
    let none = json!({"TableName": "table", "Key": named("a", "none"), "ConsistentRead": true});
    check("GetItem", none, 1.0, 0.0);
    check(
        "TransactGetItems",
        json!({"TransactItems": [{"Get": {"TableName": "table", "Key": named("a", "old")}}]}),
        6.0,
        0.0,
    );
    let keys = [named("a", "old"), named("a", "none")];
    check("BatchGetItem", json!({"RequestItems": {"table": {"Keys": keys}}}), 2.0, 0.0);
    let query = json!({
        "TableName": "table",
        "ConsistentRead": true,
        "KeyConditionExpression": "p = :p",
        "ExpressionAttributeValues": {":p": {"S": "a"}},
    });
    check("Query", query, 3.0, 0.0);
    check("PutItem", put("a", "new", &[("x", &"x".repeat(1_500))]), 0.0, 2.0);
    check("PutItem", put("a", "new", &[("g", "g")]), 0.0, 2.0);
    check("PutItem", put("a", "old", &[]), 0.0, 9.0);
    check("DeleteItem", json!({"TableName": "table", "Key": named("a", "old")}), 0.0, 9.0);
    let update = json!({
        "TableName": "table",
        "Key": named("a", "new"),
        "UpdateExpression": "SET g = :g",
        "ExpressionAttributeValues": {":g": {"S": "g"}},
    });
    check("UpdateItem", update.clone(), 0.0, 2.0);
    let puts = [put("a", "new", &[("g", "g")]), put("b", "new", &[])].map(|put| json!({"Put": put}));
    check("TransactWriteItems", json!({"TransactItems": puts}), 0.0, 2.0 + 2.0 + 1.0);
    let requests =
        [put("a", "new", &[]), put("b", "new", &[("g", "g")])].map(|put| json!({"PutRequest": {"Item": put["Item"]}}));
    check("BatchWriteItem", json!({"RequestItems": {"table": requests}}), 0.0, 3.0);
}

#[test]
fn an_index_throttles_the_writes_to_its_table() {
    let world = world("100:100");
    let entries =
        (0..1_000).take_while(|number| call(&world, "PutItem", put(&format!("p{number}"), "1", &[("g", "one")])).0);
    assert_eq!(entries.count(), 100);
    let (_, refused) = call(&world, "PutItem", put("other", "1", &[("g", "one")]));
    assert_eq!(refused["throttlingReasons"][0]["reason"], "IndexWriteKeyRangeThroughputExceeded", "{refused}");
    assert!(call(&world, "PutItem", put("other", "1", &[("g", "two")])).0);
    assert!(call(&world, "PutItem", put("other", "2", &[])).0, "no entry, no index");
}

#[test]
fn a_query_is_charged_for_what_it_has_read_and_the_next_ones_wait_for_that() {
    let world = world("10:1000");
    for number in 0..10 {
        assert!(call(&world, "PutItem", put("a", &number.to_string(), &[("x", &"x".repeat(40_000))])).0);
    }
    let query = json!({
        "TableName": "table",
        "ConsistentRead": true,
        "KeyConditionExpression": "#p = :p",
        "ExpressionAttributeNames": {"#p": "p"},
        "ExpressionAttributeValues": {":p": {"S": "a"}},
    });
    let (done, answer) = call(&world, "Query", query.clone());
    assert!(done && answer["Items"].as_array().is_some_and(|items| items.len() == 10));
    assert!(!call(&world, "Query", query.clone()).0);
    // 98 units were read, of which there were 10.
    world.2.store(8_800, Relaxed);
    assert!(!call(&world, "Query", query.clone()).0);
    world.2.store(8_900, Relaxed);
    assert!(call(&world, "Query", query).0);
}

#[test]
fn of_a_batch_what_fits_is_done_and_the_rest_is_handed_back() {
    let world = world("4:4");
    let request = |partition: &str, number: usize| {
        let item = put(partition, &number.to_string(), &[])["Item"].take();
        json!({"PutRequest": {"Item": item}})
    };
    let batch = |requests: Vec<Value>| json!({"RequestItems": {"table": requests}});
    let both: Vec<Value> = (0..6).map(|number| request("a", number)).chain([request("b", 0)]).collect();
    let (done, answer) = call(&world, "BatchWriteItem", batch(both));
    let left = answer["UnprocessedItems"]["table"].as_array().cloned().unwrap_or_default();
    assert_eq!((done, left), (true, vec![request("a", 4), request("a", 5)]), "{answer}");
    let (done, answer) = call(&world, "BatchWriteItem", batch(vec![request("a", 4)]));
    assert!(!done && answer["__type"].as_str().is_some_and(|kind| kind.ends_with("ThrottlingException")), "{answer}");
    let keys: Vec<Value> = (0..6).map(|number| named("a", &number.to_string())).collect();
    let (done, answer) =
        call(&world, "BatchGetItem", json!({"RequestItems": {"table": {"Keys": keys, "ConsistentRead": true}}}));
    assert_eq!(answer["Responses"]["table"].as_array().map(Vec::len), Some(4), "{answer}");
    assert_eq!((done, &answer["UnprocessedKeys"]["table"]["Keys"]), (true, &json!([named("a", "4"), named("a", "5")])));
    assert_eq!(answer["UnprocessedKeys"]["table"]["ConsistentRead"], true);
}

#[test]
fn a_transaction_is_cancelled_as_a_whole_with_a_reason_for_each_item() {
    let world = world("10:3");
    let transaction =
        |first: &str| json!({"TransactItems": [{"Put": put(first, "1", &[])}, {"Put": put("b", "1", &[])}]});
    assert!(call(&world, "TransactWriteItems", transaction("a")).0);
    world.2.store(1_000, Relaxed);
    assert!(call(&world, "PutItem", put("b", "2", &[])).0);
    assert!(call(&world, "PutItem", put("b", "3", &[])).0);
    let (done, answer) = call(&world, "TransactWriteItems", transaction("c"));
    let codes: Vec<_> = answer["CancellationReasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .map(|reason| reason["Code"].clone())
        .collect();
    assert_eq!((done, codes), (false, vec![json!("None"), json!("ThrottlingError")]), "{answer}");
    let (_, missing) = call(&world, "GetItem", json!({"TableName": "table", "Key": named("c", "1")}));
    assert!(missing.get("Item").is_none(), "nothing of it was written");
}

#[test]
fn what_fails_its_condition_costs_what_it_would_have() {
    let world = world("10:1000");
    let mut refused = put("a", "1", &[("x", &"x".repeat(3_000))]);
    refused["ConditionExpression"] = json!("attribute_exists(p)");
    assert!(!call(&world, "PutItem", refused).0);
    assert_eq!(world.1.used().write, 1.0, "nothing was there");
}
