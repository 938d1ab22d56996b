//! O06: what becomes of the file between two reloads: broken, gone, replaced, half written.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    time::Duration,
};

use super::*;

/// Whatever is broken is told with all of its problems, counted, and changes nothing.
#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    let broken = [
        ("", "the file is empty"),
        ("version: 1\nproviders: [", "gateway.yaml:2:"),
        ("version: 1\nproviderz: {}\n", "did you mean `providers`?"),
        ("\u{0}\u{1}", "error"),
        (&"version: 1\n".repeat(2), "version"),
    ];
    for (count, (text, told)) in broken.into_iter().enumerate() {
        served.write(text);
        let answer = served.reload().await;
        assert_eq!(answer.status(), 400, "{text:?}: {}", shown(&answer));
        let said = answer.text();
        assert!(
            said.contains(told) && said.contains("left as it is"),
            "{text:?}: {said}"
        );
        served.hang_up().await;
        assert_eq!(
            served.metric("tollgate_reload_failed_total").await,
            2 * (count as u64 + 1)
        );
        assert_eq!(
            served
                .metric("tollgate_config_last_reload_successful")
                .await,
            0
        );
        assert_eq!(served.ask().await.status(), 200);
    }
    let two = "version: 1\nnonsense_one: 1\nnonsense_two: 1\nproviders: { a: { dialect: nonsense_three } }\n";
    served.write(two);
    let said = served.reload().await.text();
    for problem in ["nonsense_one", "nonsense_two", "nonsense_three", "3 errors"] {
        assert!(said.contains(problem), "{problem}: {said}");
    }
    assert!(
        upstream
            .snapshot()
            .exchanges
            .iter()
            .all(|it| numbers(it) == [1])
    );
    assert_eq!(served.metric("tollgate_generation").await, 1);

    served.write(&numbered(&upstream, 2));
    assert_eq!(served.reload().await.status(), 200);
    assert_eq!(
        served
            .metric("tollgate_config_last_reload_successful")
            .await,
        1
    );
    let ended = served.program.terminate().await;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.err.contains("not reloaded") && ended.err.contains("did you mean `providers`?"),
        "{}",
        ended.err
    );
}

/// As mounted ConfigMaps do it: the file is a link into a folder that is itself a link, which is replaced.
#[tokio::test]
async fn a_file_behind_replaced_links_is_followed_and_a_missing_one_changes_nothing() {
    let upstream = Upstream::start().await;
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for number in [1, 2, 3] {
        let version = at(&format!("..{number}"));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("gateway.yaml"), numbered(&upstream, number)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/gateway.yaml", at("gateway.yaml")).unwrap();
    let served = Served {
        file: at("gateway.yaml"),
        program: serve(&at("gateway.yaml")).start(),
        _folder: folder,
    };
    let swap = |number: u32| {
        let data = served.file.with_file_name("..data");
        let next = served.file.with_file_name("..next");
        symlink(format!("..{number}"), &next).unwrap();
        fs::rename(next, data).unwrap();
    };
    assert_eq!(served.ask().await.status(), 200);
    swap(2);
    served.hang_up().await;
    assert_eq!(served.ask().await.status(), 200);
    // The folder behind the links is gone, and then there again.
    swap(9);
    let answer = served.reload().await;
    assert_eq!(answer.status(), 400, "{}", shown(&answer));
    assert!(
        answer.text().contains("cannot be read"),
        "{}",
        shown(&answer)
    );
    assert_eq!(served.ask().await.status(), 200);
    swap(3);
    served.hang_up().await;
    assert_eq!(served.ask().await.status(), 200);
    let met: Vec<_> = upstream.snapshot().exchanges.iter().map(numbers).collect();
    assert_eq!(met, [[1], [2], [2], [3]]);
}

#[tokio::test]
async fn what_cannot_be_read_changes_nothing() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    fs::remove_file(&served.file).unwrap();
    served.hang_up().await;
    fs::create_dir(&served.file).unwrap();
    assert_eq!(served.reload().await.status(), 400);
    fs::remove_dir(&served.file).unwrap();
    served.write(&numbered(&upstream, 2));
    fs::set_permissions(&served.file, fs::Permissions::from_mode(0o0)).unwrap();
    // Root may read what nobody may.
    if fs::read(&served.file).is_err() {
        assert_eq!(served.reload().await.status(), 400);
    }
    assert_eq!(served.ask().await.status(), 200);
    fs::set_permissions(&served.file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(served.reload().await.status(), 200);
    assert_eq!(served.ask().await.status(), 200);
    let met: Vec<_> = upstream.snapshot().exchanges.iter().map(numbers).collect();
    assert_eq!(met, [[1], [2]]);
}

/// Ten changes with a signal each, faster than they can be read: the last one is in force at the end.
#[tokio::test]
async fn what_was_written_last_is_in_force_at_the_end() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    for number in 2..=11 {
        let text = numbered(&upstream, number);
        // Half of it, and the rest a moment later.
        let (half, _) = text.split_at(text.len() / 2);
        served.write(half);
        served.program.signal("HUP");
        served.write(&text);
        served.program.signal("HUP");
    }
    until("the last change", async || {
        let admin = served.program.admin().await;
        let config = call(admin, "GET", "/config", &[], "").await.text();
        config.contains("route-gen11").then_some(())
    })
    .await;
    assert_eq!(served.ask().await.status(), 200);
    assert_eq!(numbers(upstream.snapshot().exchanges.last().unwrap()), [11]);
}

