//! The callers of a file, and the layers that bound them.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use tollgate_middleware::{
    auth::Digest,
    dialect::Operation,
    origin::OriginPattern,
    rate_limit::Quota,
    token_cap::{Insert, OnExceed},
};

use super::budgets;
use super::decode::{Decoder, is_word, number, parsed};
use super::nearest::nearest;
use super::tree::{Entry, Node};
use super::types::{
    Caller, CallerKey, Concurrency, Network, PerUser, Provider, RateLimits, TokenCap,
};
use super::value::{self, push_key, shown, shown_node};

/// A key that is shorter can be guessed.
const LONG_ENOUGH: usize = 20;

/// The callers, in file order.
pub(crate) fn decode(
    decoder: &mut Decoder<'_, '_, '_>,
    root: &Node,
    providers: &[Provider],
) -> Vec<Caller> {
    let entries = root.member("callers").map_or(&[][..], Node::entries);
    let auth = root.member("layers").and_then(|all| all.member("auth"));
    let jwt = auth.and_then(|auth| auth.member("jwt"));
    let tokens = jwt.is_some_and(|jwt| !is_word(Some(jwt), "off"));
    let mut seen: HashMap<Digest, String> = HashMap::new();
    for provider in providers {
        let secrets = provider.credentials.iter().map(|it| it.secret.expose());
        for digest in secrets.filter_map(|key| Digest::of(key).ok()) {
            let whose = format!("the credential of the provider {}", shown(&provider.name));
            seen.insert(digest, whose);
        }
    }
    entries
        .iter()
        .filter_map(|entry| {
            let caller = caller(decoder, entry, tokens, &mut seen)?;
            if let (Some(name), Some(node)) = (&caller.credential, entry.value.member("credential"))
            {
                let has = |provider: &Provider| provider.has_credential(name);
                if !providers.iter().any(has) {
                    let mut path = "callers".to_owned();
                    push_key(&mut path, &entry.key);
                    let message = format!(
                        "no provider has a credential named {}, so each sends its usual ones",
                        shown_node(node)
                    );
                    let remedy = "a credential with a name is `{ name: spare, key: … }`";
                    decoder.warning(node.at, &format!("{path}.credential"), message, remedy);
                }
            }
            Some(caller)
        })
        .collect()
}

fn caller(
    decoder: &mut Decoder<'_, '_, '_>,
    entry: &Entry,
    tokens: bool,
    seen: &mut HashMap<Digest, String>,
) -> Option<Caller> {
    let mut path = "callers".to_owned();
    push_key(&mut path, &entry.key);
    let node = &entry.value;
    if entry.key.is_empty() || entry.key.chars().any(char::is_control) {
        decoder.error(entry.at, &path, "a caller has a name", "");
    }
    let key = key(decoder, entry, &path, tokens, seen)?;
    let texts = |key: &str| {
        let items = node.member(key).map_or(&[][..], Node::items);
        items.iter().filter(|it| it.text().is_some())
    };
    let mut allow_from = Vec::new();
    for item in texts("allow_from") {
        match item.text().unwrap_or_default().parse::<Network>() {
            Ok(network) => allow_from.push(network),
            Err(remedy) => wrong(decoder, item, &path, "allow_from", &remedy),
        }
    }
    let mut origins = Vec::new();
    for item in texts("origins") {
        match OriginPattern::new(item.text().unwrap_or_default()) {
            Ok(origin) => origins.push(origin),
            Err(error) => wrong(decoder, item, &path, "origins", &error.to_string()),
        }
    }
    let mut surfaces = Vec::new();
    for item in texts("surfaces") {
        let word = item.text().unwrap_or_default();
        match Operation::ALL.iter().find(|it| it.as_str() == word) {
            Some(operation) => surfaces.push(*operation),
            None => {
                let words: Vec<_> = Operation::ALL.iter().map(|it| it.as_str()).collect();
                let remedy = format!("one of {}", words.join(", "));
                wrong(decoder, item, &path, "surfaces", &remedy);
            }
        }
    }
    let mut labels = Vec::new();
    for label in node.member("labels").map_or(&[][..], Node::entries) {
        if label.key.is_empty() || label.key.chars().any(char::is_control) {
            decoder.error(
                label.at,
                &format!("{path}.labels"),
                "a label has a name",
                "",
            );
        }
        labels.extend(
            label
                .value
                .text()
                .map(|text| (label.key.clone(), text.to_owned())),
        );
    }
    let models = node.member("models").map(|it| {
        let texts = it.items().iter().filter_map(Node::text);
        texts.filter_map(|text| value::pattern(text).ok()).collect()
    });
    Some(Caller {
        name: entry.key.clone(),
        key,
        models,
        requests: quota(
            decoder,
            node.member("requests"),
            &format!("{path}.requests"),
        ),
        tokens: budgets::tokens(decoder, node, &path),
        budget: parsed(Some(node), "budget", value::money),
        concurrency: parsed(Some(node), "concurrency", number),
        allow_from,
        expires: parsed(Some(node), "expires", day),
        priority: parsed(Some(node), "priority", number)
            .map_or(0, |it| i32::try_from(it).unwrap_or(i32::MAX)),
        disabled: is_word(node.member("disabled"), "true"),
        surfaces: node.member("surfaces").map(|_| surfaces),
        origins,
        labels,
        credential: node
            .member("credential")
            .and_then(Node::text)
            .map(str::to_owned),
    })
}

