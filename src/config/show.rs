//! A configuration as text, without its secrets: whole for the admin's `/config`, in short for `check`.

use std::fmt::Write as _;
use std::time::Duration;

use tollgate_middleware::{prices::Price, store::OnError};

use super::json::quoted;
use super::mask::{MASK, is_secret_key, looks_secret};
use super::secret::{Secret, SecretSource};
use super::types::{
    Admin, Clock, Config, Connections, Credential, End, Expose, ExtraMember, HeldBodies, Limits,
    LogTo, Match, Meter, MeterOverride, Metrics, Model, Models, Pattern, Provider, Route, Runtime,
    Server, Shared, Speed, State, Timeout, TimeoutOverride, Webhook, Workers,
};

mod callers;
pub(crate) mod choice;
mod filters;
pub(crate) mod targets;

use self::callers::{auth, budgets, caller, concurrency, own_budget, rate_limit, token_cap};
pub(crate) use self::callers::{caps, on_short, rate};
use self::filters::word_filter;
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

/// What a configuration does, in a few lines for people.
#[must_use]
pub fn summary(config: &Config) -> String {
    let mut out = String::new();
    let listen: Vec<_> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    let admin = &config.admin.listen;
    line(
        &mut out,
        0,
        &format!(
            "listens on {}{}, admin on {admin}",
            listen.join(", "),
            match &config.server.tls {
                None => "",
                Some(tls) if tls.client_ca.is_none() => " with TLS",
                Some(_) => " with mutual TLS",
            }
        ),
    );
    if config.layers.auth.open {
        line(&mut out, 0, "open: serves everyone who can connect");
    }
    for caller in &config.callers {
        let models = caller.models.as_deref().map_or_else(
            || "any model".to_owned(),
            |models| {
                models
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            },
        );
        let locked = if caller.disabled { ", disabled" } else { "" };
        let name = quoted(&caller.name);
        let limits = callers::limits(caller);
        line(
            &mut out,
            0,
            &format!("caller {name}: {models}{limits}{locked}"),
        );
    }
    if let Some(budget) = &config.layers.budget.global {
        line(&mut out, 0, &format!("all callers together: {budget}"));
    }
    for p in &config.providers {
        line(&mut out, 0, &provider_in_short(p));
    }
    for r in &config.routes {
        let targets = r.targets.iter().map(|target| match &target.model {
            Some(model) => format!("{} as {model}", target.provider),
            None => target.provider.clone(),
        });
        let targets: Vec<_> = targets.collect();
        let how = match &*targets {
            [_] => String::new(),
            _ => format!("{} of ", r.strategy.word()),
        };
        let targets = targets.join(", ");
        let matches = match matches(&r.matches) {
            m if m == "{}" => "everything".to_owned(),
            m => m,
        };
        line(
            &mut out,
            0,
            &format!("route {}: {matches} -> {how}{targets}", r.name),
        );
    }
    if config.routes.is_empty() {
        line(
            &mut out,
            0,
            "no routes: a model goes to the provider that lists it, in file order",
        );
    }
    if !config.aliases.is_empty() {
        line(&mut out, 0, &format!("aliases: {}", config.aliases.len()));
    }
    out
}

fn provider_in_short(p: &Provider) -> String {
    let url = p
        .base_url
        .as_ref()
        .map_or_else(|| "built in".to_owned(), ToString::to_string);
    let key = match &*p.credentials {
        [] if p.passthrough => "the caller's own credential".to_owned(),
        [] => "no credential".to_owned(),
        [only] => format!("credential {}", only.secret),
        several => format!("{} credentials", several.len()),
    };
    let models = match &p.models {
        Models::Any => "any model".to_owned(),
        Models::Listed(models) if models.len() == 1 => "1 model".to_owned(),
        Models::Listed(models) => format!("{} models", models.len()),
    };
    format!(
        "provider {}: {}, {url}, {key}, {models}",
        p.name,
        p.dialect.as_str()
    )
}

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:width$}{text}", "", width = 2 * depth);
}

