use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::dialect::{
    Dialect, Operation,
    recordings::{self, Recording},
};

mod marks;

fn surface(dialect: Dialect, operation: Operation) -> Surface {
    Surface {
        dialect,
        operation,
        prefix: 0..0,
        model: None,
        stream: None,
    }
}

fn choices(recording: &Recording) -> u32 {
    recording.expected["choices"]
        .as_array()
        .map_or(1, |all| all.len().max(1) as u32)
}

fn judge(recording: &Recording) -> Judge {
    Judge::new(
        Some(&recording.surface),
        recording.framing(),
        choices(recording),
        false,
    )
}

/// Ending, error seen, terminal, framing after `pieces`.
fn judged<'p>(
    mut judge: Judge,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Ending, bool, bool, Framing) {
    pieces.into_iter().for_each(|piece| judge.feed(piece));
    (
        judge.finish(),
        judge.error_seen(),
        judge.terminal(),
        judge.framing(),
    )
}

fn of(dialect: Dialect, operation: Operation, framing: Framing, body: &str) -> (Ending, bool) {
    let surface = surface(dialect, operation);
    let whole = judged(
        Judge::new(Some(&surface), framing, 1, false),
        [body.as_bytes()],
    );
    let bytes = judged(
        Judge::new(Some(&surface), framing, 1, false),
        body.as_bytes().chunks(1),
    );
    assert_eq!(whole, bytes, "{body}");
    (whole.0, whole.1)
}

fn chat(body: &str) -> (Ending, bool) {
    of(Dialect::OpenAi, Operation::Chat, Framing::Sse, body)
}

const COMPLETE: (Ending, bool) = (Ending::Complete, false);
const FAILED: (Ending, bool) = (Ending::Complete, true);
const TRUNCATED: (Ending, bool) = (Ending::Truncated, false);

#[test]
fn every_recording_is_complete_whole_and_byte_by_byte() {
    for recording in recordings::all() {
        let body = recording.body.as_slice();
        let whole = judged(judge(&recording), [body]);
        assert_eq!(whole.0, Ending::Complete, "{}", recording.name);
        let told = recording.expected["error"]["where"] == "stream";
        assert_eq!(whole.1, told, "{}: error", recording.name);
        assert_eq!(
            judged(judge(&recording), body.chunks(1)),
            whole,
            "{}",
            recording.name
        );
        let marked = recording.expected["terminal"]
            .as_str()
            .is_some_and(|mark| mark != "finishReason");
        if marked && recording.expected["format"] != "bin" {
            assert!(whole.2, "{}: terminal", recording.name);
        }
    }
}

#[test]
fn a_mislabelled_stream_is_read_as_what_it_is() {
    let all = recordings::kept();
    let recording = all
        .iter()
        .find(|r| r.name == "openai/chat-stream-no-usage")
        .expect("kept");
    assert_eq!(recording.framing(), Framing::Document);
    assert_eq!(
        judged(judge(recording), [recording.body.as_slice()]).3,
        Framing::Sse
    );
    let gemini = all
        .iter()
        .find(|r| r.name == "gemini/stream-json-array")
        .expect("kept");
    let labelled = Judge::new(Some(&gemini.surface), Framing::Sse, 1, false);
    assert_eq!(judged(labelled, gemini.body.chunks(3)).3, Framing::Array);
}

#[test]
fn first_output_is_seen_with_its_event() {
    for recording in recordings::all()
        .into_iter()
        .filter(|recording| recording.stream)
    {
        if recording.expected["format"] == "bin" {
            continue;
        }
        let mut judge = judge(&recording).with_first_output();
        let seen = recording.body.chunks(1).position(|byte| {
            judge.feed(byte);
            judge.first_output()
        });
        let index = recording.expected["first_content_index"].as_u64();
        assert_eq!(seen.is_some(), index.is_some(), "{}", recording.name);
        if let (Some(seen), Some(end)) = (
            seen,
            recording.expected["first_content_end_offset"].as_u64(),
        ) {
            // Of a CR LF, the CR dispatches.
            let behind = seen as u64 + 1;
            assert!(
                behind == end || behind + 1 == end,
                "{}: {behind} for {end}",
                recording.name
            );
        }
    }
}

