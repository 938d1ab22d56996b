//! Cohere's chat, of both versions.

use super::{
    Form, Names, Out, Runs, Sort, Times, Told, Whose, arguments, index, piece, rekey, text, values,
};
use crate::json::{Cursor, Kind};

pub(super) fn event(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    let from = out.len();
    let (mut part, mut ends) = (0, None);
    let whole = at.object(|at, name| match name {
        b"index" => index(at).map(|index| part = index),
        b"delta" => at.object(|at, name| match name {
            b"message" => message(at, false, out),
            _ => at.value().map(drop),
        }),
        b"message" => message(at, document, out),
        b"type" | b"event_type" => {
            let kind = at.value()?;
            ends = match () {
                () if kind.is_str("content-end") || kind.is_str("tool-call-end") => Some(false),
                () if kind.is_str("message-end") || kind.is_str("stream-end") => Some(true),
                () => None,
            };
            Some(())
        }
        // The version before this one.
        b"text" => piece(at, Sort::Content, out),
        b"tool_calls" => at.array(|at| call(at, out)),
        b"response" => at.object(|at, name| match name {
            b"text" => text(at, Sort::Content, Form::Plain, Times::Again, out),
            _ => at.value().map(drop),
        }),
        _ => at.value().map(drop),
    });
    rekey(&mut out[from..], |key| key.part += part * APART);
    match ends {
        Some(true) => out.insert(from, Told::Ends(Whose::All)),
        Some(false) => out.extend([0, 1].map(|at| Told::Ends(Whose::Part(0, part * APART + at)))),
        None => {}
    }
    whole
}

fn message(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"content" => match at.kind()? {
            Kind::String => piece(at, Sort::Content, out),
            Kind::Object => part(at, out),
            _ => {
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
        },
        b"tool_plan" => piece(at, Sort::Reasoning(Names::Summary), out),
        b"tool_calls" if at.kind() == Some(Kind::Array) => {
            let mut number = 1;
            at.array(|at| {
                let from = out.len();
                call(at, out)?;
                rekey(&mut out[from..], |key| key.part += number * APART);
                number += 1;
                Some(())
            })
        }
        b"tool_calls" => call(at, out),
        _ => at.value().map(drop),
    })
}

fn part(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"text" => piece(at, Sort::Content, out),
        b"thinking" => piece(at, Sort::Reasoning(Names::Plain), out),
        _ => at.value().map(drop),
    })
}

fn call(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let from = out.len();
    at.object(|at, name| match name {
        b"function" => at.object(|at, name| match name {
            b"arguments" => arguments(at, Times::Piece, out),
            _ => at.value().map(drop),
        }),
        b"parameters" => values(at, Sort::Arguments, super::NESTING, out),
        _ => at.value().map(drop),
    })?;
    // Calls and contents are numbered each by themselves.
    rekey(&mut out[from..], |key| key.part += 1);
    Some(())
}

/// Room in a number for what stands beside each other under it.
const APART: u64 = 2;
