//! Which marks complete a stream, and what is none.

use super::*;
use crate::sse::CAP;

#[test]
fn marks_of_openai_chat() {
    assert_eq!(chat("data: [DONE]\n\n"), COMPLETE);
    assert_eq!(chat("data: [DONE]"), COMPLETE);
    assert_eq!(chat("data: [DONE\n\n"), TRUNCATED);
    assert_eq!(chat(""), TRUNCATED);
    assert_eq!(chat(": comment\n\n"), TRUNCATED);
    let finish = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason": "stop" }]}"#;
    assert_eq!(chat(&format!("{finish}\r\n\r\n")), COMPLETE);
    assert_eq!(chat(finish), COMPLETE);
    for none in ["null", "\"\"", "false"] {
        let chunk = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":{none}}}]}}\n\n"
        );
        assert_eq!(chat(&chunk), TRUNCATED, "{chunk}");
    }
}

#[test]
fn text_is_never_taken_for_a_mark() {
    for text in [
        r#"{"choices":[{"delta":{"content":"\"finish_reason\":\"stop\" data: [DONE]\n\ndata: [DONE]"}}]}"#,
        r#"{"choices":[{"delta":{"content":"finish_reason"},"logprobs":[{"token":"error"}]}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"finish_reason":"stop","error":{"a":1},"usage":{}}]}}]}"#,
        r#"{"finish_reason":"stop","choices":[{"delta":{"content":"x"}}]}"#,
        r#"{"choices":[{"delta":{"content":"[DONE]"}}]}"#,
        r#"["[DONE]"]"#,
    ] {
        assert_eq!(chat(&format!("data: {text}\n\n")), TRUNCATED, "{text}");
    }
    let ollama = r#"{"message":{"content":"\"done\":true","tool_calls":[{"done":true,"error":"x"}]},"done":false}"#;
    assert_eq!(
        of(
            Dialect::Ollama,
            Operation::Chat,
            Framing::Lines,
            &format!("{ollama}\n")
        ),
        TRUNCATED
    );
    let gemini = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"finishReason":"STOP","error":{}}}}]}}]}"#;
    assert_eq!(
        of(
            Dialect::Gemini,
            Operation::Generate,
            Framing::Sse,
            &format!("data: {gemini}\n\n")
        ),
        TRUNCATED
    );
}

#[test]
fn every_choice_seen_needs_its_finish_reason() {
    let chunk = |index: u32, reason: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let two = |body: &str| {
        let surface = surface(Dialect::OpenAi, Operation::Chat);
        judged(
            Judge::new(Some(&surface), Framing::Sse, 2, false),
            [body.as_bytes()],
        )
        .0
    };
    let open = [chunk(0, "null"), chunk(1, "null"), chunk(0, "\"stop\"")].concat();
    assert_eq!(two(&open), Ending::Truncated);
    assert_eq!(two(&(open + &chunk(1, "\"length\""))), Ending::Complete);
    let one_after_the_other = [chunk(0, "\"stop\""), chunk(1, "null")].concat();
    assert_eq!(two(&one_after_the_other), Ending::Truncated);
    assert_eq!(
        two(&(one_after_the_other + &chunk(1, "\"stop\""))),
        Ending::Complete
    );
}

#[test]
fn a_usage_report_after_the_last_output_completes() {
    let text = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    let alone = r#"data: {"choices":[],"usage":{"prompt_tokens":1}}"#;
    let beside =
        r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#;
    let empty =
        r#"data: {"choices":[{"index":0,"delta":{"content":""}}],"usage":{"prompt_tokens":1}}"#;
    let null = r#"data: {"choices":[],"usage":null}"#;
    assert_eq!(chat(&format!("{text}\n\n{alone}\n\n")), COMPLETE);
    assert_eq!(chat(&format!("{text}\n\n{empty}\n\n")), COMPLETE);
    assert_eq!(chat(&format!("{text}\n\n{alone}\n\n{text}\n\n")), TRUNCATED);
    assert_eq!(chat(&format!("{text}\n\n{beside}\n\n")), TRUNCATED);
    assert_eq!(chat(&format!("{beside}\n\n{empty}\n\n")), TRUNCATED);
    assert_eq!(
        chat(&format!("{empty}\n\n{text}\n\n{empty}\n\n")),
        TRUNCATED
    );
    assert_eq!(chat(&format!("{text}\n\n{null}\n\n")), TRUNCATED);
}

