//! The targets of a route, and how one of them is chosen.

use std::collections::HashSet;

use tollgate_middleware::attempt::TARGETS;

use super::decode::{Decoder, is_word, number, parsed, timeouts};
use super::nearest::nearest;
use super::problem::Fault;
use super::routes::member_text;
use super::targets;
use super::tree::{Node, Value};
use super::types::{BaseUrl, Models, Provider, StickyOn, Strategy, Target};
use super::value::{shown, shown_node};

/// The providers that a target may name.
struct Known<'a> {
    set: HashSet<&'a str>,
    list: &'a [Provider],
}

/// The targets of a route, in file order.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    route: &Node,
    path: &str,
    title: &str,
    providers: &[Provider],
) -> Vec<Target> {
    let known = Known {
        set: providers.iter().map(|p| p.name.as_str()).collect(),
        list: providers,
    };
    let path = format!("{path}.targets");
    let Some(node) = route.member("targets") else {
        return Vec::new();
    };
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        let message = format!("the route {title} has no target");
        decoder.error(node.at, &path, message, "name a provider");
    }
    let items = node.items();
    if let Some(beyond) = items.get(TARGETS) {
        let message = format!("a route has at most {TARGETS} targets");
        decoder.error(beyond.at, &path, message, "");
    }
    one_origin(decoder, items, &path, title, providers);
    let mut all = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        judge_target(decoder, item, &path, title, &known);
        all.push(target(decoder, item, &path));
        judge_credential(decoder, item, &path, providers);
    }
    if !all.is_empty() && all.iter().all(|target| target.weight == 0) {
        let message =
            format!("each target of the route {title} has the weight 0, so nobody answers");
        decoder.error(node.at, &path, message, "give one of them a weight");
    }
    all
}

/// Without routes a model goes on from provider to provider, as far as these are told apart.
pub(crate) fn judge_implicit(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) {
    let entries = root.member("providers").map_or(&[][..], Node::entries);
    if let Some(beyond) = entries.get(TARGETS) {
        let message = format!(
            "more than {TARGETS} providers and no routes: a model is asked of the first that lists it, and of no other if that fails"
        );
        let remedy = format!("write routes, each with up to {TARGETS} targets");
        decoder.warning(beyond.at, "providers", message, remedy);
    }
    if root.member("routes").is_some() || providers.len() < 2 {
        return;
    }
    let silent = providers.iter().filter(|it| it.models == Models::Any);
    let silent: HashSet<_> = silent.map(|it| &*it.name).collect();
    for entry in entries.iter().filter(|it| silent.contains(&*it.key)) {
        let name = shown(&entry.key);
        let message = format!(
            "the provider {name} has no `models`, and there are no routes: beside other providers it lists nothing, and is asked only for `{}/…`",
            entry.key
        );
        let remedy = "list its `models`, or write a route that names it";
        decoder.warning(
            entry.at,
            &format!("providers.{}", entry.key),
            message,
            remedy,
        );
    }
}