/// A file that is a pipe holds the reload up, and nothing else.
#[tokio::test]
async fn a_file_system_that_hangs_holds_nothing_up_but_the_reload() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    let admin = served.program.admin().await;
    fs::remove_file(&served.file).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(&served.file)
        .status()
        .unwrap();
    assert!(made.success());
    served.program.signal("HUP");
    let hanging = Conn::open(admin).await.deadline(DEADLINE);
    hanging
        .send(request("POST", "/reload", &[], ""))
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(call(admin, "GET", "/readyz", &[], "").await.status(), 200);
        assert_eq!(served.ask().await.status(), 200);
    }
    assert!(hanging.message().head.is_empty());
    served.program.signal("TERM");
    let ended = served.program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn what_only_a_start_can_change_is_refused_by_name() {
    let upstream = Upstream::start().await;
    let served = Served::start(&numbered(&upstream, 1)).await;
    for (from, to, key) in [
        ("workers: 2", "workers: 1", "`server.workers`"),
        (
            "workers: 2",
            "workers: 2, runtime: multi_thread",
            "`server.runtime`",
        ),
        (
            "workers: 2",
            "workers: 2, limits: { connections: 99 }",
            "`server.limits.connections`",
        ),
        (
            "version: 1",
            "version: 1\ntelemetry: { log: { to: stderr } }",
            "`telemetry.log.to`",
        ),
    ] {
        served.write(&numbered(&upstream, 2).replace(from, to));
        let answer = served.reload().await;
        assert_eq!(answer.status(), 400, "{to}: {}", shown(&answer));
        let text = answer.text();
        assert!(
            text.contains(key) && text.contains("restart"),
            "{to}: {text}"
        );
    }
    assert_eq!(served.ask().await.status(), 200);
    assert_eq!(numbers(&upstream.snapshot().exchanges[0]), [1]);
    // The drain is one that a reload can change: ten minutes at the start, one second now.
    served.write(&numbered(&upstream, 1));
    assert_eq!(served.reload().await.status(), 200);
    upstream.serve_default(Script::events(["data: {}\n\n"]).stall());
    let conn = Conn::open(served.program.data().await)
        .await
        .deadline(DEADLINE);
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .unwrap();
    assert!(conn.until(|answer| !answer.body.is_empty()).await);
    let began = tokio::time::Instant::now();
    served.program.signal("TERM");
    assert!(!conn.response().await.whole());
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!(served.program.ended().await.code, Some(0));
}
