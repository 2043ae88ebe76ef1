//! Publishes, over HTTP and over a socket.
//!
//! Source: AppSync developer guide, "Publish events via HTTP" and "Publish events via WebSocket"; wording of refusals
//! as in ministack.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_REQUEST_HEADERS, HeaderName, HeaderValue,
    },
    http::request::Parts,
};
use serde_json::{Value, json};

use super::{
    api::ServedEventApi,
    authorization,
    channel::Channel,
    credentials::{Credentials, Operation, header_object},
    error::{EventError, Refused},
    handlers::{Decision, Handled},
    limits::{BODY_BYTES_MAX, EVENT_BYTES_MAX, EVENTS_MAX},
};
use crate::{
    faults::FaultKind,
    http::{self, Body, Request},
    json,
};

/// The operation that authorizers are asked about.
const OPERATION: &str = "EVENT_PUBLISH";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const TOKENS_CONSUMED: HeaderName = HeaderName::from_static("x-amzn-appsync-tokensconsumed");

/// The code of an event that was not processed.
const MESSAGE_FAILED: &str = "MessageProcessingError";

/// What somebody publishes.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    /// As the publisher wrote it.
    written: String,
    channel: Channel,
    /// Each a JSON text.
    events: Vec<String>,
}

/// What became of a publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub(super) successful: Vec<Value>,
    pub(super) failed: Vec<Value>,
    /// Deliveries to subscriptions.
    delivered: usize,
}

impl Publication {
    /// Reads a body or a frame.
    pub(super) fn read(value: &Value) -> Result<Self, EventError> {
        let bad = |message| EventError::new(Refused::BadRequest, message);
        let written = value.get("channel").and_then(Value::as_str).ok_or(bad("Missing channel"))?.to_owned();
        let events = match value.get("events") {
            None | Some(Value::Null) => return Err(bad("Missing events")),
            Some(Value::Array(events)) if events.is_empty() => return Err(bad("Missing events")),
            Some(Value::Array(events)) => events,
            Some(_) => return Err(EventError::new(Refused::Serialization, "Expected list or null")),
        };
        if events.len() > EVENTS_MAX {
            return Err(bad("Input exceeded 5 event limit"));
        }
        let text = |event: &Value| {
            let text = event.as_str().ok_or(EventError::new(Refused::Serialization, "Expected string"))?;
            let is_json = json::parse(text).is_ok();
            is_json.then(|| text.to_owned()).ok_or(bad("Invalid event: expected a text that is JSON"))
        };
        let events = events.iter().map(text).collect::<Result<_, _>>()?;
        Ok(Self { channel: Channel::parse(&written)?, written, events })
    }

