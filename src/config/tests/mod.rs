//! Whole files: what is loaded, what is refused, and how it is told.

mod callers;
mod corpus;
mod example;
mod hostile;
mod json_schema;
mod secrets;
mod templates;

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

#[test]
fn the_base_of_the_corpus_is_good() {
    let loaded = good(BASE);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.server.tls, None);
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

/// That the secret is none was told as well, though nothing was wrong but the variable.
#[test]
fn a_variable_that_is_not_set_is_one_problem_wherever_it_stands() {
    for secret in [
        "\"${NONE:?set it}\"",
        "{ file: \"${NONE:?set it}\" }",
        "{ file: \"/run/${NONE}\" }",
        "{ env: \"${NONE}\" }",
        "{ name: spare, key: { file: \"${NONE}\" } }",
    ] {
        let text = BASE.replace("\"${CANARY}\"", secret);
        let shown = bad(&text).to_string();
        assert!(shown.contains("NONE is not set"), "{secret}: {shown}");
        assert!(shown.contains("1 error,"), "{secret}: {shown}");
    }
    let admin = format!("{BASE}admin: {{ token: {{ file: \"${{NONE}}\" }} }}\n");
    let shown = bad(&admin).to_string();
    assert!(shown.contains("1 error,"), "{shown}");
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
   = keys here: dialect, base_url, credentials, auth, models, headers, extra_body, timeout, concurrency, pool, tls, end
";
    assert!(
        shown.contains(want) && shown.contains("1 error,"),
        "{shown}"
    );
}

