//! The headers of a request: read once, each name compared with those that mean something here.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{local, malformed};
use crate::error::{Reason, Rejection};

/// What one reading of the headers found, besides what is refused.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    pub(super) host: Option<&'a HeaderValue>,
    /// Whether there is something to remove.
    pub(super) dirty: bool,
    /// Whether a proxy stands between us and the client.
    pub(super) forwarded: bool,
    /// Whether a page of another site is behind the request.
    pub(super) foreign: bool,
}

/// Reads the headers.
///
/// # Errors
///
/// What two readers could understand differently, and a WebSocket.
pub(super) fn read(headers: &HeaderMap) -> Result<Seen<'_>, Rejection> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        let text = name.as_str();
        match meaning(text) {
            Meaning::None => {}
            Meaning::Connection => nominates(value)?,
            Meaning::Host if seen.host.is_some() => {
                return Err(malformed(
                    "the head names two hosts; send one `host` header",
                ));
            }
            Meaning::Host => seen.host = Some(value),
            Meaning::Method => {
                return Err(malformed(
                    "the head overrides its own method; send the method itself",
                ));
            }
            Meaning::Origin => seen.foreign |= !local::is_own_origin(value),
            Meaning::Proxy => seen.forwarded = true,
            Meaning::Site => seen.foreign |= !local::is_own_site(value),
            Meaning::Unwanted => seen.dirty = true,
            Meaning::Upgrade => upgrade(value)?,
        }
        seen.dirty |= has_underscore(text.as_bytes());
    }
    Ok(seen)
}

/// Checks that there is one authority.
pub(super) fn authority(uri: &Uri, host: Option<&HeaderValue>) -> Result<(), Rejection> {
    let Some(authority) = uri.authority() else {
        return Ok(());
    };
    let same = host.is_none_or(|host| {
        host.as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes())
    });
    if !same || authority.as_str().contains('@') {
        let told =
            "the authority of the target is not that of `host`; send a path alone, and one `host`";
        return Err(malformed(told));
    }
    Ok(())
}

/// Removes what a client has no say in. Called only where there may be such a name.
pub(super) fn clean(headers: &mut HeaderMap) {
    let unwanted = |name: &&HeaderName| {
        let text = name.as_str();
        matches!(meaning(text), Meaning::Unwanted) || is_twin(text, headers)
    };
    let names: Vec<_> = headers.keys().filter(unwanted).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What a name means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    None,
    Connection,
    Host,
    /// Another method than the request line's.
    Method,
    Origin,
    /// A proxy says whom it speaks for.
    Proxy,
    Site,
    /// Not the client's to send.
    Unwanted,
    Upgrade,
}

/// By its first letter, and the third behind `x-`: most names that clients send need no comparison.
#[inline(always)]
fn meaning(name: &str) -> Meaning {
    const FIRST: u32 = letters(b"fhostuv");
    const BEHIND_X: u32 = letters(b"fhmort");
    let named = match name.as_bytes() {
        [b'x', b'-', third, ..] => BEHIND_X >> (third & 31) & 1 == 1,
        // `connection`, and not `content-…`.
        [b'c', _, _, fourth, ..] => *fourth == b'n',
        [first, ..] => FIRST >> (first & 31) & 1 == 1,
        [] => false,
    };
    if named {
        meaning_of(name)
    } else {
        Meaning::None
    }
}

/// A bit for each of these letters.
const fn letters(letters: &[u8]) -> u32 {
    let (mut mask, mut at) = (0, 0);
    while at < letters.len() {
        mask |= 1 << (letters[at] & 31);
        at += 1;
    }
    mask
}

#[inline(never)]
fn meaning_of(name: &str) -> Meaning {
    match name {
        "connection" => Meaning::Connection,
        "forwarded" | "via" | "x-real-ip" => Meaning::Proxy,
        "host" => Meaning::Host,
        "origin" => Meaning::Origin,
        "sec-fetch-site" => Meaning::Site,
        "upgrade" => Meaning::Upgrade,
        "x-http-method" | "x-http-method-override" | "x-method-override" => Meaning::Method,
        "x-original-url" | "x-rewrite-url" => Meaning::Unwanted,
        // What clients say to us.
        "tollgate-key" | "x-tollgate-metadata" => Meaning::None,
        _ if name.starts_with("x-forwarded") => Meaning::Proxy,
        _ if name.starts_with("tollgate-") || name.starts_with("x-tollgate-") => Meaning::Unwanted,
        _ => Meaning::None,
    }
}

