//! No output holds a secret.

use super::*;

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
        format!("providers: {{ a: {{ dialect: openai, base_url: \"https://u:{CANARY}@host\" }} }}"),
        "providers: { a: { dialect: mock, models: { x: \"${CANARY}*\" } } }\naliases: { a: \"${CANARY}*\" }".to_owned(),
        "providers: { a: { dialect: mock } }\nroutes: [{ name: \"${CANARY}\", targets: [\"${CANARY}\"] }, { name: \"${CANARY}\", targets: [] }]".to_owned(),
        "providers: { a: { dialect: mock, credentials: [{ env: \"${CANARY}\" }], timeout: { idle: \"${CANARY}\" } } }".to_owned(),
        format!("admin: {{ token: [{CANARY}] }}\nproviders: {{ a: {{ dialect: mock }} }}"),
        format!("admin:\n  token: {CANARY}\n\tlisten: x"),
        format!("admin:\n  token: \"{CANARY}\" x\n"),
        format!("admin: {{ token: \"{CANARY}, listen: x }}"),
        format!(
            "callers: {{ t: {{ key: {CANARY}, hash: \"{CANARY}\" }} }}\nproviders: {{ a: {{ dialect: mock }} }}"
        ),
        format!("callers:\n  t: {{ key: [{CANARY}] }}\nproviders: {{ a: {{ dialect: mock }} }}"),
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
        "admin: {{ token: \"{CANARY}\" }}\nproviders:\n  a: {{ dialect: openai, base_url: \"https://h/v1\", credentials: [\"${{CANARY}}\"], headers: {{ x-one: \"${{CANARY}}\", x-two: \"p ${{CANARY}}\", x-key: \"{CANARY}\", x-open: org }}, extra_body: {{ a: \"${{CANARY}}\", b: [1.0] }} }}\n  b: {{ dialect: openai, base_url: \"https://h\", credentials: [{{ file: /run/key }}] }}\n  c: {{ dialect: openai, base_url: \"https://h\", credentials: [{{ name: spare, key: {{ env: CANARY }} }}] }}\ncallers: {{ t: {{ key: \"{CANARY}-of-t\", models: [m], requests: 5/min }}, h: {{ hash: \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }} }}\n"
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
        "requests: { rate: 5/min, burst: 5 }",
    ] {
        assert!(shown.contains(word), "{word} is missing:\n{shown}");
    }
    for text in [shown, summary(config), format!("{loaded:?}")] {
        assert!(
            !text.contains(CANARY) && !text.contains("ba7816bf"),
            "{text}"
        );
    }
    let keys: Vec<_> = config
        .providers
        .iter()
        .filter_map(|p| p.credentials.first())
        .map(|c| c.secret.expose())
        .collect();
    assert_eq!(keys, [CANARY, CANARY, CANARY]);
}
