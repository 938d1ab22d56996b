//! Whether a request comes from this machine, and was not sent by somebody else's page.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;

/// Whether an authority, with a port or without, can only mean this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if is_port(port) => {
                return host
                    .parse::<Ipv6Addr>()
                    .is_ok_and(|ip| is_loopback_address(ip.into()));
            }
            _ => return false,
        },
        None => authority,
    };
    let host = match host.split_once(':') {
        Some((host, port)) if is_digits(port) => host,
        Some(_) => return false,
        None => host,
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn is_loopback_address(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether `origin` names a page of this machine.
pub(super) fn is_own_origin(origin: &HeaderValue) -> bool {
    let Ok(text) = origin.to_str() else {
        return false;
    };
    let authority = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    authority.is_some_and(is_loopback)
}

/// Whether `sec-fetch-site` says that no other site is behind the request.
pub(super) fn is_own_site(site: &HeaderValue) -> bool {
    matches!(site.as_bytes(), b"same-origin" | b"same-site" | b"none")
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
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
            assert!(is_loopback(host), "{host}");
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
            assert!(!is_loopback(host), "{host}");
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
