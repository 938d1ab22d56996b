//! `check` says everything that is wrong, where it stands and what to do; and what is broken is not served.

use std::{fs, net::TcpListener, path::PathBuf};

use tempfile::{TempDir, tempdir};

use super::MOCK;
use crate::binary::{Ended, tollgate};

/// Four problems, and a secret on one of their lines.
const BROKEN: &str = "version: 1
server: { lisen: 127.0.0.1:0 }
providers:
  one: { dialect: opnai, base_url: http://127.0.0.1:1/v1, credentials: [sk-hidden-0123456789] }
routes:
  - { name: all, match: {}, targets: [won] }
layers: { retry: { attempts: 2 } }
";

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, text).expect("written");
    (folder, path)
}

async fn check(text: &str, more: &[&str]) -> Ended {
    let (_folder, path) = file(text);
    let args = [
        "check",
        "--config",
        path.to_str().expect("a path of ours is text"),
    ];
    tollgate(args.into_iter().chain(more.iter().copied()))
        .run()
        .await
}

#[tokio::test]
async fn a_good_file_is_summed_up() {
    let ended = check(MOCK, &[]).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    for part in [
        "listens on 127.0.0.1:8080",
        "provider mock",
        "route all: everything -> mock",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
}

#[tokio::test]
async fn every_problem_is_told_at_once_with_its_place_and_a_remedy() {
    let ended = check(BROKEN, &[]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    for part in [
        "gateway.yaml:2:11",
        "unknown key `lisen`",
        "did you mean `listen`?",
        "2 | server: { lisen: 127.0.0.1:0 }",
        "^^^^^",
        "gateway.yaml:4:19",
        "did you mean `openai`?",
        "gateway.yaml:6:39",
        "`won`, which is not defined",
        "gateway.yaml:7:11",
        "`layers.retry` is not built yet",
        "4 errors, 0 warnings",
    ] {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
    assert!(!ended.err.contains("sk-hidden"), "{}", ended.err);
}

#[tokio::test]
async fn the_result_is_json_for_programs() {
    let good = check(MOCK, &["--format", "json"]).await;
    assert_eq!((good.code, good.out.trim()), (Some(0), "[]"));

    let broken = check(BROKEN, &["--format=json"]).await;
    assert_eq!((broken.code, broken.err.as_str()), (Some(1), ""));
    let problems: serde_json::Value = serde_json::from_str(&broken.out).unwrap();
    let first = &problems[0];
    assert_eq!(problems.as_array().map(Vec::len), Some(4), "{problems}");
    assert_eq!((&first["line"], &first["column"]), (&2.into(), &11.into()));
    assert_eq!(first["path"], "server.lisen");
    assert_eq!(first["remedy"], "did you mean `listen`?");
    assert!(!broken.out.contains("sk-hidden"), "{}", broken.out);
}

#[tokio::test]
async fn a_file_that_is_not_there_or_no_yaml_is_told_by_its_name() {
    let missing = tollgate(["check", "--config", "no-such.yaml"]).run().await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("no-such.yaml") && missing.err.contains("cannot be read"));
    let torn = check("providers: { a: [", &[]).await;
    assert_eq!(torn.code, Some(1), "{torn:?}");
    assert!(torn.err.contains("gateway.yaml:1:"), "{}", torn.err);
}

#[tokio::test]
async fn what_is_broken_is_not_served_and_binds_nothing() {
    // Whoever tried to bind this port would say that it is taken.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let (_folder, path) = file(BROKEN);
    for command in ["serve", "explain"] {
        let start = tollgate([command, "--config", path.to_str().unwrap()]);
        let start = match command {
            "serve" => start
                .arg("--listen")
                .arg(&address)
                .arg("--admin=127.0.0.1:0"),
            _ => start.arg("--model=echo"),
        };
        let ended = start.run().await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains("4 errors"), "{}", ended.err);
        for word in ["taken", "listening", "sk-hidden"] {
            assert!(!ended.err.contains(word), "{word}: {}", ended.err);
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_a_problem_of_the_file() {
    let text = "version: 1
providers:
  one: { dialect: openai, base_url: https://127.0.0.1:1/v1, credentials: [], tls: { ca: /nonexistent/ca.pem } }
";
    let ended = check(text, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("/nonexistent/ca.pem"), "{}", ended.err);
    let ended = check(text, &["--format=json"]).await;
    let problems: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert!(
        problems[0]["message"].to_string().contains("ca.pem"),
        "{problems}"
    );
}
