//! What a route may say of it, which targets are left to it, and what a request is made to ask for.

use serde_json::Value;
use tollgate_testing::upstream::{Script, Upstream};

use super::{BODY, ask, error, file, folder, upstream};
use crate::harness::{Stage, provider};

/// The body that a provider was sent.
fn sent(upstream: &Upstream, id: &str) -> Value {
    let snapshot = upstream.snapshot();
    let mut exchanges = snapshot.exchanges.iter();
    let exchange = exchanges.find(|it| it.id == id).expect("it was sent");
    serde_json::from_slice(&exchange.body).expect("JSON")
}

/// B07: of two targets one has a price. Under a budget of money only that one is asked, whatever the strategy says and however it
/// fails; without one, both are.
#[tokio::test]
async fn a_target_without_a_price_is_left_out_under_a_budget_of_money() {
    let (priced, odd, dir) = (upstream(3, 1).await, upstream(3, 1).await, folder());
    let text = |terms: &str, more: &str| {
        let (first, second) = (
            provider("odd", "openai", &odd, "/v1", ""),
            provider("acme", "openai", &priced, "/v1", ""),
        );
        let routes = "routes:\n  - { name: r, match: {}, targets: [{ provider: odd, model: nobody-knows }, { provider: acme, model: m1 }] }\n";
        let one = file(&priced, terms, dir.path(), more);
        let (_, rest) = one.split_once("callers:").expect("a file");
        format!("providers:\n{first}{second}callers:{rest}{routes}")
    };
    // By this name nobody has a price.
    let body = br#"{"model":"pick","max_tokens":1,"messages":[]}"#;
    let stage = Stage::start(&text("budget: 100usd/month", ""));
    assert_eq!(ask(&stage, "left", body).await.status(), 200);
    assert_eq!((odd.attempts("left"), priced.attempts("left")), (0, 1));
    // Nor is it the second choice.
    priced.serve("fails", Script::answer(500, "application/json", "{}"));
    assert_eq!(ask(&stage, "fails", body).await.status(), 500);
    assert_eq!(odd.attempts("fails"), 0);
    // What no target has a price for is refused: this one names the other provider.
    let named = br#"{"model":"odd/m2","max_tokens":1,"messages":[]}"#;
    let refused = ask(&stage, "named", named).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(error(&refused)["code"], "model_unpriced");
    assert_eq!(odd.attempts("named"), 0);

    stage.reload(&text(
        "budget: 100usd/month",
        "layers: { budget: { unpriced: free } }\n",
    ));
    assert_eq!(ask(&stage, "free", body).await.status(), 200);
    assert_eq!(odd.attempts("free"), 1);
    stage.reload(&text("tokens: 1M/min", ""));
    assert_eq!(ask(&stage, "tokens", body).await.status(), 200);
    assert_eq!(odd.attempts("tokens"), 1);
    stage.stop().await;
}

/// A route says what happens where it is short, who is free, and whether anything is counted at all; what may be spent is the
/// caller's, whatever way it takes.
#[tokio::test]
async fn a_route_has_a_word_of_its_own() {
    let (upstream, dir) = (upstream(3, 1).await, folder());
    let routes = "routes:
  - { name: lab, match: { model: \"lab*\" }, targets: [acme], layers: { budget: off } }
  - { name: free, match: { model: odd }, targets: [acme], layers: { budget: { unpriced: free } } }
  - { name: less, match: { model: m1, stream: true }, targets: [acme], layers: { budget: { on_short: clamp } } }
  - { name: rest, match: {}, targets: [acme] }
";
    let stage = Stage::start(&file(&upstream, "budget: 3usd/month", dir.path(), routes));
    // Nothing is known of what it costs, and nothing is counted.
    let lab = br#"{"model":"lab-1","max_tokens":1000000,"messages":[]}"#;
    assert_eq!(ask(&stage, "lab", lab).await.status(), 200);
    let odd = br#"{"model":"odd","max_tokens":1,"messages":[]}"#;
    assert_eq!(ask(&stage, "odd", odd).await.status(), 200);
    let dear = br#"{"model":"m1","max_tokens":50,"messages":[]}"#;
    let refused = ask(&stage, "dear", dear).await;
    assert_eq!(error(&refused)["code"], "insufficient_quota");
    assert_eq!(ask(&stage, "one", BODY).await.status(), 200);
    // Two USD are left: it asks for two tokens, and is charged with the one that it got.
    let less = br#"{"model":"m1","stream":true,"max_tokens":50,"messages":[]}"#;
    assert_eq!(ask(&stage, "less", less).await.status(), 200);
    assert_eq!(sent(&upstream, "less")["max_tokens"], 2);
    stage.line("less").await;
    let mut seen = Vec::new();
    for id in ["last", "none"] {
        seen.push(ask(&stage, id, BODY).await.status());
    }
    assert_eq!(seen, [200, 429]);
    stage.stop().await;
}

/// `on_short: clamp` with the cap of `token_cap`, which had put a limit there before.
#[tokio::test]
async fn what_was_inserted_is_lowered_and_nothing_is_left_below_a_token() {
    let (upstream, dir) = (upstream(3, 1).await, folder());
    let more = "layers: { token_cap: { max_tokens: 100 }, budget: { on_short: clamp } }\n";
    let stage = Stage::start(&file(&upstream, "budget: 2usd/month", dir.path(), more));
    let open = br#"{"model":"m1","messages":[]}"#;
    for (id, left) in [("two", 2), ("one", 1)] {
        assert_eq!(ask(&stage, id, open).await.status(), 200, "{id}");
        let body = sent(&upstream, id);
        assert_eq!(body["max_tokens"], left, "{body}");
        assert_eq!(body.as_object().map(|it| it.len()), Some(3));
        stage.line(id).await;
    }
    let refused = ask(&stage, "none", open).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(error(&refused)["code"], "insufficient_quota");
    stage.stop().await;
    assert_eq!(upstream.attempts("none"), 0);
}
