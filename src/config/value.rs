//! The words of the file: durations, sizes, rates, money, percentages, addresses, URLs, patterns.
//!
//! Every parser is total, strict about units, and answers a mistake with the sentence that mends it. A
//! sentence never repeats the value, which may have come from a variable.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tollgate_middleware::{
    budget::{Budget, Period, Usd},
    rate_limit::Quota,
};

use super::mask::{MASK, looks_secret};
use super::tree::{Node, Origin, Scalar};
use super::types::{BaseUrl, Listen, Pattern, Scheme};

/// No clock of a gateway runs longer; larger values are slips of the finger.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What is wrong with a value and how to write it.
type Remedy = String;

/// `30s`, `5m`, `1h30m`, `100ms`: whole numbers with units, the largest first.
pub(crate) fn duration(text: &str) -> Result<Duration, Remedy> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    const HOW: &str = "write a number and a unit: `100ms`, `30s`, `5m`, `1h30m`";
    if text.starts_with('-') {
        return Err("a duration is not negative".to_owned());
    }
    if is_digits(text) {
        return Err(format!("the unit is missing: {HOW}"));
    }
    let (mut rest, mut total, mut last) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let (number, behind) = split_number(rest);
        let (unit, behind) = behind.split_at(
            behind
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(behind.len()),
        );
        if number.is_empty() || unit.starts_with(['.', ',']) {
            return Err(format!("whole numbers only: {HOW}"));
        }
        let index = UNITS
            .iter()
            .position(|u| u.0 == unit)
            .ok_or_else(|| format!("not a unit of time: {HOW}"))?;
        if index < last {
            return Err("the larger unit goes first, each once: `1h30m`".to_owned());
        }
        last = index + 1;
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(UNITS[index].1));
        total = part
            .and_then(|p| total.checked_add(p))
            .ok_or("longer than a year")?;
        rest = behind;
    }
    match Duration::from_millis(total) {
        _ if text.is_empty() => Err(HOW.to_owned()),
        d if d > LONGEST => Err("longer than a year".to_owned()),
        d => Ok(d),
    }
}

