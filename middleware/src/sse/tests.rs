//! What is an event and what is a boundary, however the bytes are split.

mod properties;
mod recordings;

use super::{Boundary, CAP, Event, Scanner, Sniff, sniff};

/// An event that outlives its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    name: String,
    data: String,
    truncated: bool,
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        Self {
            name: event.name.escape_ascii().to_string(),
            data: event.data.escape_ascii().to_string(),
            truncated: event.truncated,
        }
    }
}

/// What a scanner made of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    events: Vec<Owned>,
    dispatched: u64,
    at_boundary: bool,
    /// What was undispatched at the end.
    tail: Option<Owned>,
}

/// Scans frames, and follows their boundaries by the cheaper way too.
fn scan<'a>(cap: usize, frames: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let (mut scanner, mut boundary) = (Scanner::new(cap), Boundary::new());
    let (mut events, mut tail) = (Vec::new(), None);
    for frame in frames {
        scanner.feed(frame, |event| events.push(event.into()));
        boundary.feed(frame);
        assert_eq!(
            boundary.at_boundary(),
            scanner.at_boundary(),
            "{} {scanner:?} {boundary:?}",
            frame.escape_ascii()
        );
    }
    let at_boundary = scanner.at_boundary();
    scanner.finish(|event| tail = Some(event.into()));
    Seen {
        events,
        dispatched: scanner.dispatched(),
        at_boundary,
        tail,
    }
}

/// The events of a stream as (name, data), after making sure that bytes one by one give the same.
fn events(stream: &str) -> Vec<(String, String)> {
    let seen = scan(CAP, [stream.as_bytes()]);
    assert_eq!(seen, scan(CAP, stream.as_bytes().chunks(1)));
    assert_eq!(seen.dispatched, seen.events.len() as u64);
    seen.events
        .into_iter()
        .map(|event| (event.name, event.data))
        .collect()
}

fn data(stream: &str) -> Vec<String> {
    events(stream).into_iter().map(|(_, data)| data).collect()
}

#[test]
fn lines_end_with_lf_cr_and_crlf_in_any_mix() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = "event: a\ndata: b\n\ndata: c\n\n".replace('\n', end);
        assert_eq!(
            events(&stream),
            [("a".into(), "b".into()), (String::new(), "c".into())],
            "{end:?}"
        );
    }
    assert_eq!(
        data("data: a\r\n\ndata: b\r\rdata: c\n\r\ndata: d\r\ndata: e\r\n\r"),
        ["a", "b", "c", "d\\ne"]
    );
    assert_eq!(
        data("data: a\n\r"),
        ["a"],
        "a CR ends the blank line before an LF could come"
    );
}

#[test]
fn fields_are_read_as_the_rules_say() {
    assert_eq!(
        data("data\n\ndata\ndata\n\ndata:"),
        ["", "\\n"],
        "the standard's own example"
    );
    assert_eq!(
        data("data:test\n\ndata: test\n\ndata:  test \n\n"),
        ["test", "test", " test "]
    );
    assert_eq!(
        data("data: YHOO\ndata: +2\ndata: 10\n\n"),
        ["YHOO\\n+2\\n10"]
    );
    assert_eq!(
        data("data: a\ndatabase: b\ndat: c\n data: d\nDATA: e\ndata : f\n\n"),
        ["a"]
    );
    assert_eq!(data(": x\n\n:\ndata: a:b\n: y\nfoo\nretry: 5\n\n"), ["a:b"]);
    assert_eq!(
        events("event: a\nevent:b\ndata\n\ndata: x\n\n"),
        [("b".into(), String::new()), (String::new(), "x".into())]
    );
    assert_eq!(
        events("event: a\nevent\ndata: x\n\n"),
        [(String::new(), "x".into())]
    );
    assert_eq!(data("data: \0\u{e9}\n\n"), ["\\x00\\xc3\\xa9"]);
}

#[test]
fn an_event_without_data_is_not_dispatched() {
    assert!(events("event: a\n\nid: 1\n\nretry: 5\n\n: x\n\n\n\n").is_empty());
    assert_eq!(
        events("event: a\n\ndata: x\n\n"),
        [(String::new(), "x".into())],
        "its name is not handed on"
    );
}

#[test]
fn a_byte_order_mark_opens_the_stream_and_nothing_else() {
    assert_eq!(
        data("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: c\n\n"),
        ["a", "c"]
    );
    assert!(data("\u{feff}\u{feff}data: a\n\n").is_empty());
    let broken = scan(CAP, [&b"\xef"[..], b"", b"\xbb", b"data: a\n\ndata: b\n\n"]);
    assert!(
        broken
            .events
            .iter()
            .map(|event| event.data.as_str())
            .eq(["b"]),
        "half a mark is part of a line"
    );
}

#[test]
fn what_the_end_leaves_undispatched_is_offered_once_if_it_has_data() {
    let tail = |stream: &str| {
        scan(CAP, [stream.as_bytes()])
            .tail
            .map(|event| (event.name, event.data))
    };
    assert_eq!(tail("event: a\ndata: b\n"), Some(("a".into(), "b".into())));
    assert_eq!(
        tail("data: b\n\nevent: a\ndata: {\"x\""),
        Some(("a".into(), "{\\\"x\\\"".into()))
    );
    assert_eq!(tail("data: a\r"), Some((String::new(), "a".into())));
    for stream in [
        "",
        "data: a\n\n",
        "data: a\n\r",
        "event: a",
        "data",
        "data: ",
        "dat",
        ": x",
        "\u{feff}",
    ] {
        assert_eq!(tail(stream), None, "{stream:?}");
    }
    let mut scanner = Scanner::default();
    scanner.feed(b"data: a", |_| panic!("nothing ends here"));
    let mut offered = 0;
    scanner.finish(|_| offered += 1);
    scanner.finish(|_| offered += 1);
    assert_eq!((offered, scanner.dispatched()), (1, 0));
}

