//! AWS services as integrations of the gateway call them: SQS, SNS, EventBridge and DynamoDB.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    aws_json::ServiceError,
    aws_query::{QueryError, QueryInput},
    dynamodb::Store,
    events::Buses,
    sns::Topics,
    sqs::{self, Queues},
    template::{IntegratedService, ServiceCall},
};

/// The services that integrations call.
#[derive(Clone, Debug)]
pub(crate) struct IntegratedServices {
    pub(crate) store: Arc<Store>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) buses: Arc<Buses>,
}

impl IntegratedServices {
    /// Calls a service with a query and a body. Returns the status and the body of its response.
    pub(crate) fn call(&self, call: &ServiceCall, query: &str, body: &str) -> (StatusCode, String) {
        let action = call.action.as_deref();
        match call.service {
            IntegratedService::DynamoDb => self.store.carry_out(action.unwrap_or_default(), body),
            IntegratedService::EventBridge => match self.buses.put_events(body.as_bytes()) {
                Ok(output) => (StatusCode::OK, output.to_string()),
                Err(error) => of_json_error(&error),
            },
            // A queue may be called in either protocol.
            IntegratedService::Sqs => match serde_json::from_str::<Value>(body) {
                Ok(input @ Value::Object(_)) => match self.send(call, input) {
                    Ok(output) => (StatusCode::OK, output.to_string()),
                    Err(error) => of_json_error(&error),
                },
                _ => {
                    let form = QueryInput::parse(&format!("{query}&{}", body.trim()));
                    let sent = expected(&form, action, "SendMessage")
                        .and_then(|()| self.send(call, sqs::message_of_form(&form)).map_err(of_query_error));
                    of_query("SendMessage", &["MD5OfMessageBody", "MD5OfMessageAttributes", "MessageId"], sent)
                }
            },
            IntegratedService::Sns => {
                let form = QueryInput::parse(&format!("{query}&{}", body.trim()));
                let published = expected(&form, action, "Publish").and_then(|()| self.topics.publish_form(&form));
                of_query("Publish", &["MessageId"], published.map(|id| json!({"MessageId": id})))
            }
        }
    }

    /// Sends a message to the queue that the request or the address names.
    fn send(&self, call: &ServiceCall, mut input: Value) -> Result<Value, ServiceError> {
        if input.get("QueueUrl").is_none() {
            input["QueueUrl"] = Value::from(call.path.as_str());
        }
        sqs::send_message(&self.queues, input)
    }
}

/// Whether the request or the address names this operation.
fn expected(form: &QueryInput, action: Option<&str>, expected: &str) -> Result<(), QueryError> {
    let action = form.get("Action").or(action).unwrap_or_default();
    if action == expected {
        return Ok(());
    }
    let message = format!("the emulator runs only {expected} of this service in integrations, not {action:?}");
    Err(QueryError { code: "InvalidAction", message })
}

fn of_json_error(error: &ServiceError) -> (StatusCode, String) {
    (error.status, json!({"__type": error.kind, "message": error.message}).to_string())
}

/// An error of SQS in the query protocol, in which an unknown queue has other words. Source: a recording of the service
/// in LocalStack (`tests/aws/services/sqs/test_sqs.snapshot.json`, `test_non_existent_queue`).
fn of_query_error(error: ServiceError) -> QueryError {
    let code = error.query_code.and_then(|code| code.split(';').next()).unwrap_or(error.kind);
    let message = match code {
        "AWS.SimpleQueueService.NonExistentQueue" => {
            "The specified queue does not exist for this wsdl version.".to_owned()
        }
        _ => error.message,
    };
    QueryError { code, message }
}

/// The response of the query protocol in JSON, which these services write for a client that accepts JSON, as the
/// gateway is. What the output does not have is null. Source: the README of `apigw-websocket-api-sns` in
/// `serverless-patterns`.
fn of_query(operation: &str, fields: &[&str], result: Result<Value, QueryError>) -> (StatusCode, String) {
    let request_id = uuid::Uuid::new_v4().to_string();
    let output = match result {
        Ok(output) => output,
        Err(QueryError { code, message }) => {
            let error = json!({"Error": {"Code": code, "Message": message, "Type": "Sender"}, "RequestId": request_id});
            return (StatusCode::BAD_REQUEST, error.to_string());
        }
    };
    let fields = fields.iter().chain(&["SequenceNumber"]);
    let of_result = fields.map(|name| ((*name).to_owned(), output.get(name).cloned().unwrap_or_default()));
    let response = Map::from_iter([
        (format!("{operation}Result"), Value::Object(of_result.collect())),
        ("ResponseMetadata".to_owned(), json!({"RequestId": request_id})),
    ]);
    (StatusCode::OK, json!({format!("{operation}Response"): response}).to_string())
}

#[cfg(test)]
mod tests {
    use clock::Clock;

    use super::*;

    #[test]
    fn an_unknown_queue_has_other_words_in_a_form() {
        let queues = Queues::new(Vec::new(), Clock::System);
        let error = sqs::send_message(&queues, json!({"QueueUrl": "/none", "MessageBody": "x"})).expect_err("no queue");
        assert_eq!(error.message, "The specified queue does not exist.");
        let error = of_query_error(error);
        assert_eq!(error.code, "AWS.SimpleQueueService.NonExistentQueue");
        assert_eq!(error.message, "The specified queue does not exist for this wsdl version.");
    }
}
