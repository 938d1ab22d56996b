//! Rules that can find nothing.

use std::collections::HashMap;

use tollgate_middleware::word_filter::{ApplyTo, Normalize, Rule};

use super::super::{decode::Decoder, tree::Node, types::WordFilter};

/// Warns of what looks for nothing, or looks nowhere: of a filter as the file has it, and as it is `ready` with what it leaves open.
pub(super) fn warn(
    decoder: &mut Decoder<'_, '_, '_>,
    node: &Node,
    path: &str,
    own: &WordFilter,
    ready: &[Rule],
) {
    if own.off {
        return;
    }
    if ready.is_empty() {
        let message = format!("`{path}` looks for nothing");
        let remedy = "name words, files, expressions or entities, or turn it `off`";
        return decoder.warning(node.at, path, message, remedy);
    }
    let items = node.member("rules").map_or(&[][..], Node::items);
    let rules = own.rules.iter().flatten().zip(items);
    let rules = rules
        .enumerate()
        .map(|(i, (rule, node))| (format!("{path}.rules[{i}]"), rule, node));
    let all = [(path.to_owned(), &own.default, node)]
        .into_iter()
        .chain(rules);
    for (path, rule, node) in all {
        let files = node.member("files").map_or(&[][..], Node::one_or_many);
        for (i, (file, item)) in rule.files.iter().flatten().zip(files).enumerate() {
            if file.words.is_empty() {
                let message = "the file has no entry";
                decoder.warning(item.at, &format!("{path}.files[{i}]"), message, "");
            }
        }
        let found = ready.iter().find(|it| *it.id == rule.id);
        let Some(found) = found else {
            // The rule `default` may be left to others.
            if rule.id != "default" {
                let message = format!("the rule `{}` looks for nothing", rule.id);
                let remedy = "name words, files, expressions or entities, or remove it";
                decoder.warning(node.at, &path, message, remedy);
            }
            continue;
        };
        if !found.apply_to.request && !found.apply_to.response {
            let node = node.member("apply_to").unwrap_or(node);
            let message = format!(
                "the rule `{}` looks neither at requests nor at answers",
                found.id
            );
            decoder.warning(node.at, &format!("{path}.apply_to"), message, "");
        } else if let Some(other) = shadow(found, ready) {
            let message = format!(
                "the rule `{}` finds nothing: `{other}` finds all its words first",
                found.id
            );
            decoder.warning(node.at, &path, message, "remove its words from one of them");
        }
    }
}

/// The first rule that hides a word of this one, if other rules hide them all: the same word, as strong or stronger, wherever this
/// one would find it.
fn shadow<'r>(rule: &Rule, all: &'r [Rule]) -> Option<&'r str> {
    if !rule.regex.is_empty() || !rule.entities.is_empty() {
        return None;
    }
    let before = all.iter().position(|it| it.id == rule.id)?;
    let mut words = HashMap::<String, &str>::new();
    for (at, other) in all.iter().enumerate() {
        let first = other.action > rule.action || other.action == rule.action && at < before;
        let covers = |it: fn(ApplyTo) -> bool| it(other.apply_to) || !it(rule.apply_to);
        let alike =
            other.normalize == rule.normalize && other.case_sensitive == rule.case_sensitive;
        let wide = (!other.whole_word || rule.whole_word)
            && covers(|it| it.request)
            && covers(|it| it.response);
        if first && alike && wide {
            for word in &other.words {
                words.entry(form(word, other)).or_insert(&other.id);
            }
        }
    }
    let mut hidden = rule.words.iter().map(|word| words.get(&form(word, rule)));
    let first = hidden.next()??;
    hidden.all(|it| it.is_some()).then_some(*first)
}

/// The same for words that are surely the same to a rule.
fn form(word: &str, rule: &Rule) -> String {
    match (rule.case_sensitive, rule.normalize) {
        (false, Normalize::None) => word.to_lowercase(),
        _ => word.to_owned(),
    }
}
