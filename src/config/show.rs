//! A configuration as text, without its secrets: whole for the admin's `/config`, in short for `check`.

use std::fmt::Write as _;

use tollgate_middleware::{prices::Price, store::OnError};

use super::json::quoted;
use super::mask::{MASK, is_secret_key};
use super::types::{
    Config, LogTo, Match, Meter, MeterOverride, Metrics, Pattern, Route, Shared, State, Webhook,
};

mod callers;
pub(crate) mod choice;
mod clocks;
mod filters;
mod providers;
mod server;
mod summary;
pub(crate) mod targets;

use self::callers::{auth, budgets, caller, concurrency, own_budget, rate_limit, token_cap};
pub(crate) use self::callers::{caps, on_short, rate};
pub(super) use self::clocks::size;
pub(crate) use self::clocks::speed;
use self::clocks::{all_clocks, some_clocks, time};
use self::filters::word_filter;
use self::providers::provider;
use self::server::{admin, server};
pub use self::summary::summary;
use self::targets::own_breaker;

/// The effective configuration as YAML in the shape of the file, every default written out. Secrets are
/// `«env NAME»`, `«file PATH»` or `«literal»`.
#[must_use]
pub fn redacted(config: &Config) -> String {
    let mut out = "version: 1\n".to_owned();
    server(&mut out, &config.server);
    admin(&mut out, &config.admin);
    out.push_str("providers:\n");
    for one in &config.providers {
        provider(&mut out, one);
    }
    if !config.callers.is_empty() {
        out.push_str("callers:\n");
        for one in &config.callers {
            line(&mut out, 1, &caller(one));
        }
    }
    if !config.aliases.is_empty() {
        out.push_str("aliases:\n");
        for alias in &config.aliases {
            line(
                &mut out,
                1,
                &format!("{}: {}", quoted(&alias.name), quoted(&alias.model)),
            );
        }
    }
    if !config.routes.is_empty() {
        out.push_str("routes:\n");
        for one in &config.routes {
            route(&mut out, one);
        }
    }
    line(&mut out, 0, "layers:");
    line(&mut out, 1, &auth(&config.layers));
    line(&mut out, 1, &rate_limit(&config.layers.rate_limit));
    line(&mut out, 1, &concurrency(&config.layers.concurrency));
    if let Some(caps) = token_cap(&config.layers.token_cap) {
        line(&mut out, 1, &caps);
    }
    if let Some(filter) = word_filter(&config.layers.word_filter) {
        line(&mut out, 1, &filter);
    }
    let breaker = targets::breaker(&config.layers.breaker);
    line(&mut out, 1, &format!("breaker: {breaker}"));
    line(&mut out, 1, &budgets(&config.layers.budget));
    line(
        &mut out,
        1,
        &format!("timeout: {}", all_clocks(&config.layers.timeout)),
    );
    let retry = choice::retry(&config.layers.retry);
    line(&mut out, 1, &format!("retry: {retry}"));
    line(
        &mut out,
        1,
        &format!("meter: {}", meter(&config.layers.meter)),
    );
    if let Some(every) = config.layers.keepalive {
        line(
            &mut out,
            1,
            &format!("keepalive: {{ every: {} }}", time(every)),
        );
    }
    if !config.prices.is_empty() {
        line(&mut out, 0, "prices:");
        line(&mut out, 1, "overrides:");
        for (model, own) in &config.prices {
            line(&mut out, 2, &format!("{}: {}", quoted(model), price(own)));
        }
    }
    if let Some(state) = state(&config.state) {
        line(&mut out, 0, &format!("state: {{ {state} }}"));
    }
    let to = match &config.telemetry.log.to {
        LogTo::File(path) => quoted(&path.display().to_string()),
        LogTo::Stderr => "stderr".to_owned(),
        LogTo::Stdout => "stdout".to_owned(),
    };
    line(&mut out, 0, "telemetry:");
    line(&mut out, 1, &format!("log: {{ format: json, to: {to} }}"));
    let Metrics {
        label_callers,
        label_values,
    } = config.telemetry.metrics;
    line(
        &mut out,
        1,
        &format!("metrics: {{ label_callers: {label_callers}, label_values: {label_values} }}"),
    );
    if let Some(webhook) = &config.telemetry.webhook {
        line(&mut out, 1, &webhook_of(webhook));
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:width$}{text}", "", width = 2 * depth);
}

