//! Attributes of messages, and what the service refuses about them.
//!
//! Source: recordings of the service in LocalStack (`tests/aws/services/sns/test_sns.snapshot.json`,
//! `test_empty_or_wrong_message_attributes`).

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    aws_query::{QueryError, QueryInput},
    sqs::{AttributeValue, MessageAttribute},
};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Reads one attribute of a form. `path` is where its message stands in the request.
pub(super) fn read(entry: &QueryInput, path: &str) -> Result<(String, MessageAttribute), QueryError> {
    let refused = |message: String| QueryError { code: "ParameterValueInvalid", message };
    let name = entry.get("Name").unwrap_or_default();
    let Some(kind) = entry.get("Value.DataType").filter(|kind| !kind.is_empty()) else {
        let message = format!(
            "1 validation error detected: Value null at '{path}messageAttributes.{name}.member.dataType' failed to \
             satisfy constraint: Member must not be null"
        );
        return Err(QueryError { code: "ValidationError", message });
    };
    if let Some(problem) = problem_of_name(name) {
        return Err(refused(problem));
    }
    let about = format!("The message attribute '{name}'");
    let base = kind.split('.').next().unwrap_or_default();
    let field = match base {
        "String" | "Number" => "String",
        "Binary" => "Binary",
        _ => {
            return Err(refused(format!(
                "{about} has an invalid message attribute type, the set of supported type prefixes is Binary, Number, \
                 and String."
            )));
        }
    };
    let of = |field: &str| entry.get(&format!("Value.{field}Value")).filter(|value| !value.is_empty());
    let other = if field == "String" { "Binary" } else { "String" };
    let value = match of(field) {
        Some(text) if field == "String" => Some(AttributeValue::Text(text.to_owned())),
        Some(bytes) => BASE64_STANDARD.decode(bytes).ok().map(AttributeValue::Bytes),
        None if of(other).is_some() => {
            return Err(refused(format!("{about} with type '{base}' must use field '{field}'.")));
        }
        None => None,
    };
    let empty = || {
        refused(format!("{about} must contain non-empty message attribute value for message attribute type '{base}'."))
    };
    Ok((name.to_owned(), MessageAttribute { kind: kind.to_owned(), value: value.ok_or_else(empty)? }))
}

fn problem_of_name(name: &str) -> Option<String> {
    let is_allowed = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("Length of message attribute name must be less than {NAME_BYTES_MAX} bytes."));
    }
    if let Some(character) = name.chars().find(|character| !is_allowed(character)) {
        return Some(format!(
            "Invalid non-alphanumeric character '#x{:X}' was found in the message attribute name. Can only include \
             alphanumeric characters, hyphens, underscores, or dots.",
            u32::from(character)
        ));
    }
    if name.contains("..") {
        return Some("Message attribute name can not have successive '.' character.".to_owned());
    }
    let place = match (name.starts_with('.'), name.ends_with('.')) {
        (true, _) => "starting",
        (false, true) => "ending",
        (false, false) => return None,
    };
    Some(format!("Invalid message attribute name {place} with character '.' was found."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_attribute_is_said_in_the_words_of_the_service() {
        let long = "a".repeat(257);
        for (form, code, text) in [
            ("Name=a&Value.DataType=String&Value.StringValue=", "ParameterValueInvalid", "attribute type 'String'."),
            ("Name=a&Value.DataType=Binary", "ParameterValueInvalid", "attribute type 'Binary'."),
            ("Name=a&Value.DataType=Binary&Value.BinaryValue=%21", "ParameterValueInvalid", "type 'Binary'."),
            ("Name=a&Value.StringValue=x", "ValidationError", "'p.messageAttributes.a.member.dataType' failed"),
            (
                "Name=a&Value.DataType=Number&Value.BinaryValue=MTIz",
                "ParameterValueInvalid",
                "The message attribute 'a' with type 'Number' must use field 'String'.",
            ),
            (
                "Name=a&Value.DataType=Binary&Value.StringValue=123",
                "ParameterValueInvalid",
                "The message attribute 'a' with type 'Binary' must use field 'Binary'.",
            ),
            ("Name=a&Value.DataType=Text&Value.StringValue=x", "ParameterValueInvalid", "an invalid message attribute"),
            ("Name=a^&Value.DataType=String&Value.StringValue=x", "ParameterValueInvalid", "character '#x5E' was"),
            ("Name=.a&Value.DataType=String&Value.StringValue=x", "ParameterValueInvalid", "name starting with"),
            ("Name=a.&Value.DataType=String&Value.StringValue=x", "ParameterValueInvalid", "name ending with"),
            ("Name=a..b&Value.DataType=String&Value.StringValue=x", "ParameterValueInvalid", "successive '.'"),
            (
                &format!("Name={long}&Value.DataType=String&Value.StringValue=x"),
                "ParameterValueInvalid",
                "must be less than 256 bytes.",
            ),
        ] {
            let refused = read(&QueryInput::parse(form), "p.").expect_err(form);
            assert!(refused.code == code && refused.message.contains(text), "{form}: {refused:?}");
        }
        let read =
            read(&QueryInput::parse("Name=a.b&Value.DataType=Number.int&Value.StringValue=7"), "").expect("valid");
        let value = AttributeValue::Text("7".to_owned());
        assert_eq!(read, ("a.b".to_owned(), MessageAttribute { kind: "Number.int".to_owned(), value }));
    }
}
