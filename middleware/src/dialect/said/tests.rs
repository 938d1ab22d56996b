use http::{HeaderMap, Method};

use super::*;
use crate::dialect::recognise;

fn reader(path: &str) -> Reader {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let found = recognise(&Method::POST, path, query, &HeaderMap::new());
    Reader::new(found.surface().expect("a surface")).expect("texts")
}

/// What an event says: each text with its key, how it is written, and whether it is signed; where texts end.
fn told(reader: Reader, name: &str, data: &str) -> Vec<String> {
    let mut out = Vec::new();
    reader.read(name.as_bytes(), data.as_bytes(), &mut out);
    let told = |told: Told| match told {
        Told::Text(text) => {
            let Key { choice, part, sort } = text.key;
            let choice = if choice == u64::MAX {
                "-".to_owned()
            } else {
                choice.to_string()
            };
            let signed = if text.signed { " signed" } else { "" };
            let value = &data[text.span];
            format!(
                "{choice}.{part} {sort:?} {:?} {:?}{signed} {value}",
                text.form, text.told
            )
        }
        Told::Ends(whose) => format!("ends {whose:?}"),
        Told::Logprobs(span) => format!("logprobs {}", &data[span]),
    };
    out.into_iter().map(told).collect()
}

const CHAT: &str = "/v1/chat/completions";
const GEMINI: &str = "/v1beta/models/m:streamGenerateContent?alt=sse";

#[test]
fn a_chunk_of_a_chat_tells_each_member_that_is_text() {
    let data = r#"{"id":"x","choices":[{"delta":{"role":"assistant","content":"a","refusal":"b","reasoning":"c","reasoning_content":"d",
        "audio":{"id":"x","data":"eA==","transcript":"e"},"tool_calls":[{"index":1,"id":"x","function":{"name":"f","arguments":"{"}}],
        "reasoning_details":[{"type":"reasoning.text","text":"g"},{"text":"h","signature":"s"},{"type":"reasoning.encrypted","data":"x"}]},
        "index":2,"finish_reason":"stop","logprobs":{"content":[]}},
        {"index":0,"text":"i","logprobs":null,"finish_reason":null}],"usage":{"x":"y"}}"#;
    assert_eq!(
        told(reader(CHAT), "", data),
        [
            "2.0 Content Plain Piece \"a\"",
            "2.0 Refusal Plain Piece \"b\"",
            "2.0 Reasoning(Plain) Plain Piece \"c\"",
            "2.0 Reasoning(Content) Plain Piece \"d\"",
            "2.0 Transcript Plain Piece \"e\"",
            "2.2 Arguments Json Piece \"{\"",
            "2.0 Reasoning(Details) Plain Piece \"g\"",
            "2.0 Reasoning(Details) Plain Piece signed \"h\"",
            "logprobs {\"content\":[]}",
            "ends Finished(2)",
            "0.0 Text Plain Piece \"i\"",
        ]
    );
    assert_eq!(told(reader(CHAT), "", " [DONE] "), ["ends All"]);
    assert_eq!(
        told(reader(CHAT), "", r#"{"error":{"message":"x"}}"#),
        [""; 0]
    );
}

#[test]
fn what_stands_before_a_fault_is_told() {
    let data = r#"{"choices":[{"index":1,"delta":{"content":"a","refusal":"b"#;
    assert_eq!(
        told(reader(CHAT), "", data),
        ["1.0 Content Plain Piece \"a\""]
    );
}

#[test]
fn a_message_beside_a_delta_is_the_text_so_far() {
    let data = r#"{"choices":[{"message":{"content":"ab"},"index":0,"delta":{"content":"b"}}]}"#;
    assert_eq!(
        told(reader(CHAT), "", data),
        [
            "0.0 Content Plain Piece \"b\"",
            "0.0 Content Plain SoFar \"ab\""
        ]
    );
}

