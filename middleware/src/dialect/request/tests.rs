use super::*;
use crate::json::{Limits, check};

fn surface(dialect: Dialect, operation: Operation) -> Surface {
    Surface {
        dialect,
        operation,
        prefix: 0..0,
        model: None,
        stream: None,
    }
}

const CHAT: Surface = Surface {
    dialect: Dialect::OpenAi,
    operation: Operation::Chat,
    prefix: 0..3,
    model: None,
    stream: None,
};

fn checked(body: &str) -> Value<'_> {
    check(body.as_bytes(), &Limits::default()).expect("valid JSON")
}

fn asked<'a>(surface: &Surface, body: &'a str) -> Asked<'a> {
    read(surface, checked(body)).expect("fit")
}

fn told(surface: &Surface, body: &str) -> Vec<(Role, String)> {
    let mut told = Vec::new();
    texts(surface, checked(body), &mut |role, value| {
        told.push((role, value.as_str().expect("a string").into_owned()));
    });
    told
}

fn words(of: &[(Role, String)]) -> Vec<(Role, &str)> {
    of.iter()
        .map(|(role, text)| (*role, text.as_str()))
        .collect()
}

#[test]
fn chat_is_read_in_one_pass() {
    let body = r#"{"mod\u0065l": "g\u0070t", "stream": true, "n": 2, "max_tokens": 4e1, "max_completion_tokens": 7,
        "stream_options": {"include_usage": true}, "tools": [{}], "user": "u", "metadata": {"k": "v"}}"#;
    let asked = asked(&CHAT, body);
    assert_eq!(asked.model.as_deref(), Some("gpt"));
    assert_eq!(&body[asked.model_span.expect("a span")], r#""g\u0070t""#);
    assert!(asked.stream && asked.include_usage && asked.tools);
    assert_eq!((asked.choices, asked.user.as_deref()), (2, Some("u")));
    assert_eq!(
        asked
            .metadata
            .expect("labels")
            .0
            .get("k")
            .and_then(|v| v.as_str())
            .as_deref(),
        Some("v")
    );
    let limits: Vec<_> = asked
        .limits
        .iter()
        .map(|l| (l.name, &body[l.span.clone()], l.value))
        .collect();
    assert_eq!(
        limits,
        [
            ("max_tokens", "4e1", Some(40)),
            ("max_completion_tokens", "7", Some(7))
        ]
    );
}

#[test]
fn null_is_as_good_as_absent() {
    let body = r#"{"model":null,"stream":null,"n":null,"max_tokens":null,"user":null,"stream_options":{"include_usage":null}}"#;
    let absent = Asked {
        prompt: (body.len() as u64, 0),
        ..asked(&CHAT, "{}")
    };
    assert_eq!(asked(&CHAT, body), absent);
}

