//! HTTP integrations: the servers behind routes.

use std::time::Duration;

use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
    http::uri::InvalidUri,
};
use percent_encoding::utf8_percent_encode;

use super::{
    event::Event,
    mapping,
    response::{BackendResponse, IntegrationError},
};
use crate::{
    error::ErrorChain,
    http_client::{ESCAPED, FetchError, HttpClient},
    template::{HttpBackend, ParameterTarget, WebSocketApi},
};

/// Largest response that is read from a server. Our own choice: far more than a frame can carry.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

impl HttpClient {
    /// Sends a body to a server, and reads the response.
    pub(super) async fn call(
        &self,
        api: &WebSocketApi,
        backend: &HttpBackend,
        event: &Event,
        body: String,
        timeout: Duration,
    ) -> Result<BackendResponse, IntegrationError> {
        let request = request(api, backend, event, body)?;
        let uri = request.uri().clone();
        let response = self.fetch(request, RESPONSE_BYTES_MAX, timeout).await.map_err(|error| {
            let is_late = matches!(error, FetchError::TimedOut(_));
            let error = ErrorChain(&error);
            tracing::error!(%uri, %error, "HTTP integration failed");
            if is_late {
                IntegrationError::TimedOut
            } else {
                IntegrationError::Internal(format!("{uri}: {error}").into())
            }
        })?;
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Ok(BackendResponse {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(response.body()).into_owned(),
        })
    }
}

/// Builds the request. A parameter without a value is left out.
fn request(
    api: &WebSocketApi,
    backend: &HttpBackend,
    event: &Event,
    body: String,
) -> Result<Request<Full<Bytes>>, IntegrationError> {
    let encoded = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let mut uri = backend.uri.clone();
    let mut headers = Vec::new();
    for (target, template) in &backend.parameters {
        let value = mapping::render(api, event, mapping::message(event), None, template, &backend.uri)?;
        match target {
            ParameterTarget::Path(name) => uri = uri.replace(&format!("{{{name}}}"), &encoded(&value)),
            _ if value.is_empty() => {}
            ParameterTarget::Query(name) => {
                uri.push(if uri.contains('?') { '&' } else { '?' });
                uri.push_str(&format!("{}={}", encoded(name), encoded(&value)));
            }
            ParameterTarget::Header(name) => headers.push((name, value)),
        }
    }
    let unusable = |error: &dyn std::fmt::Display| {
        tracing::error!(uri, %error, "request for an HTTP integration not built; check its RequestParameters");
        IntegrationError::Internal(format!("request for {uri} not built: {error}").into())
    };
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = backend.method.clone();
    *request.uri_mut() = uri.parse().map_err(|error: InvalidUri| unusable(&error))?;
    let all = request.headers_mut();
    all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let named = [
        (USER_AGENT, format!("AmazonAPIGateway_{}", api.api_id)),
        (HeaderName::from_static("x-amzn-apigateway-api-id"), api.api_id.clone()),
    ];
    all.extend(named.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))));
    for (name, value) in headers {
        all.insert(name, HeaderValue::from_str(&value).map_err(|error| unusable(&error))?);
    }
    Ok(request)
}
