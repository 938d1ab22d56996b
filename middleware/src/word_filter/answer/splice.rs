//! Masks put into strings of an event.

use std::ops::Range;

use bytes::Bytes;

use super::{
    super::rules::{RuleIndex, Rules},
    texts::{Hit, Piece},
    walk::{State, Walk},
};
use crate::{
    dialect::{
        said::{Form, Text},
        units::Edit,
    },
    json::escape_into,
};

/// The changes of one string of a text in which this was found.
pub(super) fn piece(
    rules: &Rules,
    piece: &Piece,
    data: &[u8],
    hits: &[Hit],
    changes: &mut Vec<Edit>,
) {
    let one = One {
        form: piece.form,
        before: piece.before,
        start: piece.start,
        span: piece.span.clone(),
    };
    one.changes(rules, data, hits, changes);
}

/// The changes of a text that is one string.
pub(super) fn whole(
    rules: &Rules,
    text: &Text,
    data: &[u8],
    hits: &[Hit],
    changes: &mut Vec<Edit>,
) {
    let one = One {
        form: text.form,
        before: State::default(),
        start: 0,
        span: text.span.clone(),
    };
    one.changes(rules, data, hits, changes);
}

struct One {
    form: Form,
    before: State,
    /// What is found before this has its mask in an earlier string.
    start: u64,
    span: Range<usize>,
}

impl One {
    fn changes(&self, rules: &Rules, data: &[u8], hits: &[Hit], changes: &mut Vec<Edit>) {
        let Some(inner) = data.get(self.span.start + 1..self.span.end - 1) else {
            return;
        };
        if hits.is_empty() {
            return;
        }
        let mut places: Vec<Option<Range<usize>>> = vec![None; hits.len()];
        // Both come in order.
        let mut first = 0;
        let mut state = self.before;
        state.walk(self.form, inner, |walk| {
            let (at, end, raw, plain) = match walk {
                Walk::Piece {
                    text,
                    at,
                    raw,
                    plain,
                } => (at, at + text.len() as u64, raw, plain),
                Walk::Open { at, raw } => (at, at + 1, raw, false),
                Walk::Ends | Walk::Over => return,
            };
            while hits.get(first).is_some_and(|hit| hit.end <= at) {
                first += 1;
            }
            for (hit, place) in hits.iter().zip(&mut places).skip(first) {
                if hit.start >= end {
                    break;
                }
                let inside = |place: u64| usize::try_from(place - at).unwrap_or(usize::MAX);
                let raw = if plain {
                    raw.start + inside(hit.start.max(at))..raw.start + inside(hit.end.min(end))
                } else {
                    raw.clone()
                };
                let start = place.as_ref().map_or(raw.start, |place| place.start);
                *place = Some(start..raw.end);
            }
        });
        for (hit, place) in hits.iter().zip(places) {
            let Some(place) = place else { continue };
            let with = if hit.start >= self.start {
                mask(rules, hit.rule, self.form)
            } else {
                Bytes::new()
            };
            let base = self.span.start + 1;
            changes.push((base + place.start..base + place.end, with));
        }
    }
}

/// What stands in the place of a match, as it is written there.
fn mask(rules: &Rules, rule: RuleIndex, form: Form) -> Bytes {
    let once = escaped(rules.mask(rule));
    let text = match form {
        Form::Json => escaped(&once),
        Form::Plain | Form::Value => once,
    };
    text.into()
}

/// As it stands between the quotes.
fn escaped(text: &str) -> String {
    let mut out = Vec::new();
    escape_into(text, &mut out);
    out.pop();
    out.remove(0);
    // What was text is text.
    String::from_utf8(out).unwrap_or_default()
}
