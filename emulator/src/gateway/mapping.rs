//! Integrations with mapping templates: MOCK, AWS and HTTP.
//!
//! Source: API Gateway developer guide, "Set up data transformations for WebSocket APIs".

use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use velocity::{Inputs, MappingTemplate};

use super::{
    api::Gateway,
    event::Event,
    response::{BackendResponse, IntegrationError},
};
use crate::{
    invocation::InvokeError,
    json,
    template::{IntegrationBackend, MappedIntegration, Passthrough, ResponseHead, ServiceCall, WebSocketApi},
};

impl Gateway {
    /// Maps the message, calls the backend, and maps its response. Returns it in the form of a proxy response.
    pub(super) async fn run_mapped(
        &self,
        mapped: &MappedIntegration,
        event: &Event,
        source: &str,
    ) -> Result<Value, IntegrationError> {
        let message = message(event);
        let requests = &mapped.requests;
        let body = match requests.select(|selection| selection.template_key(message, None)) {
            Some(template) => render(&self.api, event, message, None, template, &requests.origin)?,
            None => match mapped.passthrough {
                Passthrough::WhenNoMatch => message.to_owned(),
                Passthrough::WhenNoTemplates if requests.is_empty() => message.to_owned(),
                _ => {
                    tracing::error!(
                        templates = requests.origin,
                        "message blocked: no template matches, and PassthroughBehavior forbids to pass it on"
                    );
                    return Err(IntegrationError::Internal("no template matches the message".into()));
                }
            },
        };
        let (answer, selected_by) = match &mapped.backend {
            IntegrationBackend::Mock => {
                let answer = BackendResponse {
                    status: mock_status(&body, &requests.origin)?,
                    headers: Vec::new(),
                    body: String::new(),
                };
                let status = answer.status.to_string();
                (answer, Some(status))
            }
            IntegrationBackend::Lambda { function, asynchronous } => {
                self.call_lambda(mapped, function, *asynchronous, body, source).await?
            }
            IntegrationBackend::Service(call) => {
                let answer = self.call_service(call, event, &requests.origin, &body)?;
                let status = answer.status.to_string();
                (answer, Some(status))
            }
            IntegrationBackend::Http(backend) => {
                let answer =
                    self.settings.http.call(&self.api, backend, event, body, self.within_limit(mapped.timeout)).await?;
                let status = answer.status.to_string();
                (answer, Some(status))
            }
        };
        self.map_response(mapped, event, answer, selected_by.as_deref())
    }

    /// Calls a service with the rendered body. A request that it refuses leaves a line in the log.
    fn call_service(
        &self,
        call: &ServiceCall,
        event: &Event,
        origin: &str,
        body: &str,
    ) -> Result<BackendResponse, IntegrationError> {
        let services = self.services.as_ref();
        let services = services.ok_or_else(|| IntegrationError::Internal("there are no services".into()))?;
        let mut query = String::new();
        for (name, template) in &call.query {
            let value = render(&self.api, event, message(event), None, template, origin)?;
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            query.push_str(&format!("&{}={}", encoded(name), encoded(&value)));
        }
        let (status, answer) = services.call(call, &query, body);
        if !status.is_success() {
            let (status, service) = (status.as_u16(), call.service);
            tracing::error!(templates = origin, ?service, status, answer, "request refused by a service");
        }
        Ok(BackendResponse { status: status.as_u16(), headers: Vec::new(), body: answer })
    }

