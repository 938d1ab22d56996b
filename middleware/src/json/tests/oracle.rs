//! Generated and mutated documents, against `serde_json`.
//!
//! Known differences, all on our side: a name that occurs twice is refused, nesting and members have limits, a byte order
//! mark is refused. `serde_json` is asked for a raw value, which is the grammar alone: number ranges and lone surrogates
//! are not looked at, as here.

use std::collections::{BTreeMap, HashSet};

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::value::RawValue;

use super::super::{Cursor, Depth, ErrorKind, Kind, Limits, Value, check, check_members};

/// A document as text, with white space and escapes as they come.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
        any::<u64>().prop_map(|number| number.to_string()),
        string("[a-z \"\\\\/é😀\u{7f}-\u{90}\n\t]{0,80}"),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        // Few names, so that the same one is often met again: above, below or beside.
        let name = string("[ab]{1,2}");
        prop_oneof![
            (vec((inner.clone(), space()), 0..6), space()).prop_map(|(items, space)| {
                let items: Vec<_> = items
                    .iter()
                    .map(|(item, space)| format!("{space}{item}{space}"))
                    .collect();
                format!("[{space}{}]", items.join(","))
            }),
            (vec((name, inner, space()), 0..6), space()).prop_map(|(members, space)| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value, space)| {
                        format!("{space}{name}{space}:{space}{value}{space}")
                    })
                    .collect();
                format!("{{{space}{}}}", members.join(","))
            }),
        ]
    })
    .prop_flat_map(|text| space().prop_map(move |space| format!("{space}{text}{space}")))
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => "[ \n\r\t]{0,3}"]
}

/// A string literal in which any character may be escaped, and a lone surrogate may stand.
fn string(pattern: &'static str) -> impl Strategy<Value = String> {
    (pattern, vec(0..8_u8, 0..20), 0..40_u8).prop_map(|(text, escapes, surrogate)| {
        let mut literal = String::from("\"");
        for (at, char) in text.chars().enumerate() {
            let escape = escapes.get(at).is_some_and(|&way| way == 0)
                || char < ' '
                || matches!(char, '"' | '\\');
            if escape {
                literal.extend(
                    char.encode_utf16(&mut [0; 2])
                        .iter()
                        .map(|unit| format!("\\u{unit:04x}")),
                );
            } else {
                literal.push(char);
            }
        }
        if surrogate == 0 {
            literal.push_str("\\uD8ab");
        }
        literal + "\""
    })
}

/// A document with some bytes cut, put in or overwritten.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"{}[]\",:\\ue0123456789.-+tfn \n\x00\x1f\xff\xed\xa0\x80".as_slice()),
    ];
    (document(), vec((any::<Index>(), 0..4_u8, byte), 0..4)).prop_map(|(text, changes)| {
        let mut text = text.into_bytes();
        for (at, way, byte) in changes {
            let at = at.index(text.len() + 1);
            match way {
                0 if at < text.len() => drop(text.remove(at)),
                1 if at < text.len() => text[at] = byte,
                2 => text.truncate(at),
                _ => text.insert(at, byte),
            }
        }
        text
    })
}

/// Everything down to this depth, by a walk: the names as they decode, what is not gone into as it is written.
fn walk(at: &mut Cursor<'_>, told: &mut Vec<Vec<u8>>, depth: u32) -> Option<()> {
    match at.kind()? {
        Kind::Object if depth > 0 => at.object(|at, name| {
            told.push(name.to_vec());
            walk(at, told, depth - 1)
        }),
        Kind::Array if depth > 0 => at.array(|at| walk(at, told, depth - 1)),
        _ => {
            told.push(at.value()?.raw().to_vec());
            Some(())
        }
    }
}

/// The same, by views.
fn look(value: Value<'_>, told: &mut Vec<Vec<u8>>, depth: u32) {
    match value.kind() {
        Kind::Object if depth > 0 => {
            for (name, value) in value.members() {
                told.push(name.decoded().expect("names are strings").into_owned());
                look(value, told, depth - 1);
            }
        }
        Kind::Array if depth > 0 => value.items().for_each(|item| look(item, told, depth - 1)),
        _ => told.push(value.raw().to_vec()),
    }
}

