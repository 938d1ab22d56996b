//! Finish reasons and tool calls, dialect by dialect.

use std::borrow::Cow;

use super::answer::{Found, Kind};
use crate::{
    dialect::{Usage, ending::tells, usage::report_in},
    json::{Cursor, Value},
};

/// Takes what an event of a stream tells.
pub(super) fn event(words: Kind, kind: &str, root: Value<'_>, found: &mut Found) {
    match words {
        Kind::Chat => choices(root, found),
        Kind::Responses => responses(kind, root, found),
        Kind::Anthropic => anthropic(kind, root, found),
        Kind::Gemini => gemini(root, found),
        Kind::Ollama => ollama(root, found),
        Kind::Cohere => cohere(kind, root, found),
        Kind::Bedrock => bedrock(kind, root, found),
        Kind::Other => {}
    }
}

/// Takes what a whole document tells.
pub(super) fn document(words: Kind, root: Value<'_>, found: &mut Found) {
    match words {
        Kind::Responses => {
            for item in items(root.get("output")) {
                call(item, found);
            }
            status(root, found);
        }
        Kind::Anthropic => {
            blocks(root, found);
            reason(0, root.get("stop_reason"), found);
        }
        Kind::Gemini => gemini(root, found),
        Kind::Ollama => ollama(root, found),
        Kind::Cohere => {
            let message = root.get("message");
            for call in items(message.and_then(|message| message.get("tool_calls"))) {
                next_name(call.get("function"), found);
            }
            reason(0, root.get("finish_reason"), found);
        }
        Kind::Bedrock => {
            let message = root.get("output").and_then(|output| output.get("message"));
            for block in items(message.and_then(|message| message.get("content"))) {
                next_name(block.get("toolUse"), found);
            }
            blocks(root, found);
            for result in items(root.get("results")) {
                reason(0, result.get("completionReason"), found);
            }
            for name in ["stopReason", "stop_reason"] {
                reason(0, root.get(name), found);
            }
        }
        // What chat tells is read by `chat`.
        Kind::Chat | Kind::Other => {}
    }
}

/// A whole document of OpenAI's chat or completions, read in one pass: most answers that are no streams are such.
///
/// Gives the usage report; `None` if the document has a fault.
pub(super) fn chat(document: &[u8], found: &mut Found) -> Option<Option<(Usage, bool)>> {
    let (mut usage, mut wrapped) = (None, None);
    let mut place = 0;
    Cursor::new(document).object(|at, name| {
        match name {
            b"choices" => {
                return at.array(|at| {
                    place += 1;
                    choice(at, place - 1, found)
                });
            }
            b"usage" => usage = Some(at.value()?),
            b"x_groq" => wrapped = at.value()?.get("usage"),
            b"error" => found.failed |= tells(at.value()?),
            _ => drop(at.value()?),
        }
        Some(())
    })?;
    Some(report_in(wrapped.into_iter().chain(usage)))
}

fn choice(at: &mut Cursor<'_>, place: u64, found: &mut Found) -> Option<()> {
    let (mut index, mut why, mut calls, mut call) = (None, None, None, None);
    at.object(|at, name| {
        match name {
            b"index" => index = at.value()?.as_u64(),
            b"finish_reason" => why = Some(at.value()?),
            b"message" => {
                return at.object(|at, name| {
                    match name {
                        b"tool_calls" => calls = Some(at.value()?),
                        b"function_call" => call = Some(at.value()?),
                        _ => drop(at.value()?),
                    }
                    Some(())
                });
            }
            _ => drop(at.value()?),
        }
        Some(())
    })?;
    let index = index.unwrap_or(place);
    called(index, calls, call, found);
    reason(index, why, found);
    Some(())
}

/// A finish reason as it is kept: the usual ones cost nothing.
pub(super) fn word(reason: &str, more: Option<&str>) -> Cow<'static, str> {
    let reason = &reason[..reason.floor_char_boundary(LONGEST)];
    if let Some(more) = more {
        let more = &more[..more.floor_char_boundary(LONGEST)];
        return Cow::Owned(format!("{reason}:{more}"));
    }
    match USUAL.iter().find(|usual| **usual == reason) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(reason.to_owned()),
    }
}

fn choices(root: Value<'_>, found: &mut Found) {
    for (place, choice) in items(root.get("choices")).enumerate() {
        let [index, delta, why] = choice.pick(["index", "delta", "finish_reason"]);
        let index = index.and_then(|index| index.as_u64());
        let index = index.unwrap_or(place as u64);
        if let Some(delta) = delta {
            let [calls, call] = delta.pick(["tool_calls", "function_call"]);
            called(index, calls, call, found);
        }
        reason(index, why, found);
    }
}

/// What a choice calls: a list, or in the old form one function.
fn called(choice: u64, calls: Option<Value<'_>>, call: Option<Value<'_>>, found: &mut Found) {
    for (place, call) in items(calls).enumerate() {
        let [at, function] = call.pick(["index", "function"]);
        let at = at.and_then(|index| index.as_u64());
        let at = at.unwrap_or(place as u64);
        name((choice, at), function, found);
    }
    name((choice, u64::MAX), call, found);
}

