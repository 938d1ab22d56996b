//! Which page may ask, and what its browser is told.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::{dialect::METHODS, origin::OriginPattern};

/// The pages that may ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pub(super) all: bool,
    pub(super) some: Box<[OriginPattern]>,
}

impl Pages {
    /// Whether nothing is ever said.
    pub(super) fn are_none(&self) -> bool {
        !self.all && self.some.is_empty()
    }

    /// What is to be said of the page that a head names, if it may ask. Behind a pointer: the future of every request would have room
    /// for it, and few come from a page.
    pub(super) fn allow(&self, headers: &HeaderMap) -> Option<Box<HeaderValue>> {
        let origin = headers.get(header::ORIGIN)?;
        if self.all {
            return Some(Box::new(ANY));
        }
        let text = origin.to_str().ok()?;
        let named = self.some.iter().any(|it| it.matches(text));
        named.then(|| Box::new(origin.clone()))
    }
}

/// Whether a browser asks if a page may ask.
pub(super) fn asks(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Yes, by these methods, and with the headers that were asked for.
pub(super) fn may(origin: HeaderValue, asked: &HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    for names in asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(MAX_AGE));
    headers.insert(
        header::VARY,
        HeaderValue::from_static(
            "origin, access-control-request-method, access-control-request-headers",
        ),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says in the head of an answer whether the page that asked may read it. What a browser keeps for another page depends on that, also
/// where no page asked.
pub(super) fn tell(allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    if allowed != Some(ANY) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Seconds for which a browser need not ask again.
const MAX_AGE: u32 = 600;

/// The headers of ours, and those in whose words we speak to a dialect's own clients.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, tollgate-request-id, server-timing, retry-after, retry-after-ms, x-should-retry, \
     ratelimit, ratelimit-policy, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, \
     tollgate-refused-by, tollgate-provider, tollgate-model, tollgate-attempts, tollgate-route",
);
