//! Scalars of templates.

use serde_json::Value;

/// A scalar as text, as environment variables, names and `Fn::Join` have it.
pub(crate) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
