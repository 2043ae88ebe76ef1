//! What a template demands of the values of its parameters.
//!
//! Source: CloudFormation user guide, "CloudFormation template Parameters syntax".

use regex::Regex;
use serde_json::Value;

use super::{
    scalar::truth,
    unknown::Unknown,
    yaml::{YamlKind, YamlNode},
};

/// What the values of one parameter must be.
#[derive(Debug)]
pub(super) struct Constraints<'a> {
    declaration: &'a YamlNode,
    /// The type, in which `String` is the name of a parameter of Systems Manager too.
    kind: &'a str,
    /// `AllowedPattern`, for a whole text and as it is written. `None` without one, and for one that cannot be read.
    pattern: Option<(Regex, &'a str)>,
}

impl<'a> Constraints<'a> {
    /// Reads the constraints of a parameter. Notes a pattern that is in the language of Java alone.
    pub(super) fn read(name: &str, declaration: &'a YamlNode, kind: &'a str, unknown: &Unknown) -> Self {
        let is_text = matches!(kind, "String" | "CommaDelimitedList");
        let written = declaration.get("AllowedPattern").and_then(YamlNode::text).filter(|_| is_text);
        let pattern = written.and_then(|written| match Regex::new(&format!(r"\A(?:{written})\z")) {
            Ok(pattern) => Some((pattern, written)),
            Err(_) => {
                unknown.part(format!("the AllowedPattern of the parameter {name}"));
                None
            }
        });
        Self { declaration, kind, pattern }
    }

    /// What a value must be, if it is not that. `is_plain` if it stands in the template without quotes.
    pub(super) fn violated(&self, value: &str, is_plain: bool) -> Option<String> {
        let is_list = self.kind == "CommaDelimitedList" || self.kind.starts_with("List<");
        let items = if is_list { value.split(',').map(str::trim).collect() } else { vec![value] };
        let expected = items.into_iter().find_map(|item| {
            let of_kind = match self.kind {
                "Number" => self.outside(number(item), ("MinValue", "MaxValue"), "a number"),
                "List<Number>" if number(item).is_none() => Some("numbers".to_owned()),
                "String" => {
                    let characters = Some(item.chars().count() as f64);
                    self.outside(characters, ("MinLength", "MaxLength"), "a text whose number of characters is")
                }
                _ => None,
            };
            of_kind.or_else(|| self.not_allowed(item, is_plain)).or_else(|| self.not_matching(item))
        })?;
        Some(match self.declaration.get("ConstraintDescription").and_then(YamlNode::text) {
            Some(description) => format!("{expected} (its ConstraintDescription: {description})"),
            None => expected,
        })
    }

    /// The range, if a number does not lie in it, or if there is no number.
    fn outside(&self, number: Option<f64>, (min, max): (&str, &str), of: &str) -> Option<String> {
        let (min, max) = (self.bound(min), self.bound(max));
        let is_within =
            |number: f64| min.is_none_or(|(min, _)| min <= number) && max.is_none_or(|(max, _)| number <= max);
        let range = match (min, max) {
            (Some((_, min)), Some((_, max))) => format!(" from {min} to {max}"),
            (Some((_, min)), None) => format!(" at least {min}"),
            (None, Some((_, max))) => format!(" at most {max}"),
            (None, None) => String::new(),
        };
        (!number.is_some_and(is_within)).then(|| format!("{of}{range}"))
    }

    /// The allowed values, if there are some and this is none of them. Numbers and what YAML takes for booleans may be
    /// written in several ways.
    fn not_allowed(&self, item: &str, is_plain: bool) -> Option<String> {
        let Some(YamlKind::List(allowed)) = self.declaration.get("AllowedValues").map(|allowed| &allowed.kind) else {
            return None;
        };
        let is_same = |allowed: &YamlNode| match &allowed.kind {
            YamlKind::Scalar { text, plain } => {
                let of = |text: &str| truth(Some(&Value::from(text)));
                text == item
                    || (self.kind == "Number" && number(text) == number(item))
                    || ((*plain || is_plain) && of(text).is_some_and(|truth| of(item) == Some(truth)))
            }
            _ => false,
        };
        let listed = || allowed.iter().filter_map(YamlNode::text).collect::<Vec<_>>().join(", ");
        (!allowed.iter().any(is_same)).then(|| format!("one of {}", listed()))
    }

    fn not_matching(&self, item: &str) -> Option<String> {
        let (_, written) = self.pattern.as_ref().filter(|(pattern, _)| !pattern.is_match(item))?;
        Some(format!("a text that matches {written} as a whole"))
    }

