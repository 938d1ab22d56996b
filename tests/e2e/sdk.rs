//! The providers' own SDKs speak to the gateway by base URL only.

use std::process::Command;

use tollgate_testing::needs;

use crate::binary::tollgate;

#[tokio::test]
async fn openai_python_is_served_and_sees_a_cut() {
    suite("openai-sdk", "openai", "openai_sdk.py").await;
}

#[tokio::test]
async fn anthropic_python_is_served_and_sees_a_cut() {
    suite("anthropic-sdk", "anthropic", "anthropic_sdk.py").await;
}

/// Runs a script of `tests/sdk` against the demo.
async fn suite(name: &str, package: &str, script: &str) {
    let python = std::env::var("TOLLGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = format!("import {package}");
    let importable = || {
        let imported = Command::new(&python).args(["-c", &import]).output();
        imported.is_ok_and(|imported| imported.status.success())
    };
    if !needs::program(name, importable) {
        return;
    }
    let program = tollgate(["demo"]).on_any_ports().start();
    let [data, _] = program.shown().await;
    let script = format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(&python)
        .args([&script, &format!("http://{data}")])
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("it has just run");
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{out}\n{err}\n{}", program.said().err);
    assert!(out.contains(" cut: ok"), "{out}");
}