/// A route that is for a caller whom nobody lists is for nobody.
pub(crate) fn judge_matches(decoder: &mut Decoder<'_, '_, '_>, root: &Node, callers: &[Caller]) {
    let routes = root.member("routes").map_or(&[][..], Node::items);
    for (i, route) in routes.iter().enumerate() {
        let named = route.member("match").and_then(|it| it.member("caller"));
        for item in named.map_or(&[][..], Node::one_or_many) {
            let Some(Ok(pattern)) = item.text().map(value::pattern) else {
                continue;
            };
            if decoder.is_crowded() || callers.iter().any(|it| pattern.matches(&it.name)) {
                continue;
            }
            let near = nearest(&pattern.text, callers.iter().map(|it| it.name.as_str()));
            let remedy = near.map_or_else(
                || "the names are those of `callers`".to_owned(),
                |near| format!("did you mean {}?", shown(near)),
            );
            let message = format!("there is no caller {}", shown_node(item));
            decoder.error(
                item.at,
                &format!("routes[{i}].match.caller"),
                message,
                remedy,
            );
        }
    }
}

fn wrong(decoder: &mut Decoder<'_, '_, '_>, item: &Node, path: &str, key: &str, remedy: &str) {
    let path = format!("{path}.{key}");
    let message = format!("`{path}` does not take {}", shown_node(item));
    decoder.error(item.at, &path, message, remedy);
}

/// The key of a caller; nobody else has it.
fn key(
    decoder: &mut Decoder<'_, '_, '_>,
    entry: &Entry,
    path: &str,
    tokens: bool,
    seen: &mut HashMap<Digest, String>,
) -> Option<CallerKey> {
    let name = shown(&entry.key);
    let node = &entry.value;
    let (at, key, digest) = match (node.member("key"), node.member("hash")) {
        (Some(node), None) => {
            let path = format!("{path}.key");
            let secret = decoder.secret(node, &path)?;
            let Ok(digest) = Digest::of(secret.expose()) else {
                let message = format!("the key of {name} is empty");
                decoder.error(node.at, &path, message, "`tollgate key new` makes one");
                return None;
            };
            if secret.expose().len() < LONG_ENOUGH {
                let message = format!("the key of {name} has less than {LONG_ENOUGH} characters");
                decoder.warning(
                    node.at,
                    &path,
                    message,
                    "`tollgate key new` makes a long one",
                );
            }
            (node.at, CallerKey::Key(secret), digest)
        }
        (None, Some(node)) => {
            let path = format!("{path}.hash");
            let secret = decoder.secret(node, &path)?;
            let Ok(digest) = secret.expose().parse() else {
                let message = format!("the hash of {name} is none");
                let remedy =
                    "`sha256:` and 64 hexadecimal digits, as `tollgate key hash` writes it";
                decoder.error(node.at, &path, message, remedy);
                return None;
            };
            (node.at, CallerKey::Hash(secret), digest)
        }
        (Some(_), Some(_)) => {
            let message = format!("{name} has a key and a hash");
            decoder.error(entry.at, path, message, "one of them is enough");
            return None;
        }
        // Tokens may name it.
        (None, None) if tokens => return Some(CallerKey::Token),
        (None, None) => {
            let message = format!("{name} has neither a key nor a hash");
            decoder.error(entry.at, path, message, "add `key` or `hash`");
            return None;
        }
    };
    if let Some(other) = seen.insert(digest, format!("the caller {name}")) {
        let message = format!("the key of {name} is also that of {other}");
        decoder.error(at, path, message, "give each a key of its own");
    }
    Some(key)
}