#[test]
fn an_error_the_provider_told_ends_the_stream() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    assert_eq!(
        chat(&format!(
            "{text}event: error\ndata: {{\"message\":\"x\"}}\n\n"
        )),
        FAILED
    );
    assert_eq!(
        chat(&format!(
            "{text}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n"
        )),
        FAILED
    );
    assert_eq!(
        chat(&format!(
            "{text}data: {{\"choices\":[],\"error\":{{\"code\":502}}}}\n\n"
        )),
        FAILED
    );
    assert_eq!(
        chat(&format!(
            "{text}data: {{\"choices\":[],\"error\":null}}\n\n"
        )),
        TRUNCATED
    );
    let anthropic = |body| of(Dialect::Anthropic, Operation::Messages, Framing::Sse, body);
    assert_eq!(
        anthropic("event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n"),
        FAILED
    );
    assert_eq!(
        anthropic("data: {\"error\":{},\"type\":\"error\"}\n\n"),
        FAILED
    );
    assert_eq!(anthropic("event: error\ndata: {\"type\":\"err"), TRUNCATED);
    let lines = |body| of(Dialect::Ollama, Operation::Chat, Framing::Lines, body);
    assert_eq!(lines("{\"error\":\"out of memory\"}\n"), FAILED);
    let gemini = |framing, body| of(Dialect::Gemini, Operation::Generate, framing, body);
    assert_eq!(
        gemini(Framing::Sse, "data: {\"error\":{\"code\":503}}\n\n"),
        FAILED
    );
    assert_eq!(
        gemini(Framing::Array, "[{\"error\":{\"code\":503}}]"),
        FAILED
    );
}

#[test]
fn the_older_lines_of_cohere_end_with_stream_end() {
    let cohere = |body| of(Dialect::Cohere, Operation::Chat, Framing::Lines, body);
    let text =
        "{\"is_finished\":false,\"event_type\":\"text-generation\",\"text\":\"stream-end\"}\n";
    assert_eq!(cohere(text), TRUNCATED);
    assert_eq!(
        cohere(&format!(
            "{text}{{\"is_finished\":true,\"event_type\":\"stream-end\"}}\n"
        )),
        COMPLETE
    );
}

#[test]
fn what_is_no_event_stream_ends_with_its_transport() {
    for body in [
        "<html>",
        "{\"id\":1,\"choices\":[]",
        "[1,2",
        "plain words: none",
    ] {
        assert_eq!(chat(body), COMPLETE, "{body}");
    }
    let html = Judge::new(
        Some(&surface(Dialect::OpenAi, Operation::Chat)),
        Framing::Sse,
        1,
        false,
    );
    assert_eq!(judged(html, [&b"\n\n<html>"[..]]).3, Framing::Opaque);
    for framing in [Framing::EventStream, Framing::Opaque, Framing::Document] {
        assert_eq!(
            of(Dialect::OpenAi, Operation::Chat, framing, "anything"),
            COMPLETE
        );
    }
    let unknown = judged(
        Judge::new(None, Framing::Sse, 1, false),
        [&b"data: x\n\n"[..]],
    );
    assert_eq!(unknown.0, Ending::Complete);
}

