//! Gemini's candidates.

use super::{Key, Names, Out, Runs, Sort, Told, Whose, index, piece, rekey, sign, values};
use crate::json::{Cursor, Kind};

pub(super) fn event(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"candidates" => at.array(|at| candidate(at, document, out)),
        _ => at.value().map(drop),
    })
}

fn candidate(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    let from = out.len();
    let (mut number, mut ended) = (0, false);
    let whole = at.object(|at, name| match name {
        b"index" => index(at).map(|index| number = index),
        b"content" => at.object(|at, name| match name {
            b"parts" => {
                let mut runs = Runs::default();
                at.array(|at| {
                    let from = out.len();
                    let whole = part(at, out);
                    if document {
                        runs.part(&mut out[from..]);
                    } else {
                        apart(from, out);
                    }
                    whole
                })
            }
            _ => at.value().map(drop),
        }),
        b"finishReason" => {
            ended |= at.value()?.kind() == Kind::String;
            Some(())
        }
        _ => at.value().map(drop),
    });
    rekey(&mut out[from..], |key| key.choice = number);
    if ended {
        out.push(Told::Ends(Whose::Finished(number)));
    }
    whole
}

/// In a stream: a part ends the texts of other sorts, since it stands behind them.
fn apart(from: usize, out: &mut Out) {
    let sort = out[from..].iter().find_map(|told| match told {
        Told::Text(text) => Some(text.key.sort),
        _ => None,
    });
    let Some(sort) = sort else { return };
    let others = SORTS.into_iter().filter(|other| *other != sort);
    let ends = others.map(|sort| Told::Ends(Whose::Key(Key::new(sort))));
    out.splice(from..from, ends);
    // A call and a piece of code come whole.
    if matches!(sort, Sort::Arguments | Sort::Code) {
        out.push(Told::Ends(Whose::Key(Key::new(sort))));
    }
}

fn part(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let from = out.len();
    let (mut thought, mut signed) = (false, false);
    let whole = at.object(|at, name| match name {
        b"text" => piece(at, Sort::Content, out),
        b"thought" => {
            thought |= at.value()?.as_bool() == Some(true);
            Some(())
        }
        b"thoughtSignature" | b"thought_signature" => {
            signed |= at.value()?.kind() == Kind::String;
            Some(())
        }
        b"functionCall" | b"function_call" => at.object(|at, name| match name {
            b"args" | b"partialArgs" => values(at, Sort::Arguments, super::NESTING, out),
            _ => at.value().map(drop),
        }),
        b"executableCode" | b"executable_code" => named(at, b"code", out),
        b"codeExecutionResult" | b"code_execution_result" => named(at, b"output", out),
        _ => at.value().map(drop),
    });
    if thought {
        rekey(&mut out[from..], |key| {
            if key.sort == Sort::Content {
                key.sort = Sort::Reasoning(Names::Plain);
            }
        });
    }
    if signed {
        sign(&mut out[from..]);
    }
    whole
}

fn named(at: &mut Cursor<'_>, member: &[u8], out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        _ if name == member => piece(at, Sort::Code, out),
        _ => at.value().map(drop),
    })
}

const SORTS: [Sort; 4] = [
    Sort::Arguments,
    Sort::Code,
    Sort::Content,
    Sort::Reasoning(Names::Plain),
];