/// The beginning of a day, UTC.
fn day(text: &str) -> Result<SystemTime, String> {
    let date: jiff::civil::Date = text.parse().map_err(|_| String::new())?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::UTC);
    let seconds = zoned.map_err(|_| String::new())?.timestamp().as_second();
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// `600/min`, or `{ rate, burst }`.
pub(crate) fn quota(
    decoder: &mut Decoder<'_, '_, '_>,
    node: Option<&Node>,
    path: &str,
) -> Option<Quota> {
    let node = node?;
    let rate = node.member("rate").unwrap_or(node);
    let quota = match value::quota(rate.text()?) {
        Ok(quota) => quota,
        Err(remedy) => {
            // What is no rate at all was reported by the schema.
            if value::rate(rate.text()?).is_ok() {
                let message = format!("`{path}` does not take {}", shown_node(rate));
                decoder.error(rate.at, path, message, remedy);
            }
            return None;
        }
    };
    let burst = parsed(Some(node), "burst", number).map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    match burst {
        Some(burst) => quota.with_burst(burst).ok(),
        None => Some(quota),
    }
}

/// How often may be asked.
pub(crate) fn rate_limits(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>) -> RateLimits {
    let path = "layers.rate_limit";
    let Some(node) = node else {
        return RateLimits::default();
    };
    let mut per_model = Vec::new();
    for entry in node.member("per_model").map_or(&[][..], Node::entries) {
        let mut path = format!("{path}.per_model");
        push_key(&mut path, &entry.key);
        let quota = quota(decoder, Some(&entry.value), &path);
        match value::pattern(&entry.key) {
            Ok(pattern) => per_model.extend(quota.map(|quota| (pattern, quota))),
            Err(remedy) => {
                let message = format!("{} is no model", shown(&entry.key));
                decoder.error(entry.at, &path, message, remedy);
            }
        }
    }
    let mut one = |key: &str| quota(decoder, node.member(key), &format!("{path}.{key}"));
    let (per_ip, global) = (one("per_ip"), one("global"));
    let per_user = one("per_user");
    let per_user = per_user.map(|quota| per_user_of(decoder, node.member("per_user"), quota));
    RateLimits {
        per_ip,
        global,
        per_model,
        per_user,
    }
}

/// Where the end user is named: in the body, unless the file says where.
fn per_user_of(decoder: &mut Decoder<'_, '_, '_>, node: Option<&Node>, quota: Quota) -> PerUser {
    let path = "layers.rate_limit.per_user.from";
    let from = node.and_then(|node| node.member("from"));
    let mut headers = Vec::new();
    let mut body = from.is_none();
    for item in from.map_or(&[][..], Node::items) {
        match item
            .text()
            .map(|text| text.split_once(' ').unwrap_or((text, "")))
        {
            Some(("header", name)) => match http::HeaderName::from_bytes(name.as_bytes()).ok() {
                Some(name) if !body => headers.push(name),
                Some(_) => {
                    let message = format!("`{path}` names a header behind the body");
                    decoder.error(item.at, path, message, "headers are asked first");
                }
                None => wrong_source(decoder, item, path),
            },
            // The three are one: the first that the dialect has.
            Some(("body", "user" | "safety_identifier" | "metadata.user_id")) => body = true,
            _ => wrong_source(decoder, item, path),
        }
    }
    PerUser {
        quota,
        headers,
        body,
    }
}

fn wrong_source(decoder: &mut Decoder<'_, '_, '_>, item: &Node, path: &str) {
    let message = format!("`{path}` does not take {}", shown_node(item));
    let remedy =
        "`header x-user-id`, `body user`, `body safety_identifier` or `body metadata.user_id`";
    decoder.error(item.at, path, message, remedy);
}

/// How much may run at once.
pub(crate) fn concurrency(node: Option<&Node>) -> Concurrency {
    if is_word(node, "off") {
        return Concurrency::OFF;
    }
    let usual = Concurrency::default();
    Concurrency {
        max: parsed(node, "max", number).unwrap_or(usual.max),
        per_caller: parsed(node, "per_caller", number).unwrap_or(usual.per_caller),
        queue: parsed(node, "queue", number).unwrap_or(usual.queue),
        wait: parsed(node, "wait", value::duration).unwrap_or(usual.wait),
    }
}

/// What a request may ask for.
pub(crate) fn token_cap(node: Option<&Node>) -> TokenCap {
    let word = |key: &str| node.and_then(|node| node.member(key)?.text());
    TokenCap {
        off: is_word(node, "off"),
        max_tokens: parsed(node, "max_tokens", number).map(|it| it as u64),
        on_exceed: match word("on_exceed") {
            Some("reject") => Some(OnExceed::Reject),
            Some("clamp") => Some(OnExceed::Clamp),
            _ => None,
        },
        insert: match word("insert") {
            Some("auto") => Some(Insert::Auto),
            Some("max_tokens") => Some(Insert::MaxTokens),
            Some("max_completion_tokens") => Some(Insert::MaxCompletionTokens),
            Some("off") => Some(Insert::Off),
            _ => None,
        },
        max_messages: parsed(node, "max_messages", number),
        max_input: parsed(node, "max_input", value::size),
        uninspected: word("uninspected").map(|word| word == "pass"),
    }
}
