//! Whole files: a corpus of broken ones with the place and the words of each problem, the documented
//! example, the defaults, and the promise that no input panics and no output holds a secret.

use std::io;

use super::*;

const CANARY: &str = "Canary-Secret-Value-77";

fn env(name: &str) -> Option<String> {
    match name {
        "CANARY" => Some(CANARY.to_owned()),
        "EMPTY" => Some(String::new()),
        "WORKERS" => Some("3".to_owned()),
        "BAD_URL" => Some(format!("nonsense-{CANARY}")),
        "TWO_LINES" => Some(format!("{CANARY}\nx: y")),
        "PORT" => Some("8123".to_owned()),
        _ => None,
    }
}

fn read(path: &str) -> io::Result<String> {
    match path {
        "/run/key" => Ok(format!("{CANARY}\n")),
        "/run/binary" => Ok(format!("{CANARY}\u{7f}")),
        "/run/huge" => Ok(CANARY.repeat(10_000)),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn inputs() -> Inputs<'static> {
    Inputs {
        env: &env,
        read: &read,
        listen: None,
        admin: None,
    }
}

fn good(text: &str) -> Loaded {
    load(text, "t.yaml", &inputs()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn bad(text: &str) -> Problems {
    match load(text, "t.yaml", &inputs()) {
        Ok(_) => panic!("taken: {text}"),
        Err(problems) => problems,
    }
}

/// A good file that each broken one differs from in one place: line 1 to 8 as numbered by the corpus.
const BASE: &str = "\
version: 1
providers:
  main:
    dialect: openai
    base_url: https://api.example/v1
    credentials: [\"${CANARY}\"]
routes:
  - { name: all, match: {}, targets: [main] }
";

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
        "callers: { a: { key: x } }",
        "9:1",
        "`callers` is not built yet",
    ),
    (
        "layers: { budget: { global: 5usd } }",
        "9:11",
        "`layers.budget` is not built yet",
    ),
    (
        "layers: { timeout: { min_rate: 10 } }",
        "9:22",
        "`layers.timeout.min_rate` is not built yet",
    ),
    (
        "server: { limits: { keep_alive: 5s } }",
        "9:21",
        "not built yet",
    ),
    ("prices: {}", "9:1", "not built yet"),
    // kinds
    (
        "server: { workers: [1, 2] }",
        "9:20",
        "must be `auto` or a whole number from 1, not a list",
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
    ("aliases: [a]", "9:10", "must be a map, not a list"),
    ("server:\n  workers:", "10:10", "not nothing"),
    // what keys mean for each other
    (
        "server: { listen: 0.0.0.0:80 }",
        "9:19",
        "can be reached from other machines",
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
        "[one, two]",
        "6:24",
        "several credentials are not built yet",
    ),
    ("[\"${CANARY}\"]", "passthrough", "6:18", "not built yet"),
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
        "targets: [main, main]",
        "8:45",
        "several targets is not built yet",
    ),
    ("targets: [main]", "targets: []", "8:38", "has no target"),
    ("targets: [main]", "targets: main", "8:38", "must be a list"),
    (", targets: [main]", "", "8:5", "has no `targets`"),
    ("match: {}", "strategy: weighted", "8:18", "not built yet"),
    ("match: {}", "match: { caller: x }", "8:27", "not built yet"),
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
        "  - {",
        "  - { name: all, targets: [main] }\n  - {",
        "9:13",
        "two routes are named",
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

#[test]
fn the_base_of_the_corpus_is_good() {
    let loaded = good(BASE);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn problems_are_told_all_at_once_and_counted() {
    let text = format!("{BASE}nonsense_one: 1\nserver: {{ nonsense_two: 1, workers: 0 }}\n")
        .replace(
            "    dialect: openai",
            "    dialect: openai\n    nonsense_three: 1",
        );
    let shown = bad(&text).to_string();
    for word in [
        "nonsense_one",
        "nonsense_two",
        "nonsense_three",
        "at least 1",
        "4 errors, 0 warnings",
    ] {
        assert!(shown.contains(word), "{word} is missing:\n{shown}");
    }
    let many: String = (0..50).map(|i| format!("nonsense_{i}: 1\n")).collect();
    let problems = bad(&format!("{BASE}{many}"));
    let shown = problems.to_string();
    assert!(
        shown.matches("error: ").count() == 20
            && shown.contains("… and 30 more")
            && shown.contains("50 errors"),
        "{shown}"
    );
}

#[test]
fn a_problem_is_drawn_with_its_line_and_a_caret() {
    let shown = bad(&BASE.replace("base_url", "base_ulr")).to_string();
    let want = "\
error: unknown key `base_ulr`
  --> t.yaml:5:5
   |
 5 |     base_ulr: https://api.example/v1
   |     ^^^^^^^^ did you mean `base_url`?
   = keys here: dialect, base_url, credentials, auth, models, headers, extra_body, timeout, pool, tls, end
";
    assert!(
        shown.contains(want) && shown.contains("1 error,"),
        "{shown}"
    );
}

#[test]
fn json_has_one_object_for_each_problem() {
    let rows: serde_json::Value =
        serde_json::from_str(&bad(&format!("{BASE}zzz: 1\nyyy: 2\n")).to_json()).expect("JSON");
    let row = &rows[0];
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&row["file"], &row["line"], &row["column"], &row["path"]),
        (&"t.yaml".into(), &9.into(), &1.into(), &"zzz".into())
    );
    assert!(row["message"].is_string() && row["remedy"].is_string());
}

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    let literal = format!("sk-{CANARY}");
    for text in [
        format!("providers:\n  a: {{ dialect: opnai, credentials: [\"{CANARY}\"] }}"),
        format!("providers:\n  a: {{ credentails: [\"{CANARY}\"], dialect: mock }}"),
        format!(
            "providers:\n  a:\n    dialect: mock\n    credentials:\n      - {CANARY}\n      - {CANARY}\n"
        ),
        format!(
            "providers: {{ a: {{ dialect: mock, credentials: [{{ name: n, kye: {CANARY} }}] }} }}"
        ),
        format!("providers: {{ a: {{ dialect: mock, credentials: [{{ env: [{CANARY}] }}] }} }}"),
        format!("providers: {{ a: {{ dialect: mock, credentials: {{ {CANARY}: x }} }} }}"),
        format!("providers: {{ a: {{ dialect: mock, auth: {literal} }} }}"),
        format!("providers: {{ a: {{ dialect: mock, base_url: \"{literal}\" }} }}"),
        format!("providers: {{ a: {{ dialect: mock, {literal}: 1 }} }}"),
        format!("admin: {{ token: [{CANARY}] }}\nproviders: {{ a: {{ dialect: mock }} }}"),
        format!("admin:\n  token: {CANARY}\n\tlisten: x"),
        format!("admin:\n  token: \"{CANARY}\" x\n"),
        format!("admin: {{ token: \"{CANARY}, listen: x }}"),
        format!(
            "callers: {{ t: {{ key: {CANARY}, hash: \"{CANARY}\" }} }}\nproviders: {{ a: {{ dialect: mock }} }}"
        ),
        format!("callers:\n  t: {{ key: {CANARY} }}\nproviders: {{ a: {{ dialect: mock }} }}"),
        format!(
            "telemetry: {{ webhook: {{ url: x, secret: {CANARY} }} }}\nproviders: {{ a: {{ dialect: mock }} }}"
        ),
        format!("providers: {{ a: {{ dialect: mock, credentials: [\"{CANARY}\u{e9}\"] }} }}"),
    ] {
        let problems = bad(&text);
        assert!(!problems.to_string().contains(CANARY), "{text}\n{problems}");
        assert!(
            !problems.to_json().contains(CANARY),
            "{text}\n{}",
            problems.to_json()
        );
    }
}

#[test]
fn a_good_configuration_is_shown_without_its_secrets() {
    let loaded = good(&format!(
        "admin: {{ token: \"{CANARY}\" }}\nproviders:\n  a: {{ dialect: openai, base_url: \"https://h/v1\", credentials: [\"${{CANARY}}\"], headers: {{ x-one: \"${{CANARY}}\", x-two: \"p ${{CANARY}}\", x-key: \"{CANARY}\", x-open: org }}, extra_body: {{ a: \"${{CANARY}}\", b: [1.0] }} }}\n  b: {{ dialect: openai, base_url: \"https://h\", credentials: [{{ file: /run/key }}] }}\n  c: {{ dialect: openai, base_url: \"https://h\", credentials: [{{ name: spare, key: {{ env: CANARY }} }}] }}\n"
    ));
    let config = &loaded.config;
    let shown = redacted(config);
    for word in [
        "«env CANARY»",
        "«file /run/key»",
        "«literal»",
        "\"x-open\": \"org\"",
        "\"b\": [1.0]",
        "\"spare\"",
    ] {
        assert!(shown.contains(word), "{word} is missing:\n{shown}");
    }
    for text in [shown, summary(config), format!("{loaded:?}")] {
        assert!(!text.contains(CANARY), "{text}");
    }
    let keys: Vec<_> = config
        .providers
        .iter()
        .filter_map(|p| p.credential.as_ref())
        .map(|c| c.secret.expose())
        .collect();
    assert_eq!(keys, [CANARY, CANARY, CANARY]);
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let loaded = good(
        "server: { listen: [127.0.0.1:1, unix:/run/x], workers: 2, limits: { head: 1KiB, body_timeout: 1500ms }, expose: debug }\nproviders:\n  a: { dialect: anthropic, base_url: 'http://[::1]:8/v1/', models: { x: y, 'p-*': 'p-*' }, extra_body: { a: { b: [null, true, 1e3, 's'] } }, timeout: { first_byte: off, idle: 90m }, tls: off, end: transport }\naliases: { k: l }\nroutes:\n  - { name: r, match: { model: [a, 'b*'], path: /x*, dialect: openai, stream: true, header: { x-a: 'b*' } }, targets: [{ provider: a, model: m, label: l }], layers: { timeout: off } }\nlayers: { timeout: { total: 36h, first_byte: 7s } }\ntelemetry: { log: { to: /tmp/x } }\n",
    );
    let shown = redacted(&loaded.config);
    assert_eq!(good(&shown).config, loaded.config, "{shown}");
    assert_eq!(
        loaded.config.layers.timeout.first_byte_stream,
        loaded.config.layers.timeout.first_byte_document
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = good("providers: { m: { dialect: mock } }").config;
    let shown = redacted(&config);
    for line in [
        "listen: [\"127.0.0.1:8080\"]",
        "workers: auto",
        "runtime: per_core",
        "limits: { head: 32KiB, headers: 100, head_timeout: 10s, body: 32MiB, body_timeout: 60s }",
        "drain: { delay: 0s, timeout: 600s }",
        "expose: none",
        "listen: \"127.0.0.1:9901\"",
        "pool: { idle: 60s, max_idle: 128, max_age: 600s }",
        "timeout: { connect: 5s, first_byte: { stream: 120s, document: 600s }, first_token: off, idle: 300s, total: off }",
        "log: { format: json, to: stdout }",
        "end: marks",
    ] {
        assert!(shown.contains(line), "{line} is missing:\n{shown}");
    }
}

#[test]
fn clocks_of_route_and_provider_go_over_those_of_the_layers() {
    let config = good("providers: { m: { dialect: mock, timeout: { idle: 2s, total: 9s } } }\nroutes: [{ name: r, match: {}, targets: [m], layers: { timeout: { idle: 3s } } }]\nlayers: { timeout: { idle: 1s, first_byte: 4s } }").config;
    let effective = config.routes[0]
        .timeout
        .over(config.providers[0].timeout.over(config.layers.timeout));
    let seconds = |clock: Clock| clock.limit().map(|d| d.as_secs());
    assert_eq!(
        (
            seconds(effective.idle),
            seconds(effective.total),
            seconds(effective.first_byte_stream)
        ),
        (Some(3), Some(9), Some(4))
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (text, place, words) in [
        (BASE.replace("https://", "http://"), "5:15", "without TLS"),
        (format!("{BASE}  - {{ name: two, match: {{}}, targets: [main] }}\n"), "9:13", "never reached"),
        (BASE.replace("dialect: openai", "dialect: openai\n    auth: none"), "7:18", "never sent"),
        ("providers:\n  a: { dialect: mock, models: [x] }\n  b: { dialect: mock, models: [x] }\n".to_owned(), "3:31", "file order"),
        ("providers: { a: { dialect: mock, models: [x] } }\naliases: { x: y }".to_owned(), "2:12", "the model wins"),
    ] {
        let warnings = good(&text).warnings;
        let hit = warnings.iter().any(|p| format!("{}:{}", p.line, p.column) == place && p.to_string().contains(words));
        assert!(hit && warnings.errors() == 0, "{text}\nwants {place} {words:?}, has\n{warnings}");
    }
}

#[test]
fn turning_off_what_is_not_built_is_no_problem() {
    let loaded = good(
        "providers: { m: { dialect: mock, http2: false, concurrency: off } }\nserver: { proxy_protocol: false, tls: off }\nlayers: { budget: off, retry: off, breaker: off, timeout: { min_rate: off }, keepalive: off }\ntelemetry: { traces: off }",
    );
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn json_is_yaml_and_a_byte_order_mark_is_no_mistake() {
    let text = "\u{feff}{\n\t\"version\": 1,\n\t\"providers\": {\"m\": {\"dialect\": \"mock\"}},\n\t\"zzz\": 1\n}";
    assert!(
        bad(text).iter().any(|p| (p.line, p.column) == (4, 2)),
        "{}",
        bad(text)
    );
    good("\u{feff}providers: { m: { dialect: mock } }\r\n");
}

#[test]
fn aliases_in_yaml_are_copied_within_bounds() {
    let config = good("providers:\n  a: &a { dialect: mock, timeout: &t { idle: 3s } }\n  b: *a\nlayers: { timeout: *t }").config;
    assert_eq!(config.providers[0].timeout, config.providers[1].timeout);
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for i in 1..40 {
        bomb += &format!("a{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1);
    }
    assert!(
        bad(&bomb).to_string().contains("more than"),
        "{}",
        bad(&bomb)
    );
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(bad(&deep).errors() > 0);
    let mut stairs = "a0: &a0 [x]\n".to_owned();
    for i in 1..200 {
        stairs += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    assert!(
        bad(&stairs).to_string().contains("deep"),
        "{}",
        bad(&stairs)
    );
}

#[test]
fn flags_beat_the_file_and_are_checked() {
    let flags = Inputs {
        listen: Some("127.0.0.1:1"),
        admin: Some("localhost:2"),
        ..inputs()
    };
    let loaded = load(BASE, "t.yaml", &flags).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(
        (
            loaded.config.server.listen[0].to_string(),
            loaded.config.admin.listen.to_string()
        ),
        ("127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned())
    );
    for (listen, words) in [
        ("0.0.0.0:1", "other machines"),
        ("nonsense", "`--listen` is no address"),
    ] {
        let flags = Inputs {
            listen: Some(listen),
            ..inputs()
        };
        let problems = load(BASE, "t.yaml", &flags).expect_err(listen);
        assert!(problems.to_string().contains(words), "{problems}");
    }
    assert_eq!(
        demo(&flags).map(|l| l.config.routes[0].name.clone()),
        Ok("demo".to_owned())
    );
}

#[test]
fn values_come_from_variables_of_any_kind() {
    let config = good("server: { workers: \"${WORKERS}\", listen: \"127.0.0.1:${PORT:-1}\" }\nproviders: { m: { dialect: \"${NONE:-mock}\" } }").config;
    assert_eq!(
        (config.server.workers, config.server.listen[0].to_string()),
        (Workers::Count(3), "127.0.0.1:8123".to_owned())
    );
}

/// The example of the documentation, whole.
const EXAMPLE: &str = include_str!("example.yaml");

#[test]
fn every_key_of_the_documented_example_is_known() {
    let all = |name: &str| Some(format!("{name}-value"));
    let mut report = Report::new("example.yaml", EXAMPLE);
    let mut root = parse::parse(EXAMPLE, &mut report).expect("the example is YAML");
    expand::expand(&mut root, &all, &mut report);
    check::check_all_built(&root, schema::FILE, &mut report);
    let problems = report.into_problems();
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn the_documented_example_lacks_only_what_is_not_built() {
    let all = |name: &str| Some(format!("{name}-value"));
    let problems = load(
        EXAMPLE,
        "example.yaml",
        &Inputs {
            env: &all,
            ..inputs()
        },
    )
    .expect_err("parts are missing");
    for problem in problems.iter() {
        let line = EXAMPLE.lines().nth(problem.line - 1).unwrap_or_default();
        let last = problem
            .path
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .split('[')
            .next()
            .unwrap_or_default();
        let here = line.chars().skip(problem.column - 1).collect::<String>();
        assert!(problem.message.contains("not built yet"), "{problem}");
        assert!(
            here.starts_with(last) || last == "targets",
            "{problem} does not stand at {here:?}"
        );
    }
    for path in [
        "callers",
        "layers.budget",
        "layers.retry",
        "server.tls",
        "state",
        "prices",
        "telemetry.webhook",
        "routes[0].strategy",
        "routes[0].targets[1]",
    ] {
        assert!(problems.iter().any(|p| p.path == path), "{path} is missing");
    }
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = load(&text, "t.yaml", &inputs());
        }

        #[test]
        fn any_text_of_yaml_signs_is_read_without_a_panic(text in "[\\[\\]{}:,\\-&*!|>'\"%@`#? \n\ta-c$0é<]{0,200}") {
            let _ = load(&text, "t.yaml", &inputs());
        }

        #[test]
        fn a_damaged_file_ends_in_problems_without_the_secret(at in 0..EXAMPLE.len(), cut in 0_usize..40, put in "[\\[\\]{}:,&*!'\"#? \n\ta-c$é]{0,4}") {
            let all = |_: &str| Some(CANARY.to_owned());
            let literal = EXAMPLE.replace("${OPENAI_API_KEY}", CANARY).replace("${TEAM_A_KEY}", CANARY);
            let from = (0..=at.min(literal.len())).rev().find(|i| literal.is_char_boundary(*i)).unwrap_or(0);
            let to = (from..=literal.len()).find(|i| *i >= from + cut && literal.is_char_boundary(*i)).unwrap_or(literal.len());
            let text = format!("{}{put}{}", &literal[..from], &literal[to..]);
            if let Err(problems) = load(&text, "t.yaml", &Inputs { env: &all, ..inputs() }) {
                // A cut through the key's own name or value leaves something that nobody can tell from other text.
                let whole = text.contains(&format!("credentials: [\"{CANARY}\"]")) && text.contains(&format!("key: \"{CANARY}\""));
                prop_assert!(!whole || !problems.to_string().contains(CANARY), "{problems}");
            }
        }

        #[test]
        fn values_of_any_text_are_judged_without_a_panic(text in "\\PC{0,40}") {
            let _ = (value::duration(&text), value::size(&text), value::base_url(&text), value::listen(&text), value::shown(&text));
            let _ = (value::rate(&text), value::money(&text), value::percent(&text), value::pattern(&text), value::url(&text));
        }
    }
}
