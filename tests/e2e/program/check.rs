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
telemetry: { traces: { sample: 10% } }
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
        "gateway.yaml:7:14",
        "`telemetry.traces` is not built yet",
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

/// O04: what is no configuration at all, a hundred megabytes of it too.
#[tokio::test]
async fn what_is_no_text_or_too_much_of_it_is_not_served_and_binds_nothing() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let folder = tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let utf16: Vec<u8> = format!("\u{feff}{MOCK}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let program = [
        &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0"[..],
        &[0xff; 300],
    ]
    .concat();
    for (bytes, length, why) in [
        (MOCK.as_bytes(), 100 << 20, "larger than 1048576 bytes"),
        (MOCK.as_bytes(), (1 << 20) + 1, "larger than 1048576 bytes"),
        (MOCK.as_bytes(), 1000, "control character"),
        (&program, program.len(), "not UTF-8"),
        (&utf16, utf16.len(), "not UTF-8"),
    ] {
        // What is longer than the bytes is zeroes, which take no room.
        fs::write(&path, bytes).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length as u64).unwrap();
        let start = tollgate(["serve", "--config", path.to_str().unwrap()]);
        let start = start
            .arg("--listen")
            .arg(&address)
            .arg("--admin=127.0.0.1:0");
        let ended = start.run().await;
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(1), ""),
            "{why}: {ended:?}"
        );
        assert!(
            ended.err.contains("gateway.yaml") && ended.err.contains(why),
            "{why}: {}",
            ended.err
        );
        assert!(
            !ended.err.contains("taken") && !ended.err.contains("listening"),
            "{}",
            ended.err
        );
        assert!(ended.err.len() < 1000, "{}", ended.err);
    }
}

#[tokio::test]
async fn certificates_are_read_all_at_once_and_told_beside_what_else_is_wrong() {
    let text = "version: 1
server: { tls: { cert: /nonexistent/c.pem, key: /nonexistent/k.pem, client_ca: /nonexistent/clients.pem } }
providers:
  one: { dialect: openai, base_url: https://127.0.0.1:1/v1, credentials: [], tls: { ca: /nonexistent/one.pem } }
  two:
    dialect: openai
    base_url: https://127.0.0.1:2/v1
    credentials: []
    tls: { ca: /nonexistent/two.pem, cert: /nonexistent/mine.pem, key: /nonexistent/key.pem }
nonsense: 1
";
    let ended = check(text, &["--format=json"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let problems: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let mut told: Vec<_> = problems
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["severity"] == "error")
        .map(|it| (it["line"].as_u64().unwrap(), it["path"].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    let expected = [
        (2, "server.tls.cert"),
        (2, "server.tls.client_ca"),
        (2, "server.tls.key"),
        (4, "providers.one.tls.ca"),
        (9, "providers.two.tls.ca"),
        (9, "providers.two.tls.cert"),
        (10, "nonsense"),
    ];
    assert_eq!(told, expected, "{}", ended.out);
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
