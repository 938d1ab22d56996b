//! How the caller's limits stand, in the words of the caller's dialect. Only on answers of ours: a provider's own
//! figures are not touched.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    dialect::Shape,
    record::{Standing, Unit},
};

/// Tells of each kind of limit the one that is nearest to its end.
pub(super) fn tell(headers: &mut HeaderMap, shape: Shape, all: &[Standing], arrived: SystemTime) {
    for unit in [Unit::Requests, Unit::Tokens] {
        let of_unit = all.iter().filter(|it| it.unit == unit);
        let nearest = of_unit.min_by(|one, other| {
            let left = one.left.cmp(&other.left);
            left.then(other.reset.cmp(&one.reset))
        });
        if let Some(standing) = nearest {
            tell_one(headers, shape, standing, arrived);
        }
    }
}

fn tell_one(headers: &mut HeaderMap, shape: Shape, standing: &Standing, arrived: SystemTime) {
    let (names, reset) = match (shape, standing.unit) {
        (Shape::OpenAi | Shape::Neutral, Unit::Requests) => (OPENAI, words(standing.reset)),
        (Shape::OpenAi | Shape::Neutral, Unit::Tokens) => (OPENAI_TOKENS, words(standing.reset)),
        (Shape::Anthropic, Unit::Requests) => (ANTHROPIC, moment(arrived + standing.reset)),
        (Shape::Anthropic, Unit::Tokens) => (ANTHROPIC_TOKENS, moment(arrived + standing.reset)),
        (Shape::Gemini | Shape::Ollama | Shape::Cohere | Shape::Bedrock, _) => return,
    };
    let [limit, remaining, until] = names.map(HeaderName::from_static);
    headers.insert(limit, HeaderValue::from(standing.quota));
    headers.insert(remaining, HeaderValue::from(standing.left));
    if let Ok(value) = HeaderValue::try_from(reset) {
        headers.insert(until, value);
    }
}

const OPENAI: [&str; 3] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];

const ANTHROPIC: [&str; 3] = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];

const OPENAI_TOKENS: [&str; 3] = [
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

const ANTHROPIC_TOKENS: [&str; 3] = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];

/// As OpenAI writes a time: `12ms`, `8s`, `6m0s`, `1h0m0s`. Never too short.
fn words(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// As Anthropic writes a moment: RFC 3339 in UTC, whole seconds, never too early.
fn moment(at: SystemTime) -> String {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970, by Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is
/// the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(left: u64, reset: u64) -> Standing {
        Standing {
            limit: "team".into(),
            quota: 60,
            window: Duration::from_secs(60),
            left,
            reset: Duration::from_millis(reset),
            unit: Unit::Requests,
        }
    }

    fn told(shape: Shape, all: &[Standing]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        let arrived = SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_164_799);
        tell(&mut headers, shape, all, arrived);
        let told = headers.iter().map(|(name, value)| {
            let name = name.as_str().rsplit('-').next().unwrap_or_default();
            (name.to_owned(), value.to_str().unwrap().to_owned())
        });
        told.collect()
    }

    #[test]
    fn each_dialect_reads_its_own_words() {
        let all = [standing(12, 500), standing(0, 1200), standing(0, 900)];
        let values = |shape| told(shape, &all).into_iter().map(|(_, value)| value);
        assert!(values(Shape::OpenAi).eq(["60", "0", "2s"]));
        assert!(values(Shape::Anthropic).eq(["60", "0", "2024-02-29T00:00:01Z"]));
        assert!(told(Shape::Gemini, &all).is_empty());
        assert!(told(Shape::OpenAi, &[]).is_empty());
    }

    #[test]
    fn tokens_have_words_of_their_own() {
        let tokens = Standing {
            unit: Unit::Tokens,
            ..standing(5, 900)
        };
        let mut headers = HeaderMap::new();
        let all = [standing(12, 500), tokens];
        tell(&mut headers, Shape::OpenAi, &all, SystemTime::UNIX_EPOCH);
        assert_eq!(headers["x-ratelimit-remaining-requests"], "12");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "5");
        tell(&mut headers, Shape::Anthropic, &all, SystemTime::UNIX_EPOCH);
        assert_eq!(headers["anthropic-ratelimit-tokens-limit"], "60");
        assert_eq!(
            headers["anthropic-ratelimit-tokens-reset"],
            "1970-01-01T00:00:01Z"
        );
    }

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let written = |millis| words(Duration::from_millis(millis));
        let rows = [0, 12, 999, 1000, 8000, 360_000, 3_600_000, 5_025_001].map(written);
        let expected = [
            "0ms", "12ms", "999ms", "1s", "8s", "6m0s", "1h0m0s", "1h23m46s",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn moments_are_dates() {
        let at = |seconds| moment(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_893_455_999), "2029-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
