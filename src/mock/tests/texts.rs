//! That what comes back is what was said, whatever it was.

use proptest::prelude::*;

use super::*;
use crate::mock::text;

/// Any characters, control characters, quotes and wide spaces more often than chance has them.
fn any_text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(
        "\"\\/\u{0}\u{7f}\u{2028}\u{2029}\u{3000}\u{a0}\u{85}\r\n\t 😀e\u{301}"
            .chars()
            .collect::<Vec<_>>(),
    );
    prop::collection::vec(prop_oneof![any::<char>(), special], 0..40).prop_map(String::from_iter)
}

fn said(way: Way, streamed: bool, user: &str) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(way.say("echo", streamed, user))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_comes_back_exactly(user in any_text()) {
        for way in WAYS {
            for streamed in [true, false] {
                let seen = said(way, streamed, &user);
                prop_assert_eq!(way.text(&seen, streamed), format!("Echo: {user}"), "{:?} {}", way, streamed);
            }
        }
    }

    #[test]
    fn any_request_id_and_model_name_keep_every_event_valid(id in "[ -~]{1,128}", folder in any_text()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for way in [Way::Chat, Way::Completions, Way::Responses, Way::Messages] {
            let model = format!("{folder}/echo");
            let (path, body) = way.request(&model, true, "hi");
            let headers = [("x-request-id", id.trim())];
            let seen = runtime.block_on(ask(Method::POST, &path, &headers, body.to_string()));
            prop_assert_eq!(way.text(&seen, true), "Echo: hi");
        }
    }

    #[test]
    fn words_are_cut_behind_their_white_space(user in any_text()) {
        let whole = format!("Echo: {user}");
        let (mut rest, mut words) = (whole.as_str(), 0);
        while !rest.is_empty() {
            let word = text::first_word(rest);
            prop_assert_eq!(word.split_whitespace().count(), 1, "{:?}", word);
            prop_assert!(!word.starts_with(char::is_whitespace));
            (rest, words) = (&rest[word.len()..], words + 1);
        }
        prop_assert_eq!(words, text::words(&whole));
    }
}

#[tokio::test]
async fn the_last_text_of_the_user_is_what_is_echoed() {
    let messages = json!([
        { "role": "system", "content": "be brief" },
        { "role": "user", "content": "first" },
        { "role": "user", "content": [{ "type": "text", "text": "last " }, { "type": "image_url", "image_url": {} }, { "type": "text", "text": "words" }] },
        { "role": "assistant", "content": "yes" },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": "42" }] },
    ]);
    let body = json!({ "model": "echo", "messages": messages });
    let seen = post("/v1/messages", &body).await;
    assert_eq!(Way::Messages.text(&seen, false), "Echo: last words");
    assert_eq!(
        seen.json()["usage"]["input_tokens"],
        7,
        "all texts are counted"
    );
    let items = json!([
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "hello" }] },
        { "type": "reasoning", "content": [{ "type": "reasoning_text", "text": "hm" }] },
        { "type": "function_call_output", "call_id": "c", "output": "4 2" },
    ]);
    let body = json!({ "model": "echo", "instructions": "be brief", "input": items });
    let seen = post("/v1/responses", &body).await;
    assert_eq!(Way::Responses.text(&seen, false), "Echo: hello");
    assert_eq!(seen.json()["usage"]["input_tokens"], 6);
    let contents = json!([{ "role": "user", "parts": [{ "text": "a" }] }, { "role": "model", "parts": [{ "text": "b" }] }]);
    let seen = post(
        "/v1beta/models/echo:generateContent",
        &json!({ "contents": contents }),
    )
    .await;
    assert_eq!(Way::Gemini.text(&seen, false), "Echo: a");
}

#[tokio::test]
async fn without_a_text_of_the_user_the_echo_is_empty() {
    let bodies = [
        json!({ "model": "echo" }),
        json!({ "model": "echo", "messages": [] }),
        json!({ "model": "echo", "messages": null }),
        json!({ "model": "echo", "messages": [{ "role": "assistant", "content": "hi" }] }),
        json!({ "model": "echo", "messages": [{ "role": "user", "content": 7 }] }),
    ];
    for body in bodies {
        let seen = post("/v1/chat/completions", &body).await;
        assert_eq!(Way::Chat.text(&seen, false), "Echo: ", "{body}");
        assert!(seen.json()["usage"]["prompt_tokens"].as_u64().unwrap() >= 1);
    }
}