/// `64KiB`, `32MiB`, `1GiB`, `512B`: a whole number of bytes with a binary unit.
pub(crate) fn size(text: &str) -> Result<u64, Remedy> {
    const HOW: &str = "write a whole number and a unit: `512B`, `64KiB`, `32MiB`, `1GiB`";
    if text.starts_with('-') {
        return Err("a size is not negative".to_owned());
    }
    let (number, unit) = split_number(text);
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" if !number.is_empty() => return Err(format!("the unit is missing: {HOW}")),
        "KB" | "kB" | "K" | "k" | "MB" | "M" | "GB" | "G" => {
            return Err("sizes are binary: `KiB`, `MiB`, `GiB`".to_owned());
        }
        _ => return Err(HOW.to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    bytes.filter(|b| *b <= 1 << 50).ok_or_else(|| {
        if number.is_empty() {
            HOW.to_owned()
        } else {
            "larger than a pebibyte".to_owned()
        }
    })
}

/// `64B/s`, `1KiB/s`: a size per second, more than zero.
pub(crate) fn byte_rate(text: &str) -> Result<u64, Remedy> {
    const HOW: &str = "write a size per second: `64B/s`, `1KiB/s`";
    let bytes = text.strip_suffix("/s").ok_or(HOW)?;
    match size(bytes)? {
        0 => Err("more than zero, or `off`".to_owned()),
        bytes => Ok(bytes),
    }
}

/// `25%`, from 0 to 100.
pub(crate) fn percent(text: &str) -> Result<f64, Remedy> {
    let number = text
        .strip_suffix('%')
        .filter(|n| is_decimal(n))
        .ok_or("write a percentage: `10%`")?;
    number
        .parse()
        .ok()
        .filter(|n| (0.0..=100.0).contains(n))
        .ok_or_else(|| "a percentage lies between `0%` and `100%`".to_owned())
}

/// `600/min`, `200k/min`, `5000/s`: whether the text is a count per second, minute, hour, day or month.
pub(crate) fn rate(text: &str) -> Result<(), Remedy> {
    const HOW: &str = "write a count and a period: `10/s`, `600/min`, `200k/hour`";
    let (count, period) = text.split_once('/').ok_or(HOW)?;
    let number = count.strip_suffix(['k', 'M']).unwrap_or(count);
    let positive = is_digits(number) && number.bytes().any(|b| b != b'0');
    (positive && is_period(period))
        .then_some(())
        .ok_or_else(|| HOW.to_owned())
}

/// A rate of requests: per second, minute, hour or day.
pub(crate) fn quota(text: &str) -> Result<Quota, Remedy> {
    const HOW: &str =
        "write a count up to 4294967295 and a period: `10/s`, `600/min`, `20k/hour`, `100k/day`";
    let (count, period) = text.split_once('/').ok_or(HOW)?;
    let (number, factor) = match count.strip_suffix('k') {
        Some(number) => (number, 1000),
        None => match count.strip_suffix('M') {
            Some(number) => (number, 1_000_000),
            None => (count, 1),
        },
    };
    let count = number
        .parse()
        .ok()
        .and_then(|it: u32| it.checked_mul(factor));
    let seconds = match period {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 86_400,
        _ => return Err(HOW.to_owned()),
    };
    let quota = Quota::new(count.ok_or(HOW)?, Duration::from_secs(seconds));
    quota.map_err(|_| HOW.to_owned())
}

/// `500usd/month`, or `50usd` where an amount without a period is prepaid.
pub(crate) fn money(text: &str) -> Result<Budget, Remedy> {
    const HOW: &str = "write an amount, and the time in which it may be spent: `500usd/month`, `20usd/week`, `0.5usd/day`, or `50usd` once and \
                       for all";
    /// Above it, hundred-millionths of a cent do not fit into 64 bits.
    const MOST: f64 = 1e9;
    let (amount, period) = text
        .split_once('/')
        .map_or((text, None), |(a, p)| (a, Some(p)));
    let number = amount.strip_suffix("usd").filter(|it| is_decimal(it));
    let usd: f64 = number.ok_or(HOW)?.parse().map_err(|_| HOW.to_owned())?;
    let per = match period {
        None => Period::Ever,
        Some("d" | "day") => Period::Day,
        Some("w" | "week") => Period::Week,
        Some("month") => Period::Month,
        Some(_) => return Err(HOW.to_owned()),
    };
    let amount = Usd::new(usd);
    if amount == Usd::ZERO {
        return Err(
            "a budget is more than nothing: lock a caller out with `disabled: true`".to_owned(),
        );
    }
    (usd <= MOST)
        .then_some(Budget { amount, per })
        .ok_or_else(|| "a budget is at most a billion USD".to_owned())
}

/// A day: `2027-01-01`.
pub(crate) fn date(text: &str) -> Result<(), Remedy> {
    text.parse::<jiff::civil::Date>()
        .map(|_| ())
        .map_err(|_| "write a day: `2027-01-01`".to_owned())
}

/// `host:port` with an IP address or `localhost`, or `unix:/path`.
pub(crate) fn listen(text: &str) -> Result<Listen, Remedy> {
    const HOW: &str = "write `127.0.0.1:8080`, `[::1]:8080` or `unix:/path`";
    if let Some(path) = text.strip_prefix("unix:") {
        // Linux holds 108 bytes of path, its ending zero included (sockaddr_un, unix(7)).
        return match path {
            p if !p.starts_with('/') => Err(
                "the path of a unix socket begins with `/`: `unix:/run/tollgate.sock`".to_owned(),
            ),
            p if p.len() > 107 => Err("the path of a unix socket has at most 107 bytes".to_owned()),
            p => Ok(Listen::Unix(p.into())),
        };
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return port
            .parse()
            .map(|port| Listen::Tcp((Ipv4Addr::LOCALHOST, port).into()))
            .map_err(|_| HOW.to_owned());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::Tcp(address));
    }
    Err(match text.rsplit_once(':') {
        _ if is_digits(text) || text.starts_with(':') && is_digits(&text[1..]) => {
            format!("the address is missing: {HOW}")
        }
        Some((host, port))
            if is_digits(port) && port.parse::<u16>().is_err() && !host.is_empty() =>
        {
            "a port is at most 65535".to_owned()
        }
        Some((host, port)) if is_digits(port) && !host.is_empty() => {
            format!("an IP address, not a name: {HOW}")
        }
        _ => HOW.to_owned(),
    })
}

