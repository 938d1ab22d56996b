//! The word filter of all routes, and of each.

mod idle;

use std::collections::HashSet;

use tollgate_middleware::word_filter::{Action, ApplyTo, Filter, Normalize, Unfit};

use super::decode::{Decoder, is_word, reason};
use super::tree::Node;
use super::types::{FilterRule, Route, WordFile, WordFilter};
use super::value;

/// The filter of all routes; each route gets its own, or that.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    routes: &mut [Route],
) -> WordFilter {
    let node = root
        .member("layers")
        .and_then(|layers| layers.member("word_filter"));
    let usual = word_filter(decoder, node, "layers.word_filter");
    let usual = ready(decoder, node, "layers.word_filter", usual);
    if let Some(node) = node {
        idle::warn(decoder, node, "layers.word_filter", &usual, &usual.ready());
    }
    let items = root.member("routes").map_or(&[][..], Node::items);
    for (i, (route, item)) in routes.iter_mut().zip(items).enumerate() {
        let node = item
            .member("layers")
            .and_then(|layers| layers.member("word_filter"));
        let path = format!("routes[{i}].layers.word_filter");
        if node.is_none() {
            route.word_filter.filter = usual.filter.clone();
            continue;
        }
        let own = word_filter(decoder, node, &path);
        let all = ready(decoder, node, &path, own.over(&usual));
        if let Some(node) = node {
            idle::warn(decoder, node, &path, &own, &all.ready());
        }
        route.word_filter = WordFilter {
            filter: all.filter,
            ..own
        };
    }
    usual
}

/// The same, to be searched with.
fn ready(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
    filter: WordFilter,
) -> WordFilter {
    let made = Filter::new(filter.ready());
    let made = made.map(|made| made.uninspected(filter.passes_uninspected()));
    match made {
        Ok(made) => WordFilter {
            filter: made,
            ..filter
        },
        Err(why) => {
            if let Some(node) = node {
                unfit(decoder, node, path, &why);
            }
            filter
        }
    }
}

/// Says of a rule what is wrong with it, where it stands.
fn unfit(decoder: &mut Decoder<'_, '_, '_>, node: &Node, path: &str, why: &Unfit) {
    let rules = node.member("rules").map_or(&[][..], Node::items);
    let rule = rules.iter().enumerate().find(|(i, rule)| {
        let id = rule.member("id").and_then(Node::text);
        match id {
            Some(id) => id == why.rule(),
            None => why.rule() == format!("rule-{}", i + 1),
        }
    });
    let (node, path) = match rule {
        Some((i, rule)) => (rule, format!("{path}.rules[{i}]")),
        None => (node, path.to_owned()),
    };
    let regex = why
        .regex()
        .and_then(|i| Some((i, node.member("regex")?.one_or_many().get(i)?)));
    let (at, path) = match regex {
        Some((i, regex)) => (regex.at, format!("{path}.regex[{i}]")),
        None => (node.at, path),
    };
    decoder.error(
        at,
        &path,
        format!("`{path}` cannot be searched for: {}", why.why()),
        "",
    );
}

/// A match of no character is none, and one of many holds back as much of each answer.
fn max_match(decoder: &mut Decoder<'_, '_, '_>, node: &Node, path: &str) -> Option<usize> {
    let node = node.member("max_match")?;
    let most = node.text()?.parse().ok()?;
    if !(1..=LONGEST_MATCH).contains(&most) {
        let path = format!("{path}.max_match");
        let message = format!("a match has 1 to {LONGEST_MATCH} characters");
        decoder.error(node.at, &path, message, "");
        return None;
    }
    Some(most)
}

