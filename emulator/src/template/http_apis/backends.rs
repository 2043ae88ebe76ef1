//! Integrations of routes, in the form of a REST API's methods. Those of HTTP APIs are turned into it.

use std::{collections::BTreeMap, time::Duration};

use regex::Regex;
use serde_json::Value;

use super::model::{ANY, HttpApiKind, MockResponse, PayloadVersion, ProxiedServer, RouteBackend};
use crate::template::{references::function_of, scalar};

/// What an integration has besides its own properties.
pub(super) struct IntegrationSettings<'a> {
    /// Names it in messages, such as `the integration of GetUsers`.
    pub(super) name: &'a str,
    pub(super) kind: HttpApiKind,
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
    let IntegrationSettings { name, kind, payload, timeout, stage_variables } = *settings;
    let text = |name: &str| integration.get(name).and_then(scalar::as_text);
    let unserved = |what: &str| RouteBackend::Unserved(format!("the emulator does not run {name}, {what}"));
    let mut uri = text("Uri").unwrap_or_default();
    for (variable, value) in stage_variables {
        uri = uri.replace(&format!("${{stageVariables.{variable}}}"), value);
    }
    if let Some(subtype) = text("IntegrationSubtype") {
        return unserved(&format!("which calls {subtype}"));
    }
    if text("ConnectionType").is_some_and(|kind| kind != "INTERNET") {
        return unserved("which is private (VPC link)");
    }
    // Those of a REST API have no effect on a function, and are looked at below for servers.
    let maps = ["RequestParameters", "ResponseParameters"].iter().any(|name| integration.get(name).is_some());
    if kind == HttpApiKind::Http && maps {
        return unserved("which maps parameters");
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
            Ok((response, left_out)) => {
                let note = |part| format!("{name} answers without its {part}, which is a template");
                notes.extend(left_out.into_iter().map(note));
                RouteBackend::Mock(response)
            }
            Err(what) => unserved(&what),
        },
        other => unserved(&format!("which is of type {}", other.unwrap_or("(none)"))),
    }
}

/// The response of a MOCK integration, as frameworks write it for preflight requests: its headers are texts. The status
/// in its request template selects it. Says what is left out.
fn mock(integration: &Value) -> Result<(MockResponse, Vec<&'static str>), String> {
    let template = |place: Option<&Value>| place.and_then(scalar::as_text).unwrap_or_default();
    let is_template = |text: &str| text.contains(['#', '$']);
    let request = template(integration.pointer("/RequestTemplates/application~1json"));
    let mut left_out = Vec::new();
    if is_template(&request) {
        left_out.push("request template");
    }
    let selecting = Some(&request).filter(|request| !is_template(request)).and_then(|request| status_code(request));
    let responses = integration.get("IntegrationResponses").and_then(Value::as_array);
    let responses = responses.ok_or("which has no IntegrationResponses")?;
    let is_default = |response: &&Value| response.get("SelectionPattern").is_none();
    let is_selected = |response: &&Value| {
        let pattern = response.get("SelectionPattern").and_then(scalar::as_text);
        let pattern = pattern.and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
        pattern.zip(selecting.as_ref()).is_some_and(|(pattern, status)| pattern.is_match(status))
    };
    let response = responses.iter().find(is_selected).or_else(|| responses.iter().find(is_default));
    let response = response.ok_or("which has no response for its status and no default one")?;
    let status = response.get("StatusCode").and_then(scalar::as_text).and_then(|status| status.parse().ok());
    let status = status.filter(|status| (200..600).contains(status)).ok_or("whose response has no valid StatusCode")?;
    let mut headers = BTreeMap::new();
    for (target, value) in response.get("ResponseParameters").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let text = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let (Some(name), Some(text)) = (target.strip_prefix("method.response.header."), text) else {
            return Err(format!("whose response maps {target}"));
        };
        headers.insert(name.to_ascii_lowercase(), text.to_owned());
    }
    let mut body = template(response.pointer("/ResponseTemplates/application~1json"));
    if is_template(&body) {
        left_out.push("response template");
        body.clear();
    }
    Ok((MockResponse { status, headers, body }, left_out))
}

/// The status in a request template of a MOCK integration, which frameworks write with quotes or without.
fn status_code(template: &str) -> Option<String> {
    let (_, rest) = template.split_once("statusCode")?;
    let rest = rest.trim_start_matches(|sign: char| sign.is_whitespace() || ['"', '\'', ':'].contains(&sign));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

/// A server that answers.
pub(super) fn proxied(uri: &str, method: Option<String>, timeout: Duration) -> RouteBackend {
    if !(uri.starts_with("http://") || uri.starts_with("https://")) || uri.contains("${") {
        return RouteBackend::Unserved(format!("the address {uri} of its integration is not http:// or https://"));
    }
    RouteBackend::Http(ProxiedServer { method, uri: uri.to_owned(), timeout })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_in_the_request_template_of_a_mock_selects_its_response() {
        let of = |template: &str| {
            let integration = json!({
                "RequestTemplates": {"application/json": template},
                "IntegrationResponses": [
                    {"StatusCode": "200"},
                    {"StatusCode": "404", "SelectionPattern": "4\\d\\d"},
                    {"StatusCode": "101", "SelectionPattern": "101"},
                ],
            });
            mock(&integration).map(|(response, left_out)| (response.status, left_out.len()))
        };
        assert_eq!(of("{\"statusCode\": 404}"), Ok((404, 0)));
        assert_eq!(of("{statusCode:200}"), Ok((200, 0)));
        assert_eq!(of("{ 'statusCode' : '404' }"), Ok((404, 0)));
        assert_eq!(of(""), Ok((200, 0)));
        assert_eq!(of("#set($x = 1){\"statusCode\": 404}"), Ok((200, 1)), "which a note names");
        assert!(of("{\"statusCode\": 101}").is_err(), "no status of a response");
    }
}
