//! JSON of clients and functions, which may contain what JavaScript and Python read and write, and a strict reader
//! refuses: half characters, numbers that are too large, and any depth.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use serde_json::Value;

/// Levels of lists and objects that are read. What is deeper becomes null: nothing here looks at it.
const DEPTH_MAX: usize = 100;

/// Stands for a number that is too large, with its sign before it.
const LARGEST: &str = "1e308";

/// An escaped character of a JSON text: a surrogate pair, half of one (in the group), or anything else.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\(?s:.)")
        .expect("a valid pattern")
});

/// Replaces each lone half of a surrogate pair, such as `\ud83d`, by `\ufffd`, which has the same length.
/// `JSON.stringify` and Python's `json.dumps` write such a half if a text was cut within a character.
pub(crate) fn whole_characters(json: &str) -> Cow<'_, str> {
    ESCAPE.replace_all(json, |escape: &Captures<'_>| match escape.get(1) {
        Some(_) => r"\ufffd".to_owned(),
        None => escape[0].to_owned(),
    })
}

/// Reads JSON. `None` if it is none.
pub(crate) fn read(json: &str) -> Option<Value> {
    parse(json).ok()
}

/// Reads JSON, where it matters what is wrong with it.
///
/// # Errors
///
/// If it is none.
pub(crate) fn parse(json: &str) -> Result<Value, serde_json::Error> {
    // Most JSON is read at once. A strict reader refuses each half character.
    serde_json::from_str(json).or_else(|_| {
        let json = whole_characters(json);
        serde_json::from_str(&json).or_else(|_| serde_json::from_str(&readable(&json)))
    })
}

/// Reads the answer of a function, or the error that it reports.
///
/// # Errors
///
/// If it is not UTF-8 or not JSON.
pub(crate) fn read_answer(answer: &[u8]) -> Result<Value, serde_json::Error> {
    match std::str::from_utf8(answer) {
        Ok(text) => parse(text),
        Err(_) => serde_json::from_slice(answer),
    }
}

/// Writes JSON without what is too deep or too large to be read. A text that is not JSON does not become JSON, except
/// within what is too deep: there only the brackets have to be balanced.
fn readable(json: &str) -> String {
    let mut written = String::with_capacity(json.len());
    let mut depth: usize = 0;
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => {
                rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9')).unwrap_or(rest.len())
            }
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        let is_read = depth <= DEPTH_MAX;
        match first {
            '[' | '{' => {
                depth += 1;
                if depth == DEPTH_MAX + 1 {
                    written.push_str("null");
                }
            }
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !is_read || depth > DEPTH_MAX {
            continue;
        }
        match token.parse::<f64>() {
            Ok(number) if number.is_infinite() => {
                written.push_str(if number < 0.0 { "-" } else { "" });
                written.push_str(LARGEST);
            }
            _ => written.push_str(token),
        }
    }
    written
}

/// Bytes of the string at the beginning of a text, with its quotation marks; all of it if it does not end.
pub(crate) fn string_length(json: &str) -> usize {
    let mut is_escaped = true;
    let end = json.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_javascript_and_python_read_is_read() {
        let deep = |depth: usize| format!(r#"{{"a": "x", "d": {}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        for json in
            [r#"{"a": "x", "n": 1e400}"#, r#"{"a": "x", "n": [-1e400, 1E+999]}"#, r#"{"n": "]1e400\\\"", "a": "x"}"#]
        {
            assert_eq!(read(json).expect(json)["a"], "x", "{json}");
        }
        for depth in [99, 100, 101, 140, 60_000] {
            assert_eq!(read(&deep(depth)).expect("JSON")["a"], "x", "{depth}");
        }
        assert_eq!(
            read(r#"[1e400, -1e400, 1e-400, 12345678901234567890123]"#),
            Some(json!([1e308, -1e308, 0.0, 12345678901234567890123.0]))
        );
    }

    #[test]
    fn an_answer_of_a_function_is_read_as_what_clients_send() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for (answer, body) in [
            (r#"{"body": "cut \ud83d"}"#.to_owned(), "cut \u{fffd}"),
            (format!(r#"{{"deep": {deep}, "body": "x"}}"#), "x"),
        ] {
            assert_eq!(read_answer(answer.as_bytes()).expect("JSON")["body"], body);
        }
        for (answer, reason) in [(&b"\xff"[..], "line 1"), (b"\"\xff\"", "line 1"), (b"{", "EOF"), (b"", "EOF")] {
            let error = read_answer(answer).expect_err("not JSON").to_string();
            assert!(error.contains(reason), "{answer:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_json_is_none() {
        let open = "[".repeat(200);
        for json in ["", "x", "[1", "{\"a\"}", "1e", "--1", "[1e400", "\"", "\"\\\"", open.as_str(), "]", "[1]]"] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn half_a_character_is_replaced_and_everything_else_stays() {
        for (json, expected) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\uDE00x""#, r#""\ufffdx""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \n é \u00e9""#, r#""\\ud83d \n é \u00e9""#),
            (r#""\ud83"#, r#""\ud83"#),
            ("\\", "\\"),
            ("\\\u{10ffff}\\ud83d", "\\\u{10ffff}\\ufffd"),
        ] {
            assert_eq!(whole_characters(json), expected, "{json}");
        }
    }
}
