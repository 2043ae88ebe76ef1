//! YAML as a tree that knows the line of every node.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Number, Value};

/// Deepest nesting that is read; a template has about ten levels.
pub(super) const DEPTH_MAX: usize = 100;

/// Largest weight of a document with all its aliases written out. CloudFormation takes 1 MB of text.
pub(super) const WEIGHT_MAX: usize = 64 * 1024 * 1024;

/// What a node weighs besides its text, in bytes.
const NODE_WEIGHT: usize = 64;

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
    /// A mapping, in the order of the text, with merged entries first. No key occurs twice.
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
    /// Reads a text of one document. A node with the local tag `!x` becomes a mapping with one key,
    /// `key_of_tag("x")`. The merge key `<<` takes the entries of another mapping, or of a list of mappings.
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
    /// If the text is empty, has several documents or is not YAML, repeats a key, has a key that is not a scalar, a tag
    /// of another kind, or more than 100 levels.
    pub fn parse(text: &str, key_of_tag: impl Fn(&str) -> String) -> Result<Self, YamlError> {
        let (node, repeated) = Self::parse_repeating(text, key_of_tag)?;
        match repeated.into_iter().next() {
            Some(RepeatedKey { key, line }) => Err(error(line, format!("duplicate key {key}"))),
            None => Ok(node),
        }
    }

    /// Reads a document as PyYAML does: of a key that is repeated, the last value counts. Returns such keys too.
    pub(super) fn parse_repeating(
        text: &str,
        key_of_tag: impl Fn(&str) -> String,
    ) -> Result<(Self, Vec<RepeatedKey>), YamlError> {
        let mut reader = Reader {
            parser: Parser::new_from_str(text),
            key_of_tag,
            anchors: BTreeMap::new(),
            weight: 0,
            repeated: Vec::new(),
        };
        loop {
            match reader.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, line) => return Err(error(line, "the document is empty")),
                (event, line) => {
                    let node = reader.node(event, line, 0)?;
                    reader.end()?;
                    return Ok((node, reader.repeated));
                }
            }
        }
    }

    /// Bytes of its texts, and some for each node.
    pub(super) fn weight(&self) -> usize {
        NODE_WEIGHT
            + match &self.kind {
                YamlKind::Scalar { text, .. } => text.len(),
                YamlKind::List(items) => items.iter().map(Self::weight).sum(),
                YamlKind::Map(entries) => entries.iter().map(|(key, value)| key.len() + value.weight()).sum(),
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

    /// The line of a part that a transform or a loop adds, which the emulator does not read, if it has one.
    pub(super) fn unread_line(&self) -> Option<usize> {
        let of_entry = |(name, value): &(String, Self)| match name == "Fn::Transform" || name.starts_with("Fn::ForEach")
        {
            true => Some(value.line),
            false => value.unread_line(),
        };
        match &self.kind {
            YamlKind::Scalar { .. } => None,
            YamlKind::List(items) => items.iter().find_map(Self::unread_line),
            YamlKind::Map(entries) => entries.iter().find_map(of_entry),
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

/// A key that stands more than once in a mapping, and the line of a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RepeatedKey {
    pub(super) key: String,
    pub(super) line: usize,
}

struct Reader<'a, K> {
    parser: Parser<'a, StrInput<'a>>,
    key_of_tag: K,
    anchors: BTreeMap<usize, YamlNode>,
    weight: usize,
    repeated: Vec<RepeatedKey>,
}

impl<'a, K: Fn(&str) -> String> Reader<'a, K> {
    fn next(&mut self) -> Result<(Event<'a>, usize), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(scan)) => Err(error(scan.marker().line(), format!("invalid YAML: {}", scan.info()))),
            None => Err(error(1, "invalid YAML: the document does not end")),
        }
    }

    /// Reads the end of the text: what follows the document is not left out in silence.
    fn end(&mut self) -> Result<(), YamlError> {
        loop {
            match self.next()? {
                (Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, line) => return Err(error(line, "a second document begins here: expected one")),
            }
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
                let node = self.anchors.get(&anchor);
                let node = node.ok_or_else(|| error(line, "an alias refers to a node that contains it"))?;
                let node = node.clone();
                self.count(&node, line)?;
                return Ok(node);
            }
            other => return Err(error(line, format!("unexpected {other:?}"))),
        };
        let node = YamlNode { line, kind };
        let node = match tag {
            Some(tag) => self.tagged(&tag, node)?,
            None => node,
        };
        if anchor > 0 {
            self.count(&node, line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Counts a node that is kept or written out once more: aliases of aliases double with each line.
    fn count(&mut self, node: &YamlNode, line: usize) -> Result<(), YamlError> {
        self.weight += node.weight();
        match self.weight > WEIGHT_MAX {
            true => Err(error(line, "the document is too large with its aliases written out")),
            false => Ok(()),
        }
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
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => return Ok(with_merged(merged, entries, &places)),
                Event::Scalar(key, style, ..) => (key.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(error(line, "a key must be a text or a number")),
            };
            let key_line = line;
            let (event, line) = self.next()?;
            let value = self.node(event, line, depth + 1)?;
            if key == "<<" && plain {
                merged.push(entries_to_merge(value)?);
            } else if let Some(place) = places.get(&key) {
                entries[*place].1 = value;
                self.repeated.push(RepeatedKey { key, line: key_line });
            } else {
                places.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
    }
}

/// The entries that a merge key takes. Of several mappings in a list, the first one wins.
fn entries_to_merge(value: YamlNode) -> Result<Vec<(String, YamlNode)>, YamlError> {
    let line = value.line;
    match value.kind {
        YamlKind::Map(entries) => Ok(entries),
        YamlKind::List(items) => {
            let mut all = Vec::new();
            for item in items.into_iter().rev() {
                match item.kind {
                    YamlKind::Map(entries) => all.extend(entries),
                    _ => return Err(error(item.line, "<< takes a mapping, or a list of mappings")),
                }
            }
            Ok(all)
        }
        YamlKind::Scalar { .. } => Err(error(line, "<< takes a mapping, or a list of mappings")),
    }
}

/// Entries of merge keys before a mapping's own, which win. As in PyYAML, a later merge key wins over an earlier one.
fn with_merged(
    merged: Vec<Vec<(String, YamlNode)>>,
    own: Vec<(String, YamlNode)>,
    places: &BTreeMap<String, usize>,
) -> Vec<(String, YamlNode)> {
    let mut entries: Vec<(String, YamlNode)> = Vec::new();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for (key, value) in merged.into_iter().flatten().filter(|(key, _)| !places.contains_key(key)) {
        match taken.get(&key) {
            Some(place) => entries[*place].1 = value,
            None => {
                taken.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
    }
    entries.extend(own);
    entries
}

pub(super) fn error(line: usize, message: impl Into<String>) -> YamlError {
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
    fn merge_keys_take_entries_of_other_mappings_and_own_entries_win() {
        let merged = |text: &str| parse(text).map(|root| root.get("it").expect("it").to_json());
        let common = "a: &a { x: 1, y: 1 }\nb: &b { y: 2, z: 2 }\n";
        assert_eq!(merged(&format!("{common}it: {{ <<: *a, y: 3 }}\n")), Ok(json!({"x": 1, "y": 3})));
        assert_eq!(merged(&format!("{common}it: {{ y: 3, <<: *a }}\n")), Ok(json!({"x": 1, "y": 3})));
        // As PyYAML reads both.
        assert_eq!(merged(&format!("{common}it: {{ <<: [*a, *b] }}\n")), Ok(json!({"y": 1, "z": 2, "x": 1})));
        assert_eq!(merged(&format!("{common}it: {{ <<: *a, <<: *b }}\n")), Ok(json!({"x": 1, "y": 2, "z": 2})));
        assert_eq!(merged("it: { '<<': text }\n"), Ok(json!({"<<": "text"})));
        assert_eq!(merged("it:\n  <<: text\n").expect_err("no mapping").line, 2);
    }

    #[test]
    fn the_last_value_of_a_repeated_key_counts_where_repeats_are_allowed() {
        let (root, repeated) = YamlNode::parse_repeating("a: 1\nb: 2\na: 3\n", str::to_owned).expect("valid");
        assert_eq!(root.to_json(), json!({"a": 3, "b": 2}));
        assert_eq!(repeated, [RepeatedKey { key: "a".to_owned(), line: 3 }]);
    }

    #[test]
    fn aliases_that_double_with_each_line_are_refused_soon() {
        let lines = (1..40).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1));
        let text = format!("a0: &a0 [x]\n{}", lines.collect::<String>());
        assert!(parse(&text).expect_err("too large").message.contains("too large"));
    }

    #[test]
    fn a_second_document_is_an_error_and_marks_around_the_first_are_not() {
        for one in ["---\na: 1\n", "a: 1\n...\n", "--- {a: 1}\n...\n# end\n", "%YAML 1.2\n---\na: 1\n"] {
            assert!(parse(one).is_ok(), "{one}");
        }
        let error = parse("a: 1\n---\nb: 2\n").expect_err("two");
        assert_eq!(error.to_string(), "line 2: a second document begins here: expected one");
        assert!(parse("{}\n---\n").is_err());
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
