//! What is accepted and refused, what a view sees, and both against `serde_json`.

mod hostile;
mod oracle;
mod view;

use super::{Depth, Error, ErrorKind, Limits, check, escape_into};

fn refusal(text: impl AsRef<[u8]>) -> Error {
    check(text.as_ref(), &Limits::default()).expect_err("must be refused")
}

fn assert_refused(kind: ErrorKind, offset: usize, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let error = refusal(text);
    assert_eq!(
        (error.kind(), error.offset()),
        (kind, offset),
        "{}",
        text.escape_ascii()
    );
}

#[test]
fn documents_of_every_kind_are_accepted() {
    for text in [
        "{}",
        "[]",
        "0",
        "-0",
        "-0.5e-7",
        "1E+9",
        "\"\"",
        "true",
        "false",
        "null",
        " [ ] ",
        "\t{\r\n}\n",
        r#"{"a":{"a":{"a":[]}},"b":[{"a":1},{"a":1}]}"#,
        r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#,
        "\"é😀\u{7f}\"",
        r#""\ud800""#,
        "1e999",
    ] {
        let value = check(text.as_bytes(), &Limits::default())
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(value.raw(), text.trim().as_bytes());
    }
}

#[test]
fn a_text_that_ends_too_early_is_refused_at_its_end() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "{\"",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "[1",
        "[1,",
        "[[]",
        "\"",
        "\"a\\",
        "\"\\u",
        "\"\\u00e",
        "-",
        "1.",
        "1e",
        "1e+",
        "t",
        "fals",
        "nul",
    ] {
        assert_refused(ErrorKind::Eof, text.len(), text);
    }
}

#[test]
fn what_the_grammar_does_not_know_is_refused_where_it_stands() {
    for (offset, text) in [
        (0, "}"),
        (0, "]"),
        (0, ","),
        (0, "NaN"),
        (0, "Infinity"),
        (0, "+1"),
        (0, ".5"),
        (0, "'a'"),
        (1, "{1:2}"),
        (1, "{,}"),
        (7, "{\"a\":1,}"),
        (5, "{\"a\" 1}"),
        (5, "{\"a\":}"),
        (1, "[,]"),
        (3, "[1,]"),
        (3, "[1 2]"),
        (1, "[}"),
        (2, "[1}"),
        (6, "{\"a\":1]"),
        (1, "nil"),
        (0, "True"),
        (0, "/* */1"),
        (1, "{a:1}"),
        (6, "{\"a\":1:"),
        (1, "{\0\"\0"),
    ] {
        assert_refused(ErrorKind::Syntax, offset, text);
    }
}

#[test]
fn numbers_are_written_the_one_way() {
    for (offset, text) in [
        (1, "01"),
        (2, "-01"),
        (1, "-a"),
        (1, "-Infinity"),
        (2, "1.a"),
        (2, "1.e5"),
        (2, "1ex"),
        (3, "1e+-1"),
    ] {
        assert_refused(ErrorKind::Number, offset, text);
    }
    assert_refused(ErrorKind::Trailing, 1, "0x10");
    assert_refused(ErrorKind::Trailing, 1, "1_000");
}

#[test]
fn strings_hold_no_bare_control_character_and_no_unknown_escape() {
    for control in 0..0x20_u8 {
        assert_refused(ErrorKind::Control, 2, [b'"', b'a', control, b'"']);
        assert_refused(ErrorKind::Escape, 2, [b'"', b'a', b'\\', control, b'"']);
    }
    for text in [
        r#""a\x""#,
        r#""a\u12g4""#,
        r#""a\u123""#,
        r#""a\U0041""#,
        "\"a\\é\"",
    ] {
        assert_refused(ErrorKind::Escape, 2, text);
    }
}