fn responses(kind: &str, root: Value<'_>, found: &mut Found) {
    match kind {
        "response.output_item.added" => {
            if let Some(item) = root.get("item") {
                call(item, found);
            }
        }
        "response.completed" | "response.incomplete" | "response.failed" => {
            if let Some(response) = root.get("response") {
                status(response, found);
            }
        }
        _ => {}
    }
}

/// An item of Responses, if it is a call for the client.
fn call(item: Value<'_>, found: &mut Found) {
    let kind = item.get("type");
    if kind.is_some_and(|kind| kind.is_str("function_call") || kind.is_str("custom_tool_call")) {
        next_name(Some(item), found);
    }
}

fn status(response: Value<'_>, found: &mut Found) {
    let text =
        |value: Option<Value<'_>>| value.and_then(|value| value.as_str().map(Cow::into_owned));
    let why = response.get("incomplete_details");
    let why = text(why.and_then(|why| why.get("reason")));
    if let Some(status) = text(response.get("status")) {
        found.reason(0, &status, why.as_deref());
    }
}

fn anthropic(kind: &str, root: Value<'_>, found: &mut Found) {
    match kind {
        "content_block_start" => {
            let block = root.get("content_block");
            let is_call = |block: &Value<'_>| {
                block
                    .get("type")
                    .is_some_and(|kind| kind.is_str("tool_use"))
            };
            next_name(block.filter(is_call), found);
        }
        "content_block_delta" => {
            let delta = root.get("delta");
            let cites = delta.is_some_and(|delta| delta.get("citation").is_some());
            found.citations += u64::from(cites);
        }
        "message_delta" => {
            let delta = root.get("delta");
            reason(0, delta.and_then(|delta| delta.get("stop_reason")), found);
        }
        _ => {}
    }
}

/// The blocks of a whole message of Anthropic's.
fn blocks(root: Value<'_>, found: &mut Found) {
    for block in items(root.get("content")) {
        if block
            .get("type")
            .is_some_and(|kind| kind.is_str("tool_use"))
        {
            next_name(Some(block), found);
        }
    }
}

fn gemini(root: Value<'_>, found: &mut Found) {
    for (place, candidate) in items(root.get("candidates")).enumerate() {
        let index = candidate.get("index").and_then(|index| index.as_u64());
        let content = candidate.get("content");
        for part in items(content.and_then(|content| content.get("parts"))) {
            next_name(part.get("functionCall"), found);
        }
        let index = index.unwrap_or(place as u64);
        reason(index, candidate.get("finishReason"), found);
    }
    let feedback = root.get("promptFeedback");
    let blocked = feedback.and_then(|feedback| feedback.get("blockReason"));
    found.ended |= blocked.is_some_and(|reason| !reason.is_null());
}

fn ollama(root: Value<'_>, found: &mut Found) {
    let message = root.get("message");
    for call in items(message.and_then(|message| message.get("tool_calls"))) {
        next_name(call.get("function"), found);
    }
    reason(0, root.get("done_reason"), found);
    found.ended |= root.get("done").and_then(|done| done.as_bool()) == Some(true);
}

fn cohere(kind: &str, root: Value<'_>, found: &mut Found) {
    let delta = root.get("delta");
    match kind {
        "tool-call-start" => {
            let message = delta.and_then(|delta| delta.get("message"));
            let call = message.and_then(|message| message.get("tool_calls"));
            next_name(call.and_then(|call| call.get("function")), found);
        }
        "message-end" => reason(0, delta.and_then(|delta| delta.get("finish_reason")), found),
        "stream-end" => reason(0, root.get("finish_reason"), found),
        _ => {}
    }
}

/// Converse's events, and those of the models behind InvokeModel.
fn bedrock(kind: &str, root: Value<'_>, found: &mut Found) {
    match kind {
        "contentBlockStart" => {
            let start = root.get("start");
            next_name(start.and_then(|start| start.get("toolUse")), found);
        }
        "messageStop" => reason(0, root.get("stopReason"), found),
        "" => {
            for name in ["contentBlockStart", "messageStop"] {
                if let Some(inner) = root.get(name) {
                    bedrock(name, inner, found);
                }
            }
            for name in ["completionReason", "stop_reason"] {
                reason(0, root.get(name), found);
            }
        }
        kind => anthropic(kind, root, found),
    }
}

fn reason(choice: u64, reason: Option<Value<'_>>, found: &mut Found) {
    if let Some(reason) = reason.and_then(|reason| reason.as_str()) {
        found.reason(choice, &reason, None);
    }
}

fn name(call: (u64, u64), function: Option<Value<'_>>, found: &mut Found) {
    if let Some(name) = function.and_then(|function| function.get("name")?.as_str()) {
        found.tool(call, &name);
    }
}

fn next_name(function: Option<Value<'_>>, found: &mut Found) {
    if let Some(name) = function.and_then(|function| function.get("name")?.as_str()) {
        found.next_tool(&name);
    }
}

fn items(list: Option<Value<'_>>) -> impl Iterator<Item = Value<'_>> {
    list.into_iter().flat_map(|list| list.items())
}

/// Reasons that providers give all day.
const USUAL: [&str; 20] = [
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "function_call",
    "end_turn",
    "max_tokens",
    "tool_use",
    "stop_sequence",
    "refusal",
    "pause_turn",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "COMPLETE",
    "TOOL_CALL",
    "completed",
    "incomplete",
    "failed",
    "unload",
];

/// The most bytes that are kept of a reason.
const LONGEST: usize = 64;