/// Checks what a `connection` header names. The headers themselves are removed where all have read them.
fn nominates(value: &HeaderValue) -> Result<(), Rejection> {
    let value = value.as_bytes();
    if matches!(value, b"keep-alive" | b"close" | b"Keep-Alive") {
        return Ok(());
    }
    let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if names.any(|name| is_any(name, FRAMING) || is_any(name, CREDENTIALS)) {
        let told = "`connection` names a header that is none of the connection's: \
                    `host`, the length of the body or a credential";
        return Err(malformed(told));
    }
    Ok(())
}

/// Checks which protocols a client would rather speak.
fn upgrade(value: &HeaderValue) -> Result<(), Rejection> {
    let mut protocols = value.as_bytes().split(|byte| *byte == b',');
    let websocket = protocols.any(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    });
    if websocket {
        let told = "WebSockets are not served here; ask with a plain HTTP request";
        return Err(Rejection::new(Reason::UpgradeRequired, "hygiene", told).close());
    }
    Ok(())
}

/// Whether a name is, but for `_` in the place of `-`, one that somebody reads.
fn is_twin(name: &str, headers: &HeaderMap) -> bool {
    if !has_underscore(name.as_bytes()) {
        return false;
    }
    let plain = name.replace('_', "-");
    headers.contains_key(&plain)
        || meaning(&plain) != Meaning::None
        || plain.starts_with("content-")
        || plain == "x-tollgate-metadata"
        || [FRAMING, CREDENTIALS, OTHERS]
            .iter()
            .any(|names| is_any(plain.as_bytes(), names))
}

fn is_any(name: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether a name has an underscore: eight bytes at a time, the last eight perhaps twice.
#[inline(always)]
fn has_underscore(name: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // Names are ASCII: each byte that is no underscore becomes 128 or more, without a carry.
    let found = |eight: &[u8; 8]| {
        let differs = u64::from_le_bytes(*eight) ^ (ONES * u64::from(b'_'));
        (differs + (HIGH - ONES)) & HIGH != HIGH
    };
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => {
            // Few names are longer than sixteen bytes.
            let within = name.len() > 16 && name[8..].as_chunks().0.iter().any(found);
            found(first) | found(last) | within
        }
        _ => name.contains(&b'_'),
    }
}

const FRAMING: &[&str] = &["host", "content-length", "transfer-encoding"];

/// Where callers put who they are.
const CREDENTIALS: &[&str] = &[
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "proxy-authorization",
    "tollgate-key",
    "cookie",
];

