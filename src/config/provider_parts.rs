//! The larger keys of a provider: credentials, models, headers, extra body, TLS.

use std::collections::HashSet;

use super::decode::{Decoder, is_word};
use super::json;
use super::secret::Secret;
use super::tree::{Entry, Node};
use super::types::{BaseUrl, Credential, ExtraMember, Model, Models, ProviderTls, Scheme};
use super::value::{self, push_key, shown, shown_node};
use tollgate_middleware::health::Keys;

/// Headers that belong to the connection or are written by the gateway.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the provider is paid with.
pub(crate) fn credentials(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
) -> Vec<Credential> {
    let Some(node) = provider.member("credentials") else {
        return Vec::new();
    };
    let path = format!("{path}.credentials");
    if is_passthrough(provider) {
        return Vec::new();
    }
    let items = node.one_or_many();
    if let Some(beyond) = items.get(Keys::MOST) {
        let message = format!("a provider has at most {} credentials", Keys::MOST);
        decoder.error(beyond.at, &path, message, "");
    }
    let mut all: Vec<Credential> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let Some(credential) = one_credential(decoder, item, &path) else {
            continue;
        };
        let (name, key) = (&credential.name, credential.secret.expose());
        if name.is_some() && all.iter().any(|it| it.name == *name) {
            let message = "two credentials of a provider have the same name";
            decoder.error(item.at, &path, message, "");
        }
        if !key.is_empty() && all.iter().any(|it| it.secret.expose() == key) {
            let message = "two credentials of a provider are the same";
            decoder.error(
                item.at,
                &path,
                message,
                "a second one helps only if it is another",
            );
        }
        all.push(credential);
    }
    all
}

/// `credentials: passthrough`.
pub(crate) fn is_passthrough(provider: &Node) -> bool {
    is_word(provider.member("credentials"), PASSTHROUGH)
}

/// Whether the caller's own credential goes on; then there is no slot to name.
pub(crate) fn passthrough(decoder: &mut Decoder<'_, '_, '_>, provider: &Node, path: &str) -> bool {
    let passes = is_passthrough(provider);
    if let Some(node) = provider.member("auth").filter(|_| passes) {
        let message = "the caller's own credential goes on in the slot that it came in";
        let remedy = "remove `auth`, or write a credential";
        decoder.error(node.at, &format!("{path}.auth"), message, remedy);
    }
    passes
}

const PASSTHROUGH: &str = "passthrough";

fn one_credential(
    decoder: &mut Decoder<'_, '_, '_>,
    item: &Node,
    path: &str,
) -> Option<Credential> {
    let key = item.member("key").unwrap_or(item);
    let name = item.member("name").and_then(Node::text).map(str::to_owned);
    let secret = decoder.secret(key, path)?;
    if secret.expose().trim().is_empty() {
        let remedy = "a provider without credentials has `credentials: []`";
        decoder.error(
            key.at,
            path,
            format!("the credential `{path}` is empty"),
            remedy,
        );
    }
    if secret.expose() == PASSTHROUGH {
        let remedy = "write `credentials: passthrough`, without brackets";
        let message = "the caller's own credential stands alone";
        decoder.error(key.at, path, message, remedy);
    }
    Some(Credential { name, secret })
}

/// The models that the provider lists.
pub(crate) fn models(decoder: &mut Decoder<'_, '_, '_>, provider: &Node, path: &str) -> Models {
    let Some(node) = provider.member("models") else {
        return Models::Any;
    };
    let path = format!("{path}.models");
    if node.items().is_empty() && node.entries().is_empty() && node.text().is_none() {
        let remedy = "remove the key: a provider without `models` takes any";
        decoder.error(node.at, &path, format!("`{path}` lists no model"), remedy);
    }
    let texts = node.items().iter().filter_map(Node::text);
    let patterns = texts.filter_map(|t| value::pattern(t).ok());
    let mut all: Vec<_> = patterns
        .map(|public| Model {
            public,
            upstream: None,
        })
        .collect();
    for entry in node.entries() {
        all.extend(renamed(decoder, entry, &path));
    }
    Models::Listed(all)
}

