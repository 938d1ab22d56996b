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

/// The list of what a caller may use, each name once, in the words of a dialect.
pub(super) fn answer(dialect: Dialect, all: &[Listed], caller: &Caller) -> Vec<u8> {
    let mut granted: Vec<&Listed> = Vec::new();
    for listed in all.iter().filter(|it| caller.may_use(&it.meant)) {
        if !granted.iter().any(|it| it.name == listed.name) {
            granted.push(listed);
        }
    }
    let mut out = Vec::new();
    match dialect {
        Dialect::Anthropic => {
            out.extend_from_slice(br#"{"data":["#);
            each(&mut out, &granted, |out, it| {
                out.extend_from_slice(br#"{"type":"model","id":"#);
                escape_into(&it.name, out);
                out.extend_from_slice(br#","display_name":"#);
                escape_into(&it.name, out);
                out.extend_from_slice(br#","created_at":"1970-01-01T00:00:00Z"}"#);
            });
            out.extend_from_slice(br#"],"has_more":false,"first_id":"#);
            id(&mut out, granted.first());
            out.extend_from_slice(br#","last_id":"#);
            id(&mut out, granted.last());
            out.push(b'}');
        }
        Dialect::Gemini => {
            out.extend_from_slice(br#"{"models":["#);
            each(&mut out, &granted, |out, it| {
                out.extend_from_slice(br#"{"name":"#);
                escape_into(&format!("models/{}", it.name), out);
                out.extend_from_slice(br#","displayName":"#);
                escape_into(&it.name, out);
                out.push(b'}');
            });
            out.extend_from_slice(b"]}");
        }
        Dialect::Ollama => {
            out.extend_from_slice(br#"{"models":["#);
            each(&mut out, &granted, |out, it| {
                out.extend_from_slice(br#"{"name":"#);
                escape_into(&it.name, out);
                out.extend_from_slice(br#","model":"#);
                escape_into(&it.name, out);
                out.push(b'}');
            });
            out.extend_from_slice(b"]}");
        }
        _ => {
            out.extend_from_slice(br#"{"object":"list","data":["#);
            each(&mut out, &granted, |out, it| {
                out.extend_from_slice(br#"{"id":"#);
                escape_into(&it.name, out);
                out.extend_from_slice(br#","object":"model","created":0,"owned_by":"#);
                escape_into(&it.owner, out);
                out.push(b'}');
            });
            out.extend_from_slice(b"]}");
        }
    }
    out
}

fn each(out: &mut Vec<u8>, all: &[&Listed], mut write: impl FnMut(&mut Vec<u8>, &Listed)) {
    for (index, listed) in all.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, listed);
    }
}

fn id(out: &mut Vec<u8>, listed: Option<&&Listed>) {
    match listed {
        Some(listed) => escape_into(&listed.name, out),
        None => out.extend_from_slice(b"null"),
    }
}
