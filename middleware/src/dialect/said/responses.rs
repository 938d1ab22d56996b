//! OpenAI's Responses: deltas, and members that say again what they brought.

use super::{Form, Key, Names, Out, Runs, Sort, Text, Times, Told, Whose, index, rekey, values};
use crate::json::{Cursor, Kind};

pub(super) fn event(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    if document {
        return response(at, true, out);
    }
    let from = out.len();
    let (mut kind, mut item, mut part) = (None, 0, 0);
    let (mut piece, mut again) = (None, None);
    let whole = at.object(|at, name| match name {
        b"type" => {
            kind = at.value()?.as_str();
            Some(())
        }
        b"output_index" => index(at).map(|index| item = index),
        b"content_index" | b"summary_index" => index(at).map(|index| part = index),
        b"delta" => {
            piece = Some(at.value()?).filter(|value| value.kind() == Kind::String);
            Some(())
        }
        b"text" | b"refusal" | b"arguments" | b"input" | b"code" | b"transcript" => {
            again = Some(at.value()?).filter(|value| value.kind() == Kind::String);
            Some(())
        }
        b"part" => member(at, out),
        b"item" => self::item(at, false, out),
        b"response" => response(at, false, out),
        b"logprobs" => logprobs(at, out),
        _ => at.value().map(drop),
    });
    rekey(&mut out[from..], |key| {
        // A response numbers its items itself.
        if key.choice != NUMBERED {
            key.choice = item;
        }
    });
    let kind = kind.as_deref().unwrap_or_default();
    if let Some((sort, form)) = sort(kind) {
        let key = Key {
            choice: item,
            part,
            sort,
        };
        let told = |span, told| {
            Told::Text(Text {
                key,
                span,
                form,
                signed: false,
                told,
            })
        };
        match (piece, again) {
            (Some(piece), _) if kind.ends_with(".delta") => {
                if piece.span().len() > 2 {
                    out.push(told(piece.span(), Times::Piece));
                }
            }
            (_, again) => {
                out.insert(from, Told::Ends(Whose::Key(key)));
                out.extend(again.map(|again| told(again.span(), Times::Again)));
            }
        }
    } else if kind == "response.content_part.done" || kind == "response.reasoning_summary_part.done"
    {
        out.insert(from, Told::Ends(Whose::Part(item, part)));
    } else if kind == "response.output_item.done" {
        out.insert(from, Told::Ends(Whose::Choice(item)));
    } else if matches!(
        kind,
        "response.completed" | "response.incomplete" | "response.failed" | "error"
    ) {
        out.insert(from, Told::Ends(Whose::All));
    }
    whole
}

/// What deltas and the ends of this kind are about.
fn sort(kind: &str) -> Option<(Sort, Form)> {
    let kind = kind.strip_prefix("response.")?;
    let kind = kind
        .strip_suffix(".delta")
        .or_else(|| kind.strip_suffix(".done"))?;
    Some(match kind {
        "output_text" => (Sort::Content, Form::Plain),
        "refusal" => (Sort::Refusal, Form::Plain),
        "reasoning_text" | "reasoning" => (Sort::Reasoning(Names::Content), Form::Plain),
        "reasoning_summary_text" | "reasoning_summary" => {
            (Sort::Reasoning(Names::Summary), Form::Plain)
        }
        "audio.transcript" | "audio_transcript" | "output_audio_transcript" => {
            (Sort::Transcript, Form::Plain)
        }
        "function_call_arguments" | "mcp_call_arguments" | "mcp_call.arguments" => {
            (Sort::Arguments, Form::Json)
        }
        "custom_tool_call_input" => (Sort::Arguments, Form::Plain),
        "code_interpreter_call_code" | "code_interpreter_call.code" => (Sort::Code, Form::Plain),
        _ => return None,
    })
}

fn response(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"output" => {
            let mut number = 0;
            at.array(|at| {
                let from = out.len();
                item(at, document, out)?;
                let choice = if document { number } else { NUMBERED };
                rekey(&mut out[from..], |key| key.choice = choice);
                number += 1;
                Some(())
            })
        }
        _ => at.value().map(drop),
    })
}

/// An item: a message, reasoning, a call.
fn item(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"content" | b"summary" => {
            let summary = name == b"summary";
            let mut runs = Runs::default();
            at.array(|at| {
                let from = out.len();
                member(at, out)?;
                if summary {
                    rekey(&mut out[from..], |key| {
                        key.sort = Sort::Reasoning(Names::Summary);
                    });
                }
                if document {
                    super::times(&mut out[from..], Times::Piece);
                    runs.part(&mut out[from..]);
                }
                Some(())
            })
        }
        b"arguments" => again(at, Sort::Arguments, Form::Json, out),
        // What a tool of the caller's own takes as it is; other members of that name hold objects.
        b"input" => again(at, Sort::Arguments, Form::Plain, out),
        b"code" => again(at, Sort::Code, Form::Plain, out),
        // What a search asks for; its other members are words of the API and addresses.
        b"action" => {
            let from = out.len();
            at.object(|at, name| match name {
                b"query" | b"queries" => values(at, Sort::Code, super::NESTING, out),
                _ => at.value().map(drop),
            })?;
            super::times(&mut out[from..], Times::Again);
            Some(())
        }
        _ => at.value().map(drop),
    })
}

/// A part of an item.
fn member(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let from = out.len();
    let mut reasons = false;
    at.object(|at, name| match name {
        b"text" => again(at, Sort::Content, Form::Plain, out),
        b"refusal" => again(at, Sort::Refusal, Form::Plain, out),
        b"transcript" => again(at, Sort::Transcript, Form::Plain, out),
        b"type" => {
            let kind = at.value()?;
            reasons = kind.is_str("reasoning_text");
            Some(())
        }
        b"logprobs" => logprobs(at, out),
        _ => at.value().map(drop),
    })?;
    if reasons {
        rekey(&mut out[from..], |key| {
            key.sort = Sort::Reasoning(Names::Content);
        });
    }
    Some(())
}

fn again(at: &mut Cursor<'_>, sort: Sort, form: Form, out: &mut Out) -> Option<()> {
    super::text(at, sort, form, Times::Again, out)
}

fn logprobs(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let value = at.value()?;
    if value.kind() == Kind::Array && value.items().next().is_some() {
        out.push(Told::Logprobs(value.span()));
    }
    Some(())
}

/// Of items inside of a response: each text there is told whole, so none needs a number.
const NUMBERED: u64 = u64::MAX;
