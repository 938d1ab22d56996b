//! `on_short: clamp`: what may cost more than is left asks for less.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, header};
use http_body_util::BodyExt;
use tollgate_testing::body::Script;
use tower::{Service, service_fn};

use super::{ask, money, policy, post, reserved, why};
use crate::{
    body::Held,
    budget::{Budget, BudgetLayer, Ledger, OnShort, Period, Policy, Rate, Reserve, Terms, Usd},
    error::{BoxError, Reason},
    facts::{OutputLimit, Route},
};

const CHAT: &str = "/v1/chat/completions";

fn clamping(terms: Terms) -> Policy {
    Policy {
        on_short: OnShort::Clamp,
        ..policy(terms)
    }
}

/// What is sent, and the limit that goes with it.
type Sent = Arc<Mutex<Vec<(String, Option<OutputLimit>, Option<String>)>>>;

fn inner(
    sent: &Sent,
) -> impl Service<Request<Held<Script>>, Response = Response<Script>, Error = BoxError, Future: Send>
+ Clone
+ use<> {
    let sent = sent.clone();
    service_fn(move |req: Request<Held<Script>>| {
        let sent = sent.clone();
        async move {
            let limit = req.extensions().get::<OutputLimit>().copied();
            let length = req.headers().get(header::CONTENT_LENGTH);
            let length = length.map(|it| it.to_str().unwrap().to_owned());
            let body = req.into_body().collect().await.map_err(|_| "a body")?;
            let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
            sent.lock().unwrap().push((body, limit, length));
            Ok(Response::new(Script::empty()))
        }
    })
}

/// A request of which the route knows the model, wherever it is named.
fn routed(path: &str, body: &str) -> Request<Held<Script>> {
    let mut req = post(path, body);
    let length = body.len().into();
    req.headers_mut().insert(header::CONTENT_LENGTH, length);
    req.extensions_mut().insert(Route {
        name: None,
        model: Some("m".into()),
        pin: None,
    });
    req
}

