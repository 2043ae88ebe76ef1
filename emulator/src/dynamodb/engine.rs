//! Operations of DynamoDB on the engine, JSON in and JSON out.

use dynoxide::{Database, DynoxideError};
use hyper::StatusCode;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A response of the API: its status, and JSON.
pub(super) type DynamoDbResponse = (StatusCode, String);

/// Carries out an operation without a limit of capacity.
pub(super) fn carry_out(database: &Database, operation: &str, body: &str) -> DynamoDbResponse {
    match dispatch(database, operation, body) {
        Some(Ok(output)) => (StatusCode::OK, output),
        Some(Err(error)) => {
            let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, error.to_json())
        }
        None => unknown_operation(),
    }
}

/// The item of a key.
pub(super) fn item(database: &Database, table: &str, key: &Value) -> Option<Value> {
    let request = json!({"TableName": table, "Key": key, "ConsistentRead": true});
    let (_, answer) = carry_out(database, "GetItem", &request.to_string());
    let mut answer: Value = serde_json::from_str(&answer).ok()?;
    answer.get_mut("Item").map(Value::take)
}

/// An error in the form of the service.
pub(super) fn refusal(kind: &str, message: &str) -> DynamoDbResponse {
    (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message}).to_string())
}

pub(super) fn unknown_operation() -> DynamoDbResponse {
    let body = json!({"__type": "com.amazon.coral.service#UnknownOperationException"});
    (StatusCode::BAD_REQUEST, body.to_string())
}

/// Hands an operation to the engine. `None` if the engine does not have it.
fn dispatch(database: &Database, operation: &str, body: &str) -> Option<Result<String, DynoxideError>> {
    macro_rules! operations {
        ($($name:literal => $method:ident,)*) => {
            match operation {
                $($name => {
                    Some(read(body).and_then(|input| database.$method(input)).and_then(|output| write(&output)))
                })*
                _ => None,
            }
        };
    }
    operations! {
        "BatchExecuteStatement" => batch_execute_statement,
        "BatchGetItem" => batch_get_item,
        "BatchWriteItem" => batch_write_item,
        "CreateTable" => create_table,
        "DeleteItem" => delete_item,
        "DeleteTable" => delete_table,
        "DescribeStream" => describe_stream,
        "DescribeTable" => describe_table,
        "DescribeTimeToLive" => describe_time_to_live,
        "ExecuteStatement" => execute_statement,
        "ExecuteTransaction" => execute_transaction,
        "GetItem" => get_item,
        "GetRecords" => get_records,
        "GetShardIterator" => get_shard_iterator,
        "ListStreams" => list_streams,
        "ListTables" => list_tables,
        "ListTagsOfResource" => list_tags_of_resource,
        "PutItem" => put_item,
        "Query" => query,
        "Scan" => scan,
        "TagResource" => tag_resource,
        "TransactGetItems" => transact_get_items,
        "TransactWriteItems" => transact_write_items,
        "UntagResource" => untag_resource,
        "UpdateItem" => update_item,
        "UpdateTable" => update_table,
        "UpdateTimeToLive" => update_time_to_live,
    }
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, DynoxideError> {
    serde_json::from_str(body).map_err(|error| unreadable(&error.to_string()))
}

/// The engine's types put a mark for the kind of error before the text.
fn unreadable(message: &str) -> DynoxideError {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    for mark in ["VALIDATION_REQUEST:", "VALIDATION_AS_READ:", "VALIDATION:"] {
        if let Some(message) = message.strip_prefix(mark) {
            return DynoxideError::ValidationException(message.to_owned());
        }
    }
    for mark in ["SERIALIZATION_AS_READ:", "SERIALIZATION:"] {
        if let Some(message) = message.strip_prefix(mark) {
            return DynoxideError::SerializationException(message.to_owned());
        }
    }
    // As in the engine's server: a missing value is a validation error, a value of another type a serialization error.
    let is_missing = ["missing field", "unknown variant", "invalid type: null", "Supplied AttributeValue"];
    if is_missing.iter().any(|part| message.contains(part)) {
        return DynoxideError::ValidationException(message.to_owned());
    }
    DynoxideError::SerializationException(message.to_owned())
}

fn write<T: Serialize>(output: &T) -> Result<String, DynoxideError> {
    serde_json::to_string(output).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused_in_its_own_kind_without_the_engine_s_marks() {
        let check = |message: &str, expected: &str| {
            let body: serde_json::Value = serde_json::from_str(&unreadable(message).to_json()).expect("JSON");
            let text = body["message"].as_str().or(body["Message"].as_str()).expect("a message");
            let kind = body["__type"].as_str().expect("a kind").rsplit('#').next().expect("a name");
            assert_eq!(format!("{kind}: {text}"), expected);
        };
        check("VALIDATION_REQUEST:no at line 1 column 2", "ValidationException: no");
        check("SERIALIZATION:no at line 1 column 2", "SerializationException: no");
        check("missing field `Key` at line 1 column 2", "ValidationException: missing field `Key`");
        check(
            "invalid type: integer `1`, expected a string",
            "SerializationException: invalid type: integer `1`, expected a string",
        );
        let database = Database::memory().expect("a database");
        let (status, body) = carry_out(&database, "GetItem", "{}");
        assert_eq!((status, body.contains("ValidationException")), (StatusCode::BAD_REQUEST, true), "{body}");
        let (status, body) = carry_out(&database, "Forget", "{}");
        assert_eq!((status, body.contains("UnknownOperationException")), (StatusCode::BAD_REQUEST, true), "{body}");
    }
}
