//! Route selection expressions: `$request.body.a.b`, `${request.body.a}-${request.body.b}`, text, `\$default`.
//!
//! Source: API Gateway developer guide, "WebSocket selection expressions".

use std::fmt;

use serde_json::Value;

/// A parsed route selection expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Keys from the root of the body.
    Body(Vec<String>),
}

/// Why a text is no route selection expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSelection {
    #[error("a ${{ is not closed")]
    Unclosed,
    #[error("the route of a message can only depend on $request.body, not on ${0}")]
    NotTheBody(String),
}

impl Selection {
    pub(crate) fn parse(expression: &str) -> Result<Self, InvalidSelection> {
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
                Some(braced) => braced.split_once('}').ok_or(InvalidSelection::Unclosed)?,
                None => {
                    let bare = &rest[1..];
                    let end =
                        bare.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '_'))).unwrap_or(bare.len());
                    bare.split_at(end)
                }
            };
            let keys = match variable.strip_prefix("request.body") {
                Some("") => Vec::new(),
                Some(path) if path.starts_with('.') => path[1..].split('.').map(str::to_owned).collect(),
                _ => return Err(InvalidSelection::NotTheBody(variable.to_owned())),
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Body(keys));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The route key for a message. `None` when the message is not JSON, which goes to `$default`.
    pub(crate) fn evaluate(&self, message: &str) -> Option<String> {
        let body: Value = serde_json::from_str(message).ok()?;
        let mut key = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Body(keys) => {
                    let found = keys.iter().try_fold(&body, |value, key| value.get(key));
                    key.push_str(&found.map(|value| AsKey(value).to_string()).unwrap_or_default());
                }
            }
        }
        Some(key)
    }
}

/// A value as part of a route key: strings as they are, arrays as `[a, b]`, null as nothing.
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
            let selection = Selection::parse(expression).expect(expression);
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
    fn what_is_no_selection_expression_is_refused() {
        assert_eq!(Selection::parse("${request.body.a"), Err(InvalidSelection::Unclosed));
        let header = Selection::parse("$request.header.x");
        assert_eq!(header, Err(InvalidSelection::NotTheBody("request.header.x".to_owned())));
    }
}
