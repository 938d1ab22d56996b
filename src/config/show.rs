//! A configuration as text, without its secrets: whole for the admin's `/config`, in short for `check`.

use std::fmt::Write as _;
use std::time::Duration;

use super::excerpt::is_secret_key;
use super::json::quoted;
use super::secret::{Secret, SecretSource};
use super::types::{
    Clock, Config, End, Expose, LogTo, Match, Models, Provider, Route, Runtime, Timeout,
    TimeoutOverride, Workers,
};

/// The effective configuration as YAML in the shape of the file, every default written out. Secrets are
/// `«env NAME»`, `«file PATH»` or `«literal»`.
#[must_use]
pub fn redacted(config: &Config) -> String {
    let mut out = "version: 1\n".to_owned();
    server(&mut out, config);
    out.push_str("providers:\n");
    for one in &config.providers {
        provider(&mut out, one);
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
    line(
        &mut out,
        1,
        &format!("timeout: {}", all_clocks(&config.layers.timeout)),
    );
    let to = match &config.telemetry.log.to {
        LogTo::File(path) => quoted(&path.display().to_string()),
        LogTo::Stderr => "stderr".to_owned(),
        LogTo::Stdout => "stdout".to_owned(),
    };
    line(&mut out, 0, "telemetry:");
    line(&mut out, 1, &format!("log: {{ format: json, to: {to} }}"));
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
    line(
        &mut out,
        0,
        &format!(
            "listens on {}, admin on {}",
            listen.join(", "),
            config.admin.listen
        ),
    );
    for p in &config.providers {
        let url = p
            .base_url
            .as_ref()
            .map_or_else(|| "built in".to_owned(), ToString::to_string);
        let key = p.credential.as_ref().map_or_else(
            || "no credential".to_owned(),
            |c| format!("credential {}", c.secret),
        );
        let models = match &p.models {
            Models::Any => "any model".to_owned(),
            Models::Listed(models) => format!(
                "{} model{}",
                models.len(),
                if models.len() == 1 { "" } else { "s" }
            ),
        };
        line(
            &mut out,
            0,
            &format!(
                "provider {}: {}, {url}, {key}, {models}",
                p.name,
                p.dialect.as_str()
            ),
        );
    }
    for r in &config.routes {
        let model = r
            .target
            .model
            .as_ref()
            .map(|m| format!(" as {m}"))
            .unwrap_or_default();
        line(
            &mut out,
            0,
            &format!(
                "route {}: {} -> {}{model}",
                r.name,
                conditions(&r.matches),
                r.target.provider
            ),
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

fn line(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{:width$}{text}", "", width = 2 * depth);
}

fn server(out: &mut String, config: &Config) {
    let server = &config.server;
    let listen: Vec<_> = server
        .listen
        .iter()
        .map(|l| quoted(&l.to_string()))
        .collect();
    let workers = match server.workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(n) => n.to_string(),
    };
    let runtime = if server.runtime == Runtime::PerCore {
        "per_core"
    } else {
        "multi_thread"
    };
    let (l, d) = (&server.limits, &server.drain);
    line(out, 0, "server:");
    line(out, 1, &format!("listen: [{}]", listen.join(", ")));
    line(out, 1, &format!("workers: {workers}"));
    line(out, 1, &format!("runtime: {runtime}"));
    let (head_timeout, body_timeout) = (time(l.head_timeout), time(l.body_timeout));
    let (head, body) = (size(l.head), size(l.body));
    line(
        out,
        1,
        &format!(
            "limits: {{ head: {head}, headers: {}, head_timeout: {head_timeout}, body: {body}, body_timeout: {body_timeout} }}",
            l.headers
        ),
    );
    line(
        out,
        1,
        &format!(
            "drain: {{ delay: {}, timeout: {} }}",
            time(d.delay),
            time(d.timeout)
        ),
    );
    line(
        out,
        1,
        &format!(
            "expose: {}",
            if server.expose == Expose::Debug {
                "debug"
            } else {
                "none"
            }
        ),
    );
    line(out, 0, "admin:");
    line(
        out,
        1,
        &format!("listen: {}", quoted(&config.admin.listen.to_string())),
    );
    if let Some(token) = &config.admin.token {
        line(out, 1, &format!("token: {}", quoted(&token.to_string())));
    }
}

fn provider(out: &mut String, p: &Provider) {
    line(out, 1, &format!("{}:", p.name));
    line(out, 2, &format!("dialect: {}", p.dialect.as_str()));
    if let Some(url) = &p.base_url {
        line(out, 2, &format!("base_url: {}", quoted(&url.to_string())));
    }
    let credential = p.credential.as_ref().map(|c| match &c.name {
        Some(name) => format!(
            "{{ name: {}, key: {} }}",
            quoted(name),
            quoted(&c.secret.to_string())
        ),
        None => quoted(&c.secret.to_string()),
    });
    line(
        out,
        2,
        &format!("credentials: [{}]", credential.unwrap_or_default()),
    );
    line(out, 2, &format!("auth: {}", p.auth.word()));
    if let Models::Listed(models) = &p.models {
        line(out, 2, "models:");
        for m in models {
            let public = m.public.to_string();
            line(
                out,
                3,
                &format!(
                    "{}: {}",
                    quoted(&public),
                    quoted(m.upstream.as_ref().unwrap_or(&public))
                ),
            );
        }
    }
    if !p.headers.is_empty() {
        line(out, 2, "headers:");
        for (name, value) in &p.headers {
            line(
                out,
                3,
                &format!(
                    "{}: {}",
                    quoted(name.as_str()),
                    quoted(&header(name.as_str(), value))
                ),
            );
        }
    }
    if !p.extra_body.is_empty() {
        line(out, 2, "extra_body:");
        for m in &p.extra_body {
            let hidden = m.expanded
                || is_secret_key(&m.name) && !m.json.starts_with(|c: char| c.is_ascii_digit());
            line(
                out,
                3,
                &format!(
                    "{}: {}",
                    quoted(&m.name),
                    if hidden { "\"«…»\"" } else { &m.json }
                ),
            );
        }
    }
    if let Some(clocks) = some_clocks(&p.timeout) {
        line(out, 2, &format!("timeout: {clocks}"));
    }
    line(
        out,
        2,
        &format!(
            "pool: {{ idle: {}, max_idle: {}, max_age: {} }}",
            time(p.pool.idle),
            p.pool.max_idle,
            time(p.pool.max_age)
        ),
    );
    tls(out, p);
    line(
        out,
        2,
        &format!(
            "end: {}",
            if p.end == End::Marks {
                "marks"
            } else {
                "transport"
            }
        ),
    );
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
        && !super::excerpt::looks_secret(value.expose());
    if open {
        value.expose().to_owned()
    } else {
        value.to_string()
    }
}

fn route(out: &mut String, r: &Route) {
    line(out, 1, &format!("- name: {}", quoted(&r.name)));
    line(out, 2, &format!("match: {}", matches(&r.matches)));
    let mut target = format!("provider: {}", quoted(&r.target.provider));
    if let Some(model) = &r.target.model {
        let _ = write!(target, ", model: {}", quoted(model));
    }
    if let Some(label) = &r.target.label {
        let _ = write!(target, ", label: {}", quoted(label));
    }
    line(out, 2, &format!("targets: [{{ {target} }}]"));
    if let Some(clocks) = some_clocks(&r.timeout) {
        line(out, 2, &format!("layers: {{ timeout: {clocks} }}"));
    }
}

fn matches(m: &Match) -> String {
    let list = |items: Vec<String>| {
        items
            .iter()
            .map(|i| quoted(i))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut parts = Vec::new();
    for (key, patterns) in [("model", &m.model), ("path", &m.path)] {
        if !patterns.is_empty() {
            parts.push(format!(
                "{key}: [{}]",
                list(patterns.iter().map(ToString::to_string).collect())
            ));
        }
    }
    if !m.dialect.is_empty() {
        parts.push(format!(
            "dialect: [{}]",
            list(m.dialect.iter().map(|d| d.as_str().to_owned()).collect())
        ));
    }
    parts.extend(m.stream.map(|s| format!("stream: {s}")));
    if !m.header.is_empty() {
        let rows: Vec<_> = m
            .header
            .iter()
            .map(|(n, v)| {
                format!(
                    "{}: {}",
                    quoted(n.as_str()),
                    hidden_pattern(n.as_str(), &v.to_string())
                )
            })
            .collect();
        parts.push(format!("header: {{ {} }}", rows.join(", ")));
    }
    if parts.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", parts.join(", "))
    }
}

fn hidden_pattern(name: &str, value: &str) -> String {
    quoted(if is_secret_key(name) {
        super::excerpt::MASK
    } else {
        value
    })
}

fn conditions(m: &Match) -> String {
    let text = matches(m);
    if text == "{}" {
        "everything".to_owned()
    } else {
        text
    }
}

fn all_clocks(t: &Timeout) -> String {
    let c = clock;
    format!(
        "{{ connect: {}, first_byte: {{ stream: {}, document: {} }}, first_token: {}, idle: {}, total: {} }}",
        time(t.connect),
        c(t.first_byte_stream),
        c(t.first_byte_document),
        c(t.first_token),
        c(t.idle),
        c(t.total)
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
    (!parts.is_empty()).then(|| format!("{{ {} }}", parts.join(", ")))
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
fn size(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => format!("{b}B"),
    }
}
