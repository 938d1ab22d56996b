//! Connections on both sides: kept, reused, replaced; bodies that are relayed while they come.

use tollgate_testing::{
    client::Conn,
    upstream::{Framing, Gate, Reads, Script, Upstream},
};

use super::{BODY, CHAT};
use crate::harness::{Ask, Stage, provider};

const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];
/// The parts of a form up to the bytes of a file.
const START: &str = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\n\
                     Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";

async fn stage() -> (Stage, Upstream) {
    let upstream = Upstream::start().await;
    let providers = provider("p", "openai", &upstream, "/v1", "");
    (
        Stage::start(&format!("version: 1\nproviders:\n{providers}")),
        upstream,
    )
}

/// One more request on a kept connection.
async fn again(conn: &Conn, ask: &Ask<'_>) -> tollgate_testing::client::Message {
    conn.next(ask.method);
    conn.send(ask.bytes()).await.expect("the gateway reads");
    conn.response().await
}

#[tokio::test]
async fn kept_connections_are_reused_on_both_sides() {
    let (stage, upstream) = stage().await;
    upstream.serve(
        "stream",
        Script::events(["data: {}\n\n", "data: [DONE]\n\n"]).end(),
    );
    let conn = stage.connect().await;
    for n in 0..20 {
        let id = format!("again-{n}");
        let script = if n % 2 == 0 { "chat" } else { "stream" };
        let answer = again(
            &conn,
            &Ask {
                script,
                ..Ask::post(&id, CHAT, BODY)
            },
        )
        .await;
        assert_eq!((answer.status(), answer.whole()), (200, true), "{id}");
        assert_eq!(upstream.seen(&id)[0].body, BODY, "{id}");
    }
    assert_eq!(upstream.connections(), 1);
    conn.close().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_pooled_connection_that_the_provider_has_closed_is_replaced_unseen() {
    let (stage, upstream) = stage().await;
    let closing = Script::new()
        .head(
            200,
            &[("content-type", "application/json")],
            Framing::Length(None),
        )
        .body("{}")
        .fin();
    upstream.serve_default(closing);
    let conn = stage.connect().await;
    for n in 0..10 {
        let id = format!("closed-{n}");
        let answer = again(&conn, &Ask::post(&id, CHAT, BODY)).await;
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "{}"),
            "{id}"
        );
        // Its close is on the way before the next request is.
        upstream.finished(&id, 1).await;
        let line = stage.line(&id).await;
        assert_eq!(line["attempts"].as_array().map(Vec::len), Some(1), "{line}");
        assert_eq!(upstream.attempts(&id), 1, "{id}");
    }
    assert_eq!(upstream.connections(), 10);
    conn.close().await;
    stage.stop().await;
}

