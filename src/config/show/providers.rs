//! A provider, without its secrets.

use super::{line, quoted, some_clocks, targets, time};
use crate::config::{
    mask::{MASK, is_secret_key, looks_secret},
    secret::{Secret, SecretSource},
    types::{Credential, End, ExtraMember, Model, Models, Provider},
};

pub(super) fn provider(out: &mut String, p: &Provider) {
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