#[test]
fn a_special_byte_is_found_at_every_place_of_a_string() {
    for length in 0..200 {
        let plain = "é".repeat(length);
        let whole = format!("\"{plain}\"");
        assert!(check(whole.as_bytes(), &Limits::default()).is_ok());
        assert_refused(
            ErrorKind::Control,
            1 + plain.len(),
            format!("\"{plain}\x1f{plain}\""),
        );
        assert_refused(
            ErrorKind::Escape,
            1 + plain.len(),
            format!("\"{plain}\\a{plain}\""),
        );
        assert_refused(
            ErrorKind::Trailing,
            2 + plain.len(),
            format!("\"{plain}\"{plain}\""),
        );
    }
}

#[test]
fn only_utf8_without_a_mark_is_text() {
    assert_refused(ErrorKind::Bom, 0, "\u{feff}{}");
    assert_refused(ErrorKind::Utf8, 0, b"\xff\xfe{\0}\0");
    assert_refused(ErrorKind::Utf8, 0, b"\xfe\xff\0{\0}");
    assert_refused(ErrorKind::Utf8, 2, b"\"a\xc0\x80\"");
    assert_refused(ErrorKind::Utf8, 1, b"\"\xed\xa0\x80\"");
    assert_refused(ErrorKind::Utf8, 1, b"\"\xe2\x82");
}

#[test]
fn only_white_space_follows_the_value() {
    assert_refused(ErrorKind::Trailing, 3, "{} {}");
    assert_refused(ErrorKind::Trailing, 2, "[]]");
    assert_refused(ErrorKind::Trailing, 2, "{}\0");
    assert_refused(ErrorKind::Trailing, 2, "{}\u{a0}");
}

