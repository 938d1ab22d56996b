//! Broken files, each with the place and some words of its problem.

use super::*;
use crate::config::{
    kind::{Built, Kind},
    schema::FILE,
};

/// What is put behind `BASE`, where the problem is, and words of it.
const BEHIND_BASE: &[(&str, &str, &str)] = &[
    // keys
    ("servre: {}", "9:1", "did you mean `server`"),
    ("zzz: 1", "9:1", "keys here: version, server"),
    ("server: { worker: 2 }", "9:11", "did you mean `workers`"),
    ("layers:\n  timeuot: {}", "10:3", "did you mean `timeout`"),
    (
        "layers: { timeout: { idel: 3s } }",
        "9:22",
        "did you mean `idle`",
    ),
    (
        "server: { expose: none, expose: none }",
        "9:25",
        "duplicate key `expose`",
    ),
    ("routes: []", "9:1", "duplicate key `routes`"),
    // parts that are not built
    (
        "callers: { a: { key: 0123456789abcdef0123, budget: 5usd } }",
        "9:52",
        "`callers.a.budget` would be forgotten with each restart",
    ),
    (
        "layers: { budget: { global: 5usd } }",
        "9:29",
        "`layers.budget.global` would be forgotten with each restart",
    ),
    (
        "layers: { budget: { on_short: shrink } }",
        "9:31",
        "`layers.budget.on_short` must be one of",
    ),
    (
        "callers: { a: { key: 0123456789abcdef0123, tokens: 5k/min } }\nlayers: { budget: off }",
        "9:52",
        "`callers.a.tokens` would limit nothing: `layers.budget` is off",
    ),
    (
        "layers: { timeout: { min_rate: 10 } }",
        "9:32",
        "write a size per second",
    ),
    (
        "layers: { breaker: { error_rate: 0% } }",
        "9:34",
        "would open a circuit with any failure",
    ),
    (
        "layers: { breaker: { probes: 256 } }",
        "9:30",
        "at most 255",
    ),
    (
        "server: { cors: { origins: [\"*\"] } }",
        "9:29",
        "without callers only this machine is served",
    ),
    (
        "state: { redis: { url: x, replicas: 2 } }",
        "9:24",
        "`state.redis.url` is no address of Redis",
    ),
    (
        "state: { redis: { url: \"redis://h\" } }",
        "9:10",
        "`state.redis` has no `replicas`",
    ),
    (
        "state: { redis: { url: \"redis://h\", replicas: 0 } }",
        "9:47",
        "at least 1",
    ),
    (
        "state: { redis: { url: \"redis://h\", replicas: 2, on_error: allow } }",
        "9:60",
        "local",
    ),
    ("state: { dir: '' }", "9:15", "`state.dir` is empty"),
    (
        "server: { limits: { head: 18446744073709551615B } }",
        "9:27",
        "larger than a pebibyte",
    ),
    (
        "server: { limits: { head: 17MiB } }",
        "9:27",
        "at most `16MiB`",
    ),
    (
        "server: { limits: { buffer: 16777217B } }",
        "9:29",
        "at most `16MiB`",
    ),
    (
        "server: { limits: { ahead: 1GiB } }",
        "9:28",
        "at most `16MiB`",
    ),
    (
        "server: { limits: { answer_head: 1GiB } }",
        "9:34",
        "at most `16MiB`",
    ),
    (
        "server: { limits: { target: 65535B } }",
        "9:29",
        "at most `65534B`",
    ),
    (
        "server: { limits: { event: 2GiB } }",
        "9:28",
        "at most `1GiB`",
    ),
    (
        "server: { limits: { body: 1025GiB } }",
        "9:27",
        "at most `1024GiB`",
    ),
    (
        "server: { limits: { held_bodies: 2000GiB } }",
        "9:34",
        "at most `1024GiB`",
    ),
    (
        "telemetry: { metrics: { label_values: 0 } }",
        "9:39",
        "at least 1",
    ),
    (
        "telemetry: { metrics: { label_values: 100001 } }",
        "9:39",
        "at most 100000",
    ),
    (
        "telemetry: { metrics: { label_callers: maybe } }",
        "9:40",
        "true",
    ),
    (
        "server: { limits: { held_bodies: 0% } }",
        "9:34",
        "more than zero",
    ),
    // kinds
    (
        "server: { workers: [1, 2] }",
        "9:20",
        "must be `auto` or a whole number from 1, not a list",
    ),
    ("server: { tls: { cert: c.pem } }", "9:11", "`key`"),
    (
        "server: { tls: { cert: c.pem, key: \"\" } }",
        "9:36",
        "is empty",
    ),
    (
        "server: { proxy_protocol: v2 }",
        "9:27",
        "`true` or `false`",
    ),
    ("server: { workers: 0 }", "9:20", "at least 1"),
    ("server: { workers: -2 }", "9:20", "digits only"),
    ("server: { workers: two }", "9:20", "not `two`"),
    ("server: { workers: \"2\" }", "9:20", "without quotes"),
    ("server: 3", "9:9", "must be a map, not `3`"),
    ("server: { listen: 8080 }", "9:19", "the address is missing"),
    ("server: { listen: [] }", "9:19", "names no address"),
    (
        "server: { runtime: fast }",
        "9:20",
        "`per_core`, `multi_thread`",
    ),
    (
        "server: { runtime: per_cor }",
        "9:20",
        "did you mean `per_core`",
    ),
    (
        "server: { limits: { head: 32 } }",
        "9:27",
        "the unit is missing",
    ),
    ("server: { limits: { body: 32MB } }", "9:27", "binary"),
    ("server: { limits: { body: 0B } }", "9:27", "more than zero"),
    ("server: { limits: { headers: 0 } }", "9:30", "at least 1"),
    (
        "server: { drain: { delay: 90 } }",
        "9:27",
        "the unit is missing",
    ),
    ("layers: { timeout: { idle: 1O0s } }", "9:28", "not a unit"),
    ("layers: { timeout: { idle: -1s } }", "9:28", "not negative"),
    (
        "layers: { timeout: { idle: 0s } }",
        "9:28",
        "more than zero, or `off`",
    ),
    (
        "layers: { timeout: { connect: off } }",
        "9:31",
        "cannot be turned off",
    ),
    ("layers: { timeout: on }", "9:20", "or `off`"),
    (
        "layers: { timeout: { first_byte: { stream: 5 } } }",
        "9:44",
        "unit is missing",
    ),
    (
        "telemetry: { log: { format: text } }",
        "9:29",
        "must be `json`",
    ),
    ("version: 2\n", "9:1", "duplicate key"),
    (
        "telemetry: { log: { to: stdou } }",
        "9:25",
        "did you mean `stdout`",
    ),
    ("telemetry: { log: { to: \"\" } }", "9:25", "is empty"),
    ("aliases: [a]", "9:10", "must be a map, not a list"),
    ("server:\n  workers:", "10:10", "not nothing"),
    // what keys mean for each other
    (
        "server: { listen: 0.0.0.0:80 }",
        "9:19",
        "can be reached from other machines",
    ),
    (
        "server: { trusted_proxies: [10.1.2.3/8] }",
        "9:29",
        "did you mean `10.0.0.0/8`",
    ),
    (
        "server: { trusted_proxies: [the-proxy] }",
        "9:29",
        "a range of addresses",
    ),
    (
        "server: { trusted_proxies: 10.0.0.0/8 }",
        "9:28",
        "must be a list",
    ),
    ("layers: { auth: off }", "9:17", "must be a map"),
    (
        "layers: { auth: { open: yes } }",
        "9:25",
        "`true` or `false`",
    ),
    (
        "layers: { auth: { jwt: { jwks: \"https://h/k\" } } }",
        "9:19",
        "has no `issuer`",
    ),
    (
        "server: { listen: [127.0.0.1:80, 127.0.0.1:80] }",
        "9:34",
        "two listeners",
    ),
    (
        "server: { listen: 127.0.0.1:9901 }",
        "0:0",
        "the data listener's address too",
    ),
    ("admin: { listen: 0.0.0.0:1 }", "9:18", "has no token"),
    (
        "admin: { listen: \"[::]:1\", token: \"${EMPTY}\" }",
        "9:18",
        "has no token",
    ),
    ("aliases: { a: b, b: a }", "9:12", "leads back to itself"),
    ("aliases: { \"a*\": b }", "9:12", "no exact model"),
    // variables
    ("aliases: { a: \"x${NONE}\" }", "9:17", "NONE is not set"),
    (
        "aliases: { a: \"${NONE:?set it to a model}\" }",
        "9:16",
        "set it to a model",
    ),
    ("aliases: { a: \"${NONE\" }", "9:16", "without its `}`"),
    ("aliases: { a: ${HOME} }", "9:15", "quote it"),
    ("aliases:\n  a: [${HOME}]", "10:7", "quote it"),
    (
        "server: { workers: \"${CANARY}\" }",
        "9:20",
        "the value of `${CANARY}`",
    ),
    // YAML
    ("server:\n\tworkers: 2", "10:1", "tab"),
    ("server: { workers: 2", "9:9", "unclosed bracket"),
    ("server: 'open", "10:1", "not valid YAML"),
    ("server: !map {}", "9:14", "tags"),
    ("server: { <<: {} }", "9:11", "merge keys"),
    ("? [a]\n: b", "9:3", "a key that is a map or a list"),
    ("---\na: b", "9:1", "second YAML document"),
    ("a: \"\u{1}\"", "9:5", "control character"),
    ("server: *nobody", "9:9", "not valid YAML"),
];