fn word_filter(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>, path: &str) -> WordFilter {
    let Some(node) = node else {
        return WordFilter::default();
    };
    let mut default = rule(decoder, node, path);
    "default".clone_into(&mut default.id);
    let rules = node.member("rules").map(|rules| {
        let rules = rules.items().iter().enumerate();
        let rules = rules.map(|(i, node)| {
            let path = format!("{path}.rules[{i}]");
            let mut rule = rule(decoder, node, &path);
            if rule.id.is_empty() {
                rule.id = format!("rule-{}", i + 1);
            }
            (node, path, rule)
        });
        rules.collect::<Vec<_>>()
    });
    let mut ids = HashSet::from(["default".to_owned()]);
    for (node, path, rule) in rules.iter().flatten() {
        let at = node.member("id").unwrap_or(node).at;
        if !ids.insert(rule.id.clone()) {
            let message = format!("two rules are called {}", value::shown(&rule.id));
            let path = format!("{path}.id");
            decoder.error(at, &path, message, "give each a name of its own");
        }
    }
    let rules = rules.map(|rules| rules.into_iter().map(|(_, _, rule)| rule).collect());
    WordFilter {
        off: is_word(Some(node), "off"),
        default,
        rules,
        filter: Filter::default(),
    }
}

fn rule(decoder: &mut Decoder<'_, '_, '_>, node: &Node, path: &str) -> FilterRule {
    let text = |key: &str| node.member(key).and_then(Node::text);
    let texts = |key: &str| {
        let items = node.member(key)?.one_or_many().iter();
        Some(
            items
                .filter_map(Node::text)
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let truth = |key: &str| text(key).and_then(|text| text.parse().ok());
    FilterRule {
        id: text("id").unwrap_or_default().to_owned(),
        words: words(decoder, node.member("words"), path),
        files: files(decoder, node.member("files"), path),
        regex: texts("regex"),
        entities: texts("entities").map(|words| {
            let words = words.iter().filter_map(|word| word.parse().ok());
            words.collect()
        }),
        max_match: max_match(decoder, node, path),
        case_sensitive: truth("case_sensitive"),
        whole_word: truth("whole_word"),
        normalize: match text("normalize") {
            Some("none") => Some(Normalize::None),
            Some("nfkc") => Some(Normalize::Nfkc),
            _ => None,
        },
        apply_to: node.member("apply_to").map(|list| {
            let names = |side| list.one_or_many().iter().any(|it| is_word(Some(it), side));
            ApplyTo {
                request: names("request"),
                response: names("response"),
            }
        }),
        action: match text("action") {
            Some("reject") => Some(Action::Reject),
            Some("mask") => Some(Action::Mask),
            Some("log") => Some(Action::Log),
            _ => None,
        },
        // A mask may be empty: then what matches is taken out.
        mask: text("mask").map(str::to_owned),
        uninspected: text("uninspected").map(|word| word == "pass"),
    }
}

fn words(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> Option<Vec<String>> {
    let items = node?.one_or_many();
    for (i, item) in items.iter().enumerate() {
        if item.text().is_some_and(|word| word.trim().is_empty()) {
            let path = format!("{path}.words[{i}]");
            decoder.error(item.at, &path, "a word without a letter", "remove it");
        }
    }
    Some(
        items
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect(),
    )
}

fn files(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> Option<Vec<WordFile>> {
    let items = node?.one_or_many();
    let mut files = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let Some(name) = item.text() else { continue };
        let problem = match (decoder.inputs.read)(name) {
            Ok(text) if text.len() <= LONGEST => {
                files.push(WordFile {
                    path: name.to_owned(),
                    words: entries(&text),
                });
                continue;
            }
            Ok(_) => format!("larger than {LONGEST} bytes"),
            Err(error) => reason(&error),
        };
        let message = format!("the file {} cannot be read: {problem}", value::shown(name));
        decoder.error(item.at, &format!("{path}.files[{i}]"), message, "");
    }
    Some(files)
}

/// One entry a line; blank lines, and those that begin with `#`, are none.
fn entries(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim);
    let entries = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    entries.map(str::to_owned).collect()
}

/// Characters of the longest match that can be asked for.
const LONGEST_MATCH: usize = 4096;

/// A file of words may be this long, in bytes.
pub(crate) const LONGEST: usize = 16 << 20;
