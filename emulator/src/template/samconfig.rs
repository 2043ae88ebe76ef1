//! Parameters from the `samconfig.toml` beside a template. Source: SAM CLI.

use std::{collections::BTreeMap, fs, path::Path};

use toml::{Table, Value};

use super::error::LoadError;
use crate::files;

/// The file.
const NAME: &str = "samconfig.toml";

/// Largest file that is read.
const BYTES_MAX: u64 = 1024 * 1024;

/// Reads the parameters that the default environment of a `samconfig.toml` names for `sam deploy`, or for all commands.
pub(super) fn parameters(directory: &Path) -> Result<BTreeMap<String, String>, LoadError> {
    let path = directory.join(NAME);
    let small = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= BYTES_MAX);
    if !small {
        return Ok(BTreeMap::new());
    }
    let text =
        files::read_regular_text(&path, BYTES_MAX).map_err(|error| LoadError::Unreadable(path.clone(), error))?;
    read(&text).map_err(|error| LoadError::Samconfig(path, Box::new(error)))
}

/// Reads the text of such a file.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, String>, toml::de::Error> {
    let root: Table = text.parse()?;
    let overrides =
        |command: &str| root.get("default")?.get(command)?.get("parameters")?.get("parameter_overrides").map(pairs);
    let mut parameters: BTreeMap<String, String> = overrides("global").into_iter().flatten().collect();
    parameters.extend(overrides("deploy").into_iter().flatten());
    Ok(parameters)
}

/// `Key=value` pairs: a list of them, or a text with quotes as in a shell.
fn pairs(overrides: &Value) -> Vec<(String, String)> {
    let words: Vec<String> = match overrides {
        Value::String(text) => words(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(words).collect(),
        Value::Table(table) => {
            return table.iter().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect();
        }
        _ => Vec::new(),
    };
    words.iter().filter_map(|word| pair(word)).collect()
}

/// A value of a table, as a parameter has it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// `Key=value`, or `ParameterKey=Key,ParameterValue=value` as the AWS CLI has it.
fn pair(word: &str) -> Option<(String, String)> {
    if let Some((key, value)) = word.strip_prefix("ParameterKey=").and_then(|rest| rest.split_once(",ParameterValue="))
    {
        return Some((key.to_owned(), value.to_owned()));
    }
    word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Splits a text at spaces that are not in quotes, and drops the quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => word.extend(characters.next()),
            (_, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            (' ' | '\n' | '\t', None) => words.push(std::mem::take(&mut word)),
            _ => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_all_forms_that_sam_takes() {
        let check = |value: &str, expected: &[(&str, &str)]| {
            let text = format!("version = 0.1\n[default.deploy.parameters]\nparameter_overrides = {value}\n");
            let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            assert_eq!(read(&text), Ok(expected.collect()), "{value}");
        };
        check(
            r#""Domain=\"a b\" Cert=\"arn:x=y\" Plain=z""#,
            &[("Domain", "a b"), ("Cert", "arn:x=y"), ("Plain", "z")],
        );
        check(r#"["A=1", "B='2 3'"]"#, &[("A", "1"), ("B", "2 3")]);
        check(r#""ParameterKey=A,ParameterValue=1""#, &[("A", "1")]);
        check(r#"{ A = "1", B = 2 }"#, &[("A", "1"), ("B", "2")]);
        check(r#"'A="say \"x\"" B= C'"#, &[("A", r#"say "x""#), ("B", "")]);
        check("7", &[]);
    }

    #[test]
    fn those_of_deploy_win_over_those_of_all_commands_and_what_is_not_toml_is_an_error() {
        let text = "[default.global.parameters]\nparameter_overrides = 'A=1 B=1'\n[default.deploy.parameters]\n\
            parameter_overrides = 'B=2'\n[prod.deploy.parameters]\nparameter_overrides = 'A=9'\n";
        let read = read(text).expect("valid");
        assert_eq!((read["A"].as_str(), read["B"].as_str()), ("1", "2"));
        assert!(super::read("no toml").is_err());
        assert_eq!(parameters(Path::new("/nowhere")).expect("no file"), BTreeMap::new());
    }
}