#[test]
fn a_boundary_is_where_nothing_of_an_event_is_pending() {
    let at_boundary = |stream: &str| scan(CAP, [stream.as_bytes()]).at_boundary;
    for stream in [
        "",
        "\u{feff}",
        "\n",
        "data: a\n\n",
        "data: a\r\n\r",
        "data: a\n\n: ping\n",
        "retry: 5\r\n",
        "foo\n",
        "id: 1\n\n",
    ] {
        assert!(at_boundary(stream), "{stream:?}");
    }
    for stream in [
        "data: a\n",
        "data: a\r\n",
        "data: a",
        "event: a\n",
        "id: 1\n",
        "data: a\n: ping\n",
        ":",
        "d",
        "\n\ndata",
    ] {
        assert!(!at_boundary(stream), "{stream:?}");
    }
    assert!(!scan(CAP, [&b"\xef\xbb"[..]]).at_boundary);
}

#[test]
fn an_event_in_one_frame_is_told_in_slices_of_it() {
    let frame = b"event: a\ndata: b\nid: 7\n\ndata: c\n\n";
    let range = frame.as_ptr_range();
    let mut scanner = Scanner::default();
    let mut told = 0;
    scanner.feed(frame, |event| {
        told += 1;
        assert!(range.contains(&event.data.as_ptr()));
        assert!(event.name.is_empty() || range.contains(&event.name.as_ptr()));
    });
    assert_eq!(told, 2);
}

#[test]
fn an_event_over_the_cap_is_cut_and_says_so() {
    let name = "n".repeat(257);
    for (stream, kept, truncated) in [
        ("data: 12345\n\n".to_owned(), "12345", false),
        ("data: 123456\n\n".to_owned(), "12345", true),
        ("data: 123\ndata: 5\n\n".to_owned(), "123\\n5", false),
        (
            "data: 1234\ndata: 56\ndata: 7\n\n".to_owned(),
            "1234\\n",
            true,
        ),
        ("data: 12345\ndata\n\n".to_owned(), "12345", true),
        (format!("event: {}\ndata: 1\n\n", &name[1..]), "1", false),
        (format!("event: {name}\ndata: 1\n\n"), "1", true),
        (format!("event: {name}\nevent: a\ndata: 1\n\n"), "1", false),
    ] {
        let whole = scan(5, [stream.as_bytes()]);
        assert_eq!(whole, scan(5, stream.as_bytes().chunks(1)));
        assert_eq!(
            (whole.events[0].data.as_str(), whole.events[0].truncated),
            (kept, truncated),
            "{stream}"
        );
        assert!(whole.events[0].name.len() <= 256);
    }
}

#[test]
fn a_line_of_100_megabytes_costs_the_cap() {
    let frame = vec![b'x'; 64 * 1024];
    for start in ["data: ", "event: ", ": ", "foo", "data: x\ndata: "] {
        let mut scanner = Scanner::new(100_000);
        scanner.feed(start.as_bytes(), |_| panic!("no event yet"));
        for _ in 0..1600 {
            scanner.feed(&frame, |_| panic!("no event yet"));
            assert!(scanner.kept_bytes() <= 100_000 + 256);
        }
        let mut told = Vec::new();
        scanner.feed(b"\n\ndata: ok\n\n", |event| {
            told.push((event.data.len(), event.truncated));
        });
        assert_eq!(told.pop(), Some((2, false)));
        assert!(
            told.iter().all(|&event| event == (100_000, true)),
            "{start}: {told:?}"
        );
        assert!(scanner.kept_bytes() <= 64 * 1024, "the room is given back");
    }
}

#[test]
fn nothing_of_a_stream_is_printed() {
    let mut scanner = Scanner::default();
    scanner.feed(b"data: secret\n\nevent: secret\ndata: secret", |event| {
        assert!(!format!("{event:?}").contains("secret"));
    });
    assert!(!format!("{scanner:?}").contains("secret"));
}

#[test]
fn a_stream_is_told_from_other_bodies_by_its_first_bytes() {
    for stream in [
        "data:",
        "data: {",
        "\u{feff}event: x",
        "\r\n\n: hi",
        ":",
        "id\n",
        "retry:5",
        "data\n\n",
    ] {
        assert_eq!(sniff(stream.as_bytes()), Sniff::Events, "{stream:?}");
    }
    for other in [
        "{\"data\":1}",
        "[{",
        "<html>",
        "database: x",
        "dx",
        " data: x",
        "null",
        "\u{feff}{",
        "\n\n{",
        "idle:",
    ] {
        assert_eq!(sniff(other.as_bytes()), Sniff::Other, "{other:?}");
    }
    assert_eq!(sniff(b"\xef\xbb{"), Sniff::Other);
    assert_eq!(sniff(b"\xff\xfe"), Sniff::Other);
    for few in [
        &b""[..],
        b"\n",
        b"\xef",
        b"\xef\xbb",
        b"\xef\xbb\xbf\r\n",
        b"d",
        b"data",
        b"e",
        b"i",
        b"id",
        b"retr",
    ] {
        assert_eq!(sniff(few), Sniff::Unclear, "{}", few.escape_ascii());
    }
}
