//! HTTP proxies: servers that get the requests of a route.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Bytes, header::HOST};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{connection_headers::end_to_end, event::Incoming, response::BackendFailure};
use crate::{
    http::Body,
    http_client::HttpClient,
    template::{DEFAULT, ProxiedServer},
};

/// Largest response that is passed on. Source: API Gateway quotas for payloads.
const RESPONSE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// What is escaped in a parameter of a path: everything except the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is escaped in a parameter that is the rest of a path, whose slashes stay.
const ESCAPED_REST: &AsciiSet = &ESCAPED.remove(b'/');

/// Passes a request on, and returns the response.
pub(super) async fn pass(
    client: &HttpClient,
    server: &ProxiedServer,
    timeout: Duration,
    incoming: &Incoming<'_>,
    body: Bytes,
) -> Result<Response<Body>, BackendFailure> {
    let address = address(server, incoming);
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(address, %error, "HTTP integration not reached; check that it is running");
        BackendFailure::TimedOut
    };
    let mut request = Request::new(Full::new(body));
    let method = server.method.as_deref().and_then(|method| method.parse().ok());
    *request.method_mut() = method.unwrap_or_else(|| incoming.parts.method.clone());
    *request.uri_mut() = address.parse().map_err(|error: hyper::http::uri::InvalidUri| failed(&error))?;
    *request.headers_mut() = end_to_end(&incoming.parts.headers);
    request.headers_mut().remove(HOST);
    let answered = async {
        let response = client.send(request).map_err(|error| failed(&error))?.await.map_err(|error| failed(&error))?;
        let (head, body) = response.into_parts();
        if head.status.is_informational() {
            return Err(failed(&format_args!("it answered with {}", head.status)));
        }
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
        let mut response = Response::new(Full::new(body.to_bytes()));
        *response.status_mut() = head.status;
        *response.headers_mut() = end_to_end(&head.headers);
        Ok(response)
    };
    tokio::time::timeout(timeout, answered).await.unwrap_or(Err(BackendFailure::TimedOut))
}

/// The address of a server with the parameters of the path and the query. A route for everything appends the path.
fn address(server: &ProxiedServer, incoming: &Incoming<'_>) -> String {
    let mut address = server.uri.clone();
    for (name, value) in incoming.parameters {
        let is_rest = incoming.route.path.ends_with(&format!("{{{name}+}}"));
        let value = utf8_percent_encode(value, if is_rest { ESCAPED_REST } else { ESCAPED }).to_string();
        address = address.replace(&format!("{{{name}}}"), &value).replace(&format!("{{{name}+}}"), &value);
    }
    if incoming.route.path == DEFAULT {
        address = format!("{}{}", address.trim_end_matches('/'), incoming.path);
    }
    if let Some(query) = incoming.parts.uri.query() {
        address = format!("{address}{}{query}", if address.contains('?') { '&' } else { '?' });
    }
    address
}
