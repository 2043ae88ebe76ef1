//! Event patterns of EventBridge, which decide what events a rule matches. Pure.
//!
//! Source: EventBridge user guide, "Amazon EventBridge event patterns" and "Comparison operators"; recordings of the
//! service in LocalStack (`tests/aws/services/events/event_pattern_templates/`).

use std::net::IpAddr;

use serde_json::{Map, Value};

/// Largest absolute value that `numeric` compares. Source: EventBridge user guide.
const NUMERIC_MAX: f64 = 5e9;

/// An invalid pattern, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub(crate) struct EventPatternError {
    /// Path in the pattern, such as `detail.state`.
    path: String,
    problem: String,
}

/// A parsed event pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPattern {
    /// Fields that must all match.
    fields: Vec<(String, FieldPattern)>,
    /// Lists, of each of which at least one pattern must match.
    alternatives: Vec<Vec<EventPattern>>,
}

#[derive(Clone, Debug, PartialEq)]
enum FieldPattern {
    Object(EventPattern),
    /// Matchers, of which at least one must match.
    Leaf(Vec<Matcher>),
}

#[derive(Clone, Debug, PartialEq)]
enum Matcher {
    Exactly(Value),
    Text(TextMatcher),
    AnythingBut(Vec<Matcher>),
    Numeric(Vec<(NumericComparison, f64)>),
    /// The addresses that have the same leading bits as this one.
    Network(IpAddr, u32),
    Exists(bool),
}

#[derive(Clone, Debug, PartialEq)]
enum TextMatcher {
    Prefix { text: String, ignore_case: bool },
    Suffix { text: String, ignore_case: bool },
    EqualsIgnoreCase(String),
    Wildcard(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum NumericComparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl EventPattern {
    pub(crate) fn parse(pattern: &Value) -> Result<Self, EventPatternError> {
        match pattern {
            Value::Object(fields) if !fields.is_empty() => Self::of_fields(fields, ""),
            _ => Err(error("the pattern", "expected an object with fields")),
        }
    }

    fn of_fields(fields: &Map<String, Value>, path: &str) -> Result<Self, EventPatternError> {
        let mut pattern = Self { fields: Vec::new(), alternatives: Vec::new() };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                Value::Array(alternatives) if name == "$or" => {
                    pattern.alternatives.push(Self::alternatives(alternatives, &path)?);
                }
                Value::Array(matchers) => {
                    pattern.fields.push((name.clone(), FieldPattern::Leaf(Matcher::all(matchers, &path)?)));
                }
                Value::Object(fields) if !fields.is_empty() => {
                    pattern.fields.push((name.clone(), FieldPattern::Object(Self::of_fields(fields, &path)?)));
                }
                _ => return Err(error(&path, "expected a list, or an object with fields")),
            }
        }
        Ok(pattern)
    }

    fn alternatives(alternatives: &[Value], path: &str) -> Result<Vec<Self>, EventPatternError> {
        let patterns = alternatives.iter().map(|alternative| match alternative {
            Value::Object(fields) if !fields.is_empty() => Self::of_fields(fields, path),
            _ => Err(error(path, "expected a list of objects with fields")),
        });
        let patterns: Vec<_> = patterns.collect::<Result<_, _>>()?;
        if patterns.is_empty() { Err(error(path, "expected a list that is not empty")) } else { Ok(patterns) }
    }

    /// Whether an event matches the pattern.
    pub fn matches(&self, event: &Value) -> bool {
        self.matches_value(Some(event))
    }

    fn matches_value(&self, value: Option<&Value>) -> bool {
        match value {
            // All fields must match in the same element.
            Some(Value::Array(elements)) if !elements.is_empty() => {
                elements.iter().any(|element| self.matches_value(Some(element)))
            }
            Some(Value::Object(fields)) => self.matches_fields(Some(fields)),
            _ => self.matches_fields(None),
        }
    }

    fn matches_fields(&self, fields: Option<&Map<String, Value>>) -> bool {
        let of = |name: &str| fields.and_then(|fields| fields.get(name));
        let all = self.fields.iter().all(|(name, field)| match field {
            FieldPattern::Object(pattern) => pattern.matches_value(of(name)),
            FieldPattern::Leaf(matchers) => {
                let mut leaves = Vec::new();
                collect_leaves(of(name), &mut leaves);
                matchers.iter().any(|matcher| matcher.matches(&leaves))
            }
        });
        all && self.alternatives.iter().all(|any| any.iter().any(|pattern| pattern.matches_fields(fields)))
    }
}

/// The leaves at a field: each element of a list, and nothing of an object.
fn collect_leaves<'a>(value: Option<&'a Value>, leaves: &mut Vec<&'a Value>) {
    match value {
        Some(Value::Array(elements)) => elements.iter().for_each(|element| collect_leaves(Some(element), leaves)),
        Some(Value::Object(_)) | None => {}
        Some(leaf) => leaves.push(leaf),
    }
}

