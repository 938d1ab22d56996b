//! The providers of a file: what each key means, and which keys contradict each other.

use std::collections::HashMap;

use super::check::is_misspelt;
use super::decode::{Decoder, is_word, number, parsed, timeouts};
use super::json;
use super::tree::{Entry, Node, Value};
use super::types::{
    Auth, BaseUrl, Credential, Dialect, End, ExtraMember, Model, Models, Pool, Provider,
    ProviderTls, Scheme,
};
use super::value::{self, push_key, shown};

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

/// One provider for each entry of the file, in its order.
pub(crate) fn decode(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> Vec<Provider> {
    let Some(node) = root.member("providers") else {
        return Vec::new();
    };
    if node.entries().is_empty() && (node.is_null() || matches!(node.value, Value::Map(_))) {
        decoder.error(
            node.at,
            "providers",
            "`providers` names no provider",
            "add one: `mock: { dialect: mock }` needs nothing",
        );
    }
    let all: Vec<_> = node
        .entries()
        .iter()
        .map(|entry| one(decoder, entry))
        .collect();
    listed_twice(decoder, node, &all);
    all
}

fn one(decoder: &mut Decoder<'_, '_, '_>, entry: &Entry) -> Provider {
    let mut path = "providers".to_owned();
    push_key(&mut path, &entry.key);
    let node = &entry.value;
    let name_is_good = !entry.key.is_empty()
        && entry.key.len() <= 64
        && entry
            .key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !name_is_good {
        let message = format!("{} cannot name a provider", shown(&entry.key));
        decoder.error(
            entry.at,
            &path,
            message,
            "1 to 64 letters, digits, `.`, `_` and `-`: callers write `provider/model`",
        );
    }
    let dialect = node
        .member("dialect")
        .and_then(Node::text)
        .and_then(|word| word.parse().ok());
    let base_url = parsed(Some(node), "base_url", value::base_url);
    needs_url(decoder, entry, &path, dialect);
    let dialect = dialect.unwrap_or(Dialect::Raw);
    let credential = credential(decoder, node, &path);
    let auth = node
        .member("auth")
        .and_then(Node::text)
        .and_then(Auth::from_word)
        .unwrap_or_else(|| Auth::of(dialect));
    credential_is_safe(
        decoder,
        node,
        &path,
        base_url.as_ref(),
        credential.as_ref(),
        auth,
    );
    let pool = node.member("pool");
    let usual = Pool::default();
    Provider {
        name: entry.key.clone(),
        dialect,
        credential,
        auth,
        models: models(decoder, node, &path),
        headers: headers(decoder, node, &path),
        extra_body: extra_body(decoder, node, &path),
        timeout: timeouts(node.member("timeout")),
        pool: Pool {
            idle: parsed(pool, "idle", value::duration).unwrap_or(usual.idle),
            max_idle: parsed(pool, "max_idle", number).unwrap_or(usual.max_idle),
            max_age: parsed(pool, "max_age", value::duration).unwrap_or(usual.max_age),
        },
        tls: tls(decoder, node, &path, base_url.as_ref()),
        end: if is_word(node.member("end"), "transport") {
            End::Transport
        } else {
            End::Marks
        },
        base_url,
    }
}

fn needs_url(
    decoder: &mut Decoder<'_, '_, '_>,
    entry: &Entry,
    path: &str,
    dialect: Option<Dialect>,
) {
    match (dialect, entry.value.member("base_url")) {
        (Some(Dialect::Mock), Some(url)) => {
            decoder.error(
                url.at,
                &format!("{path}.base_url"),
                "the mock provider asks nobody",
                "remove `base_url`",
            );
        }
        (Some(Dialect::Mock) | None, _) | (_, Some(_)) => {}
        _ if is_misspelt(&entry.value, "base_url") => {}
        (Some(_), None) => {
            decoder.error(
                entry.at,
                path,
                format!("`{path}` has no `base_url`"),
                "add `base_url`: only the mock provider needs none",
            );
        }
    }
}

fn credential(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
) -> Option<Credential> {
    let node = provider.member("credentials")?;
    let path = format!("{path}.credentials");
    if is_word(Some(node), "passthrough") {
        decoder.error(
            node.at,
            &path,
            "`credentials: passthrough` is not built yet",
            "write one credential, or `[]` for none",
        );
        return None;
    }
    let items = node.one_or_many();
    if let Some(second) = items.get(1) {
        decoder.error(
            second.at,
            &format!("{path}[1]"),
            "several credentials are not built yet",
            "write one",
        );
    }
    let mut first = None;
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let (key, name) = match item.member("key") {
            Some(key) => (key, item.member("name").and_then(Node::text)),
            None => (item, None),
        };
        let Some(secret) = decoder.secret(key, &path) else {
            continue;
        };
        if secret.expose().trim().is_empty() {
            decoder.error(
                key.at,
                &path,
                format!("the credential `{path}` is empty"),
                "a provider without credentials has `credentials: []`",
            );
        }
        let name = name.map(str::to_owned);
        first.get_or_insert(Credential { name, secret });
    }
    first
}

fn credential_is_safe(
    decoder: &mut Decoder<'_, '_, '_>,
    node: &Node,
    path: &str,
    url: Option<&BaseUrl>,
    credential: Option<&Credential>,
    auth: Auth,
) {
    if credential.is_none() {
        return;
    }
    if let (Some(url), Some(at)) = (url, node.member("base_url"))
        && url.scheme == Scheme::Http
        && !url.is_loopback()
    {
        decoder.warning(
            at.at,
            &format!("{path}.base_url"),
            format!("`{path}` sends its credential without TLS to another machine"),
            "use `https`",
        );
    }
    if auth == Auth::None
        && let Some(at) = node.member("credentials")
    {
        decoder.warning(
            at.at,
            &format!("{path}.credentials"),
            format!("the credential of `{path}` is never sent"),
            "`auth` is `none`",
        );
    }
}

