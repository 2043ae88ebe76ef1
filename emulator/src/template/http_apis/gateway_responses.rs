//! Gateway responses: what a REST API adds to its own errors, such as CORS headers for pages.

use serde_json::Value;

use super::model::HttpApi;
use crate::template::resources::Resources;

/// Reads `AWS::ApiGateway::GatewayResponse` of an API.
pub(super) fn read(api: &mut HttpApi, resources: &Resources<'_>, notes: &mut Vec<String>) {
    let id = api.api_id.clone();
    let responses = resources.of_type("AWS::ApiGateway::GatewayResponse");
    for response in responses.filter(|response| response.text("RestApiId").is_some_and(|own| own == id)) {
        let kind = response.text("ResponseType").unwrap_or_default();
        let parameters = response.get("ResponseParameters").and_then(Value::as_object).into_iter().flatten();
        let headers =
            parameters.filter_map(|(name, value)| Some((name.strip_prefix("gatewayresponse.header.")?, value)));
        add(api, &kind, headers, response.has("StatusCode") || response.has("ResponseTemplates"), notes);
    }
}

/// Reads `GatewayResponses` of an API in SAM's form.
pub(super) fn read_sam(api: &mut HttpApi, responses: &Value, notes: &mut Vec<String>) {
    for (kind, response) in responses.as_object().into_iter().flatten() {
        let headers = response.pointer("/ResponseParameters/Headers").and_then(Value::as_object).into_iter().flatten();
        let headers = headers.map(|(name, value)| (name.as_str(), value));
        let has_more = response.get("StatusCode").is_some() || response.get("ResponseTemplates").is_some();
        add(api, kind, headers, has_more, notes);
    }
}

/// Adds the headers of the defaults. Those of single errors, statuses and templates are named in a note.
fn add<'a>(
    api: &mut HttpApi,
    kind: &str,
    headers: impl Iterator<Item = (&'a str, &'a Value)>,
    has_more: bool,
    notes: &mut Vec<String>,
) {
    let name = api.name.clone();
    let own = match kind {
        "DEFAULT_4XX" => &mut api.error_headers.client,
        "DEFAULT_5XX" => &mut api.error_headers.server,
        other => {
            notes.push(format!("the gateway response {other} of {name} has no effect here"));
            return;
        }
    };
    let texts = headers.filter_map(|(name, value)| {
        let text = value.as_str()?.strip_prefix('\'')?.strip_suffix('\'')?;
        Some((name.to_ascii_lowercase(), text.to_owned()))
    });
    own.extend(texts);
    if has_more {
        notes.push(format!("of the gateway response {kind} of {name} only the headers have an effect here"));
    }
}
