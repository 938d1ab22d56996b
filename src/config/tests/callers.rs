//! Callers, and what bounds them: what is refused, and what is shown.

use super::*;

const KEY: &str = "tg-0123456789abcdef0123";

/// A file with these callers, and something behind them.
fn with(callers: &str, more: &str) -> String {
    format!("providers: {{ m: {{ dialect: mock }} }}\ncallers: {{ {callers} }}\n{more}\n")
}

/// Each is refused, at this path, in words like these.
fn refused(rows: &[(String, &str, &str)]) {
    for (text, path, words) in rows {
        let problems = bad(text);
        let found = problems
            .iter()
            .any(|it| it.path == *path && it.to_string().contains(words));
        assert!(
            found,
            "{path} with {words:?} is not among\n{problems}\n{text}"
        );
        assert!(!problems.to_string().contains(KEY), "{problems}");
    }
}

#[test]
fn a_key_is_somebodys_and_nobody_elses() {
    let credential = format!(
        "providers: {{ p: {{ dialect: openai, base_url: \"https://h/v1\", credentials: [{KEY}] }} }}\ncallers: {{ a: {{ key: {KEY} }} }}\n"
    );
    let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    refused(&[
        (with("a: { key: \"\" }", ""), "callers.a.key", "is empty"),
        (with("a: {}", ""), "callers.a", "neither a key nor a hash"),
        (
            with(&format!("a: {{ key: {KEY}, hash: \"{hash}\" }}"), ""),
            "callers.a",
            "a key and a hash",
        ),
        (
            with("a: { hash: \"sha256:00\" }", ""),
            "callers.a.hash",
            "is none",
        ),
        (
            with(&format!("a: {{ key: {KEY} }}, b: {{ key: {KEY} }}"), ""),
            "callers.b",
            "also that of the caller `a`",
        ),
        (
            with(&format!("a: {{ hash: \"{hash}\" }}, b: {{ key: abc }}"), ""),
            "callers.b",
            "also that of the caller `a`",
        ),
        (
            credential,
            "callers.a",
            "also that of the credential of the provider `p`",
        ),
    ]);
    let short = good(&with("a: { key: short }", "")).warnings;
    assert!(
        short.to_string().contains("less than 20 characters"),
        "{short}"
    );
    assert!(
        good(&with(&format!("a: {{ key: {KEY} }}"), ""))
            .warnings
            .is_empty()
    );
}

