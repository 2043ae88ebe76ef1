//! YAML as JSON values. A tag `!x` on a node becomes an object with the one key `!x`.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// What the key of a tagged node begins with.
pub(crate) const TAG_PREFIX: char = '!';

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 50;

/// A text that is not the YAML of a case, and the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct InvalidYaml {
    line: usize,
    message: String,
}

/// Reads the first document of a text.
pub(crate) fn parse(text: &str) -> Result<Value, InvalidYaml> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 0 };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd | Event::DocumentEnd => return Ok(Value::Null),
            event => return reader.node(event, 0),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, message: impl Into<String>) -> InvalidYaml {
        InvalidYaml { line: self.line, message: message.into() }
    }

    fn next(&mut self) -> Result<Event<'a>, InvalidYaml> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => Err(InvalidYaml { line: error.marker().line(), message: error.info().to_owned() }),
            None => Err(self.error("the text ends in the middle")),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Value, InvalidYaml> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (value, tag) = match event {
            Event::Scalar(text, style, _, tag) => {
                (if style == ScalarStyle::Plain { plain(&text) } else { Value::from(text.into_owned()) }, tag)
            }
            Event::SequenceStart(_, tag) => (Value::Array(self.list(depth)?), tag),
            Event::MappingStart(_, tag) => (Value::Object(self.map(depth)?), tag),
            other => return Err(self.error(format!("{other:?} is not used in cases"))),
        };
        Ok(match tag {
            Some(tag) => Value::Object(Map::from_iter([(format!("{TAG_PREFIX}{}", tag.suffix), value)])),
            None => value,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, InvalidYaml> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(items),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map<String, Value>, InvalidYaml> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(map),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(self.error("a key must be a scalar")),
            };
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(self.error(format!("the key {key} stands twice")));
            }
        }
    }
}

/// Plain scalars are numbers, truth values and null where they look like that in JSON.
fn plain(text: &str) -> Value {
    let scalar = serde_json::from_str::<Value>(text).ok();
    scalar.filter(|value| !value.is_string()).unwrap_or_else(|| match text {
        "" | "~" => Value::Null,
        text => Value::from(text),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_becomes_json_and_tags_become_keys() {
        let value = parse("a: [1, '1', x y, ~, true, -2]\nb: !only {c: !absent }\nd: |-\n  {\n   e\n").expect("valid");
        assert_eq!(
            value,
            json!({"a": [1, "1", "x y", null, true, -2], "b": {"!only": {"c": {"!absent": null}}}, "d": "{\n e"})
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        let line = |text: &str| parse(text).expect_err(text).line;
        assert_eq!(line("a: 1\na: 2\n"), 2);
        assert_eq!(line("a: [1\nb: 2\n"), 2);
        assert_eq!(line("a: &x 1\nb: *x\n"), 2);
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
