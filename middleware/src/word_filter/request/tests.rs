use super::{
    super::rules::{Normalize, Rule, Side},
    *,
};
use crate::dialect::{Recognised, recognise};

const CHAT: &str = "/v1/chat/completions";

fn rules(words: &[&str], action: Action) -> Rules {
    let rule = Rule {
        words: words.iter().map(|it| (*it).into()).collect(),
        action,
        mask: "<\"x\">".into(),
        ..Rule::new("r")
    };
    Rules::new(&[rule], Side::Request).unwrap()
}

/// What becomes of a body, and how often something was found.
fn masked_body(path: &str, body: &str, words: &[&str]) -> (String, u64) {
    let found = recognise(&http::Method::POST, path, None, &http::HeaderMap::new());
    let Recognised::Surface(surface) = found else {
        panic!("{path} is a known path")
    };
    let root = json::check(body.as_bytes(), &json::Limits::default()).unwrap();
    let verdict = inspect(&rules(words, Action::Mask), &surface, root);
    let refused = inspect(&rules(words, Action::Reject), &surface, root);
    let times = verdict.found.iter().map(|(_, times)| *times).sum();
    assert_eq!(refused.refused.is_some(), times > 0, "{body}");
    let (mut out, mut at) = (String::new(), 0);
    for (span, with) in verdict.edits {
        out += &body[at..span.start];
        out += std::str::from_utf8(&with).unwrap();
        at = span.end;
    }
    out += &body[at..];
    json::check(out.as_bytes(), &json::Limits::default()).unwrap();
    (out, times)
}

