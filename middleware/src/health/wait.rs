//! How long an answer says to wait, in every form that providers say it in.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// How long the sender of this answer wants to be left alone; `None` if it does not say, or says nothing that can be meant.
///
/// | header | form |
/// |---|---|
/// | `retry-after-ms` | milliseconds |
/// | `retry-after` | seconds, with a fraction or without; a date, which is read against the answer's own `date` |
/// | `x-ratelimit-reset-requests`, `-tokens` | as `6m0s`, `1.5s`, `20ms`; of the kinds of which nothing remains |
/// | `anthropic-ratelimit-…-reset` | a date of RFC 3339, likewise |
/// | `x-ratelimit-reset` | seconds from now, or since 1970 |
///
/// The first that is there decides; those with `ratelimit` in their name only of a 429. `wall` stands for the `date` of an answer
/// that has none. A year at most.
pub fn wait(status: StatusCode, headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = |name: &str| text(headers, name);
    let date = || {
        text("date")
            .and_then(|it| httpdate::parse_http_date(it).ok())
            .unwrap_or(wall)
    };
    if let Some(wait) = text("retry-after-ms").and_then(|it| number(it, 1e3)) {
        return Some(wait);
    }
    if let Some(said) = text(header::RETRY_AFTER.as_str()) {
        return number(said, 1.0).or_else(|| {
            let until = httpdate::parse_http_date(said).ok()?;
            Some(
                until
                    .duration_since(date())
                    .unwrap_or_default()
                    .min(LONGEST),
            )
        });
    }
    if status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let of_kind = |kind: &str| {
        let spent = text(&format!("x-ratelimit-remaining-{kind}")) == Some("0");
        let reset = text(&format!("x-ratelimit-reset-{kind}"));
        reset.filter(|_| spent).and_then(spelled)
    };
    let of_anthropic = |kind: &str| {
        let spent = text(&format!("anthropic-ratelimit-{kind}-remaining")) == Some("0");
        let reset = text(&format!("anthropic-ratelimit-{kind}-reset"));
        let until = reset.filter(|_| spent).and_then(rfc3339)?;
        Some(
            until
                .duration_since(date())
                .unwrap_or_default()
                .min(LONGEST),
        )
    };
    let openai = ["requests", "tokens"].into_iter().filter_map(of_kind);
    let kinds = ["requests", "tokens", "input-tokens", "output-tokens"];
    let anthropic = kinds.into_iter().filter_map(of_anthropic);
    openai.chain(anthropic).max().or_else(|| {
        let said = number(text("x-ratelimit-reset")?, 1.0)?;
        // A number of this size is a moment.
        let until = SystemTime::UNIX_EPOCH
            .checked_add(said)
            .filter(|_| said >= LONGEST);
        Some(match until {
            Some(until) => until
                .duration_since(date())
                .unwrap_or_default()
                .min(LONGEST),
            None => said,
        })
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A plain number of `parts` of a second, none of which is below zero.
fn number(text: &str, parts: f64) -> Option<Duration> {
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if text.is_empty() || !text.bytes().all(plain) {
        return None;
    }
    let seconds = text.parse::<f64>().ok()? / parts;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(FAR).min(FAR))
}

/// A time as Go spells it: numbers, each with its unit.
fn spelled(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (count, behind) = rest.split_at(digits.unwrap_or(rest.len()));
        let letters = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let parts = match unit {
            "ms" => 1e3,
            "s" | "" => 1.0,
            "m" => 1.0 / 60.0,
            "h" => 1.0 / 3600.0,
            "d" => 1.0 / 86_400.0,
            _ => return None,
        };
        sum = sum.saturating_add(number(count, parts)?);
        rest = behind;
    }
    Some(sum.min(LONGEST))
}

/// `2026-11-30T12:00:00Z`, with a fraction or without, in UTC or with an offset.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut numbers = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let mut numbers = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let offset = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            minutes * if sign == "-" { -60 } else { 60 }
        }
    };
    let fits =
        (1..=12).contains(&month) && (1..=31).contains(&day) && (1970..=9999).contains(&year);
    let of_day = hour * 3600.0 + minute * 60.0 + second;
    if !fits || !(0.0..=86_400.0).contains(&of_day) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 - offset;
    let whole = Duration::from_secs(u64::try_from(seconds).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(whole + Duration::try_from_secs_f64(of_day).ok()?)
}