    /// What a client signs of a publish over a socket. The service escapes `<` and `>` before it compares, so that a
    /// signature of a text with them is wrong (aws/aws-appsync-community issue 400).
    pub(super) fn signed(&self) -> String {
        let text = format!(r#"{{"channel":{},"events":{}}}"#, json!(self.written), json!(self.events));
        text.replace('<', "\\u003c").replace('>', "\\u003e")
    }

    /// Authorizes and publishes it. `signature` checks a signature.
    pub(super) async fn publish(
        self,
        api: &Arc<ServedEventApi>,
        credentials: &Credentials,
        headers: &Value,
        signature: impl FnOnce(&Self) -> Result<(), crate::gateway::SignatureError>,
        source: &str,
    ) -> Result<Published, EventError> {
        let namespace = api.api.namespaces.get(self.channel.namespace()).ok_or(EventError::UNAUTHORIZED)?;
        let path = self.channel.path();
        let operation = Operation { name: OPERATION, namespace: Some(self.channel.namespace()), channel: Some(&path) };
        let signature = || signature(&self);
        let modes = &namespace.publish;
        let identity = authorization::authorize(api, modes, operation, credentials, headers, signature, source).await?;
        if api.shared.faults.inject(FaultKind::ThrottledPublish).is_some() || !api.admits_events(self.events.len()) {
            return Err(EventError::THROTTLED);
        }
        let id = |event: &String| (uuid::Uuid::new_v4().to_string(), event.clone());
        let events: Vec<(String, String)> = self.events.iter().map(id).collect();
        let decisions = match &namespace.on_publish {
            Some(handler) => {
                let (namespace, channel, identity) = (self.channel.namespace(), path.as_str(), &identity);
                Handled { api, namespace, channel, identity, headers, source }.publish(handler, &events).await
            }
            None => events.iter().map(|(_, event)| Decision::Broadcast(event.clone())).collect(),
        };
        let ids = events.into_iter().map(|(id, _)| id);
        Ok(self.broadcast(api, ids.zip(decisions)))
    }

    fn broadcast(&self, api: &ServedEventApi, events: impl Iterator<Item = (String, Decision)>) -> Published {
        let mut published = Published::default();
        for (index, (identifier, decision)) in events.enumerate() {
            let failed = match decision {
                Decision::Filtered => continue,
                Decision::Failed(message) => Some((MESSAGE_FAILED, message)),
                Decision::Broadcast(event) if event.len() > EVENT_BYTES_MAX => {
                    Some(("EventTooLargeException", "Transformed event is larger than 240KB".to_owned()))
                }
                Decision::Broadcast(_) if api.shared.faults.inject(FaultKind::FailedEvent).is_some() => {
                    Some((MESSAGE_FAILED, "There was an error processing the message".to_owned()))
                }
                Decision::Broadcast(event) => {
                    published.delivered += api.subscriptions.deliver(&api.shared, &self.channel, &event);
                    None
                }
            };
            match failed {
                // In the order of the service, which a client may print.
                Some((code, message)) => published
                    .failed
                    .push(json!({"code": code, "identifier": identifier, "index": index, "message": message})),
                None => published.successful.push(json!({"identifier": identifier, "index": index})),
            }
        }
        published
    }
}

/// Handles a request at the address of publishes.
pub(super) async fn handle(api: &Arc<ServedEventApi>, request: Request, peer: SocketAddr) -> Response<Body> {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let mut response = match head.method {
        Method::OPTIONS => preflight(&head),
        Method::POST => {
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).map_err(|_| EventError {
                refused: Refused::TooLarge,
                message: format!("Request body exceeds {BODY_BYTES_MAX} bytes").into(),
            });
            let answered = match &body {
                Ok(body) => publish(api, &head, body, peer).await,
                Err(error) => Err(error.clone()),
            };
            let (error, delivered) = match &answered {
                Ok(published) => (None, published.delivered),
                Err(error) => (Some(error.refused.name()), 0),
            };
            let response = match &answered {
                Ok(Published { successful, failed, .. }) => {
                    http::json(StatusCode::OK, &json!({"failed": failed, "successful": successful}))
                }
                Err(error) => error.response(),
            };
            let body = body.unwrap_or_default();
            api.shared.recorder.published(&api.api.name, response.status(), error, delivered, body, began.elapsed());
            response
        }
        _ => EventError { refused: Refused::UnknownOperation, message: "Unknown operation".into() }.response(),
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(TOKENS_CONSUMED, HeaderValue::from_static("1"));
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

async fn publish(
    api: &Arc<ServedEventApi>,
    head: &Parts,
    body: &[u8],
    peer: SocketAddr,
) -> Result<Published, EventError> {
    let unreadable = || EventError::new(Refused::Serialization, "Unable to parse request body");
    let value = std::str::from_utf8(body).ok().and_then(json::read).filter(Value::is_object);
    let publication = Publication::read(&value.ok_or_else(unreadable)?)?;
    let (credentials, headers) = (Credentials::of_headers(&head.headers), header_object(&head.headers));
    let signature =
        |_: &Publication| authorization::check_request(api, &hyper::Request::from_parts(head.clone(), ()), body);
    publication.publish(api, &credentials, &headers, signature, &peer.to_string()).await
}

/// Allows a page what it asks for: the service has no setting for it.
fn preflight(head: &Parts) -> Response<Body> {
    let mut response = Response::new(Body::default());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    if let Some(asked) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}
