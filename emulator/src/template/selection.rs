//! Selection expressions: `$request.body.a.b`, `${request.body.a}-${request.body.b}`, text, `\$default`. Expressions
//! for templates of responses also know `${integration.response.statuscode}` and `${integration.response.header.NAME}`.
//!
//! Source: API Gateway developer guide, "WebSocket selection expressions".

use std::fmt;

use serde_json::Value;

use crate::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SelectionExpression(Vec<SelectionPart>);

/// Status and headers of an integration's response, which select its template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseHead<'a> {
    pub(crate) status: u16,
    /// Headers with names in lower case.
    pub(crate) headers: &'a [(String, String)],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SelectionPart {
    Literal(String),
    /// Keys, from the root of the body.
    Body(Vec<String>),
    /// The status of the integration's response.
    Status,
    /// The name of a header of the integration's response, in lower case.
    Header(String),
}

/// Why a selection expression is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectionError {
    #[error("unclosed `${{`")]
    Unclosed,
    #[error("unsupported variable `${0}`: expected `$request.body`")]
    NotTheBody(String),
}

impl SelectionExpression {
    /// Parses an expression that depends only on the message.
    pub(crate) fn parse(expression: &str) -> Result<Self, SelectionError> {
        Self::parse_with(expression, |_| None)
    }

    /// Parses an expression that may also depend on the response of an integration.
    pub(crate) fn parse_for_response(expression: &str) -> Result<Self, SelectionError> {
        Self::parse_with(expression, |variable| match variable.strip_prefix("integration.response.")? {
            "statuscode" => Some(SelectionPart::Status),
            other => other.strip_prefix("header.").map(|name| SelectionPart::Header(name.to_ascii_lowercase())),
        })
    }

    fn parse_with(expression: &str, of_response: fn(&str) -> Option<SelectionPart>) -> Result<Self, SelectionError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = expression;
        while let Some(position) = rest.find(['$', '\\']) {
            literal.push_str(&rest[..position]);
            rest = &rest[position..];
            if let Some(after) = rest.strip_prefix("\\$") {
                literal.push('$');
                rest = after;
                continue;
            }
            if let Some(after) = rest.strip_prefix('\\') {
                literal.push('\\');
                rest = after;
                continue;
            }
            let (variable, after) = match rest.strip_prefix("${") {
                Some(braced) => braced.split_once('}').ok_or(SelectionError::Unclosed)?,
                None => {
                    let bare = &rest[1..];
                    let end =
                        bare.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_'))).unwrap_or(bare.len());
                    bare.split_at(end)
                }
            };
            let part = match variable.strip_prefix("request.body") {
                Some("") => Some(SelectionPart::Body(Vec::new())),
                Some(path) => {
                    path.strip_prefix('.').map(|path| SelectionPart::Body(path.split('.').map(str::to_owned).collect()))
                }
                None => of_response(variable),
            };
            let part = part.ok_or_else(|| SelectionError::NotTheBody(variable.to_owned()))?;
            if !literal.is_empty() {
                parts.push(SelectionPart::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(SelectionPart::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Returns the route key of a message. `None` if the message is not JSON; it goes to `$default`.
    pub(crate) fn evaluate(&self, message: &str) -> Option<String> {
        let body: Value = json::read(message)?;
        Some(self.key(&body, None))
    }

    /// Returns the key of a template. A message that is not JSON has no fields.
    pub(crate) fn template_key(&self, message: &str, responded: Option<ResponseHead<'_>>) -> String {
        self.key(&json::read(message).unwrap_or_default(), responded)
    }

    fn key(&self, body: &Value, responded: Option<ResponseHead<'_>>) -> String {
        let mut key = String::new();
        for part in &self.0 {
            match part {
                SelectionPart::Literal(text) => key.push_str(text),
                SelectionPart::Body(keys) => {
                    let found = keys.iter().try_fold(body, |value, key| value.get(key));
                    key.push_str(&found.map(|value| AsKey(value).to_string()).unwrap_or_default());
                }
                SelectionPart::Status => key.extend(responded.map(|responded| responded.status.to_string())),
                SelectionPart::Header(name) => {
                    let headers = responded.map(|responded| responded.headers).unwrap_or_default();
                    key.extend(headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str()));
                }
            }
        }
        key
    }
}

/// Writes a value as part of a route key: strings as they are, arrays as `[a, b]`, null as nothing.
struct AsKey<'a>(&'a Value);

impl fmt::Display for AsKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => Ok(()),
            Value::String(text) => f.write_str(text),
            Value::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { ", " }, AsKey(item))?;
                }
                f.write_str("]")
            }
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_select_as_the_developer_guide_says() {
        let check = |expression: &str, message: &str, expected: Option<&str>| {
            let selection = SelectionExpression::parse(expression).expect(expression);
            assert_eq!(selection.evaluate(message).as_deref(), expected, "{expression} on {message}");
        };
        check("$request.body.type", r#"{"type":"ping"}"#, Some("ping"));
        check("$request.body.type", r#"{"type":7}"#, Some("7"));
        check("$request.body.type", r#"{"type":["a","b"]}"#, Some("[a, b]"));
        check("$request.body.type", r#"{"other":1}"#, Some(""));
        check("$request.body.type", r#"[1]"#, Some(""));
        check("$request.body.type", "ping", None);
        check("$request.body.a.b", r#"{"a":{"b":"x"}}"#, Some("x"));
        check("${request.body.a}-${request.body.b}", r#"{"a":"join"}"#, Some("join-"));
        check("fixed", r#"{}"#, Some("fixed"));
        check("\\$default", r#"{}"#, Some("$default"));
    }

    #[test]
    fn invalid_selection_expressions_are_refused() {
        assert_eq!(SelectionExpression::parse("${request.body.a"), Err(SelectionError::Unclosed));
        let header = SelectionExpression::parse("$request.header.x");
        assert_eq!(header, Err(SelectionError::NotTheBody("request.header.x".to_owned())));
        let status = SelectionExpression::parse("${integration.response.statuscode}");
        assert_eq!(status, Err(SelectionError::NotTheBody("integration.response.statuscode".to_owned())));
    }

    #[test]
    fn templates_of_responses_are_selected_by_the_response_too() {
        let headers = [("x-kind".to_owned(), "b".to_owned())];
        let responded = Some(ResponseHead { status: 404, headers: &headers });
        let key = |expression: &str| {
            SelectionExpression::parse_for_response(expression).expect(expression).template_key(r#"{"a":1}"#, responded)
        };
        assert_eq!(key("${integration.response.statuscode}"), "404");
        assert_eq!(key("${integration.response.header.X-Kind}-${request.body.a}"), "b-1");
        assert_eq!(key("\\$default"), "$default");
        assert_eq!(key("${integration.response.header.none}"), "");
        assert_eq!(SelectionExpression::parse("x${request.body.a}").expect("valid").template_key("no JSON", None), "x");
    }
}
