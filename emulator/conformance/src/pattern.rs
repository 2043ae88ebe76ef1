//! Patterns of JSON values, and placeholders whose values are known only while a case runs.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

/// First character of the key of a matcher.
const TAG_PREFIX: char = '!';

/// The key that stands for a tag in the JSON of a case.
pub(crate) fn key_of_tag(tag: &str) -> String {
    format!("{TAG_PREFIX}{tag}")
}

/// A pattern of a JSON value. Texts may contain placeholders such as `{client.id}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) enum Pattern {
    /// `!absent`: no value.
    Absent,
    /// `!any`: any value.
    Any,
    /// `!integer`: any whole number.
    Integer,
    /// `!learn name`: any value the first time, and the same value from then on.
    Learn(String),
    /// `!between [low, high]`: a whole number within these bounds, inclusive.
    Between(i64, i64),
    /// `!regex`: a text that matches completely.
    Regex(Regex),
    /// A text with placeholders.
    Text(String),
    /// A number, a boolean or null.
    Exact(Value),
    /// A list of the same length.
    List(Vec<Pattern>),
    /// An object. With `!only` it has no other keys than these.
    Object {
        /// The pattern of each key.
        fields: Vec<(String, Pattern)>,
        /// Whether other keys are an error.
        only: bool,
    },
}

impl TryFrom<Value> for Pattern {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let object = |map: Map<String, Value>, only| {
            let fields = map.into_iter().map(|(key, value)| Ok((key, Self::try_from(value)?)));
            Ok(Self::Object { fields: fields.collect::<Result<_, String>>()?, only })
        };
        match value {
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(items) => items.into_iter().map(Self::try_from).collect::<Result<_, _>>().map(Self::List),
            Value::Object(map) => match tagged(&map) {
                None => object(map, false),
                Some(("absent", _)) => Ok(Self::Absent),
                Some(("any", _)) => Ok(Self::Any),
                Some(("integer", _)) => Ok(Self::Integer),
                Some(("learn", Value::String(name))) => Ok(Self::Learn(name.clone())),
                Some(("regex", Value::String(text))) => {
                    Regex::new(&format!("^(?:{text})$")).map(Self::Regex).map_err(|error| error.to_string())
                }
                Some(("between", Value::Array(bounds))) => {
                    match bounds.iter().map(Value::as_i64).collect::<Vec<_>>()[..] {
                        [Some(low), Some(high)] => Ok(Self::Between(low, high)),
                        _ => Err("!between takes two whole numbers".to_owned()),
                    }
                }
                Some(("only", Value::Object(fields))) => object(fields.clone(), true),
                Some((tag, _)) => Err(format!("unknown matcher !{tag}, or it does not take this value")),
            },
            exact => Ok(Self::Exact(exact)),
        }
    }
}

/// The tag of a tagged node, and its value.
fn tagged(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = map.iter().next().filter(|_| map.len() == 1)?;
    Some((key.strip_prefix(TAG_PREFIX)?, value))
}

/// Where a value differs from its pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The expected value, and where.
    pub(crate) expected: String,
    /// The actual value.
    pub(crate) got: String,
}

impl Pattern {
    /// Compares a value with the pattern, and learns new placeholders.
    pub(crate) fn check(&self, value: Option<&Value>, variables: &mut Variables) -> Result<(), Difference> {
        self.check_at("", value, variables)
    }

