//! Whether a response head says once, and plainly, where its answer ends.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// What is wrong with the head of an answer, in words for the caller.
///
/// HTTP parsers differ on what they make of two lengths; whoever is behind us may be another one than
/// the one in front of us. So what needs a rule of precedence is refused.
pub(super) fn fault<B>(response: &Response<B>) -> Option<&'static str> {
    let (status, headers) = (response.status(), response.headers());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Some("the provider switched to a protocol that was not asked for");
    }
    if !(200..=599).contains(&status.as_u16()) {
        return Some("the provider answered with a status that is none");
    }
    let length = headers.contains_key(header::CONTENT_LENGTH);
    let encoding = headers.contains_key(header::TRANSFER_ENCODING);
    let plain = match (length, encoding) {
        (false, false) => true,
        (true, false) => single(headers, &header::CONTENT_LENGTH).is_some_and(is_number),
        (false, true) => single(headers, &header::TRANSFER_ENCODING)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked")),
        (true, true) => false,
    };
    (!plain).then_some("the provider did not say plainly where its answer ends")
}

/// The value of a header that comes once.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_number(value: &HeaderValue) -> bool {
    let digits = value.as_bytes();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        fault(&response.body(()).unwrap())
    }

    #[test]
    fn one_length_or_none_is_plain() {
        assert_eq!(judged(200, &[]), None);
        assert_eq!(judged(599, &[("content-length", "0")]), None);
        assert_eq!(judged(200, &[("transfer-encoding", "Chunked")]), None);
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        let length = "content-length";
        let encoding = "transfer-encoding";
        let cases: [&[(&str, &str)]; 9] = [
            &[(length, "5"), (length, "5")],
            &[(length, "5"), (length, "6")],
            &[(length, "5, 5")],
            &[(length, "+5")],
            &[(length, "")],
            &[(length, "5"), (encoding, "chunked")],
            &[(encoding, "chunked"), (encoding, "chunked")],
            &[(encoding, "gzip, chunked")],
            &[(encoding, "identity")],
        ];
        for headers in cases {
            assert!(judged(200, headers).is_some(), "{headers:?}");
        }
    }

    #[test]
    fn a_status_that_is_none_is_refused() {
        for status in [101, 199, 600, 677, 999] {
            assert!(judged(status, &[]).is_some(), "{status}");
        }
    }
}
