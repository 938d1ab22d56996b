//! What may be spent, and where that is kept.

use tollgate_middleware::budget::{Rate, Reserve, Unpriced, Waste};

use super::decode::{Decoder, is_word, parsed};
use super::tree::Node;
use super::types::{Budgets, State, Tokens};
use super::value::{self, push_key};

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

/// The layer.
pub(crate) fn budgets(node: Option<&Node>) -> Budgets {
    let word = |key| node.and_then(|node| node.member(key));
    Budgets {
        global: parsed(node, "global", value::money),
        unpriced: if is_word(word("unpriced"), "free") {
            Unpriced::Free
        } else {
            Unpriced::Refuse
        },
        waste: if is_word(word("waste"), "charge") {
            Waste::Charge
        } else {
            Waste::Free
        },
    }
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
    let redis = super::state::redis(decoder, root);
    if dir.is_none() && redis.is_none() {
        let callers = root.member("callers").map_or(&[][..], Node::entries);
        let own = callers.iter().filter_map(|entry| {
            let mut path = "callers".to_owned();
            push_key(&mut path, &entry.key);
            Some((entry.value.member("budget")?, format!("{path}.budget")))
        });
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
                "name a directory for it: `state: { dir: ./tollgate-state }`, or a Redis: `state: { redis: { url: …, replicas: … } }`",
            );
        }
    }
    State {
        dir: dir.map(Into::into),
        redis,
    }
}
