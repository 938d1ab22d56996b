//! The example of the documentation: every key known, only what is not built refused.

use super::*;

/// The example of the documentation, whole.
pub(super) const EXAMPLE: &str = include_str!("example.yaml");

#[test]
fn every_key_of_the_documented_example_is_known() {
    let all = |name: &str| Some(format!("{name}-of-this-example"));
    let mut report = Report::new("example.yaml", EXAMPLE);
    let mut root = parse::parse(EXAMPLE, &mut report).expect("the example is YAML");
    expand::expand(&mut root, &all, &mut report);
    check::check_all_built(&root, schema::FILE, &mut report);
    let problems = report.into_problems();
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn the_documented_example_lacks_only_what_is_not_built() {
    let all = |name: &str| match name {
        "REDIS_URL" => Some("redis://127.0.0.1".to_owned()),
        name => Some(format!("{name}-of-this-example")),
    };
    let problems = load(
        EXAMPLE,
        "example.yaml",
        &Inputs {
            env: &all,
            ..inputs()
        },
    )
    .expect_err("parts are missing");
    let errors = problems.iter().filter(|it| it.severity == Severity::Error);
    for problem in errors {
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
    assert!(
        problems.iter().any(|p| p.path == "telemetry.traces"),
        "{problems}"
    );
}
