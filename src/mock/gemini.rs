//! Gemini's generateContent.

use serde_json::{Value, json};

use super::{answer::Answer, text};

pub(super) fn document(answer: &Answer) -> Value {
    let parts = json!([{ "text": answer.text }]);
    json!({
        "candidates": [{
            "content": { "role": "model", "parts": parts },
            "finishReason": "STOP",
            "index": 0,
        }],
        "usageMetadata": {
            "promptTokenCount": answer.prompt,
            "candidatesTokenCount": answer.words,
            "totalTokenCount": answer.total(),
        },
        "modelVersion": answer.model,
        "responseId": answer.id,
    })
}

pub(super) fn around_word(answer: &Answer, array: bool) -> (String, String) {
    let before = format!(
        r#"{}{{"responseId":{},"modelVersion":{},"candidates":[{{"index":0,"content":{{"role":"model","parts":[{{"text":"#,
        if array { "" } else { "data: " },
        text::json(&answer.id),
        text::json(&answer.model),
    );
    let after = format!("}}]}}}}]}}{}", if array { "" } else { "\n\n" });
    (before, after)
}

/// The last event says how it ended and what it cost, and has an empty text, as the provider's own have.
pub(super) fn closing(answer: &Answer, array: bool) -> Vec<String> {
    let mut last = document(answer);
    last["candidates"][0]["content"]["parts"][0]["text"] = Value::from("");
    vec![if array {
        format!(",\n{last}\n]\n")
    } else {
        format!("data: {last}\n\n")
    }]
}
