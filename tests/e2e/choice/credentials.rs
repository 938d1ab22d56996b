//! Which of several credentials is sent, and whose limit binds whom.

use tollgate_testing::upstream::{Plan, Upstream};

use super::{BODY, CHAT, Pair, failing, fine, said};
use crate::harness::{Ask, Stage};

/// Several credentials of one provider: a refused one is followed by another, and parked.
#[tokio::test]
async fn credentials_are_rotated_and_a_refused_one_is_parked() {
    let pair = Pair::with_keys(
        "{ name: bad, key: k-bad-000001 }, { name: good, key: k-good-00001 }",
        "k-second-001",
        "targets: [first]",
        "",
    )
    .await;
    pair.first.serve_default(Plan::by(|seen| {
        let bad = seen.header("authorization") == Some("Bearer k-bad-000001");
        if bad { failing(401) } else { fine() }
    }));
    for id in ["one", "two", "three"] {
        assert_eq!(pair.ask(id).await.status(), 200);
    }
    let all: usize = ["one", "two", "three"]
        .iter()
        .map(|id| pair.asked(id).0)
        .sum();
    assert_eq!(all, 4, "one of them met the bad one, and none after it");
    let one = pair.stage.line("one").await;
    assert_eq!(one["attempts"].as_array().map(Vec::len), Some(2));
    pair.stage.stop().await;
}

/// A caller's own credential, and a target's.
#[tokio::test]
async fn a_credential_is_pinned_by_a_target_and_by_a_caller() {
    let keys =
        "k-usual-0001, { name: spare, key: k-spare-0001 }, { name: team, key: k-team-00001 }";
    let pair = Pair::with_keys(
        keys,
        "k-second-001",
        "targets: [{ provider: first, credential: spare }]",
        "callers:\n  a: { key: sk-caller-a-000000000001, credential: team }\n  b: { key: sk-caller-b-000000000001 }\n",
    )
    .await;
    pair.first.serve_default(fine());
    for (id, key, sent) in [
        ("a", "sk-caller-a-000000000001", "Bearer k-team-00001"),
        ("b", "sk-caller-b-000000000001", "Bearer k-spare-0001"),
    ] {
        assert_eq!(pair.stage.ask_by(id, key, BODY).await.status(), 200);
        assert_eq!(
            pair.first.finished(id, 1).await.header("authorization"),
            Some(sent)
        );
    }
    pair.stage.stop().await;
}

/// A caller's own credential is never parked: who has to wait is one caller, and the next one begins where it would have.
#[tokio::test]
async fn a_limit_of_a_caller_s_own_credential_is_nobody_else_s() {
    let upstream = Upstream::start().await;
    upstream.serve_default(Plan::by(|seen| {
        let limited = seen.target().starts_with("/one/")
            && seen.header("authorization") == Some("Bearer their-own-key-a");
        if limited {
            said(429, &[("retry-after", "300")])
        } else {
            fine()
        }
    }));
    let provider = |name: &str| {
        let port = upstream.port();
        format!(
            "  {name}: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/{name}/v1\", credentials: passthrough }}\n"
        )
    };
    let stage = Stage::start(&format!(
        "providers:\n{}{}routes: [{{ name: r, match: {{}}, targets: [one, two] }}]\n",
        provider("one"),
        provider("two")
    ));
    for (id, key, paths) in [
        (
            "a",
            "Bearer their-own-key-a",
            &["/one/v1/chat/completions", "/two/v1/chat/completions"][..],
        ),
        (
            "b",
            "Bearer their-own-key-b",
            &["/one/v1/chat/completions"][..],
        ),
    ] {
        let headers = [("content-type", "application/json"), ("authorization", key)];
        let ask = Ask {
            headers: &headers,
            ..Ask::post(id, CHAT, BODY)
        };
        assert_eq!(stage.ask(&ask).await.status(), 200, "{id}");
        let asked = upstream.seen(id);
        let asked: Vec<_> = asked.iter().map(|it| it.target()).collect();
        assert_eq!(asked, paths, "{id}");
    }
    stage.stop().await;
}
