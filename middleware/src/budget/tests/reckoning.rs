//! What a request is reckoned up to, and why.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use tollgate_testing::body::Script;
use tower::service_fn;

use super::{ask, money, policy, post, why};
use crate::{
    body::Held,
    budget::{Bound, BudgetLayer, Ledger, Offer, Policy, Terms, USUAL_OUTPUT, Unpriced, Usd},
    error::{BoxError, Reason},
    estimate::{Estimator, Family, Side},
    facts::{Caller, Intent, OutputLimit, PricedOnly},
    prices::Price,
};

const CHAT: &str = "/v1/chat/completions";

/// A price that nobody minds, and an answer that is at most so long.
fn of(max_output: Option<u64>) -> Price {
    Price {
        input: 1.0,
        output: 2.0,
        max_output,
        ..Price::default()
    }
}

fn offering(terms: Terms, offers: Vec<Offer>) -> Policy {
    Policy {
        offers: Some(Arc::new(move |_| offers.clone())),
        ..policy(terms)
    }
}

fn priced(price: Price) -> Offer {
    Offer {
        model: Some("m".into()),
        price: Some(price),
    }
}

fn output(policy: &Policy, path: &str, body: &str) -> Option<(u64, Bound)> {
    let reckoned = policy.reckon(&post(path, body)).unwrap();
    reckoned.expect("it is billed").dearest().output
}

/// B07: a limit of the request, else the model's own, else the usual one; for each alternative.
#[test]
fn output_is_what_the_request_says_else_the_table_else_the_usual() {
    let known = offering(money(1e6), vec![priced(of(Some(9000)))]);
    let unknown = offering(money(1e6), vec![priced(of(None))]);
    let rows = [
        (
            &known,
            r#"{"model":"m","max_tokens":7,"n":2}"#,
            14,
            Bound::Request,
        ),
        (&known, r#"{"model":"m","n":2}"#, 18_000, Bound::Model),
        (
            &unknown,
            r#"{"model":"m","n":2}"#,
            2 * USUAL_OUTPUT,
            Bound::Usual,
        ),
        // Of two spellings the larger one; what is no number is no limit; what binds nobody is none either.
        (
            &known,
            r#"{"model":"m","max_tokens":7,"max_completion_tokens":9}"#,
            9,
            Bound::Request,
        ),
        (
            &known,
            r#"{"model":"m","max_tokens":"7"}"#,
            9000,
            Bound::Model,
        ),
        (
            &known,
            r#"{"model":"m","max_tokens":7,"max_completion_tokens":-1}"#,
            9000,
            Bound::Model,
        ),
        (
            &known,
            r#"{"model":"m","max_output_tokens":7}"#,
            9000,
            Bound::Model,
        ),
    ];
    for (policy, body, tokens, bound) in rows {
        assert_eq!(output(policy, CHAT, body), Some((tokens, bound)), "{body}");
    }
    let endless = r#"{"model":"m","options":{"num_predict":-1},"messages":[]}"#;
    assert_eq!(
        output(&known, "/api/chat", endless),
        Some((9000, Bound::Model))
    );
    let embeddings = r#"{"model":"m","input":"x"}"#;
    assert_eq!(output(&known, "/v1/embeddings", embeddings), None);
    let mut capped = post(CHAT, r#"{"model":"m"}"#);
    capped.extensions_mut().insert(OutputLimit {
        tokens: 20,
        inserted: Some("max_tokens"),
    });
    let reckoned = known.reckon(&capped).unwrap().unwrap();
    assert_eq!(reckoned.dearest().output, Some((20, Bound::Request)));
}

/// The meter's estimate and a quarter more: what it has learnt counts here, too, for the family that each target serves.
#[test]
fn input_is_what_was_learnt_and_a_quarter_more() {
    let estimator = Estimator::default();
    let models = ["gpt-4o", "claude-haiku-4-5"].map(|model| Offer {
        model: Some(model.into()),
        price: Some(of(None)),
    });
    let policy = Policy {
        estimator: estimator.clone(),
        ..offering(money(1e6), models.to_vec())
    };
    let text = "word ".repeat(2000);
    let body = format!(
        r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let input = || {
        policy
            .reckon(&post(CHAT, &body))
            .unwrap()
            .unwrap()
            .dearest()
            .input
    };
    let (before, bytes) = (input(), body.len() as u64);
    let guess = estimator.prompt(Some("claude-haiku-4-5"), (bytes, 0));
    assert_eq!(
        before,
        guess + guess.div_ceil(4),
        "the family with the shorter tokens"
    );
    for _ in 0..100 {
        estimator.learn(Family::OpenAi, Side::Prompt, 2000, 1000);
    }
    let after = input();
    assert!(
        (bytes / 2 * 6 / 5..bytes / 2 * 5 / 4 + 10).contains(&after),
        "{after}"
    );
}

#[test]
fn a_picture_is_a_fixed_sum_and_its_base64_no_text() {
    let policy = offering(money(1e6), vec![priced(of(None))]);
    let input = |url: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]}}"#
        );
        policy
            .reckon(&post(CHAT, &body))
            .unwrap()
            .unwrap()
            .dearest()
            .input
    };
    let large = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
    let small = format!("data:image/png;base64,{}", "A".repeat(1 << 12));
    let (small, large) = (input(&small), input(&large));
    assert_eq!(small, large);
    assert!((1250..1400).contains(&large), "{large}");
    // So is a file in a form, however long it is.
    let mut form = post("/v1/audio/transcriptions", "{}");
    form.extensions_mut().remove::<Intent>();
    form.headers_mut()
        .insert("content-length", 20_000_000.into());
    let reckoned = policy.reckon(&form).unwrap().unwrap();
    assert_eq!(reckoned.dearest().input, 1250);
}