    fn check_at(&self, path: &str, value: Option<&Value>, variables: &mut Variables) -> Result<(), Difference> {
        let holds = match (self, value) {
            (Self::Absent, value) => value.is_none(),
            (Self::Any, value) => value.is_some(),
            (_, None) => false,
            (Self::Integer, Some(value)) => value.is_i64() || value.is_u64(),
            (Self::Between(low, high), Some(value)) => value.as_i64().is_some_and(|it| (low..=high).contains(&&it)),
            (Self::Learn(name), Some(value)) => variables.learn(&format!("{{{name}}}"), &value.to_string()),
            (Self::Regex(regex), Some(value)) => value.as_str().is_some_and(|text| regex.is_match(text)),
            (Self::Text(pattern), Some(value)) => value.as_str().is_some_and(|text| variables.learn(pattern, text)),
            (Self::Exact(exact), Some(value)) => exact == value,
            (Self::List(patterns), Some(Value::Array(items))) if patterns.len() == items.len() => {
                for (index, (pattern, item)) in patterns.iter().zip(items).enumerate() {
                    pattern.check_at(&format!("{path}[{index}]"), Some(item), variables)?;
                }
                true
            }
            (Self::Object { fields, only }, Some(Value::Object(map))) => {
                for (key, pattern) in fields {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    pattern.check_at(&path, map.get(key), variables)?;
                }
                let extra = map.keys().find(|key| *only && fields.iter().all(|(field, _)| field != *key));
                if let Some(extra) = extra {
                    let expected = format!("{}only the keys {}", at(path), keys(fields));
                    return Err(Difference { expected, got: format!("the key {extra} too: {}", map[extra]) });
                }
                true
            }
            _ => false,
        };
        let got = || value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        holds.then_some(()).ok_or_else(|| Difference { expected: at(path) + &self.describe(variables), got: got() })
    }

    fn describe(&self, variables: &Variables) -> String {
        match self {
            Self::Absent => "nothing".to_owned(),
            Self::Any => "anything".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Learn(name) => format!("the same as before, {}", variables.fill_known(&format!("{{{name}}}"))),
            Self::Between(low, high) => format!("a whole number from {low} to {high}"),
            Self::Regex(regex) => format!("a text like {regex}"),
            Self::Text(text) => Value::from(variables.fill_known(text)).to_string(),
            Self::Exact(value) => value.to_string(),
            Self::List(patterns) => format!("a list of {}", patterns.len()),
            Self::Object { fields, .. } => format!("an object with the keys {}", keys(fields)),
        }
    }
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

fn keys(fields: &[(String, Pattern)]) -> String {
    fields.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

/// The known placeholders of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Replaces the known placeholders of a text.
    pub(crate) fn fill_known(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for name in placeholders(text) {
            if let Some(value) = self.0.get(name) {
                filled = filled.replace(&format!("{{{name}}}"), value);
            }
        }
        filled
    }

    /// Whether a text matches a pattern with placeholders. An unknown placeholder takes the characters in its place as
    /// its value; they must not contain spaces or quotes.
    pub(crate) fn learn(&mut self, pattern: &str, text: &str) -> bool {
        let names = placeholders(pattern);
        if names.is_empty() {
            return pattern == text;
        }
        let mut regex = String::from("(?s)^");
        let mut rest = pattern;
        for name in &names {
            let Some((before, after)) = rest.split_once(&format!("{{{name}}}")) else { return false };
            regex += &regex::escape(before);
            regex += &self
                .0
                .get(*name)
                .map_or_else(|| r#"([^\s"]+)"#.to_owned(), |value| format!("({})", regex::escape(value)));
            rest = after;
        }
        regex += &regex::escape(rest);
        regex.push('$');
        let Some(found) = Regex::new(&regex).ok().and_then(|regex| regex.captures(text)) else { return false };
        let mut learnt = BTreeMap::new();
        for (name, value) in names.iter().zip(found.iter().skip(1).flatten()) {
            if learnt
                .insert((*name).to_owned(), value.as_str().to_owned())
                .is_some_and(|before| before != value.as_str())
            {
                return false;
            }
        }
        self.0.extend(learnt);
        true
    }
}

/// Names of the placeholders of a text, in order: `{name}` or `{name.part}`.
pub(crate) fn placeholders(text: &str) -> Vec<&str> {
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
    };
    text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).filter(is_name).collect()
}

#[cfg(test)]
mod tests {
    use apigw_local::YamlNode;
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Value {
        YamlNode::parse(text, key_of_tag).expect("YAML").to_json()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(yaml(text)).expect(text)
    }

    fn difference(text: &str, value: &Value) -> Option<(String, String)> {
        let result = pattern(text).check(Some(value), &mut Variables::default());
        result.err().map(|difference| (difference.expected, difference.got))
    }

