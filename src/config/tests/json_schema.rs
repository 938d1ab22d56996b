//! The JSON Schema takes what the program takes, and refuses the mistakes that a schema can see.

use regex_automata::nfa::thompson::pikevm::PikeVM;
use serde_json::Value;

use super::*;

/// Judges by the words of JSON Schema that ours is written in; any other is a failure of the test.
fn judge(schema: &Value, it: &Value) -> bool {
    let Some(words) = schema.as_object() else {
        return schema.as_bool().expect("a schema is an object or a bool");
    };
    words.iter().all(|(word, says)| match word.as_str() {
        "$schema" | "title" => true,
        "additionalProperties" => it.as_object().is_none_or(|map| {
            let known = words.get("properties").and_then(Value::as_object);
            let rest = map
                .iter()
                .filter(|(key, _)| !known.is_some_and(|known| known.contains_key(*key)));
            rest.into_iter().all(|(_, value)| judge(says, value))
        }),
        "anyOf" => says.as_array().unwrap().iter().any(|one| judge(one, it)),
        "const" => says == it,
        "enum" => says.as_array().unwrap().contains(it),
        "items" => it
            .as_array()
            .is_none_or(|list| list.iter().all(|item| judge(says, item))),
        "maximum" => it.as_f64().is_none_or(|it| it <= says.as_f64().unwrap()),
        "minimum" => it.as_f64().is_none_or(|it| it >= says.as_f64().unwrap()),
        "pattern" => it.as_str().is_none_or(|text| {
            let pattern = PikeVM::new(says.as_str().unwrap()).expect("a pattern");
            pattern.is_match(&mut pattern.create_cache(), text)
        }),
        "properties" => it.as_object().is_none_or(|map| {
            let said = says.as_object().unwrap();
            map.iter()
                .all(|(key, value)| said.get(key).is_none_or(|one| judge(one, value)))
        }),
        "required" => it.as_object().is_none_or(|map| {
            let needed = says.as_array().unwrap();
            needed
                .iter()
                .all(|key| map.contains_key(key.as_str().unwrap()))
        }),
        "type" => {
            let types = says
                .as_array()
                .map_or_else(|| std::slice::from_ref(says), Vec::as_slice);
            types.iter().any(|one| match one.as_str().unwrap() {
                "array" => it.is_array(),
                "boolean" => it.is_boolean(),
                "integer" => it.is_u64() || it.is_i64(),
                "null" => it.is_null(),
                "number" => it.is_number(),
                "object" => it.is_object(),
                "string" => it.is_string(),
                other => panic!("unknown type {other}"),
            })
        }
        other => panic!("unknown word {other}"),
    })
}

fn schema() -> Value {
    serde_json::from_str(&json_schema()).expect("the schema is JSON")
}

fn taken(text: &str) -> bool {
    // As editors read it, and the program: `off` is a word.
    let options = serde_saphyr::options! { strict_booleans: true };
    let document = serde_saphyr::from_str_with_options(text, options);
    let document: Value = document.unwrap_or_else(|error| panic!("{error}: {text}"));
    judge(&schema(), &document)
}

#[test]
fn what_the_program_takes_the_schema_takes() {
    let readme = include_str!("../../../README.md");
    let (_, block) = readme
        .split_once("```yaml\n")
        .expect("the README has an example");
    let (block, _) = block.split_once("```").expect("and its end");
    let unit = include_str!("../../../deploy/systemd/tollgate.yaml");
    for text in [
        BASE,
        block,
        unit,
        &starter(&|_| None),
        &starter(&|_| Some("x".into())),
    ] {
        assert!(taken(text), "{text}");
    }
    // A configuration as it is shown, every default written out.
    for text in [BASE.to_owned(), block_without_variables(block)] {
        let shown = redacted(&good(&text).config);
        assert!(taken(&shown), "{shown}");
    }
    for more in [
        "server: { workers: \"${WORKERS}\", listen: \"127.0.0.1:${PORT}\" }",
        "server: { workers: 4, limits: { connections: auto, head: 16KiB, head_timeout: 1m30s } }",
        "server: { proxy_protocol: false }",
        "layers: { timeout: off }",
        "layers: { timeout: { first_byte: { stream: off, document: 1h }, min_rate: off } }",
        "layers: { timeout: { min_rate: 64B/s }, breaker: { error_rate: 12.5%, probes: 3 } }",
        "layers: { breaker: off, keepalive: { every: 15s } }",
        "layers: { keepalive: off }",
        "aliases: { a: 4 }",
        "telemetry:",
        "admin: { token: { env: CANARY } }",
    ] {
        let text = format!("{BASE}{more}\n");
        good(&text);
        assert!(taken(&text), "{more}");
    }
}

/// The README's own variables, which no test sets.
fn block_without_variables(block: &str) -> String {
    block.replace("${OPENAI_API_KEY}", "${CANARY}")
}

#[test]
fn mistakes_that_a_schema_can_see_are_refused_as_by_the_program() {
    for more in [
        "zzz: 1",
        "server: { lisen: 127.0.0.1:1 }",
        "server: { workers: 0 }",
        "server: { workers: [1, 2] }",
        "server: { workers: two }",
        "server: { runtime: fast }",
        "server: { limits: { body: 32 } }",
        "server: { limits: { body: 32MB } }",
        "server: { limits: { head_timeout: 10 } }",
        "server: { limits: { head_timeout: 10sec } }",
        "state: { redis: { url: x } }",
        "state: { redis: { url: x, replicas: 0 } }",
        "callers: { a: { key: x, budget: 5usd/min } }",
        "telemetry: { traces: { sample: 10% } }",
        "layers: { timeout: { idel: 3s } }",
        "layers: { timeout: { connect: off } }",
        "aliases: [a]",
        "admin: { token: { env: A, file: b } }",
    ] {
        let text = format!("{BASE}{more}\n");
        bad(&text);
        assert!(!taken(&text), "{more}");
    }
    for text in [
        "version: 1\n",
        "version: 1\nproviders: { a: {} }\n",
        "version: 1\nproviders: { a: { dialect: opnai } }\n",
        "version: 1\nproviders: { a: { dialect: mock, credentials: [{ name: x }] } }\n",
    ] {
        bad(text);
        assert!(!taken(text), "{text}");
    }
}
