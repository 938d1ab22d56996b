//! The configuration file: read, checked as a whole, and handed on with every default in its place.
//!
//! [`load`] takes the text of a file and gives either a [`Config`] with its warnings or every problem of the file at
//! once, each with line, column, excerpt and remedy. It opens no file and no socket and reads no environment
//! but through its [`Inputs`]. It never panics, whatever the text is, and no text that it makes holds a secret.
//!
//! The way through the files: `parse` and `build` (YAML into a `tree` with positions), `expand` (variables), `check` along `schema`
//! and `kind`, `decode` with `server`, `providers`, `aliases` and `routes` (typed values, and what keys mean for each other);
//! `find` says which file, `variables` does without one, `show` prints a configuration without its secrets.

mod aliases;
mod budgets;
mod build;
mod callers;
mod check;
mod choice;
mod decode;
mod excerpt;
mod expand;
mod filters;
mod find;
mod fixed;
mod json;
mod json_schema;
mod jwt;
mod kind;
mod mask;
mod matches;
mod nearest;
mod parse;
mod problem;
mod provider_parts;
mod providers;
mod retry;
mod routes;
mod schema;
mod secret;
mod server;
pub(crate) mod show;
mod starter;
mod state;
mod targets;
mod tree;
mod types;
mod value;
mod variables;

#[cfg(test)]
mod tests;

pub use decode::Inputs;
pub use find::{Found, find, read_file};
pub use fixed::fixed;
pub use json_schema::json_schema;
pub use problem::{Problem, Problems, Severity};
pub use secret::{Secret, SecretSource};
pub use show::{redacted, summary};
pub use starter::starter;
pub use types::{
    Access, Admin, Alias, Auth, BaseUrl, Breaker, BreakerOverride, BudgetOverride, Budgets, Caller,
    CallerKey, Clock, Concurrency, Config, Connections, Cors, Credential, Dialect, Drain, End,
    Expose, ExtraMember, FilterRule, HeldBodies, Jwt, Layers, Limits, Listen, Log, LogTo, Match,
    Meter, MeterOverride, Metrics, Model, Models, Network, OnDisconnect, Pattern, PerUser, Pool,
    Prompt, Provider, ProviderTls, RateLimits, RetryOverride, Route, Runtime, Scheme, Server,
    ServerTls, Share, Shared, Speed, State, StickyOn, Strategy, Target, Telemetry, Timeout,
    TimeoutOverride, TokenCap, Tokens, Webhook, WordFile, WordFilter, Workers,
};
pub use variables::{FromVariables, NoVariables, demo, from_environment};

use problem::{At, Fault, Report};

/// A configuration that can be served.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant as it is written.
    pub warnings: Problems,
}

/// Reads the text of a configuration; `file` is what problems call it.
///
/// # Errors
///
/// Every problem of the text at once, warnings included, sorted by severity and line.
pub fn load(text: &str, file: &str, inputs: &Inputs<'_>) -> Result<Loaded, Problems> {
    load_inspected(text, file, inputs, |_| Vec::new())
}

/// What is wrong with a thing that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key that names it, by its steps from the top.
    pub key: Vec<String>,
    /// What is wrong.
    pub message: String,
}

/// As [`load`], and what `inspect` finds is among the problems; it is asked whatever else is wrong, of as much as could be read.
///
/// # Errors
///
/// All problems, those of the text and those that were found.
pub fn load_inspected(
    text: &str,
    file: &str,
    inputs: &Inputs<'_>,
    inspect: impl FnOnce(&Config) -> Vec<Finding>,
) -> Result<Loaded, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file, text);
    let config = read(text, inputs, &mut report, inspect);
    let failed = report.has_errors();
    let problems = report.into_problems();
    match config {
        Some(config) if !failed => Ok(Loaded {
            config,
            warnings: problems,
        }),
        _ => Err(problems),
    }
}

/// The admin listener that the text of a configuration names, or the default one, whatever else may be wrong with the
/// text: a gateway serves what it read, not what stands there now.
///
/// # Errors
///
/// The text is no YAML, or what it names is no address.
pub fn admin_listen(text: &str, file: &str, inputs: &Inputs<'_>) -> Result<Listen, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file, text);
    let Some(mut root) = parse::parse(text, &mut report) else {
        return Err(report.into_problems());
    };
    expand::expand(&mut root, inputs.env, &mut report);
    let node = root
        .member("admin")
        .and_then(|admin| admin.member("listen"));
    let Some(node) = node else {
        return Ok(Admin::default().listen);
    };
    match node.text().map(value::listen) {
        Some(Ok(listen)) => Ok(listen),
        wrong => {
            let remedy = wrong.and_then(Result::err).unwrap_or_default();
            let mut report = Report::new(file, text);
            let fault = Fault::new(node.at, "admin.listen", "`admin.listen` is no address");
            report.error(fault.remedy(remedy));
            Err(report.into_problems())
        }
    }
}

fn read(
    text: &str,
    inputs: &Inputs<'_>,
    report: &mut Report<'_>,
    inspect: impl FnOnce(&Config) -> Vec<Finding>,
) -> Option<Config> {
    let Some(mut root) = parse::parse(text, report) else {
        if !report.has_errors() {
            report.error(
                Fault::new(At::NOWHERE, "", "the file is empty")
                    .remedy("`tollgate demo` needs no file"),
            );
        }
        return None;
    };
    expand::expand(&mut root, inputs.env, report);
    check::check(&root, schema::FILE, report);
    let config = decode::decode(&root, inputs, report);
    for Finding { key, message } in inspect(&config) {
        let (mut node, mut at) = (Some(&root), At::NOWHERE);
        for step in &key {
            let entries = node.map_or(&[][..], tree::Node::entries);
            let entry = entries.iter().find(|entry| entry.key == *step);
            at = entry.map_or(at, |entry| entry.at);
            node = entry.map(|entry| &entry.value);
        }
        report.error(Fault::new(at, &key.join("."), message));
    }
    Some(config)
}
