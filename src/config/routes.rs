//! The aliases and routes of a file: every name that they use must exist.

use std::collections::{HashMap, HashSet};

use super::decode::{Decoder, timeouts};
use super::nearest::nearest;
use super::problem::Fault;
use super::providers::header_name;
use super::tree::{Node, Value};
use super::types::{Alias, Match, Models, Pattern, Provider, Route, Target};
use super::value::{self, push_key, shown};

/// Routes whose matches are compared with each other.
const COMPARED: usize = 256;

/// The aliases with their chains followed; a circle is an error, a name that is also a model a warning.
pub(crate) fn aliases(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Alias> {
    let entries = root.member("aliases").map_or(&[][..], Node::entries);
    let next: HashMap<&str, &str> = entries
        .iter()
        .filter_map(|e| Some((e.key.as_str(), e.value.text()?)))
        .collect();
    let listed: HashSet<&str> = providers.iter().flat_map(exact_models).collect();
    let mut ends: HashMap<&str, Option<&str>> = HashMap::new();
    let mut all = Vec::new();
    for entry in entries {
        let mut path = "aliases".to_owned();
        push_key(&mut path, &entry.key);
        let Some(text) = entry.value.text() else {
            continue;
        };
        for (word, at) in [(entry.key.as_str(), entry.at), (text, entry.value.at)] {
            if word.is_empty() || word.contains('*') {
                decoder.error(
                    at,
                    &path,
                    format!("{} is no exact model name", shown(word)),
                    "an alias stands for one model; patterns go under `models` or `match`",
                );
            }
        }
        if listed.contains(entry.key.as_str()) {
            decoder.warning(
                entry.at,
                &path,
                format!("the alias {} is also a listed model", shown(&entry.key)),
                "the model wins: the alias does nothing",
            );
        } else if entry
            .key
            .split_once('/')
            .is_some_and(|(p, _)| providers.iter().any(|other| other.name == p))
        {
            decoder.warning(
                entry.at,
                &path,
                format!(
                    "the alias {} also reads as `provider/model`",
                    shown(&entry.key)
                ),
                "the alias wins",
            );
        }
        match end_of(&entry.key, &next, &mut ends) {
            Some(model) => all.push(Alias {
                name: entry.key.clone(),
                model: model.to_owned(),
            }),
            None => decoder.error(
                entry.at,
                &path,
                format!("the alias {} leads back to itself", shown(&entry.key)),
                "let one of them name a model",
            ),
        }
    }
    all
}

fn exact_models(provider: &Provider) -> impl Iterator<Item = &str> {
    let models = match &provider.models {
        Models::Any => &[][..],
        Models::Listed(models) => models,
    };
    models
        .iter()
        .filter(|m| !m.public.star)
        .map(|m| m.public.text.as_str())
}

/// Where the chain of `name` ends; `None` for a circle. Every name is walked once, whatever the file.
fn end_of<'a>(
    name: &'a str,
    next: &HashMap<&'a str, &'a str>,
    ends: &mut HashMap<&'a str, Option<&'a str>>,
) -> Option<&'a str> {
    let (mut walked, mut seen, mut at) = (Vec::new(), HashSet::new(), name);
    let end = loop {
        if let Some(known) = ends.get(at) {
            break *known;
        }
        if !seen.insert(at) {
            break None;
        }
        let Some(to) = next.get(at) else {
            break Some(at);
        };
        walked.push(at);
        at = to;
    };
    ends.extend(walked.into_iter().map(|w| (w, end)));
    end
}

/// The routes, in file order.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Route> {
    let items = root.member("routes").map_or(&[][..], Node::items);
    let names: HashSet<&str> = providers.iter().map(|p| p.name.as_str()).collect();
    let mut all: Vec<Route> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (i, node) in items.iter().enumerate() {
        let path = format!("routes[{i}]");
        let name = node
            .member("name")
            .and_then(Node::text)
            .map_or_else(|| format!("route-{}", i + 1), str::to_owned);
        let at = node.member("name").map_or(node.at, |n| n.at);
        if name.is_empty() || name.chars().count() > 128 {
            decoder.error(
                at,
                &format!("{path}.name"),
                "a route's name has 1 to 128 characters",
                "",
            );
        }
        if let Some(line) = lines.insert(name.clone(), at.line) {
            decoder.error(
                at,
                &format!("{path}.name"),
                format!("two routes are named {}", shown(&name)),
                format!("the first one stands on line {line}"),
            );
        }
        let matches = matches(decoder, node.member("match"), &path);
        if let Some(earlier) = all.iter().take(COMPARED).find(|r| r.matches == matches) {
            let message = format!("the route {} is never reached", shown(&name));
            decoder.warning(
                at,
                &path,
                message,
                format!(
                    "{} matches the same and stands before it",
                    shown(&earlier.name)
                ),
            );
        }
        let target = target(decoder, node, &path, &name, &names);
        let timeout = timeouts(node.member("layers").and_then(|l| l.member("timeout")));
        all.push(Route {
            name,
            matches,
            target,
            timeout,
        });
    }
    all
}

