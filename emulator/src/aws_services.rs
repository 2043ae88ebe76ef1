//! One address for all AWS services: finds out which of them a request is for, and hands it to that one.
//!
//! Source: AWS signature version 4, whose scope names the service, and the protocols of the services.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::BodyExt;
use hyper::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    aws_query::{QueryError, refusal},
    dynamodb::{self, Store},
    events::{self, Buses},
    gateway::Gateway,
    http::{Body, Request, TimedBody, response},
    lambda::{self, Functions},
    sns::{self, Topics},
    sqs::{self, Queues},
    ssm::{self, Parameters},
};

/// What is here, for people.
const SERVED: &str =
    "DynamoDB, EventBridge, Lambda (Invoke), SNS, SQS, Systems Manager and @connections of API Gateway";

/// The name of the error of a service that is not here.
const UNSERVED: &str = "UnknownService";

/// Most bytes that are read of a request that is refused. Our own choice.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The services of the emulator.
#[derive(Clone, Debug)]
pub(crate) struct AwsServices {
    pub(crate) store: Arc<Store>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) buses: Arc<Buses>,
    pub(crate) parameters: Arc<Parameters>,
    pub(crate) gateway: Arc<Gateway>,
    /// Cancelled when the services stop: receivers that wait for a message of a queue get none.
    pub(crate) stopping: CancellationToken,
}

/// A service of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Connections,
    DynamoDb,
    EventBridge,
    Lambda,
    Sns,
    Sqs,
    Ssm,
}

/// The services by what stands before an operation in `X-Amz-Target`.
const TARGETS: [(&str, Service); 5] = [
    ("AWSEvents", Service::EventBridge),
    ("AmazonSQS", Service::Sqs),
    ("AmazonSSM", Service::Ssm),
    ("DynamoDBStreams_20120810", Service::DynamoDb),
    ("DynamoDB_20120810", Service::DynamoDb),
];

/// The services by their names in the scope of a signature.
const SCOPES: [(&str, Service); 7] = [
    ("dynamodb", Service::DynamoDb),
    ("events", Service::EventBridge),
    ("execute-api", Service::Connections),
    ("lambda", Service::Lambda),
    ("sns", Service::Sns),
    ("sqs", Service::Sqs),
    ("ssm", Service::Ssm),
];

/// Finds the service of a request: by its target, which names the operation too, else by its signature, its path, or
/// its form. Returns the name of a service that is not here; empty if the request names none.
fn service(request: &Parts) -> Result<Service, String> {
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = text("x-amz-target").split('.').next().unwrap_or_default();
    if let Some((_, service)) = TARGETS.iter().find(|(prefix, _)| *prefix == target) {
        return Ok(*service);
    }
    let scope = scope(text(AUTHORIZATION.as_str()), request.uri.query().unwrap_or_default());
    if let Some((_, service)) = SCOPES.iter().find(|(name, _)| Some(*name) == scope.as_deref()) {
        return Ok(*service);
    }
    let path = request.uri.path();
    if path.starts_with("/2015-03-31/functions/") {
        return Ok(Service::Lambda);
    }
    if is_of_connections(path) {
        return Ok(Service::Connections);
    }
    let named = scope.unwrap_or_else(|| target.to_owned());
    // Of what is here, only SNS speaks the query protocol.
    if named.is_empty() && request.method == Method::POST && is_form(request) {
        return Ok(Service::Sns);
    }
    Err(named)
}

/// Returns the service in the scope of a signature, which is in a header or, percent-encoded, in the query.
fn scope(authorization: &str, query: &str) -> Option<String> {
    let of_credential = |credential: &str| {
        let end = credential.find([',', ' ']).unwrap_or(credential.len());
        credential[..end].split('/').nth(3).map(str::to_owned)
    };
    if let Some((_, credential)) = authorization.split_once("Credential=") {
        return of_credential(credential);
    }
    let credential = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    of_credential(&percent_decode_str(credential).decode_utf8_lossy())
}

fn is_of_connections(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "@connections" | "%40connections"))
}

fn is_form(request: &Parts) -> bool {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
}

/// Answers one request.
pub(crate) async fn handle(services: Arc<AwsServices>, request: Request, peer: SocketAddr) -> Response<Body> {
    let (head, body) = request.into_parts();
    let service = service(&head);
    if service == Err(String::new()) && head.method == Method::GET && head.uri.path() == "/" {
        return response(StatusCode::OK, "text/plain; charset=utf-8", format!("apigw-local: {SERVED}\n"));
    }
    let service = match service {
        Ok(service) => service,
        Err(named) => {
            discard(body).await;
            return unserved(&head, &named);
        }
    };
    let request = Request::from_parts(head, body);
    match service {
        Service::DynamoDb => dynamodb::api::handle(Arc::clone(&services.store), request).await,
        Service::EventBridge => events::handle(Arc::clone(&services.buses), request).await,
        Service::Lambda => lambda::api::handle(Arc::clone(&services.functions), request).await,
        Service::Sns => sns::handle(Arc::clone(&services.topics), request).await,
        Service::Sqs => sqs::handle(Arc::clone(&services.queues), request, services.stopping.clone()).await,
        Service::Ssm => ssm::handle(Arc::clone(&services.parameters), request).await,
        Service::Connections if is_of_connections(request.uri().path()) => {
            Arc::clone(&services.gateway).handle(request, peer).await
        }
        Service::Connections => unserved(&request.into_parts().0, "execute-api without /@connections/ in the path"),
    }
}

