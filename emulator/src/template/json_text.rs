//! JSON as a tree that knows the line of every node. Not all JSON is YAML: surrogate pairs and long keys are not.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::yaml::{DEPTH_MAX, RepeatedKey, YamlError, YamlKind, YamlNode, error};
use crate::json::{string_length, whole_characters};

/// Reads a text that is a JSON object. `None` if it is none.
pub(super) fn read(text: &str) -> Option<Result<(YamlNode, Vec<RepeatedKey>), YamlError>> {
    let text = text.trim_start_matches('\u{feff}');
    let is_object = text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_object.then(|| {
        let mut reader = Reader { rest: text, line: 1, repeated: Vec::new() };
        Ok((reader.node(0)?, reader.repeated))
    })
}

/// Reads a text that is JSON, as has been found before.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
    repeated: Vec<RepeatedKey>,
}

impl Reader<'_> {
    fn node(&mut self, depth: usize) -> Result<YamlNode, YamlError> {
        let first = self.peek();
        let line = self.line;
        if depth > DEPTH_MAX {
            return Err(error(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let kind = match first {
            Some('{') => YamlKind::Map(self.map(depth)?),
            Some('[') => YamlKind::List(self.list(depth)?),
            Some('"') => YamlKind::Scalar { text: self.string()?, plain: false },
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(self.rest.len());
                YamlKind::Scalar { text: self.take(end).to_owned(), plain: true }
            }
        };
        Ok(YamlNode { line, kind })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<YamlNode>, YamlError> {
        let mut items = Vec::new();
        self.take(1);
        while !self.ends(']') {
            items.push(self.node(depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(String, YamlNode)>, YamlError> {
        let mut entries: Vec<(String, YamlNode)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        self.take(1);
        while !self.ends('}') {
            let line = self.line;
            let key = self.string()?;
            if self.peek() == Some(':') {
                self.take(1);
            }
            let value = self.node(depth + 1)?;
            if let Some(place) = places.get(&key) {
                entries[*place].1 = value;
                self.repeated.push(RepeatedKey { key, line });
            } else {
                places.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    fn string(&mut self) -> Result<String, YamlError> {
        let token = self.take(string_length(self.rest));
        let text = serde_json::from_str(&whole_characters(token));
        text.map_err(|reason| error(self.line, format!("invalid JSON: {reason}")))
    }

    /// Takes the comma before the next item, or the end of the items and returns true.
    fn ends(&mut self, end: char) -> bool {
        if self.peek() == Some(',') {
            self.take(1);
        }
        let is_end = self.peek().is_none_or(|next| next == end);
        if is_end {
            self.take(1);
        }
        is_end
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest.trim_start();
        self.line += self.rest[..self.rest.len() - rest.len()].matches('\n').count();
        self.rest = rest;
        rest.chars().next()
    }

    fn take(&mut self, length: usize) -> &str {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::template::{Template, TemplateInputs};

    #[test]
    fn a_document_has_its_lines_and_all_characters() {
        let text = "\u{feff}\n{\n \"a\": [1, {\n\t\"b\" :\n \"\\ud83d\\ude00 \\/ \\n \\ud83d\"}, 1e5, null, true, \
                    -2, []],\n \"c\":{}\r\n}\n";
        let (root, repeated) = read(text).expect("JSON").expect("read");
        assert!(repeated.is_empty());
        let expected = json!({"a": [1, {"b": "\u{1f600} / \n \u{fffd}"}, "1e5", null, true, -2, []], "c": {}});
        assert_eq!(root.to_json(), expected);
        let YamlKind::List(items) = &root.get("a").expect("a").kind else { panic!("{root:?}") };
        let b = items[1].get("b").expect("b");
        assert_eq!((root.line, items[0].line, items[1].line, b.line), (2, 3, 3, 5));
        assert_eq!(root.get("c").expect("c").line, 6);
    }

    #[test]
    fn what_is_no_json_is_left_to_the_reader_of_yaml_and_repeated_keys_are_found() {
        for text in ["", "a: 1", "[1]", "{a: 1}", "{\"a\": 1,}", "{\"a\": 1} # comment", "{\"a\": !Ref b}"] {
            assert_eq!(read(text), None, "{text}");
        }
        let (root, repeated) = read("{\"a\": 1,\n\"b\": 2,\n\"a\": 3}").expect("JSON").expect("read");
        assert_eq!(root.to_json(), json!({"a": 3, "b": 2}));
        assert_eq!(repeated, [RepeatedKey { key: "a".to_owned(), line: 3 }]);
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(110), "]".repeat(110));
        let error = read(&deep).expect("JSON").expect_err("too deep").to_string();
        assert_eq!(error, "line 1: nested deeper than 100 levels");
    }

    #[test]
    fn a_template_in_json_is_read_as_json_and_its_errors_have_lines() {
        let parse = |kind: &str| {
            let text = format!(
                "{{\"Description\": \"\\ud83d\\ude00\",\n\"Resources\": {{\n\"Ws\": {{{kind}\"Properties\":\n\
                 {{\"ProtocolType\": \"WEBSOCKET\", \"RouteSelectionExpression\": \"$request.body.a\"}}}}}}}}"
            );
            Template::parse(&text, &TemplateInputs::default())
        };
        parse("\"Type\": \"AWS::ApiGatewayV2::Api\", ").expect("valid");
        assert_eq!(parse("").expect_err("invalid").to_string(), "line 3: Ws: Type is missing");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn all_json_is_read_as_it_is(value in values(), pretty in any::<bool>()) {
            let document = json!({"it": value});
            let text = if pretty { format!("{document:#}") } else { document.to_string() };
            prop_assert_eq!(read(&text).expect("JSON").expect("read").0.to_json(), document);
        }
    }
}