#[test]
fn tokens_are_checked_with_keys_that_nobody_can_change_on_their_way() {
    let jwt = |changed: &str, to: &str| {
        let text = "jwks: \"https://issuer/jwks.json\", issuer: \"https://issuer\", audience: tollgate, algorithms: [RS256, EdDSA], as: a";
        assert!(text.contains(changed));
        let text = text.replace(changed, to);
        with(
            &format!("a: {{ key: {KEY} }}, b: {{}}"),
            &format!("layers: {{ auth: {{ jwt: {{ {text} }} }} }}"),
        )
    };
    let url = "https://issuer/jwks.json";
    let path = "layers.auth.jwt.jwks";
    refused(&[
        (
            jwt(url, "http://issuer/jwks.json"),
            path,
            "not fetched by `https`",
        ),
        (
            jwt(url, "ftp://issuer/jwks.json"),
            path,
            "not fetched by `https`",
        ),
        (
            jwt(url, "http://localhost.evil.test/x"),
            path,
            "not fetched by `https`",
        ),
        (jwt(url, "https://u:p@issuer/x"), path, "names a user"),
        (
            jwt("RS256", "HS256"),
            "layers.auth.jwt.algorithms",
            "shared secret",
        ),
        (
            jwt("RS256", "none"),
            "layers.auth.jwt.algorithms",
            "does not take",
        ),
        (
            jwt("RS256, EdDSA", ""),
            "layers.auth.jwt.algorithms",
            "is empty",
        ),
        (
            jwt("algorithms: [RS256, EdDSA], ", ""),
            "layers.auth.jwt",
            "algorithms",
        ),
        (
            jwt("audience: tollgate, ", ""),
            "layers.auth.jwt",
            "audience",
        ),
        (
            jwt("audience: tollgate", "audience: \"\""),
            "layers.auth.jwt.audience",
            "is empty",
        ),
        (
            jwt("issuer: \"https://issuer\", ", ""),
            "layers.auth.jwt",
            "issuer",
        ),
        (
            jwt("as: a", "as: c"),
            "layers.auth.jwt.as",
            "there is no caller `c`",
        ),
        (
            jwt("as: a", "").replace(&format!("callers: {{ a: {{ key: {KEY} }}, b: {{}} }}"), ""),
            "layers.auth.jwt",
            "no callers",
        ),
    ]);
    for local in [
        "http://127.0.0.1:8000/x",
        "http://localhost/x",
        "http://[::1]:1/x",
    ] {
        good(&jwt(url, local));
    }
    let loaded = good(&jwt(url, "https://issuer/jwks.json?p=hidden-policy"));
    let jwt = loaded.config.layers.jwt.as_ref().unwrap();
    assert_eq!(
        (&*jwt.caller, jwt.stands_for.as_deref()),
        ("sub", Some("a"))
    );
    assert_eq!(loaded.config.callers[1].key, CallerKey::Token);
    let shown = redacted(&loaded.config);
    assert!(!shown.contains("hidden-policy"), "{shown}");
    for part in [
        "\"https://issuer/jwks.json?",
        "algorithms: [RS256, EdDSA]",
        "as: \"a\"",
        "\"b\": { priority: 0",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn a_callers_own_credential_is_for_one_origin_of_a_route() {
    let file = |second: &str| {
        format!(
            "providers:\n  a: {{ dialect: openai, base_url: \"https://one.test/v1\", credentials: passthrough }}\n  \
             b: {{ dialect: openai, base_url: \"{second}\", credentials: passthrough }}\n  \
             c: {{ dialect: openai, base_url: \"https://c.test/v1\", credentials: [{KEY}] }}\n\
             routes: [{{ name: r, match: {{}}, targets: [c, a, {{ provider: b }}] }}]\n"
        )
    };
    let told = |second: &str| {
        let problems = bad(&file(second));
        let mut told = problems
            .iter()
            .filter(|it| it.message.contains("own credential"));
        told.next().map(|it| it.path.clone())
    };
    for other in [
        "https://two.test/v1",
        "http://one.test/v1",
        "https://one.test:8443/v1",
        "https://one.test.evil.test/v1",
    ] {
        assert_eq!(
            told(other).as_deref(),
            Some("routes[0].targets[2]"),
            "{other}"
        );
    }
    for same in ["https://one.test/v2", "https://ONE.test:443"] {
        assert_eq!(
            good(&file(same)).config.routes[0].targets.len(),
            3,
            "{same}"
        );
    }
    let alone = "providers: { a: { dialect: openai, base_url: \"https://one.test/v1\", credentials: passthrough } }\n";
    let loaded = good(alone);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let shown = redacted(&loaded.config);
    assert!(shown.contains("credentials: passthrough\n"), "{shown}");
    assert_eq!(good(&shown).config.providers, loaded.config.providers);
    assert!(summary(&loaded.config).contains("the caller's own credential"));
}

#[test]
fn pages_may_ask_where_they_are_served() {
    let cors = |list: &str| format!("server: {{ cors: {{ origins: [{list}] }} }}");
    let called = |list: &str| with(&format!("a: {{ key: {KEY} }}"), &cors(list));
    let uncalled =
        |list: &str| format!("providers: {{ m: {{ dialect: mock }} }}\n{}\n", cors(list));
    let path = "server.cors.origins";
    refused(&[
        (called("example.com"), path, "an origin is"),
        (called("\"https://example.com/x\""), path, "an origin is"),
        (uncalled("\"https://example.com\""), path, "without callers"),
        (uncalled("\"*\""), path, "without callers"),
    ]);
    let own = good(&uncalled("\"http://localhost:3000\"")).config;
    assert_eq!(own.server.cors.origins.len(), 1);
    let text = called("\"https://*.example.com\", \"*\"");
    let shown = redacted(&good(&text).config);
    let part = "cors: { origins: [\"*\", \"https://*.example.com\"] }";
    assert!(shown.contains(part), "{shown}");
    assert!(good(&text).config.server.cors.any);
    assert!(good(&called("")).config.server.cors == Cors::default());
}

#[test]
fn a_route_is_for_callers_that_there_are() {
    let callers = format!("team-a: {{ key: {KEY}, labels: {{ cost_center: \"42\", team: a }} }}");
    let route = |caller: &str| {
        let routes =
            format!("routes: [{{ name: r, match: {{ caller: {caller} }}, targets: [m] }}]");
        with(&callers, &routes)
    };
    let path = "routes[0].match.caller";
    refused(&[
        (route("team-b"), path, "did you mean `team-a`"),
        (
            route("[team-a, nobody-else]"),
            path,
            "there is no caller `nobody-else`",
        ),
        (route("\"x*\""), path, "there is no caller"),
        (route("[]"), path, "names nothing"),
        (
            with(&format!("a: {{ key: {KEY}, labels: {{ \"\": x }} }}"), ""),
            "callers.a.labels",
            "has a name",
        ),
    ]);
    let loaded = good(&route("\"team-*\""));
    let shown = redacted(&loaded.config);
    for part in [
        "caller: [\"team-*\"]",
        "labels: { \"cost_center\": \"42\", \"team\": \"a\" }",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn every_rate_may_have_a_burst_which_is_shown() {
    let limits = "per_ip: { rate: 300/min, burst: 5 }, global: 5000/s, per_model: { \"x*\": { rate: 10/hour, burst: 2 } }, \
                  per_user: { rate: 20/day, burst: 3 }";
    let text = with(
        &format!("a: {{ key: {KEY}, requests: {{ rate: 60/min, burst: 7 }} }}"),
        &format!("layers: {{ rate_limit: {{ {limits} }} }}"),
    );
    let shown = redacted(&good(&text).config);
    for part in [
        "per_ip: { rate: 300/min, burst: 5 }",
        "global: { rate: 5000/s, burst: 5000 }",
        "\"x*\": { rate: 10/hour, burst: 2 }",
        "per_user: { rate: 20/day, burst: 3, from: [body user] }",
        "requests: { rate: 60/min, burst: 7 }",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let again = shown.replace("«literal»", KEY);
    assert_eq!(
        good(&again).config.layers.rate_limit,
        good(&text).config.layers.rate_limit
    );
}