#[test]
fn parts_of_a_document_that_stand_side_by_side_have_one_key() {
    let data = r#"{"choices":[{"index":0,"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"},
        {"type":"thinking","thinking":[{"type":"text","text":"c"}]},{"type":"text","text":"d"}]}}]}"#;
    assert_eq!(
        told(reader(CHAT).of_document(), "", data),
        [
            "0.0 Content Plain Piece \"a\"",
            "0.0 Content Plain Piece \"b\"",
            "0.1 Reasoning(Plain) Plain Piece \"c\"",
            "0.2 Content Plain Piece \"d\"",
            "ends All",
        ]
    );
}

#[test]
fn content_that_is_an_object_is_told_value_by_value() {
    let data = r#"{"choices":[{"index":0,"message":{"content":{"title":"a","tags":["b",1]}}}]}"#;
    assert_eq!(
        told(reader(CHAT).of_document(), "", data),
        [
            "0.0 Content Value Piece \"a\"",
            "0.0 Content Value Piece \"b\"",
            "ends All"
        ]
    );
}

#[test]
fn transcriptions_are_told_with_their_segments() {
    let reader = reader("/v1/audio/transcriptions");
    let data = r#"{"text":"ab","segments":[{"id":0,"text":"a"},{"text":"b"}]}"#;
    assert_eq!(
        told(reader.of_document(), "", data),
        [
            "0.0 Transcript Plain Whole \"ab\"",
            "0.1 Transcript Plain Again \"a\"",
            "0.1 Transcript Plain Again \"b\"",
            "ends All",
        ]
    );
    let delta = r#"{"type":"transcript.text.delta","delta":"a"}"#;
    assert_eq!(
        told(reader, "", delta),
        ["0.0 Transcript Plain Piece \"a\""]
    );
    let done = r#"{"type":"transcript.text.done","text":"ab"}"#;
    assert_eq!(
        told(reader, "", done),
        ["ends All", "0.0 Transcript Plain Again \"ab\""]
    );
}

#[test]
fn responses_tell_deltas_and_what_is_said_again() {
    let reader = reader("/v1/responses");
    let cases: [(&str, &[&str]); 7] = [
        (
            r#"{"type":"response.output_text.delta","output_index":1,"content_index":2,"delta":"a","logprobs":[{"token":"a"}]}"#,
            &[
                "logprobs [{\"token\":\"a\"}]",
                "1.2 Content Plain Piece \"a\"",
            ],
        ),
        (
            r#"{"arguments":"{}","type":"response.function_call_arguments.done","output_index":1}"#,
            &[
                "ends Key(Key { choice: 1, part: 0, sort: Arguments })",
                "1.0 Arguments Json Again \"{}\"",
            ],
        ),
        (
            r#"{"type":"response.reasoning_summary_part.done","output_index":0,"summary_index":1,"part":{"type":"summary_text","text":"s"}}"#,
            &["ends Part(0, 1)", "0.0 Content Plain Again \"s\""],
        ),
        (
            r#"{"type":"response.output_item.done","output_index":3,"item":{"type":"custom_tool_call","input":"free"}}"#,
            &["ends Choice(3)", "3.0 Arguments Plain Again \"free\""],
        ),
        (
            r#"{"type":"response.completed","response":{"instructions":"x","output":[{"type":"reasoning","summary":[{"text":"a"}],"encrypted_content":"x"},
                {"type":"message","content":[{"type":"output_text","text":"b"},{"type":"refusal","refusal":"c"}]}]}}"#,
            &[
                "ends All",
                "-.0 Reasoning(Summary) Plain Again \"a\"",
                "-.0 Content Plain Again \"b\"",
                "-.0 Refusal Plain Again \"c\"",
            ],
        ),
        (
            r#"{"type":"response.created","response":{"output":[],"instructions":"x","tools":[{"description":"y"}]}}"#,
            &[],
        ),
        (
            r#"{"type":"response.code_interpreter_call_code.delta","output_index":0,"delta":"x = 1"}"#,
            &["0.0 Code Plain Piece \"x = 1\""],
        ),
    ];
    for (data, expected) in cases {
        assert_eq!(told(reader, "", data), expected, "{data}");
    }
}

