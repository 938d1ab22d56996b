//! The word filter, as text.

use tollgate_middleware::word_filter::{ApplyTo, Normalize};

use crate::config::{
    json::quoted,
    types::{FilterRule, WordFilter},
};

/// What the file says of it; `None` where it says nothing.
pub(super) fn word_filter(filter: &WordFilter) -> Option<String> {
    if filter.off {
        return Some("word_filter: off".to_owned());
    }
    let mut parts = rule(&filter.default);
    if let Some(rules) = &filter.rules {
        let rules = rules.iter().map(|one| {
            let id = format!("id: {}", quoted(&one.id));
            let parts: Vec<_> = [id].into_iter().chain(rule(one)).collect();
            format!("{{ {} }}", parts.join(", "))
        });
        parts.push(list("rules", rules));
    }
    (!parts.is_empty()).then(|| format!("word_filter: {{ {} }}", parts.join(", ")))
}

/// The keys of a rule but its name. Of a file its path is told: what stands in it is long.
fn rule(rule: &FilterRule) -> Vec<String> {
    let mut parts = Vec::new();
    let texts = |key: &str, texts: &[String]| list(key, texts.iter().map(|it| quoted(it)));
    parts.extend(rule.words.as_deref().map(|words| texts("words", words)));
    parts.extend(rule.files.as_deref().map(|files| {
        let paths = files.iter().map(|file| quoted(&file.path));
        list("files", paths)
    }));
    parts.extend(rule.regex.as_deref().map(|all| texts("regex", all)));
    parts.extend(rule.entities.as_deref().map(|all| {
        let words = all.iter().map(|entity| entity.as_str().to_owned());
        list("entities", words)
    }));
    parts.extend(rule.max_match.map(|it| format!("max_match: {it}")));
    let truth = |key: &str, it: bool| format!("{key}: {it}");
    parts.extend(rule.case_sensitive.map(|it| truth("case_sensitive", it)));
    parts.extend(rule.whole_word.map(|it| truth("whole_word", it)));
    parts.extend(rule.normalize.map(|form| {
        let word = match form {
            Normalize::None => "none",
            Normalize::Nfkc => "nfkc",
        };
        format!("normalize: {word}")
    }));
    parts.extend(rule.apply_to.map(|ApplyTo { request, response }| {
        let sides = [("request", request), ("response", response)];
        let sides = sides.into_iter().filter(|(_, on)| *on);
        list("apply_to", sides.map(|(side, _)| side.to_owned()))
    }));
    parts.extend(rule.action.map(|it| format!("action: {}", it.as_str())));
    parts.extend(
        rule.mask
            .as_deref()
            .map(|it| format!("mask: {}", quoted(it))),
    );
    parts.extend(rule.uninspected.map(|passes| {
        let word = if passes { "pass" } else { "reject" };
        format!("uninspected: {word}")
    }));
    parts
}

fn list(key: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    format!("{key}: [{}]", items.join(", "))
}