/// Days since 1970 (Howard Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A year: nobody waits for longer, and no sum with it runs over.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Beyond any moment that is meant, and far from where times overflow.
const FAR: Duration = Duration::from_secs(1 << 40);

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, headers: &[(&'static str, &str)]) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000);
        wait(StatusCode::from_u16(status).unwrap(), &map, wall)
    }

    fn millis(millis: u64) -> Option<Duration> {
        Some(Duration::from_millis(millis))
    }

    /// U06.
    #[test]
    fn every_form_of_retry_after_is_read() {
        let after = |value| said(503, &[("retry-after", value)]);
        assert_eq!(after("1"), millis(1000));
        assert_eq!(after("60"), millis(60_000));
        assert_eq!(after("1.5"), millis(1500));
        assert_eq!(after("0"), millis(0));
        assert_eq!(after("999999999"), Some(Duration::from_secs(999_999_999)));
        assert_eq!(after("99999999999999999999999999"), Some(FAR));
        for garbage in [
            "-5",
            "soon",
            "",
            "1e9",
            "NaN",
            "inf",
            "0x10",
            "Mon, 99 Foo 2026",
        ] {
            assert_eq!(after(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn a_date_is_read_against_the_answer_s_own_date() {
        let until = "Sun, 06 Nov 1994 08:49:47 GMT";
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(
            said(429, &[("retry-after", until), ("date", date)]),
            millis(10_000)
        );
        assert_eq!(
            said(429, &[("retry-after", date), ("date", until)]),
            millis(0),
            "in the past"
        );
        assert_eq!(
            said(429, &[("retry-after", until)]),
            millis(0),
            "by our own clock"
        );
        let far = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(said(429, &[("retry-after", far)]), Some(LONGEST));
    }

    #[test]
    fn milliseconds_stand_over_seconds() {
        let both = [("retry-after", "9"), ("retry-after-ms", "250")];
        assert_eq!(said(429, &both), millis(250));
        assert_eq!(
            said(429, &[("retry-after", "9"), ("retry-after-ms", "x")]),
            millis(9000)
        );
    }

    #[test]
    fn what_is_spent_says_when_there_is_more() {
        let headers = [
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m2.5s"),
            ("x-ratelimit-remaining-tokens", "17"),
            ("x-ratelimit-reset-tokens", "6h0m0s"),
        ];
        assert_eq!(said(429, &headers), millis(62_500));
        assert_eq!(said(500, &headers), None, "of a 429 only");
        let short = [
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "20ms"),
        ];
        assert_eq!(said(429, &short), millis(20));
        for garbage in ["", "5x", "ms", "1s-", "h"] {
            let headers = [
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", garbage),
            ];
            assert_eq!(said(429, &headers), None, "{garbage}");
        }
    }

    #[test]
    fn anthropic_names_a_moment() {
        let of = |reset| {
            said(
                429,
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", reset),
                    ("date", "Mon, 30 Nov 2026 12:00:00 GMT"),
                ],
            )
        };
        assert_eq!(of("2026-11-30T12:00:07Z"), millis(7000));
        assert_eq!(of("2026-11-30T14:00:07.5+02:00"), millis(7500));
        assert_eq!(of("2026-11-30T11:00:00Z"), millis(0));
        for garbage in [
            "2026-11-30",
            "2026-13-30T12:00:00Z",
            "T",
            "2026-11-30T99:00:00Z",
            "yesterdayTnoonZ",
        ] {
            assert_eq!(of(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn a_reset_is_seconds_or_a_moment() {
        let of = |reset| {
            let date = "Mon, 30 Nov 2026 12:00:00 GMT";
            said(429, &[("x-ratelimit-reset", reset), ("date", date)])
        };
        assert_eq!(of("30"), millis(30_000));
        assert_eq!(of("1796040012"), millis(12_000));
    }

    proptest::proptest! {
        /// No text overflows, and none means more than a year from a moment.
        #[test]
        fn no_text_runs_over(name in 0..4_usize, text in "[0-9a-zA-Z:+., -]{0,40}") {
            let name = ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens"][name];
            let wait = said(429, &[(name, &text), ("x-ratelimit-remaining-tokens", "0")]);
            proptest::prop_assert!(wait.is_none_or(|wait| wait <= FAR));
        }
    }
}
