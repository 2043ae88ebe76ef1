//! The API of DynamoDB as AWS clients speak it (AWS JSON 1.0), in front of the engine.
//!
//! The engine brings a server of its own, which lets any web page ask. So requests come through the loop of all listeners
//! and its guard, and are handed to the engine as its server hands them on. What that words more exactly than this are
//! refusals of requests that no AWS client sends: values of the wrong JSON type.

use std::sync::Arc;

use dynoxide::{Database, DynoxideError, auth_material};
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use super::Store;
use crate::http::{Body, Request, response};

/// Largest request, in bytes. Source: DynamoDB quotas.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Media type of requests and answers.
const AMZ_JSON: &str = "application/x-amz-json-1.0";

/// What is answered to anything that is not a call of the API.
const NOT_FOUND: &str = "<UnknownOperationException/>\n";

/// An answer of the API: its status, and JSON.
pub(super) type Answer = (StatusCode, String);

/// Answers one request.
pub(crate) async fn handle(store: Arc<Store>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/") => {}
        (&Method::GET, "/") => return response(StatusCode::OK, "text/plain", "healthy: the local DynamoDB\n"),
        _ => return response(StatusCode::NOT_FOUND, "text/plain", NOT_FOUND),
    }
    let kind = text(&head.headers, CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let content_type = if kind.eq_ignore_ascii_case(AMZ_JSON) { AMZ_JSON } else { "application/json" };
    if content_type != AMZ_JSON && !kind.eq_ignore_ascii_case(content_type) {
        return response(StatusCode::NOT_FOUND, "text/plain", NOT_FOUND);
    }
    let (status, answer) = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(body) => answer(&store, &head.headers, head.uri.query().unwrap_or_default(), &body.to_bytes()),
        Err(_) => refusal(
            "com.amazon.coral.validate#ValidationException",
            &format!("a request has at most {REQUEST_BYTES_MAX} bytes"),
        ),
    };
    let checksum = HeaderValue::from(crc32fast::hash(answer.as_bytes()));
    let mut response = response(status, content_type, answer);
    response.headers_mut().insert(HeaderName::from_static("x-amz-crc32"), checksum);
    let request_id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string();
    if let Ok(request_id) = HeaderValue::try_from(request_id.to_uppercase()) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), request_id);
    }
    response
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn answer(store: &Store, headers: &HeaderMap, query: &str, body: &[u8]) -> Answer {
    let target = text(headers, HeaderName::from_static("x-amz-target"));
    let operation =
        target.strip_prefix("DynamoDB_20120810.").or_else(|| target.strip_prefix("DynamoDBStreams_20120810."));
    let Some(operation) = operation else { return unknown_operation() };
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let has_date_header = headers.contains_key("x-amz-date") || headers.contains_key(DATE);
    let material = auth_material::AuthMaterial { authorization, query, has_date_header };
    if let Some(refused) = auth_material::validate(material) {
        return (StatusCode::BAD_REQUEST, refused);
    }
    let Ok(body) = str::from_utf8(body) else {
        return refusal("com.amazon.coral.service#SerializationException", "the body is not UTF-8");
    };
    match &store.capacity {
        Some(capacity) => capacity.carry_out(&store.database, operation, body),
        None => carry_out(&store.database, operation, body),
    }
}

/// Carries out an operation whose input is JSON, without any limit of capacity.
pub(super) fn carry_out(database: &Database, operation: &str, body: &str) -> Answer {
    match dispatch(database, operation, body) {
        Some(Ok(output)) => (StatusCode::OK, output),
        Some(Err(error)) => {
            let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, error.to_json())
        }
        None => unknown_operation(),
    }
}

/// A refusal in the words of the service.
pub(super) fn refusal(kind: &str, message: &str) -> Answer {
    (StatusCode::BAD_REQUEST, serde_json::json!({"__type": kind, "message": message}).to_string())
}

fn unknown_operation() -> Answer {
    let body = serde_json::json!({"__type": "com.amazon.coral.service#UnknownOperationException"});
    (StatusCode::BAD_REQUEST, body.to_string())
}

/// Hands an operation to the engine. `None` when it has none of this name.
fn dispatch(database: &Database, operation: &str, body: &str) -> Option<Result<String, DynoxideError>> {
    macro_rules! operations {
        ($($name:literal => $method:ident,)*) => {
            match operation {
                $($name => Some(read(body).and_then(|input| database.$method(input)).and_then(|output| write(&output))),)*
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

/// The engine's own types say in a mark before the text which kind of error it is.
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
    // As the engine's server tells them apart: what is missing is not valid, what has another type cannot be read.
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