#[test]
fn events_are_counted_and_boundaries_told() {
    for recording in recordings::all() {
        let mut judge = judge(&recording);
        assert_eq!(
            judge.at_boundary(),
            matches!(judge.framing(), Framing::Sse | Framing::Lines),
            "{}",
            recording.name
        );
        judge.feed(&recording.body);
        judge.finish();
        let expected = &recording.expected;
        let lists = [
            &expected["sse"]["events"],
            &expected["ndjson"]["lines"],
            &expected["json_array"]["elements"],
            &expected["eventstream"]["messages"],
        ];
        let count = lists.into_iter().find_map(Json::as_u64);
        assert_eq!(judge.events(), count, "{}", recording.name);
    }
    let chat = surface(Dialect::OpenAi, Operation::Chat);
    let mut judge = Judge::new(Some(&chat), Framing::Sse, 1, false);
    judge.feed(b"data: {}\n\ndata:");
    assert!(!judge.at_boundary());
    judge.feed(b" {}\n\n");
    assert!(judge.at_boundary());
    let mut document = Judge::new(Some(&chat), Framing::Document, 1, false);
    document.feed(b"{}");
    assert!(!document.at_boundary());
}

#[test]
fn an_exception_in_a_binary_stream_is_an_error() {
    // A message of one header, `:message-type: exception`, and no payload.
    let mut message = vec![0, 0, 0, 42, 0, 0, 0, 26, 0, 0, 0, 0, 13];
    message.extend_from_slice(b":message-type\x07\0\x09exception\0\0\0\0");
    let bedrock = surface(Dialect::Bedrock, Operation::Converse);
    let judge = Judge::new(Some(&bedrock), Framing::EventStream, 1, false);
    assert_eq!(
        judged(judge, message.chunks(5)),
        (Ending::Complete, true, false, Framing::EventStream)
    );
}

#[test]
fn a_provider_without_marks_ends_with_its_transport() {
    let chat = surface(Dialect::OpenAi, Operation::Chat);
    let judge = Judge::new(Some(&chat), Framing::Sse, 1, true);
    assert_eq!(
        judged(judge, [&b"data: {\"choices\":[]}\n\n"[..]]).0,
        Ending::Complete
    );
}

#[test]
fn an_event_over_the_cap_is_not_read_but_what_follows_it_is() {
    let large = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(CAP + 1)
    );
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let verdict = |body: &str| {
        let chat = surface(Dialect::OpenAi, Operation::Chat);
        judged(
            Judge::new(Some(&chat), Framing::Sse, 1, false),
            body.as_bytes().chunks(4096),
        )
    };
    assert_eq!(verdict(&large).0, Ending::Complete);
    assert_eq!(verdict(&format!("{large}{text}")).0, Ending::Truncated);
    assert!(verdict(&format!("{large}data: [DONE]\n\n")).2);
    let completed = format!(
        "data: {{\"type\":\"response.completed\",\"x\":\"{}\"}}\n\n",
        "x".repeat(CAP + 1)
    );
    let responses = surface(Dialect::OpenAi, Operation::Responses);
    let judge = Judge::new(Some(&responses), Framing::Sse, 1, false);
    assert!(judged(judge, completed.as_bytes().chunks(4096)).2);
}

/// Whether what cuts the events is known at the head or after the first bytes.
#[test]
fn the_cap_is_the_one_that_was_given() {
    let chat = surface(Dialect::OpenAi, Operation::Chat);
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"0123456789\"}}]}\n\n";
    let ollama = surface(Dialect::Ollama, Operation::Chat);
    let line = "{\"message\":{\"content\":\"0123456789\"},\"done\":false}\n";
    for (surface, framing, body) in [(&chat, Framing::Sse, text), (&ollama, Framing::Lines, line)] {
        let judge = |cap| Judge::new(Some(surface), framing, 1, false).with_cap(cap);
        let frames = || body.as_bytes().chunks(7);
        assert_eq!(judged(judge(1000), frames()).0, Ending::Truncated);
        assert_eq!(judged(judge(20), frames()).0, Ending::Complete);
    }
}

#[test]
fn an_event_that_nests_without_end_is_survived() {
    let nested = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":{}\n\n",
        "[".repeat(400_000)
    );
    let closed = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":{}{}}}}}]}}\n\n",
        "[".repeat(400_000),
        "]".repeat(400_000)
    );
    for body in [nested, closed] {
        let chat = surface(Dialect::OpenAi, Operation::Chat);
        let judge = Judge::new(Some(&chat), Framing::Sse, 2, false).with_first_output();
        assert_eq!(judged(judge, [body.as_bytes()]).0, Ending::Truncated);
    }
}