/// D08.
#[test]
fn words_are_masked_where_they_are_written_and_nothing_else_changes() {
    let mask = r#"<\"x\">"#;
    let rows = [
        (CHAT, r#"{ "messages":[ {"content":"a bad b" } ]}"#, "bad"),
        (
            CHAT,
            r#"{"messages":[{"content":"BAD \u00e9 bad"}]}"#,
            "bad",
        ),
        (
            CHAT,
            "{\n \"messages\" : [ { \"content\" : \"bad\" , \"role\" : \"system\" } ] }",
            "bad",
        ),
        (
            CHAT,
            r#"{"prompt":"bad","messages":[{"role":"tool","content":"bad"}]}"#,
            "bad",
        ),
        (
            "/v1/messages",
            r#"{"system":"bad","messages":[{"content":[{"type":"tool_result","content":"bad"}]}]}"#,
            "bad",
        ),
        (
            "/v1/responses",
            r#"{"instructions":"bad","input":"bad"}"#,
            "bad",
        ),
        (
            "/v1beta/models/m:generateContent",
            r#"{"systemInstruction":{"parts":[{"text":"bad"}]},"contents":[{"parts":[{"text":"bad"}]}]}"#,
            "bad",
        ),
    ];
    for (path, body, word) in rows {
        let expected = body.replace(word, mask).replace("BAD", mask);
        let (out, times) = masked_body(path, body, &[word]);
        assert_eq!(out, expected);
        assert_eq!(times, expected.matches(mask).count() as u64);
    }
}

#[test]
fn escapes_and_surrogates_are_what_they_stand_for() {
    let rows = [
        (r#"say b\u0061d\n"#, "bad", r#"say <\"x\">\n"#),
        (r#"\ud83d\ude00!"#, "😀", r#"<\"x\">!"#),
        (r#"\"a\\b\" c"#, "a\\b", r#"\"<\"x\">\" c"#),
        (r#"tab\tbad\t\u0062ad."#, "bad", r#"tab\t<\"x\">\t<\"x\">."#),
    ];
    for (text, word, expected) in rows {
        let body = format!(r#"{{"messages":[{{"content":"{text}"}}]}}"#);
        let (out, _) = masked_body(CHAT, &body, &[word]);
        assert_eq!(
            out,
            format!(r#"{{"messages":[{{"content":"{expected}"}}]}}"#)
        );
    }
}

#[test]
fn parts_of_one_message_are_one_text_and_others_are_not() {
    let part = |text: &str| format!(r#"{{"type":"text","text":"{text}"}}"#);
    let body =
        |parts: &[String]| format!(r#"{{"messages":[{{"content":[{}]}}]}}"#, parts.join(","));
    let two = body(&[part("one ba"), part("d two")]);
    let expected = body(&[part(r#"one <\"x\">"#), part(" two")]);
    assert_eq!(masked_body(CHAT, &two, &["bad"]), (expected, 1));
    let image = r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,bad"}}"#;
    let apart = body(&[part("ba"), image.into(), part("d")]);
    assert_eq!(masked_body(CHAT, &apart, &["bad"]), (apart.clone(), 0));
    let messages = r#"{"messages":[{"content":"ba"},{"content":"d"}]}"#;
    assert_eq!(masked_body(CHAT, messages, &["bad"]).1, 0);
}

#[test]
fn of_arguments_only_string_values_are_searched_and_what_results_parses() {
    let call = |arguments: &str| {
        format!(
            r#"{{"messages":[{{"tool_calls":[{{"function":{{"name":"bad","arguments":"{arguments}"}}}}]}}]}}"#
        )
    };
    let body = call(r#"{\"bad\":\"so \\\"b\\u0061d\\\" it\",\"n\":[1,\"bad\"]}"#);
    let (out, times) = masked_body(CHAT, &body, &["bad"]);
    assert_eq!(times, 2);
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    let function = &out["messages"][0]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "bad");
    let arguments: serde_json::Value =
        serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(
        arguments,
        serde_json::json!({"bad": "so \"<\"x\">\" it", "n": [1, "<\"x\">"]})
    );
    // What is no JSON is text.
    assert_eq!(masked_body(CHAT, &call("so bad"), &["bad"]).1, 1);
}

/// A mask that reaches over the end of a value would take away what stands between: it refuses, as in answers.
#[test]
fn a_match_over_the_end_of_an_argument_refuses_also_where_it_would_be_masked() {
    let in_string = |a: &str, b: &str| {
        format!(
            r#"{{"messages":[{{"tool_calls":[{{"function":{{"arguments":"{{\"a\":\"{a}\",\"bad\":[\"{b}\"]}}"}}}}]}}]}}"#
        )
    };
    let object = |a: &str, b: &str| {
        format!(
            r#"{{"messages":[{{"content":[{{"type":"tool_use","input":{{"a":"{a}","b":["{b}"]}}}},{{"type":"tool_use","input":{{"a":"x"}}}}]}}]}}"#
        )
    };
    let rows = [
        (CHAT, in_string("so ba", "d it"), true, 0),
        (CHAT, in_string("so bad", "it"), false, 1),
        (CHAT, in_string("so bax", "d it"), false, 0),
        ("/v1/messages", object("so ba", "d it"), true, 0),
        ("/v1/messages", object("so bad", "it"), false, 1),
        (
            "/v1/messages",
            object("x", "ba").replace("\"x\"}", "\"d\"}"),
            false,
            0,
        ),
    ];
    for (path, body, refused, edits) in rows {
        let found = recognise(&http::Method::POST, path, None, &http::HeaderMap::new());
        let surface = found.surface().unwrap();
        let root = json::check(body.as_bytes(), &json::Limits::default()).unwrap();
        let verdict = inspect(&rules(&["bad"], Action::Mask), surface, root);
        assert_eq!(verdict.refused.is_some(), refused, "{body}");
        assert_eq!(verdict.edits.len(), edits, "{body}");
        let logged = inspect(&rules(&["bad"], Action::Log), surface, root);
        assert_eq!(logged.refused, None, "{body}");
        // Who explains is told the same.
        let (verdict, told, texts) = explain(&rules(&["bad"], Action::Mask), surface, root);
        assert_eq!(verdict.refused.is_some(), refused, "{body}");
        assert_eq!(
            told.iter().any(|it| it.action == Action::Reject),
            refused,
            "{body}"
        );
        assert!(texts >= 2, "{body}");
    }
}

#[test]
fn what_is_signed_is_counted_and_stays() {
    let body = r#"{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"bad","signature":"s"},{"type":"text","text":"bad"}]}]}"#;
    let (out, times) = masked_body("/v1/messages", body, &["bad"]);
    assert_eq!((out.matches("\"thinking\":\"bad\"").count(), times), (1, 2));
    assert!(out.contains(r#""text":"<\"x\">""#));
}

/// A data URL is data only if nothing else is in it.
#[test]
fn data_is_not_searched_and_nothing_hides_behind_its_name() {
    let body = |text: &str| {
        format!(
            r#"{{"contents":[{{"parts":[{{"functionResponse":{{"response":{{"a":"{text}"}}}}}}]}}]}}"#
        )
    };
    let path = "/v1beta/models/m:generateContent";
    assert_eq!(
        masked_body(path, &body("data:image/png;base64,bad+/bad="), &["bad"]).1,
        0
    );
    assert_eq!(
        masked_body(path, &body("data:x;base64,aa bad"), &["bad"]).1,
        1
    );
}

/// D08: however many, one edit a string, and the text is passed once.
#[test]
fn a_string_full_of_words_is_one_edit() {
    let text = "bad ".repeat(20_000);
    let body = format!(r#"{{"messages":[{{"content":"{text}"}}]}}"#);
    let (out, times) = masked_body(CHAT, &body, &["bad"]);
    assert_eq!(times, 20_000);
    assert_eq!(out, body.replace("bad", r#"<\"x\">"#));
}

/// D08: ten thousand words, each once in a megabyte, as they came and in normal form, where what is kept of a text at once is bounded.
#[test]
fn ten_thousand_words_are_found_in_a_megabyte() {
    let words: Vec<String> = (0..10_000).map(|number| format!("w{number:05}x")).collect();
    let text: String = words
        .iter()
        .map(|word| format!("{word}ish é un{word} {word}. {:>60}", "|"))
        .collect();
    assert!(text.len() > 900_000);
    let body = format!(r#"{{"messages":[{{"content":"{text}"}}]}}"#);
    let found = recognise(&http::Method::POST, CHAT, None, &http::HeaderMap::new());
    let root = json::check(body.as_bytes(), &json::Limits::default()).unwrap();
    for normalize in [Normalize::None, Normalize::Nfkc] {
        let rule = Rule {
            words: words.clone(),
            action: Action::Log,
            normalize,
            ..Rule::new("r")
        };
        let rules = Rules::new(&[rule], Side::Request).unwrap();
        let verdict = inspect(&rules, found.surface().unwrap(), root);
        assert_eq!(verdict.found, [(RuleIndex(0), 10_000)]);
    }
}
