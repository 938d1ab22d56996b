//! What was thrown away: in the log, and in tokens and money in the metrics.

use super::*;

const ERROR: &str =
    r#"{"error":{"message":"boom"},"usage":{"prompt_tokens":1000000,"completion_tokens":200000}}"#;
const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":1}}"#;

/// Two providers of one priced model; the second one answers.
async fn pair() -> (Upstream, Upstream, Inside) {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    let provider = |upstream: &Upstream| {
        let addr = upstream.addr();
        format!("{{ dialect: openai, base_url: \"http://{addr}/v1\", credentials: [] }}")
    };
    let text = format!(
        "version: 1\nserver: {{ workers: 1 }}\nproviders:\n  first: {}\n  second: {}\n\
         routes: [{{ name: both, match: {{}}, targets: [first, second] }}]\n\
         prices: {{ overrides: {{ m: {{ input: 0.5, output: 1.5 }} }} }}\n",
        provider(&first),
        provider(&second)
    );
    second.serve_default(Script::answer(200, "application/json", ANSWER));
    (first, second, Inside::start(&config(&text)))
}

#[tokio::test]
async fn an_error_that_was_thrown_away_tells_what_it_used() {
    let (first, second, inside) = pair().await;
    first.serve_default(Script::answer(500, "application/json", ERROR));
    let answer = call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, ANSWER));
    let line = line(&inside).await;
    assert_eq!(
        line["waste"],
        json!({"prompt": 1_000_000, "completion": 200_000})
    );
    // It is charged to nobody.
    assert_eq!(
        line["charged"],
        json!({"prompt": 7, "completion": 1, "source": "provider"})
    );
    let metrics = until("the metrics of the request", async || {
        let page = call(inside.admin(), "GET", "/metrics", &[], "").await;
        let page = page.text();
        page.contains("tollgate_failovers_total").then_some(page)
    })
    .await;
    for line in [
        r#"tollgate_waste_tokens_total{provider="first",model="m",direction="input"} 1000000"#,
        r#"tollgate_waste_tokens_total{provider="first",model="m",direction="output"} 200000"#,
        r#"tollgate_waste_cost_usd_total{provider="first",model="m"} 0.8"#,
        r#"tollgate_tokens_total{provider="second",model="m",direction="input",source="reported"} 7"#,
        r#"tollgate_upstream_attempts_total{provider="first",reason="5xx"} 1"#,
        r#"tollgate_upstream_attempts_total{provider="second",reason="ok"} 1"#,
        r#"tollgate_failovers_total{from="first",to="second"} 1"#,
        r#"tollgate_connections{side="upstream"} 2"#,
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    // What was read to its end serves again: no second connection is made.
    call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
    let connections = [&first, &second].map(|it| it.snapshot().connections);
    assert_eq!(connections, [1, 1]);
}

/// The error's body does not come; nobody waits for it.
#[tokio::test]
async fn an_error_whose_body_does_not_come_is_not_waited_for() {
    let (first, _second, inside) = pair().await;
    let gate = Gate::new("never");
    let head = [("content-type", "application/json")];
    first.serve_default(
        Script::new()
            .head(500, &head, Framing::Length(Some(ERROR.len() as u64)))
            .wait(&gate)
            .body(ERROR)
            .end(),
    );
    let answer = call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
    assert_eq!(answer.text(), ANSWER);
    assert_eq!(
        line(&inside).await["waste"],
        json!({"prompt": 0, "completion": 0})
    );
}

/// A delivered error says what it used, and that is charged; without a report it costs nothing.
#[tokio::test]
async fn an_error_that_is_the_answer_is_charged_as_it_says() {
    for (body, usage, charged) in [
        (
            ERROR,
            json!(1_000_000),
            json!({"prompt": 1_000_000, "completion": 200_000, "source": "provider"}),
        ),
        (
            r#"{"error":{}}"#,
            Value::Null,
            json!({"prompt": 0, "completion": 0, "source": "none"}),
        ),
    ] {
        let upstream = Upstream::start().await;
        upstream.serve_default(Script::answer(500, "application/json", body));
        let inside = Inside::start(&config(&one(upstream.addr(), "layers: { retry: off }")));
        let answer = call(inside.data(), "POST", CHAT, &[], chat("m", false)).await;
        assert_eq!((answer.status(), answer.text().as_str()), (500, body));
        let line = line(&inside).await;
        assert_eq!(line["usage"]["prompt"], usage, "{line}");
        assert_eq!(line["charged"], charged, "{line}");
        assert_eq!(line["ended"], "complete", "{line}");
    }
}
