//! Edits of heads, in place: a header map is never rebuilt.

use std::{borrow::Cow, ops::Range};

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{self, Entry},
    uri::PathAndQuery,
};

use super::target::{Credential, Target};
use crate::dialect::{self, Dialect, Operation, Recognised, Surface};

/// Headers that belong to one connection (RFC 9110 section 7.6.1, and those in common use).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// What of a request is for us alone, whoever pays: the caller's key of ours, its state, and what was asked of the connection.
fn is_for_us(name: &str) -> bool {
    matches!(
        name,
        "proxy-authorization" | "tollgate-key" | "x-tollgate-metadata" | "cookie" | "expect"
    )
}

/// Where callers put their credentials, and whose account they mean by them.
fn is_credential(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "x-api-key"
            | "api-key"
            | "x-goog-api-key"
            | "openai-organization"
            | "openai-project"
            | "x-goog-user-project"
    )
}

/// Removes the headers that `stops` names. Reading the names once costs less than asking the map for
/// each that might be there.
fn remove(headers: &mut HeaderMap, stops: impl Fn(&str) -> bool) {
    loop {
        let mut found = [const { None }; 4];
        let mut names = headers.keys().filter(|name| stops(name.as_str()));
        for (place, name) in found.iter_mut().zip(names.by_ref()) {
            *place = Some(name.clone());
        }
        let more = names.next().is_some();
        for name in found.into_iter().flatten() {
            headers.remove(name);
        }
        if !more {
            return;
        }
    }
}

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// What of an answer is for us alone, who asked: cookies would be one caller's state in another one's
/// hands, since all are one client to the provider; and no caller can answer a proxy behind us.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "set-cookie" | "proxy-authenticate" | "proxy-authentication-info"
    )
}

/// The answer's headers as the caller is to see them.
pub(super) fn edit_response(headers: &mut HeaderMap) {
    strip_nominated(headers);
    remove(headers, |name| is_hop_by_hop(name) || is_ours(name));
}

/// Removes the headers that `connection` names.
fn strip_nominated(headers: &mut HeaderMap) {
    if let Some(nominated) = headers.get(header::CONNECTION) {
        // Most say `keep-alive` or `close` and nominate nothing else.
        let plain = [&b"keep-alive"[..], b"Keep-Alive", b"close"];
        let several = headers.get_all(header::CONNECTION).iter().nth(1).is_some();
        if several || !plain.contains(&nominated.as_bytes()) {
            for name in nominated_by(headers) {
                // What describes the body is no business of the connection: without it the provider would
                // read the body otherwise than we did.
                if !name.as_str().starts_with("content-") {
                    headers.remove(name);
                }
            }
        }
    }
}

/// The headers that `connection` names.
fn nominated_by(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// The request's headers as the provider is to see them.
pub(super) fn edit_request(
    headers: &mut HeaderMap,
    (target, credential): (&Target, Option<&Credential>),
    surface: Option<&Surface>,
    request_id: Option<&HeaderValue>,
) {
    strip_nominated(headers);
    let goes_on = target.passthrough;
    remove(headers, |name| {
        is_hop_by_hop(name) || is_for_us(name) || !goes_on && is_credential(name)
    });
    if surface.is_some_and(is_read)
        && let Entry::Occupied(mut accepted) = headers.entry(header::ACCEPT_ENCODING)
    {
        accepted.insert(HeaderValue::from_static("identity"));
    }
    headers.insert(header::HOST, target.host.clone());
    if let Some(id) = request_id {
        headers
            .entry(CLIENT_REQUEST_ID)
            .or_insert_with(|| id.clone());
    }
    for name in target.headers.keys() {
        headers.remove(name);
    }
    for (name, value) in &target.headers {
        headers.append(name, value.clone());
    }
    if let Some(Credential::Header(name, value)) = credential {
        headers.insert(name, value.clone());
    }
}

/// Whether layers read what is answered on this surface.
fn is_read(surface: &Surface) -> bool {
    let binary = matches!(surface.operation, Operation::Speech | Operation::Models);
    !binary && surface.dialect != Dialect::Raw
}

/// Makes the target of the request that at the provider, in origin form; `None` if it cannot be made, or if
/// the model's name would lead to another path.
pub(super) fn edit_target(
    uri: &mut Uri,
    target: &Target,
    recognised: &Recognised,
    own_name: Option<&str>,
) -> Option<()> {
    let (prefix, surface) = match recognised {
        Recognised::Surface(surface) => (Some(&surface.prefix), Some(surface)),
        Recognised::Prefixed(prefix) => (Some(prefix), None),
        _ => (None, None),
    };
    let path = match (own_name, surface.and_then(|surface| surface.model.clone())) {
        // A caller can have a say in the name (`provider/model`), and providers resolve dot segments.
        (Some(name), Some(_)) if name.split('/').any(|part| matches!(part, "." | "..")) => {
            return None;
        }
        (Some(name), Some(at)) => {
            let path = uri.path();
            let (before, after) = (path.get(..at.start)?, path.get(at.end..)?);
            Cow::Owned(format!("{before}{}{after}", encoded(name)))
        }
        _ => Cow::Borrowed(uri.path()),
    };
    let joined = dialect::join(&target.base_path, &path, prefix);
    // What is behind Gemini's own prefix is Gemini's, also where the surface is not known.
    let beta = |prefix: &Range<usize>| {
        uri.path()
            .get(prefix.clone())
            .is_some_and(|it| it.contains("/v1beta"))
    };
    let gemini = match surface {
        Some(surface) => surface.dialect == Dialect::Gemini,
        None => prefix.is_some_and(beta),
    };
    let ours = gemini && !target.passthrough;
    let query = uri
        .query()
        .map(|query| if ours { keyless(query) } else { query.into() });
    let unchanged = uri.scheme().is_none() && *joined == *uri.path();
    if unchanged && query.as_deref() == uri.query() {
        return Some(());
    }
    let text = match query.as_deref() {
        Some(query) if !query.is_empty() => Cow::Owned(format!("{joined}?{query}")),
        _ => joined,
    };
    *uri = PathAndQuery::try_from(&*text).ok()?.into();
    Some(())
}

/// A Gemini query without the caller's key.
fn keyless(query: &str) -> Cow<'_, str> {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        dialect::decode(name) == "key"
    };
    if !query.split('&').any(|pair| is_key(&pair)) {
        return Cow::Borrowed(query);
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
    Cow::Owned(kept.join("&"))
}

/// A model's name as part of a path. What no path can hold is percent-encoded; `/` and `:` stand
/// for themselves, as the providers' own clients send them.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
