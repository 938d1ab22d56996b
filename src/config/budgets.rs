//! What may be spent, and where that is kept.

use tollgate_middleware::{
    budget::{OnShort, Rate, Reserve, Unpriced, Waste},
    prices::{Price, Prices},
};

use super::decode::{Decoder, is_word, parsed};
use super::tree::Node;
use super::types::{
    BudgetOverride, Budgets, Caller, Layers, Models, Provider, Route, State, Tokens,
};
use super::value::{self, push_key, shown};

/// The tokens of a caller.
pub(crate) fn tokens(decoder: &mut Decoder<'_, '_, '_>, node: &Node, path: &str) -> Option<Tokens> {
    let node = node.member("tokens")?;
    let quota = super::callers::quota(decoder, Some(node), &format!("{path}.tokens"))?;
    Some(Tokens {
        rate: Rate::new(quota.count(), quota.per())?,
        reserve: if is_word(node.member("reserve"), "typical") {
            Reserve::Typical
        } else {
            Reserve::Worst
        },
    })
}

/// The layer, for all routes. Where it is off, no caller may count on it.
pub(crate) fn budgets(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> Budgets {
    let layers = root.member("layers");
    let node = layers.and_then(|layers| layers.member("budget"));
    let budgets = of_route(node).over(Budgets {
        global: parsed(node, "global", value::money),
        ..Budgets::default()
    });
    if budgets.off {
        for (node, path) in agreed(root, &["budget", "tokens"]) {
            let message = format!("`{path}` would limit nothing: `layers.budget` is off");
            decoder.error(node.at, &path, message, "remove one of them");
        }
    }
    budgets
}

/// What one route says of it.
pub(crate) fn of_route(node: Option<&Node>) -> BudgetOverride {
    let word = |key| node.and_then(|node| node.member(key)?.text());
    BudgetOverride {
        on: node.map(|_| !is_word(node, "off")),
        unpriced: word("unpriced").map(|word| match word {
            "free" => Unpriced::Free,
            _ => Unpriced::Refuse,
        }),
        on_short: word("on_short").map(|word| match word {
            "clamp" => OnShort::Clamp,
            _ => OnShort::Refuse,
        }),
        waste: word("waste").map(|word| match word {
            "charge" => Waste::Charge,
            _ => Waste::Free,
        }),
    }
}

/// Warns of what nobody could mean: models that nobody with a budget of money may use, and budgets without a meter.
pub(crate) fn judge(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    layers: &Layers,
    (callers, routes, providers): (&[Caller], &[Route], &[Provider]),
    own: &[(String, Price)],
) {
    shared(decoder, root);
    let money = layers.budget.global.is_some() || callers.iter().any(|it| it.budget.is_some());
    let tokens = callers.iter().any(|it| it.tokens.is_some());
    if layers.budget.off || !(money || tokens) {
        return;
    }
    unmetered(decoder, root, layers, routes);
    if !money || layers.budget.unpriced == Unpriced::Free {
        return;
    }
    let prices = own
        .iter()
        .fold(Prices::built_in(), |prices, (model, price)| {
            prices.with(model, *price)
        });
    let nodes = root.member("providers").map_or(&[][..], Node::entries);
    for provider in providers {
        let Models::Listed(models) = &provider.models else {
            continue;
        };
        let exact = models.iter().filter(|model| !model.public.star);
        let unpriced = exact.filter(|model| {
            let (name, own) = (&model.public.text, model.upstream.as_deref());
            prices.of(name).is_none() && own.is_none_or(|own| prices.of(own).is_none())
        });
        let unpriced: Vec<_> = unpriced.map(|model| shown(&model.public.text)).collect();
        let node = nodes.iter().find(|entry| entry.key == provider.name);
        let node = node.and_then(|entry| entry.value.member("models"));
        let (Some(first), Some(node)) = (unpriced.first(), node) else {
            continue;
        };
        let others = match unpriced.len() {
            1 => "has".to_owned(),
            count => format!("and {} more have", count - 1),
        };
        let mut path = "providers".to_owned();
        push_key(&mut path, &provider.name);
        let message =
            format!("{first} {others} no price: it is refused to those with a budget of money");
        let remedy = "add a price under `prices.overrides`, or set `unpriced: free`";
        decoder.warning(node.at, &format!("{path}.models"), message, remedy);
    }
}

/// What is left in Redis is known when it answers: too late to ask for less.
fn shared(decoder: &mut Decoder<'_, '_, '_>, root: &Node) {
    let redis = root.member("state").and_then(|state| state.member("redis"));
    if redis.is_none_or(|redis| is_word(Some(redis), "off")) {
        return;
    }
    let short = |node: &'_ Node| {
        let word = node
            .member("layers")?
            .member("budget")?
            .member("on_short")?;
        is_word(Some(word), "clamp").then_some(word.at)
    };
    let routes = root.member("routes").map_or(&[][..], Node::items);
    let routes = routes.iter().enumerate();
    let routes = routes.map(|(index, node)| (short(node), format!("routes[{index}].layers")));
    let all = [(short(root), "layers".to_owned())]
        .into_iter()
        .chain(routes);
    for (at, path) in all {
        if let Some(at) = at {
            let message = "`on_short: clamp` does not go with `state.redis`: what is left is known there alone";
            let remedy = "write `on_short: refuse`";
            decoder.error(at, &format!("{path}.budget.on_short"), message, remedy);
        }
    }
}