#[test]
fn words_of_the_file_cannot_command_a_terminal() {
    let shown = bad(&format!(
        "{BASE}aliases: {{ a: \"${{NONE:?\\e[31m\\n}}\", \"\\e[2J\": 1, \"\\e[2J\": 2 }}\n"
    ))
    .to_string();
    assert!(
        shown.contains("NONE") && shown.contains("duplicate") && !shown.contains('\u{1b}'),
        "{shown:?}"
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
fn what_is_shown_can_be_loaded_again() {
    let loaded = good(
        "server: { listen: [127.0.0.1:1, unix:/run/x], workers: 2, proxy_protocol: true, tls: { cert: c.pem, key: k.pem, client_ca: ca.pem }, trusted_proxies: [10.0.0.0/8, '2001:db8::/32', 192.0.2.1], limits: { head: 1KiB, body_timeout: 1500ms }, expose: debug }\nproviders:\n  a: { dialect: anthropic, base_url: 'http://[::1]:8/v1/', models: { x: y, 'p-*': 'p-*' }, extra_body: { a: { b: [null, true, 1e3, 's'] } }, timeout: { first_byte: off, idle: 90m }, tls: off, end: transport }\naliases: { k: l }\nroutes:\n  - { name: r, match: { model: [a, 'b*'], path: /x*, dialect: openai, stream: true, header: { x-a: 'b*' } }, targets: [{ provider: a, model: m, label: l }], layers: { timeout: off } }\nlayers: { auth: { open: true }, timeout: { total: 36h, first_byte: 7s } }\ntelemetry: { log: { to: /tmp/x } }\n",
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
        "limits: { head: 32KiB, headers: 100, head_timeout: 10s, body: 32MiB, body_timeout: 60s, keep_alive: 75s, held_bodies: 25%, connections: auto, slow_reader: 30s, buffer: 64KiB, target: 8KiB, ahead: 16KiB, handshake: 10s, body_silence: 10s, json_depth: 128, json_members: 10000, answer_head: 64KiB, answer_headers: 200, event: 1MiB }",
        "drain: { delay: 0s, timeout: 600s }",
        "expose: none",
        "proxy_protocol: false",
        "trusted_proxies: [\"127.0.0.0/8\"]",
        "auth: { open: false }",
        "listen: \"127.0.0.1:9901\"",
        "pool: { idle: 60s, max_idle: 128, max_age: 600s }",
        "timeout: { connect: 5s, first_byte: { stream: 120s, document: 600s }, first_token: off, idle: 300s, total: off, min_rate: off }",
        "breaker: { consecutive: 5, error_rate: 50%, window: 30s, min_requests: 20, open_for: 30s, probes: 1, successes: 1 }",
        "log: { format: json, to: stdout }",
        "metrics: { label_callers: false, label_values: 1000 }",
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
    let many: String = (0..65)
        .map(|n| format!("  p{n}: {{ dialect: mock, models: [m{n}] }}\n"))
        .collect();
    for (text, place, words) in [
        (format!("providers:\n{many}"), "66:3", "no routes"),
        (BASE.replace("https://", "http://"), "5:15", "without TLS"),
        (format!("{BASE}  - {{ name: two, match: {{}}, targets: [main] }}\n"), "9:13", "never reached"),
        (BASE.replace("dialect: openai", "dialect: openai\n    auth: none"), "7:18", "never sent"),
        ("providers:\n  a: { dialect: mock, models: [x] }\n  b: { dialect: mock, models: [x] }\n".to_owned(), "3:31", "file order"),
        ("providers:\n  a: { dialect: mock, models: [x] }\n  b: { dialect: openai, base_url: \"http://127.0.0.1:1\", credentials: [] }\n".to_owned(), "3:3", "only for `b/…`"),
        ("providers: { a: { dialect: mock, models: [x] } }\naliases: { x: y }".to_owned(), "2:12", "the model wins"),
    ] {
        let warnings = good(&text).warnings;
        let hit = warnings.iter().any(|p| format!("{}:{}", p.line, p.column) == place && p.to_string().contains(words));
        assert!(hit && warnings.errors() == 0, "{text}\nwants {place} {words:?}, has\n{warnings}");
    }
}

/// A provider that lists nothing is said to be out of reach only where it is.
#[test]
fn a_provider_without_models_is_no_mistake_where_it_is_reached() {
    let silent = "dialect: openai, base_url: \"http://127.0.0.1:1\", credentials: []";
    for text in [
        format!("providers: {{ a: {{ {silent} }} }}"),
        format!(
            "providers: {{ a: {{ {silent} }}, b: {{ {silent} }} }}\nroutes: [{{ name: r, match: {{}}, targets: [a, b] }}]"
        ),
    ] {
        let warnings = good(&text).warnings;
        assert!(!warnings.to_string().contains("no `models`"), "{warnings}");
    }
    let both = format!("providers: {{ a: {{ {silent} }}, b: {{ {silent} }} }}");
    let warnings = good(&both).warnings;
    let told = warnings
        .iter()
        .filter(|it| it.message.contains("no `models`"));
    assert_eq!(told.count(), 2, "{warnings}");
}

/// A file of words that has none is a mistake, and no error: it may be filled later.
#[test]
fn a_file_without_words_is_a_warning() {
    let read = |path: &str| {
        let empty = path.ends_with("empty.txt");
        Ok(if empty { "# none yet\n\n" } else { "word\n" }.to_owned())
    };
    let inputs = Inputs {
        read: &read,
        ..inputs()
    };
    let text = format!("{BASE}layers: {{ word_filter: {{ files: [full.txt, empty.txt] }} }}\n");
    let loaded = load(&text, "t.yaml", &inputs).unwrap_or_else(|problems| panic!("{problems}"));
    let told: Vec<_> = loaded
        .warnings
        .iter()
        .filter(|it| it.message.contains("no entry"))
        .map(|it| &*it.path)
        .collect();
    assert_eq!(told, ["layers.word_filter.files[1]"], "{}", loaded.warnings);
}

/// Rules that can find nothing are told of, and no others.
#[test]
fn what_the_word_filter_would_never_find_is_a_warning() {
    let filter = |keys: &str| format!("{BASE}layers: {{ word_filter: {{ {keys} }} }}\n");
    for (keys, path, words) in [
        ("action: mask", "layers.word_filter", "looks for nothing"),
        ("words: []", "layers.word_filter", "looks for nothing"),
        (
            "words: [a], rules: [{ id: b, action: log }]",
            "layers.word_filter.rules[0]",
            "`b` looks for nothing",
        ),
        (
            "words: [a], apply_to: []",
            "layers.word_filter.apply_to",
            "neither at requests nor",
        ),
        (
            "words: [a], action: log, rules: [{ id: b, words: [a], action: mask }]",
            "layers.word_filter",
            "`default` finds nothing: `b`",
        ),
        (
            "words: [a, b], rules: [{ id: c, words: [B], action: log }]",
            "layers.word_filter.rules[0]",
            "`default` finds all",
        ),
    ] {
        let warnings = good(&filter(keys)).warnings;
        let mut told = warnings.iter();
        assert!(
            told.any(|it| it.path == path && it.message.contains(words)),
            "{keys}: {warnings}"
        );
    }
    for keys in [
        "words: [a], rules: [{ id: b, words: [a], action: log, whole_word: false }]",
        "words: [a], apply_to: [request], rules: [{ id: b, words: [a], action: log }]",
        "rules: [{ id: b, entities: [email], action: log }]",
    ] {
        let warnings = good(&filter(keys)).warnings;
        assert!(
            !warnings.iter().any(|it| it.path.contains("word_filter")),
            "{keys}: {warnings}"
        );
    }
    let nothing = filter("words: [\"\\u200b\"], normalize: nfkc");
    let told = bad(&nothing);
    assert!(told.to_string().contains("to be seen"), "{told}");
}

/// What is shown can be read again, and means the same: of all that stands in front of a target, too.
#[test]
fn what_is_set_for_a_target_wins_over_its_route_and_is_shown() {
    let text = "\
providers:
  p: { dialect: openai, base_url: http://127.0.0.1:1, credentials: [], concurrency: { max: 3, queue: 0, wait: 1s } }
layers: { breaker: { consecutive: 9, error_rate: 12.5% }, timeout: { idle: 9s, min_rate: 1KiB/s } }
routes:
  - name: r
    match: {}
    targets: [{ provider: p, breaker: { consecutive: 2 }, timeout: { first_token: 2s, min_rate: off } }]
    layers: { breaker: { consecutive: 4, probes: 7 }, timeout: { idle: 4s, first_token: 4s } }
";
    let config = good(text).config;
    let route = &config.routes[0];
    let breaker = route.breaker.over(config.layers.breaker);
    let breaker = route.targets[0].breaker.over(breaker);
    assert_eq!(
        (breaker.consecutive, breaker.probes, breaker.error_rate),
        (2, 7, 1250)
    );
    let clocks = route.targets[0].timeout.or(route.timeout);
    let clocks = clocks.over(config.layers.timeout);
    let seconds = |of: Clock| of.limit().map(|it| it.as_secs());
    assert_eq!(
        (seconds(clocks.first_token), seconds(clocks.idle)),
        (Some(2), Some(4))
    );
    assert_eq!(clocks.min_rate, Speed::Off);
    let shown = redacted(&config);
    let again = good(&shown).config;
    assert_eq!(
        (&again.routes, again.layers),
        (&config.routes, config.layers)
    );
    assert_eq!(again.providers, config.providers);
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

/// Whoever says so, serves everyone; nobody does by accident.
#[test]
fn only_an_open_gateway_listens_to_other_machines() {
    for (layers, taken) in [
        ("layers: { auth: { open: true } }", true),
        ("layers: { auth: { open: false } }", false),
        ("layers: { auth: {} }", false),
        ("layers: {}", false),
    ] {
        for listen in ["0.0.0.0:80", "'[::]:80'", "192.0.2.1:80"] {
            let text = format!("{BASE}server: {{ listen: {listen} }}\n{layers}\n");
            let loaded = load(&text, "t.yaml", &inputs());
            assert_eq!(loaded.is_ok(), taken, "{text}");
            if let Err(problems) = loaded {
                let told = problems.to_string();
                assert!(
                    told.contains("open: true") && told.contains("127.0.0.1"),
                    "{told}"
                );
            }
        }
        let flags = Inputs {
            listen: Some("0.0.0.0:1"),
            ..inputs()
        };
        let loaded = load(&format!("{BASE}{layers}\n"), "t.yaml", &flags);
        assert_eq!(loaded.is_ok(), taken, "{layers}");
    }
    let open = good(&format!("{BASE}layers: {{ auth: {{ open: true }} }}\n"));
    assert!(summary(&open.config).contains("serves everyone"));
    assert!(!summary(&good(BASE).config).contains("serves everyone"));
}

#[test]
fn trusted_proxies_may_be_none() {
    let config = good(&format!("{BASE}server: {{ trusted_proxies: [] }}\n")).config;
    assert!(config.server.trusted_proxies.is_empty());
}

#[test]
fn values_come_from_variables_of_any_kind() {
    let config = good("server: { workers: \"${WORKERS}\", listen: \"127.0.0.1:${PORT:-1}\" }\nproviders: { m: { dialect: \"${NONE:-mock}\" } }").config;
    assert_eq!(
        (config.server.workers, config.server.listen[0].to_string()),
        (Workers::Count(3), "127.0.0.1:8123".to_owned())
    );
}
