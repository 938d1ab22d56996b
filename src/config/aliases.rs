//! The aliases of a file, with their chains followed.

use std::collections::{HashMap, HashSet};

use super::decode::Decoder;
use super::tree::{Entry, Node};
use super::types::{Alias, Models, Provider};
use super::value::{push_key, shown, shown_node};

/// The aliases with their chains followed; a circle is an error, a name that is also a model a warning.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Alias> {
    let entries = root.member("aliases").map_or(&[][..], Node::entries);
    let pairs = entries
        .iter()
        .filter_map(|e| Some((e.key.as_str(), e.value.text()?)));
    let next: HashMap<&str, &str> = pairs.collect();
    let known = Known {
        models: providers.iter().flat_map(exact_models).collect(),
        providers: providers.iter().map(|p| p.name.as_str()).collect(),
    };
    let mut ends: HashMap<&str, Option<&str>> = HashMap::new();
    let mut all = Vec::new();
    for entry in entries.iter().filter(|e| e.value.text().is_some()) {
        let mut path = "aliases".to_owned();
        push_key(&mut path, &entry.key);
        judge(decoder, entry, &path, &known);
        match end_of(&entry.key, &next, &mut ends) {
            Some(model) => all.push(Alias {
                name: entry.key.clone(),
                model: model.to_owned(),
            }),
            None => {
                let message = format!("the alias {} leads back to itself", shown(&entry.key));
                decoder.error(entry.at, &path, message, "let one of them name a model");
            }
        }
    }
    all
}

/// The names that an alias may collide with.
struct Known<'a> {
    models: HashSet<&'a str>,
    providers: HashSet<&'a str>,
}

fn judge(decoder: &mut Decoder<'_, '_, '_>, entry: &Entry, path: &str, known: &Known<'_>) {
    let model = entry.value.text().unwrap_or_default();
    let name = shown(&entry.key);
    for (word, at, shown) in [
        (entry.key.as_str(), entry.at, &name),
        (model, entry.value.at, &shown_node(&entry.value)),
    ] {
        if word.is_empty() || word.contains('*') {
            let remedy = "an alias stands for one model; patterns go under `models` or `match`";
            decoder.error(at, path, format!("{shown} is no exact model name"), remedy);
        }
    }
    if known.models.contains(entry.key.as_str()) {
        let message = format!("the alias {name} is also a listed model");
        decoder.warning(
            entry.at,
            path,
            message,
            "the model wins: the alias does nothing",
        );
    } else if entry
        .key
        .split_once('/')
        .is_some_and(|(p, _)| known.providers.contains(p))
    {
        let message = format!("the alias {name} also reads as `provider/model`");
        decoder.warning(entry.at, path, message, "the alias wins");
    }
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
