//! What stands in front of a target, as the file writes it.

use super::time;
use crate::config::types::{Breaker, BreakerOverride, Share};

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

fn percent(hundredths: u32) -> String {
    format!("{}%", f64::from(hundredths) / 100.0)
}
