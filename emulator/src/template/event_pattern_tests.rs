//! The cases, by operator: a pattern, events that match it, and events that do not. Compared with the 155 recordings of
//! the service in LocalStack (`tests/aws/services/events/event_pattern_templates/`); docs/emulator.md has what differs.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(pattern: Value, matching: &[Value], others: &[Value]) {
    let parsed = EventPattern::parse(&pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for event in matching {
        assert!(parsed.matches(event), "{pattern} is for {event}");
    }
    for event in others {
        assert!(!parsed.matches(event), "{pattern} is not for {event}");
    }
}

/// The same for a matcher of the field `f`.
fn check_field(matcher: Value, matching: &[Value], others: &[Value]) {
    let events = |values: &[Value]| values.iter().map(|value| json!({"f": value})).collect::<Vec<_>>();
    check(json!({"f": [matcher]}), &events(matching), &events(others));
}

#[test]
fn a_value_is_matched_exactly() {
    check_field(json!("a"), &[json!("a"), json!(["b", "a"])], &[json!("A"), json!("ab"), json!(""), json!(null)]);
    check_field(json!(""), &[json!("")], &[json!(null), json!(" ")]);
    check_field(json!(null), &[json!(null)], &[json!(""), json!("null"), json!(0)]);
    check_field(json!(true), &[json!(true)], &[json!("true"), json!(false)]);
    check_field(json!(300), &[json!(300), json!(300.0)], &[json!("300"), json!(301), json!(300.5)]);
    check_field(json!(u64::MAX), &[json!(u64::MAX)], &[json!(u64::MAX - 1)]);
    check(json!({"f": ["a", "b"]}), &[json!({"f": "b"})], &[json!({"f": "c"}), json!({}), json!({"f": {"a": "b"}})]);
}

#[test]
fn all_fields_have_to_match_and_others_do_not_matter() {
    let pattern = json!({"source": ["s"], "detail": {"state": ["on"], "place": {"city": ["x"]}}});
    let event = |state, city| json!({"source": "s", "other": 1, "detail": {"state": state, "place": {"city": city}}});
    check(pattern, &[event("on", "x")], &[event("off", "x"), event("on", "y"), json!({"source": "s"}), json!("s")]);
}

#[test]
fn one_element_of_a_list_is_enough_and_fields_have_to_match_in_the_same_one() {
    check(json!({"f": ["a"]}), &[json!({"f": [["x"], ["a"]]})], &[json!({"f": []})]);
    let pattern = json!({"list": {"a": [1], "b": [2]}});
    check(
        pattern,
        &[json!({"list": [{"a": 0}, {"a": 1, "b": 2}]})],
        &[json!({"list": [{"a": 1}, {"b": 2}]}), json!({"list": []})],
    );
}

#[test]
fn a_text_begins_or_ends_with_another() {
    check_field(
        json!({"prefix": "eu-"}),
        &[json!("eu-west-1"), json!("eu-")],
        &[json!("EU-"), json!("us-eu-"), json!(7)],
    );
    check_field(json!({"suffix": ".png"}), &[json!("a.png")], &[json!("a.PNG"), json!("a.png ")]);
    check_field(json!({"prefix": {"equals-ignore-case": "EU-"}}), &[json!("eu-w"), json!("Eu-w")], &[json!("us-")]);
    check_field(json!({"suffix": {"equals-ignore-case": ".png"}}), &[json!("a.PnG")], &[json!("a.gif")]);
    check_field(json!({"equals-ignore-case": "Alice"}), &[json!("aLICE")], &[json!("alice "), json!(null)]);
}

