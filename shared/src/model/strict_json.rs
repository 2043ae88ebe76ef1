//! JSON from outside, read strictly: UTF-8, one value, bounded nesting, and no key twice in any object. What two
//! readers could understand in two ways is refused instead of guessed.
//!
//! One fault is mended, because it comes from cutting a text and not from the publisher's data: half of a surrogate
//! pair, which stands for half of a character such as an emoji, is read as U+FFFD.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::{
    error::{ApiError, Code},
    limits::WHOLE_NUMBER_MAX,
};

/// Reads one JSON object. Nesting deeper than 128 (the bound of `serde_json`) is refused.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = str::from_utf8(bytes)
        .map_err(|error| ApiError::new(Code::BadJson, format!("the text is not UTF-8: {error}")))?;
    let Strict(value) = serde_json::from_str(&whole_characters(text))
        .map_err(|error| ApiError::new(Code::BadJson, format!("the text is not acceptable JSON: {error}")))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::new(Code::NotAnObject, "the JSON must be an object")),
    }
}

/// The path of the first number that 64 bits do not hold, such as `video.views`. It has been read as the nearest
/// fraction there is, and would go out as another number than came in.
pub(crate) fn oversized_number(fields: &Map<String, Value>) -> Option<String> {
    fields.iter().find_map(|(name, value)| Some(format!("{name}{}", oversized_within(value)?)))
}

/// The rest of the path to such a number.
fn oversized_within(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => {
            let is_oversized = number.is_f64() && number.as_f64().is_some_and(|value| value.abs() >= WHOLE_NUMBER_MAX);
            is_oversized.then(String::new)
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| Some(format!(".{index}{}", oversized_within(item)?)))
        }
        Value::Object(fields) => oversized_number(fields).map(|path| format!(".{path}")),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

/// Replaces each half of a surrogate pair that stands alone in a JSON text, such as `\ud83d`, by `\ufffd`. `json.dumps`
/// of Python and `JSON.stringify` write such a half where a text was cut within a character. No other byte changes, nor
/// its place.
pub fn whole_characters(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut mended = None;
    let mut from = 0;
    // A backslash outside of strings is an error either way.
    while let Some(found) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        let at = from + found;
        let unit = utf16_unit(bytes, at);
        from = at
            + match unit {
                Some(0xd800..=0xdbff) if matches!(utf16_unit(bytes, at + ESCAPE), Some(0xdc00..=0xdfff)) => 2 * ESCAPE,
                Some(0xd800..=0xdfff) => {
                    mended.get_or_insert_with(|| json.to_owned()).replace_range(at..at + ESCAPE, r"\ufffd");
                    ESCAPE
                }
                Some(_) => ESCAPE,
                // The byte behind it may be a backslash that begins nothing.
                None => 2,
            };
    }
    mended.map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Bytes of an escape of the form `\u0000`.
const ESCAPE: usize = 6;

/// The UTF-16 code unit of an escape `\u0000` at this place.
fn utf16_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(br"\u")?;
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

/// A value in which no object names a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice")));
            }
            let Strict(value) = entries.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_one_clear_object_is_refused() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
        let cases: [(&[u8], Code); 14] = [
            (b"", Code::BadJson),
            (b"hello", Code::BadJson),
            (b"{", Code::BadJson),
            (b"{} {}", Code::BadJson),
            (br#"{"a":NaN}"#, Code::BadJson),
            (br#"{"a":1e999}"#, Code::BadJson),
            (br#"{"a":1,"a":2}"#, Code::BadJson),
            (br#"{"a":[{"b":1,"b":1}]}"#, Code::BadJson),
            // Both keys are the same once they are mended.
            (br#"{"a\ud83d":1,"a\ud83e":1}"#, Code::BadJson),
            (br#"{"a":"\ud8"}"#, Code::BadJson),
            (br#"{"a":"\ud83g"}"#, Code::BadJson),
            (b"{\"a\":\"\xff\"}", Code::BadJson),
            (b"[1]", Code::NotAnObject),
            (deep.as_bytes(), Code::BadJson),
        ];
        for (bytes, code) in cases {
            let refusal = object(bytes).expect_err("must be refused");
            assert_eq!(refusal.code, code, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_number_that_64_bits_do_not_hold_is_found_wherever_it_stands() {
        let check = |json: &str, path: Option<&str>| {
            assert_eq!(oversized_number(&object(json.as_bytes()).expect(json)).as_deref(), path, "{json}");
        };
        check(
            r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1,"d":1e18,"e":"12345678901234567890123"}"#,
            None,
        );
        check(r#"{"a":18446744073709551616}"#, Some("a"));
        check(r#"{"a":-9223372036854775809}"#, Some("a"));
        check(r#"{"a":{"b":[1,{"c":12345678901234567890123}]}}"#, Some("a.b.1.c"));
    }

    #[test]
    fn half_a_character_is_replaced_and_nothing_else_changes() {
        for (text, expected) in [
            (r"\ud83d", "\u{fffd}"),
            (r"\uD83D", "\u{fffd}"),
            (r"\ude00", "\u{fffd}"),
            (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (r"\ud83d\ude00\ude00", "😀\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83d\n", "\u{fffd}\n"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\u{fffd}"),
            (r"\ud83d\\ude00", "\u{fffd}\\ude00"),
            ("ż\\ud83d😀", "ż\u{fffd}😀"),
            (r"\ufffd \u00e9", "\u{fffd} é"),
        ] {
            let fields = object(format!(r#"{{"{text}":["{text}"]}}"#).as_bytes()).expect(text);
            assert_eq!(Value::Object(fields), serde_json::json!({expected: [expected]}), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_json_allows_is_not_mended(
            text in r#"([a-zż😀]|\\[nrt"\\/]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9a-f]){0,12}"#,
        ) {
            let json = format!("\"{text}\"");
            prop_assume!(serde_json::from_str::<Value>(&json).is_ok());
            prop_assert!(matches!(whole_characters(&json), Cow::Borrowed(_)));
        }

        #[test]
        fn a_text_of_utf_16_is_read_as_its_lossy_form(
            units in proptest::collection::vec(prop_oneof![0xd7fe_u16..0xe002, any::<u16>()], 0..20),
        ) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let read: Value = serde_json::from_str(&whole_characters(&format!("\"{escaped}\""))).expect("a text");
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn a_fraction_stays_as_it_was_sent(number in proptest::num::f64::NORMAL) {
            let sent = serde_json::json!({"n": number}).to_string();
            prop_assert_eq!(Value::Object(object(sent.as_bytes()).expect(&sent)).to_string(), sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = object(&bytes);
        }

        #[test]
        fn an_accepted_object_reads_as_serde_json_reads_it(
            text in r#"\{("[a-c]":(-?[0-9]{1,3}|"[^"\\]{0,3}"|null),
            ?){0,
            3}\}"#,
        ) {
            if let Ok(fields) = object(text.as_bytes()) {
                let plain: Map<String, Value> = serde_json::from_str(&text).expect("strict accepts less");
                prop_assert_eq!(fields, plain);
            }
        }
    }
}
