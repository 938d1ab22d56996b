//! How a request is made to ask for less output.

use std::ops::Range;

use http::{HeaderValue, Request, header};

use crate::{
    body::Held,
    dialect::spelling::{self, Place, Spelling},
    facts::{Intent, OutputLimit},
    json::Value,
};

/// The edits that lower the output limit of a body.
#[derive(Debug, Default)]
pub(super) struct Lower {
    edits: Vec<(Range<usize>, String)>,
    // An insertion that somebody made, and what takes its place.
    amends: Option<(Range<usize>, String, String)>,
    limit: Option<OutputLimit>,
}

/// Edits after which a body asks for `each` tokens for each alternative; none if it cannot be made to, or may think more than that.
pub(super) fn lower(
    intent: &Intent,
    model: Option<&str>,
    before: Option<OutputLimit>,
    text: &[u8],
    each: u64,
) -> Option<Lower> {
    intent.object()?;
    let root = Value::parse(text)?;
    let (binding, place) = match Spelling::of(intent.surface(), model) {
        Spelling::Known(binding, place) => (binding, place),
        Spelling::Chat => (spelling::CHAT, chat(model, before)),
        Spelling::None | Spelling::Unknown => return None,
    };
    let mut names = root.members().filter_map(|(name, _)| name.as_str());
    // Some readers would take another member for the limit.
    if names.any(|name| spelling::is_case_of_another(&name)) {
        return None;
    }
    if spelling::thoughts(root).is_some_and(|thoughts| each <= thoughts) {
        return None;
    }
    let mut lower = Lower::default();
    let mut bound = false;
    for limit in intent.limits() {
        let raw = text.get(limit.span.clone())?;
        let endless = spelling::is_endless(limit.name, raw);
        let value = limit.value.or_else(|| endless.then_some(u64::MAX))?;
        if value > each {
            lower.edits.push((limit.span.clone(), each.to_string()));
        }
        bound |= binding.contains(&limit.name);
    }
    let choices = u64::from(intent.choices());
    let mut inserted = before.and_then(|before| before.inserted);
    match (bound, before) {
        (true, _) => {}
        (false, Some(before)) if before.inserted.is_some() => {
            let (at, old) = place.insertion(root, before.tokens / choices);
            let (_, new) = place.insertion(root, each);
            lower.amends = Some((at, old, new));
        }
        (false, _) => {
            lower.edits.push(place.insertion(root, each));
            inserted = Some(place.outer);
        }
    }
    let tokens = each.saturating_mul(choices);
    lower.limit = Some(OutputLimit { tokens, inserted });
    Some(lower)
}

/// The member of OpenAI's chat: the one that was inserted, or the one that the model takes.
fn chat(model: Option<&str>, before: Option<OutputLimit>) -> Place {
    match before.and_then(|before| before.inserted) {
        Some("max_tokens") => Place::MAX_TOKENS,
        Some(_) => Place::MAX_COMPLETION_TOKENS,
        None => Place::in_chat(model),
    }
}

impl Lower {
    /// Edits the request; false if somebody else has edited the same place, which nobody does.
    pub(super) fn apply<B>(self, req: &mut Request<Held<B>>) -> bool {
        let body = req.body_mut();
        if let Some((at, old, new)) = self.amends
            && !body.amend(at, old.as_bytes(), new)
        {
            return false;
        }
        for (at, with) in self.edits {
            body.edit(at, with);
        }
        let length = body.held_len();
        if let Some(announced) = req.headers_mut().get_mut(header::CONTENT_LENGTH) {
            *announced = HeaderValue::from(length);
        }
        if let Some(limit) = self.limit {
            req.extensions_mut().insert(limit);
        }
        true
    }
}
