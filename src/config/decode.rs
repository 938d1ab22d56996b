//! Turns a checked tree into a [`Config`] and checks what no schema can: what one key means for another.
//!
//! It runs also on a tree that has problems, so that all of them are told at once: a value that does not
//! parse was reported by the schema and counts as absent here.

use std::io::{self, Read};

use super::expand::Lookup;
use super::nearest::nearest;
use super::problem::{At, Fault, Report};
use super::secret::{Secret, SecretSource};
use super::tree::{Node, Origin, Value};
use super::types::{
    Access, Clock, Config, Layers, Log, LogTo, MeterOverride, Metrics, OnDisconnect, Speed,
    Telemetry, TimeoutOverride, Webhook,
};
use super::{
    aliases, budgets, callers, choice, filters, jwt, providers, retry, routes, server, targets,
    value,
};
use tollgate_middleware::prices::Price;

/// A secret's file may be this long, in bytes.
const LONGEST_SECRET: usize = 64 << 10;

/// What a configuration is read with besides its text.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Looks up an environment variable.
    pub env: Lookup<'a>,
    /// Reads the text of a file of a secret, or of words.
    pub read: &'a dyn Fn(&str) -> io::Result<String>,
    /// `--listen`: the only data listener, whatever the file says.
    pub listen: Option<&'a str>,
    /// `--admin`: the admin listener, whatever the file says.
    pub admin: Option<&'a str>,
}

impl Inputs<'static> {
    /// The process's own environment and files, and no flags. A variable that is not Unicode counts as unset.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            env: &|name| std::env::var(name).ok(),
            read: &read_file,
            listen: None,
            admin: None,
        }
    }
}

/// One byte more than a file may have is enough to know that it is too long.
fn read_file(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let most = filters::LONGEST as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_string(&mut text)?;
    Ok(text)
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// The configuration that the tree describes; without meaning if the report holds an error afterwards.
pub(crate) fn decode(root: &Node, inputs: &Inputs<'_>, report: &mut Report<'_>) -> Config {
    let mut decoder = Decoder { inputs, report };
    decoder.version(root);
    let open = root
        .member("layers")
        .and_then(|layers| layers.member("auth"))
        .and_then(|auth| auth.member("open"));
    let auth = Access {
        open: is_word(open, "true"),
    };
    let called = root.member("callers");
    let called = called.filter(|callers| !callers.entries().is_empty());
    if let (Some(node), Some(_)) = (open.filter(|_| auth.open), called) {
        let message = "the gateway is open, and `callers` says who may call";
        let remedy = "remove one of them";
        decoder.error(node.at, "layers.auth.open", message, remedy);
    }
    let access = Access {
        open: auth.open || called.is_some(),
    };
    let server = server::decode(&mut decoder, root.member("server"), access);
    let admin = server::admin(&mut decoder, root.member("admin"), &server.listen);
    let providers = providers::decode(&mut decoder, root);
    let aliases = aliases::decode(&mut decoder, root, &providers);
    let mut routes = routes::decode(&mut decoder, root, &providers);
    if routes.is_empty() {
        choice::judge_implicit(&mut decoder, root, &providers);
    }
    let callers = callers::decode(&mut decoder, root, &providers);
    let word_filter = filters::decode(&mut decoder, root, &mut routes);
    callers::judge_matches(&mut decoder, root, &callers);
    let layer = |name| root.member("layers").and_then(|l| l.member(name));
    let jwt = layer("auth").and_then(|auth| auth.member("jwt"));
    let jwt = jwt::decode(&mut decoder, jwt, &callers);
    let timeout = layer("timeout");
    let layers = Layers {
        auth,
        jwt,
        rate_limit: callers::rate_limits(&mut decoder, layer("rate_limit")),
        concurrency: callers::concurrency(layer("concurrency")),
        token_cap: callers::token_cap(layer("token_cap")),
        word_filter,
        retry: retry::retry(&mut decoder, layer("retry"), "layers.retry")
            .over(&Layers::default().retry),
        breaker: targets::breaker(&mut decoder, layer("breaker"), "layers")
            .over(Layers::default().breaker),
        budget: budgets::budgets(&mut decoder, root),
        timeout: timeouts(timeout).over(Layers::default().timeout),
        meter: meter(layer("meter")).over(Layers::default().meter),
        keepalive: parsed(layer("keepalive"), "every", value::duration),
    };
    let log = Log {
        to: log_to(&mut decoder, root),
    };
    let webhook = webhook(&mut decoder, root);
    let state = budgets::state(&mut decoder, root);
    let prices = prices(root);
    budgets::judge(
        &mut decoder,
        root,
        &layers,
        (&callers, &routes, &providers),
        &prices,
    );
    Config {
        server,
        admin,
        providers,
        callers,
        aliases,
        routes,
        layers,
        prices,
        state,
        telemetry: Telemetry {
            log,
            metrics: metrics(root),
            webhook,
        },
    }
}

/// Reads values and reports what is wrong with them.
pub(crate) struct Decoder<'i, 'r, 's> {
    pub(crate) inputs: &'i Inputs<'i>,
    report: &'r mut Report<'s>,
}

