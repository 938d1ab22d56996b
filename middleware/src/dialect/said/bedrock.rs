//! Bedrock: Converse, and what InvokeModel gives in the words of the model's own API.

use super::{
    Form, Names, Out, Runs, Sort, Times, Told, Whose, anthropic, arguments, index, openai, piece,
    rekey, sign, text,
};
use crate::json::Cursor;

pub(super) fn event(name: &[u8], at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    if document {
        return self::document(at, out);
    }
    match name {
        b"contentBlockStart" | b"contentBlockDelta" => block(at, out).map(drop),
        b"contentBlockStop" => {
            let number = block(at, out)?;
            out.push(Told::Ends(Whose::Part(0, number)));
            Some(())
        }
        b"messageStop" => {
            out.push(Told::Ends(Whose::All));
            Some(())
        }
        b"metadata" | b"messageStart" => Some(()),
        _ => invoked(at, out),
    }
}

/// What an event of InvokeModel wraps.
fn invoked(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let from = out.len();
    let (mut number, mut ends) = (0, None);
    let whole = at.object(|at, name| match name {
        // Anthropic's.
        b"index" => index(at).map(|index| number = index),
        b"delta" | b"content_block" => anthropic::part(at, out),
        b"type" => {
            let kind = at.value()?;
            ends = match () {
                () if kind.is_str("content_block_stop") => Some(false),
                () if kind.is_str("message_delta") || kind.is_str("message_stop") => Some(true),
                () => None,
            };
            Some(())
        }
        // Nova's, which are Converse's with one more level.
        b"contentBlockStart" | b"contentBlockDelta" => block(at, out).map(drop),
        b"contentBlockStop" => {
            let block = block(at, out)?;
            out.push(Told::Ends(Whose::Part(0, block)));
            Some(())
        }
        b"messageStop" => {
            ends = Some(true);
            at.value().map(drop)
        }
        b"completionReason" | b"stop_reason" | b"finish_reason" => {
            if !at.value()?.is_null() {
                ends = Some(true);
            }
            Some(())
        }
        b"choices" => at.array(|at| openai::choice(at, false, out)),
        name => plain(at, name, out),
    });
    rekey(&mut out[from..], |key| key.part += number);
    out.extend(ends.map(|all| {
        Told::Ends(if all {
            Whose::All
        } else {
            Whose::Part(0, number)
        })
    }));
    whole
}

fn document(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"output" => at.object(|at, name| match name {
            b"message" => at.object(|at, name| match name {
                b"content" => {
                    let mut runs = Runs::default();
                    at.array(|at| {
                        let from = out.len();
                        part(at, out)?;
                        runs.part(&mut out[from..]);
                        Some(())
                    })
                }
                _ => at.value().map(drop),
            }),
            _ => at.value().map(drop),
        }),
        b"content" => anthropic::blocks(at, out),
        b"choices" => at.array(|at| openai::choice(at, true, out)),
        name => plain(at, name, out),
    })
}

/// The members in which other models have their text.
fn plain(at: &mut Cursor<'_>, name: &[u8], out: &mut Out) -> Option<()> {
    match name {
        b"outputText" | b"generation" | b"completion" | b"text" => piece(at, Sort::Content, out),
        b"results" | b"outputs" | b"generations" => {
            let mut number = 0;
            at.array(|at| {
                let from = out.len();
                at.object(|at, name| match name {
                    b"outputText" | b"text" => piece(at, Sort::Content, out),
                    _ => at.value().map(drop),
                })?;
                rekey(&mut out[from..], |key| key.choice = number);
                number += 1;
                Some(())
            })
        }
        _ => at.value().map(drop),
    }
}

/// A block of Converse that begins, goes on or ends: its number.
fn block(at: &mut Cursor<'_>, out: &mut Out) -> Option<u64> {
    let from = out.len();
    let mut number = 0;
    at.object(|at, name| match name {
        b"contentBlockIndex" => index(at).map(|index| number = index),
        b"start" | b"delta" => part(at, out),
        _ => at.value().map(drop),
    })?;
    rekey(&mut out[from..], |key| key.part = number);
    Some(number)
}

fn part(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"text" => piece(at, Sort::Content, out),
        b"toolUse" => at.object(|at, name| match name {
            b"input" => arguments(at, Times::Piece, out),
            _ => at.value().map(drop),
        }),
        b"reasoningContent" => {
            let from = out.len();
            reasoning(at, out)?;
            // As Anthropic's, which most of them are.
            sign(&mut out[from..]);
            Some(())
        }
        _ => at.value().map(drop),
    })
}

fn reasoning(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"text" => text(
            at,
            Sort::Reasoning(Names::Plain),
            Form::Plain,
            Times::Piece,
            out,
        ),
        b"reasoningText" => reasoning(at, out),
        _ => at.value().map(drop),
    })
}