/// Ten USD are left, and a token costs one: whatever the dialect calls it, the limit is ten, or five for each of two.
#[tokio::test]
async fn the_limit_shrinks_to_what_is_left_in_every_spelling() {
    let rows = [
        (
            CHAT,
            r#"{"model":"m","max_tokens":99}"#,
            r#"{"model":"m","max_tokens":10}"#,
        ),
        (
            CHAT,
            r#"{"model":"m","max_tokens":9}"#,
            r#"{"model":"m","max_tokens":9}"#,
        ),
        (CHAT, r#"{"model":"m"}"#, r#"{"model":"m","max_tokens":10}"#),
        (
            CHAT,
            r#"{"model":"m","n":2}"#,
            r#"{"model":"m","n":2,"max_tokens":5}"#,
        ),
        (
            CHAT,
            r#"{"max_completion_tokens":99,"model":"m","max_tokens":3}"#,
            r#"{"max_completion_tokens":10,"model":"m","max_tokens":3}"#,
        ),
        (
            "/v1/responses",
            r#"{"model":"m","max_output_tokens":null}"#,
            r#"{"model":"m","max_output_tokens":10}"#,
        ),
        (
            "/v1/messages",
            r#"{"max_tokens":1000,"model":"m","thinking":{"type":"enabled","budget_tokens":9}}"#,
            r#"{"max_tokens":10,"model":"m","thinking":{"type":"enabled","budget_tokens":9}}"#,
        ),
        (
            "/v1beta/models/m:generateContent",
            r#"{"generationConfig":{"temperature":1}}"#,
            r#"{"generationConfig":{"temperature":1,"maxOutputTokens":10}}"#,
        ),
        (
            "/api/chat",
            r#"{"model":"m","options":{"num_predict":-1}}"#,
            r#"{"model":"m","options":{"num_predict":10}}"#,
        ),
    ];
    for (path, body, after) in rows {
        let (sent, ledger) = (Sent::default(), Ledger::new(0));
        let layer = BudgetLayer::new(clamping(money(10.0)), ledger.clone());
        let req = routed(path, body);
        let answer = ask(&layer, inner(&sent), req).await.unwrap();
        let (got, limit, length) = sent.lock().unwrap().pop().unwrap();
        assert_eq!(got, after, "{path}");
        assert_eq!(length, Some(after.len().to_string()), "{path}");
        let tokens = if body == after { 9 } else { 10 };
        assert_eq!(reserved(&ledger), Usd::new(f64::from(tokens)), "{body}");
        assert_eq!(
            limit.map(|it| it.tokens),
            (body != after).then_some(10),
            "{body}"
        );
        drop(answer);
        assert_eq!(reserved(&ledger), Usd::ZERO);
    }
}

/// What another layer has put into the body is changed where it stands, and never written a second time.
#[tokio::test]
async fn an_inserted_limit_is_lowered_in_its_place() {
    for (inserted, body) in [
        ("max_tokens", r#"{"model":"m"}"#),
        ("max_completion_tokens", r#"{"model":"m"}"#),
        (
            "max_completion_tokens",
            r#"{"model":"m","max_completion_tokens":null}"#,
        ),
    ] {
        let sent = Sent::default();
        let layer = BudgetLayer::new(clamping(money(10.0)), Ledger::new(0));
        let mut req = post(CHAT, body);
        let null = body.find("null");
        let (at, with) = match null {
            Some(at) => (at..at + 4, "1000".to_owned()),
            None => {
                let end = body.len() - 1;
                (end..end, format!(r#","{inserted}":1000"#))
            }
        };
        req.body_mut().edit(at, with);
        req.extensions_mut().insert(OutputLimit {
            tokens: 1000,
            inserted: Some(inserted),
        });
        ask(&layer, inner(&sent), req).await.unwrap();
        let (got, limit, _) = sent.lock().unwrap().pop().unwrap();
        assert_eq!(got, format!(r#"{{"model":"m","{inserted}":10}}"#));
        let limit = limit.unwrap();
        assert_eq!((limit.tokens, limit.inserted), (10, Some(inserted)));
    }
}

/// Below a token for each alternative, and where a limit would not hold, it is refused as ever.
#[tokio::test]
async fn what_cannot_be_less_is_refused() {
    let rows = [
        (CHAT, r#"{"model":"m","n":11}"#),
        // It may think as much as that.
        (
            "/v1/messages",
            r#"{"model":"m","max_tokens":99,"thinking":{"budget_tokens":10}}"#,
        ),
        // Some would read another member.
        (CHAT, r#"{"model":"m","max_tokens":99,"Max_Tokens":99}"#),
        (CHAT, r#"{"model":"m","max_tokens":"99"}"#),
        // No text, and nobody's words.
        ("/v1/images/generations", r#"{"model":"m","prompt":"x"}"#),
        ("/model/m/invoke", r#"{"prompt":"x"}"#),
    ];
    for (path, body) in rows {
        let (sent, ledger) = (Sent::default(), Ledger::new(0));
        let layer = BudgetLayer::new(clamping(money(10.0)), ledger.clone());
        let answer = ask(&layer, inner(&sent), routed(path, body)).await;
        assert_eq!(why(answer), Reason::InsufficientQuota, "{body}");
        assert_eq!(
            (sent.lock().unwrap().len(), reserved(&ledger)),
            (0, Usd::ZERO)
        );
    }
    let spent = BudgetLayer::new(clamping(money(0.5)), Ledger::new(0));
    let answer = ask(&spent, inner(&Sent::default()), super::chat()).await;
    assert_eq!(
        why(answer),
        Reason::InsufficientQuota,
        "less than a token is left"
    );
}

/// Of tokens, of money and of what all have, the least is what is left.
#[tokio::test]
async fn whatever_is_shortest_decides() {
    let budget = |usd| Budget {
        amount: Usd::new(usd),
        per: Period::Ever,
    };
    // Another one holds 99 tokens and 80 USD.
    let body =
        |output| format!(r#"{{"model":"m","max_tokens":{output},"messages":["0123456789abc"]}}"#);
    for (tokens, own, all, left) in [
        // The 58 bytes of its input are 15 tokens, and a quarter more.
        (130, 170.0, 140.0, 12),
        (400, 100.0, 140.0, 20),
        (400, 170.0, 87.0, 7),
    ] {
        let terms = Terms {
            tokens: Rate::new(tokens, Duration::from_secs(3600)),
            reserve: Reserve::Worst,
            money: Some(budget(own)),
        };
        let policy = Policy {
            global: Some(budget(all)),
            ..clamping(terms)
        };
        let sent = Sent::default();
        let layer = BudgetLayer::new(policy, Ledger::new(0));
        let _held = ask(&layer, inner(&sent), post(CHAT, &body(80)))
            .await
            .unwrap();
        ask(&layer, inner(&sent), post(CHAT, &body(99)))
            .await
            .unwrap();
        let (_, limit, _) = sent.lock().unwrap().pop().unwrap();
        assert_eq!(limit.map(|it| it.tokens), Some(left));
    }
}