impl Decoder<'_, '_, '_> {
    pub(crate) fn error(
        &mut self,
        at: At,
        path: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report
            .error(Fault::new(at, path, message).remedy(remedy));
    }

    pub(crate) fn warning(
        &mut self,
        at: At,
        path: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.report
            .warning(Fault::new(at, path, message).remedy(remedy));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.report.error(fault);
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.report.is_crowded()
    }

    /// The secret of a node: text, `{ env }` or `{ file }`. It may be empty; what no header may carry is reported.
    pub(crate) fn secret(&mut self, node: &Node, path: &str) -> Option<Secret> {
        let secret = match &node.value {
            Value::Scalar(scalar) => {
                let source = match &scalar.origin {
                    Origin::Variable(name) => SecretSource::Env(name.clone()),
                    Origin::File => SecretSource::Literal,
                    Origin::Mixed | Origin::Unset => SecretSource::Mixed,
                };
                Secret::new(node.text()?.to_owned(), source)
            }
            _ => self.reference(node, path)?,
        };
        // RFC 9110 section 5.5: field-vchar, space and tab; obs-text is left out, no key has it.
        if !secret
            .expose()
            .bytes()
            .all(|b| matches!(b, b'\t' | b' '..=b'~'))
        {
            self.error(
                node.at,
                path,
                format!("the secret `{path}` holds a character that no header may carry"),
                "visible ASCII only",
            );
            return None;
        }
        Some(secret)
    }

    fn reference(&mut self, node: &Node, path: &str) -> Option<Secret> {
        if let Some(node) = node.member("env") {
            let name = node.text()?;
            let value = (self.inputs.env)(name);
            if value.is_none() {
                let message = format!("the variable {} is not set", value::shown_node(node));
                self.error(node.at, path, message, "set it");
            }
            return Some(Secret::new(value?, SecretSource::Env(name.to_owned())));
        }
        let file = node.member("file")?;
        let name = file.text()?;
        let problem = match (self.inputs.read)(name) {
            Ok(text) if text.len() <= LONGEST_SECRET => {
                let value = text
                    .strip_suffix('\n')
                    .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
                return Some(Secret::new(
                    value.to_owned(),
                    SecretSource::File(name.to_owned()),
                ));
            }
            Ok(_) => format!("larger than {LONGEST_SECRET} bytes"),
            Err(error) => reason(&error),
        };
        self.error(
            file.at,
            path,
            format!(
                "the file {} of `{path}` cannot be read: {problem}",
                value::shown(name)
            ),
            "",
        );
        None
    }

    fn version(&mut self, root: &Node) {
        let Some(node) = root.member("version") else {
            return;
        };
        if node
            .text()
            .and_then(|t| t.parse::<u64>().ok())
            .is_some_and(|v| v > 1)
        {
            self.error(
                node.at,
                "version",
                "this version of the file is not known",
                "this program reads `version: 1`",
            );
        }
    }
}

/// Why a file cannot be read, in words that repeat nothing of it.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none".to_owned(),
        kind => kind.to_string(),
    }
}

/// The parsed value of a member; `None` if it is absent, or wrong and therefore reported already.
pub(crate) fn parsed<T>(
    node: Option<&Node>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    node?.member(key)?.text().and_then(|text| parse(text).ok())
}

/// The clocks of a `timeout` map; all of them off for `off`.
pub(crate) fn timeouts(node: Option<&Node>) -> TimeoutOverride {
    if is_word(node, "off") {
        return TimeoutOverride::OFF;
    }
    let clock = |node: Option<&Node>, key| parsed(node, key, clock);
    let first_byte = node.and_then(|n| n.member("first_byte"));
    let both = clock(node, "first_byte");
    TimeoutOverride {
        connect: parsed(node, "connect", value::duration),
        first_byte_stream: both.or_else(|| clock(first_byte, "stream")),
        first_byte_document: both.or_else(|| clock(first_byte, "document")),
        first_token: clock(node, "first_token"),
        idle: clock(node, "idle"),
        min_rate: parsed(node, "min_rate", speed),
        total: clock(node, "total"),
    }
}