/// Reads a body and keeps nothing of it: a client that is still sending may not look at the answer.
async fn discard(mut body: TimedBody) {
    let mut rest = DISCARDED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len());
        let Some(left) = rest.checked_sub(bytes) else { return };
        rest = left;
    }
}

/// Refuses a request for a service that is not here, in the protocol that the request speaks.
fn unserved(request: &Parts, named: &str) -> Response<Body> {
    let what = if named.is_empty() {
        "the request names no service: expected a signature, X-Amz-Target, or a path of Lambda or @connections".into()
    } else {
        format!("the emulator does not serve {named}")
    };
    let variable = if SCOPES.iter().any(|(name, _)| *name == named) || named.is_empty() {
        String::new()
    } else {
        // The name of its own variable does not follow from the name in a signature.
        "; to reach the real one, set the variables that `apigw-local env` prints for each service instead of \
         AWS_ENDPOINT_URL"
            .to_owned()
    };
    let message = format!("{what}; it serves {SERVED}{variable}");
    tracing::warn!(service = named, method = %request.method, path = request.uri.path(), "call of an unknown service");
    let status = StatusCode::NOT_IMPLEMENTED;
    let mut answer = if is_form(request) {
        let error = QueryError { code: UNSERVED, message };
        response(status, "text/xml", refusal(&error, "", &uuid::Uuid::new_v4().to_string()))
    } else if named == "s3" {
        let error = QueryError { code: UNSERVED, message };
        response(status, "application/xml", crate::aws_query::bare_refusal(&error))
    } else {
        response(status, "application/json", json!({"__type": UNSERVED, "message": message}).to_string())
    };
    answer.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(UNSERVED));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method_and_path: &str, headers: &[(&'static str, &str)]) -> Result<Service, String> {
        let (method, path) = method_and_path.split_once(' ').expect("a path");
        let mut request = hyper::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        service(&request.body(()).expect("valid").into_parts().0)
    }

    #[test]
    fn a_service_is_found_by_target_signature_path_or_form() {
        let signed = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=a/20261130/eu-central-1/{service}/aws4_request, SignedHeaders=host, \
                 Signature=0"
            )
        };
        for (name, service) in [
            ("dynamodb", Service::DynamoDb),
            ("events", Service::EventBridge),
            ("execute-api", Service::Connections),
            ("lambda", Service::Lambda),
            ("sns", Service::Sns),
            ("sqs", Service::Sqs),
            ("ssm", Service::Ssm),
        ] {
            assert_eq!(found("POST /", &[("authorization", &signed(name))]), Ok(service), "{name}");
            let query =
                format!("GET /?X-Amz-Date=x&X-Amz-Credential=a%2F20261130%2Feu-central-1%2F{name}%2Faws4_request");
            assert_eq!(found(&query, &[]), Ok(service), "{query}");
        }
        for (name, service) in [
            ("AWSEvents", Service::EventBridge),
            ("AmazonSQS", Service::Sqs),
            ("AmazonSSM", Service::Ssm),
            ("DynamoDBStreams_20120810", Service::DynamoDb),
            ("DynamoDB_20120810", Service::DynamoDb),
        ] {
            assert_eq!(found("POST /", &[("x-amz-target", &format!("{name}.Operation"))]), Ok(service), "{name}");
            let both = [("x-amz-target", &*format!("{name}.Operation")), ("authorization", &*signed("s3"))];
            assert_eq!(found("POST /", &both), Ok(service), "a target counts before a signature");
        }
        assert_eq!(found("POST /2015-03-31/functions/F/invocations", &[]), Ok(Service::Lambda));
        for path in ["/dev/@connections/a", "/%40connections/a", "/@connections/a"] {
            assert_eq!(found(&format!("POST {path}"), &[]), Ok(Service::Connections), "{path}");
        }
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        assert_eq!(found("POST /", &[form]), Ok(Service::Sns));
        assert_eq!(found("POST /", &[form, ("authorization", &signed("sts"))]), Err("sts".to_owned()));
        assert_eq!(found("PUT /bucket/key", &[("authorization", &signed("s3"))]), Err("s3".to_owned()));
        assert_eq!(found("POST /", &[("x-amz-target", "Logs_20140328.PutLogEvents")]), Err("Logs_20140328".to_owned()));
        assert_eq!(found("POST /", &[("authorization", "AWS4-HMAC-SHA256 Credential=")]), Err(String::new()));
    }
}
