//! JSON of clients, which may contain broken characters.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

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

#[cfg(test)]
mod tests {
    use super::*;

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
