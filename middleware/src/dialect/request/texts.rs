//! The texts of a request, wherever its dialect puts them.

use std::borrow::Cow;

use crate::{
    dialect::{Operation, Surface},
    json::{Kind, Value},
};

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions: system and developer messages.
    System,
    /// The user; also what no role is told of: prompts, inputs, documents.
    User,
    /// The model: earlier turns, thoughts, arguments of tool calls.
    Assistant,
    /// A tool's result.
    Tool,
}

/// A text of a request.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'a> {
    /// Who wrote it.
    pub role: Role,
    /// The string that holds it, or a part of it.
    pub value: Value<'a>,
    /// It goes on where the one before it ended: both are parts of one message.
    pub continues: bool,
    /// The string is itself JSON, which holds the texts: arguments of a tool call.
    pub json: bool,
    /// It stands under a signature, so that a change would make it void.
    pub signed: bool,
    /// The object that it is a value of, at whatever depth: arguments of a tool call that are no string.
    pub values: Option<Value<'a>>,
}

/// Tells every text of a request body in the order of the document: string values, adjacent parts one after
/// another.
///
/// As [`spoken`], without what is told there besides.
pub fn texts<'a>(surface: &Surface, root: Value<'a>, on: &mut dyn FnMut(Role, Value<'a>)) {
    spoken(surface, root, &mut |said| on(said.role, said.value));
}

/// Tells every text of a request body in the order of the document.
///
/// Members are known by name across dialects, since bodies of one dialect are seen at surfaces of another. Media,
/// identifiers and the definitions of tools are not texts. The cost grows with the bytes times the nesting, which the
/// check of the body has bounded.
pub fn spoken<'a>(surface: &Surface, root: Value<'a>, on: &mut dyn FnMut(Spoken<'a>)) {
    let walk = &mut Walk {
        on,
        continues: false,
        signed: false,
        values: None,
    };
    request(surface, root, true, walk);
}

/// What the user said last: the texts of the last run of user texts, a line break between parts.
pub fn last_user_text<'a>(surface: &Surface, root: Value<'a>) -> Option<Cow<'a, str>> {
    let mut run: Vec<Value<'a>> = Vec::new();
    let mut ended = true;
    texts(surface, root, &mut |role, value| {
        if role != Role::User {
            ended = true;
            return;
        }
        if std::mem::take(&mut ended) {
            run.clear();
        }
        run.push(value);
    });
    let mut parts = run.into_iter().filter_map(|value| value.as_str());
    let first = parts.next()?;
    Some(parts.fold(first, |joined, part| {
        Cow::Owned(format!("{joined}\n{part}"))
    }))
}

/// Who takes the texts, and what is known of the next one.
struct Walk<'f, 'a> {
    on: &'f mut dyn FnMut(Spoken<'a>),
    continues: bool,
    signed: bool,
    values: Option<Value<'a>>,
}

/// One request, or one of those inside of a batch.
fn request<'a>(surface: &Surface, root: Value<'a>, outermost: bool, on: &mut Walk<'_, 'a>) {
    for (name, value) in root.members() {
        match name.as_str().as_deref() {
            Some("messages" | "contents" | "chat_history") => turns(value, on),
            Some(
                "system" | "systemInstruction" | "system_instruction" | "instructions" | "preamble",
            ) => {
                part(Role::System, value, NESTING, on);
            }
            Some("input") if surface.operation == Operation::Responses => turns(value, on),
            Some("input" | "content" | "query" | "message" | "suffix" | "inputText" | "texts") => {
                part(Role::User, value, NESTING, on);
            }
            Some("prompt") if value.kind() == Kind::Object => deep(Role::User, value, NESTING, on),
            Some("prompt") => part(Role::User, value, NESTING, on),
            Some("inputs" | "documents" | "instances") => deep(Role::User, value, NESTING, on),
            Some("prediction") => part(Role::Assistant, value, NESTING, on),
            Some("tool_results") => deep(Role::Tool, value, NESTING, on),
            Some("requests") if outermost => {
                value
                    .items()
                    .for_each(|inner| request(surface, inner, false, on));
            }
            Some("generateContentRequest") if outermost => request(surface, value, false, on),
            _ => {}
        }
    }
}

/// Messages, or one text that stands for a message of the user.
fn turns<'a>(value: Value<'a>, on: &mut Walk<'_, 'a>) {
    match value.kind() {
        Kind::Array => value
            .items()
            .for_each(|turn| part(role_of(turn, Role::User), turn, NESTING, on)),
        _ => part(role_of(value, Role::User), value, NESTING, on),
    }
}

