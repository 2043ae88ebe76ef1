//! YAML, and so JSON, as a tree that knows the line of every node.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Number, Value};

/// Deepest nesting that is read; a template has about ten levels.
const DEPTH_MAX: usize = 100;

/// A node and the line it starts on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlNode {
    pub(super) line: usize,
    pub(super) kind: YamlKind,
}

/// The three kinds of node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum YamlKind {
    /// A scalar.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// Whether it has no quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A sequence.
    List(Vec<YamlNode>),
    /// A mapping, in the order of the text. No key occurs twice.
    Map(Vec<(String, YamlNode)>),
}

/// A text that is not the YAML this module reads, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    pub(super) line: usize,
    pub(super) message: String,
}

impl YamlNode {
    /// Reads the first document of a text. A node with the local tag `!x` becomes a mapping with one key,
    /// `key_of_tag("x")`.
    ///
    /// ```
    /// use apigw_local::YamlNode;
    ///
    /// let node = YamlNode::parse("a: !Sub b", |tag| format!("Fn::{tag}"))?;
    /// assert_eq!(node.to_json(), serde_json::json!({"a": {"Fn::Sub": "b"}}));
    /// # Ok::<(), apigw_local::YamlError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the text is empty or not YAML, repeats a key, has a key that is not a scalar, a tag of another kind, or more
    /// than 100 levels.
    pub fn parse(text: &str, key_of_tag: impl Fn(&str) -> String) -> Result<Self, YamlError> {
        let mut reader = Reader { parser: Parser::new_from_str(text), key_of_tag, anchors: BTreeMap::new() };
        loop {
            match reader.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, line) => return Err(error(line, "the document is empty")),
                (event, line) => return reader.node(event, line, 0),
            }
        }
    }

    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.kind {
            YamlKind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            YamlKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The node as JSON. Plain scalars become numbers, booleans and null where they look like them.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            YamlKind::Scalar { text, plain: true } => plain_scalar(text),
            YamlKind::Scalar { text, plain: false } => Value::from(text.as_str()),
            YamlKind::List(items) => items.iter().map(Self::to_json).collect(),
            YamlKind::Map(entries) => entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
        }
    }
}

struct Reader<'a, K> {
    parser: Parser<'a, StrInput<'a>>,
    key_of_tag: K,
    anchors: BTreeMap<usize, YamlNode>,
}

impl<'a, K: Fn(&str) -> String> Reader<'a, K> {
    fn next(&mut self) -> Result<(Event<'a>, usize), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(scan)) => Err(error(scan.marker().line(), format!("invalid YAML: {}", scan.info()))),
            None => Err(error(1, "invalid YAML: the document does not end")),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<YamlNode, YamlError> {
        if depth > DEPTH_MAX {
            return Err(error(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (YamlKind::Scalar { text: text.into_owned(), plain }, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (YamlKind::List(self.list(depth)?), anchor, tag),
            Event::MappingStart(anchor, tag) => (YamlKind::Map(self.map(depth)?), anchor, tag),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                return node.ok_or_else(|| error(line, "an alias refers to a node that contains it"));
            }
            other => return Err(error(line, format!("unexpected {other:?}"))),
        };
        let node = YamlNode { line, kind };
        let node = match tag {
            Some(tag) => self.tagged(&tag, node)?,
            None => node,
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn tagged(&self, tag: &Tag, node: YamlNode) -> Result<YamlNode, YamlError> {
        if tag.is_yaml_core_schema() {
            return Ok(node);
        }
        let line = node.line;
        if tag.handle != "!" {
            return Err(error(line, format!("unknown tag {tag}: expected a short one such as !Ref")));
        }
        Ok(YamlNode { line, kind: YamlKind::Map(vec![((self.key_of_tag)(&tag.suffix), node)]) })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<YamlNode>, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, YamlNode)>, YamlError> {
        let mut entries: Vec<(String, YamlNode)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(error(line, "a key must be a text or a number")),
            };
            if entries.iter().any(|(name, _)| *name == key) {
                return Err(error(line, format!("duplicate key {key}")));
            }
            let (event, line) = self.next()?;
            let value = self.node(event, line, depth + 1)?;
            entries.push((key, value));
        }
    }
}

fn error(line: usize, message: impl Into<String>) -> YamlError {
    YamlError { line, message: message.into() }
}

fn plain_scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        // Only what is written back in the same way is a number: 0123 and 1e5 stay texts, as dates and versions do.
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => match text.parse::<f64>().ok().and_then(Number::from_f64) {
                Some(number) if number.to_string() == text => Value::Number(number),
                _ => Value::from(text),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<YamlNode, YamlError> {
        YamlNode::parse(text, |tag| format!("!{tag}"))
    }

    #[test]
    fn tags_become_keys_and_lines_are_kept() {
        let root = parse("A:\n  B: !Sub \"x-${Y}\"\n  C: !Ref Z\n  D: &d [1, '1']\n  E: *d\n").expect("valid");
        let a = root.get("A").expect("A");
        let sub = a.get("B").expect("B");
        assert_eq!((sub.line, sub.get("!Sub").and_then(YamlNode::text)), (2, Some("x-${Y}")));
        assert_eq!(a.get("C").and_then(|c| c.get("!Ref")).and_then(YamlNode::text), Some("Z"));
        assert_eq!(a.get("D").map(|d| &d.kind), a.get("E").map(|e| &e.kind));
    }

    #[test]
    fn a_document_becomes_json() {
        let node = parse("a: [1, '1', x y, ~, true, -2]\nb: !only {c: !absent }\nd: |-\n  {\n   e\n").expect("valid");
        assert_eq!(
            node.to_json(),
            json!({"a": [1, "1", "x y", null, true, -2], "b": {"!only": {"c": {"!absent": null}}}, "d": "{\n e"})
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        let line = |text: &str| parse(text).expect_err(text).line;
        assert_eq!(line("a: 1\na: 2\n"), 2);
        assert_eq!(line("a: 1\nb: !<tag:x,2000:y> 1\n"), 2);
        assert_eq!(line("a: [1\nb: 2\n"), 2);
        assert!(parse("").is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
