//! The small commands: a first file, its schema, the probe of containers, completions.

use std::fs;

use tempfile::tempdir;
use tollgate_testing::{
    client::{Conn, call, request},
    upstream::{Script, Upstream},
};

use super::MOCK;
use crate::binary::{CHAT, DEADLINE, chat, serve, tollgate, until};

#[tokio::test]
async fn the_first_file_can_be_checked_and_served_and_is_never_written_over() {
    let folder = tempdir().unwrap();
    let init = |args: &[&'static str]| {
        let args = ["init"].into_iter().chain(args.iter().copied());
        tollgate(args).within(folder.path())
    };
    let file = folder.path().join("tollgate.yaml");
    let made = init(&[])
        .env("ANTHROPIC_API_KEY", "sk-canary-71")
        .run()
        .await;
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.out.contains("tollgate.yaml is written"), "{made:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("\n  anthropic:\n") && text.contains("\n  # openai:\n"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");

    let again = init(&[]).run().await;
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""), "{again:?}");
    assert!(again.err.contains("tollgate.yaml") && again.err.contains("--force"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let forced = init(&["--force"]).run().await;
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_ne!(
        fs::read_to_string(&file).unwrap(),
        text,
        "no key is set now"
    );
    let other = init(&["--config", "other.yaml"]).run().await;
    assert_eq!(
        (other.code, folder.path().join("other.yaml").exists()),
        (Some(0), true)
    );
    let nowhere = init(&["--config", "no/such/folder.yaml"]).run().await;
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");

    let checked = tollgate(["check"]).within(folder.path()).run().await;
    assert_eq!(
        (checked.code, checked.err.as_str()),
        (Some(0), ""),
        "{checked:?}"
    );
    let program = tollgate(["serve"])
        .on_any_ports()
        .within(folder.path())
        .start();
    let answer = call(program.data().await, "POST", CHAT, &[], chat("echo", false)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test]
async fn the_schema_is_json_and_knows_the_keys_that_are_built() {
    let ended = tollgate(["schema"]).run().await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["providers"]));
    for key in [
        "server",
        "admin",
        "providers",
        "aliases",
        "routes",
        "layers",
        "telemetry",
    ] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[tokio::test]
async fn each_shell_has_its_completions() {
    for (shell, part) in [
        ("bash", "complete -F _tollgate"),
        ("zsh", "#compdef tollgate"),
        ("fish", "complete -c tollgate"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let ended = tollgate(["completions", shell]).run().await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{shell}");
        for part in [part, "healthcheck", "config"] {
            assert!(ended.out.contains(part), "{shell}: {part}");
        }
    }
}

#[tokio::test]
async fn the_health_check_follows_readiness() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events(["data: {}\n\n"]).stall());
    let folder = tempdir().unwrap();
    let (file, admin) = (
        folder.path().join("a.yaml"),
        folder.path().join("admin.sock"),
    );
    let text = format!(
        "version: 1\nadmin: {{ listen: \"unix:{}\" }}\n\
         providers: {{ one: {{ dialect: openai, base_url: http://{}/v1, credentials: [] }} }}\n",
        admin.display(),
        upstream.addr()
    );
    fs::write(&file, &text).unwrap();
    let path = file.to_str().unwrap();
    let check = || tollgate(["healthcheck", "--config", path]);
    let dead = check().run().await;
    assert_eq!((dead.code, dead.out.as_str()), (Some(1), ""), "{dead:?}");
    assert!(dead.err.contains("admin.sock"), "{dead:?}");

    let program = tollgate(["serve", "--config", path, "--listen=127.0.0.1:0"]).start();
    let conn = Conn::open(program.data().await).await.deadline(DEADLINE);
    let ready = check().run().await;
    assert_eq!(
        (ready.code, ready.out.as_str()),
        (Some(0), "ready\n"),
        "{ready:?}"
    );
    // The gateway serves what it read, not what stands there now.
    fs::write(&file, format!("{text}nonsense: 1\n")).unwrap();
    assert_eq!(check().run().await.code, Some(0));

    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .unwrap();
    assert!(conn.until(|answer| !answer.body.is_empty()).await);
    program.signal("TERM");
    let draining = until("the drain", async || {
        let ended = check().run().await;
        (ended.code == Some(1)).then_some(ended)
    })
    .await;
    assert!(draining.err.contains("503 draining"), "{draining:?}");
    program.signal("TERM");
    assert_eq!(program.ended().await.code, Some(0));
}

#[tokio::test]
async fn the_health_check_finds_the_admin_listener_or_says_what_it_wants() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, MOCK).unwrap();
    let program = serve(&file).start();
    let admin = program.admin().await.to_string();
    let named = tollgate(["healthcheck", "--admin", &admin]).run().await;
    assert_eq!(named.code, Some(0), "{named:?}");
    let data = program.data().await.to_string();
    let wrong = tollgate(["healthcheck", "--admin", &data]).run().await;
    assert_eq!(
        wrong.code,
        Some(1),
        "the data listener has no such page: {wrong:?}"
    );

    for (listen, told) in [("127.0.0.1:0", "--admin"), ("nonsense", "admin.listen")] {
        fs::write(&file, format!("{MOCK}admin: {{ listen: \"{listen}\" }}\n")).unwrap();
        let ended = tollgate(["healthcheck", "--config", file.to_str().unwrap()])
            .run()
            .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(told), "{ended:?}");
    }
}
