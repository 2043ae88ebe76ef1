//! DynamoDB tables, in the form of `CreateTable`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::resources::{Resource, Resources};

/// Properties of a table that the emulator reads.
const TABLE: [&str; 8] = [
    "AttributeDefinitions",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "ProvisionedThroughput",
    "StreamSpecification",
    "TimeToLiveSpecification",
];

/// Properties of a global table that a table has too. Its capacity has another form.
const GLOBAL_TABLE: [&str; 6] = [
    "AttributeDefinitions",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "StreamSpecification",
    "TimeToLiveSpecification",
];

/// Reads the tables, by name.
pub(super) fn read(resources: &Resources<'_>) -> BTreeMap<String, Value> {
    let tables = resources.of_type("AWS::DynamoDB::Table").map(|table| (table, table.object(&TABLE)));
    let global = resources.of_type("AWS::DynamoDB::GlobalTable").map(|table| (table, global_table(table)));
    let simple = resources.of_type("AWS::Serverless::SimpleTable").map(|table| (table, simple_table(table)));
    tables.chain(global).chain(simple).map(|(table, properties)| (table.name.clone(), properties)).collect()
}

/// The one replica of a global table that is here.
fn global_table(table: &Resource<'_>) -> Value {
    let mut properties = table.object(&GLOBAL_TABLE);
    for index in properties.get_mut("GlobalSecondaryIndexes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(index) = index.as_object_mut() {
            index.retain(|property, _| matches!(property.as_str(), "IndexName" | "KeySchema" | "Projection"));
        }
    }
    properties["BillingMode"] = json!("PAY_PER_REQUEST");
    properties
}

/// The table that SAM makes of a `SimpleTable`: it has a partition key and no sort key.
fn simple_table(table: &Resource<'_>) -> Value {
    let key = |property: &str| table.pointer(&format!("/PrimaryKey/{property}")).and_then(Value::as_str);
    let name = key("Name").unwrap_or("id");
    let kind = match key("Type") {
        Some("Number") => "N",
        Some("Binary") => "B",
        _ => "S",
    };
    json!({
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind}],
        "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    })
}
