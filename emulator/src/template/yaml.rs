//! YAML (and so JSON) with the tags of CloudFormation and the line of every node.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::error::TemplateError;

/// A node of the template and the line it starts on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A scalar; `plain` ones may be numbers, booleans or null.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[(String, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// Deepest nesting that is read; a template has about ten levels.
const DEPTH_MAX: usize = 100;

/// Reads the first document of a file.
pub(crate) fn parse(text: &str) -> Result<Node, TemplateError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: BTreeMap::new() };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, line) => {
                return Err(TemplateError::at(line, "the template is empty"));
            }
            (event, line) => return reader.node(event, line, 0),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), TemplateError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(TemplateError::at(error.marker().line(), format!("not YAML: {}", error.info()))),
            None => Err(TemplateError::at(0, "the template ends in the middle")),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::at(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (Kind::Scalar { text: text.into_owned(), plain }, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (Kind::List(self.list(depth)?), anchor, tag),
            Event::MappingStart(anchor, tag) => (Kind::Map(self.map(depth)?), anchor, tag),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                return node.ok_or_else(|| TemplateError::at(line, "an alias refers to a node that is not complete"));
            }
            other => return Err(TemplateError::at(line, format!("unexpected {other:?}"))),
        };
        let node = Node { line, kind };
        let node = match tag {
            Some(tag) => long_form(&tag, node)?,
            None => node,
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, TemplateError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, Node)>, TemplateError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(TemplateError::at(line, "a key must be a scalar")),
            };
            if entries.iter().any(|(name, _)| *name == key) {
                return Err(TemplateError::at(line, format!("the key {key} stands twice")));
            }
            let (event, line) = self.next()?;
            let value = self.node(event, line, depth + 1)?;
            entries.push((key, value));
        }
    }
}

/// `!Sub x` becomes `{"Fn::Sub": x}`; `!Ref` and `!Condition` have no prefix.
fn long_form(tag: &Tag, node: Node) -> Result<Node, TemplateError> {
    let line = node.line;
    let name = match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "Ref" | "Condition") => tag.suffix.clone(),
        ("!", suffix) => format!("Fn::{suffix}"),
        _ if tag.is_yaml_core_schema() => return Ok(node),
        _ => return Err(TemplateError::at(line, format!("the tag {tag} is not one of CloudFormation's"))),
    };
    Ok(Node { line, kind: Kind::Map(vec![(name, node)]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_long_forms_and_lines_are_kept() {
        let root = parse("A:\n  B: !Sub \"x-${Y}\"\n  C: !Ref Z\n  D: &d [1, '1']\n  E: *d\n").expect("valid");
        let a = root.get("A").expect("A");
        let sub = a.get("B").expect("B");
        assert_eq!((sub.line, sub.get("Fn::Sub").and_then(Node::text)), (2, Some("x-${Y}")));
        assert_eq!(a.get("C").and_then(|c| c.get("Ref")).and_then(Node::text), Some("Z"));
        assert_eq!(a.get("D").map(|d| &d.kind), a.get("E").map(|e| &e.kind));
    }

    #[test]
    fn mistakes_name_their_line() {
        let line = |text: &str| parse(text).expect_err(text).line;
        assert_eq!(line("a: 1\na: 2\n"), Some(2));
        assert_eq!(line("a: 1\nb: !<tag:x,2000:y> 1\n"), Some(2));
        assert_eq!(line("a: [1\nb: 2\n"), Some(2));
        assert!(parse("").is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
