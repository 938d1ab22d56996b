//! How the program ends: running answers may end, a second signal shortens that, and no signal is lost.

use std::{fs, net::SocketAddr};

use tempfile::tempdir;
use tollgate_testing::{
    client::{Conn, call, request},
    upstream::{Framing, Gate, SCRIPT, Script, Upstream},
};

use crate::binary::{CHAT, Program, chat, over_unix, serve, shown, tollgate, until};

const EVENT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";

/// A gateway in front of `upstream`, and a stream through it whose first event has arrived.
async fn streaming(upstream: &Upstream) -> (Program, Conn) {
    let folder = tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.yaml");
    let text = format!(
        "version: 1\nproviders: {{ one: {{ dialect: openai, base_url: http://{}/v1, credentials: [] }} }}\n\
         routes: [{{ name: all, match: {{}}, targets: [one] }}]\n",
        upstream.addr()
    );
    fs::write(&path, text).expect("written");
    let program = serve(&path).start();
    let conn = Conn::open(program.data().await)
        .await
        .deadline(crate::binary::DEADLINE);
    conn.send(request("POST", CHAT, &[], chat("m", true)))
        .await
        .expect("it is taken");
    assert!(conn.until(|message| message.body == EVENT.as_bytes()).await);
    (program, conn)
}

async fn draining(admin: SocketAddr) {
    until("readiness to go", async || {
        let ready = call(admin, "GET", "/readyz", &[], "").await;
        (ready.status() == 503 && ready.text() == "draining").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_within_the_drain_ends_well_and_the_program_with_0() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::start().await;
        let gate = Gate::new("drain");
        upstream.serve_default(
            Script::events([EVENT])
                .wait(&gate)
                .body("data: [DONE]\n\n")
                .end(),
        );
        let (program, conn) = streaming(&upstream).await;
        let (data, admin) = (program.data().await, program.admin().await);

        program.signal(signal);
        draining(admin).await;
        until("the data listener to close", async || {
            tokio::net::TcpStream::connect(data).await.err()
        })
        .await;
        gate.open();
        let answer = conn.response().await;
        assert!(
            answer.whole() && answer.text().ends_with("[DONE]\n\n"),
            "{}",
            shown(&answer)
        );

        let ended = program.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("drained cut=0"), "{}", ended.err);
        let line: serde_json::Value = serde_json::from_str(ended.out.trim()).unwrap();
        assert_eq!(line["ended"], "complete", "{line}");
    }
}

/// Without the second signal the drain would take its ten minutes.
#[tokio::test]
async fn a_second_signal_shortens_the_drain_and_what_is_cut_is_told() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events([EVENT]).stall());
    let (program, conn) = streaming(&upstream).await;

    program.signal("TERM");
    draining(program.admin().await).await;
    program.signal("INT");
    let answer = conn.response().await;
    assert!(!answer.whole(), "a cut ended cleanly: {}", shown(&answer));
    assert!(answer.text().contains("\"error\""), "{}", shown(&answer));

    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("drained cut=1"), "{}", ended.err);
    let line: serde_json::Value = serde_json::from_str(ended.out.trim()).unwrap();
    assert_eq!(line["ended"], "drain", "{line}");
    assert!(upstream.finished("", 1).await.peer_closed.is_some());
}

/// The signal comes as soon as anybody can know that the program runs.
#[tokio::test]
async fn a_signal_right_after_the_first_answer_is_not_lost() {
    for round in 0..5 {
        let folder = tempdir().unwrap();
        let data = folder.path().join("data.sock");
        let listen = format!("unix:{}", data.display());
        let start = match round % 2 {
            0 => tollgate(["demo", "--quiet", "--admin=127.0.0.1:0"]),
            _ => tollgate(["mock"]),
        };
        let program = start.arg("--listen").arg(&listen).start();
        let answer = over_unix(&data, &request("POST", CHAT, &[], chat("echo", true))).await;
        assert!(answer.whole(), "{}", shown(&answer));
        let ended = program.terminate().await;
        assert_eq!(ended.code, Some(0), "round {round}: {ended:?}");
        assert!(
            ended.err.contains("drained cut=0"),
            "round {round}: {ended:?}"
        );
    }
}