fn models(decoder: &mut Decoder<'_, '_, '_>, provider: &Node, path: &str) -> Models {
    let Some(node) = provider.member("models") else {
        return Models::Any;
    };
    let path = format!("{path}.models");
    if node.items().is_empty() && node.entries().is_empty() && node.text().is_none() {
        decoder.error(
            node.at,
            &path,
            format!("`{path}` lists no model"),
            "remove the key: a provider without `models` takes any",
        );
    }
    let listed = node.items().iter().filter_map(|item| {
        value::pattern(item.text()?).ok().map(|public| Model {
            public,
            upstream: None,
        })
    });
    let mut all: Vec<_> = listed.collect();
    for entry in node.entries() {
        let Some(upstream) = entry.value.text() else {
            continue;
        };
        match value::pattern(&entry.key) {
            Ok(public) => {
                let same = entry.key == upstream;
                if upstream.is_empty() || (upstream.contains('*') && !same) {
                    let remedy =
                        "a provider's own name is exact, or the same pattern as the public one";
                    decoder.error(
                        entry.value.at,
                        &path,
                        format!("{} is no provider's name of a model", shown(upstream)),
                        remedy,
                    );
                }
                all.push(Model {
                    public,
                    upstream: (!same).then(|| upstream.to_owned()),
                });
            }
            Err(remedy) => decoder.error(
                entry.at,
                &path,
                format!("{} is no model name", shown(&entry.key)),
                remedy,
            ),
        }
    }
    Models::Listed(all)
}

fn headers(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
) -> Vec<(http::HeaderName, super::secret::Secret)> {
    let Some(node) = provider.member("headers") else {
        return Vec::new();
    };
    let mut all: Vec<(http::HeaderName, _)> = Vec::new();
    for entry in node.entries() {
        let mut path = format!("{path}.headers");
        push_key(&mut path, &entry.key);
        let Some(name) = header_name(decoder, entry, &path) else {
            continue;
        };
        if OURS.contains(&name.as_str()) {
            decoder.error(
                entry.at,
                &path,
                format!("`{name}` belongs to the connection and cannot be set"),
                "remove it",
            );
        } else if all.len() < 100 && all.iter().any(|(other, _)| *other == name) {
            decoder.error(
                entry.at,
                &path,
                format!("`{name}` is set twice"),
                "header names do not tell capitals from small letters",
            );
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

fn extra_body(decoder: &mut Decoder<'_, '_, '_>, provider: &Node, path: &str) -> Vec<ExtraMember> {
    let entries = provider.member("extra_body").map_or(&[][..], Node::entries);
    let mut all = Vec::new();
    for entry in entries {
        let mut path = format!("{path}.extra_body");
        push_key(&mut path, &entry.key);
        match json::of(&entry.value) {
            Ok((json, expanded)) => all.push(ExtraMember {
                name: entry.key.clone(),
                json,
                expanded,
            }),
            Err((at, message)) => {
                decoder.error(at, &path, message, "write it as JSON does, or quote it");
            }
        }
    }
    all
}

fn tls(
    decoder: &mut Decoder<'_, '_, '_>,
    provider: &Node,
    path: &str,
    url: Option<&BaseUrl>,
) -> Option<ProviderTls> {
    let node = provider.member("tls")?;
    if node.entries().is_empty() {
        return None;
    }
    let path = format!("{path}.tls");
    if url.is_some_and(|u| u.scheme == Scheme::Http) {
        decoder.error(
            node.at,
            &path,
            format!("`{path}` does nothing: the base_url is plain `http`"),
            "use `https`, or remove it",
        );
    }
    let text = |key| node.member(key).and_then(Node::text);
    for (here, other) in [("cert", "key"), ("key", "cert")] {
        if let Some(lonely) = node.member(here).filter(|_| node.member(other).is_none()) {
            decoder.error(
                lonely.at,
                &format!("{path}.{here}"),
                format!("`{here}` without `{other}`"),
                format!("add `{other}`, or remove both"),
            );
        }
    }
    for entry in node.entries().iter().filter(|e| e.value.text() == Some("")) {
        decoder.error(
            entry.value.at,
            &path,
            format!("`{path}.{}` is empty", entry.key),
            "remove it, or write a value",
        );
    }
    Some(ProviderTls {
        ca: text("ca").map(Into::into),
        client: text("cert")
            .zip(text("key"))
            .map(|(cert, key)| (cert.into(), key.into())),
        sni: text("sni").map(str::to_owned),
    })
}

/// Warns of models that two providers list: file order decides between them.
fn listed_twice(decoder: &mut Decoder<'_, '_, '_>, node: &Node, all: &[Provider]) {
    let mut first: HashMap<String, &str> = HashMap::new();
    for (provider, entry) in all.iter().zip(node.entries()) {
        let Models::Listed(models) = &provider.models else {
            continue;
        };
        for model in models {
            let name = model.public.to_string();
            match first.get(&name) {
                Some(other) if *other != provider.name => {
                    let at = entry.value.member("models").map_or(entry.at, |n| n.at);
                    let message = format!(
                        "{} is listed by `{other}` and by `{}`",
                        shown(&name),
                        provider.name
                    );
                    decoder.warning(
                        at,
                        &format!("providers.{}.models", provider.name),
                        message,
                        format!("without a route, `{other}` gets it: file order decides"),
                    );
                }
                Some(_) => {}
                None => {
                    first.insert(name, &provider.name);
                }
            }
        }
    }
}