/// `https://host/path`: scheme, host and at most a port and a path.
pub(crate) fn base_url(text: &str) -> Result<BaseUrl, Remedy> {
    const HOW: &str = "write `https://host` or `https://host/path`";
    let (scheme, rest) = text.split_once("://").ok_or(HOW)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("only `http` and `https` are spoken".to_owned()),
    };
    if rest.contains(['?', '#']) {
        return Err("a base_url has no query and no fragment".to_owned());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("no name and password here: they belong under `credentials`".to_owned());
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| HOW.to_owned())?;
    let host = authority.host();
    let named = !host.is_empty()
        && host.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'[' | b']' | b':')
        });
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    if !named
        || !(port.is_empty()
            || port
                .strip_prefix(':')
                .and_then(|p| p.parse::<u16>().ok())
                .is_some_and(|p| p > 0))
    {
        return Err(HOW.to_owned());
    }
    let path = path.trim_end_matches('/');
    if !path.is_empty() && path.parse::<http::uri::PathAndQuery>().is_err() || path.contains("//") {
        return Err("the path holds a character that a URL may not".to_owned());
    }
    Ok(BaseUrl {
        scheme,
        authority,
        path: path.to_owned(),
    })
}

/// A URL of any other kind, for the keys that only want one to be well formed.
pub(crate) fn url(text: &str) -> Result<(), Remedy> {
    let parsed = text
        .parse::<http::Uri>()
        .ok()
        .filter(|u| u.scheme().is_some() && u.authority().is_some());
    parsed
        .map(|_| ())
        .ok_or_else(|| "write `https://host/path`".to_owned())
}

/// An exact word or one with a trailing `*`.
pub(crate) fn pattern(text: &str) -> Result<Pattern, Remedy> {
    let (prefix, star) = text.strip_suffix('*').map_or((text, false), |p| (p, true));
    if text.is_empty() {
        return Err("an empty name matches nothing".to_owned());
    }
    if prefix.contains('*') {
        return Err("a `*` stands at the end only: `gpt-4o*`".to_owned());
    }
    Ok(Pattern {
        text: prefix.to_owned(),
        star,
    })
}

/// How a value may be named in a message: quoted, clipped, and not at all if it may be secret.
pub(crate) fn shown(text: &str) -> String {
    if text
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('@'))
    {
        return MASK.to_owned();
    }
    if text
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
        .any(looks_secret)
    {
        return MASK.to_owned();
    }
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(61)
        .collect();
    match clean.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &clean[..end]),
        None => format!("`{clean}`"),
    }
}

/// The same for a scalar: what a variable held is not told, only which one.
pub(crate) fn shown_scalar(scalar: &Scalar) -> String {
    match &scalar.origin {
        Origin::File => shown(&scalar.text),
        Origin::Variable(name) => format!("the value of `${{{name}}}`"),
        Origin::Mixed | Origin::Unset => "the expanded value".to_owned(),
    }
}

/// The same for a node; what is not a scalar is named by its shape.
pub(crate) fn shown_node(node: &Node) -> String {
    node.scalar()
        .map_or_else(|| node.noun().to_owned(), shown_scalar)
}

/// Adds a key to a path such as `providers.openai`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let safe = shown(key);
    path.push_str(safe.trim_matches('`'));
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_decimal(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && is_digits(part)
}