#[test]
fn anything_but_needs_a_value() {
    check_field(
        json!({"anything-but": "a"}),
        &[json!("b"), json!(1), json!(["a", "b"])],
        &[json!("a"), json!(["a"]), json!([])],
    );
    check(json!({"f": [{"anything-but": "a"}]}), &[], &[json!({}), json!({"f": {"g": 1}})]);
    check_field(json!({"anything-but": 5}), &[json!(6), json!("5")], &[json!(5)]);
    check_field(json!({"anything-but": ["a", 5]}), &[json!("b"), json!(6)], &[json!("a"), json!(5)]);
    check_field(json!({"anything-but": {"prefix": "in"}}), &[json!("out")], &[json!("into")]);
    check_field(json!({"anything-but": {"suffix": ["a", "b"]}}), &[json!("xc")], &[json!("xa"), json!("xb")]);
    check_field(json!({"anything-but": {"equals-ignore-case": ["a", "B"]}}), &[json!("c")], &[json!("A"), json!("b")]);
    check_field(json!({"anything-but": {"wildcard": "*/bin/*"}}), &[json!("/lib/x")], &[json!("/usr/bin/x")]);
}

#[test]
fn numbers_are_compared() {
    check_field(json!({"numeric": ["=", 300]}), &[json!(300), json!(300.0)], &[json!("300"), json!(301)]);
    check_field(json!({"numeric": [">", 0, "<=", 5]}), &[json!(5), json!(0.5)], &[json!(0), json!(5.1), json!(null)]);
    check_field(json!({"numeric": ["<", -1.5]}), &[json!(-2)], &[json!(-1.5), json!(-6e9)]);
    check_field(json!({"numeric": [">=", 5]}), &[json!(5), json!([1, 9])], &[json!(4), json!(6e9)]);
}

#[test]
fn an_address_is_in_a_network() {
    check_field(
        json!({"cidr": "10.0.0.0/24"}),
        &[json!("10.0.0.255"), json!(["x", "10.0.0.0"])],
        &[json!("10.0.0.256"), json!("10.0.1.0"), json!(123), json!("::ffff:10.0.0.1")],
    );
    check_field(
        json!({"cidr": "2001:db8:1234:1a00::/64"}),
        &[json!("2001:0db8:1234:1a00:0000:0000:0000:0000"), json!("2001:db8:1234:1a00::7")],
        &[json!("2001:0db8:123f:1a01:0000:0000:0000:0000"), json!("10.0.0.1")],
    );
    check_field(json!({"cidr": "0.0.0.0/0"}), &[json!("255.1.2.3")], &[json!("::")]);
}

#[test]
fn a_field_is_there_or_not() {
    check(json!({"f": [{"exists": true}]}), &[json!({"f": null}), json!({"f": ""})], &[json!({}), json!({"f": []})]);
    check(json!({"f": [{"exists": false}]}), &[json!({}), json!({"f": {"g": 1}})], &[json!({"f": null})]);
    check(
        json!({"detail": {"f": {"g": [{"exists": false}, "x"]}}}),
        &[json!({"detail": {}}), json!({}), json!({"detail": {"f": {"g": "x"}}})],
        &[json!({"detail": {"f": {"g": 1}}})],
    );
}

#[test]
fn an_asterisk_stands_for_any_text() {
    check_field(json!({"wildcard": "a*"}), &[json!("a"), json!("abc")], &[json!("ba"), json!("")]);
    check_field(json!({"wildcard": "*.png"}), &[json!(".png"), json!("a.b.png")], &[json!("a.png.gif")]);
    check_field(json!({"wildcard": "a*b*c"}), &[json!("abc"), json!("a-b-b-c")], &[json!("ac"), json!("a-c-b")]);
    check_field(json!({"wildcard": "ab*ba"}), &[json!("abba")], &[json!("aba")]);
    check_field(json!({"wildcard": r"a\*\\*"}), &[json!(r"a*\x")], &[json!("axx")]);
    check_field(json!({"wildcard": "plain"}), &[json!("plain")], &[json!("plains")]);
    check_field(json!({"wildcard": "*"}), &[json!(""), json!("ü")], &[json!(1)]);
}

