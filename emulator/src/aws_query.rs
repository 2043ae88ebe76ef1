//! The AWS query protocol: a form with the operation and its input, XML as output.
//!
//! Source: Smithy, "AWS query protocol".

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The namespace-free beginning of every document.
const DECLARATION: &str = "<?xml version=\"1.0\"?>\n";

/// The parameters of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryInput(BTreeMap<String, String>);

/// An error in the form of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl QueryInput {
    /// Reads a form. Of a repeated parameter the last counts.
    pub(crate) fn parse(form: &str) -> Self {
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = form.trim().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        Self(pairs.map(pair).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The members of a list, by what stands before their numbers, such as `MessageAttributes.entry`.
    pub(crate) fn list(&self, prefix: &str) -> Vec<Self> {
        let mut members: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
        for (name, value) in &self.0 {
            let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
            let Some((number, rest)) = rest.map(|rest| rest.split_once('.').unwrap_or((rest, ""))) else { continue };
            if let Ok(number) = number.parse() {
                members.entry(number).or_default().insert(rest.to_owned(), value.clone());
            }
        }
        members.into_values().map(Self).collect()
    }
}

/// A document that answers an operation. `result` is XML.
pub(crate) fn answer(operation: &str, namespace: &str, result: &str, request_id: &str) -> String {
    format!(
        "{DECLARATION}<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
}

/// A document with an error.
pub(crate) fn refusal(error: &QueryError, namespace: &str, request_id: &str) -> String {
    format!(
        "{DECLARATION}<ErrorResponse xmlns=\"{namespace}\"><Error><Type>Sender</Type><Code>{}</Code><Message>{}\
         </Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
        error.code,
        escaped(&error.message)
    )
}

/// A document with an error as S3 writes it, whose protocol is another one.
pub(crate) fn bare_refusal(error: &QueryError) -> String {
    format!("{DECLARATION}<Error>{}{}</Error>", element("Code", error.code), element("Message", &error.message))
}

/// An element with a text.
pub(crate) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_lists_in_their_order() {
        let input = QueryInput::parse("Action=Publish&Message=a%20b+%26c&M.10.Name=z&M.2.Name=y&M.2.Value=&bad&M.x=1");
        assert_eq!((input.get("Action"), input.get("Message")), (Some("Publish"), Some("a b &c")));
        let names: Vec<_> = input.list("M").iter().map(|one| one.get("Name").unwrap_or_default().to_owned()).collect();
        assert_eq!(names, ["y", "z"]);
    }

    #[test]
    fn texts_are_escaped() {
        let error = QueryError { code: "InvalidParameter", message: "<a & \"b\">".to_owned() };
        assert!(refusal(&error, "n", "r").contains("<Message>&lt;a &amp; &quot;b&quot;&gt;</Message>"));
    }
}
