//! HTTP proxies: servers that get the requests of a route.

use std::{error::Error, time::Duration};

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, header::HOST, http::uri::InvalidUri};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::{connection_headers::end_to_end, event::Incoming, response::BackendFailure};
use crate::{
    error::ErrorChain,
    http::Body,
    http_client::{ESCAPED, HttpClient},
    template::{DEFAULT, ProxiedServer},
};

/// Largest response that is passed on. Source: API Gateway quotas for payloads.
const RESPONSE_BYTES_MAX: usize = 10 * 1024 * 1024;

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
    let failed = |error: &(dyn Error + 'static)| {
        let error = ErrorChain(error);
        tracing::error!(address, %error, "HTTP integration failed; check that its server is running");
        BackendFailure::TimedOut
    };
    let mut request = Request::new(Full::new(body));
    let method = server.method.as_deref().and_then(|method| method.parse().ok());
    *request.method_mut() = method.unwrap_or_else(|| incoming.parts.method.clone());
    *request.uri_mut() = address.parse().map_err(|error: InvalidUri| failed(&error))?;
    *request.headers_mut() = end_to_end(&incoming.parts.headers);
    request.headers_mut().remove(HOST);
    let fetched = client.fetch(request, RESPONSE_BYTES_MAX, timeout).await;
    let (head, body) = fetched.map_err(|error| failed(&error))?.into_parts();
    if head.status.is_informational() {
        tracing::error!(address, status = head.status.as_u16(), "HTTP integration answered with a status of 1xx");
        return Err(BackendFailure::TimedOut);
    }
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = end_to_end(&head.headers);
    Ok(response)
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
