//! Reports that are odd, hostile or hidden.

use super::*;
use proptest::prelude::*;

#[tokio::test(start_paused = true)]
async fn the_last_report_that_can_be_wins() {
    let both = |first: (&str, &str), second: (&str, &str)| {
        [
            content("one two"),
            FINISHED.to_owned(),
            report(first.0, first.1),
            report(second.0, second.1),
            DONE.to_owned(),
        ]
        .concat()
    };
    for (first, second, want) in [
        (("5", "9"), ("6", "10"), (6, 10)),
        (("9", "30"), ("9", "12"), (9, 12)),
        (("5", "9"), ("5", "-1"), (5, 9)),
        (("5", "9"), ("null", "null"), (5, 9)),
    ] {
        let charge = Case::default().told(&[&both(first, second)]).await.charge;
        assert_eq!(
            (charge.prompt, charge.completion, charge.source),
            (want.0, want.1, Source::Provider)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_that_is_none_is_estimated_and_said_to_be_flawed() {
    for count in [
        "-3",
        "\"12\"",
        "3.5",
        "9223372036854775808",
        "1e30",
        "[1]",
        "{}",
        "true",
    ] {
        let told = Case::default()
            .told(&[
                &content("one two three"),
                FINISHED,
                &report("5", count),
                DONE,
            ])
            .await;
        assert!(told.flawed, "{count}");
        assert_eq!(
            told.usage.and_then(|usage| usage.completion),
            None,
            "{count}"
        );
        assert_eq!(told.charge.source, Source::Estimated, "{count}");
        assert!((1..50).contains(&told.charge.completion), "{count}");
        assert_eq!(told.charge.prompt, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_text_says_of_usage_is_no_report() {
    for text in [
        r#"{"usage":{"prompt_tokens":999,"completion_tokens":999}}"#,
        r#"","usage":{"prompt_tokens":999}"#,
        "data: {\"usage\":{\"prompt_tokens\":999}}\n\n",
        "\\u0022usage\\u0022: {\"total_tokens\": 9}",
    ] {
        let told = Case::default()
            .told(&[&content(text), FINISHED, DONE])
            .await;
        assert_eq!(told.usage, None, "{text}");
        assert_eq!(told.charge.source, Source::Estimated, "{text}");
        assert!(!told.failed && told.events == Some(3), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_escaped_name_is_read_as_it_decodes() {
    let escaped =
        "data: {\"choices\":[],\"usage\":{\"prompt\\u005ftokens\":3,\"completion_tokens\":4}}\n\n";
    let told = Case::default()
        .told(&[&content("a"), FINISHED, escaped])
        .await;
    assert_eq!(told.usage.and_then(|usage| usage.prompt), Some(3));
}

#[tokio::test(start_paused = true)]
async fn an_event_over_the_cap_passes_and_what_follows_is_read() {
    let long = format!("data: {}\n\n", "x".repeat(3 << 20));
    let body = [
        long,
        content("a "),
        content("b"),
        FINISHED.to_owned(),
        report("5", "2"),
    ]
    .concat();
    let script = Script::data(body.as_bytes(), &Split::Bytes(65_536));
    let (seen, told, _) = Case::default().metered(script).await;
    assert_eq!(seen.bytes(), body.as_bytes());
    assert!(told.blind);
    assert_eq!(
        (told.charge.completion, told.charge.source),
        (2, Source::Provider)
    );
    assert_eq!(told.events, Some(5));
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_the_stream_is_seen() {
    for (path, event) in [
        (CHAT, "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
        (CHAT, "event: error\ndata: {\"message\":\"overloaded\"}\n\n"),
        (
            "/v1/messages",
            "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n",
        ),
        (
            "/v1/responses",
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\"}}\n\n",
        ),
    ] {
        let case = Case {
            path: path.to_owned(),
            ..Case::default()
        };
        assert!(case.told(&[event]).await.failed, "{event}");
    }
    assert!(
        !Case::default()
            .told(&["data: {\"error\":null,\"choices\":[]}\n\n"])
            .await
            .failed
    );
}

#[tokio::test(start_paused = true)]
async fn the_chunks_of_several_choices_are_told_apart() {
    let of = |index: u32, delta: &str, reason: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let call = |at: u32, name: &str| {
        format!(
            "{{\"tool_calls\":[{{\"index\":{at},\"id\":\"c\",\"function\":{{\"name\":\"{name}\",\"arguments\":\"\"}}}}]}}"
        )
    };
    let told = Case::default()
        .told(&[
            &of(1, &call(0, "late"), "null"),
            &of(0, &call(0, "first"), "null"),
            &of(0, &call(0, "first"), "null"),
            &of(0, &call(1, "second"), "null"),
            &of(1, "{}", "\"length\""),
            &of(0, "{}", "\"stop\""),
            &of(0, "{}", "\"tool_calls\""),
        ])
        .await;
    assert_eq!(told.finish_reasons, ["tool_calls", "length"]);
    let tools: Vec<&str> = told.tool_calls.iter().map(|name| &**name).collect();
    assert_eq!(tools, ["late", "first", "second"]);
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z \"\\\\\n]{0,12}".prop_map(|text| content(&text)),
        Just(FINISHED.to_owned()),
        Just(DONE.to_owned()),
        Just(": ping\n\n".to_owned()),
        Just("data: {\"usage\":".to_owned()),
        Just("\r\n".to_owned()),
        Just("event: error\n".to_owned()),
        (any::<i64>(), any::<u64>())
            .prop_map(|(prompt, completion)| report(&prompt.to_string(), &completion.to_string())),
    ]
}

proptest! {
    #[test]
    fn hostile_streams_never_panic_and_read_alike_however_split(
        pieces in prop::collection::vec(piece(), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..30),
        size in 1usize..40,
    ) {
        let mut body = pieces.concat().into_bytes();
        body.extend(noise);
        let read = |split: &Split| {
            let mut answer = crate::meter::answer::Answer::new(
                Case::default().record().surface(),
                dialect::Framing::Sse,
            true,
            );
            split.pieces(&body).into_iter().for_each(|piece| answer.feed(piece, false));
            answer.finish();
            let found = answer.found();
            let told = (found.usage, found.length, found.outputs, found.first_output, found.failed, found.flawed);
            (told, answer.count(), answer.take_words())
        };
        let whole = read(&Split::Whole);
        prop_assert_eq!(read(&Split::Bytes(size)), whole);
    }

    /// Against a plain reference: every event parsed whole by another parser, and the numbers looked up.
    #[test]
    fn a_report_is_what_a_plain_parser_finds(pieces in prop::collection::vec(piece(), 0..12)) {
        let body = pieces.concat();
        let mut answer = crate::meter::answer::Answer::new(
            Case::default().record().surface(),
            dialect::Framing::Sse,
            true,
        );
        answer.feed(body.as_bytes(), false);
        let mut want = (None, None);
        let mut data = String::new();
        let normal = body.replace("\r\n", "\n");
        for line in normal.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line = line.trim_end_matches('\n');
            if let Some(value) = line.strip_prefix("data:") {
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value.strip_prefix(' ').unwrap_or(value));
            } else if line.is_empty() {
                let event: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
                let count = |name: &str| event["usage"][name].as_u64().filter(|count| *count < 1 << 53);
                want = (count("prompt_tokens").or(want.0), count("completion_tokens").or(want.1));
                data.clear();
            }
        }
        let usage = answer.found().usage;
        prop_assert_eq!((usage.prompt, usage.completion), want);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_over_the_cap_passes_unread() {
    let long = content(&"word ".repeat(40));
    for (cap, blind) in [(1 << 20, false), (64, true)] {
        let case = Case {
            layer: MeterLayer::new().event(cap),
            ..Case::default()
        };
        let (seen, told, _) = case.metered(script(&[&long, FINISHED, DONE])).await;
        assert_eq!(seen.text(), [&long, FINISHED, DONE].concat());
        assert_eq!(told.blind, blind, "{cap}");
    }
}
