//! Callers and what bounds them, as text.

use tollgate_middleware::{
    budget::{Budget, OnShort, Reserve, Unpriced, Waste},
    rate_limit::Quota,
    token_cap::{Caps, Insert, OnExceed},
};

use super::time;
use crate::config::{
    json::quoted,
    mask::MASK,
    types::{
        BudgetOverride, Budgets, Caller, CallerKey, Concurrency, Layers, RateLimits, TokenCap,
        Tokens,
    },
};

/// A caller on one line.
pub(super) fn caller(caller: &Caller) -> String {
    let list = |texts: Vec<String>| format!("[{}]", texts.join(", "));
    let mut parts = match &caller.key {
        CallerKey::Key(key) => vec![format!("key: {key}")],
        CallerKey::Hash(hash) => vec![format!("hash: {hash}")],
        CallerKey::Token => Vec::new(),
    };
    if let Some(models) = &caller.models {
        let models = models.iter().map(|it| quoted(&it.to_string()));
        parts.push(format!("models: {}", list(models.collect())));
    }
    if let Some(requests) = &caller.requests {
        parts.push(format!("requests: {}", rate(requests)));
    }
    parts.extend(
        caller
            .tokens
            .as_ref()
            .map(|it| format!("tokens: {}", tokens(it))),
    );
    parts.extend(caller.budget.map(|it| format!("budget: {}", money(it))));
    if let Some(most) = caller.concurrency {
        parts.push(format!("concurrency: {most}"));
    }
    if !caller.allow_from.is_empty() {
        let networks = caller.allow_from.iter().map(ToString::to_string);
        parts.push(format!("allow_from: {}", list(networks.collect())));
    }
    if let Some(at) = caller.expires
        && let Ok(at) = jiff::Timestamp::try_from(at)
    {
        let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        parts.push(format!("expires: {day}"));
    }
    parts.push(format!("priority: {}", caller.priority));
    parts.push(format!("disabled: {}", caller.disabled));
    if let Some(surfaces) = &caller.surfaces {
        let words = surfaces.iter().map(ToString::to_string);
        parts.push(format!("surfaces: {}", list(words.collect())));
    }
    if !caller.origins.is_empty() {
        let origins = caller.origins.iter().map(|it| quoted(&it.to_string()));
        parts.push(format!("origins: {}", list(origins.collect())));
    }
    if !caller.labels.is_empty() {
        let labels = caller.labels.iter();
        let labels = labels.map(|(name, text)| format!("{}: {}", quoted(name), quoted(text)));
        let labels: Vec<_> = labels.collect();
        parts.push(format!("labels: {{ {} }}", labels.join(", ")));
    }
    format!("{}: {{ {} }}", quoted(&caller.name), parts.join(", "))
}

/// What a caller may use, for people: `, 200000 tokens per minute, 500 USD per month`.
pub(super) fn limits(caller: &Caller) -> String {
    let tokens = caller.tokens.map(|it| format!(", {}", it.rate));
    let money = caller.budget.map(|it| format!(", {it}"));
    tokens.into_iter().chain(money).collect()
}

fn tokens(tokens: &Tokens) -> String {
    let period = match tokens.rate.per().as_secs() {
        1 => "s",
        60 => "min",
        3600 => "hour",
        _ => "day",
    };
    let reserve = match tokens.reserve {
        Reserve::Worst => "worst",
        Reserve::Typical => "typical",
    };
    let count = tokens.rate.tokens();
    format!("{{ rate: {count}/{period}, reserve: {reserve} }}")
}

/// `500usd/month`
fn money(budget: Budget) -> String {
    let amount = budget.amount.usd();
    match budget.per.as_str() {
        Some(period) => format!("{amount}usd/{period}"),
        None => format!("{amount}usd"),
    }
}

pub(super) fn budgets(budgets: &Budgets) -> String {
    if budgets.off {
        return "budget: off".to_owned();
    }
    let global = budgets.global.map(|it| format!("global: {}, ", money(it)));
    let (unpriced, short, waste) = (
        unpriced(budgets.unpriced),
        on_short(budgets.on_short),
        waste(budgets.waste),
    );
    let global = global.unwrap_or_default();
    format!("budget: {{ {global}unpriced: {unpriced}, on_short: {short}, waste: {waste} }}")
}

/// What a route says of it; `None` where it says nothing.
pub(super) fn own_budget(own: &BudgetOverride) -> Option<String> {
    if own.on == Some(false) {
        return Some("budget: off".to_owned());
    }
    let parts = [
        own.unpriced.map(|it| format!("unpriced: {}", unpriced(it))),
        own.on_short.map(|it| format!("on_short: {}", on_short(it))),
        own.waste.map(|it| format!("waste: {}", waste(it))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    own.on
        .map(|_| format!("budget: {{ {} }}", parts.join(", ")))
}

fn unpriced(unpriced: Unpriced) -> &'static str {
    match unpriced {
        Unpriced::Refuse => "refuse",
        Unpriced::Free => "free",
    }
}

pub(crate) fn on_short(on_short: OnShort) -> &'static str {
    match on_short {
        OnShort::Clamp => "clamp",
        OnShort::Refuse => "refuse",
    }
}

