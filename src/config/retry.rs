//! What is tried again.

use std::ops::RangeInclusive;

use tollgate_middleware::retry::{Commit, On};

use super::decode::{Decoder, is_word, parsed};
use super::tree::Node;
use super::types::RetryOverride;
use super::value::{self, shown_node};

const HOW: &str =
    "`connect`, `closed`, `first_byte_timeout`, `408`, `429`, `5xx`, or a status from 500 to 599";

/// What a `retry` map sets; `off` tries nothing again.
pub(crate) fn retry(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> RetryOverride {
    if is_word(node, "off") {
        return RetryOverride {
            attempts: Some(1),
            ..RetryOverride::default()
        };
    }
    let list = node.and_then(|node| node.member("on"));
    let on = list.map(|list| on(decoder, list, &format!("{path}.on")));
    let commit = node
        .and_then(|node| node.member("commit"))
        .and_then(Node::text);
    RetryOverride {
        attempts: parsed(node, "attempts", |text| {
            text.parse().map_err(|_| String::new())
        }),
        on,
        base: parsed(node, "base", value::duration),
        max_retry_after: parsed(node, "max_retry_after", value::duration),
        ratio: parsed(node, "ratio", hundredths),
        replay: parsed(node, "replay", value::size),
        commit: match commit {
            Some("head") => Some(Commit::Head),
            Some("first_event") => Some(Commit::FirstEvent),
            _ => None,
        },
    }
}

fn on(decoder: &mut Decoder<'_, '_, '_>, list: &Node, path: &str) -> On {
    let mut on = On {
        connect: false,
        closed: false,
        first_byte_timeout: false,
        statuses: [].into(),
    };
    let mut statuses = Vec::new();
    for item in list.items() {
        match item.text().unwrap_or_default() {
            "connect" => on.connect = true,
            "closed" => on.closed = true,
            "first_byte_timeout" => on.first_byte_timeout = true,
            text => match status(text) {
                Some(range) => statuses.push(range),
                None => {
                    let message =
                        format!("{} is nothing after which is tried again", shown_node(item));
                    let other = text
                        .parse()
                        .is_ok_and(|code: u16| (400..500).contains(&code));
                    let remedy = if other {
                        format!("any other 4xx is about the request itself: {HOW}")
                    } else {
                        HOW.to_owned()
                    };
                    decoder.error(item.at, path, message, remedy);
                }
            },
        }
    }
    on.statuses = statuses.into();
    on
}

fn status(text: &str) -> Option<RangeInclusive<u16>> {
    if text == "5xx" {
        return Some(500..=599);
    }
    let code: u16 = text.parse().ok()?;
    matches!(code, 408 | 429 | 500..=599).then_some(code..=code)
}

fn hundredths(text: &str) -> Result<u32, String> {
    // From 0 to 10,000.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage lies between 0 and 100"
    )]
    value::percent(text).map(|percent| (percent * 100.0).round() as u32)
}
