//! Large documents made to be slow. Nothing is timed: what is not linear does not end.

use super::super::{Depth, ErrorKind, Limits, Value, check, escape_into};
use super::assert_refused;

const UNLIMITED: Limits = Limits {
    depth: u32::MAX,
    members: u32::MAX,
};

#[test]
fn nesting_is_refused_at_the_limit_and_overflows_nothing_without_one() {
    let deep = "[".repeat(100_000);
    assert_refused(ErrorKind::Depth, 128, &deep);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    let root = check(closed.as_bytes(), &UNLIMITED).expect("it is a document");
    assert_eq!(
        root.items().next().expect("the second level").span(),
        1..199_999
    );
    assert_eq!(
        Value::parse(closed.as_bytes()).expect("it closes").span(),
        0..200_000
    );
    assert!(Value::parse(&closed.as_bytes()[..199_999]).is_none());

    let objects = format!("{}0{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    assert_refused(ErrorKind::Depth, 128 * 5, &objects);
    assert!(check(objects.as_bytes(), &UNLIMITED).is_ok());

    let mut depth = Depth::new();
    depth.feed(deep.as_bytes());
    depth.feed(&closed.as_bytes()[100_000..199_999]);
    assert!(!depth.is_closed());
    depth.feed(b"]");
    assert!(depth.is_closed());
}

#[test]
fn members_are_refused_at_the_limit_and_are_linear_without_one() {
    let members: Vec<_> = (0..1_000_000).map(|at| format!("\"{at:07}\":0")).collect();
    let text = format!("{{{}}}", members.join(","));
    assert_refused(ErrorKind::Members, 1 + 10_000 * 12, &text);
    let root = check(text.as_bytes(), &UNLIMITED).expect("it is a document");
    assert_eq!(root.members().count(), 1_000_000);
    let last = root.get("0999999").expect("the last member");
    assert_eq!(last.span().end, text.len() - 1);
    assert!(
        Value::parse(text.as_bytes())
            .expect("it closes")
            .get("x")
            .is_none()
    );
}

#[test]
fn names_that_are_long_and_nearly_the_same_are_linear() {
    let stem = "x".repeat(10_000);
    let members: Vec<_> = (0..1_000)
        .map(|at| format!("\"{stem}{at:04}\":0"))
        .collect();
    let text = format!("{{{}}}", members.join(","));
    assert!(check(text.as_bytes(), &Limits::default()).is_ok());
    let again = format!("{{{},\"{stem}0000\":0}}", members.join(","));
    assert_refused(ErrorKind::Duplicate, text.len(), again);
}

#[test]
fn numbers_and_strings_of_a_megabyte_are_linear() {
    let digits = "9".repeat(1_000_000);
    for text in [
        digits.clone(),
        format!("0.{digits}e{digits}"),
        format!("{digits}e-{digits}"),
    ] {
        let value = check(text.as_bytes(), &UNLIMITED).expect("it is a number");
        assert_eq!(value.as_u64(), None);
    }
    let escapes = format!("\"{}\"", "\\u0000".repeat(200_000));
    let value = check(escapes.as_bytes(), &UNLIMITED).expect("it is a string");
    assert_eq!(value.as_str().map(|text| text.len()), Some(200_000));
    assert!(!value.is_str(&"\0".repeat(199_999)));
}

#[test]
fn text_with_control_characters_far_apart_is_escaped_in_linear_time() {
    let line = format!("{}\n", "x".repeat(300));
    let mut out = Vec::new();
    escape_into(&line.repeat(30_000), &mut out);
    assert_eq!(out.len(), 2 + (line.len() + 1) * 30_000);
}
