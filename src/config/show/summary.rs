//! What a configuration does, in short.

use super::{callers, line, matches, quoted};
use crate::config::types::{Config, Models, Provider};

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
