//! Streams: what writes change in the tables whose stream invokes a function.
//!
//! The engine's own streams make every write slower, so images are taken here, in front of it. A write to a table with
//! a stream is alone with the two reads around it. A write to another table does not come here.
//!
//! Source: DynamoDB developer guide, "Change data capture for DynamoDB Streams", and API reference, `StreamRecord`.

mod log;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use clock::Clock;
use dynoxide::{Database, DynoxideError};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) use self::log::{RETENTION, StreamLog, StreamReader, StreamRecord};
use super::{
    engine::{DynamoDbResponse, carry_out, item},
    schema::{Schema, size},
};
use crate::{
    aws::REGION,
    template::{StreamView, TableStream},
};

/// The streams of all tables that have one.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    tables: BTreeMap<String, CapturedTable>,
    /// Held from the image before a write to the image after it. So records have the order of the writes.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct CapturedTable {
    schema: Schema,
    view: StreamView,
    log: Arc<StreamLog>,
}

/// An item that a request may change.
struct Touched<'a> {
    table: &'a str,
    captured: &'a CapturedTable,
    key: Value,
    before: Option<Value>,
}

impl Streams {
    pub(super) fn new(streams: &[TableStream], database: &Database, clock: &Clock) -> Self {
        let captured = |stream: &TableStream| {
            let described = carry_out(database, "DescribeTable", &json!({"TableName": stream.table}).to_string());
            let schema = Schema::read(&serde_json::from_str(&described.1).ok()?)?;
            let log = Arc::new(StreamLog::new(stream.arn(), clock.clone()));
            Some((stream.table.clone(), CapturedTable { schema, view: stream.view, log }))
        };
        Self { tables: streams.iter().filter_map(captured).collect(), writing: Mutex::default() }
    }

    /// The stream of a table. `None` if it has none.
    pub(crate) fn of(&self, table: &str) -> Option<&Arc<StreamLog>> {
        self.tables.get(table).map(|captured| &captured.log)
    }

    /// Drops what waits for its readers.
    pub(super) fn clear(&self) {
        self.tables.values().for_each(|captured| captured.log.clear());
    }

    /// Whether an operation may change an item of a table with a stream.
    pub(super) fn concerns(&self, operation: &str, body: &str) -> bool {
        let writes = matches!(
            operation,
            "PutItem"
                | "UpdateItem"
                | "DeleteItem"
                | "BatchWriteItem"
                | "TransactWriteItems"
                | "ExecuteStatement"
                | "BatchExecuteStatement"
                | "ExecuteTransaction"
        );
        // Names of tables have no characters that JSON escapes.
        writes && self.tables.keys().any(|table| body.contains(table.as_str()))
    }

    /// Carries out such an operation, and records what it changes.
    pub(super) fn carry_out(
        &self,
        database: &Database,
        operation: &str,
        body: &str,
        perform: impl FnOnce() -> DynamoDbResponse,
    ) -> DynamoDbResponse {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if operation.contains("Statement") || operation == "ExecuteTransaction" {
            return self.carry_out_statement(database, body, perform);
        }
        let touched = serde_json::from_str(body).ok().map(|input| self.touched(database, operation, &input));
        let answer = perform();
        if answer.0 == StatusCode::OK {
            for Touched { table, captured, key, before } in touched.unwrap_or_default() {
                captured.record(before, item(database, table, &key), None);
            }
        }
        answer
    }

    /// The items that a request names, as they are.
    fn touched(&self, database: &Database, operation: &str, input: &Value) -> Vec<Touched<'_>> {
        let mut touched = Vec::new();
        let mut add = |table: Option<&str>, request: &Value| {
            let table = table.or_else(|| request["TableName"].as_str()).unwrap_or_default();
            // The name or the ARN.
            let table = table.rsplit('/').next().unwrap_or_default();
            let Some((table, captured)) = self.tables.get_key_value(table) else { return };
            let of = request.get("Key").or_else(|| request.get("Item"));
            let Some(key) = of.and_then(|of| captured.schema.key_of(of)) else { return };
            let before = item(database, table, &key);
            touched.push(Touched { table, captured, key, before });
        };
        match operation {
            "BatchWriteItem" => {
                for (table, requests) in input["RequestItems"].as_object().into_iter().flatten() {
                    for request in requests.as_array().into_iter().flatten().filter_map(Value::as_object) {
                        request.values().for_each(|request| add(Some(table), request));
                    }
                }
            }
            "TransactWriteItems" => {
                let requests = input["TransactItems"].as_array().into_iter().flatten().filter_map(Value::as_object);
                let writes = requests.flatten().filter(|(kind, _)| *kind != "ConditionCheck");
                writes.for_each(|(_, request)| add(None, request));
            }
            _ => add(None, input),
        }
        touched
    }

    /// Carries out statements. What they change is in a language of its own, so the tables are compared as a whole.
    fn carry_out_statement(
        &self,
        database: &Database,
        body: &str,
        perform: impl FnOnce() -> DynamoDbResponse,
    ) -> DynamoDbResponse {
        let named = self.tables.iter().filter(|(table, _)| body.contains(table.as_str()));
        let before: Vec<_> =
            named.map(|(table, captured)| (table, captured, captured.items(database, table))).collect();
        let answer = perform();
        for (table, captured, mut before) in before {
            for (key, after) in captured.items(database, table) {
                let old = before.remove(&key);
                captured.record(old, Some(after), None);
            }
            before.into_values().for_each(|old| captured.record(Some(old), None, None));
        }
        answer
    }

    /// Removes expired items of all tables, and records those of tables with a stream.
    pub(super) fn sweep(&self, database: &Database, now_secs: i64) -> Result<usize, DynoxideError> {
        if self.tables.is_empty() {
            return database.sweep_ttl();
        }
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = self.tables.iter().flat_map(|(table, captured)| {
            let items = captured.expired(database, table, now_secs);
            items.into_iter().map(move |item| (table, captured, item))
        });
        let expired: Vec<_> = expired.collect();
        let swept = database.sweep_ttl();
        for (table, captured, before) in expired {
            let key = captured.schema.key_of(&before);
            if key.is_some_and(|key| item(database, table, &key).is_none()) {
                captured.record(Some(before), None, Some(BY_TIME_TO_LIVE));
            }
        }
        swept
    }
}