fn matches(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>, path: &str) -> Match {
    let Some(node) = node else {
        return Match::default();
    };
    let items = |key| node.member(key).map_or(&[][..], Node::one_or_many);
    let patterns = |key| -> Vec<Pattern> {
        items(key)
            .iter()
            .filter_map(|n| value::pattern(n.text()?).ok())
            .collect()
    };
    for key in ["model", "path", "dialect"] {
        if let Some(empty) = node
            .member(key)
            .filter(|n| matches!(&n.value, Value::List(l) if l.is_empty()))
        {
            decoder.error(
                empty.at,
                &format!("{path}.match.{key}"),
                format!("`match.{key}` names nothing, so nothing matches"),
                "remove it, or name something",
            );
        }
    }
    let paths = patterns("path");
    if let Some(relative) = items("path")
        .iter()
        .find(|n| n.text().is_some_and(|t| !t.starts_with(['/', '*'])))
    {
        decoder.error(
            relative.at,
            &format!("{path}.match.path"),
            "a path begins with `/`",
            "such as `/v1/chat/completions` or `/v1/files*`",
        );
    }
    let mut header = Vec::new();
    for entry in node.member("header").map_or(&[][..], Node::entries) {
        let path = format!("{path}.match.header");
        let name = header_name(decoder, entry, &path);
        let pattern = entry.value.text().and_then(|t| value::pattern(t).ok());
        header.extend(name.zip(pattern));
    }
    Match {
        model: patterns("model"),
        path: paths,
        dialect: items("dialect")
            .iter()
            .filter_map(|n| n.text()?.parse().ok())
            .collect(),
        stream: node
            .member("stream")
            .and_then(Node::text)
            .and_then(|t| t.parse().ok()),
        header,
    }
}

fn target(
    decoder: &mut Decoder<'_, '_, '_>,
    route: &Node,
    path: &str,
    route_name: &str,
    names: &HashSet<&str>,
) -> Target {
    let mut all = Vec::new();
    let items = route.member("targets").map_or(&[][..], Node::items);
    if let Some(node) = route
        .member("targets")
        .filter(|n| matches!(n.value, Value::List(_)) && items.is_empty())
    {
        decoder.error(
            node.at,
            &format!("{path}.targets"),
            format!("the route {} has no target", shown(route_name)),
            "name a provider",
        );
    }
    if let Some(second) = items.get(1) {
        decoder.error(
            second.at,
            &format!("{path}.targets[1]"),
            "a route with several targets is not built yet",
            "name one provider",
        );
    }
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}.targets[{i}]");
        let provider = item.member("provider").unwrap_or(item);
        if let Some(name) = provider.text().filter(|n| !names.contains(n)) {
            let near = if decoder.is_crowded() {
                None
            } else {
                nearest(name, names.iter().copied())
            };
            let mut known: Vec<&str> = names.iter().copied().take(20).collect();
            known.sort_unstable();
            let message = format!(
                "the route {} sends to the provider {}, which is not defined",
                shown(route_name),
                shown(name)
            );
            let fault = Fault::new(provider.at, &path, message).remedy(
                near.map(|n| format!("did you mean `{n}`?"))
                    .unwrap_or_default(),
            );
            decoder.fault(fault.note(format!("providers: {}", known.join(", "))));
        }
        if let Some(model) = item
            .member("model")
            .filter(|m| m.text().is_some_and(|t| t.is_empty() || t.contains('*')))
        {
            decoder.error(
                model.at,
                &format!("{path}.model"),
                "a target's model is one exact name",
                "leave it out to keep the caller's",
            );
        }
        let text = |key| item.member(key).and_then(Node::text).map(str::to_owned);
        all.push(Target {
            provider: provider.text().unwrap_or_default().to_owned(),
            model: text("model"),
            label: text("label"),
        });
    }
    all.into_iter().next().unwrap_or(Target {
        provider: String::new(),
        model: None,
        label: None,
    })
}
