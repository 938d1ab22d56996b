//! How the program ends: running answers may end, a second signal shortens that, and no signal is lost.

use std::{fs, net::SocketAddr};

use tempfile::tempdir;
use tollgate_testing::{
    client::{Conn, call, request},
    upstream::{Gate, Script, Upstream},
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
