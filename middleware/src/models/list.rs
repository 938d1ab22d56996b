use std::sync::Arc;

use crate::{dialect::Dialect, facts::Caller, json::escape_into};

/// A name that may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    name: Arc<str>,
    meant: Arc<str>,
    owner: Arc<str>,
}

impl Listed {
    /// A name, the model that it stands for, and who serves it.
    pub fn new(
        name: impl Into<Arc<str>>,
        meant: impl Into<Arc<str>>,
        owner: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            name: name.into(),
            meant: meant.into(),
            owner: owner.into(),
        }
    }
}

/// Whether somebody may use what a name stands for; who is not known may use all.
fn granted(listed: &Listed, caller: Option<&Caller>) -> bool {
    caller.is_none_or(|caller| caller.may_use(&listed.meant))
}

/// The list of what a caller may use, each name once, in the words of a dialect.
pub(super) fn all(dialect: Dialect, all: &[Listed], caller: Option<&Caller>) -> Vec<u8> {
    let mut names: Vec<&Listed> = Vec::new();
    for listed in all.iter().filter(|it| granted(it, caller)) {
        if !names.iter().any(|it| it.name == listed.name) {
            names.push(listed);
        }
    }
    let before: &[u8] = match dialect {
        Dialect::Anthropic => br#"{"data":["#,
        Dialect::Gemini | Dialect::Ollama => br#"{"models":["#,
        _ => br#"{"object":"list","data":["#,
    };
    let mut out = before.to_vec();
    for (index, listed) in names.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(dialect, listed, &mut out);
    }
    out.push(b']');
    if dialect == Dialect::Anthropic {
        out.extend_from_slice(br#","has_more":false,"first_id":"#);
        id(&mut out, names.first());
        out.extend_from_slice(br#","last_id":"#);
        id(&mut out, names.last());
    }
    out.push(b'}');
    out
}

/// One of them, if the caller may use it.
pub(super) fn one(
    dialect: Dialect,
    all: &[Listed],
    name: &str,
    caller: Option<&Caller>,
) -> Option<Vec<u8>> {
    let named = |it: &&Listed| *it.name == *name && granted(it, caller);
    let mut out = Vec::new();
    write(dialect, all.iter().find(named)?, &mut out);
    Some(out)
}

fn write(dialect: Dialect, listed: &Listed, out: &mut Vec<u8>) {
    let name = &listed.name;
    match dialect {
        Dialect::Anthropic => {
            out.extend_from_slice(br#"{"type":"model","id":"#);
            escape_into(name, out);
            out.extend_from_slice(br#","display_name":"#);
            escape_into(name, out);
            out.extend_from_slice(br#","created_at":"1970-01-01T00:00:00Z"}"#);
        }
        Dialect::Gemini => {
            out.extend_from_slice(br#"{"name":"#);
            escape_into(&format!("models/{name}"), out);
            out.extend_from_slice(br#","displayName":"#);
            escape_into(name, out);
            out.push(b'}');
        }
        Dialect::Ollama => {
            out.extend_from_slice(br#"{"name":"#);
            escape_into(name, out);
            out.extend_from_slice(br#","model":"#);
            escape_into(name, out);
            out.push(b'}');
        }
        _ => {
            out.extend_from_slice(br#"{"id":"#);
            escape_into(name, out);
            out.extend_from_slice(br#","object":"model","created":0,"owned_by":"#);
            escape_into(&listed.owner, out);
            out.push(b'}');
        }
    }
}

fn id(out: &mut Vec<u8>, listed: Option<&&Listed>) {
    match listed {
        Some(listed) => escape_into(&listed.name, out),
        None => out.extend_from_slice(b"null"),
    }
}
