//! Edits of a body: spans and nothing else.

use bytes::Bytes;
use http::{HeaderMap, Request, header};

use crate::{
    body::Held,
    dialect::multipart,
    error::{Reason, Rejection},
    facts::{Intent, OutputLimit},
    json,
    upstream::Target,
};

/// Puts the provider's name for the model in the place of the caller's, and adds the members that
/// the caller of a JSON body did not set.
pub(super) fn edit_body<B>(
    req: &mut Request<Held<B>>,
    intent: &Intent,
    target: &Target,
    own_name: Option<&str>,
) -> Result<(), Rejection> {
    // What was read of a form reaches behind its model.
    if let (Some(name), Some(span)) = (own_name, intent.form_span()) {
        if !fits_form(req.headers(), name) {
            let told = "the model's name cannot be written into a form";
            return Err(Rejection::new(Reason::Malformed, "upstream", told));
        }
        let name = Bytes::copy_from_slice(name.as_bytes());
        req.body_mut().edit(span, name);
    }
    let inserted = req
        .extensions()
        .get()
        .and_then(|it: &OutputLimit| it.inserted);
    edit_json(req.body_mut(), intent, target, own_name, inserted);
    Ok(())
}

fn fits_form(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| multipart::fits(kind, name))
}

fn edit_json<B>(
    body: &mut Held<B>,
    intent: &Intent,
    target: &Target,
    own_name: Option<&str>,
    inserted: Option<&str>,
) {
    if !body.is_whole() {
        return;
    }
    if let (Some(name), Some(span)) = (own_name, intent.model_span()) {
        body.edit(span, quoted(name));
    }
    if target.extra_body.is_empty() {
        return;
    }
    let Some(object) = intent.object() else {
        return;
    };
    let added = added(&body.text(), target, inserted);
    if !added.is_empty() {
        let last = object.end - 1;
        body.edit(last..last, added);
    }
}

/// The text that goes before the closing brace. `inserted` is a member that was put there already.
fn added(text: &[u8], target: &Target, inserted: Option<&str>) -> Vec<u8> {
    let mut added = Vec::new();
    let Some(root) = json::Value::parse(text) else {
        return added;
    };
    let mut empty = root.members().next().is_none() && inserted.is_none();
    for (name, value) in &target.extra_body {
        if root.get(name).is_some() || inserted == Some(&**name) {
            continue;
        }
        if !std::mem::take(&mut empty) {
            added.push(b',');
        }
        json::escape_into(name, &mut added);
        added.push(b':');
        added.extend_from_slice(value.as_bytes());
    }
    added
}

fn quoted(name: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 2);
    json::escape_into(name, &mut text);
    text
}
