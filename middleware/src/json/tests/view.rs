//! What a view sees, on checked and on unchecked text.

use std::borrow::Cow;

use super::super::{Kind, Limits, Value, check};

fn value(text: &str) -> Value<'_> {
    check(text.as_bytes(), &Limits::default()).expect("the text is a document")
}

#[test]
fn members_and_items_are_told_in_order_with_their_places() {
    let text = r#" { "a" : [ 1 , "x" ] , "b":{} ,"\u0063":null} "#;
    let root = value(text);
    let members: Vec<_> = root
        .members()
        .map(|(name, value)| (name.as_str().expect("a name"), &text[value.span()]))
        .collect();
    assert_eq!(
        members,
        [
            ("a".into(), r#"[ 1 , "x" ]"#),
            ("b".into(), "{}"),
            (Cow::Borrowed("c"), "null")
        ]
    );
    let items: Vec<_> = root
        .get("a")
        .expect("a")
        .items()
        .map(|item| item.raw())
        .collect();
    assert_eq!(items, [&b"1"[..], b"\"x\""]);
    assert_eq!(root.get("c").map(|value| value.kind()), Some(Kind::Null));
    assert!(root.get("d").is_none());
}

#[test]
fn what_a_value_is_not_it_has_none_of() {
    let texts = ["{\"a\":1}", "[1]", "\"1\"", "1", "true", "null"];
    let kinds = [
        Kind::Object,
        Kind::Array,
        Kind::String,
        Kind::Number,
        Kind::Bool,
        Kind::Null,
    ];
    for (text, kind) in texts.into_iter().zip(kinds) {
        let value = value(text);
        assert_eq!(value.kind(), kind);
        assert_eq!(value.members().count(), usize::from(kind == Kind::Object));
        assert_eq!(value.get("a").is_some(), kind == Kind::Object);
        assert_eq!(value.items().count(), usize::from(kind == Kind::Array));
        assert_eq!(value.as_str().is_some(), kind == Kind::String);
        assert_eq!(value.is_str("1"), kind == Kind::String);
        assert_eq!(value.as_u64().is_some(), kind == Kind::Number);
        assert_eq!(value.as_f64().is_some(), kind == Kind::Number);
        assert_eq!(value.as_bool().is_some(), kind == Kind::Bool);
        assert_eq!(value.is_null(), kind == Kind::Null);
    }
}

#[test]
fn a_string_is_borrowed_unless_it_holds_escapes() {
    assert!(matches!(value("\"é\"").as_str(), Some(Cow::Borrowed("é"))));
    assert!(matches!(value(r#""\u00e9""#).as_str(), Some(Cow::Owned(text)) if text == "é"));
}

#[test]
fn a_lone_surrogate_decodes_as_the_replacement_character() {
    for (text, decoded) in [
        (r#""\ud83d\ude00""#, "😀"),
        (r#""a\ud800b""#, "a\u{fffd}b"),
        (r#""\udc00""#, "\u{fffd}"),
        (r#""\ud800\n""#, "\u{fffd}\n"),
        (r#""\ud800\u0041""#, "\u{fffd}A"),
        (r#""\ud800\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\udc00\udc00""#, "\u{fffd}\u{fffd}"),
        (r#""\udc00\ud800""#, "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(value(text).as_str().as_deref(), Some(decoded), "{text}");
        assert!(value(text).is_str(decoded), "{text}");
    }
}

#[test]
fn a_text_is_compared_as_it_decodes() {
    let name = value(r#""mod\u0065l""#);
    assert!(name.is_str("model"));
    for other in ["", "mod", "models", "mod\\u0065l", "mode", "modfl"] {
        assert!(!name.is_str(other), "{other}");
    }
}

#[test]
fn a_number_of_whole_value_is_an_integer() {
    for (text, whole) in [
        ("0", 0),
        ("-0", 0),
        ("0.000", 0),
        ("-0.0e-999999999999999999999", 0),
        ("0e99999999999999999999", 0),
        ("4096", 4096),
        ("4096.0", 4096),
        ("4e3", 4000),
        ("4E+3", 4000),
        ("4.096e3", 4096),
        ("40960e-1", 4096),
        ("0.004096e6", 4096),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551615.000", u64::MAX),
        ("1844674407370955161.5e1", u64::MAX),
        ("10000000000000000000", 10_000_000_000_000_000_000),
        ("1e19", 10_000_000_000_000_000_000),
    ] {
        assert_eq!(value(text).as_u64(), Some(whole), "{text}");
    }
    for text in [
        "-1",
        "0.5",
        "4096.5",
        "1e-1",
        "15e-1",
        "18446744073709551616",
        "2e19",
        "1e20",
        "1e999999999999999999999999",
        "-1e0",
        "1e-999999999999999999999999",
        "99999999999999999999",
        "0.1e0",
    ] {
        assert_eq!(value(text).as_u64(), None, "{text}");
    }
}

#[test]
fn a_number_no_double_comes_near_is_none() {
    assert_eq!(value("-1.5e3").as_f64(), Some(-1500.0));
    assert_eq!(value("1e-999").as_f64(), Some(0.0));
    assert_eq!(value("1e999").as_f64(), None);
}

#[test]
fn unchecked_text_gives_what_can_be_read() {
    let root = Value::parse(br#" {"a":1,"b":[2,3,x],"\u0061":4,"c":"\x","d":[1 2],"e":tru} tail"#)
        .expect("brackets match");
    assert_eq!(root.span().start, 1);
    assert_eq!(
        root.get("a").and_then(|value| value.as_u64()),
        Some(4),
        "the last of two wins"
    );
    assert_eq!(root.get("b").expect("b").items().count(), 2);
    assert_eq!(root.get("c").expect("c").as_str(), None);
    assert!(!root.get("c").expect("c").is_str("x"));
    assert_eq!(root.get("d").expect("d").items().count(), 1);
    assert!(root.get("e").is_none());
}

#[test]
fn unchecked_text_without_a_whole_value_has_no_view() {
    for text in [
        "",
        " ",
        "x",
        "{",
        "[1",
        "\"a",
        "\"a\\\"",
        "[}",
        "{\"a\":[}]",
        "-",
        "1.",
        "01",
        "nul",
        "]",
        "\"\x01\"",
        "[\"]",
    ] {
        assert!(Value::parse(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn a_string_that_is_not_utf8_has_no_text() {
    let root = Value::parse(b"[\"\xff\", \"\\n\xff\"]").expect("brackets match");
    assert!(root.items().all(|item| item.as_str().is_none()));
    assert_eq!(root.items().count(), 2);
}

#[test]
fn a_view_does_not_print_the_text() {
    let root = value(r#"{"secret":"secret"}"#);
    assert_eq!(format!("{root:?}"), "Object(0..19)");
    assert!(!format!("{:?}{:?}", root.members(), root.items()).contains("secret"));
}
