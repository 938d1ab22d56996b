//! Clocks, and durations and sizes as the file writes them.

use std::time::Duration;

use crate::config::types::{Clock, Speed, Timeout, TimeoutOverride};

pub(super) fn all_clocks(t: &Timeout) -> String {
    let c = clock;
    format!(
        "{{ connect: {}, first_byte: {{ stream: {}, document: {} }}, first_token: {}, idle: {}, total: {}, min_rate: {} }}",
        time(t.connect),
        c(t.first_byte_stream),
        c(t.first_byte_document),
        c(t.first_token),
        c(t.idle),
        c(t.total),
        speed(t.min_rate)
    )
}

pub(super) fn some_clocks(t: &TimeoutOverride) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(t.connect.map(|d| format!("connect: {}", time(d))));
    let mut first = Vec::new();
    first.extend(t.first_byte_stream.map(|c| format!("stream: {}", clock(c))));
    first.extend(
        t.first_byte_document
            .map(|c| format!("document: {}", clock(c))),
    );
    if !first.is_empty() {
        parts.push(format!("first_byte: {{ {} }}", first.join(", ")));
    }
    for (key, value) in [
        ("first_token", t.first_token),
        ("idle", t.idle),
        ("total", t.total),
    ] {
        parts.extend(value.map(|c| format!("{key}: {}", clock(c))));
    }
    parts.extend(t.min_rate.map(|it| format!("min_rate: {}", speed(it))));
    (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
}

pub(crate) fn speed(speed: Speed) -> String {
    let per_second = |bytes| format!("{}/s", size(bytes));
    speed.least().map_or_else(|| "off".to_owned(), per_second)
}

fn clock(clock: Clock) -> String {
    clock.limit().map_or_else(|| "off".to_owned(), time)
}

/// A duration as the file writes it.
pub(super) fn time(d: Duration) -> String {
    let millis = d.as_millis();
    match millis {
        0 => "0s".to_owned(),
        m if m % 3_600_000 == 0 => format!("{}h", m / 3_600_000),
        m if m % 60_000 == 0 && m > 600_000 => format!("{}m", m / 60_000),
        m if m % 1_000 == 0 => format!("{}s", m / 1_000),
        m => format!("{m}ms"),
    }
}

/// A size as the file writes it.
pub(in super::super) fn size(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}