impl Matcher {
    fn all(matchers: &[Value], path: &str) -> Result<Vec<Self>, EventPatternError> {
        if matchers.is_empty() {
            return Err(error(path, "expected a list that is not empty"));
        }
        matchers.iter().map(|matcher| Self::parse(matcher, path)).collect()
    }

    fn parse(matcher: &Value, path: &str) -> Result<Self, EventPatternError> {
        match matcher {
            Value::Object(operator) => {
                let (name, argument) = single(operator, path)?;
                Self::of_operator(name, argument, path)
            }
            Value::Array(_) => Err(error(path, "expected a matcher, not a list within a list")),
            value => Ok(Self::Exactly(value.clone())),
        }
    }

    fn of_operator(name: &str, argument: &Value, path: &str) -> Result<Self, EventPatternError> {
        match (name, argument) {
            ("exists", Value::Bool(exists)) => Ok(Self::Exists(*exists)),
            ("numeric", Value::Array(parts)) => numeric(parts, path).map(Self::Numeric),
            ("cidr", Value::String(text)) => {
                let wrong = || error(path, "cidr takes an address and a number of bits, such as 10.0.0.0/24");
                network(text).map(|(address, bits)| Self::Network(address, bits)).ok_or_else(wrong)
            }
            ("anything-but", Value::Object(operator)) => {
                let (name, argument) = single(operator, path)?;
                let arguments: Vec<&Value> = match argument {
                    Value::Array(several) if !several.is_empty() => several.iter().collect(),
                    one => vec![one],
                };
                let is_refused = |one: &&Value| one.is_object() || one.as_str() == Some("");
                if matches!(name, "prefix" | "suffix") && arguments.iter().any(is_refused) {
                    return Err(error(path, &format!("anything-but takes a {name} that is a text and not empty")));
                }
                let matchers = arguments.into_iter().map(|one| TextMatcher::parse(name, one, path).map(Self::Text));
                matchers.collect::<Result<_, _>>().map(Self::AnythingBut)
            }
            ("anything-but", Value::Array(several)) if several.iter().any(|one| one.is_object() || one.is_null()) => {
                Err(error(path, "anything-but takes strings and numbers"))
            }
            ("anything-but", Value::Array(several)) => Self::all(several, path).map(Self::AnythingBut),
            ("anything-but", Value::String(_) | Value::Number(_)) => {
                Ok(Self::AnythingBut(vec![Self::Exactly(argument.clone())]))
            }
            _ => TextMatcher::parse(name, argument, path).map(Self::Text),
        }
    }

    /// Whether one of the leaves at a field matches. An absent field has none.
    fn matches(&self, leaves: &[&Value]) -> bool {
        match self {
            Self::Exists(exists) => leaves.is_empty() != *exists,
            _ => leaves.iter().any(|leaf| self.matches_leaf(leaf)),
        }
    }

    fn matches_leaf(&self, leaf: &Value) -> bool {
        match self {
            Self::Exactly(value) => is_same(value, leaf),
            Self::Text(matcher) => leaf.as_str().is_some_and(|text| matcher.matches(text)),
            Self::AnythingBut(matchers) => !matchers.iter().any(|matcher| matcher.matches_leaf(leaf)),
            Self::Numeric(comparisons) => {
                let number = leaf.as_f64().filter(|number| number.abs() <= NUMERIC_MAX);
                number
                    .is_some_and(|number| comparisons.iter().all(|(comparison, with)| comparison.holds(number, *with)))
            }
            Self::Network(network, bits) => {
                let address = leaf.as_str().and_then(|text| text.parse().ok());
                address.is_some_and(|address| is_within(address, *network, *bits))
            }
            Self::Exists(exists) => *exists,
        }
    }
}

/// Whether two values are the same. A number is the same as a whole and as a fraction, which the service does too,
/// other than documented.
fn is_same(value: &Value, leaf: &Value) -> bool {
    match (value, leaf) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() != other.is_f64() => one.as_f64() == other.as_f64(),
        _ => value == leaf,
    }
}

/// An address and how many of its leading bits count, which cannot be all: for one address there is its text. Source:
/// aws/event-ruler, `CIDR`.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    let most = if address.is_ipv4() { u32::BITS } else { u128::BITS };
    (bits < most).then_some((address, bits))
}

