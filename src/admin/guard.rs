//! Who may: the bearer token, and requests that only look as if they came from this machine.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use subtle::ConstantTimeEq;
use tollgate_middleware::hygiene::is_loopback;

/// The bearer token, which a reload may replace; an empty one is none. Clones are the same.
#[derive(Clone, Default)]
pub struct Token(Arc<Mutex<Option<Arc<str>>>>);

/// Whether a request asks for another host than this machine: so does a page whose name was pointed
/// here. No name at all is no browser's.
pub(super) fn is_foreign<B>(req: &Request<B>) -> bool {
    let named = req.headers().get_all(HOST).iter();
    let here = |host: &HeaderValue| is_loopback(host.as_bytes());
    let target = req.uri().authority();
    !named.into_iter().all(here)
        || target.is_some_and(|host| !is_loopback(host.as_str().as_bytes()))
}

/// Whether a page of another site sent a request that changes something.
pub(super) fn is_cross_site<B>(req: &Request<B>) -> bool {
    if *req.method() != Method::POST {
        return false;
    }
    let headers = req.headers();
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let elsewhere = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let by_page = |origin: &HeaderValue| {
        let origin = origin.to_str().ok();
        let host = origin.and_then(|origin| origin.split_once("://"));
        !host.is_some_and(|(_, host)| is_loopback(host.as_bytes()))
    };
    elsewhere || headers.get_all(ORIGIN).iter().any(by_page)
}

// ===== impl Token =====

impl Token {
    /// A token; an empty one is none.
    pub fn new(token: Option<String>) -> Self {
        let own = Self::default();
        own.set(token);
        own
    }

    /// Asks for another one from now on.
    pub fn set(&self, token: Option<String>) {
        let token = token.filter(|token| !token.is_empty()).map(Arc::from);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    pub(super) fn present(&self) -> Option<Arc<str>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether there is a token, and a request brings it; compared in constant time.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let (Some(token), Some(bearer)) = (self.present(), headers.get(AUTHORIZATION)) else {
            return false;
        };
        let bearer = bearer.as_bytes();
        let Some(space) = memchr::memchr(b' ', bearer) else {
            return false;
        };
        let (scheme, presented) = (&bearer[..space], bearer[space..].trim_ascii());
        scheme.eq_ignore_ascii_case(b"bearer") && presented.ct_eq(token.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is a secret.
        f.debug_struct("Token").finish_non_exhaustive()
    }
}
