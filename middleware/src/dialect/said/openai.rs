//! OpenAI's chat and completions, and what is shaped like them.

use super::{
    Names, Out, Runs, Sort, Times, Told, Whose, arguments, index, piece, rekey, sign, text, times,
    values,
};
use crate::{
    dialect::said::Form,
    json::{Cursor, Kind},
};

pub(super) fn event(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    let mut transcribes = false;
    at.object(|at, name| match name {
        b"choices" => at.array(|at| choice(at, document, out)),
        // Transcriptions.
        b"text" => {
            let told = if document { Times::Whole } else { Times::Again };
            text(at, Sort::Transcript, Form::Plain, told, out)
        }
        b"segments" | b"words" => {
            let from = out.len();
            at.array(|at| {
                at.object(|at, name| match name {
                    b"text" | b"word" => text(at, Sort::Transcript, Form::Plain, Times::Again, out),
                    _ => at.value().map(drop),
                })
            })?;
            rekey(&mut out[from..], |key| key.part = 1);
            Some(())
        }
        b"type" => {
            let kind = at.value()?;
            transcribes = kind.is_str("transcript.text.done");
            Some(())
        }
        b"delta" => piece(at, Sort::Transcript, out),
        _ => at.value().map(drop),
    })?;
    if transcribes {
        out.insert(0, Told::Ends(Whose::All));
    }
    Some(())
}

pub(super) fn choice(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    let from = out.len();
    let (mut number, mut ended) = (0, false);
    let whole = at.object(|at, name| match name {
        b"index" => index(at).map(|index| number = index),
        b"delta" => message(at, document, out),
        b"message" => {
            let from = out.len();
            let whole = message(at, document, out);
            if !document {
                times(&mut out[from..], Times::SoFar);
            }
            whole
        }
        // Some tell a chat in it too, beside the message.
        b"text" => piece(at, Sort::Text, out),
        b"finish_reason" => {
            ended |= at.value()?.kind() == Kind::String;
            Some(())
        }
        b"logprobs" => {
            let value = at.value()?;
            if !value.is_null() {
                out.push(Told::Logprobs(value.span()));
            }
            Some(())
        }
        _ => at.value().map(drop),
    });
    rekey(&mut out[from..], |key| key.choice = number);
    // What is told so far needs the piece beside it.
    out[from..].sort_by_key(|told| matches!(told, Told::Text(text) if text.told == Times::SoFar));
    if ended {
        out.push(Told::Ends(Whose::Finished(number)));
    }
    whole
}

fn message(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"content" => content(at, document, out),
        b"refusal" => piece(at, Sort::Refusal, out),
        b"reasoning_content" => piece(at, Sort::Reasoning(Names::Content), out),
        b"reasoning" | b"reasoning_text" | b"thinking" => {
            piece(at, Sort::Reasoning(Names::Plain), out)
        }
        b"reasoning_details" => at.array(|at| detail(at, out)),
        b"audio" => at.object(|at, name| match name {
            b"transcript" => piece(at, Sort::Transcript, out),
            _ => at.value().map(drop),
        }),
        b"tool_calls" => {
            let mut number = 0;
            at.array(|at| {
                number += 1;
                call(at, number, out)
            })
        }
        // One call, older than those with numbers.
        b"function_call" => function(at, out),
        _ => at.value().map(drop),
    })
}

/// A string, or parts; some providers give an object that fits a schema.
fn content(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    match at.kind()? {
        Kind::String => piece(at, Sort::Content, out),
        Kind::Object => values(at, Sort::Content, super::NESTING, out),
        Kind::Array => {
            let mut runs = Runs::default();
            at.array(|at| {
                let from = out.len();
                part(at, out)?;
                if document {
                    runs.part(&mut out[from..]);
                }
                Some(())
            })
        }
        _ => at.value().map(drop),
    }
}

fn part(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"text" => piece(at, Sort::Content, out),
        b"refusal" => piece(at, Sort::Refusal, out),
        b"thinking" if at.kind() == Some(Kind::String) => {
            piece(at, Sort::Reasoning(Names::Plain), out)
        }
        b"thinking" => {
            let from = out.len();
            at.array(|at| part(at, out))?;
            rekey(&mut out[from..], |key| {
                key.sort = Sort::Reasoning(Names::Plain);
            });
            Some(())
        }
        _ => at.value().map(drop),
    })
}

/// OpenRouter's form of the reasoning of many providers.
fn detail(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let from = out.len();
    let mut signed = false;
    at.object(|at, name| match name {
        b"text" | b"summary" => piece(at, Sort::Reasoning(Names::Details), out),
        b"signature" => {
            signed |= at.value()?.kind() == Kind::String;
            Some(())
        }
        // The signature of these comes with a later piece.
        b"format" => {
            let format = at.value()?.as_str();
            signed |= format.is_some_and(|format| format.starts_with("anthropic"));
            Some(())
        }
        _ => at.value().map(drop),
    })?;
    if signed {
        sign(&mut out[from..]);
    }
    Some(())
}

/// `number` is that of the call if it has none of its own.
fn call(at: &mut Cursor<'_>, mut number: u64, out: &mut Out) -> Option<()> {
    let from = out.len();
    at.object(|at, name| match name {
        b"index" => index(at).map(|index| number = index + 1),
        b"function" => function(at, out),
        b"custom" => at.object(|at, name| match name {
            b"input" => piece(at, Sort::Arguments, out),
            _ => at.value().map(drop),
        }),
        _ => at.value().map(drop),
    })?;
    rekey(&mut out[from..], |key| key.part = number);
    Some(())
}

fn function(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"arguments" => arguments(at, Times::Piece, out),
        _ => at.value().map(drop),
    })
}
