//! The word filter over the wire, and what the file says of it.

use tollgate_testing::upstream::{Script, Upstream};

use crate::harness::{Ask, Stage, provider};

const CHAT: &str = "/v1/chat/completions";

/// A gateway with these rules, and its provider.
async fn stage(rules: &str) -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let said =
        r#"{"choices":[{"index":0,"message":{"content":"a blocked b"},"finish_reason":"stop"}]}"#;
    upstream.serve_default(Script::answer(200, "application/json", said));
    let provider = provider("acme", "openai", &upstream, "/v1", "");
    let yaml = format!(
        "providers:\n{provider}routes:\n  - {{ name: free, match: {{ model: free }}, targets: [acme], layers: {{ word_filter: off }} }}\n  \
         - {{ name: default, match: {{}}, targets: [acme] }}\nlayers: {{ word_filter: {{ {rules} }} }}\n"
    );
    (Stage::start(&yaml), upstream)
}

fn body(model: &str, text: &str) -> Vec<u8> {
    format!(r#" {{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}] }}"#)
        .into_bytes()
}

/// D08.
#[tokio::test]
async fn what_is_asked_is_refused_masked_or_counted_as_each_rule_says() {
    let rules = "words: [forbidden], apply_to: [request], rules: [{ id: mail, entities: [email], action: mask, apply_to: [request] }, \
                 { id: seen, regex: ['\\bticket-[0-9]+\\b'], action: log }]";
    let (stage, upstream) = stage(rules).await;
    let refused = body("m", "a Forb\\u0069dden word");
    let answer = stage.ask(&Ask::post("refused", CHAT, &refused)).await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.header("tollgate-refused-by"), Some("word_filter"));
    assert!(answer.text().contains("content_blocked") && answer.text().contains("default"));
    assert!(!answer.text().to_lowercase().contains("forbidden"));
    let line = stage.line("refused").await;
    assert_eq!(
        (&line["refused_by"], &line["error"]),
        (&"word_filter".into(), &"content_blocked".into())
    );
    assert_eq!(
        line["rules"],
        serde_json::json!([{"rule": "default", "action": "reject", "times": 1}])
    );

    let masked = body("m", "I am a@b.example, ticket-17");
    let answer = stage.ask(&Ask::post("masked", CHAT, &masked)).await;
    assert_eq!(answer.status(), 200);
    let seen = upstream.finished("masked", 1).await;
    assert_eq!(seen.body, body("m", "I am ***, ticket-17"));
    assert_eq!(
        seen.header("content-length"),
        Some(seen.body.len().to_string().as_str())
    );
    let line = stage.line("masked").await;
    assert_eq!(
        line["rules"],
        serde_json::json!([{"rule": "mail", "action": "mask", "times": 1}, {"rule": "seen", "action": "log", "times": 1}])
    );
    // A route that turns it off.
    let free = body("free", "a forbidden word");
    let answer = stage.ask(&Ask::post("free", CHAT, &free)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.finished("free", 1).await.body, free);
    stage.stop().await;
}

/// D08: what is written in full width, with characters that nobody sees or with accents that stand apart, both ways.
#[tokio::test]
async fn words_in_another_normal_form_are_masked_as_they_are_written() {
    let rules = "words: [forbidden, café, blocked], normalize: nfkc, action: mask";
    let (stage, upstream) = stage(rules).await;
    let text = r"a Ｆｏｒｂｉｄｄｅｎ for\u200bbid\u00adden cafe\u0301 CAFÉ cafe";
    let answer = stage.ask(&Ask::post("form", CHAT, &body("m", text))).await;
    assert_eq!(answer.status(), 200);
    let seen = upstream.finished("form", 1).await;
    let expected = body("m", "a *** *** *** *** cafe");
    assert_eq!(String::from_utf8(seen.body), String::from_utf8(expected));
    assert!(
        answer.text().contains(r#""content":"a *** b""#),
        "{}",
        answer.text()
    );
    stage.stop().await;
}

#[tokio::test]
async fn what_is_answered_is_refused_before_its_head() {
    let (stage, _upstream) = stage("words: [blocked], apply_to: [response]").await;
    let answer = stage
        .ask(&Ask::post("document", CHAT, &body("m", "blocked")))
        .await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("response_rejected") && !answer.text().contains("a blocked b"));
    let line = stage.line("document").await;
    assert_eq!(
        (&line["ended"], &line["refused_by"]),
        (&"refused".into(), &"word_filter".into())
    );
    stage.stop().await;
}