fn server(out: &mut String, server: &Server) {
    let listen: Vec<_> = server
        .listen
        .iter()
        .map(|l| quoted(&l.to_string()))
        .collect();
    let workers = match server.workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(n) => n.to_string(),
    };
    let per_core = server.runtime == Runtime::PerCore;
    line(out, 0, "server:");
    line(out, 1, &format!("listen: [{}]", listen.join(", ")));
    line(out, 1, &format!("workers: {workers}"));
    line(
        out,
        1,
        &format!(
            "runtime: {}",
            if per_core { "per_core" } else { "multi_thread" }
        ),
    );
    let proxies: Vec<_> = server
        .trusted_proxies
        .iter()
        .map(|network| quoted(&network.to_string()))
        .collect();
    line(
        out,
        1,
        &format!("trusted_proxies: [{}]", proxies.join(", ")),
    );
    line(
        out,
        1,
        &format!("proxy_protocol: {}", server.proxy_protocol),
    );
    if let Some(tls) = &server.tls {
        let path = |path: &std::path::Path| quoted(&path.display().to_string());
        let mut parts = vec![
            format!("cert: {}", path(&tls.cert)),
            format!("key: {}", path(&tls.key)),
        ];
        parts.extend(
            tls.client_ca
                .as_ref()
                .map(|ca| format!("client_ca: {}", path(ca))),
        );
        line(out, 1, &format!("tls: {{ {} }}", parts.join(", ")));
    }
    line(out, 1, &limits(&server.limits));
    let (delay, timeout) = (time(server.drain.delay), time(server.drain.timeout));
    line(
        out,
        1,
        &format!("drain: {{ delay: {delay}, timeout: {timeout} }}"),
    );
    let origins = server.cors.origins.iter().map(ToString::to_string);
    let any = server.cors.any.then(|| "*".to_owned());
    let origins: Vec<_> = any.into_iter().chain(origins).collect();
    let origins: Vec<_> = origins.iter().map(|it| quoted(it)).collect();
    line(
        out,
        1,
        &format!("cors: {{ origins: [{}] }}", origins.join(", ")),
    );
    let debug = server.expose == Expose::Debug;
    line(
        out,
        1,
        &format!("expose: {}", if debug { "debug" } else { "none" }),
    );
}

fn limits(l: &Limits) -> String {
    let (head, body, buffer) = (size(l.head), size(l.body), size(l.buffer));
    let (head_timeout, body_timeout) = (time(l.head_timeout), time(l.body_timeout));
    let (keep_alive, slow_reader) = (time(l.keep_alive), time(l.slow_reader));
    let held_bodies = match l.held_bodies {
        HeldBodies::Bytes(bytes) => size(bytes),
        HeldBodies::Share(hundredths) => format!("{}%", f64::from(hundredths) / 100.0),
    };
    let connections = match l.connections {
        Connections::Auto => "auto".to_owned(),
        Connections::Count(count) => count.to_string(),
    };
    format!(
        "limits: {{ head: {head}, headers: {}, head_timeout: {head_timeout}, body: {body}, body_timeout: {body_timeout}, \
         keep_alive: {keep_alive}, held_bodies: {held_bodies}, connections: {connections}, slow_reader: {slow_reader}, buffer: {buffer}, \
         target: {}, ahead: {}, handshake: {}, body_silence: {}, json_depth: {}, json_members: {}, answer_head: {}, answer_headers: {}, \
         event: {} }}",
        l.headers,
        size(l.target),
        size(l.ahead),
        time(l.handshake),
        time(l.body_silence),
        l.json_depth,
        l.json_members,
        size(l.answer_head),
        l.answer_headers,
        size(l.event)
    )
}

fn admin(out: &mut String, admin: &Admin) {
    line(out, 0, "admin:");
    line(
        out,
        1,
        &format!("listen: {}", quoted(&admin.listen.to_string())),
    );
    if let Some(token) = &admin.token {
        line(out, 1, &format!("token: {}", quoted(&token.to_string())));
    }
}

