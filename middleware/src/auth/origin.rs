use http::{HeaderMap, HeaderValue, header};

use crate::origin::OriginPattern;

/// Whether one of the patterns takes the page that a head names: in `origin`, else in `referer`. A head that names none comes from
/// none.
pub(super) fn comes_from(headers: &HeaderMap, patterns: &[OriginPattern]) -> bool {
    fn text(value: &HeaderValue) -> Option<&str> {
        value.to_str().ok()
    }
    let origin = match headers.get(header::ORIGIN) {
        Some(origin) => text(origin).map(str::to_owned),
        None => {
            let page = headers.get(header::REFERER).and_then(text);
            page.and_then(of_page)
        }
    };
    origin.is_some_and(|origin| patterns.iter().any(|it| it.matches(&origin)))
}

/// The origin of a page's address.
fn of_page(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let host = &rest[..end];
    // What stands before the host is a trick.
    (!host.contains('@')).then(|| format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, name: &'static str, value: &'static str) -> bool {
        let pattern = OriginPattern::new(pattern).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        comes_from(&headers, &[pattern])
    }

    #[test]
    fn a_referer_stands_in_for_an_origin_that_is_not_there() {
        let page = |referer| takes("https://app.example.com", "referer", referer);
        assert!(page("https://app.example.com/a?b=c") && page("https://app.example.com"));
        assert!(!page("https://app.example.com@evil.test/"));
        assert!(!page("https://evil.test/https://app.example.com"));
        let mut headers = HeaderMap::new();
        let patterns = [OriginPattern::new("https://app.example.com").unwrap()];
        assert!(!comes_from(&headers, &patterns));
        headers.insert(
            "referer",
            HeaderValue::from_static("https://app.example.com/"),
        );
        headers.insert("origin", HeaderValue::from_static("https://evil.test"));
        assert!(!comes_from(&headers, &patterns), "the origin counts");
    }
}