/// Whether any object under `value` has a name twice.
fn has_duplicates(value: Value<'_>) -> bool {
    let mut names = HashSet::new();
    value
        .members()
        .any(|(name, _)| !names.insert(name.as_str().expect("names are strings")))
        || value.members().any(|(_, value)| has_duplicates(value))
        || value.items().any(has_duplicates)
}

fn offset(part: &str, whole: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Compares a view and everything inside with what `serde_json` reads from the same raw text.
fn assert_same(value: Value<'_>, raw: &str, document: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(value.raw(), raw.as_bytes());
    prop_assert_eq!(value.span().start, offset(raw, document));
    match value.kind() {
        Kind::Array => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).expect("an array");
            prop_assert_eq!(value.items().count(), items.len());
            for (item, raw) in value.items().zip(items) {
                assert_same(item, raw.get(), document)?;
            }
        }
        Kind::Object => match serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) {
            Ok(members) => {
                prop_assert_eq!(value.members().count(), members.len());
                for (name, raw) in members {
                    assert_same(
                        value.get(&name).expect("the member is there"),
                        raw.get(),
                        document,
                    )?;
                }
            }
            Err(_) => prop_assert!(
                raw.contains("\\u"),
                "only a lone surrogate in a name is read by us alone"
            ),
        },
        Kind::String => match serde_json::from_str::<String>(raw) {
            Ok(text) => {
                prop_assert!(value.is_str(&text));
                prop_assert_eq!(value.as_str(), Some(text.into()));
            }
            Err(_) => prop_assert!(
                value
                    .as_str()
                    .is_some_and(|text| text.contains(char::REPLACEMENT_CHARACTER))
            ),
        },
        Kind::Number => {
            if let Ok(number) = serde_json::from_str::<u64>(raw) {
                prop_assert_eq!(value.as_u64(), Some(number));
            }
            // It rounds a little worse than the nearest double.
            match (value.as_f64(), serde_json::from_str::<f64>(raw)) {
                (Some(ours), Ok(theirs)) => {
                    prop_assert!((ours - theirs).abs() <= ours.abs() * 1e-14 + f64::MIN_POSITIVE);
                }
                (ours, theirs) => prop_assert!(ours.is_none() && theirs.is_err()),
            }
        }
        Kind::Bool => prop_assert_eq!(value.as_bool(), serde_json::from_str(raw).ok()),
        Kind::Null => prop_assert_eq!(raw, "null"),
    }
    Ok(())
}

/// Goes everywhere a view leads.
fn explore(root: Value<'_>) {
    let mut open = vec![root];
    while let Some(value) = open.pop() {
        let whole = root.span();
        assert!(whole.start <= value.span().start && value.span().end <= whole.end);
        let _ = (
            value.as_str(),
            value.is_str("a"),
            value.as_u64(),
            value.as_f64(),
            value.as_bool(),
            value.get("a"),
        );
        open.extend(value.members().flat_map(|(name, value)| [name, value]));
        open.extend(value.items());
    }
}