    /// A bound as a number and as it is written.
    fn bound(&self, name: &str) -> Option<(f64, &str)> {
        let text = self.declaration.get(name).and_then(YamlNode::text)?;
        Some((number(text)?, text))
    }
}

/// A whole number or a decimal, as CloudFormation's `Number` is.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{TemplateInputs, stacks::read_text},
        *,
    };

    /// Reads a template whose parameter `P` has these lines and this value. The error, or the notes.
    fn read(lines: &str, value: Option<&str>) -> Result<Vec<String>, String> {
        let text = format!("Parameters:\n  P: {{ {lines} }}\nResources: {{}}\n");
        let (inputs, unknown) = (TemplateInputs::with_parameters(value.map(|value| ("P", value))), Unknown::default());
        read_text(&text, &inputs, &unknown).map_err(|error| error.to_string())?;
        Ok(unknown.notes(&inputs))
    }

    #[test]
    fn values_of_parameters_are_what_the_template_demands() {
        for (lines, valid, invalid, expected) in [
            ("Type: Number", &["0", "-1.5", "3600.0", "1e3"][..], &["", " ", "x", "1,2", "inf", "nan"][..], "a number"),
            (
                "Type: Number, MinValue: 0, MaxValue: 100",
                &["0", "100", "99.5"],
                &["-1", "100.1"],
                "a number from 0 to 100",
            ),
            ("Type: Number, MinValue: 0.1", &["0.1", "7"], &["0", "-0.1"], "a number at least 0.1"),
            ("Type: Number, MaxValue: '9'", &["-1", "9"], &["9.5"], "a number at most 9"),
            ("Type: Number, AllowedValues: [1, 30]", &["1", "30", "30.0"], &["2"], "one of 1, 30"),
            ("Type: List<Number>", &["1", "1, 2.5"], &["", "1,x"], "numbers"),
            ("Type: String", &["", "anything"], &[], ""),
            ("Type: String, AllowedValues: [a, b]", &["a", "b"], &["", "A", "a,b"], "one of a, b"),
            ("Type: String, AllowedValues: ['on', 'off']", &["on"], &["true", "ON"], "one of on, off"),
            ("Type: String, AllowedValues: [True, False]", &["true", "false"], &["1"], "one of True, False"),
            (
                "Type: String, AllowedPattern: '[a-z]+|'",
                &["", "abc"],
                &["aB", "a\n", "1a"],
                "a text that matches [a-z]+| as a whole",
            ),
            ("Type: String, AllowedPattern: '^a.$'", &["ab"], &["a", "abc"], "a text that matches ^a.$ as a whole"),
            (
                "Type: String, MinLength: 2, MaxLength: 3",
                &["ąę", "abc"],
                &["", "ą", "abcd"],
                "a text whose number of characters is from 2 to 3",
            ),
            ("Type: CommaDelimitedList, AllowedValues: [a, b]", &["a", "a, b"], &["a,c", ""], "one of a, b"),
            (
                "Type: CommaDelimitedList, AllowedPattern: '[a-z]'",
                &["a,b"],
                &["a,bc"],
                "a text that matches [a-z] as a whole",
            ),
            // The name of a value that Systems Manager has.
            ("Type: AWS::SSM::Parameter::Value<Number>, MaxValue: 1", &["/name"], &[], ""),
        ] {
            for value in valid {
                assert!(read(lines, Some(value)).is_ok(), "{lines}: {value:?}");
            }
            for value in invalid {
                let problem = format!("line 2: invalid value {value:?} of the parameter P: expected {expected}");
                assert_eq!(read(lines, Some(value)), Err(problem), "{lines}");
            }
        }
    }

    #[test]
    fn a_default_is_checked_too_and_a_secret_value_is_not_shown() {
        assert_eq!(read("Type: String, Default: True, AllowedValues: ['true']", None), Ok(vec![]));
        let of_default = "line 2: invalid default \"7\" of the parameter P: expected a number at most 6";
        for value in [None, Some("6")] {
            assert_eq!(read("Type: Number, Default: 7, MaxValue: 6", value), Err(of_default.to_owned()), "{value:?}");
        }
        let secret = read("Type: String, NoEcho: true, MinLength: 9, ConstraintDescription: longer", Some("token"));
        let expected = "line 2: invalid value of the parameter P: expected a text whose number of characters is at \
            least 9 (its ConstraintDescription: longer)";
        assert_eq!(secret, Err(expected.to_owned()));
    }

    #[test]
    fn a_pattern_that_only_java_reads_is_noted_and_not_checked() {
        let notes = read("Type: String, AllowedPattern: '(?!a).*'", Some("a")).expect("accepted");
        assert_eq!(notes, ["the emulator does not read the AllowedPattern of the parameter P"]);
    }
}
