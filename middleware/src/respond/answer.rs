use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    dialect::{METHODS, Shape, Told, error_body},
    error::{BoxError, Reason, Rejection},
};

/// A wait longer than this is not worth a client's patience.
const PATIENCE: Duration = Duration::from_secs(60);

const INTERNAL: &str = "something failed inside the gateway; its operator finds the cause in the log by the request id";

/// The answer to a request that failed with `error`.
pub(super) fn answer(error: &BoxError, shape: Shape, request_id: Option<&str>) -> Response<Bytes> {
    let found = Rejection::find(&**error);
    if found.is_none_or(|why| why.reason() == Reason::Internal) {
        tell_operator(&**error, request_id);
    }
    let reason = found.map_or(Reason::Internal, Rejection::reason);
    let (status, kind, code) = terms(reason);
    let message = found.map_or(INTERNAL, Rejection::message);
    let message = format!("tollgate: {message}");
    let request_id = request_id.unwrap_or_default();
    let told = Told {
        status: status.as_u16(),
        kind,
        code,
        message: &message,
        request_id,
    };
    let mut response = Response::new(Bytes::from(error_body(shape, &told)));
    *response.status_mut() = StatusCode::from_u16(shape.status(told.status)).unwrap_or(status);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFUSED_BY, HeaderValue::from_static(speaker(found)));
    if let Ok(id) = HeaderValue::from_str(request_id)
        && !id.is_empty()
    {
        headers.insert(HeaderName::from_static("request-id"), id);
    }
    let tried = found.is_some_and(Rejection::is_hopeless);
    wait(headers, (reason, tried), found.and_then(Rejection::wait));
    match reason {
        Reason::UpgradeRequired => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        Reason::MethodNotAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
        }
        _ => {}
    }
    if found.is_some_and(Rejection::closes) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to `GET /`: somebody is there.
pub(super) fn root() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const REFUSED_BY: HeaderName = HeaderName::from_static("tollgate-refused-by");

fn speaker(found: Option<&Rejection>) -> &'static str {
    found.map_or("respond", Rejection::layer)
}

/// `retry-after` in whole seconds, never too early; `retry-after-ms` for what is below one.
fn wait(headers: &mut HeaderMap, (reason, tried): (Reason, bool), wait: Option<Duration>) {
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        if wait < Duration::from_secs(1) {
            let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(1000);
            headers.insert(
                HeaderName::from_static("retry-after-ms"),
                HeaderValue::from(millis),
            );
        }
    }
    // What was tried again may yet succeed after a short wait.
    let hopeless =
        wait.map_or(tried, |wait| wait > PATIENCE) || reason == Reason::InsufficientQuota;
    if hopeless {
        let name = HeaderName::from_static("x-should-retry");
        headers.insert(name, HeaderValue::from_static("false"));
    }
}

/// Status, OpenAI's `type` and `code`.
fn terms(reason: Reason) -> (StatusCode, &'static str, &'static str) {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    let code = reason.as_str();
    match reason {
        Reason::ContentBlocked | Reason::Malformed | Reason::ModelUnpriced | Reason::TokenCap => {
            (StatusCode::BAD_REQUEST, INVALID, code)
        }
        // Read by a client that has closed its sending side only.
        Reason::ClientGone => (StatusCode::BAD_REQUEST, INVALID, Reason::Malformed.as_str()),
        Reason::Unauthenticated => (StatusCode::UNAUTHORIZED, "authentication_error", code),
        Reason::Forbidden => (StatusCode::FORBIDDEN, "permission_error", code),
        Reason::ModelNotFound | Reason::NotFound => (StatusCode::NOT_FOUND, INVALID, code),
        Reason::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, INVALID, code),
        Reason::RequestTimeout | Reason::SlowReader => (StatusCode::REQUEST_TIMEOUT, INVALID, code),
        Reason::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, code),
        Reason::UriTooLong => (StatusCode::URI_TOO_LONG, INVALID, code),
        Reason::UnsupportedCoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, code),
        Reason::UpgradeRequired => (StatusCode::UPGRADE_REQUIRED, INVALID, code),
        Reason::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, code),
        Reason::RateLimit => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code),
        Reason::InsufficientQuota => (StatusCode::TOO_MANY_REQUESTS, code, code),
        Reason::Internal => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, code),
        Reason::Closed | Reason::Connect | Reason::Protocol | Reason::Tls | Reason::Truncated => {
            (StatusCode::BAD_GATEWAY, SERVER, "upstream_error")
        }
        Reason::ResponseRejected => (StatusCode::BAD_GATEWAY, SERVER, code),
        Reason::NoTarget => (StatusCode::SERVICE_UNAVAILABLE, SERVER, code),
        Reason::Draining | Reason::Overloaded => {
            (StatusCode::SERVICE_UNAVAILABLE, SERVER, "overloaded")
        }
        Reason::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, SERVER, code),
    }
}

/// A bug, told to the operator with its causes; the caller gets none of it.
fn tell_operator(error: &(dyn Error + 'static), request_id: Option<&str>) {
    let mut chain = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        chain.push_str(": ");
        chain.push_str(&cause.to_string());
        next = cause.source();
    }
    tracing::error!(
        request_id,
        error = chain,
        "a request failed inside the gateway"
    );
}