fn is_period(text: &str) -> bool {
    matches!(
        text,
        "s" | "sec"
            | "second"
            | "m"
            | "min"
            | "minute"
            | "h"
            | "hour"
            | "d"
            | "day"
            | "week"
            | "month"
            | "year"
    )
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [
            ("100ms", 100),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h30m15s20ms", 5_415_020),
            ("0s", 0),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_how_to_write_one() {
        for (text, why) in [
            ("90", "unit is missing"),
            ("-1s", "not negative"),
            ("1O0s", "not a unit"),
            ("1.5s", "whole numbers"),
            ("s", "whole numbers"),
            ("1s1h", "larger unit"),
            ("1s1s", "larger unit"),
            ("1 s", "not a unit"),
            ("5min", "not a unit"),
            ("", "a number and a unit"),
            ("99999999999999999999s", "longer than a year"),
            ("9999999999999999s", "longer than a year"),
            ("367d", "longer than a year"),
            ("٣s", "whole numbers"),
        ] {
            let remedy = duration(text).expect_err(text);
            assert!(remedy.contains(why), "{text}: {remedy}");
        }
    }

    #[test]
    fn sizes_are_binary_and_carry_a_unit() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            ("32MiB", 33_554_432),
            ("1GiB", 1_073_741_824),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("32", "unit is missing"),
            ("-1MiB", "not negative"),
            ("32MB", "binary"),
            ("MiB", "whole number"),
            ("1.5MiB", "whole number"),
            ("99999999999999999999B", "pebibyte"),
        ] {
            let remedy = size(text).expect_err(text);
            assert!(remedy.contains(why), "{text}: {remedy}");
        }
    }

    #[test]
    fn rates_money_percentages_and_days_are_recognised() {
        for (test, good, bad) in [
            (
                rate as fn(&str) -> Result<(), Remedy>,
                &["600/min", "200k/min", "5000/s"][..],
                &["600", "0/min", "-1/s", "1/fortnight"][..],
            ),
            (
                |t| money(t).map(|_| ()),
                &["500usd/month", "50usd", "0.5usd/day", "7usd/week"],
                &[
                    "50",
                    "usd",
                    "5eur",
                    "5usd/min",
                    "0usd",
                    "0.00000000001usd",
                    "2000000000usd/day",
                ],
            ),
            (date, &["2027-01-01"], &["2027-13-01", "tomorrow"]),
            (
                |t| percent(t).map(|_| ()),
                &["10%", "0%", "100%", "2.5%"],
                &["10", "101%", "-1%", "%"],
            ),
        ] {
            assert!(good.iter().all(|t| test(t).is_ok()), "{good:?}");
            assert!(bad.iter().all(|t| test(t).is_err()), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_ip_addresses_or_sockets() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "localhost:80",
            "unix:/run/t.sock",
            "0.0.0.0:80",
        ] {
            assert!(listen(text).is_ok(), "{text}");
        }
        for (text, why) in [
            ("8080", "address is missing"),
            (":8080", "address is missing"),
            ("gateway:80", "not a name"),
            ("127.0.0.1:70000", "65535"),
            ("unix:t.sock", "begins with `/`"),
            ("", "write"),
        ] {
            let remedy = listen(text).expect_err(text);
            assert!(remedy.contains(why), "{text}: {remedy}");
        }
    }

    #[test]
    fn a_base_url_is_scheme_host_port_and_path() {
        let url = base_url("https://api.openai.com:8443/v1/").expect("a good url");
        assert_eq!(
            (url.scheme, url.authority.as_str(), url.path.as_str()),
            (Scheme::Https, "api.openai.com:8443", "/v1")
        );
        assert_eq!(
            base_url("http://127.0.0.1:80").map(|u| u.path),
            Ok(String::new())
        );
        for text in [
            "::x::",
            "api.openai.com",
            "ftp://h",
            "https://",
            "https://h?q",
            "https://u:p@h",
            "https://h:99999",
            "https://h:",
            "https://h h/",
            "https://h/a b",
            "http://[::1",
            "https://h//v1",
        ] {
            assert!(base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_ends_a_pattern_or_is_wrong() {
        assert!(
            pattern("gpt-4o*")
                .is_ok_and(|p| p.star && p.matches("gpt-4o-mini") && !p.matches("gpt-4"))
        );
        assert!(pattern("*").is_ok_and(|p| p.matches("anything")));
        assert!(pattern("a*b").is_err() && pattern("**").is_err() && pattern("").is_err());
    }

    #[test]
    fn a_value_that_looks_like_a_key_is_not_shown() {
        assert_eq!(shown("sk-canary-12345678"), MASK);
        assert_eq!(shown("Bearer sk-canary-12345678"), MASK);
        assert_eq!(shown("gpt-4o-mini"), "`gpt-4o-mini`");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), 63);
    }
}
