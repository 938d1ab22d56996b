//! Where a key stands in a head.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};

use crate::dialect::{self, Dialect, Recognised};

/// A place for a key, in the words that a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Bearer,
    Header(&'static str),
    Query,
    Own,
    Subprotocol,
}

impl Slot {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "authorization",
            Self::Header(name) => name,
            Self::Query => "the query's key",
            Self::Own => "tollgate-key",
            Self::Subprotocol => "sec-websocket-protocol",
        }
    }
}

/// What a head presents.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Two different keys, and where they stand.
    Different(Slot, Slot),
    /// Nothing, or what is no key.
    Nothing,
    /// One key; the slot is the first that has it.
    One(Slot, Cow<'a, [u8]>),
}

const OWN: HeaderName = HeaderName::from_static("tollgate-key");
const HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];
const SUBPROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// A key is not longer. What is, is not looked at.
const LONGEST: usize = 8 * 1024;

/// The key of a head. What is no key (an empty value, another scheme) is none, beside one as well as alone.
pub(super) fn find<'a>(headers: &'a HeaderMap, uri: &'a Uri, gemini: bool) -> Found<'a> {
    let mut found = Found::Nothing;
    for value in headers.get_all(OWN) {
        found.add(Slot::Own, plain(value));
    }
    if headers.contains_key(OWN) {
        return found;
    }
    for value in headers.get_all(header::AUTHORIZATION) {
        found.add(Slot::Bearer, bearer_token(value));
    }
    for name in HEADERS {
        for value in headers.get_all(name) {
            found.add(Slot::Header(name), plain(value));
        }
    }
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for element in value.as_bytes().split(|it| *it == b',') {
            let key = element.trim_ascii().strip_prefix(SUBPROTOCOL);
            found.add(Slot::Subprotocol, key.and_then(|key| whole(key.into())));
        }
    }
    if gemini && let Some(query) = uri.query() {
        for key in query.split('&').filter_map(key_of) {
            found.add(Slot::Query, whole(bytes(dialect::decode(key))));
        }
    }
    found
}

impl<'a> Found<'a> {
    fn add(&mut self, slot: Slot, key: Option<Cow<'a, [u8]>>) {
        match (&self, key) {
            (Self::Nothing, Some(key)) => *self = Self::One(slot, key),
            (Self::One(first, one), Some(key)) if *one != key => {
                *self = Self::Different(*first, slot);
            }
            _ => {}
        }
    }
}

/// Takes the key out of the slots that it can have stood in.
pub(super) fn empty(headers: &mut HeaderMap, uri: &mut Uri, slot: Slot, gemini: bool) {
    if slot == Slot::Own {
        headers.remove(OWN);
        return;
    }
    headers.remove(header::AUTHORIZATION);
    for name in HEADERS {
        headers.remove(name);
    }
    if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        without_subprotocol(headers);
    }
    if gemini {
        without_query_key(uri);
    }
}

/// Whether a path is one of Gemini's, where the query may hold a key.
pub(super) fn is_gemini(recognised: &Recognised, path: &str) -> bool {
    match recognised {
        Recognised::Surface(surface) => surface.dialect == Dialect::Gemini,
        Recognised::Prefixed(prefix) => path
            .get(prefix.clone())
            .is_some_and(|prefix| prefix.contains("/v1beta")),
        Recognised::Wrong(_) | Recognised::Unknown => false,
    }
}

fn plain(value: &HeaderValue) -> Option<Cow<'_, [u8]>> {
    whole(value.as_bytes().trim_ascii().into())
}

/// Behind a scheme whose case does not matter (RFC 9110, 11.1).
fn bearer_token(value: &HeaderValue) -> Option<Cow<'_, [u8]>> {
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    let bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    bearer.then(|| whole(token.trim_ascii().into())).flatten()
}

/// What can be a key at all.
fn whole(key: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    (1..=LONGEST).contains(&key.len()).then_some(key)
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The value of a pair that is named `key`, however that is written.
fn key_of(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (dialect::decode(name) == "key").then_some(value)
}

fn without_subprotocol(headers: &mut HeaderMap) {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let elements = values.flat_map(|value| value.as_bytes().split(|it| *it == b','));
    let kept = elements.map(<[u8]>::trim_ascii);
    let kept: Vec<_> = kept.filter(|it| !it.starts_with(SUBPROTOCOL)).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn without_query_key(uri: &mut Uri) {
    let Some(query) = uri.query() else { return };
    if !query.split('&').any(|pair| key_of(pair).is_some()) {
        return;
    }
    let kept: Vec<_> = query
        .split('&')
        .filter(|pair| key_of(pair).is_none())
        .collect();
    let target = if kept.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), kept.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    // Parts of a target that was one.
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}
