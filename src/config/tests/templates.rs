//! O03: a file is text. Nothing in it is evaluated, nothing is expanded twice, and nothing in it can take long.

use super::*;
use crate::config::parse::LARGEST;

/// The target of the alias `a` of this file, as it was understood.
fn target(value: &str) -> String {
    let nested = |name: &str| match name {
        "NESTED" => Some("${CANARY}".to_owned()),
        "SELF" => Some("${SELF}".to_owned()),
        "YAML" => Some("[x, { y: z }] # no".to_owned()),
        _ => env(name),
    };
    let text = format!("{BASE}aliases: {{ a: {value} }}\n");
    let inputs = Inputs {
        env: &nested,
        ..inputs()
    };
    let loaded = load(&text, "t.yaml", &inputs).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.config.aliases[0].model.clone()
}

#[test]
fn what_a_variable_holds_is_not_expanded_again_and_is_no_yaml() {
    for (value, understood) in [
        ("\"${NESTED}\"", "${CANARY}"),
        ("\"${SELF}\"", "${SELF}"),
        ("\"x${NESTED}x\"", "x${CANARY}x"),
        ("\"${NONE:-$}{CANARY}\"", "${CANARY}"),
        ("\"${YAML}\"", "[x, { y: z }] # no"),
    ] {
        assert_eq!(target(value), understood, "{value}");
    }
}

#[test]
fn nothing_is_evaluated() {
    for text in [
        "{{ 7+7 }}",
        "{% raw %}",
        "$(id)",
        "`id`",
        "<%= 7+7 %>",
        "#{7+7}",
        "%{7+7}",
        "$CANARY",
        "$$CANARY",
        "{{ env.CANARY }}",
    ] {
        assert_eq!(target(&format!("'{text}'")), text);
    }
    for text in [
        "!!python/object/apply:os.system [id]",
        "!include /run/key",
        "!env CANARY",
        "!!js/function 'x'",
    ] {
        let told = bad(&format!("{BASE}aliases: {{ a: {text} }}\n")).to_string();
        assert!(told.contains("tag") && !told.contains(CANARY), "{told}");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_by_the_limit() {
    let fits = format!("{BASE}#{}", " ".repeat(LARGEST - BASE.len() - 1));
    good(&fits);
    let told = bad(&(fits + " ")).to_string();
    assert!(
        told.contains("larger than 1048576 bytes") && told.contains("1 MiB"),
        "{told}"
    );
}

/// The word filter and the prompts of routes take expressions that run in bounded time and memory, whatever they look like. A pattern of a route is a word with one `*` at its end: there is nothing in it that could be
/// tried twice.
#[test]
fn no_costly_expression_is_taken() {
    let text = BASE.replace(
        "match: {}",
        "match: {}, layers: { word_filter: { regex: ['ok', '(a{1000}){1000}'] } }",
    );
    let told = bad(&text).to_string();
    assert!(
        told.contains("routes[0].layers.word_filter.regex[1]") && told.contains("too large"),
        "{told}"
    );
    let costly = "(a+)+$";
    for text in [
        format!("match: {{}}, layers: {{ word_filter: {{ regex: ['{costly}'] }} }}"),
        format!("match: {{ prompt: {{ regex: '{costly}' }} }}"),
    ] {
        good(&BASE.replace("match: {}", &text));
    }
}
