//! Templates from outside: the language, the variables of the service, and the bounds.

mod bounds;
mod language;
mod properties;
mod service;

use serde_json::{Map, Value, json};
use velocity::{Inputs, MappingTemplate};

/// The context of a message, as the service documents it.
fn context() -> Map<String, Value> {
    let context = json!({
        "routeKey": "say",
        "authorizer": {"principalId": "user", "key": "value", "numKey": 1, "boolKey": true, "integrationLatency": 21},
        "messageId": "Gto5md-NDoECGqg=",
        "eventType": "MESSAGE",
        "requestTime": "19/Feb/2024:07:11:42 +0000",
        "stage": "prod",
        "connectedAt": 1_708_326_702_789_u64,
        "requestTimeEpoch": 1_708_326_702_790_u64,
        "identity": {"sourceIp": "203.0.113.7"},
        "requestId": "Gto5mE7jDoEFj7Q=",
        "domainName": "abc123defg.execute-api.eu-central-1.amazonaws.com",
        "connectionId": "Gto47d9-DoECGqg=",
        "apiId": "abc123defg"
    });
    match context {
        Value::Object(context) => context,
        other => panic!("{other} is not an object"),
    }
}

/// Parses and renders with a body.
fn render(template: &str, body: &str) -> Result<String, String> {
    let template = MappingTemplate::parse(template).map_err(|error| error.to_string())?;
    let parameters = json!({"path": {}, "querystring": {"token": "t"}, "header": {"X-Client": "c", "token": "h"}});
    let inputs = Inputs {
        body,
        read_json: |json| serde_json::from_str(json),
        context: &context(),
        stage_variables: &[("url", "https://example.com"), ("size", "3")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        parameters: parameters.as_object().expect("an object"),
    };
    template.render(&inputs).map_err(|error| error.to_string())
}
