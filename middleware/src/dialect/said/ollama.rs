//! Ollama's chat and generate.

use super::{Names, Out, Sort, Times, Told, Whose, arguments, piece, rekey};
use crate::json::Cursor;

pub(super) fn event(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let mut done = false;
    let whole = at.object(|at, name| match name {
        b"message" => at.object(|at, name| member(at, name, out)),
        b"done" => {
            done |= at.value()?.as_bool() == Some(true);
            Some(())
        }
        name => member(at, name, out),
    });
    if done {
        out.push(Told::Ends(Whose::All));
    }
    whole
}

fn member(at: &mut Cursor<'_>, name: &[u8], out: &mut Out) -> Option<()> {
    match name {
        b"content" | b"response" => piece(at, Sort::Content, out),
        b"thinking" => piece(at, Sort::Reasoning(Names::Plain), out),
        b"tool_calls" => {
            let mut number = 0;
            at.array(|at| {
                let from = out.len();
                at.object(|at, name| match name {
                    b"function" => at.object(|at, name| match name {
                        b"arguments" => arguments(at, Times::Whole, out),
                        _ => at.value().map(drop),
                    }),
                    _ => at.value().map(drop),
                })?;
                number += 1;
                rekey(&mut out[from..], |key| key.part = number);
                Some(())
            })
        }
        _ => at.value().map(drop),
    }
}