/// A caller's own credential is one provider's: no other origin of the route may see it.
fn one_origin(
    decoder: &mut Decoder<'_, '_, '_>,
    items: &[Node],
    path: &str,
    title: &str,
    providers: &[Provider],
) {
    let mut first: Option<&Provider> = None;
    for (i, item) in items.iter().enumerate() {
        let node = item.member("provider").unwrap_or(item);
        let named = |it: &&Provider| node.text() == Some(it.name.as_str());
        let Some(provider) = providers.iter().find(named).filter(|it| it.passthrough) else {
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

fn target(decoder: &mut Decoder<'_, '_, '_>, item: &Node, path: &str) -> Target {
    let text = |key| member_text(item, key);
    let retry = item.member("retry");
    let attempts = if is_word(retry, "off") {
        Some(1)
    } else {
        parsed(retry, "attempts", number).map(|it| u32::try_from(it).unwrap_or(u32::MAX))
    };
    let bare = item.text().map(str::to_owned);
    Target {
        provider: bare.or_else(|| text("provider")).unwrap_or_default(),
        model: text("model"),
        label: text("label"),
        weight: parsed(Some(item), "weight", number)
            .map_or(1, |it| u32::try_from(it).unwrap_or(u32::MAX)),
        credential: text("credential"),
        attempts,
        breaker: targets::breaker(decoder, item.member("breaker"), path),
        timeout: timeouts(item.member("timeout")),
    }
}

fn judge_credential(
    decoder: &mut Decoder<'_, '_, '_>,
    item: &Node,
    path: &str,
    providers: &[Provider],
) {
    let (Some(node), Some(provider)) = (item.member("credential"), member_text(item, "provider"))
    else {
        return;
    };
    let provider = providers.iter().find(|it| it.name == provider);
    if let (Some(provider), Some(name)) = (provider, node.text())
        && !provider.has_credential(name)
    {
        let message = format!(
            "the provider `{}` has no credential named {}",
            provider.name,
            shown_node(node)
        );
        let remedy = "a credential with a name is `{ name: spare, key: … }`";
        decoder.error(node.at, &format!("{path}.credential"), message, remedy);
    }
}

/// How a target is chosen.
pub(crate) struct Choice {
    pub(crate) strategy: Strategy,
    pub(crate) sticky: Option<StickyOn>,
    pub(crate) state_target: usize,
}

/// How a route chooses between its targets.
pub(crate) fn choice(
    decoder: &mut Decoder<'_, '_, '_>,
    route: &Node,
    path: &str,
    targets: &[Target],
) -> Choice {
    let word = route.member("strategy");
    let strategy = word.and_then(Node::text).and_then(Strategy::from_word);
    if let (Some(node), None) = (word, strategy)
        && matches!(node.text(), Some("prefix" | "adaptive" | "bandit"))
    {
        let message = format!("the strategy {} is not built yet", shown_node(node));
        let words: Vec<_> = Strategy::WORDS.iter().map(|(word, _)| *word).collect();
        let path = format!("{path}.strategy");
        decoder.error(
            node.at,
            &path,
            message,
            format!("one of {}", words.join(", ")),
        );
    }
    let strategy = strategy.unwrap_or_default();
    let weighs = matches!(strategy, Strategy::Weighted | Strategy::Sticky);
    let sticky = route
        .member("sticky")
        .filter(|node| node.text() != Some("off"));
    let on = sticky
        .and_then(|node| node.member("on"))
        .and_then(Node::text);
    if let Some(node) = sticky {
        let path = format!("{path}.sticky");
        if on.is_none() && node.member("on").is_none() {
            let message = "`sticky` does not say on what";
            decoder.error(
                node.at,
                &path,
                message,
                "`sticky: { on: caller }`, `session` or `user`",
            );
        } else if !weighs {
            let message = format!(
                "`sticky` means nothing under the strategy `{}`",
                strategy.word()
            );
            decoder.error(node.at, &path, message, "write `strategy: weighted`");
        }
    }
    let weighed = |item: &&Node| {
        item.member("weight")
            .is_some_and(|it| !matches!(it.text(), Some("0" | "1")))
    };
    let items = route.member("targets").map_or(&[][..], Node::items);
    if let Some(item) = items.iter().find(weighed)
        && !weighs
        && items.len() > 1
    {
        let message = format!(
            "a weight above 1 means nothing under the strategy `{}`",
            strategy.word()
        );
        let at = item.member("weight").map_or(item.at, |it| it.at);
        decoder.error(
            at,
            &format!("{path}.targets"),
            message,
            "write `strategy: weighted`",
        );
    }
    Choice {
        strategy,
        sticky: match on {
            Some("caller") => Some(StickyOn::Caller),
            Some("session") => Some(StickyOn::Session),
            Some("user") => Some(StickyOn::User),
            _ => None,
        },
        state_target: state_target(decoder, route, path, targets),
    }
}

/// The target that is named: by its provider, as `provider/model`, or by its label.
fn state_target(
    decoder: &mut Decoder<'_, '_, '_>,
    route: &Node,
    path: &str,
    targets: &[Target],
) -> usize {
    let Some(node) = route.member("state_target") else {
        return 0;
    };
    let Some(name) = node.text() else { return 0 };
    let is_named = |target: &Target| {
        let model = target.model.as_deref();
        target.label.as_deref() == Some(name)
            || target.provider == name
            || model.is_some_and(|model| {
                name.strip_prefix(&*target.provider) == Some(&format!("/{model}"))
            })
    };
    let found = targets.iter().position(is_named);
    if found.is_none() {
        let message = format!("no target of the route is {}", shown_node(node));
        let remedy = "name a target by its provider, as `provider/model`, or by its label";
        decoder.error(node.at, &format!("{path}.state_target"), message, remedy);
    }
    found.unwrap_or(0)
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
