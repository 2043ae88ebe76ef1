//! Integrations of routes, in the form of a REST API's methods.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::model::{ANY, MockResponse, PayloadVersion, ProxiedServer, RouteBackend};
use crate::template::{references::function_of, scalar};

/// What an integration has besides its own properties.
pub(super) struct IntegrationSettings<'a> {
    /// Names it in messages.
    pub(super) name: &'a str,
    pub(super) payload: PayloadVersion,
    pub(super) timeout: Duration,
    pub(super) stage_variables: &'a BTreeMap<String, String>,
}

/// Reads the integration of a method.
pub(super) fn backend_of(
    integration: &Value,
    settings: &IntegrationSettings<'_>,
    notes: &mut Vec<String>,
) -> RouteBackend {
    let IntegrationSettings { name, payload, timeout, stage_variables } = *settings;
    let text = |name: &str| integration.get(name).and_then(scalar::as_text);
    let unserved =
        |what: &str| RouteBackend::Unserved(format!("the emulator does not run the integration of {name}, {what}"));
    let mut uri = text("Uri").unwrap_or_default();
    for (variable, value) in stage_variables {
        uri = uri.replace(&format!("${{stageVariables.{variable}}}"), value);
    }
    if text("ConnectionType").is_some_and(|kind| kind != "INTERNET") {
        return unserved("which is private (VPC link)");
    }
    match text("Type").as_deref() {
        Some("AWS_PROXY") => match function_of(&uri) {
            Some(function) => RouteBackend::Lambda { function: function.to_owned(), payload, timeout },
            None => unserved(&format!("whose address {uri} is no function")),
        },
        Some("HTTP_PROXY") => {
            let mut parameters = integration.get("RequestParameters").and_then(Value::as_object).into_iter().flatten();
            let is_same = |(target, source): (&String, &Value)| {
                let name = target.strip_prefix("integration.request.path.");
                name.is_some_and(|name| source.as_str() == Some(&format!("method.request.path.{name}")))
            };
            if !parameters.all(is_same) {
                return unserved("which maps parameters");
            }
            proxied(&uri, text("IntegrationHttpMethod").filter(|method| method != ANY), timeout)
        }
        Some("MOCK") => match mock(integration) {
            Ok((response, note)) => {
                notes.extend(note.map(|note| format!("{name} answers without its {note}, which is a template")));
                RouteBackend::Mock(response)
            }
            Err(what) => unserved(&what),
        },
        other => unserved(&format!("which is of type {}", other.unwrap_or("(none)"))),
    }
}

/// The response of a MOCK integration, as frameworks write it for preflight requests: its headers are texts. Says what
/// of it is left out.
fn mock(integration: &Value) -> Result<(MockResponse, Option<&'static str>), String> {
    let responses = integration.get("IntegrationResponses").and_then(Value::as_array);
    let responses = responses.ok_or("which has no IntegrationResponses")?;
    let is_default = |response: &&Value| response.get("SelectionPattern").is_none();
    let response = responses.iter().find(is_default).ok_or("which has no default response")?;
    let status = response.get("StatusCode").and_then(scalar::as_text).and_then(|status| status.parse().ok());
    let status = status.ok_or("whose response has no StatusCode")?;
    let mut headers = BTreeMap::new();
    for (target, value) in response.get("ResponseParameters").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let text = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let (Some(name), Some(text)) = (target.strip_prefix("method.response.header."), text) else {
            return Err(format!("whose response maps {target}"));
        };
        headers.insert(name.to_ascii_lowercase(), text.to_owned());
    }
    let template = response.pointer("/ResponseTemplates/application~1json").and_then(scalar::as_text);
    let template = template.unwrap_or_default();
    let is_template = template.contains(['#', '$']);
    let note = is_template.then_some("response template");
    Ok((MockResponse { status, headers, body: if is_template { String::new() } else { template } }, note))
}

/// A server that answers.
pub(super) fn proxied(uri: &str, method: Option<String>, timeout: Duration) -> RouteBackend {
    if !(uri.starts_with("http://") || uri.starts_with("https://")) || uri.contains("${") {
        return RouteBackend::Unserved(format!("the address {uri} of its integration is not http:// or https://"));
    }
    RouteBackend::Http(ProxiedServer { method, uri: uri.to_owned(), timeout })
}