/// Where the first mark ends, told by another parser and other code; `None` if no mark is to be found.
fn first_mark(recording: &Recording) -> Option<usize> {
    let body = std::str::from_utf8(&recording.body).expect("UTF-8");
    if recording.expected["format"] == "json" {
        return Some(body.trim_end().len());
    }
    let mut at = 0;
    let mut name = "";
    for line in body.split_inclusive('\n') {
        let text = line.trim_end();
        let end = at + text.len();
        at += line.len();
        if text.is_empty() {
            name = "";
        } else if let Some(value) = text.strip_prefix("event:") {
            name = value.trim();
        } else {
            let data = text.strip_prefix("data:").map_or(text, str::trim);
            if is_mark(
                recording.surface.dialect,
                recording.surface.operation,
                name,
                data,
            ) {
                return Some(end);
            }
        }
    }
    None
}

fn is_mark(dialect: Dialect, operation: Operation, name: &str, data: &str) -> bool {
    if data == "[DONE]" {
        return operation == Operation::Chat && dialect == Dialect::OpenAi;
    }
    let Ok(json) = serde_json::from_str::<Json>(data) else {
        return false;
    };
    let any = |list: &str, reason: &str| {
        json[list]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| !one[reason].is_null()))
    };
    let kind = json["type"].as_str().unwrap_or(name);
    match (dialect, operation) {
        (Dialect::OpenAi, Operation::Responses) => [
            "response.completed",
            "response.incomplete",
            "response.failed",
            "error",
        ]
        .contains(&kind),
        (Dialect::Anthropic, _) => kind == "message_stop" || kind == "error",
        (Dialect::Gemini, _) => {
            any("candidates", "finishReason") || !json["promptFeedback"]["blockReason"].is_null()
        }
        (Dialect::Ollama, _) => json["done"] == true,
        (Dialect::Cohere, _) => kind == "message-end",
        _ => any("choices", "finish_reason") || !json["error"].is_null(),
    }
}

#[test]
fn a_stream_cut_at_any_byte_before_its_first_mark_is_truncated() {
    let mut seen = 0;
    for recording in recordings::kept()
        .into_iter()
        .filter(|recording| recording.stream)
    {
        if recording.expected["format"] == "bin" {
            continue;
        }
        let mark = first_mark(&recording).unwrap_or_else(|| panic!("{}: a mark", recording.name));
        let labelled = match recording.framing() {
            // Cut before a byte of it has come, an answer labelled JSON is an empty document.
            Framing::Document => Framing::Sse,
            framing => framing,
        };
        // The longest one is cut at every seventh byte only, for time's sake.
        for cut in (0..mark).step_by(if mark > 20_000 { 7 } else { 1 }) {
            let judge = Judge::new(Some(&recording.surface), labelled, 1, false);
            let (ending, error, terminal, _) = judged(judge, [&recording.body[..cut]]);
            assert_eq!(ending, Ending::Truncated, "{} cut at {cut}", recording.name);
            assert!(!terminal && !error, "{} cut at {cut}", recording.name);
        }
        seen += 1;
    }
    assert!(seen > 10, "{seen} streams");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_split_judges_the_same(sizes in prop::collection::vec(1usize..200, 1..40)) {
        for recording in recordings::kept() {
            let whole = judged(judge(&recording), [recording.body.as_slice()]);
            let mut rest = recording.body.as_slice();
            let mut pieces = Vec::new();
            for size in sizes.iter().cycle() {
                let (piece, tail) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(judged(judge(&recording), pieces), whole, "{}", recording.name);
        }
    }

    /// Nothing panics, and a judge that was told the same bytes says the same.
    #[test]
    fn hostile_bytes_are_judged_without_a_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "data:", "event:", "error", "\n", "\r", "\n\n", "{", "}", "[", "]", "\"", ":", ",", "\"finish_reason\":",
            "\"choices\":[", "\"stop\"", "\"error\":", "\"usage\":{}", "null", "[DONE]", "\"type\":", "\\", "\u{feff}",
        ]), 0..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = words.concat();
        let at = cut.index(text.len() + 1);
        for framing in [Framing::Sse, Framing::Lines, Framing::Array, Framing::Document] {
            for (dialect, operation) in [
                (Dialect::OpenAi, Operation::Chat), (Dialect::OpenAi, Operation::Responses),
                (Dialect::Gemini, Operation::Generate), (Dialect::Cohere, Operation::Chat),
            ] {
                let surface = surface(dialect, operation);
                let new = || Judge::new(Some(&surface), framing, 2, false).with_first_output();
                let (left, right) = text.as_bytes().split_at(at);
                prop_assert_eq!(judged(new(), [left, right]), judged(new(), [text.as_bytes()]));
            }
        }
    }
}
