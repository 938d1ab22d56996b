//! OpenAI's chat completions and the older completions.

use serde_json::{Value, json};

use super::{answer::Answer, text};

pub(super) fn document(answer: &Answer) -> Value {
    let message =
        json!({ "role": "assistant", "content": answer.text, "refusal": null, "annotations": [] });
    json!({
        "id": format!("chatcmpl-{}", answer.id),
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" }],
        "usage": usage(answer),
    })
}

pub(super) fn opening(answer: &Answer) -> Vec<String> {
    let delta = json!({ "role": "assistant", "content": "" });
    vec![chunk(answer, &delta, &Value::Null)]
}

pub(super) fn around_word(answer: &Answer) -> (String, String) {
    let before = format!(
        r#"data: {{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"choices":[{{"index":0,"delta":{{"content":"#,
        text::json(&format!("chatcmpl-{}", answer.id)),
        answer.created,
        text::json(&answer.model),
    );
    let after = format!("}},\"finish_reason\":null}}]{}}}\n\n", null_usage(answer));
    (before, after)
}

pub(super) fn closing(answer: &Answer) -> Vec<String> {
    let finish = chunk(answer, &json!({}), &json!("stop"));
    ended(finish, answer, "chatcmpl", "chat.completion.chunk")
}

pub(super) fn completion(answer: &Answer) -> Value {
    json!({
        "id": format!("cmpl-{}", answer.id),
        "object": "text_completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [{ "index": 0, "text": answer.text, "logprobs": null, "finish_reason": "stop" }],
        "usage": usage(answer),
    })
}

pub(super) fn around_completed_word(answer: &Answer) -> (String, String) {
    let before = format!(
        r#"data: {{"id":{},"object":"text_completion","created":{},"model":{},"choices":[{{"index":0,"text":"#,
        text::json(&format!("cmpl-{}", answer.id)),
        answer.created,
        text::json(&answer.model),
    );
    let after = format!(
        ",\"logprobs\":null,\"finish_reason\":null}}]{}}}\n\n",
        null_usage(answer)
    );
    (before, after)
}

pub(super) fn completed(answer: &Answer) -> Vec<String> {
    let choices = json!([{ "index": 0, "text": "", "logprobs": null, "finish_reason": "stop" }]);
    let finish = event(answer, "cmpl", "text_completion", &choices, &Value::Null);
    ended(finish, answer, "cmpl", "text_completion")
}

fn ended(finish: String, answer: &Answer, prefix: &str, object: &str) -> Vec<String> {
    let mut events = vec![finish];
    if answer.include_usage {
        events.push(event(answer, prefix, object, &json!([]), &usage(answer)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn chunk(answer: &Answer, delta: &Value, finish: &Value) -> String {
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    event(
        answer,
        "chatcmpl",
        "chat.completion.chunk",
        &choices,
        &Value::Null,
    )
}

/// A chunk has a `usage` only if one was asked for, and then only the last one's says something.
fn event(answer: &Answer, prefix: &str, object: &str, choices: &Value, usage: &Value) -> String {
    let mut event = json!({
        "id": format!("{prefix}-{}", answer.id),
        "object": object,
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
    });
    if answer.include_usage {
        event["usage"] = usage.clone();
    }
    format!("data: {event}\n\n")
}

fn null_usage(answer: &Answer) -> &'static str {
    if answer.include_usage {
        ",\"usage\":null"
    } else {
        ""
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.prompt,
        "completion_tokens": answer.words,
        "total_tokens": answer.total(),
        "prompt_tokens_details": { "cached_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}