/// Whether an address is in a network of this many bits, at most those of an address of its kind.
pub(crate) fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    // A shift by all bits, for a network of none, is no shift that Rust knows.
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(u32::BITS - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).checked_shr(u128::BITS - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl TextMatcher {
    fn parse(name: &str, argument: &Value, path: &str) -> Result<Self, EventPatternError> {
        let (text, ignore_case) = match argument {
            Value::String(text) => (text.clone(), false),
            Value::Object(operator) if matches!(name, "prefix" | "suffix") => match single(operator, path)? {
                ("equals-ignore-case", Value::String(text)) => (text.to_lowercase(), true),
                _ => return Err(error(path, &format!("{name} takes a string, or a string with equals-ignore-case"))),
            },
            _ => return Err(error(path, &format!("{name} does not take this argument"))),
        };
        match name {
            "prefix" => Ok(Self::Prefix { text, ignore_case }),
            "suffix" => Ok(Self::Suffix { text, ignore_case }),
            "equals-ignore-case" => Ok(Self::EqualsIgnoreCase(text.to_lowercase())),
            "wildcard" => wildcard(&text, path).map(Self::Wildcard),
            _ => Err(error(path, &format!("{name} is not a matcher that the emulator knows"))),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix { text: prefix, ignore_case: false } => text.starts_with(prefix),
            Self::Prefix { text: prefix, ignore_case: true } => text.to_lowercase().starts_with(prefix),
            Self::Suffix { text: suffix, ignore_case: false } => text.ends_with(suffix),
            Self::Suffix { text: suffix, ignore_case: true } => text.to_lowercase().ends_with(suffix),
            Self::EqualsIgnoreCase(other) => text.to_lowercase() == *other,
            Self::Wildcard(parts) => matches_parts(text, parts),
        }
    }
}

/// The texts between the asterisks: `a*b` is `a` and `b`. A backslash escapes an asterisk or a backslash.
fn wildcard(text: &str, path: &str) -> Result<Vec<String>, EventPatternError> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    let mut after_asterisk = false;
    while let Some(character) = characters.next() {
        let asterisk = character == '*';
        match character {
            '*' if after_asterisk => return Err(error(path, "a wildcard cannot have two asterisks in a row")),
            '*' => parts.push(String::new()),
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '\\')) => parts.last_mut().expect("never empty").push(escaped),
                _ => return Err(error(path, "a backslash in a wildcard must escape an asterisk or a backslash")),
            },
            other => parts.last_mut().expect("never empty").push(other),
        }
        after_asterisk = asterisk;
    }
    Ok(parts)
}

/// Matches each part where it first occurs, which leaves most of the text for the others.
fn matches_parts(text: &str, parts: &[String]) -> bool {
    let [first, others @ ..] = parts else { return false };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    let Some((last, between)) = others.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part.as_str()) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.as_str())
}

impl NumericComparison {
    fn holds(self, number: f64, with: f64) -> bool {
        match self {
            Self::Less => number < with,
            Self::LessOrEqual => number <= with,
            Self::Equal => number == with,
            Self::GreaterOrEqual => number >= with,
            Self::Greater => number > with,
        }
    }
}

/// `["=", 5]`, `[">", 0]`, or a range such as `[">", 0, "<=", 5]`.
fn numeric(parts: &[Value], path: &str) -> Result<Vec<(NumericComparison, f64)>, EventPatternError> {
    let wrong =
        || error(path, "numeric takes an operator and a number, or two of each for a range from below to above");
    let comparisons: Vec<_> = parts
        .chunks(2)
        .map(|pair| {
            let [operator, number] = pair else { return Err(wrong()) };
            let comparison = match operator.as_str() {
                Some("<") => NumericComparison::Less,
                Some("<=") => NumericComparison::LessOrEqual,
                Some("=") => NumericComparison::Equal,
                Some(">=") => NumericComparison::GreaterOrEqual,
                Some(">") => NumericComparison::Greater,
                _ => return Err(wrong()),
            };
            let number = number.as_f64().filter(|number| number.abs() <= NUMERIC_MAX).ok_or_else(wrong)?;
            Ok((comparison, number))
        })
        .collect::<Result<_, _>>()?;
    // A range is above something first and below something then.
    let is_valid = match comparisons.as_slice() {
        [_] => true,
        [(above, _), (below, _)] => {
            matches!(above, NumericComparison::Greater | NumericComparison::GreaterOrEqual)
                && matches!(below, NumericComparison::Less | NumericComparison::LessOrEqual)
        }
        _ => false,
    };
    if is_valid { Ok(comparisons) } else { Err(wrong()) }
}

fn single<'a>(operator: &'a Map<String, Value>, path: &str) -> Result<(&'a str, &'a Value), EventPatternError> {
    let mut entries = operator.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Ok((name, argument)),
        _ => Err(error(path, "expected a matcher with one operator")),
    }
}

fn error(path: &str, problem: &str) -> EventPatternError {
    EventPatternError { path: path.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
#[path = "event_pattern_tests.rs"]
mod tests;