#[test]
fn a_member_name_occurs_once_in_whatever_spelling() {
    for (offset, text) in [
        (7, r#"{"a":1,"a":2}"#),
        (11, r#"{"model":1,"mod\u0065l":2}"#),
        (16, r#"{"mod\u0065l":1,"model":2}"#),
        (16, r#"{"mod\u0065l":1,"\u006dodel":2}"#),
        (8, r#"{"/":1, "\/":2}"#),
        (8, r#"{"":1 , "":2}"#),
        (10, r#"{"😀":1,"\ud83d\uDE00":2}"#),
        (13, r#"[{"x":{"a":1,"a":2}}]"#),
        (25, r#"{"a":1,"b":{"a":1,"b":2},"a":2}"#),
        (12, r#"{"\ud800":1,"\udfff":2}"#),
    ] {
        assert_refused(ErrorKind::Duplicate, offset, text);
    }
}

#[test]
fn the_same_name_in_different_objects_is_no_duplicate() {
    for text in [
        r#"{"x":{"a":1},"a":2}"#,
        r#"{"a":{"a":1},"b":{"a":1,"b":2}}"#,
    ] {
        assert!(check(text.as_bytes(), &Limits::default()).is_ok(), "{text}");
    }
    let many: String = (0..100)
        .map(|at| format!("\"m{at}\":{{\"m0\":0,\"a\":[{{\"a\":0}}]}},"))
        .collect();
    let text = format!("[{{{many}\"a\":0}},{{{many}\"a\":0}},{{\"m0\":0}}]");
    assert!(check(text.as_bytes(), &Limits::default()).is_ok());
}

#[test]
fn a_duplicate_is_found_among_many_members() {
    for count in 1..60 {
        let members: String = (0..count)
            .map(|at| format!("\"m{at}\":{{\"x\":[]}},"))
            .collect();
        for again in [0, count / 2, count - 1] {
            let text = format!("{{{members}\"\\u006d{again}\":0}}");
            assert_refused(ErrorKind::Duplicate, 1 + members.len(), text);
        }
    }
}

#[test]
fn objects_of_many_members_keep_apart_one_inside_of_the_other() {
    let many = |name: char| {
        (0..50)
            .map(|at| format!("\"{name}{at}\":0,"))
            .collect::<String>()
    };
    let outer = format!("{{{}\"x\":{{{}\"x\":0}},", many('a'), many('b'));
    assert!(
        check(
            format!("{outer}{}\"y\":0}}", many('b')).as_bytes(),
            &Limits::default()
        )
        .is_ok()
    );
    assert_refused(
        ErrorKind::Duplicate,
        outer.len(),
        format!("{outer}\"a7\":0}}"),
    );
    assert_refused(
        ErrorKind::Duplicate,
        outer.len(),
        format!("{outer}\"x\":0}}"),
    );
}

#[test]
fn names_are_told_apart_at_every_depth_of_many_open_objects() {
    // Names of one length, first and last byte; with and without escapes among them.
    let names = |escaped: bool| {
        let x = if escaped { "\\u0078" } else { "x" };
        format!("\"ax0b\":0,\"ax1b\":0,\"a{x}2b\":0,\"ax3b\":0,\"\":0")
    };
    for depth in [1, 3, 5, 6, 13, 14, 60] {
        for escaped in [false, true] {
            let open = format!("{{{},\"in\":", names(escaped)).repeat(depth);
            let text = format!("{open}0{}", "}".repeat(depth));
            assert!(check(text.as_bytes(), &Limits::default()).is_ok(), "{text}");
            for again in ["\"ax2b\"", "\"a\\u00783b\"", "\"\"", "\"in\""] {
                let text = format!("{open}0,{again}:0{}", "}".repeat(depth));
                assert_refused(ErrorKind::Duplicate, open.len() + 2, text);
            }
        }
    }
}

#[test]
fn limits_are_the_last_that_is_accepted() {
    let limits = Limits {
        depth: 3,
        members: 2,
    };
    assert!(check(br#"[[{"a":0,"b":0}]]"#, &limits).is_ok());
    let deep = check(b"[[{\"a\":[]}]]", &limits).expect_err("four levels");
    assert_eq!((deep.kind(), deep.offset()), (ErrorKind::Depth, 7));
    let wide = check(br#"{"a":0,"b":0,"c":0}"#, &limits).expect_err("three members");
    assert_eq!((wide.kind(), wide.offset()), (ErrorKind::Members, 13));
    assert!(
        check(
            b"0",
            &Limits {
                depth: 0,
                members: 0
            }
        )
        .is_ok()
    );
    assert!(
        check(
            b"[]",
            &Limits {
                depth: 0,
                members: 0
            }
        )
        .is_err()
    );
}

#[test]
fn an_error_tells_the_place_and_never_the_text() {
    let error = refusal("{\n \"secret\": 1,\n  \"é\": secret}");
    assert_eq!((error.line(), error.column(), error.offset()), (3, 9, 24));
    assert_eq!(
        error.to_string(),
        "unexpected byte at line 3 column 9 (byte 24)"
    );
    assert_eq!((refusal("").line(), refusal("").column()), (1, 1));
    assert_eq!((refusal("[\n").line(), refusal("[\n").column()), (2, 1));
}

#[test]
fn an_escaped_text_reads_as_it_was() {
    let all: String = (0..0x250)
        .filter_map(char::from_u32)
        .chain("\"\\/\u{2028}😀".chars())
        .collect();
    for text in ["", "plain", "\"", "a\nb\r\t\u{8}\u{c}\u{1f}", &all] {
        let mut out = b"x".to_vec();
        escape_into(text, &mut out);
        assert_eq!(out[0], b'x');
        assert_eq!(
            serde_json::from_slice::<String>(&out[1..]).expect("it is JSON"),
            text
        );
        assert!(check(&out[1..], &Limits::default()).is_ok());
    }
}

#[test]
fn depth_sees_the_end_of_an_array_or_object() {
    let closed = |text: &str| {
        let mut depth = Depth::new();
        depth.feed(text.as_bytes());
        depth.is_closed()
    };
    for text in ["[]", " {} \n", r#"[{"a":"]}\"]"},"\\"]"#, "[[[]]]\r\n"] {
        assert!(closed(text), "{text}");
        assert!(
            !closed(&text.trim_end()[..text.trim_end().len() - 1]),
            "{text}"
        );
    }
    for text in [
        "", " ", "1", "\"[]\"", "[] 1", "[],", "[][]", "]", "x[]", "[\"]", "[\"\\\"]",
    ] {
        assert!(!closed(text), "{text}");
    }
}
