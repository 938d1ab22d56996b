//! The routes of a file: every name that they use must exist.

use std::collections::{HashMap, HashSet};

use super::callers;
use super::decode::{Decoder, meter, timeouts};
use super::nearest::nearest;
use super::problem::{At, Fault};
use super::provider_parts::header_name;
use super::tree::{Node, Value};
use super::types::{BaseUrl, Match, Pattern, Provider, Route, Target, WordFilter};
use super::value::{self, shown, shown_node};

/// Routes whose matches are compared with each other.
const COMPARED: usize = 256;

/// The routes, in file order.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Route> {
    let items = root.member("routes").map_or(&[][..], Node::items);
    let known = Known {
        set: providers.iter().map(|p| p.name.as_str()).collect(),
        list: providers,
    };
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
        let target = target(decoder, node, &path, &title, &known);
        let layer = |name| node.member("layers").and_then(|l| l.member(name));
        let (timeout, meter) = (timeouts(layer("timeout")), meter(layer("meter")));
        let token_cap = callers::token_cap(layer("token_cap"));
        all.push(Route {
            name,
            matches,
            target,
            timeout,
            meter,
            token_cap,
            // Read once that of all routes is known.
            word_filter: WordFilter::default(),
        });
    }
    all
}

/// The providers that a target may name.
struct Known<'a> {
    set: HashSet<&'a str>,
    list: &'a [Provider],
}

fn member_text(node: &Node, key: &str) -> Option<String> {
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

fn target(
    decoder: &mut Decoder<'_, '_, '_>,
    route: &Node,
    path: &str,
    title: &str,
    known: &Known<'_>,
) -> Target {
    let path = format!("{path}.targets");
    let items = route.member("targets").map_or(&[][..], Node::items);
    if let Some(node) = route.member("targets")
        && matches!(&node.value, Value::List(items) if items.is_empty())
    {
        let message = format!("the route {title} has no target");
        decoder.error(node.at, &path, message, "name a provider");
    }
    if let Some(second) = items.get(1) {
        let message = "a route with several targets is not built yet";
        decoder.error(
            second.at,
            &format!("{path}[1]"),
            message,
            "name one provider",
        );
    }
    one_origin(decoder, items, &path, title, known);
    for (i, item) in items.iter().enumerate() {
        judge_target(decoder, item, &format!("{path}[{i}]"), title, known);
    }
    let first = items.first();
    let text = |key| first.and_then(|item| member_text(item, key));
    let bare = first.and_then(Node::text).map(str::to_owned);
    Target {
        provider: bare.or_else(|| text("provider")).unwrap_or_default(),
        model: text("model"),
        label: text("label"),
    }
}

/// A caller's own credential is one provider's: no other origin of the route may see it.
fn one_origin(
    decoder: &mut Decoder<'_, '_, '_>,
    items: &[Node],
    path: &str,
    title: &str,
    known: &Known<'_>,
) {
    let mut first: Option<&Provider> = None;
    for (i, item) in items.iter().enumerate() {
        let node = item.member("provider").unwrap_or(item);
        let named = |it: &&Provider| node.text() == Some(it.name.as_str());
        let Some(provider) = known.list.iter().find(named).filter(|it| it.passthrough) else {
            continue;
        };
        let Some(other) = first else {
            first = Some(provider);
            continue;
        };
        let origins = [other, provider].map(|it| it.base_url.as_ref().map(BaseUrl::origin));
        if origins[0] != origins[1] {
            let message = format!(
                "the route {title} would send a caller's own credential to {} and to {}",
                shown(&other.name),
                shown(&provider.name)
            );
            let remedy = "targets with `credentials: passthrough` have one scheme, host and port";
            decoder.error(node.at, &format!("{path}[{i}]"), message, remedy);
        }
    }
}

fn judge_target(
    decoder: &mut Decoder<'_, '_, '_>,
    item: &Node,
    path: &str,
    title: &str,
    known: &Known<'_>,
) {
    let provider = item.member("provider").unwrap_or(item);
    if let Some(name) = provider.text().filter(|n| !known.set.contains(n)) {
        let names = || known.list.iter().map(|p| p.name.as_str());
        let near = if decoder.is_crowded() {
            None
        } else {
            nearest(name, names())
        };
        let message = format!(
            "the route {title} sends to the provider {}, which is not defined",
            shown_node(provider)
        );
        let remedy = near
            .map(|n| format!("did you mean `{n}`?"))
            .unwrap_or_default();
        let listed: Vec<_> = names().take(20).collect();
        let fault = Fault::new(provider.at, path, message).remedy(remedy);
        decoder.fault(fault.note(format!("providers: {}", listed.join(", "))));
    }
    let Some(model) = item.member("model") else {
        return;
    };
    if model
        .text()
        .is_some_and(|t| t.is_empty() || t.contains('*'))
    {
        let remedy = "leave it out to keep the caller's";
        decoder.error(
            model.at,
            &format!("{path}.model"),
            "a target's model is one exact name",
            remedy,
        );
    }
}
