//! The frames of a client, and what each is answered with.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    api::ServedEventApi,
    authorization,
    channel::Pattern,
    credentials::{Credentials, Operation},
    error::{EventError, Refused},
    handlers::Handled,
    limits::{ID_CHARS_MAX, KEEP_ALIVES_MISSED},
    publish::Publication,
    subscriptions::Session,
};
use crate::{gateway::BacklogBounds, json};

/// The operation that authorizers are asked about.
const SUBSCRIBE: &str = "EVENT_SUBSCRIBE";

/// What a frame is answered with.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    /// Whether events that wait for the client come first: after a subscription has ended, it gets none.
    pub(super) is_after_events: bool,
}

/// Handles a frame and returns the answer.
pub(super) async fn answer(api: Arc<ServedEventApi>, session: Arc<Session>, text: Utf8Bytes) -> Answer {
    let is_unsubscribed = |answer: &Value| answer["type"] == "unsubscribe_success";
    let answer = respond(&api, &session, text).await;
    Answer { is_after_events: is_unsubscribed(&answer), text: answer.to_string() }
}

async fn respond(api: &Arc<ServedEventApi>, session: &Arc<Session>, text: Utf8Bytes) -> Value {
    let Some(_entry) =
        session.connection.unanswered().add(&api.shared.unanswered, BacklogBounds::UNANSWERED, text.len())
    else {
        let error = EventError::new(Refused::LimitExceeded, "too many unanswered messages");
        return error.frame("error", None);
    };
    let frame = json::read(&text).filter(Value::is_object);
    let Some(frame) = frame else {
        let error = EventError::new(Refused::UnsupportedOperation, "the message is not an object in JSON");
        return error.frame("error", None);
    };
    drop(text);
    let id = frame.get("id").and_then(Value::as_str);
    let kind = frame.get("type").and_then(Value::as_str).unwrap_or_default();
    let answered = match kind {
        "connection_init" => {
            let timeout = (api.shared.keep_alive * KEEP_ALIVES_MISSED).as_millis();
            let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
            return json!({"type": "connection_ack", "connectionTimeoutMs": timeout});
        }
        "subscribe" => subscribe(api, session, id, &frame).await,
        "unsubscribe" => unsubscribe(api, session, id),
        "publish" => publish(api, session, id, &frame).await,
        _ => {
            let error = EventError::new(Refused::UnsupportedOperation, "unknown type");
            return error.frame("error", id);
        }
    };
    answered.unwrap_or_else(|error| error.frame(&format!("{kind}_error"), id))
}

/// The id of an operation: up to 128 letters, digits, `-`, `_` and `+`.
fn checked(id: Option<&str>) -> Result<&str, EventError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+');
    let is_valid = |id: &&str| (1..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(allowed);
    id.filter(is_valid)
        .ok_or(EventError::new(Refused::BadRequest, "Invalid id: expected 1 to 128 of a-z A-Z 0-9 - _ +"))
}

/// The credentials of a frame, or those with which its client has connected.
fn credentials(session: &Session, frame: &Value) -> Result<Credentials, EventError> {
    match frame.get("authorization") {
        None | Some(Value::Null) => Ok(session.credentials.clone()),
        Some(object) => Credentials::of_object(object)
            .ok_or(EventError::new(Refused::BadRequest, "Invalid authorization: expected an object")),
    }
}

async fn subscribe(
    api: &Arc<ServedEventApi>,
    session: &Arc<Session>,
    id: Option<&str>,
    frame: &Value,
) -> Result<Value, EventError> {
    let id = checked(id)?;
    let missing = EventError::new(Refused::BadRequest, "Missing channel");
    let written = frame.get("channel").and_then(Value::as_str).ok_or(missing)?;
    let pattern = Pattern::parse(written)?;
    let credentials = credentials(session, frame)?;
    let place = session.reserve(&api.subscriptions, id, &pattern)?;
    let key = pattern.key();
    let authorized = async {
        let namespace = api.api.namespaces.get(pattern.namespace()).ok_or(EventError::UNAUTHORIZED)?;
        let operation = Operation { name: SUBSCRIBE, namespace: Some(pattern.namespace()), channel: Some(&key) };
        let signed = format!(r#"{{"channel":{}}}"#, json!(written));
        let signature = || authorization::check_signature(api, &credentials, &signed);
        let (headers, source) = (&session.headers, &session.connection.id);
        let modes = &namespace.subscribe;
        let identity =
            authorization::authorize(api, modes, operation, &credentials, headers, signature, source).await?;
        match &namespace.on_subscribe {
            Some(handler) => {
                let (namespace, channel, identity) = (pattern.namespace(), key.as_str(), &identity);
                Handled { api, namespace, channel, identity, headers, source }.subscribe(handler).await
            }
            None => Ok(()),
        }
    };
    if let Err(error) = authorized.await {
        session.forget(id, &place);
        return Err(error);
    }
    if session.begin(&api.shared, &api.subscriptions, id, &place) {
        Ok(json!({"type": "subscribe_success", "id": id}))
    } else {
        Err(EventError::new(Refused::UnknownOperation, "The subscription was ended before it began"))
    }
}

fn unsubscribe(api: &ServedEventApi, session: &Session, id: Option<&str>) -> Result<Value, EventError> {
    let id = checked(id)?;
    if session.end(&api.subscriptions, id) {
        return Ok(json!({"type": "unsubscribe_success", "id": id}));
    }
    Err(EventError { refused: Refused::UnknownOperation, message: format!("Unknown operation id {id}").into() })
}

async fn publish(
    api: &Arc<ServedEventApi>,
    session: &Session,
    id: Option<&str>,
    frame: &Value,
) -> Result<Value, EventError> {
    let id = checked(id)?;
    if !api.shared.admits(session.publishes.as_ref(), 1) {
        return Err(EventError::THROTTLED);
    }
    let publication = Publication::read(frame)?;
    let credentials = credentials(session, frame)?;
    let signature =
        |publication: &Publication| authorization::check_signature(api, &credentials, &publication.signed());
    let source = &session.connection.id;
    let published = publication.publish(api, &credentials, &session.headers, signature, source).await?;
    Ok(json!({
        "type": "publish_success",
        "id": id,
        "successful": published.successful,
        "failed": published.failed,
    }))
}