/// An entry of a map of models: public name to provider's name.
fn renamed(decoder: &mut Decoder<'_, '_, '_>, entry: &Entry, path: &str) -> Option<Model> {
    let upstream = entry.value.text()?;
    let same = entry.key == upstream;
    if upstream.is_empty() || (upstream.contains('*') && !same) {
        let message = format!(
            "{} is no provider's name of a model",
            shown_node(&entry.value)
        );
        let remedy = "a provider's own name is exact, or the same pattern as the public one";
        decoder.error(entry.value.at, path, message, remedy);
    }
    match value::pattern(&entry.key) {
        Ok(public) => Some(Model {
            public,
            upstream: (!same).then(|| upstream.to_owned()),
        }),
        Err(remedy) => {
            decoder.error(
                entry.at,
                path,
                format!("{} is no model name", shown(&entry.key)),
                remedy,
            );
            None
        }
    }
}

/// The headers that the provider gets, each name once.
pub(crate) fn headers(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
) -> Vec<(http::HeaderName, Secret)> {
    let Some(node) = provider.member("headers") else {
        return Vec::new();
    };
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for entry in node.entries() {
        let mut path = format!("{path}.headers");
        push_key(&mut path, &entry.key);
        let Some(name) = header_name(decoder, entry, &path) else {
            continue;
        };
        if OURS.contains(&name.as_str()) {
            let message = format!("`{name}` belongs to the connection and cannot be set");
            decoder.error(entry.at, &path, message, "remove it");
        } else if !seen.insert(name.clone()) {
            let remedy = "header names do not tell capitals from small letters";
            decoder.error(entry.at, &path, format!("`{name}` is set twice"), remedy);
        } else if let Some(secret) = decoder.secret(&entry.value, &path) {
            all.push((name, secret));
        }
    }
    all
}

/// The name of a header; what is none is reported.
pub(crate) fn header_name(
    decoder: &mut Decoder<'_, '_, '_>,
    entry: &Entry,
    path: &str,
) -> Option<http::HeaderName> {
    let name = http::HeaderName::from_bytes(entry.key.as_bytes()).ok();
    if name.is_none() {
        decoder.error(
            entry.at,
            path,
            format!("{} is no header name", shown(&entry.key)),
            "letters, digits and `-`",
        );
    }
    name
}

/// Members for a JSON body.
pub(crate) fn extra_body(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
) -> Vec<ExtraMember> {
    let entries = provider.member("extra_body").map_or(&[][..], Node::entries);
    let mut all = Vec::new();
    for entry in entries {
        let name = entry.key.clone();
        match json::of(&entry.value) {
            Ok((json, expanded)) => all.push(ExtraMember {
                name,
                json,
                expanded,
            }),
            Err((at, message)) => {
                let mut path = format!("{path}.extra_body");
                push_key(&mut path, &entry.key);
                decoder.error(at, &path, message, "write it as JSON does, or quote it");
            }
        }
    }
    all
}

/// The provider's certificates; `None` for `off`, which is also what holds without the key.
pub(crate) fn tls(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
    url: Option<&BaseUrl>,
) -> Option<ProviderTls> {
    let node = provider.member("tls").filter(|n| !n.entries().is_empty())?;
    let path = format!("{path}.tls");
    if url.is_some_and(|u| u.scheme == Scheme::Http) {
        let message = format!("`{path}` does nothing: the base_url is plain `http`");
        decoder.error(node.at, &path, message, "use `https`, or remove it");
    }
    for (here, other) in [("cert", "key"), ("key", "cert")] {
        if let Some(lonely) = node.member(here).filter(|_| node.member(other).is_none()) {
            let path = format!("{path}.{here}");
            let remedy = format!("add `{other}`, or remove both");
            decoder.error(
                lonely.at,
                &path,
                format!("`{here}` without `{other}`"),
                remedy,
            );
        }
    }
    for entry in node.entries().iter().filter(|e| e.value.text() == Some("")) {
        let message = format!("`{path}.{}` is empty", entry.key);
        decoder.error(
            entry.value.at,
            &path,
            message,
            "remove it, or write a value",
        );
    }
    let text = |key| node.member(key).and_then(Node::text);
    let pair = text("cert").zip(text("key"));
    Some(ProviderTls {
        ca: text("ca").map(Into::into),
        client: pair.map(|(cert, key)| (cert.into(), key.into())),
        sni: text("sni").map(str::to_owned),
    })
}
