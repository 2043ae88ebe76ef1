//! The handshake: `$connect` decides, and the client gets its status.

use std::{net::SocketAddr, sync::Arc};

use hyper::{
    HeaderMap, Method, Response, StatusCode,
    header::{
        CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
    },
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    api::Gateway,
    authorizer::{self, HandshakeRefusal},
    connections::Connection,
    event::{self, Handshake},
    ids,
    outbound::outbound,
    query::query,
    response::{self, IntegrationError},
    socket,
};
use crate::http::{Body, HeaderNames, Request, json};

const INTERNAL_ERROR: &str = "Internal server error";

/// Upgrades a request to a WebSocket if `$connect` agrees.
pub(super) async fn handle(gateway: Arc<Gateway>, mut request: Request, peer: SocketAddr) -> Response<Body> {
    let Some(asked) = Upgrade::asked(&request) else {
        gateway.recorder.handshake(None, request.uri(), &[], peer).answered(StatusCode::BAD_REQUEST, "Bad Request");
        return json(StatusCode::BAD_REQUEST, &json!({"message": "Bad Request"}));
    };
    let now = gateway.clock.now();
    let (outbound, waiting) = outbound(&gateway.waiting);
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let connection = Arc::new(Connection::new(
        ids::new(ids::IdKind::Connection, now),
        now,
        peer,
        text(USER_AGENT),
        text(HOST).unwrap_or_default(),
        outbound,
    ));

    let handshake = Handshake {
        headers: event_headers(request.headers(), request.extensions().get(), peer),
        query: query(request.uri().query().unwrap_or_default()),
    };
    let attempt = gateway.recorder.handshake(Some(&connection.id), request.uri(), &handshake.headers, peer);
    let refuse = |status: StatusCode, message: &str, reason: &str, request_id: &str| {
        let (connection, code) = (&connection.id, status.as_u16());
        if reason.is_empty() {
            attempt.answered(status, message);
            tracing::info!(connection, status = code, message, "connection refused");
        } else {
            attempt.answered(status, &format!("{message}: {reason}"));
            tracing::warn!(connection, status = code, message, reason, "connection refused");
        }
        json(status, &json!({"message": message, "connectionId": connection, "requestId": request_id}))
    };
    let route = gateway.api.routes.get("$connect");
    let authenticated = gateway.authenticate(&request, &[]);
    let is_within_rates =
        gateway.buckets.admits("$connect", &gateway.clock) && gateway.settings.quotas.admits_connect(&gateway.clock);
    let admitted = if !is_within_rates {
        Err(HandshakeRefusal::TOO_MANY)
    } else if let Some(route) = route {
        authorizer::authorize(&gateway, &route.authorization, &connection, &handshake, authenticated).await
    } else {
        Ok(None)
    };
    match admitted {
        // The connection is new, so the context was not set before.
        Ok(context) => context.into_iter().for_each(|context| drop(connection.authorizer.set(context))),
        Err(HandshakeRefusal { status, message, reason, error_type }) => {
            let mut response = refuse(status, &message, &reason, &ids::new(ids::IdKind::Request, now));
            let error_type = error_type.map(HeaderValue::from_static);
            response.headers_mut().extend(error_type.map(|kind| (HeaderName::from_static("x-amzn-errortype"), kind)));
            return response;
        }
    }
    let event = event::connect(&gateway, &connection, &handshake);
    let refuse = |status: StatusCode, message: &str, reason: &str| refuse(status, message, reason, &event.request_id);
    let connect_response = match route {
        None => Ok(json!({"statusCode": 200})),
        Some(route) => gateway.run(route, &event, &connection).await,
    };
    let connect_response = match connect_response {
        Ok(connect_response) => connect_response,
        Err(error @ IntegrationError::TimedOut) => return refuse(StatusCode::GATEWAY_TIMEOUT, error.message(), ""),
        Err(IntegrationError::Internal(reason)) => return refuse(StatusCode::BAD_GATEWAY, INTERNAL_ERROR, &reason),
    };
    let Some(status) = response::status(&connect_response) else {
        return refuse(StatusCode::BAD_GATEWAY, INTERNAL_ERROR, "the answer of $connect has no valid statusCode");
    };
    if !status.is_success() {
        let reason = if status.is_server_error() { response::shown_body(&connect_response) } else { String::new() };
        return refuse(status, status.canonical_reason().unwrap_or("Forbidden"), &reason);
    }

    attempt.answered(StatusCode::SWITCHING_PROTOCOLS, "");
    // From here on posts reach the connection. Until the client has the response, they wait in the channel.
    gateway.connections.insert(Arc::clone(&connection));
    let upgrade = hyper::upgrade::on(&mut request);
    gateway.tasks.spawn(socket::run(Arc::clone(&gateway), connection, upgrade, waiting));

    asked.answer(subprotocol(&connect_response))
}

/// A valid request for a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade(HeaderValue);

impl Upgrade {
    /// Reads what a request asks for. `None` if it is not a valid handshake of version 13.
    pub(crate) fn asked<B>(request: &hyper::Request<B>) -> Option<Self> {
        // RFC 6455 forbids to send either of them twice.
        let only = |name: HeaderName| {
            let mut values = request.headers().get_all(name).iter();
            values.next().filter(|_| values.next().is_none())
        };
        let is_asked = request.method() == Method::GET && only(SEC_WEBSOCKET_VERSION)? == "13";
        only(SEC_WEBSOCKET_KEY).filter(|_| is_asked).cloned().map(Self)
    }

    /// Makes the response with which the WebSocket begins.
    pub(crate) fn answer(&self, subprotocol: Option<HeaderValue>) -> Response<Body> {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(self.0.as_bytes())) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// Returns the subprotocol that the function chose: its only header that reaches the client.
fn subprotocol(connect_response: &Value) -> Option<HeaderValue> {
    let headers = connect_response.get("headers")?.as_object()?;
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(SEC_WEBSOCKET_PROTOCOL.as_str()))?;
    HeaderValue::from_str(value.as_str()?).ok()
}

/// Returns the headers for the event: without `Connection` and `Upgrade`, with those that the gateway adds.
fn event_headers(headers: &HeaderMap, written: Option<&HeaderNames>, peer: SocketAddr) -> Vec<(String, String)> {
    let own = headers
        .iter()
        .filter(|(name, _)| **name != CONNECTION && **name != UPGRADE)
        .map(|(name, value)| (header_name(name, written), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let trace = format!("Root=1-{}", uuid::Uuid::new_v4());
    let added = [
        ("X-Amzn-Trace-Id", trace),
        ("X-Forwarded-For", peer.ip().to_string()),
        ("X-Forwarded-Port", "443".to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
    ];
    own.chain(added.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Returns the name of a header as the client wrote it, or as browsers do.
pub(crate) fn header_name(name: &HeaderName, written: Option<&HeaderNames>) -> String {
    let written = written.and_then(|names| names.0.iter().find(|written| written.eq_ignore_ascii_case(name.as_str())));
    written.cloned().unwrap_or_else(|| title_case(name.as_str()))
}

/// Writes a name as browsers do, such as `Sec-WebSocket-Key`, if the client's own case is not known.
fn title_case(name: &str) -> String {
    let word = |word: &str| match word {
        "websocket" => "WebSocket".to_owned(),
        _ => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
    };
    name.split('-').map(word).collect::<Vec<String>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_look_as_browsers_write_them() {
        assert_eq!(title_case("sec-websocket-key"), "Sec-WebSocket-Key");
        assert_eq!(title_case("x-region"), "X-Region");
    }
}