fn waste(waste: Waste) -> &'static str {
    match waste {
        Waste::Free => "free",
        Waste::Charge => "charge",
    }
}

/// Who is served, and whose tokens count.
pub(super) fn auth(layers: &Layers) -> String {
    let open = layers.auth.open;
    let Some(jwt) = &layers.jwt else {
        return format!("auth: {{ open: {open} }}");
    };
    let jwks = jwt.jwks.to_string();
    // A query may be as good as a secret.
    let jwks = match jwks.split_once('?') {
        Some((address, _)) => format!("{address}?{MASK}"),
        None => jwks,
    };
    let algorithms = jwt.algorithms.iter().map(|it| it.as_str());
    let algorithms: Vec<_> = algorithms.collect();
    let mut parts = vec![
        format!("jwks: {}", quoted(&jwks)),
        format!("issuer: {}", quoted(&jwt.issuer)),
        format!("audience: {}", quoted(&jwt.audience)),
        format!("algorithms: [{}]", algorithms.join(", ")),
        format!("caller: {}", quoted(&jwt.caller)),
    ];
    parts.extend(
        jwt.stands_for
            .as_ref()
            .map(|name| format!("as: {}", quoted(name))),
    );
    format!("auth: {{ open: {open}, jwt: {{ {} }} }}", parts.join(", "))
}

/// A rate and its burst.
pub(crate) fn rate(quota: &Quota) -> String {
    format!("{{ rate: {}, burst: {} }}", per(quota), quota.burst())
}

/// `600/min`
fn per(quota: &Quota) -> String {
    let count = quota.count();
    let period = match quota.per().as_secs() {
        1 => "s",
        60 => "min",
        3600 => "hour",
        _ => "day",
    };
    format!("{count}/{period}")
}

pub(super) fn rate_limit(limits: &RateLimits) -> String {
    let mut parts = Vec::new();
    let one = |key: &str, quota: &Option<Quota>| {
        let quota = quota.as_ref()?;
        Some(format!("{key}: {}", rate(quota)))
    };
    parts.extend(one("per_ip", &limits.per_ip));
    parts.extend(one("global", &limits.global));
    if !limits.per_model.is_empty() {
        let models = limits.per_model.iter();
        let models =
            models.map(|(model, it)| format!("{}: {}", quoted(&model.to_string()), rate(it)));
        let models: Vec<_> = models.collect();
        parts.push(format!("per_model: {{ {} }}", models.join(", ")));
    }
    if let Some(user) = &limits.per_user {
        let headers = user.headers.iter().map(|it| format!("header {it}"));
        let body = user.body.then(|| "body user".to_owned());
        let from: Vec<_> = headers.chain(body).collect();
        let (per, burst) = (per(&user.quota), user.quota.burst());
        parts.push(format!(
            "per_user: {{ rate: {per}, burst: {burst}, from: [{}] }}",
            from.join(", ")
        ));
    }
    if parts.is_empty() {
        return "rate_limit: off".to_owned();
    }
    format!("rate_limit: {{ {} }}", parts.join(", "))
}

pub(super) fn concurrency(limits: &Concurrency) -> String {
    if *limits == Concurrency::OFF {
        return "concurrency: off".to_owned();
    }
    let Concurrency {
        max,
        per_caller,
        queue,
        wait,
    } = limits;
    let wait = time(*wait);
    format!("concurrency: {{ max: {max}, per_caller: {per_caller}, queue: {queue}, wait: {wait} }}")
}

/// What holds where a request is capped.
pub(crate) fn caps(caps: &Caps) -> String {
    let whole = TokenCap {
        off: false,
        max_tokens: caps.max_tokens,
        on_exceed: Some(caps.on_exceed),
        insert: Some(caps.insert),
        max_messages: caps.max_messages,
        max_input: caps.max_input,
        uninspected: Some(caps.uninspected),
    };
    token_cap(&whole).unwrap_or_default()
}

/// What the file says of it; `None` where it says nothing.
pub(super) fn token_cap(cap: &TokenCap) -> Option<String> {
    if cap.off {
        return Some("token_cap: off".to_owned());
    }
    let mut parts = Vec::new();
    parts.extend(cap.max_tokens.map(|it| format!("max_tokens: {it}")));
    parts.extend(cap.on_exceed.map(|it| match it {
        OnExceed::Clamp => "on_exceed: clamp".to_owned(),
        OnExceed::Reject => "on_exceed: reject".to_owned(),
    }));
    parts.extend(cap.insert.map(|it| {
        let word = match it {
            Insert::Auto => "auto",
            Insert::MaxCompletionTokens => "max_completion_tokens",
            Insert::MaxTokens => "max_tokens",
            Insert::Off => "off",
        };
        format!("insert: {word}")
    }));
    parts.extend(cap.max_messages.map(|it| format!("max_messages: {it}")));
    parts.extend(cap.max_input.map(|it| format!("max_input: {it}B")));
    parts.extend(cap.uninspected.map(|passes| {
        let word = if passes { "pass" } else { "reject" };
        format!("uninspected: {word}")
    }));
    (!parts.is_empty()).then(|| format!("token_cap: {{ {} }}", parts.join(", ")))
}
