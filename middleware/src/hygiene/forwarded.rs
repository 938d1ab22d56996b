//! Whom a proxy speaks for.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// The address that a trusted `peer` names; `None` if the peer is not trusted, or names none.
pub(super) fn client(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    if !trusted(peer) {
        return None;
    }
    let (name, element): (_, Element) = if headers.contains_key("x-forwarded-for") {
        ("x-forwarded-for", address)
    } else if headers.contains_key("forwarded") {
        ("forwarded", for_of)
    } else {
        ("x-real-ip", address)
    };
    // From the right, and without regard to quotes: what stands on the left of what a hop wrote is the client's own, and
    // must not change how the hop's part is read.
    let values = headers.get_all(name).iter().rev();
    let elements = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = None;
    for text in elements {
        let Some(named) = std::str::from_utf8(text)
            .ok()
            .and_then(|text| element(text.trim()))
        else {
            break;
        };
        client = Some(named);
        if !trusted(named) {
            break;
        }
    }
    client
}

type Element = fn(&str) -> Option<IpAddr>;

/// An address, with a port or without; an IPv6 address in brackets or without.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let parsed = bare.parse().ok();
    parsed
        .or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}

/// The `for` of one element of `forwarded` (RFC 7239).
fn for_of(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let node = node.trim();
    let bare = node
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    address(bare.unwrap_or(node))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn map(rows: &[(&'static str, &str)]) -> HeaderMap {
        let row = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        rows.iter().map(row).collect()
    }

    /// Trusted: loopback and 10.0.0.0/8.
    fn named(rows: &[(&'static str, &str)]) -> Option<String> {
        let trusted = |ip: IpAddr| ip.is_loopback() || ip.to_string().starts_with("10.");
        client(&map(rows), [127, 0, 0, 1].into(), trusted).map(|ip| ip.to_string())
    }

    fn xff(text: &str) -> Option<String> {
        named(&[("x-forwarded-for", text)])
    }

    #[test]
    fn the_first_from_the_right_that_is_not_trusted_is_the_client() {
        assert_eq!(xff("198.51.100.7").as_deref(), Some("198.51.100.7"));
        assert_eq!(
            xff("6.6.6.6, 198.51.100.7, 10.1.2.3").as_deref(),
            Some("198.51.100.7")
        );
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "198.51.100.7,10.0.0.1"),
        ];
        assert_eq!(named(&lines).as_deref(), Some("198.51.100.7"));
        // All are trusted: the one that began.
        assert_eq!(xff("10.9.9.9, 10.1.2.3").as_deref(), Some("10.9.9.9"));
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk() {
        assert_eq!(xff(""), None);
        assert_eq!(xff("unknown"), None);
        assert_eq!(
            xff("6.6.6.6, unknown, 10.1.2.3").as_deref(),
            Some("10.1.2.3")
        );
        assert_eq!(xff("6.6.6.6,"), None);
        assert_eq!(xff("6.6.6.6, 10.1.2.3:x"), None);
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_read() {
        assert_eq!(xff("198.51.100.7:4711").as_deref(), Some("198.51.100.7"));
        assert_eq!(xff("[2001:db8::1]:4711").as_deref(), Some("2001:db8::1"));
        assert_eq!(xff("[2001:db8::1]").as_deref(), Some("2001:db8::1"));
        assert_eq!(xff("2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(xff("::ffff:198.51.100.7").as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn forwarded_is_read_where_nothing_goes_before_it() {
        let element = r#"for=6.6.6.6, proto=https;For="[2001:db8::1]:80";by=_x , for=10.1.2.3"#;
        let forwarded = ("forwarded", element);
        assert_eq!(named(&[forwarded]).as_deref(), Some("2001:db8::1"));
        let both = [forwarded, ("x-forwarded-for", "198.51.100.7")];
        assert_eq!(named(&both).as_deref(), Some("198.51.100.7"));
        assert_eq!(named(&[("forwarded", "for=_hidden")]), None);
        // A quote that the client opens does not swallow what the hop wrote.
        let open = ("forwarded", r#"for="6.6.6.6, for=198.51.100.7"#);
        assert_eq!(named(&[open]).as_deref(), Some("198.51.100.7"));
        let real = [("x-real-ip", "198.51.100.7")];
        assert_eq!(named(&real).as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn a_peer_that_is_not_trusted_names_nobody() {
        let rows = map(&[("x-forwarded-for", "10.1.2.3")]);
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        assert_eq!(client(&rows, [192, 0, 2, 1].into(), trusted), None);
    }
}
