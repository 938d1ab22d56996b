//! What leads to a target, and what stands in front of it, as the file writes it.

use super::time;
use crate::config::{
    json::quoted,
    types::{Breaker, BreakerOverride, Pattern, Prompt, Share},
};

pub(crate) fn breaker(breaker: &Breaker) -> String {
    if !breaker.on {
        return "off".to_owned();
    }
    format!(
        "{{ consecutive: {}, error_rate: {}, window: {}, min_requests: {}, open_for: {}, probes: {}, successes: {} }}",
        breaker.consecutive,
        percent(breaker.error_rate),
        time(breaker.window),
        breaker.min_requests,
        time(breaker.open_for),
        breaker.probes,
        breaker.successes,
    )
}

/// What is set of it; `None` where nothing is.
pub(super) fn own_breaker(own: &BreakerOverride) -> Option<String> {
    if own.on == Some(false) {
        return Some("breaker: off".to_owned());
    }
    let count = |key: &str, value: Option<u32>| value.map(|it| format!("{key}: {it}"));
    let parts = [
        count("consecutive", own.consecutive),
        own.error_rate
            .map(|it| format!("error_rate: {}", percent(it))),
        own.window.map(|it| format!("window: {}", time(it))),
        count("min_requests", own.min_requests),
        own.open_for.map(|it| format!("open_for: {}", time(it))),
        count("probes", own.probes),
        count("successes", own.successes),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    own.on
        .map(|_| format!("breaker: {{ {} }}", parts.join(", ")))
}

pub(crate) fn share(share: &Share) -> String {
    let Share { max, queue, wait } = share;
    format!("{{ max: {max}, queue: {queue}, wait: {} }}", time(*wait))
}

pub(super) fn metadata(members: &[(String, Pattern)]) -> Option<String> {
    let one = |(name, value): &(String, Pattern)| {
        format!("{}: {}", quoted(name), quoted(&value.to_string()))
    };
    let all: Vec<_> = members.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("metadata: {{ {} }}", all.join(", ")))
}

pub(super) fn prompt(prompt: &Prompt) -> String {
    let list = |key: &str, words: &[String]| {
        let words: Vec<_> = words.iter().map(|it| quoted(it)).collect();
        (!words.is_empty()).then(|| format!("{key}: [{}]", words.join(", ")))
    };
    let parts = [
        list("contains", &prompt.contains),
        list("not_contains", &prompt.not_contains),
        prompt
            .regex
            .as_ref()
            .map(|it| format!("regex: {}", quoted(it))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    format!("prompt: {{ {} }}", parts.join(", "))
}

fn percent(hundredths: u32) -> String {
    format!("{}%", f64::from(hundredths) / 100.0)
}