/// A message or a part of one: a string, parts in a row, or an object whose members hold them.
fn part<'a>(role: Role, value: Value<'a>, room: u8, on: &mut Walk<'_, 'a>) {
    match value.kind() {
        Kind::String => on.say(role, value),
        // Deeper than any checked body goes.
        _ if room == 0 => {}
        Kind::Array => {
            let mut before = false;
            for item in value.items() {
                let is_text = item.kind() == Kind::Object && is_text(item);
                on.continues = before && is_text;
                part(role_of(item, role), item, room - 1, on);
                before = is_text;
            }
            on.continues = false;
        }
        Kind::Object => {
            let around = on.signed;
            for (name, member) in value.members() {
                let Some(name) = name.as_str() else { continue };
                // A thought, or anything of Gemini's; asked only where it can be.
                if matches!(
                    &*name,
                    "thinking" | "text" | "functionCall" | "executableCode" | "reasoningText"
                ) {
                    on.signed = around || is_signed(value);
                }
                inside(role, &name, member, room - 1, on);
                on.signed = around;
            }
        }
        _ => {}
    }
}

/// The member `name` of a message or part.
fn inside<'a>(role: Role, name: &str, member: Value<'a>, room: u8, on: &mut Walk<'_, 'a>) {
    match name {
        "text" | "content" | "parts" | "thinking" | "reasoning" | "reasoning_content"
        | "refusal" | "output" | "summary" | "message" | "guardContent" | "reasoningContent"
        | "reasoningText" | "title" | "context" => {
            part(role, member, room, on);
        }
        "tool_calls" | "function_call" | "function" | "functionCall" | "toolUse" => {
            part(Role::Assistant, member, room, on);
        }
        "toolResult" | "functionResponse" => part(Role::Tool, member, room, on),
        "arguments" if member.kind() == Kind::String => {
            let said = on.said(role, member);
            (on.on)(Spoken { json: true, ..said });
        }
        "arguments" | "args" | "input" => {
            on.values = Some(member);
            deep(role, member, room, on);
            on.values = None;
        }
        "response" | "json" | "code" | "executableCode" | "codeExecutionResult" | "tool_plan" => {
            deep(role, member, room, on);
        }
        // A document of text carries it where one of bytes carries its bytes.
        "source" if member.get("type").is_some_and(|kind| kind.is_str("text")) => {
            if let Some(data) = member.get("data") {
                part(role, data, room, on);
            }
        }
        "source" => {
            for held in ["content", "text"]
                .into_iter()
                .filter_map(|held| member.get(held))
            {
                part(role, held, room, on);
            }
        }
        // Cohere's holds fields under `data`, the others' a source.
        "document" => {
            part(role, member, room, on);
            if let Some(data) = member.get("data") {
                deep(role, data, room, on);
            }
        }
        _ => {}
    }
}

/// Every string value at any depth.
fn deep<'a>(role: Role, value: Value<'a>, room: u8, on: &mut Walk<'_, 'a>) {
    match value.kind() {
        Kind::String => on.say(role, value),
        _ if room == 0 => {}
        Kind::Array => value
            .items()
            .for_each(|item| deep(role, item, room - 1, on)),
        Kind::Object => value
            .members()
            .for_each(|(_, member)| deep(role, member, room - 1, on)),
        _ => {}
    }
}

/// Who speaks in a message or part, where it says so; else whoever speaks around it.
fn role_of(turn: Value<'_>, around: Role) -> Role {
    let mut found = around;
    for (name, value) in turn.members() {
        match name.as_str().as_deref() {
            Some("role") => {
                return match value.as_str().as_deref() {
                    Some("system" | "developer" | "SYSTEM") => Role::System,
                    Some("assistant" | "model" | "CHATBOT") => Role::Assistant,
                    Some("tool" | "function" | "TOOL") => Role::Tool,
                    _ => Role::User,
                };
            }
            Some("type") => {
                found = match value.as_str().as_deref() {
                    Some(kind) if kind.ends_with("_output") || kind.ends_with("tool_result") => {
                        Role::Tool
                    }
                    Some(kind) if kind.ends_with("_call") || kind == "reasoning" => Role::Assistant,
                    _ => found,
                };
            }
            _ => {}
        }
    }
    found
}

/// Whether a part of a message is text and nothing else that is searched for texts.
fn is_text(part: Value<'_>) -> bool {
    let mut texts = part.members().filter(|(name, _)| name.is_str("text"));
    texts
        .next()
        .is_some_and(|(_, text)| text.kind() == Kind::String)
}

/// Whether a part of a message carries its provider's signature.
fn is_signed(part: Value<'_>) -> bool {
    let mut members = part.members();
    members.any(|(name, value)| {
        let signs = |it| name.is_str(it);
        ["signature", "thoughtSignature", "thought_signature"]
            .into_iter()
            .any(signs)
            && !value.is_null()
    })
}

// ===== impl Walk =====

impl<'a> Walk<'_, 'a> {
    fn say(&mut self, role: Role, value: Value<'a>) {
        let said = self.said(role, value);
        (self.on)(said);
    }

    fn said(&mut self, role: Role, value: Value<'a>) -> Spoken<'a> {
        Spoken {
            role,
            value,
            continues: std::mem::take(&mut self.continues),
            json: false,
            signed: self.signed,
            values: self.values,
        }
    }
}

/// How deep texts are looked for: as deep as a body may nest by default.
const NESTING: u8 = 128;
