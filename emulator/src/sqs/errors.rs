//! What the service says of requests that it refuses.
//!
//! Source: SQS API reference, the model of the service in the AWS SDKs, and recordings of the service in LocalStack
//! (`tests/aws/services/sqs/test_sqs.snapshot.json`).

use hyper::StatusCode;

use super::MESSAGE_BYTES_MAX;
use crate::aws_json::ServiceError;

pub(super) fn error(kind: &'static str, query_code: &'static str, message: impl Into<String>) -> ServiceError {
    ServiceError { query_code: Some(query_code), ..ServiceError::new(kind, message) }
}

pub(super) fn no_queue() -> ServiceError {
    error(
        "com.amazonaws.sqs#QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue;Sender",
        "The specified queue does not exist.",
    )
}

pub(super) fn no_receipt(receipt: &str) -> ServiceError {
    let message = format!("The input receipt handle \"{receipt}\" is not a valid receipt handle.");
    let error = error("com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid;Sender", message);
    ServiceError { status: StatusCode::NOT_FOUND, ..error }
}

pub(super) fn invalid_parameter(message: impl Into<String>) -> ServiceError {
    error("com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue;Sender", message)
}

pub(super) fn unsupported(message: impl Into<String>) -> ServiceError {
    error("com.amazonaws.sqs#UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation;Sender", message)
}

/// A request without something that it needs.
pub(super) fn missing_parameter(name: &str) -> ServiceError {
    let kind = "com.amazon.coral.service#MissingRequiredParameterException";
    error(kind, "MissingParameter;Sender", format!("The request must contain the parameter {name}."))
}

pub(super) fn too_long() -> String {
    format!("One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes.")
}