#[test]
fn one_of_several_alternatives_is_enough() {
    let pattern = json!({"source": ["s"], "$or": [{"detail": {"a": [1]}}, {"detail": {"b": [{"numeric": [">", 5]}]}}]});
    let event = |detail| json!({"source": "s", "detail": detail});
    let others = [event(json!({"a": 2, "b": 5})), json!({"source": "t", "detail": {"a": 1}})];
    check(pattern, &[event(json!({"a": 1})), event(json!({"b": 6}))], &others);
    let nested = json!({"detail": {"$or": [{"a": [1]}, {"b": [1]}], "c": [1]}});
    check(nested, &[event(json!({"b": 1, "c": 1}))], &[event(json!({"c": 1})), event(json!({"a": 1}))]);
}

#[test]
fn an_invalid_pattern_is_refused_with_its_path() {
    let refusal = |pattern: Value| EventPattern::parse(&pattern).expect_err("no pattern").to_string();
    assert_eq!(refusal(json!([])), "the pattern: expected an object with fields");
    assert_eq!(refusal(json!({})), "the pattern: expected an object with fields");
    assert_eq!(refusal(json!({"a": "b"})), "a: expected a list, or an object with fields");
    assert_eq!(refusal(json!({"a": {"b": []}})), "a.b: expected a list that is not empty");
    assert_eq!(refusal(json!({"a": [["b"]]})), "a: expected a matcher, not a list within a list");
    assert_eq!(refusal(json!({"a": [{"near": "b"}]})), "a: near is not a matcher that the emulator knows");
    for network in ["10.0.0.0/32", "10.0.0.0/x", "xx.11.xx/8", "::/128", "10.0.0.0/-1", "10.0.0.7"] {
        assert!(refusal(json!({"a": [{"cidr": network}]})).starts_with("a: cidr takes"), "{network}");
    }
    let two = json!({"a": [{"prefix": "b", "suffix": "c"}]});
    assert_eq!(refusal(two), "a: expected a matcher with one operator");
    assert!(refusal(json!({"a": [{"wildcard": "b**"}]})).contains("two asterisks in a row"));
    assert!(refusal(json!({"a": [{"wildcard": r"b\c"}]})).contains("a backslash in a wildcard"));
    for numeric in [
        json!([]),
        json!([">"]),
        json!(["!", 1]),
        json!(["=", "1"]),
        json!(["=", 6e9]),
        json!([">", 1, "<", 2, "=", 3]),
        json!([">", 0, ">", 0]),
        json!(["<", 5, ">", 0]),
    ] {
        assert!(refusal(json!({"a": [{"numeric": numeric}]})).starts_with("a: numeric takes"));
    }
    assert!(refusal(json!({"$or": []})).starts_with("$or: expected a list that is not empty"));
    assert!(refusal(json!({"$or": [1]})).starts_with("$or: expected a list of objects"));
    assert!(refusal(json!({"a": [{"anything-but": [{"prefix": "b"}]}]})).starts_with("a: anything-but takes"));
    for argument in [json!(""), json!({"equals-ignore-case": "b"}), json!(["b", ""])] {
        for name in ["prefix", "suffix"] {
            let refusal = refusal(json!({"a": [{"anything-but": {name: argument}}]}));
            assert!(refusal.starts_with("a: anything-but takes"), "{refusal}");
        }
    }
}

proptest! {
    #[test]
    fn a_wildcard_matches_what_a_search_by_trying_all_finds(
        text in "[ab]{0,8}",
        parts in proptest::collection::vec("[ab]{0,2}", 1..4),
    ) {
        fn tried(text: &str, parts: &[String]) -> bool {
            match parts {
                [only] => text == only,
                [first, rest @ ..] => {
                    let after = text.strip_prefix(first.as_str());
                    after.is_some_and(|after| (0..=after.len()).any(|at| tried(&after[at..], rest)))
                }
                [] => false,
            }
        }
        prop_assert_eq!(matches_parts(&text, &parts), tried(&text, &parts));
    }
}