/// `drain.delay`: not ready at once, and still served; then nobody can connect.
#[tokio::test]
async fn connections_are_taken_during_the_delay_and_what_runs_then_ends_well() {
    let upstream = Upstream::start().await;
    let gate = Gate::new("the delay is over");
    upstream.serve(
        "held",
        Script::new()
            .wait(&gate)
            .head(200, &[], Framing::Length(None))
            .body("{}")
            .end(),
    );
    let folder = tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let text = format!(
        "version: 1\nserver: {{ workers: 2, drain: {{ delay: 2s, timeout: 600s }} }}\n\
         providers: {{ one: {{ dialect: openai, base_url: http://{}/v1, credentials: [] }} }}\n",
        upstream.addr()
    );
    fs::write(&path, text).unwrap();
    let program = serve(&path).start();
    let (data, admin) = (program.data().await, program.admin().await);
    let kept = Conn::open(data).await.deadline(crate::binary::DEADLINE);
    program.signal("TERM");
    draining(admin).await;
    // Old connections and new ones.
    kept.send(request("POST", CHAT, &[], chat("m", false)))
        .await
        .unwrap();
    assert_eq!(kept.response().await.status(), 200);
    let answer = call(data, "POST", CHAT, &[], chat("m", false)).await;
    assert_eq!(answer.status(), 200, "{}", shown(&answer));
    let held = Conn::open(data).await.deadline(crate::binary::DEADLINE);
    held.send(request("POST", CHAT, &[(SCRIPT, "held")], chat("m", false)))
        .await
        .unwrap();
    gate.reached(1).await;

    until("the data listener to close", async || {
        tokio::net::TcpStream::connect(data).await.err()
    })
    .await;
    assert!(
        !kept.closed().await.reset,
        "a connection without a request ends by a FIN"
    );
    assert_eq!(call(admin, "GET", "/livez", &[], "").await.status(), 200);
    gate.open();
    let answer = held.response().await;
    assert!(
        answer.whole() && answer.status() == 200,
        "{}",
        shown(&answer)
    );
    assert_eq!(
        answer.header("connection"),
        Some("close"),
        "{}",
        shown(&answer)
    );
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let complete = ended
        .out
        .lines()
        .filter(|line| line.contains(r#""ended":"complete""#));
    assert_eq!(complete.count(), 3, "{}", ended.out);
}

/// Only signals are counted: a hook may ask for the drain before the first one comes.
#[tokio::test]
async fn a_drain_that_was_asked_for_is_that_of_the_first_signal() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Script::events([EVENT]).stall());
    let (program, conn) = streaming(&upstream).await;
    let admin = program.admin().await;
    for _ in 0..2 {
        let asked = call(admin, "POST", "/drain", &[], "").await;
        assert_eq!((asked.status(), asked.text().as_str()), (202, "draining"));
    }
    draining(admin).await;
    let hurries = |err: &str| err.matches("another signal").count();
    program.signal("TERM");
    program
        .until(|said| said.err.contains("draining").then_some(()))
        .await;
    assert_eq!(hurries(&program.said().err), 0);
    assert!(conn.message().ended.is_none());
    program.signal("TERM");
    program
        .until(|said| (hurries(&said.err) == 1).then_some(()))
        .await;
    assert!(!conn.response().await.whole());
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("drained cut=1"), "{}", ended.err);
}

/// Without any signal the program ends when all has ended.
#[tokio::test]
async fn a_drain_that_was_asked_for_ends_the_program() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, super::MOCK).unwrap();
    let program = serve(&path).start();
    let asked = call(program.admin().await, "POST", "/drain", &[], "").await;
    assert_eq!(asked.status(), 202);
    let ended = program.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("drained cut=0"), "{}", ended.err);
}
