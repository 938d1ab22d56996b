//! Recorded streams, against what is known of them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::{Value, json};

use super::{CAP, Seen, Sniff, scan, sniff};

/// The body of a recording and what is known of its events.
fn recording(name: &str) -> (Vec<u8>, Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/recordings")
        .join(name);
    let read =
        |file: &str| fs::read(folder.join(file)).expect("the recording is in the repository");
    let expected: Value = serde_json::from_slice(&read("expected.json")).expect("it is JSON");
    (read("response.body.sse"), expected["sse"].clone())
}

fn assert_as_expected(seen: &Seen, expected: &Value) {
    let mut names = BTreeMap::<&str, u64>::new();
    for event in &seen.events {
        let name = if event.name.is_empty() {
            "message"
        } else {
            &event.name
        };
        *names.entry(name).or_default() += 1;
    }
    assert_eq!(json!(seen.dispatched), expected["events"]);
    assert_eq!(json!(names), expected["event_names"]);
    assert_eq!(json!(seen.tail.is_some()), expected["undispatched_tail"]);
    assert_eq!(json!(!seen.at_boundary), expected["undispatched_tail"]);
    assert!(
        seen.events
            .iter()
            .chain(&seen.tail)
            .all(|event| event.data.starts_with('{') && event.data.trim_end().ends_with('}'))
    );
}

fn assert_same_for_every_split(name: &str) {
    let (body, expected) = recording(name);
    assert_eq!(sniff(&body), Sniff::Events);
    let whole = scan(CAP, [body.as_slice()]);
    assert_as_expected(&whole, &expected);
    for size in 1..100 {
        assert_eq!(scan(CAP, body.chunks(size)), whole, "in frames of {size}");
    }
    // Everywhere in a small body; in a large one around the line ends and here and there.
    let cuts = (0..=body.len()).filter(|&cut| {
        let near = &body[cut.saturating_sub(3)..body.len().min(cut + 8)];
        body.len() < 1000 || cut % 97 == 0 || near.contains(&b'\n')
    });
    for cut in cuts {
        assert_eq!(
            scan(CAP, [&body[..cut], &body[cut..]]),
            whole,
            "cut at {cut}"
        );
    }
}

#[test]
fn a_stream_with_crlf_and_no_end_marker_is_read_in_every_split() {
    assert_same_for_every_split("perplexity/chat-stream-crlf-no-done");
}

#[test]
fn a_stream_that_ends_inside_of_its_only_event_is_read_in_every_split() {
    assert_same_for_every_split("gemini/stream-prompt-blocked");
}

#[test]
fn a_stream_with_names_and_padding_is_read_in_every_split() {
    assert_same_for_every_split("anthropic/stream-text-ping-padding");
}
