//! The routes of a file: every name that they use must exist.

use std::collections::HashMap;

use super::decode::{Decoder, meter, timeouts};
use super::matches;
use super::problem::At;
use super::provider_parts::header_name;
use super::targets;
use super::tree::{Node, Value};
use super::types::{Match, Pattern, Provider, Route, WordFilter};
use super::value::{self, shown, shown_node};
use super::{budgets, callers, choice, retry};

/// Routes whose matches are compared with each other.
const COMPARED: usize = 256;

/// The routes, in file order.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Route> {
    let items = root.member("routes").map_or(&[][..], Node::items);
    let mut all: Vec<Route> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (i, node) in items.iter().enumerate() {
        let path = format!("routes[{i}]");
        let name = member_text(node, "name").unwrap_or_else(|| format!("route-{}", i + 1));
        let at = node.member("name").map_or(node.at, |n| n.at);
        let named = node.member("name").map(shown_node);
        let title = named.unwrap_or_else(|| shown(&name));
        let first = lines.insert(name.clone(), at.line);
        judge_name(decoder, at, &path, &name, first);
        let matches = matches(decoder, node.member("match"), &path);
        if let Some(earlier) = all.iter().take(COMPARED).position(|r| r.matches == matches) {
            let message = format!("the route {title} is never reached");
            let reason = format!("`routes[{earlier}]` matches the same and stands before it");
            decoder.warning(at, &path, message, reason);
        }
        let targets = choice::decode(decoder, node, &path, &title, providers);
        let chosen = choice::choice(decoder, node, &path, &targets);
        let layer = |name| node.member("layers").and_then(|l| l.member(name));
        let retry = retry::retry(decoder, layer("retry"), &format!("{path}.layers.retry"));
        let (timeout, meter) = (timeouts(layer("timeout")), meter(layer("meter")));
        let breaker = targets::breaker(decoder, layer("breaker"), &format!("{path}.layers"));
        let token_cap = callers::token_cap(layer("token_cap"));
        all.push(Route {
            name,
            matches,
            targets,
            strategy: chosen.strategy,
            sticky: chosen.sticky,
            state_target: chosen.state_target,
            retry,
            timeout,
            breaker,
            meter,
            token_cap,
            budget: budgets::of_route(layer("budget")),
            // Read once that of all routes is known.
            word_filter: WordFilter::default(),
        });
    }
    all
}

pub(crate) fn member_text(node: &Node, key: &str) -> Option<String> {
    node.member(key).and_then(Node::text).map(str::to_owned)
}

fn judge_name(
    decoder: &mut Decoder<'_, '_, '_>,
    at: At,
    path: &str,
    name: &str,
    first: Option<usize>,
) {
    let path = format!("{path}.name");
    if name.is_empty() || name.chars().count() > 128 {
        decoder.error(at, &path, "a route's name has 1 to 128 characters", "");
    }
    if let Some(line) = first {
        let message = "two routes have the same name";
        decoder.error(
            at,
            &path,
            message,
            format!("the other one stands on line {line}"),
        );
    }
}

fn matches(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>, path: &str) -> Match {
    let Some(node) = node else {
        return Match::default();
    };
    judge_match(decoder, node, path);
    let items = |key| node.member(key).map_or(&[][..], Node::one_or_many);
    let patterns = |key| -> Vec<Pattern> {
        let texts = items(key).iter().filter_map(Node::text);
        texts.filter_map(|t| value::pattern(t).ok()).collect()
    };
    let mut header = Vec::new();
    for entry in node.member("header").map_or(&[][..], Node::entries) {
        let name = header_name(decoder, entry, &format!("{path}.match.header"));
        let pattern = entry.value.text().and_then(|t| value::pattern(t).ok());
        header.extend(name.zip(pattern));
    }
    let dialects = items("dialect").iter().filter_map(Node::text);
    Match {
        model: patterns("model"),
        path: patterns("path"),
        caller: patterns("caller"),
        dialect: dialects.filter_map(|word| word.parse().ok()).collect(),
        stream: member_text(node, "stream").and_then(|t| t.parse().ok()),
        header,
        tools: member_text(node, "tools").and_then(|t| t.parse().ok()),
        metadata: matches::metadata(decoder, node.member("metadata"), path),
        prompt: matches::prompt(decoder, node.member("prompt"), path),
    }
}

fn judge_match(decoder: &mut Decoder<'_, '_, '_>, node: &Node, path: &str) {
    for key in ["model", "path", "caller", "dialect"] {
        let Some(list) = node.member(key) else {
            continue;
        };
        if matches!(&list.value, Value::List(items) if items.is_empty()) {
            let message = format!("`match.{key}` names nothing, so nothing matches");
            let path = format!("{path}.match.{key}");
            decoder.error(list.at, &path, message, "remove it, or name something");
        }
    }
    let paths = node.member("path").map_or(&[][..], Node::one_or_many);
    let relative = |n: &&Node| n.text().is_some_and(|t| !t.starts_with(['/', '*']));
    if let Some(relative) = paths.iter().find(relative) {
        let remedy = "such as `/v1/chat/completions` or `/v1/files*`";
        let path = format!("{path}.match.path");
        decoder.error(relative.at, &path, "a path begins with `/`", remedy);
    }
}