/// Who removed an item, if that was not a client.
type Identity = (&'static str, &'static str);

/// Source: DynamoDB developer guide, "DynamoDB Streams and Time to Live".
const BY_TIME_TO_LIVE: Identity = ("Service", "dynamodb.amazonaws.com");

impl CapturedTable {
    /// Records a change. A write that changes nothing leaves no record. The key is that of the image, because a request
    /// may spell a number in another way.
    fn record(&self, before: Option<Value>, after: Option<Value>, by: Option<Identity>) {
        if before == after {
            return;
        }
        let Some(keys) = before.as_ref().or(after.as_ref()).and_then(|item| self.schema.key_of(item)) else { return };
        let name = match (&before, &after) {
            (None, _) => "INSERT",
            (_, Some(_)) => "MODIFY",
            (_, None) => "REMOVE",
        };
        let new = after.filter(|_| matches!(self.view, StreamView::New | StreamView::Both));
        let old = before.filter(|_| matches!(self.view, StreamView::Old | StreamView::Both));
        let bytes = size(&keys) + new.as_ref().map_or(0, size) + old.as_ref().map_or(0, size);
        let identity = by.map(|(kind, id)| json!({"type": kind, "principalId": id}));
        self.log.append(bytes, |sequence, now| {
            let mut change = Map::from_iter([
                ("ApproximateCreationDateTime".to_owned(), json!(now.secs())),
                ("Keys".to_owned(), keys),
                ("SequenceNumber".to_owned(), json!(sequence)),
                ("SizeBytes".to_owned(), json!(bytes)),
                ("StreamViewType".to_owned(), json!(self.view.name())),
            ]);
            change.extend(new.map(|image| ("NewImage".to_owned(), image)));
            change.extend(old.map(|image| ("OldImage".to_owned(), image)));
            let mut record = json!({
                "eventID": uuid::Uuid::new_v4().simple().to_string(),
                "eventName": name,
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": REGION,
                "dynamodb": change,
                "eventSourceARN": self.log.arn(),
            });
            if let Some(identity) = identity {
                record["userIdentity"] = identity;
            }
            record
        });
    }

    /// All items by their key.
    fn items(&self, database: &Database, table: &str) -> BTreeMap<String, Value> {
        let items = scan(database, json!({"TableName": table, "ConsistentRead": true}));
        items.into_iter().filter_map(|item| Some((self.schema.key_of(&item)?.to_string(), item))).collect()
    }

    /// The items that a sweep removes.
    fn expired(&self, database: &Database, table: &str, now_secs: i64) -> Vec<Value> {
        let request = json!({"TableName": table}).to_string();
        let described: Value =
            serde_json::from_str(&carry_out(database, "DescribeTimeToLive", &request).1).unwrap_or_default();
        let Some(attribute) = described["TimeToLiveDescription"]["AttributeName"].as_str() else { return Vec::new() };
        scan(
            database,
            json!({
                "TableName": table,
                "FilterExpression": "#ttl < :now",
                "ExpressionAttributeNames": {"#ttl": attribute},
                "ExpressionAttributeValues": {":now": {"N": now_secs.to_string()}},
            }),
        )
    }
}

/// All items that a scan finds.
fn scan(database: &Database, mut request: Value) -> Vec<Value> {
    let mut items = Vec::new();
    loop {
        let (_, answer) = carry_out(database, "Scan", &request.to_string());
        let mut answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        if let Some(Value::Array(page)) = answer.get_mut("Items").map(Value::take) {
            items.extend(page);
        }
        match answer.get_mut("LastEvaluatedKey").map(Value::take) {
            Some(key) => request["ExclusiveStartKey"] = key,
            None => return items,
        }
    }
}

#[cfg(test)]
mod tests;
