//! Scalars of templates.

use std::collections::BTreeMap;

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

/// The scalars of a list as texts. What is not a list has none.
pub(super) fn texts(list: Option<&Value>) -> impl Iterator<Item = String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(as_text)
}

/// The scalars of a list as texts, or one scalar as the only one. Nothing has none. `None` if anything is not a scalar:
/// where they restrict access, none of them may be left out.
pub(super) fn all_texts(list: Option<&Value>) -> Option<Vec<String>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(as_text).collect(),
        Some(one) => as_text(one).map(|text| vec![text]),
    }
}

/// A truth value, also as YAML 1.1 writes it, with which SAM reads templates. Nothing is false. `None` if it is none.
pub(super) fn truth(value: Option<&Value>) -> Option<bool> {
    match value {
        None | Some(Value::Null) => Some(false),
        Some(value) => match as_text(value)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        },
    }
}

/// The scalars of an object as texts, such as the variables of a stage.
pub(super) fn named_texts(object: Option<&Value>) -> BTreeMap<String, String> {
    let fields = object.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), as_text(value)?))).collect()
}

/// A policy, which may be JSON in a text.
pub(super) fn policy(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => value.clone(),
    }
}
