//! The providers of a file: what each key means, and which keys contradict each other.

use std::collections::HashMap;

use super::check::is_misspelt;
use super::decode::{Decoder, number, parsed, timeouts};
use super::provider_parts as parts;
use super::targets;
use super::tree::{Entry, Node, Value};
use super::types::{Auth, BaseUrl, Dialect, End, Models, Pool, Provider, Scheme};
use super::value::{self, push_key, shown};

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
    let word = |key| node.member(key).and_then(Node::text);
    judge_name(decoder, entry, &path);
    let dialect = word("dialect").and_then(|word| word.parse().ok());
    needs_url(decoder, entry, &path, dialect);
    let dialect = dialect.unwrap_or(Dialect::Raw);
    let base_url = parsed(Some(node), "base_url", value::base_url);
    let credentials = parts::credentials(decoder, node, &path);
    let passthrough = parts::passthrough(decoder, node, &path);
    let auth = word("auth")
        .and_then(Auth::from_word)
        .unwrap_or_else(|| Auth::of(dialect));
    if !credentials.is_empty() || passthrough {
        credential_is_safe(decoder, node, &path, base_url.as_ref(), auth);
    }
    Provider {
        name: entry.key.clone(),
        dialect,
        credentials,
        passthrough,
        auth,
        models: parts::models(decoder, node, &path),
        headers: parts::headers(decoder, node, &path),
        extra_body: parts::extra_body(decoder, node, &path),
        timeout: timeouts(node.member("timeout")),
        concurrency: targets::share(node.member("concurrency")),
        pool: pool(node.member("pool")),
        tls: parts::tls(decoder, node, &path, base_url.as_ref()),
        end: if word("end") == Some("transport") {
            End::Transport
        } else {
            End::Marks
        },
        base_url,
    }
}

fn pool(node: Option<&Node>) -> Pool {
    let usual = Pool::default();
    Pool {
        idle: parsed(node, "idle", value::duration).unwrap_or(usual.idle),
        max_idle: parsed(node, "max_idle", number).unwrap_or(usual.max_idle),
        max_age: parsed(node, "max_age", value::duration).unwrap_or(usual.max_age),
    }
}

fn judge_name(decoder: &mut Decoder<'_, '_, '_>, entry: &Entry, path: &str) {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=64).contains(&entry.key.len()) || !entry.key.bytes().all(known) {
        let message = format!("{} cannot name a provider", shown(&entry.key));
        let remedy = "1 to 64 letters, digits, `.`, `_` and `-`: callers write `provider/model`";
        decoder.error(entry.at, path, message, remedy);
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

/// Warns of a credential that travels in the clear, or never.
fn credential_is_safe(
    decoder: &mut Decoder<'_, '_, '_>,
    node: &Node,
    path: &str,
    url: Option<&BaseUrl>,
    auth: Auth,
) {
    if let (Some(url), Some(at)) = (url, node.member("base_url"))
        && url.scheme == Scheme::Http
        && !url.is_loopback()
    {
        let message = format!("`{path}` sends its credential without TLS to another machine");
        decoder.warning(at.at, &format!("{path}.base_url"), message, "use `https`");
    }
    // A slot beside `passthrough` is an error already.
    if auth == Auth::None
        && !parts::is_passthrough(node)
        && let Some(at) = node.member("credentials")
    {
        let message = format!("the credential of `{path}` is never sent");
        decoder.warning(
            at.at,
            &format!("{path}.credentials"),
            message,
            "`auth` is `none`",
        );
    }
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