/// A word of `BASE`, what stands in its place, where the problem is, and words of it.
const IN_BASE: &[(&str, &str, &str, &str)] = &[
    ("version: 1", "version: 2", "1:10", "reads `version: 1`"),
    ("base_url:", "base_ulr:", "5:5", "did you mean `base_url`"),
    (
        "    base_url: https://api.example/v1
",
        "",
        "3:3",
        "has no `base_url`",
    ),
    (
        "dialect: openai",
        "dialect: opnai",
        "4:14",
        "did you mean `openai`",
    ),
    ("    dialect: openai\n", "", "3:3", "has no `dialect`"),
    (
        "https://api.example/v1",
        "\"::x::\"",
        "5:15",
        "must be a URL",
    ),
    (
        "https://api.example/v1",
        "ftp://api.example",
        "5:15",
        "only `http` and `https`",
    ),
    (
        "https://api.example/v1",
        "https://u:p@api.example",
        "5:15",
        "belong under `credentials`",
    ),
    (
        "https://api.example/v1",
        "\"${BAD_URL}\"",
        "5:15",
        "the value of `${BAD_URL}`",
    ),
    (
        "[\"${CANARY}\"]",
        "[\"${NONE}\"]",
        "6:20",
        "NONE is not set",
    ),
    ("[\"${CANARY}\"]", "[{ env: NONE }]", "6:26", "is not set"),
    (
        "[\"${CANARY}\"]",
        "[{ file: /none }]",
        "6:27",
        "cannot be read",
    ),
    (
        "[\"${CANARY}\"]",
        "[{ file: /run/binary }]",
        "6:19",
        "no header may carry",
    ),
    (
        "[\"${CANARY}\"]",
        "[{ file: /run/huge }]",
        "6:27",
        "larger than",
    ),
    ("[\"${CANARY}\"]", "[{ path: /x }]", "6:21", "no secret"),
    ("[\"${CANARY}\"]", "[\"${EMPTY}\"]", "6:19", "is empty"),
    (
        "[\"${CANARY}\"]",
        "[\"${TWO_LINES}\"]",
        "6:19",
        "no header may carry",
    ),
    (
        "[\"${CANARY}\"]",
        "[one, one]",
        "6:24",
        "two credentials of a provider are the same",
    ),
    (
        "[\"${CANARY}\"]",
        "[{ name: a, key: one }, { name: a, key: two }]",
        "6:42",
        "have the same name",
    ),
    (
        "[\"${CANARY}\"]",
        "[passthrough]",
        "6:19",
        "without brackets",
    ),
    (
        "[\"${CANARY}\"]",
        "passthrough\n    auth: bearer",
        "7:11",
        "in the slot that it came in",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    http2: true",
        "7:5",
        "not built yet",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    models: [\"a*b\"]",
        "7:14",
        "a `*` stands at the end",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    models: { a: \"b*\" }",
        "7:18",
        "exact",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    models: []",
        "7:13",
        "lists no model",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    headers: { \"a b\": c }",
        "7:16",
        "no header name",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    headers: { Host: c }",
        "7:16",
        "belongs to the connection",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    extra_body: { n: 007 }",
        "7:22",
        "write it as JSON",
    ),
    (
        "[\"${CANARY}\"]",
        "[]\n    tls: { cert: c.pem }",
        "7:18",
        "without `key`",
    ),
    (
        "https://api.example/v1",
        "http://127.0.0.1/v1\n    tls: { sni: x }",
        "6:10",
        "plain `http`",
    ),
    ("  main:", "  \"a/b\":", "3:3", "cannot name a provider"),
    (
        "targets: [main]",
        "targets: [mian]",
        "8:39",
        "did you mean `main`",
    ),
    (
        "targets: [main]",
        "targets: [{ provider: x }]",
        "8:51",
        "not defined",
    ),
    (
        "targets: [main]",
        "targets: [{ provider: main, weight: 0 }]",
        "8:38",
        "has the weight 0",
    ),
    (
        "targets: [main]",
        "targets: [{ provider: main, weight: 3 }, main]",
        "8:65",
        "means nothing under the strategy `fallback`",
    ),
    (
        "targets: [main]",
        "targets: [{ provider: main, credential: spare }]",
        "8:69",
        "has no credential named",
    ),
    (
        "targets: [main]",
        "targets: [main], state_target: other",
        "8:60",
        "no target of the route is",
    ),
    (
        "targets: [main]",
        "targets: [main], sticky: { on: caller }",
        "8:54",
        "`sticky` means nothing under",
    ),
    (
        "targets: [main]",
        "targets: [main], layers: { retry: { on: [404] } }",
        "8:70",
        "any other 4xx is about the request itself",
    ),
    (
        "targets: [main]",
        "targets: [main], layers: { retry: { on: [later] } }",
        "8:70",
        "nothing after which is tried again",
    ),
    ("targets: [main]", "targets: []", "8:38", "has no target"),
    ("targets: [main]", "targets: main", "8:38", "must be a list"),
    (", targets: [main]", "", "8:5", "has no `targets`"),
    ("match: {}", "strategy: bandit", "8:28", "not built yet"),
    (
        "match: {}",
        "match: { caller: x }",
        "8:35",
        "there is no caller `x`",
    ),
    (
        "match: {}",
        "match: { path: v1 }",
        "8:33",
        "begins with `/`",
    ),
    (
        "match: {}",
        "match: { stream: yes }",
        "8:35",
        "`true` or `false`",
    ),
    (
        "match: {}",
        "layers: { auth: off }",
        "8:28",
        "no place here",
    ),
    (
        "match: {}",
        "layers: { timeout: { connect: 3s } }",
        "8:39",
        "connections belong to a provider",
    ),
    (
        "  - {",
        "  - { name: all, targets: [main] }\n  - {",
        "9:13",
        "two routes have the same name",
    ),
    ("dialect: openai", "dialect: mock", "5:15", "asks nobody"),
];

/// What is missing among the problems of a broken file; nothing if place and words are there.
fn missing(text: &str, place: &str, words: &str) -> Option<String> {
    let problems = bad(text);
    let shown = problems.to_string();
    assert!(
        !shown.contains(CANARY) && !problems.to_json().contains(CANARY),
        "a secret in {shown}"
    );
    let hit =
        |p: &Problem| format!("{}:{}", p.line, p.column) == place && p.to_string().contains(words);
    (!problems.iter().any(hit)).then(|| format!("wants {place} {words:?}, has\n{shown}"))
}

/// O04.
#[test]
fn every_broken_file_names_place_and_remedy() {
    let mut all: Vec<String> = Vec::new();
    for (text, place, words) in BEHIND_BASE {
        all.extend(missing(&format!("{BASE}{text}\n"), place, words));
    }
    for (word, other, place, words) in IN_BASE {
        assert!(BASE.contains(word), "{word} is not in the base file");
        all.extend(missing(&BASE.replacen(word, other, 1), place, words));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_file_without_providers_says_what_it_lacks() {
    for (text, words) in [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("[]", "must be a map"),
        ("a", "must be a map"),
        ("version: 1", "has no `providers`"),
        ("providers: {}", "no provider"),
        ("providers:", "no provider"),
    ] {
        assert!(
            bad(text).to_string().contains(words),
            "{text:?}: {}",
            bad(text)
        );
    }
}

/// Values that are none of this kind.
fn strangers(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Duration { zero: true, .. } => &["soon", "-1s", "1O0s", "5", "[1s]", "{ }"],
        Kind::Duration { .. } => &["soon", "-1s", "1O0s", "5", "0s", "[1s]", "{ }"],
        Kind::Integer { .. } => &["many", "-1", "1.5", "99999999999999999999", "[1]", "{ }"],
        Kind::Size { .. } => &["12parsecs", "-1", "1O0", "[1]", "{ }"],
        Kind::Bool | Kind::Word(_) => &["maybe", "[ ]", "{ }"],
        Kind::Network => &["300.1.1.1/8", "10.0.0.0/33", "{ }"],
        Kind::Listen => &["nowhere", "127.0.0.1:99999", "{ }"],
        Kind::BaseUrl => &["ftp://host/", "https://", "host", "[1]", "{ }"],
        Kind::Text | Kind::Secret => &["[1]"],
        Kind::List(_) => &["{ }"],
        Kind::Map(_) | Kind::Layer(_) | Kind::Table(_) => &["[1]", "maybe"],
        Kind::Either([Kind::Word(_), Kind::Integer { .. }]) => &["maybe", "-1", "1.5", "{ }"],
        _ => &[],
    }
}

/// Calls `on` with the text before, the kind, and the text behind the value of each key that is built.
fn each_built(kind: &Kind, before: &str, behind: &str, on: &mut impl FnMut(&str, &Kind, &str)) {
    on(before, kind, behind);
    match kind {
        Kind::Map(keys) | Kind::Layer(keys) => {
            for key in keys.iter().filter(|key| matches!(key.built, Built::Yes)) {
                let before = format!("{before}{{ {}: ", key.name);
                each_built(&key.kind, &before, &format!(" }}{behind}"), on);
            }
        }
        Kind::Table(inner) => {
            each_built(
                inner,
                &format!("{before}{{ it: "),
                &format!(" }}{behind}"),
                on,
            );
        }
        Kind::List(inner) | Kind::OneOrMany(inner) => {
            each_built(inner, &format!("{before}[ "), &format!(" ]{behind}"), on);
        }
        Kind::Either(kinds) => {
            for kind in kinds
                .iter()
                .filter(|kind| matches!(kind, Kind::Map(_) | Kind::Layer(_)))
            {
                each_built(kind, before, behind, on);
            }
        }
        _ => {}
    }
}

/// O04: every key that is built, with values of other kinds: each is refused at its place.
#[test]
fn no_key_takes_a_value_of_another_kind() {
    let (mut tried, mut taken) = (0, Vec::new());
    for key in FILE.iter().filter(|key| matches!(key.built, Built::Yes)) {
        each_built(
            &key.kind,
            &format!("{}: ", key.name),
            "",
            &mut |before, kind, behind| {
                for stranger in strangers(kind) {
                    tried += 1;
                    let text = format!("{before}{stranger}{behind}\n");
                    let place = (1, before.len() + 1);
                    if !bad(&text).iter().any(|p| (p.line, p.column) == place) {
                        taken.push(format!("{text}{}", bad(&text)));
                    }
                }
            },
        );
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
    assert!(tried > 200, "{tried}");
}
