//! Edits of heads, in place: a header map is never rebuilt.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};

use super::target::{Credential, Target};
use crate::dialect::{self, Dialect, Operation, Recognised, Surface};

/// Headers that belong to one connection (RFC 9110 section 7.6.1, and those in common use).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Where callers put their credentials, and whose account they mean by them: never forwarded.
const CALLERS_OWN: [HeaderName; 10] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("tollgate-key"),
    header::COOKIE,
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("x-goog-user-project"),
];

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// Removes what belongs to the connection that a message came over.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(nominated) = headers.get(header::CONNECTION) {
        // Most say `keep-alive` or `close` and nominate nothing else.
        let plain = [&b"keep-alive"[..], b"Keep-Alive", b"close"];
        let several = headers.get_all(header::CONNECTION).iter().nth(1).is_some();
        if several || !plain.contains(&nominated.as_bytes()) {
            for name in nominated_by(headers) {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
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
    target: &Target,
    surface: Option<&Surface>,
    request_id: Option<&str>,
) {
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    for name in &CALLERS_OWN {
        headers.remove(name);
    }
    if surface.is_some_and(is_read)
        && let Some(coding) = headers.get_mut(header::ACCEPT_ENCODING)
    {
        *coding = HeaderValue::from_static("identity");
    }
    headers.insert(header::HOST, target.host.clone());
    if let Some(id) = request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.entry(CLIENT_REQUEST_ID).or_insert(id);
    }
    for name in target.headers.keys() {
        headers.remove(name);
    }
    for (name, value) in &target.headers {
        headers.append(name, value.clone());
    }
    if let Credential::Header(name, value) = &target.credential {
        headers.insert(name, value.clone());
    }
}

/// Whether layers read what is answered on this surface.
fn is_read(surface: &Surface) -> bool {
    let binary = matches!(surface.operation, Operation::Speech | Operation::Models);
    !binary && surface.dialect != Dialect::Raw
}

/// The target of the request, in origin form, at the provider.
pub(super) fn edit_target(
    uri: &Uri,
    base_path: &str,
    recognised: &Recognised,
    own_name: Option<&str>,
) -> Option<Uri> {
    let (prefix, surface) = match recognised {
        Recognised::Surface(surface) => (Some(&surface.prefix), Some(surface)),
        Recognised::Prefixed(prefix) => (Some(prefix), None),
        _ => (None, None),
    };
    let path = match (own_name, surface.and_then(|surface| surface.model.clone())) {
        (Some(name), Some(at)) => {
            let path = uri.path();
            let (before, after) = (path.get(..at.start)?, path.get(at.end..)?);
            Cow::Owned(format!("{before}{}{after}", encoded(name)))
        }
        _ => Cow::Borrowed(uri.path()),
    };
    let joined = dialect::join(base_path, &path, prefix);
    let gemini = surface.is_some_and(|surface| surface.dialect == Dialect::Gemini);
    let query = uri
        .query()
        .map(|query| if gemini { keyless(query) } else { query.into() });
    let unchanged = uri.scheme().is_none() && *joined == *uri.path();
    if unchanged && query.as_deref() == uri.query() {
        return Some(uri.clone());
    }
    let text = match query.as_deref() {
        Some(query) if !query.is_empty() => Cow::Owned(format!("{joined}?{query}")),
        _ => joined,
    };
    PathAndQuery::try_from(&*text).ok().map(Uri::from)
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
