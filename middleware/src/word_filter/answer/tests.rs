use bytes::Bytes;
use http::{HeaderMap, Method};
use tollgate_testing::splits::{Random, Split};

use super::{
    super::{
        Action, Rule,
        rules::{Rules, Side},
    },
    bounds::{Limits, Stop},
    hold::Hold,
};
use crate::dialect::{Framing, Operation, Surface, events::other, recognise, said::Reader};

mod client;
mod events;
mod layer;
mod properties;
mod recorded;

const CHAT: &str = "/v1/chat/completions";

/// Words that are found anywhere, as they are written.
fn rules(words: &[&str], action: Action) -> Rules {
    Rules::new(
        &[Rule {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            case_sensitive: true,
            whole_word: false,
            action,
            ..Rule::new("words")
        }],
        Side::Response,
    )
    .unwrap()
}

fn surface(path: &str) -> Surface {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let found = recognise(&Method::POST, path, query, &HeaderMap::new());
    found.surface().expect("a known surface").clone()
}

fn hold(path: &str, framing: Framing, rules: &Rules, limits: Limits) -> Hold {
    let surface = surface(path);
    let wrapped = surface.operation == Operation::Invoke;
    let reader = Reader::new(&surface).expect("a surface with texts");
    Hold::new(
        rules.clone(),
        reader,
        wrapped,
        framing,
        other(Some(&surface)),
        limits,
    )
}

const LIMITS: Limits = Limits {
    event: 1 << 20,
    document: 1 << 20,
    passes: false,
};

/// What comes of a body in these pieces.
fn filtered<'p>(
    hold: &mut Hold,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<u8>, Option<Stop>) {
    let mut out = Vec::new();
    for piece in pieces {
        hold.feed(Bytes::copy_from_slice(piece));
        while let Some(frame) = hold.next() {
            assert!(!frame.is_empty());
            out.extend_from_slice(&frame);
        }
    }
    hold.finish();
    while let Some(frame) = hold.next() {
        out.extend_from_slice(&frame);
    }
    (out, hold.stopped().cloned())
}

/// A chunk of a chat with this text for a choice.
fn chunk(choice: u64, text: &str) -> Vec<u8> {
    let text = serde_json::to_string(text).unwrap();
    format!("data: {{\"choices\":[{{\"index\":{choice},\"delta\":{{\"content\":{text}}}}}]}}\n\n")
        .into_bytes()
}

const DONE: &[u8] = b"data: [DONE]\n\n";
