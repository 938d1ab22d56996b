//! Anthropic's Messages, and what is shaped like them.

use super::{Names, Out, Runs, Sort, Times, Told, Whose, arguments, index, piece, rekey, sign};
use crate::{
    dialect::said::{Form, text},
    json::Cursor,
};

pub(super) fn event(at: &mut Cursor<'_>, document: bool, out: &mut Out) -> Option<()> {
    if document {
        return self::document(at, out);
    }
    let from = out.len();
    let (mut block, mut ends) = (0, None);
    let whole = at.object(|at, name| match name {
        b"index" => index(at).map(|index| block = index),
        b"delta" | b"content_block" => part(at, out),
        b"type" => {
            let kind = at.value()?;
            ends = match () {
                () if kind.is_str("content_block_stop") => Some(false),
                () if kind.is_str("message_delta") || kind.is_str("message_stop") => Some(true),
                () => None,
            };
            Some(())
        }
        // Some gateways wrap the events of another dialect.
        b"message" => at.object(|at, name| match name {
            b"content" => blocks(at, out),
            _ => at.value().map(drop),
        }),
        _ => at.value().map(drop),
    });
    rekey(&mut out[from..], |key| key.part += block);
    out.extend(ends.map(|all| {
        Told::Ends(if all {
            Whose::All
        } else {
            Whose::Part(0, block)
        })
    }));
    whole
}

fn document(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"content" => blocks(at, out),
        // Of the API before this one.
        b"completion" => piece(at, Sort::Content, out),
        _ => at.value().map(drop),
    })
}

/// Blocks in a row.
pub(super) fn blocks(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    let mut runs = Runs::default();
    at.array(|at| {
        let from = out.len();
        part(at, out)?;
        runs.part(&mut out[from..]);
        Some(())
    })
}

/// A block, or what comes to one.
pub(super) fn part(at: &mut Cursor<'_>, out: &mut Out) -> Option<()> {
    at.object(|at, name| match name {
        b"text" => piece(at, Sort::Content, out),
        // The signature of a block comes when the text is out.
        b"thinking" => {
            let from = out.len();
            piece(at, Sort::Reasoning(Names::Plain), out)?;
            sign(&mut out[from..]);
            Some(())
        }
        b"partial_json" => text(at, Sort::Arguments, Form::Json, Times::Piece, out),
        b"input" => arguments(at, Times::Piece, out),
        _ => at.value().map(drop),
    })
}