fn provider(out: &mut String, p: &Provider) {
    line(out, 1, &format!("{}:", p.name));
    line(out, 2, &format!("dialect: {}", p.dialect.as_str()));
    if let Some(url) = &p.base_url {
        line(out, 2, &format!("base_url: {}", quoted(&url.to_string())));
    }
    if p.passthrough {
        line(out, 2, "credentials: passthrough");
    } else {
        line(out, 2, &format!("credentials: [{}]", credentials(p)));
        line(out, 2, &format!("auth: {}", p.auth.word()));
    }
    tables(out, p);
    if let Some(clocks) = some_clocks(&p.timeout) {
        line(out, 2, &format!("timeout: {clocks}"));
    }
    if let Some(share) = &p.concurrency {
        line(out, 2, &format!("concurrency: {}", targets::share(share)));
    }
    let (idle, max_age) = (time(p.pool.idle), time(p.pool.max_age));
    let max_idle = p.pool.max_idle;
    line(
        out,
        2,
        &format!("pool: {{ idle: {idle}, max_idle: {max_idle}, max_age: {max_age} }}"),
    );
    tls(out, p);
    let marks = p.end == End::Marks;
    line(
        out,
        2,
        &format!("end: {}", if marks { "marks" } else { "transport" }),
    );
}

fn credentials(p: &Provider) -> String {
    let shown = |credential: &Credential| {
        let key = quoted(&credential.secret.to_string());
        match &credential.name {
            Some(name) => format!("{{ name: {}, key: {key} }}", quoted(name)),
            None => key,
        }
    };
    let all: Vec<_> = p.credentials.iter().map(shown).collect();
    all.join(", ")
}

/// The maps of a provider whose keys are names.
fn tables(out: &mut String, p: &Provider) {
    let mut table = |key: &str, rows: Vec<(String, String)>| {
        if !rows.is_empty() {
            line(out, 2, &format!("{key}:"));
        }
        for (name, value) in rows {
            line(out, 3, &format!("{}: {value}", quoted(&name)));
        }
    };
    if let Models::Listed(models) = &p.models {
        let row = |m: &Model| {
            let public = m.public.to_string();
            let upstream = quoted(m.upstream.as_ref().unwrap_or(&public));
            (public, upstream)
        };
        table("models", models.iter().map(row).collect());
    }
    let shown =
        |(n, v): &(http::HeaderName, Secret)| (n.to_string(), quoted(&header(n.as_str(), v)));
    table("headers", p.headers.iter().map(shown).collect());
    let shown = |m: &ExtraMember| {
        let hidden = m.expanded || is_secret_key(&m.name);
        (
            m.name.clone(),
            if hidden { quoted(MASK) } else { m.json.clone() },
        )
    };
    table("extra_body", p.extra_body.iter().map(shown).collect());
}

fn tls(out: &mut String, p: &Provider) {
    let Some(tls) = &p.tls else { return };
    let path = |p: &std::path::PathBuf| quoted(&p.display().to_string());
    let mut parts = Vec::new();
    parts.extend(tls.ca.as_ref().map(|ca| format!("ca: {}", path(ca))));
    parts.extend(
        tls.client
            .as_ref()
            .map(|(cert, key)| format!("cert: {}, key: {}", path(cert), path(key))),
    );
    parts.extend(tls.sni.as_ref().map(|sni| format!("sni: {}", quoted(sni))));
    line(out, 2, &format!("tls: {{ {} }}", parts.join(", ")));
}

/// A header's value: shown only if it stands in the file and its name promises nothing secret.
fn header(name: &str, value: &Secret) -> String {
    let open = *value.source() == SecretSource::Literal
        && !is_secret_key(name)
        && !looks_secret(value.expose());
    if open {
        value.expose().to_owned()
    } else {
        value.to_string()
    }
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

fn all_clocks(t: &Timeout) -> String {
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

fn some_clocks(t: &TimeoutOverride) -> Option<String> {
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
fn time(d: Duration) -> String {
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
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
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
