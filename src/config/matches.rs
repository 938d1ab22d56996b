//! The conditions of a route that look into a request.

use super::decode::Decoder;
use super::tree::Node;
use super::types::{Pattern, Prompt};
use super::value::{self, push_key};
use crate::regex::Regex;

/// Members that a request's metadata must have.
pub(super) fn metadata(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> Vec<(String, Pattern)> {
    let entries = node.map_or(&[][..], Node::entries);
    if let Some(excess) = entries.get(MOST_MEMBERS) {
        let message = "a request's metadata has at most 32 members";
        decoder.error(
            excess.at,
            &format!("{path}.match.metadata"),
            message,
            "ask for fewer",
        );
    }
    let read = entries.iter().filter_map(|entry| {
        let pattern = entry
            .value
            .text()
            .and_then(|text| value::pattern(text).ok())?;
        Some((entry.key.clone(), pattern))
    });
    read.collect()
}

/// What a metadata object may hold, as `route` reads it.
const MOST_MEMBERS: usize = 32;

/// What the user must say; a map that asks for nothing, or for what cannot be compiled, is an error.
pub(super) fn prompt(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> Option<Prompt> {
    let node = node?;
    let mut path = format!("{path}.match.prompt");
    let words = |key| {
        let items = node.member(key).map_or(&[][..], Node::one_or_many);
        let texts = items.iter().filter_map(Node::text);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let prompt = Prompt {
        contains: words("contains"),
        not_contains: words("not_contains"),
        regex: node.member("regex").and_then(Node::text).map(str::to_owned),
    };
    if prompt == Prompt::default() {
        let remedy = "name `contains`, `not_contains` or `regex`, or remove it";
        decoder.error(node.at, &path, "`match.prompt` asks for nothing", remedy);
    }
    let all = prompt.contains.iter().chain(&prompt.not_contains);
    if all.clone().any(String::is_empty) {
        let message = "an empty word stands in every text";
        decoder.error(node.at, &path, message, "write what is to be found");
    }
    if let (Some(source), Some(at)) = (&prompt.regex, node.member("regex"))
        && let Err(why) = Regex::new(source)
    {
        push_key(&mut path, "regex");
        decoder.error(at.at, &path, "this pattern cannot be used", why);
    }
    Some(prompt)
}