/// What else somebody reads of a request.
const OTHERS: &[&str] = &[
    "accept-encoding",
    "expect",
    "http2-settings",
    "keep-alive",
    "openai-organization",
    "openai-project",
    "proxy-connection",
    "te",
    "trailer",
    "x-goog-user-project",
    "x-request-id",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(rows: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in rows {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn reason(rows: &[(&str, &str)]) -> Option<Reason> {
        read(&map(rows)).err().map(|refused| refused.reason())
    }

    fn cleaned(names: &[&str]) -> Vec<String> {
        let rows: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
        let mut map = map(&rows);
        if read(&map).unwrap().dirty {
            clean(&mut map);
        }
        let mut kept: Vec<_> = map.keys().map(ToString::to_string).collect();
        kept.sort();
        kept
    }

    #[test]
    fn what_a_connection_may_name_is_left_to_upstream() {
        for value in [
            "keep-alive",
            "close",
            "Keep-Alive",
            "upgrade, HTTP2-Settings",
            "x-custom",
            "",
            ", ,",
            "hosts",
        ] {
            assert_eq!(reason(&[("connection", value)]), None, "{value}");
        }
    }

    #[test]
    fn a_connection_that_names_framing_or_credentials_is_refused() {
        for name in FRAMING.iter().chain(CREDENTIALS) {
            for value in [
                (*name).to_owned(),
                format!("close, {}", name.to_uppercase()),
                format!("x-a ,\t{name} , close"),
            ] {
                let refused = reason(&[("connection", &value)]);
                assert_eq!(refused, Some(Reason::Malformed), "{value}");
            }
        }
        let second = [("connection", "close"), ("connection", "Authorization")];
        assert_eq!(reason(&second), Some(Reason::Malformed));
    }

    #[test]
    fn only_a_websocket_is_refused_as_an_upgrade() {
        for value in [
            "websocket",
            "WebSocket",
            "websocket/13",
            "h2c, websocket",
            "foo,\tWEBSOCKET ",
        ] {
            let refused = reason(&[("upgrade", value)]);
            assert_eq!(refused, Some(Reason::UpgradeRequired), "{value}");
        }
        for value in ["h2c", "foo/2", "websockets", "", "x-websocket"] {
            assert_eq!(reason(&[("upgrade", value)]), None, "{value}");
        }
    }

    #[test]
    fn two_hosts_and_another_method_are_refused() {
        let hosts = [("host", "a"), ("host", "a")];
        assert_eq!(reason(&hosts), Some(Reason::Malformed));
        for name in [
            "x-http-method-override",
            "X-HTTP-Method",
            "x-method-override",
        ] {
            assert_eq!(reason(&[(name, "GET")]), Some(Reason::Malformed), "{name}");
        }
    }

    #[test]
    fn the_authority_of_the_target_is_that_of_host() {
        let of = |uri: &'static str, host: Option<&'static str>| {
            let host = host.map(HeaderValue::from_static);
            authority(&Uri::from_static(uri), host.as_ref()).is_ok()
        };
        assert!(of("/v1/models", Some("anything")));
        assert!(of("http://A.example:1/v1", Some("a.EXAMPLE:1")));
        assert!(of("http://a.example/v1", None));
        assert!(!of("http://evil/v1", Some("a.example")));
        assert!(!of("http://a.example/v1", Some("a.example:80")));
        assert!(!of("http://a.example@evil/v1", Some("a.example@evil")));
    }

    #[test]
    fn names_of_ours_are_removed_but_for_those_that_clients_send() {
        let names = [
            "tollgate-request-id",
            "tollgate-key",
            "tollgate-",
            "tollgates",
            "x-tollgate-internal",
            "x-tollgate-metadata",
            "x-original-url",
            "x-rewrite-url",
            "x-original-uri",
        ];
        let kept = [
            "tollgate-key",
            "tollgates",
            "x-original-uri",
            "x-tollgate-metadata",
        ];
        assert_eq!(cleaned(&names), kept);
    }

    #[test]
    fn twins_of_names_that_somebody_reads_are_removed() {
        for twin in [
            "x_api_key",
            "x-api_key",
            "content_length",
            "transfer_encoding",
            "tollgate_route",
            "tollgate_key",
            "x_forwarded_for",
            "x_real_ip",
            "sec_fetch_site",
            "x_tollgate_metadata",
            "http2_settings",
            "x_http_method_override",
            "content_type",
        ] {
            assert_eq!(cleaned(&[twin, "accept"]), ["accept"], "{twin}");
        }
        // Codex sends these; they are nobody's twins.
        let harmless = ["_", "conversation_id", "session_id", "x_custom"];
        assert_eq!(cleaned(&harmless), harmless);
        assert_eq!(cleaned(&["x-custom", "x_custom"]), ["x-custom"]);
    }

    #[test]
    fn proxies_and_pages_are_seen() {
        for name in [
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "x-real-ip",
            "via",
        ] {
            let map = map(&[(name, "10.1.2.3")]);
            let seen = read(&map).unwrap();
            assert!(seen.forwarded && !seen.dirty, "{name}");
        }
        let foreign = |name, value| read(&map(&[(name, value)])).unwrap().foreign;
        assert!(foreign("origin", "https://evil.example"));
        assert!(foreign("sec-fetch-site", "cross-site"));
        assert!(!foreign("origin", "http://localhost:3000"));
        assert!(!foreign("sec-fetch-mode", "cors"));
    }

    proptest! {
        #[test]
        fn an_underscore_is_found_wherever_it_is(name in "[a-z_-]{0,40}") {
            prop_assert_eq!(has_underscore(name.as_bytes()), name.contains('_'));
        }

        /// What is removed once needs no second time, and nothing is removed unless it was noticed.
        #[test]
        fn cleaning_is_idempotent(
            names in prop::collection::vec(prop_oneof![
                Just("x-api-key"), Just("x_api_key"), Just("tollgate-route"), Just("tollgate_key"), Just("x-a"), Just("x_a"),
                Just("content_length"), Just("via"), Just("accept"), Just("x-tollgate-metadata"), Just("x-tollgate-b"),
            ], 0..8),
        ) {
            let rows: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
            let mut map = map(&rows);
            let dirty = read(&map).unwrap().dirty;
            let before = map.len();
            clean(&mut map);
            prop_assert!(dirty || before == map.len());
            let once = map.clone();
            clean(&mut map);
            prop_assert_eq!(once, map);
        }
    }
}
