//! Anthropic's messages.

use serde_json::{Value, json};

use super::answer::{Answer, named_event};

pub(super) fn document(answer: &Answer) -> Value {
    let content = json!([{ "type": "text", "text": answer.text }]);
    message(answer, &content, &json!("end_turn"), answer.words)
}

pub(super) fn opening(answer: &Answer) -> Vec<String> {
    // The provider's own streams count one token of output before the first is there.
    let start = message(answer, &json!([]), &Value::Null, 1);
    let block = json!({ "type": "text", "text": "" });
    vec![
        named_event(&json!({ "type": "message_start", "message": start })),
        named_event(&json!({ "type": "content_block_start", "index": 0, "content_block": block })),
        named_event(&json!({ "type": "ping" })),
    ]
}

pub(super) fn around_word() -> (String, String) {
    let before = "event: content_block_delta\n\
        data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":";
    (before.to_owned(), "}}\n\n".to_owned())
}

pub(super) fn closing(answer: &Answer) -> Vec<String> {
    let delta = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    let usage = json!({ "output_tokens": answer.words });
    vec![
        named_event(&json!({ "type": "content_block_stop", "index": 0 })),
        named_event(&json!({ "type": "message_delta", "delta": delta, "usage": usage })),
        named_event(&json!({ "type": "message_stop" })),
    ]
}

fn message(answer: &Answer, content: &Value, stop_reason: &Value, output_tokens: u64) -> Value {
    json!({
        "id": format!("msg_{}", answer.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": answer.prompt,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        },
    })
}