#[test]
fn a_member_of_a_wrong_type_is_refused_with_its_place() {
    for (body, member) in [
        (r#"{"model":1}"#, "model"),
        (r#"{"stream":"true"}"#, "stream"),
        (r#"{"n":1.5}"#, "n"),
        (r#"{"n":-1}"#, "n"),
        (r#"{"user":{}}"#, "user"),
        (
            r#"{"stream_options":{"include_usage":1}}"#,
            "stream_options.include_usage",
        ),
        ("[]", ""),
    ] {
        let unfit = read(&CHAT, checked(body)).expect_err(body);
        assert_eq!(unfit.member, member, "{body}");
    }
    let body = r#"{"stream": "no"}"#;
    let unfit = read(&CHAT, checked(body)).expect_err("unfit");
    assert_eq!(&body[unfit.offset..], r#""no"}"#);
}

/// Ollama and others are written in Go, whose reader takes a member in any letters for the one it looks for.
#[test]
fn a_model_in_other_letters_is_unfit_where_the_body_names_it() {
    for body in [
        r#"{"Model":"a"}"#,
        r#"{"model":"a","MODEL":7}"#,
        r#"{"m\u004fdel":"a"}"#,
    ] {
        let unfit = read(&CHAT, checked(body)).expect_err(body);
        assert_eq!((unfit.member, unfit.alike), ("model", true), "{body}");
    }
    for body in [
        r#"{"Models":"a"}"#,
        r#"{"x":{"Model":"a"}}"#,
        r#"{"Model":null}"#,
    ] {
        assert!(read(&CHAT, checked(body)).is_ok(), "{body}");
    }
    let path = Surface {
        model: Some(0..1),
        ..CHAT
    };
    assert!(read(&path, checked(r#"{"Model":"a"}"#)).is_ok());
}

#[test]
fn of_several_unfit_members_the_first_is_told() {
    let body = r#"{"n":"two","stream":"no","model":"m"}"#;
    let unfit = read(&CHAT, checked(body)).expect_err("unfit");
    assert_eq!((unfit.member, unfit.offset), ("n", 5));
}

#[test]
fn tools_are_offered_only_where_there_are_some() {
    for (body, tools) in [
        (r#"{"tools":[ ]}"#, false),
        (r#"{"tools":{}}"#, false),
        (r#"{"tools":[[]]}"#, true),
        (r#"{"functions":[ {}]}"#, true),
        (r#"{"toolConfig":{"tools":[]}}"#, false),
        (r#"{"toolConfig":{"tools":[{}]}}"#, true),
    ] {
        assert_eq!(asked(&CHAT, body).tools, tools, "{body}");
    }
}

#[test]
fn every_dialect_spells_its_limit_its_own_way() {
    let limit = |dialect, operation, body: &str| {
        let asked = read(&surface(dialect, operation), checked(body)).expect("fit");
        asked.limits.first().map(|limit| (limit.name, limit.value))
    };
    assert_eq!(
        limit(
            Dialect::OpenAi,
            Operation::Responses,
            r#"{"max_output_tokens":5}"#
        ),
        Some(("max_output_tokens", Some(5)))
    );
    assert_eq!(
        limit(
            Dialect::Gemini,
            Operation::Generate,
            r#"{"generationConfig":{"maxOutputTokens":6}}"#
        ),
        Some(("generationConfig.maxOutputTokens", Some(6)))
    );
    assert_eq!(
        limit(
            Dialect::Ollama,
            Operation::Chat,
            r#"{"options":{"num_predict":-1}}"#
        ),
        Some(("options.num_predict", None))
    );
    assert_eq!(
        limit(
            Dialect::Bedrock,
            Operation::Converse,
            r#"{"inferenceConfig":{"maxTokens":8}}"#
        ),
        Some(("inferenceConfig.maxTokens", Some(8)))
    );
}

#[test]
fn the_path_wins_over_the_body() {
    let gemini = Surface {
        model: Some(0..1),
        stream: Some(true),
        ..surface(Dialect::Gemini, Operation::Generate)
    };
    let asked = asked(
        &gemini,
        r#"{"model":"other","stream":false,"generationConfig":{"candidateCount":3}}"#,
    );
    assert_eq!((asked.model, asked.stream, asked.choices), (None, true, 3));
}

#[test]
fn ollama_streams_unless_told_otherwise() {
    let ollama = surface(Dialect::Ollama, Operation::Chat);
    assert!(asked(&ollama, "{}").stream);
    assert!(!asked(&ollama, r#"{"stream":false}"#).stream);
    assert!(!asked(&surface(Dialect::Ollama, Operation::Embeddings), "{}").stream);
}

#[test]
fn anthropic_names_its_user_in_the_metadata() {
    let anthropic = surface(Dialect::Anthropic, Operation::Messages);
    assert_eq!(
        asked(&anthropic, r#"{"metadata":{"user_id":"u-1"}}"#)
            .user
            .as_deref(),
        Some("u-1")
    );
}

#[test]
fn texts_of_chat_come_in_order_with_their_roles() {
    let body = r#"{"messages":[
        {"role":"developer","content":"sys"},
        {"role":"user","content":[{"type":"text","text":"one"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"two"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
        {"role":"tool","tool_call_id":"i","content":"result"},
        {"content":"last","role":"user"}],"model":"m"}"#;
    let told = told(&CHAT, body);
    assert_eq!(
        words(&told),
        [
            (Role::System, "sys"),
            (Role::User, "one"),
            (Role::User, "two"),
            (Role::Assistant, "{\"a\":1}"),
            (Role::Tool, "result"),
            (Role::User, "last"),
        ]
    );
    assert_eq!(
        last_user_text(&CHAT, checked(body)).as_deref(),
        Some("last")
    );
}

#[test]
fn texts_of_anthropic_include_thoughts_tool_input_and_results() {
    let body = r#"{"system":[{"type":"text","text":"sys"}],"messages":[
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"zz"},{"type":"tool_use","id":"t","name":"f","input":{"q":["deep"]}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"res"}]},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"doc"}},
            {"type":"image","source":{"type":"base64","data":"AAAA"}},{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#;
    let anthropic = surface(Dialect::Anthropic, Operation::Messages);
    assert_eq!(
        words(&told(&anthropic, body)),
        [
            (Role::System, "sys"),
            (Role::Assistant, "hm"),
            (Role::Assistant, "deep"),
            (Role::Tool, "res"),
            (Role::User, "doc"),
            (Role::User, "a"),
            (Role::User, "b"),
        ]
    );
    assert_eq!(
        last_user_text(&anthropic, checked(body)).as_deref(),
        Some("doc\na\nb")
    );
}

#[test]
fn texts_of_gemini_bedrock_and_responses_are_found() {
    let gemini = surface(Dialect::Gemini, Operation::Generate);
    let body = r#"{"systemInstruction":{"parts":[{"text":"sys"}]},"contents":[
        {"role":"model","parts":[{"functionCall":{"name":"f","args":{"x":"arg"}}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"r":"res"}}},{"text":"hi"},{"inlineData":{"data":"AA"}}]}]}"#;
    assert_eq!(
        words(&told(&gemini, body)),
        [
            (Role::System, "sys"),
            (Role::Assistant, "arg"),
            (Role::Tool, "res"),
            (Role::User, "hi")
        ]
    );
    let bedrock = surface(Dialect::Bedrock, Operation::Converse);
    let body = r#"{"messages":[{"role":"user","content":[{"text":"q"},{"toolResult":{"toolUseId":"i","content":[{"json":{"k":"v"}}]}}]}],"system":[{"text":"s"}]}"#;
    assert_eq!(
        words(&told(&bedrock, body)),
        [(Role::User, "q"), (Role::Tool, "v"), (Role::System, "s")]
    );
    let responses = surface(Dialect::OpenAi, Operation::Responses);
    let body = r#"{"instructions":"sys","input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},
        {"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"res"}]}"#;
    assert_eq!(
        words(&told(&responses, body)),
        [
            (Role::System, "sys"),
            (Role::User, "q"),
            (Role::Assistant, "{}"),
            (Role::Tool, "res")
        ]
    );
    assert_eq!(
        words(&told(&responses, r#"{"input":"plain"}"#)),
        [(Role::User, "plain")]
    );
}

#[test]
fn texts_of_prompts_inputs_and_batches_are_found() {
    let completions = surface(Dialect::OpenAi, Operation::Completions);
    assert_eq!(
        words(&told(&completions, r#"{"prompt":["a","b"],"suffix":"c"}"#)),
        [(Role::User, "a"), (Role::User, "b"), (Role::User, "c")]
    );
    assert_eq!(told(&completions, r#"{"prompt":[1,2]}"#), []);
    let embeddings = surface(Dialect::Gemini, Operation::Embeddings);
    let body = r#"{"requests":[{"model":"m","content":{"parts":[{"text":"x"}]}},{"content":{"parts":[{"text":"y"}]}}]}"#;
    assert_eq!(
        words(&told(&embeddings, body)),
        [(Role::User, "x"), (Role::User, "y")]
    );
    let rerank = surface(Dialect::Cohere, Operation::Rerank);
    let body = r#"{"query":"q","documents":["d",{"text":"e"}]}"#;
    assert_eq!(
        words(&told(&rerank, body)),
        [(Role::User, "q"), (Role::User, "d"), (Role::User, "e")]
    );
    assert_eq!(last_user_text(&rerank, checked("{}")), None);
}

#[test]
fn a_body_that_nests_without_end_is_survived() {
    let body = format!(
        "{{\"prompt\":{}\"x\"{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let mut told = 0;
    texts(
        &CHAT,
        Value::parse(body.as_bytes()).expect("a value"),
        &mut |_, _| told += 1,
    );
    assert_eq!(told, 0);
}

/// What is counted as text, and the images and files beside it.
#[test]
fn base64_is_no_text_wherever_a_dialect_puts_it() {
    let (image, long) = ("QUJD".repeat(500), "some words ".repeat(200));
    let counted = |body: &str| {
        let asked = read(&CHAT, checked(body)).expect("an object");
        (body.len() as u64 - asked.prompt.0, asked.prompt.1)
    };
    for (body, expected) in [
        (r#"{"url":"data:image/png;base64,IMAGE"}"#, (2000, 1)),
        (
            r#"{"a":[{"data" : "IMAGE"},{"bytes":"IMAGE"}],"b":"LONG"}"#,
            (4000, 2),
        ),
        (
            r#"{"data":"LONG","text":"IMAGE","more":"x;base64,LONG"}"#,
            (0, 0),
        ),
        (r#"{"data":"QUJD","url":"data:;base64,QUJD"}"#, (0, 0)),
        ("{}", (0, 0)),
    ] {
        let body = body.replace("IMAGE", &image).replace("LONG", &long);
        assert_eq!(counted(&body), expected, "{body}");
    }
}