fn route(out: &mut String, r: &Route) {
    line(out, 1, &format!("- name: {}", quoted(&r.name)));
    line(out, 2, &format!("match: {}", matches(&r.matches)));
    for text in choice::strategy(r) {
        line(out, 2, &text);
    }
    let targets: Vec<_> = r.targets.iter().map(choice::target).collect();
    line(out, 2, &format!("targets: [{}]", targets.join(", ")));
    let clocks = some_clocks(&r.timeout).map(|clocks| format!("timeout: {clocks}"));
    let clocks = clocks.into_iter().chain(own_meter(&r.meter));
    let clocks = clocks
        .chain(choice::own_retry(&r.retry))
        .chain(own_breaker(&r.breaker));
    let layers = clocks
        .chain(token_cap(&r.token_cap))
        .chain(own_budget(&r.budget));
    let layers: Vec<_> = layers.chain(word_filter(&r.word_filter)).collect();
    if !layers.is_empty() {
        line(out, 2, &format!("layers: {{ {} }}", layers.join(", ")));
    }
}

fn matches(m: &Match) -> String {
    let list = |key: &str, items: Vec<String>| {
        let items: Vec<_> = items.iter().map(|i| quoted(i)).collect();
        (!items.is_empty()).then(|| format!("{key}: [{}]", items.join(", ")))
    };
    let words = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
    let header = |(name, value): &(http::HeaderName, Pattern)| {
        let secret = is_secret_key(name.as_str());
        let value = if secret {
            MASK.to_owned()
        } else {
            value.to_string()
        };
        format!("{}: {}", quoted(name.as_str()), quoted(&value))
    };
    let headers: Vec<_> = m.header.iter().map(header).collect();
    let parts = [
        list("model", words(&m.model)),
        list("path", words(&m.path)),
        list("caller", words(&m.caller)),
        list(
            "dialect",
            m.dialect.iter().map(|d| d.as_str().to_owned()).collect(),
        ),
        m.stream.map(|s| format!("stream: {s}")),
        (!headers.is_empty()).then(|| format!("header: {{ {} }}", headers.join(", "))),
        m.tools.map(|it| format!("tools: {it}")),
        targets::metadata(&m.metadata),
        m.prompt.as_ref().map(targets::prompt),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", parts.join(", "))
    }
}

/// How answers are metered.
pub(crate) fn meter(meter: &Meter) -> String {
    if !meter.on {
        return "off".to_owned();
    }
    let (inject, word) = (meter.inject, meter.on_disconnect.word());
    format!("{{ inject: {inject}, on_disconnect: {word} }}")
}

fn own_meter(own: &MeterOverride) -> Option<String> {
    if own.on == Some(false) {
        return Some("meter: off".to_owned());
    }
    let inject = own.inject.map(|yes| format!("inject: {yes}"));
    let word = own
        .on_disconnect
        .map(|it| format!("on_disconnect: {}", it.word()));
    let parts: Vec<_> = inject.into_iter().chain(word).collect();
    own.on.map(|_| format!("meter: {{ {} }}", parts.join(", ")))
}

fn price(price: &Price) -> String {
    let Price { input, output, .. } = price;
    let mut text = format!("{{ input: {input}, output: {output}");
    for (name, value) in [
        ("cache_read", price.cache_read),
        ("cache_write", price.cache_write),
        ("reasoning", price.reasoning),
    ] {
        if let Some(value) = value {
            let _ = write!(text, ", {name}: {value}");
        }
    }
    if let Some(most) = price.max_output {
        let _ = write!(text, ", max_output: {most}");
    }
    text + " }"
}

/// Its path may be as good as a secret.
fn webhook_of(webhook: &Webhook) -> String {
    let scheme = webhook.url.scheme_str().unwrap_or_default();
    let host = webhook.url.host().unwrap_or_default();
    let url = quoted(&format!("{scheme}://{host}/{MASK}"));
    match &webhook.secret {
        None => format!("webhook: {{ url: {url} }}"),
        Some(secret) => {
            let secret = quoted(&secret.to_string());
            format!("webhook: {{ url: {url}, secret: {secret} }}")
        }
    }
}

/// What outlives the process, and what several share; nothing where nothing does.
fn state(State { dir, redis }: &State) -> Option<String> {
    let dir = dir.as_ref().map(|dir| {
        let dir = quoted(&dir.display().to_string());
        format!("dir: {dir}")
    });
    let redis = redis.as_ref().map(|redis| {
        let Shared {
            url,
            timeout,
            replicas,
            on_error,
        } = redis;
        let on_error = match on_error {
            OnError::Local => "local",
            OnError::Refuse => "refuse",
        };
        let url = quoted(&url.to_string());
        format!(
            "redis: {{ url: {url}, timeout: {}, replicas: {replicas}, on_error: {on_error} }}",
            time(*timeout)
        )
    });
    let parts: Vec<_> = dir.into_iter().chain(redis).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
