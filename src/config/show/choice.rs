//! What is shown of targets, of how one is chosen, and of what is tried again.

use std::fmt::Write as _;

use tollgate_middleware::retry::{Commit, On, Policy};

use super::{quoted, size, some_clocks, time};
use crate::config::types::{RetryOverride, Route, Target};

/// The strategy of a route, and what goes with it.
pub(super) fn strategy(r: &Route) -> Vec<String> {
    let mut lines = vec![format!("strategy: {}", r.strategy.word())];
    lines.extend(
        r.sticky
            .map(|on| format!("sticky: {{ on: {} }}", on.word())),
    );
    if let Some(target) = r.targets.get(r.state_target).filter(|_| r.state_target > 0) {
        let name = match (&target.label, &target.model) {
            (Some(label), _) => label.clone(),
            (None, Some(model)) => format!("{}/{model}", target.provider),
            (None, None) => target.provider.clone(),
        };
        lines.push(format!("state_target: {}", quoted(&name)));
    }
    lines
}

/// One target.
pub(super) fn target(target: &Target) -> String {
    let mut text = format!("provider: {}", quoted(&target.provider));
    let named = [
        ("model", &target.model),
        ("label", &target.label),
        ("credential", &target.credential),
    ];
    for (key, value) in named {
        if let Some(value) = value {
            let _ = write!(text, ", {key}: {}", quoted(value));
        }
    }
    if target.weight != 1 {
        let _ = write!(text, ", weight: {}", target.weight);
    }
    if let Some(attempts) = target.attempts {
        let _ = write!(text, ", retry: {{ attempts: {attempts} }}");
    }
    if let Some(breaker) = super::own_breaker(&target.breaker) {
        let _ = write!(text, ", {breaker}");
    }
    if let Some(clocks) = some_clocks(&target.timeout) {
        let _ = write!(text, ", timeout: {clocks}");
    }
    format!("{{ {text} }}")
}

/// What is tried again.
pub(crate) fn retry(policy: &Policy) -> String {
    if policy.is_off() {
        return "off".to_owned();
    }
    format!(
        "{{ attempts: {}, on: {}, base: {}, max_retry_after: {}, ratio: {}, replay: {}, commit: {} }}",
        policy.attempts,
        on(&policy.on),
        time(policy.base),
        time(policy.max_retry_after),
        percent(policy.ratio.share),
        size(policy.replay),
        commit(policy.commit),
    )
}

/// What a route sets of it.
pub(super) fn own_retry(own: &RetryOverride) -> Option<String> {
    let parts = [
        own.attempts.map(|it| format!("attempts: {it}")),
        own.on.as_ref().map(|it| format!("on: {}", on(it))),
        own.base.map(|it| format!("base: {}", time(it))),
        own.max_retry_after
            .map(|it| format!("max_retry_after: {}", time(it))),
        own.ratio.map(|it| format!("ratio: {}", percent(it))),
        own.replay.map(|it| format!("replay: {}", size(it))),
        own.commit.map(|it| format!("commit: {}", commit(it))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("retry: {{ {} }}", parts.join(", ")))
}

fn on(on: &On) -> String {
    let mut words: Vec<String> = Vec::new();
    for (is, word) in [
        (on.connect, "connect"),
        (on.closed, "closed"),
        (on.first_byte_timeout, "first_byte_timeout"),
    ] {
        words.extend(is.then(|| word.to_owned()));
    }
    for range in &*on.statuses {
        words.push(match (*range.start(), *range.end()) {
            (500, 599) => "5xx".to_owned(),
            (code, _) => code.to_string(),
        });
    }
    format!("[{}]", words.join(", "))
}

fn percent(hundredths: u32) -> String {
    format!("{}%", f64::from(hundredths) / 100.0)
}

fn commit(commit: Commit) -> &'static str {
    match commit {
        Commit::Head => "head",
        Commit::FirstEvent => "first_event",
    }
}
