//! HTTP proxies: servers that get the requests of a route.

use std::{error::Error, sync::LazyLock, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Bytes,
    header::{FORWARDED, HOST, HeaderValue, VIA},
    http::uri::InvalidUri,
};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use regex::{Captures, Regex};

use super::{connection_headers::end_to_end, event::Incoming, response::BackendFailure};
use crate::{
    error::ErrorChain,
    http::Body,
    http_client::{ESCAPED, HttpClient},
    template::{DEFAULT, HttpApiKind, ProxiedServer},
};

/// Largest response that is passed on. Source: API Gateway quotas for payloads.
const RESPONSE_BYTES_MAX: usize = 10 * 1024 * 1024;

/// What an HTTP API adds to `Via`. Source: recorded (postman-echo behind an HTTP API).
const VIA_GATEWAY: &str = "HTTP/1.1 AmazonAPIGateway";

/// What is escaped in a parameter that is the rest of a path, whose slashes stay.
const ESCAPED_REST: &AsciiSet = &ESCAPED.remove(b'/');

/// A parameter in the address of a server.
static PARAMETER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{([^{}+]+)\+?\}").expect("a valid pattern"));

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
        tracing::error!(address, %error, "HTTP integration failed");
        BackendFailure::TimedOut
    };
    let mut request = Request::new(Full::new(body));
    let method = server.method.as_deref().and_then(|method| method.parse().ok());
    *request.method_mut() = method.unwrap_or_else(|| incoming.parts.method.clone());
    *request.uri_mut() = address.parse().map_err(|error: InvalidUri| failed(&error))?;
    *request.headers_mut() = end_to_end(&incoming.parts.headers);
    request.headers_mut().remove(HOST);
    if incoming.api.kind == HttpApiKind::Http {
        if let Ok(forwarded) = HeaderValue::from_str(&incoming.forwarded()) {
            request.headers_mut().insert(FORWARDED, forwarded);
        }
        request.headers_mut().append(VIA, HeaderValue::from_static(VIA_GATEWAY));
    }
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
    let mut address = filled(&server.uri, |wanted| {
        let (name, value) = incoming.parameters.iter().find(|(name, _)| name == wanted)?;
        let is_rest = incoming.route.path.ends_with(&format!("{{{name}+}}"));
        Some(match incoming.api.kind {
            // As the client wrote it.
            HttpApiKind::Rest => value.clone(),
            HttpApiKind::Http => utf8_percent_encode(value, if is_rest { ESCAPED_REST } else { ESCAPED }).to_string(),
        })
    });
    if incoming.route.path == DEFAULT {
        address = format!("{}{}", address.trim_end_matches('/'), incoming.path);
    }
    if let Some(query) = incoming.parts.uri.query() {
        address = format!("{address}{}{query}", if address.contains('?') { '&' } else { '?' });
    }
    address
}

/// An address with the values of its parameters, at once: a value may look like another parameter.
fn filled(address: &str, value_of: impl Fn(&str) -> Option<String>) -> String {
    let value = |found: &Captures<'_>| value_of(&found[1]).unwrap_or_else(|| found[0].to_owned());
    PARAMETER.replace_all(address, value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn a_value_that_looks_like_a_parameter_is_not_replaced() {
        let values = [("a", "{b}"), ("b", "$1{a}"), ("rest", "c/{a}")];
        let value_of =
            |wanted: &str| values.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        assert_eq!(filled("http://x/{a}/{b}/{rest+}?c={c}", value_of), "http://x/{b}/$1{a}/c/{a}?c={c}");
    }
}