/// Without a meter nobody knows what was used.
fn unmetered(decoder: &mut Decoder<'_, '_, '_>, root: &Node, layers: &Layers, routes: &[Route]) {
    let message = "nobody meters here: each answer is charged all that was reserved for it";
    let remedy = "leave the meter on, or turn `budget` off, too";
    let meter = |node: &'_ Node| {
        let meter = node.member("layers")?.member("meter")?;
        Some(meter.at)
    };
    if let (Some(at), false) = (meter(root), layers.meter.on) {
        decoder.warning(at, "layers.meter", message, remedy);
    }
    let nodes = root.member("routes").map_or(&[][..], Node::items);
    for (index, (route, node)) in routes.iter().zip(nodes).enumerate() {
        let off = route.budget.over(layers.budget).off;
        if let (Some(at), Some(false), false) = (meter(node), route.meter.on, off) {
            let path = format!("routes[{index}].layers.meter");
            decoder.warning(at, &path, message, remedy);
        }
    }
}

/// What is agreed with the callers of a file under these keys, and where.
fn agreed<'n>(root: &'n Node, keys: &[&str]) -> Vec<(&'n Node, String)> {
    let callers = root.member("callers").map_or(&[][..], Node::entries);
    let mut all = Vec::new();
    for entry in callers {
        let mut path = "callers".to_owned();
        push_key(&mut path, &entry.key);
        let found = keys.iter().filter_map(|key| {
            let node = entry.value.member(key)?;
            Some((node, format!("{path}.{key}")))
        });
        all.extend(found);
    }
    all
}

/// What outlives the process. Money that nobody would remember is no budget.
pub(crate) fn state(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> State {
    let node = root.member("state").and_then(|state| state.member("dir"));
    let dir = node.and_then(Node::text);
    if let (Some(node), Some("")) = (node, dir) {
        let message = "`state.dir` is empty";
        decoder.error(
            node.at,
            "state.dir",
            message,
            "name a directory, such as `./tollgate-state`",
        );
    }
    let dir = dir.filter(|dir| !dir.is_empty());
    if dir.is_none() {
        let own = agreed(root, &["budget"]).into_iter();
        let layer = root
            .member("layers")
            .and_then(|layers| layers.member("budget"));
        let global = layer.and_then(|layer| layer.member("global"));
        let global = global.map(|node| (node, "layers.budget.global".to_owned()));
        for (node, path) in own.chain(global) {
            let message = format!("`{path}` would be forgotten with each restart");
            decoder.error(
                node.at,
                &path,
                message,
                "name a directory for it: `state: { dir: ./tollgate-state }`",
            );
        }
    }
    State {
        dir: dir.map(Into::into),
    }
}
