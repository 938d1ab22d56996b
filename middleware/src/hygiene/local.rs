//! Whether a request comes from this machine, and was not sent by somebody else's page.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;

/// Whether an authority, with a port or without, can only mean this machine: `localhost`, an address in 127.0.0.0/8 or
/// `[::1]`. For who guards another listener by the same rule.
///
/// ```
/// use tollgate_middleware::hygiene::is_loopback;
///
/// assert!(is_loopback(b"localhost:8080") && is_loopback(b"[::1]"));
/// assert!(!is_loopback(b"localhost.evil.example") && !is_loopback(b"user@localhost"));
/// ```
pub fn is_loopback(authority: &[u8]) -> bool {
    // What nearly all write.
    let usual = authority
        .strip_prefix(b"127.0.0.1")
        .or_else(|| authority.strip_prefix(b"localhost"));
    if usual.is_some_and(is_port) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(authority) else {
        return false;
    };
    match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(host, port)| {
            let host = host.parse().ok();
            is_port(port.as_bytes())
                && host.is_some_and(|host: Ipv6Addr| is_loopback_address(host.into()))
        }),
        None => {
            let at = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(at);
            is_port(port.as_bytes())
                && (host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|host: Ipv4Addr| host.is_loopback()))
        }
    }
}

pub(super) fn is_loopback_address(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether `origin` names a page of this machine.
pub(super) fn is_own_origin(origin: &HeaderValue) -> bool {
    let origin = origin.as_bytes();
    let authority = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(is_loopback)
}

/// Whether `sec-fetch-site` says that no other site is behind the request.
pub(super) fn is_own_site(site: &HeaderValue) -> bool {
    matches!(site.as_bytes(), b"same-origin" | b"same-site" | b"none")
}

/// Nothing, or a colon and at most five digits.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_loopback_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.8.7:65535",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "localhost:",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost.",
            "a.localhost",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "0.0.0.0",
            "10.0.0.1",
            "128.0.0.1",
            "[::]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[fe80::1]",
            "localhost:80:80",
            "localhost:80@evil.example",
            "user@localhost",
            " localhost",
            "localhost ",
            "localhost,evil.example",
            "[localhost]",
            "[127.0.0.1]",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let own = |text| is_own_origin(&HeaderValue::from_static(text));
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:5173",
        ] {
            assert!(own(origin), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost.evil.example",
            "file://localhost",
            "localhost",
            "http://localhost:3000/x",
            "http://localhost, http://evil.example",
        ] {
            assert!(!own(origin), "{origin}");
        }
        let site = |text| is_own_site(&HeaderValue::from_static(text));
        assert!(site("same-origin") && site("same-site") && site("none"));
        assert!(!site("cross-site") && !site("") && !site("Same-Origin, none"));
    }
}