/// Who is told of requests that have ended.
fn webhook(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> Option<Webhook> {
    let node = root.member("telemetry").and_then(|t| t.member("webhook"))?;
    let url: http::Uri = parsed(Some(node), "url", |text| {
        text.parse().map_err(|_| String::new())
    })?;
    let secret = node.member("secret");
    let secret = secret.and_then(|node| decoder.secret(node, "telemetry.webhook.secret"));
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        let path = "telemetry.webhook.url";
        let at = node.member("url").map_or(node.at, |url| url.at);
        decoder.error(at, path, "a webhook is reached by `http` or `https`", "");
    }
    Some(Webhook { url, secret })
}

/// The prices that the file sets, in its order.
fn prices(root: &Node) -> Vec<(String, Price)> {
    let overrides = root.member("prices").and_then(|p| p.member("overrides"));
    let price = |node: &Node| {
        let number = |key| {
            parsed(Some(node), key, |text| {
                text.parse().map_err(|_| String::new())
            })
        };
        Price {
            input: number("input").unwrap_or(0.0),
            output: number("output").unwrap_or(0.0),
            cache_read: number("cache_read"),
            cache_write: number("cache_write"),
            reasoning: number("reasoning"),
            max_output: parsed(Some(node), "max_output", |text| {
                text.parse().map_err(|_| String::new())
            }),
        }
    };
    let entries = overrides.map_or(&[][..], Node::entries).iter();
    entries
        .map(|entry| (entry.key.clone(), price(&entry.value)))
        .collect()
}

/// What a `meter` map sets.
pub(crate) fn meter(node: Option<&Node>) -> MeterOverride {
    let on = node.map(|_| !is_word(node, "off"));
    let on_disconnect = node.and_then(|n| n.member("on_disconnect"));
    let on_disconnect = match on_disconnect.and_then(Node::text) {
        Some("drain") => Some(OnDisconnect::Drain),
        Some(_) => Some(OnDisconnect::Cancel),
        None => None,
    };
    MeterOverride {
        on,
        inject: parsed(node, "inject", |text| {
            text.parse().map_err(|_| String::new())
        }),
        on_disconnect,
    }
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "off" {
        Ok(Speed::Off)
    } else {
        value::byte_rate(text).map(Speed::AtLeast)
    }
}

fn clock(text: &str) -> Result<Clock, String> {
    if text == "off" {
        Ok(Clock::Off)
    } else {
        value::duration(text).map(Clock::After)
    }
}

/// A whole number; the schema has said what is wrong with any other.
pub(crate) fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| String::new())
}

pub(crate) fn is_word(node: Option<&Node>, word: &str) -> bool {
    node.and_then(Node::text) == Some(word)
}

/// What the figures tell apart.
fn metrics(root: &Node) -> Metrics {
    let metrics = root.member("telemetry").and_then(|t| t.member("metrics"));
    let default = Metrics::default();
    let callers = metrics.and_then(|metrics| metrics.member("label_callers"));
    Metrics {
        label_callers: is_word(callers, "true"),
        label_values: parsed(metrics, "label_values", number).unwrap_or(default.label_values),
    }
}

/// Where the log goes; a word that is nearly `stdout` is no file that anybody meant.
fn log_to(decoder: &mut Decoder<'_, '_, '_>, root: &Node) -> LogTo {
    let log = root.member("telemetry").and_then(|t| t.member("log"));
    let Some(node) = log.and_then(|l| l.member("to")) else {
        return LogTo::Stdout;
    };
    let path = "telemetry.log.to";
    match node.text() {
        Some("stderr") => LogTo::Stderr,
        None | Some("stdout") => LogTo::Stdout,
        Some("") => {
            decoder.error(node.at, path, "`telemetry.log.to` is empty", HOW);
            LogTo::Stdout
        }
        Some(text) => {
            if let Some(word) = nearest(text, ["stdout", "stderr"]) {
                let message = format!("`{path}` would be a file named {}", value::shown_node(node));
                decoder.error(
                    node.at,
                    path,
                    message,
                    format!("did you mean `{word}`? {HOW}"),
                );
            }
            LogTo::File(text.into())
        }
    }
}

const HOW: &str = "`stdout`, `stderr`, or a file such as `./requests.log`";