#[tokio::test]
async fn an_upload_is_relayed_while_it_comes() {
    let (stage, upstream) = stage().await;
    let file = vec![b'x'; 300_000];
    let body = [START.as_bytes(), &file, b"\r\n--b--\r\n"].concat();
    let ask = Ask {
        path: "/v1/audio/transcriptions",
        headers: &FORM,
        ..Ask::post("upload", CHAT, &body)
    };
    upstream.serve("upload", Script::chat("heard").reads(Reads::Whole));
    let conn = stage.open(ask.head(body.len() as u64)).await;
    let (first, second) = body.split_at(100_000);
    conn.send(first).await.expect("the gateway reads");
    let seen = upstream
        .wait_for(|seen| seen.of("upload").any(|it| it.body.len() == first.len()))
        .await;
    assert_eq!(seen.exchanges[0].request_ended, None);
    conn.send(second).await.expect("the gateway reads");
    assert_eq!(conn.response().await.status(), 200);
    let seen = upstream.seen("upload").remove(0);
    assert!(seen.body == body, "{} bytes", seen.body.len());
    assert_eq!(
        seen.header("content-length"),
        Some(&*body.len().to_string())
    );
    let line = stage.line("upload").await;
    assert_eq!(
        (&line["bytes_in"], &line["model"]),
        (&body.len().into(), &"m".into()),
        "{line}"
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_form_goes_where_its_model_is_served() {
    let upstream = Upstream::start().await;
    let stage = Stage::start(&format!(
        "version: 1\nproviders:\n{}{}",
        provider("first", "openai", &upstream, "/v1", ", models: [other]"),
        provider("second", "openai", &upstream, "/v1", ", models: [m]"),
    ));
    for (id, model, status) in [
        ("second", "m", 200),
        ("first", "other", 200),
        ("nobody", "none", 404),
    ] {
        let start = START.replace("\r\n\r\nm\r\n", &format!("\r\n\r\n{model}\r\n"));
        let body = [start.as_bytes(), b"x\r\n--b--\r\n"].concat();
        let path = "/v1/audio/transcriptions";
        let ask = Ask {
            path,
            headers: &FORM,
            ..Ask::post(id, CHAT, &body)
        };
        let answer = stage.ask(&ask).await;
        assert_eq!(answer.status(), status, "{id}: {}", answer.text());
        let line = stage.line(id).await;
        assert_eq!(line["model"], model, "{line}");
        let seen = upstream.seen(id);
        assert_eq!(seen.len(), usize::from(status == 200), "{id}");
        assert!(seen.iter().all(|it| it.body == body), "{id}");
        if status == 200 {
            assert_eq!(line["provider"], id, "{line}");
        }
    }
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let (stage, upstream) = stage().await;
    let gate = Gate::new("the upload has begun");
    let early = Script::new()
        .wait(&gate)
        .head(
            429,
            &[("content-type", "application/json")],
            Framing::Length(None),
        )
        .body(r#"{"error":{"message":"slow down"}}"#)
        .end();
    upstream.serve("early", early.reads(Reads::Beside));
    let ask = Ask {
        path: "/v1/audio/transcriptions",
        headers: &FORM,
        ..Ask::post("early", CHAT, b"")
    };
    let conn = stage.open(ask.head(500_000)).await;
    conn.send(START).await.expect("the gateway reads");
    upstream
        .wait_for(|seen| seen.of("early").any(|it| it.body.len() == START.len()))
        .await;
    gate.open();
    let answer = conn.response().await;
    assert_eq!((answer.status(), answer.whole()), (429, true));
    assert_eq!(answer.text(), r#"{"error":{"message":"slow down"}}"#);
    let line = stage.line("early").await;
    assert_eq!(
        (&line["ended"], &line["status"]),
        (&"complete".into(), &429.into()),
        "{line}"
    );
    assert_eq!(upstream.attempts("early"), 1);
    conn.close().await;
    stage.stop().await;
}

/// F12: the gateway itself asks for the body; a refusal by the head does not.
#[tokio::test]
async fn expectations_are_met_here_and_not_passed_on() {
    let (stage, upstream) = stage().await;
    let headers = [
        ("content-type", "application/json"),
        ("expect", "100-continue"),
    ];
    let ask = Ask {
        headers: &headers,
        ..Ask::post("expect", CHAT, BODY)
    };
    let conn = stage.open(ask.head(BODY.len() as u64)).await;
    assert!(conn.until(|answer| !answer.interim.is_empty()).await);
    assert!(conn.message().interim[0].starts_with("HTTP/1.1 100"));
    assert_eq!(upstream.attempts("expect"), 0);
    conn.send(BODY).await.expect("the gateway reads");
    assert_eq!(conn.response().await.status(), 200);
    let seen = upstream.seen("expect").remove(0);
    assert_eq!((seen.header("expect"), &*seen.body), (None, BODY));
    let ask = Ask {
        headers: &headers,
        ..Ask::post("unexpected", CHAT, b"")
    };
    let conn = stage.open(ask.head(1 << 40)).await;
    let answer = conn.response().await;
    assert_eq!(answer.status(), 413);
    assert!(answer.interim.is_empty(), "{:?}", answer.interim);
    stage.stop().await;
}

/// F11: trailers of a request are dropped, and the body is whole without them.
#[tokio::test]
async fn trailers_of_a_request_go_nowhere() {
    let (stage, upstream) = stage().await;
    let form = [START.as_bytes(), b"x\r\n--b--\r\n"].concat();
    for (id, path, kind, body) in [
        ("json", CHAT, "application/json", BODY),
        ("form", "/v1/audio/transcriptions", FORM[0].1, &form),
    ] {
        let headers = [("content-type", kind), ("trailer", "authorization, x-late")];
        let ask = Ask {
            headers: &headers,
            path,
            ..Ask::post(id, CHAT, b"")
        };
        let head = String::from_utf8(ask.head(0)).expect("ASCII");
        let mut bytes = head
            .replace("content-length: 0", "transfer-encoding: chunked")
            .into_bytes();
        bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n0\r\nauthorization: Bearer sk-evil\r\nx-late: 1\r\n\r\n");
        let conn = stage.open(bytes).await;
        let answer = conn.response().await;
        assert_eq!(answer.status(), 200, "{id}: {}", answer.text());
        let seen = upstream.seen(id).remove(0);
        assert_eq!(seen.body, body, "{id}");
        assert!(
            !String::from_utf8_lossy(&seen.head).contains("sk-evil"),
            "{id}"
        );
        assert_eq!(
            (seen.header("x-late"), seen.header("trailer")),
            (None, None),
            "{id}"
        );
    }
    stage.stop().await;
}

#[tokio::test]
async fn get_and_head_are_relayed_without_a_body() {
    let (stage, upstream) = stage().await;
    let item = "/v1/responses/resp_1?include[]=a%20b";
    for (id, method) in [("get", "GET"), ("head", "HEAD")] {
        // The answer to HEAD has the length of a body that does not come.
        let length = Framing::Length(Some(2));
        let script = Script::new().head(200, &[("content-type", "application/json")], length);
        upstream.serve(
            id,
            if method == "GET" {
                script.body("{}").end()
            } else {
                script.end()
            },
        );
        let answer = stage
            .ask(&Ask {
                method,
                headers: &[],
                ..Ask::post(id, item, b"")
            })
            .await;
        assert_eq!(
            (answer.status(), answer.whole()),
            (200, true),
            "{id}: {answer:?}"
        );
        assert_eq!(
            answer.text(),
            if method == "GET" { "{}" } else { "" },
            "{id}"
        );
        assert_eq!(answer.header("content-length"), Some("2"), "{id}");
        let seen = upstream.seen(id).remove(0);
        assert_eq!(seen.start, format!("{method} {item} HTTP/1.1"));
        let framing = (
            seen.header("content-length"),
            seen.header("transfer-encoding"),
        );
        assert_eq!((framing, seen.body.len()), ((None, None), 0), "{id}");
        assert_eq!(stage.line(id).await["ended"], "complete");
    }
    stage.stop().await;
}