#[test]
fn a_document_of_responses_tells_its_items() {
    let data = r#"{"instructions":"x","output":[{"type":"message","content":[{"type":"output_text","text":"a"},{"type":"output_text","text":"b"}]},
        {"type":"function_call","arguments":"{}"},{"type":"web_search_call","action":{"type":"search","query":"q"}}]}"#;
    assert_eq!(
        told(reader("/v1/responses").of_document(), "", data),
        [
            "0.0 Content Plain Piece \"a\"",
            "0.0 Content Plain Piece \"b\"",
            "1.0 Arguments Json Again \"{}\"",
            "2.0 Code Value Again \"q\"",
            "ends All",
        ]
    );
}

#[test]
fn anthropic_tells_blocks_and_where_they_stop() {
    let reader = reader("/v1/messages");
    let cases: [(&str, &[&str]); 6] = [
        (
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"},"index":4}"#,
            &["0.4 Content Plain Piece \"a\""],
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"a"}}"#,
            &["0.1 Reasoning(Plain) Plain Piece signed \"a\""],
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a"}}"#,
            &["0.1 Arguments Json Piece \"{\\\"a\""],
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"x"}}"#,
            &[],
        ),
        (
            r#"{"type":"content_block_stop","index":1}"#,
            &["ends Part(0, 1)"],
        ),
        (
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            &["ends All"],
        ),
    ];
    for (data, expected) in cases {
        assert_eq!(told(reader, "", data), expected, "{data}");
    }
    let data = r#"{"content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"},{"type":"text","text":"b"},
        {"type":"tool_use","input":{"q":{"r":"c"}}},{"type":"web_search_tool_result","content":[{"title":"x"}]},{"type":"text","text":"d"}]}"#;
    assert_eq!(
        told(reader.of_document(), "", data),
        [
            "0.0 Reasoning(Plain) Plain Piece signed \"t\"",
            "0.1 Content Plain Piece \"a\"",
            "0.1 Content Plain Piece \"b\"",
            "0.2 Arguments Value Piece \"c\"",
            "ends Key(Key { choice: 0, part: 2, sort: Arguments })",
            "0.4 Content Plain Piece \"d\"",
            "ends All",
        ]
    );
}

#[test]
fn gemini_tells_parts_and_a_part_of_another_sort_ends_those_before_it() {
    let data = r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"a","thought":true},{"text":"b","thoughtSignature":"x"}]}}]}"#;
    let all = told(reader(GEMINI), "", data);
    let texts: Vec<_> = all
        .iter()
        .filter(|told| !told.starts_with("ends"))
        .collect();
    assert_eq!(
        texts,
        [
            "1.0 Reasoning(Plain) Plain Piece \"a\"",
            "1.0 Content Plain Piece signed \"b\""
        ]
    );
    assert!(
        all.iter()
            .any(|told| told == "ends Key(Key { choice: 1, part: 0, sort: Reasoning(Plain) })")
    );
    let call = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"b"}}},{"executableCode":{"language":"PYTHON","code":"c"}}]},"finishReason":"STOP"}]}"#;
    let all = told(reader(GEMINI).of_document(), "", call);
    assert_eq!(
        all,
        [
            "0.0 Arguments Value Piece \"b\"",
            "0.1 Code Plain Piece \"c\"",
            "ends Finished(0)",
            "ends All"
        ]
    );
}

