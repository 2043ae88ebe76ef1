//! Properties of every template.

use proptest::prelude::*;

use crate::render;

/// Pieces of templates, so that their combinations are sometimes valid.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "$",
        "#",
        "\\",
        "!",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        ".",
        "..",
        ",",
        ":",
        " ",
        "\n",
        "1",
        "-2",
        "a",
        "$a",
        "$!{a}",
        "$input",
        ".path('$.a')",
        ".json('$..*')",
        "$context.stage",
        "#if($a)",
        "#else",
        "#elseif(1 < 2)",
        "#end",
        "#set($a = ",
        "#foreach($a in [1..3])",
        "#break",
        "#stop",
        "#define($a)",
        "##",
        "#*",
        "*#",
        "#[[",
        "]]#",
        "+",
        "==",
        "&&",
        ".size()",
        ".replaceAll('(.)', '$1$1')",
        ".split('')",
        ".substring(1)",
        "é",
        "\u{1F600}",
    ];
    prop_oneof![4 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn nothing_panics(pieces in prop::collection::vec(piece(), 0..24), body in any::<String>()) {
        let _ = render(&pieces.concat(), &body);
    }

    #[test]
    fn text_without_signs_is_rendered_as_it_is(text in "[^$#\\\\]*") {
        prop_assert_eq!(render(&text, ""), Ok(text));
    }

    #[test]
    fn rendering_is_deterministic(pieces in prop::collection::vec(piece(), 0..24), body in any::<String>()) {
        let template = pieces.concat();
        prop_assert_eq!(render(&template, &body), render(&template, &body));
    }

    #[test]
    fn what_is_quoted_with_brackets_is_rendered_as_it_is(text in any::<String>()) {
        prop_assume!(!text.contains("]]#") && !text.ends_with("]]") && !text.ends_with(']'));
        prop_assert_eq!(render(&format!("#[[{text}]]#"), ""), Ok(text));
    }

    #[test]
    fn json_goes_through_unchanged(json in json_value()) {
        let text = json.to_string();
        prop_assert_eq!(render("$input.json('$')", &text), Ok(text));
    }
}

/// JSON without fractions.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}