#[test]
fn the_dearer_of_input_and_cache_write_is_reserved_at_the_dearest_target() {
    let cached = Price {
        cache_write: Some(8.0),
        ..of(None)
    };
    let policy = offering(money(1e6), vec![priced(of(Some(10))), priced(cached)]);
    let body = r#"{"model":"m","max_tokens":0}"#;
    let reckoned = policy.reckon(&post(CHAT, body)).unwrap().unwrap();
    let dearest = reckoned.dearest();
    assert_eq!(dearest.offer.price, Some(cached));
    assert_eq!(reckoned.worst().cost, Usd::new(dearest.input as f64 * 8e-6));
}

/// Under `unpriced: refuse` the choice is told to leave out what has no price; without money, or where it is free, it is not.
#[tokio::test]
async fn targets_without_a_price_are_left_out_of_the_choice() {
    let mixed = vec![priced(of(None)), Offer::default()];
    let free = Policy {
        unpriced: Unpriced::Free,
        ..offering(money(1e6), mixed.clone())
    };
    let rows = [
        (offering(money(1e6), mixed.clone()), true),
        (offering(money(1e6), vec![priced(of(None))]), false),
        (free, false),
        (offering(Terms::default(), mixed), false),
    ];
    for (at, (policy, left_out)) in rows.into_iter().enumerate() {
        let seen = Arc::new(Mutex::new(None));
        let told = seen.clone();
        let inner = service_fn(move |req: Request<Held<Script>>| {
            *told.lock().unwrap() = Some(req.extensions().get::<PricedOnly>().is_some());
            std::future::ready(Ok::<_, BoxError>(Response::new(Script::empty())))
        });
        let layer = BudgetLayer::new(policy, Ledger::new(0));
        ask(&layer, inner, super::chat()).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), Some(left_out), "row {at}");
    }
}

/// Work that is billed where nobody sees it, in each of its forms.
#[tokio::test]
async fn what_is_billed_out_of_sight_is_refused_under_money() {
    let layer = BudgetLayer::new(offering(money(1e6), vec![priced(of(None))]), Ledger::new(0));
    let inner = || {
        service_fn(async |_: Request<Held<Script>>| {
            Ok::<_, BoxError>(Response::new(Script::empty()))
        })
    };
    for (path, body) in [
        ("/v1/batches", "{}"),
        ("/v1/fine_tuning/jobs", "{}"),
        ("/v1/realtime/sessions", "{}"),
        (
            "/v1/responses",
            r#"{"model":"m","input":"x","background":true}"#,
        ),
    ] {
        let answer = ask(&layer, inner(), post(path, body)).await;
        assert_eq!(why(answer), Reason::ModelUnpriced, "{path}");
    }
    let plain = post(
        "/v1/responses",
        r#"{"model":"m","input":"x","background":false}"#,
    );
    ask(&layer, inner(), plain).await.unwrap();
    for path in ["/v1/files", "/v1/uploads/u/parts", "/v1/batches/b/cancel"] {
        ask(&layer, inner(), post(path, "{}")).await.unwrap();
    }
    let alike = ask(&layer, inner(), post("/v1/filesystem", "{}")).await;
    assert_eq!(why(alike), Reason::ModelUnpriced);
    // Whoever has no budget of money is not asked.
    let mut other = post("/v1/batches", "{}");
    let caller = Caller::new("b", crate::facts::Terms::default());
    other.extensions_mut().insert(caller);
    ask(&layer, inner(), other).await.unwrap();
}