#[test]
fn ollama_and_cohere_tell_text_plan_and_calls() {
    let data = r#"{"message":{"content":"a","thinking":"b","tool_calls":[{"function":{"name":"f","arguments":{"c":"d"}}}]},"done":true}"#;
    assert_eq!(
        told(reader("/api/chat"), "", data),
        [
            "0.0 Content Plain Piece \"a\"",
            "0.0 Reasoning(Plain) Plain Piece \"b\"",
            "0.1 Arguments Value Piece \"d\"",
            "ends Key(Key { choice: 0, part: 1, sort: Arguments })",
            "ends All"
        ]
    );
    let reader = reader("/v2/chat");
    let delta =
        r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"a"}}}}"#;
    assert_eq!(told(reader, "", delta), ["0.2 Content Plain Piece \"a\""]);
    let call = r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"{"}}}}}"#;
    assert_eq!(told(reader, "", call), ["0.3 Arguments Json Piece \"{\""]);
    let plan = r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"p"}}}"#;
    assert_eq!(
        told(reader, "", plan),
        ["0.0 Reasoning(Summary) Plain Piece \"p\""]
    );
    let document = r#"{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"tool_calls":[{"function":{"arguments":"{}"}}]}}"#;
    assert_eq!(
        told(reader.of_document(), "", document),
        [
            "0.0 Content Plain Piece \"a\"",
            "0.0 Content Plain Piece \"b\"",
            "0.3 Arguments Json Piece \"{}\"",
            "ends All"
        ]
    );
}

#[test]
fn bedrock_tells_its_own_blocks_and_what_it_wraps() {
    let converse = reader("/model/m/converse-stream");
    let text = r#"{"contentBlockIndex":2,"delta":{"text":"a"}}"#;
    assert_eq!(
        told(converse, "contentBlockDelta", text),
        ["0.2 Content Plain Piece \"a\""]
    );
    let call = r#"{"contentBlockIndex":1,"delta":{"toolUse":{"input":"{"}}}"#;
    assert_eq!(
        told(converse, "contentBlockDelta", call),
        ["0.1 Arguments Json Piece \"{\""]
    );
    let thought = r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"t"}}}"#;
    assert_eq!(
        told(converse, "contentBlockDelta", thought),
        ["0.0 Reasoning(Plain) Plain Piece signed \"t\""]
    );
    assert_eq!(
        told(converse, "contentBlockStop", r#"{"contentBlockIndex":1}"#),
        ["ends Part(0, 1)"]
    );
    let invoke = reader("/model/m/invoke-with-response-stream");
    for (data, expected) in [
        (
            r#"{"outputText":"a","index":0}"#,
            "0.0 Content Plain Piece \"a\"",
        ),
        (r#"{"generation":"a"}"#, "0.0 Content Plain Piece \"a\""),
        (
            r#"{"contentBlockDelta":{"delta":{"text":"a"},"contentBlockIndex":1}}"#,
            "0.1 Content Plain Piece \"a\"",
        ),
        (
            r#"{"type":"content_block_delta","index":1,"delta":{"text":"a"}}"#,
            "0.1 Content Plain Piece \"a\"",
        ),
        (
            r#"{"choices":[{"index":1,"delta":{"content":"a"}}]}"#,
            "1.0 Content Plain Piece \"a\"",
        ),
        (
            r#"{"outputs":[{"text":"a"}]}"#,
            "0.0 Content Plain Piece \"a\"",
        ),
    ] {
        assert_eq!(told(invoke, "chunk", data), [expected], "{data}");
    }
    let document =
        r#"{"output":{"message":{"content":[{"text":"a"},{"toolUse":{"input":{"b":"c"}}}]}}}"#;
    assert_eq!(
        told(converse.of_document(), "", document),
        [
            "0.0 Content Plain Piece \"a\"",
            "0.1 Arguments Value Piece \"c\"",
            "ends Key(Key { choice: 0, part: 1, sort: Arguments })",
            "ends All"
        ]
    );
}

#[test]
fn surfaces_without_generated_text_have_no_reader() {
    for path in [
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/moderations",
        "/v1/messages/count_tokens",
    ] {
        let found = recognise(&Method::POST, path, None, &HeaderMap::new());
        assert!(Reader::new(found.surface().unwrap()).is_none(), "{path}");
    }
}