proptest! {

    /// A walk through a document tells what views of it tell.
    #[test]
    fn a_walk_and_views_tell_the_same(text in document(), depth in 0_u32..4) {
        let (mut walked, mut looked) = (Vec::new(), Vec::new());
        let whole = walk(&mut Cursor::new(text.as_bytes()), &mut walked, depth);
        look(Value::parse(text.as_bytes()).expect("it is one"), &mut looked, depth);
        prop_assert_eq!(whole, Some(()));
        prop_assert_eq!(walked, looked);
    }

    /// A walk ends whatever the text is, and goes through no less than a document.
    #[test]
    fn a_walk_through_anything_ends(text in mutated(), depth in 0_u32..4) {
        let whole = walk(&mut Cursor::new(&text), &mut Vec::new(), depth);
        let accepted = check(&text, &Limits::default()).is_ok();
        prop_assert!(whole.is_some() || !accepted);
    }

    #[test]
    fn what_serde_json_accepts_is_accepted_unless_a_name_occurs_twice(text in mutated()) {
        let ours = check(&text, &Limits::default());
        let text = std::str::from_utf8(&text).ok();
        let theirs = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match (ours, theirs) {
            (Ok(value), Some(raw)) => {
                prop_assert!(!has_duplicates(value));
                assert_same(value, raw.get(), text.expect("it was read"))?;
            }
            (Err(error), Some(raw)) => {
                prop_assert_eq!(error.kind(), ErrorKind::Duplicate);
                prop_assert!(has_duplicates(Value::parse(raw.get().as_bytes()).expect("a value")));
            }
            (Ok(_), None) => prop_assert!(false, "accepted by us alone"),
            (Err(_), None) => {}
        }
    }

    #[test]
    fn the_members_told_while_checking_are_those_that_are_seen_afterwards(text in mutated()) {
        let mut told = Vec::new();
        let found = check_members(&text, &Limits::default(), |name, value| told.push((name, value)));
        prop_assert_eq!(
            found.map(|root| root.span()),
            check(&text, &Limits::default()).map(|root| root.span())
        );
        if let Ok(root) = found {
            let places = |(name, value): (Value<'_>, Value<'_>)| (name.span(), value.span());
            let seen: Vec<_> = root.members().map(places).collect();
            prop_assert_eq!(told.into_iter().map(places).collect::<Vec<_>>(), seen);
        }
    }

    #[test]
    fn what_is_accepted_is_seen_alike_unchecked(text in document()) {
        if let Ok(checked) = check(text.as_bytes(), &Limits::default()) {
            let unchecked = Value::parse(text.as_bytes()).expect("a value");
            prop_assert_eq!(checked.span(), unchecked.span());
            assert_same(unchecked, text.trim_matches([' ', '\n', '\r', '\t']), &text)?;
        }
    }

    #[test]
    fn no_prefix_and_no_mutation_of_a_document_is_too_much_for_a_view(text in mutated()) {
        for end in 0..=text.len() {
            if let Some(value) = Value::parse(&text[..end]) {
                explore(value);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_trouble(text in vec(prop::sample::select(b"{}[]\",:\\u0e-. tn\xff".as_slice()), 0..60)) {
        let _ = check(&text, &Limits::default());
        if let Some(value) = Value::parse(&text) {
            explore(value);
        }
    }

    #[test]
    fn an_integer_is_read_from_every_way_to_write_it(number in 1..=u64::MAX, shift in 0..25_usize, zeros in 0..5_usize) {
        let digits = number.to_string();
        let padded = format!("{}{digits}", "0".repeat(shift.saturating_sub(digits.len()) + 1));
        let (integer, fraction) = padded.split_at(padded.len() - shift);
        let integer = integer.trim_start_matches('0');
        let integer = if integer.is_empty() { "0" } else { integer };
        let zeros = "0".repeat(zeros + 1);
        for text in [
            format!("{integer}.{fraction}{zeros}e{shift}"),
            format!("{digits}{}e-{shift}", "0".repeat(shift)),
            format!("{digits}.{zeros}E+00"),
        ] {
            let value = Value::parse(text.as_bytes()).expect("a number");
            prop_assert_eq!(value.as_u64(), Some(number), "{}", text);
        }
    }

    #[test]
    fn depth_is_closed_after_exactly_the_value(text in document(), cut in any::<Index>()) {
        let whole = Value::parse(text.as_bytes()).expect("a value");
        let bracket = matches!(whole.kind(), Kind::Array | Kind::Object);
        let mut bytewise = Depth::new();
        for at in 0..text.len() {
            bytewise.feed(&text.as_bytes()[at..=at]);
            prop_assert_eq!(bytewise.is_closed(), bracket && at + 1 >= whole.span().end);
        }
        let mut split = Depth::new();
        let (head, tail) = text.as_bytes().split_at(cut.index(text.len() + 1));
        split.feed(head);
        split.feed(tail);
        prop_assert_eq!(split.is_closed(), bracket);
    }
}
