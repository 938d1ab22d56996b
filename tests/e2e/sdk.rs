//! The providers' own SDKs speak to the gateway by base URL only.

use std::process::Command;

use tollgate_testing::needs;

use crate::{binary::tollgate, harness::Stage};

#[tokio::test]
async fn openai_python_is_served_and_sees_a_cut() {
    suite("openai-sdk", "openai", "openai_sdk.py").await;
}

#[tokio::test]
async fn anthropic_python_is_served_and_sees_a_cut() {
    suite("anthropic-sdk", "anthropic", "anthropic_sdk.py").await;
}

/// 401, 403, 404, and a 429 that the SDK waits for and is served after, each with a message that both can show.
#[tokio::test]
async fn callers_are_told_in_words_that_the_sdks_read() {
    let yaml = "providers: { m: { dialect: mock } }\ncallers:\n\
        \x20 away: { key: sk-from-elsewhere-0123456, allow_from: [203.0.113.0/24] }\n\
        \x20 few: { key: sk-restricted-0123456789, models: [another] }\n\
        \x20 slow: { key: sk-one-in-a-second-01234, requests: { rate: 1/s, burst: 1 } }\n";
    for (name, package) in [("openai-sdk", "openai"), ("anthropic-sdk", "anthropic")] {
        let Some(python) = python(name, package) else {
            continue;
        };
        // Each has limits of its own.
        let stage = Stage::start(yaml);
        let base = format!("http://{}", stage.addr());
        let said = run(python, "callers.py", &[package, &base]).await;
        assert!(said.contains("callers: ok"), "{said}");
        stage.stop().await;
    }
}

/// The Python that has this package; `None` if the test is not run.
pub(crate) fn python(name: &str, package: &str) -> Option<String> {
    let python = std::env::var("TOLLGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {package}");
    let importable = || {
        let imported = Command::new(&python).args(["-c", &import]).output();
        imported.is_ok_and(|imported| imported.status.success())
    };
    needs::program(name, importable).then_some(python)
}

/// Runs a script of `tests/sdk`, which is to end well, and gives what it said.
pub(crate) async fn run(python: String, script: &str, args: &[&str]) -> String {
    let script = format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    // What they import stands beside them, and nothing else is to.
    command.arg("-B").arg(script).args(args);
    command.env("NO_PROXY", "127.0.0.1");
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.expect("it does not panic");
    let ran = ran.expect("python has run before");
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{out}\n{err}");
    out.into_owned()
}

/// Runs a script of `tests/sdk` against the demo.
async fn suite(name: &str, package: &str, script: &str) {
    let Some(python) = python(name, package) else {
        return;
    };
    let program = tollgate(["demo"]).on_any_ports().start();
    let [data, _] = program.shown().await;
    let said = run(python, script, &[&format!("http://{data}")]).await;
    assert!(said.contains(" cut: ok"), "{said}");
}