    /// Invokes a function with the rendered body. Returns its response, and the error message that selects the mapping
    /// of the response, if it has one.
    async fn call_lambda(
        &self,
        mapped: &MappedIntegration,
        function: &str,
        asynchronous: bool,
        body: String,
        source: &str,
    ) -> Result<(BackendResponse, Option<String>), IntegrationError> {
        // Recorded from the service: an empty body becomes an empty object.
        let body = if body.is_empty() { "{}".to_owned() } else { body };
        if serde_json::from_str::<IgnoredAny>(&body).is_err() {
            tracing::error!(
                templates = mapped.requests.origin,
                body,
                "body for a function is not JSON; correct the template, or add one for this message"
            );
            return Err(IntegrationError::Internal("the body for the function is not JSON".into()));
        }
        let payload = Bytes::from(body);
        let answered = |status, body: &[u8]| BackendResponse {
            status,
            headers: Vec::new(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        if asynchronous {
            return match self.functions.invoke_async(function, payload) {
                Ok(()) => Ok((answered(202, b""), None)),
                Err(InvokeError::TooManyEvents) => Ok((answered(429, br#"{"message":"Rate Exceeded."}"#), None)),
                Err(error) => Err(IntegrationError::Internal(error.to_string().into())),
            };
        }
        let invoked = self.functions.invoke_for(source, function, payload);
        let answer = match tokio::time::timeout(self.within_limit(mapped.timeout), invoked).await {
            Err(_) => return Err(IntegrationError::TimedOut),
            Ok(Ok(answer)) => answered(200, &answer),
            // On $connect, a function that fails refuses the client.
            Ok(Err(error @ (InvokeError::FunctionError { .. } | InvokeError::TimedOut(_)))) => {
                answered(502, &error.payload())
            }
            Ok(Err(error)) => return Err(IntegrationError::Internal(error.to_string().into())),
        };
        let said = json::read(&answer.body).unwrap_or_default();
        let error = said.get("errorMessage").and_then(Value::as_str).map(str::to_owned);
        Ok((answer, error))
    }

    /// Selects the integration response and renders it.
    fn map_response(
        &self,
        mapped: &MappedIntegration,
        event: &Event,
        answer: BackendResponse,
        selected_by: Option<&str>,
    ) -> Result<Value, IntegrationError> {
        let matching = selected_by.and_then(|text| {
            let matches = |pattern: &regex::Regex| pattern.is_match(text);
            mapped.responses.iter().find(|response| response.pattern.as_ref().is_some_and(matches))
        });
        let response = matching.or_else(|| mapped.responses.iter().find(|response| response.pattern.is_none()));
        let status = answer.status;
        let Some(response) = response else {
            if mapped.responses.is_empty() {
                return Ok(json!({"statusCode": status, "body": null}));
            }
            tracing::error!(
                templates = mapped.requests.origin,
                selected_by,
                "no integration response matched; add one with the key $default"
            );
            return Err(IntegrationError::Internal("no integration response matches".into()));
        };
        let responded = ResponseHead { status, headers: &answer.headers };
        let template = response.templates.select(|selection| selection.template_key(message(event), Some(responded)));
        let body = match template {
            Some(template) => {
                let origin = &response.templates.origin;
                Some(render(&self.api, event, &answer.body, Some(status), template, origin)?)
            }
            // MOCK has no body of its own.
            None => Some(answer.body).filter(|_| !matches!(mapped.backend, IntegrationBackend::Mock)),
        };
        Ok(json!({"statusCode": status, "body": body}))
    }
}

/// Returns the client's message. It is empty on `$connect` and `$disconnect`.
pub(super) fn message(event: &Event) -> &str {
    event.body.get("body").and_then(Value::as_str).unwrap_or_default()
}

/// Renders a template with a body and the context of an event.
pub(super) fn render(
    api: &WebSocketApi,
    event: &Event,
    body: &str,
    status: Option<u16>,
    template: &MappingTemplate,
    origin: &str,
) -> Result<String, IntegrationError> {
    let object = |name: &str| event.body.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut context = object("requestContext");
    context.extend(status.map(|status| ("status".to_owned(), json!(status.to_string()))));
    let parameters = Map::from_iter([
        ("path".to_owned(), json!({})),
        ("querystring".to_owned(), Value::Object(object("queryStringParameters"))),
        ("header".to_owned(), Value::Object(object("headers"))),
    ]);
    let inputs = Inputs {
        body,
        read_json: json::parse,
        context: &context,
        stage_variables: &api.stage_variables,
        parameters: &parameters,
    };
    template.render(&inputs).map_err(|error| {
        tracing::error!(templates = origin, %error, "mapping template failed; correct it in the template file");
        IntegrationError::Internal(format!("a mapping template failed: {error}").into())
    })
}

/// Returns the status in the request of a MOCK integration.
fn mock_status(request: &str, origin: &str) -> Result<u16, IntegrationError> {
    let named = json::read(request);
    let named = named.as_ref().and_then(|request| request.get("statusCode"));
    let status = named.and_then(|status| status.as_u64().or_else(|| status.as_str()?.parse().ok()));
    status.and_then(|status| u16::try_from(status).ok()).ok_or_else(|| {
        tracing::error!(
            templates = origin,
            request,
            "request of a MOCK integration has no statusCode; correct the template"
        );
        IntegrationError::Internal("the request of a MOCK integration has no statusCode".into())
    })
}