    #[test]
    fn every_matcher_accepts_and_rejects_the_right_values() {
        let check = |text: &str, right: &[Value], wrong: &[Value]| {
            for value in right {
                assert_eq!(difference(text, value), None, "{text} on {value}");
            }
            for value in wrong {
                assert!(difference(text, value).is_some(), "{text} on {value}");
            }
        };
        check("hello", &[json!("hello")], &[json!("Hello"), json!("hello "), json!(""), json!(7), json!(null)]);
        check("7", &[json!(7)], &[json!("7"), json!(8), json!(7.5)]);
        check("'7'", &[json!("7")], &[json!(7)]);
        check("null", &[json!(null)], &[json!(0), json!("")]);
        check("false", &[json!(false)], &[json!(true), json!("false"), json!(null)]);
        check("!any", &[json!(null), json!({})], &[]);
        check("!integer", &[json!(0), json!(-1), json!(1_795_000_000_000_i64)], &[json!(1.5), json!("1"), json!(null)]);
        check("!between [2, 4]", &[json!(2), json!(4)], &[json!(1), json!(5), json!(3.5), json!("3")]);
        check("!regex '[a-z]+'", &[json!("ab")], &[json!(""), json!("ab1"), json!("1ab"), json!(1)]);
        check("[1, !any]", &[json!([1, 2])], &[json!([1]), json!([2, 1]), json!([1, 2, 3]), json!({})]);
        check("{a: 1}", &[json!({"a": 1}), json!({"a": 1, "b": 2})], &[json!({"a": 2}), json!({}), json!([])]);
        check("!only {a: 1}", &[json!({"a": 1})], &[json!({"a": 1, "b": 2}), json!({"b": 2}), json!({})]);
        check("{a: !any }", &[json!({"a": null})], &[json!({}), json!({"b": 1})]);
        check("{a: !absent }", &[json!({}), json!({"b": 1})], &[json!({"a": null}), json!({"a": 1})]);
        check("{a: {b: !only {c: x}}}", &[json!({"a": {"b": {"c": "x"}}})], &[json!({"a": {"b": {"c": "x", "d": 1}}})]);
        for bad in ["!regex '('", "!between [1]", "!between 7", "!nothing x", "!only x"] {
            assert!(Pattern::try_from(yaml(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_difference_names_its_path() {
        let difference =
            difference("{context: {routeKey: $default, list: [1, 2]}}", &json!({"context": {"routeKey": "x"}}));
        assert_eq!(difference, Some((r#"context.routeKey: "$default""#.to_owned(), r#""x""#.to_owned())));
    }

    #[test]
    fn a_placeholder_is_learnt_once_and_stays_the_same() {
        let mut variables = Variables::default();
        variables.set("client.id", "a+b=");
        assert_eq!(variables.fill_known("/{client.id}/{other}"), "/a+b=/{other}");
        let frame = r#"{"message": "Forbidden", "connectionId":"{client.id}", "requestId":"{requestId}"}"#;
        let text = |connection: &str, request: &str| {
            format!(r#"{{"message": "Forbidden", "connectionId":"{connection}", "requestId":"{request}"}}"#)
        };
        assert!(!variables.learn(frame, &text("aab=", "R")), "a known value is not a pattern");
        assert!(!variables.learn(frame, &text("a+b=", "")) && !variables.knows("requestId"));
        assert!(!variables.learn(frame, &(text("a+b=", "R") + " ")), "byte for byte");
        assert!(variables.learn(frame, &text("a+b=", "R")) && variables.knows("requestId"));
        assert!(!variables.learn(frame, &text("a+b=", "S")));
        let learn = pattern("[!learn n, !learn n]");
        assert!(learn.check(Some(&json!([1, 1])), &mut variables).is_ok());
        assert!(learn.check(Some(&json!([2, 2])), &mut variables).is_err(), "it was 1");
        assert!(variables.learn("{twice}-{twice}", "x-x") && !Variables::default().learn("{twice}-{twice}", "x-y"));
    }
}
