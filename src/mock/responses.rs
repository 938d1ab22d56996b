//! OpenAI's responses.

use serde_json::{Value, json};

use super::{
    answer::{Answer, named_event},
    text,
};

pub(super) fn document(answer: &Answer) -> Value {
    response(answer, "completed")
}

pub(super) fn opening(answer: &Answer) -> Vec<String> {
    let running = response(answer, "in_progress");
    numbered(
        0,
        [
            json!({ "type": "response.created", "response": running }),
            json!({ "type": "response.in_progress", "response": running }),
            json!({ "type": "response.output_item.added", "output_index": 0, "item": item(answer, "in_progress") }),
            at_part(answer, "response.content_part.added", "part", part("")),
        ],
    )
}

/// The event's number is put behind the word.
pub(super) fn around_word(answer: &Answer) -> (String, String) {
    let before = format!(
        "event: response.output_text.delta\n\
         data: {{\"type\":\"response.output_text.delta\",\"item_id\":{},\"output_index\":0,\"content_index\":0,\
         \"logprobs\":[],\"delta\":",
        text::json(&item_id(answer)),
    );
    (before, "}\n\n".to_owned())
}

pub(super) fn closing(answer: &Answer, number: usize) -> Vec<String> {
    let mut done = at_part(
        answer,
        "response.output_text.done",
        "text",
        json!(answer.text),
    );
    done["logprobs"] = json!([]);
    numbered(
        number,
        [
            done,
            at_part(
                answer,
                "response.content_part.done",
                "part",
                part(&answer.text),
            ),
            json!({ "type": "response.output_item.done", "output_index": 0, "item": item(answer, "completed") }),
            json!({ "type": "response.completed", "response": response(answer, "completed") }),
        ],
    )
}

fn numbered<const N: usize>(first: usize, events: [Value; N]) -> Vec<String> {
    let numbers = first..;
    let events = events.into_iter().zip(numbers).map(|(mut event, number)| {
        event["sequence_number"] = json!(number);
        named_event(&event)
    });
    events.collect()
}

fn at_part(answer: &Answer, name: &str, key: &str, value: Value) -> Value {
    let mut event = json!({
        "type": name,
        "item_id": item_id(answer),
        "output_index": 0,
        "content_index": 0,
    });
    event[key] = value;
    event
}

fn response(answer: &Answer, status: &str) -> Value {
    let done = status == "completed";
    json!({
        "id": format!("resp_{}", answer.id),
        "object": "response",
        "created_at": answer.created,
        "completed_at": if done { json!(answer.created) } else { Value::Null },
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": {},
        "model": answer.model,
        "output": if done { json!([item(answer, status)]) } else { json!([]) },
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null },
        "store": false,
        "temperature": 1.0,
        "text": { "format": { "type": "text" } },
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if done { usage(answer) } else { Value::Null },
    })
}

fn item(answer: &Answer, status: &str) -> Value {
    let done = status == "completed";
    json!({
        "id": item_id(answer),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": if done { json!([part(&answer.text)]) } else { json!([]) },
    })
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

fn item_id(answer: &Answer) -> String {
    format!("msg_{}", answer.id)
}

fn usage(answer: &Answer) -> Value {
    json!({
        "input_tokens": answer.prompt,
        "input_tokens_details": { "cache_write_tokens": 0, "cached_tokens": 0 },
        "output_tokens": answer.words,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": answer.total(),
    })
}
