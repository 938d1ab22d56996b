//! What the layers cost that say who may call, how often, how much at once and for how much: nanoseconds of a request.

pub(super) mod shared;

use std::{
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tollgate_middleware::{
    auth::{AuthLayer, Digest, Grant, Keys},
    body::Held,
    budget::{self, BudgetLayer, Ledger, Period, Policy, Rate, Usd},
    concurrency::{ConcurrencyLayer, Limits, Permits},
    cors::CorsLayer,
    facts::{Caller, ClientAddress, Route, Terms},
    models::{Listed, ModelsLayer},
    origin::OriginPattern,
    peek::PeekLayer,
    rate_limit::{ByAddress, ByCaller, Cells, Everyone, Limit, Quota, RateLimitLayer},
    token_cap::{Caps, TokenCapLayer},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{Inside, OneEvent, added, head};

/// Callers of the gateway that is measured.
const CALLERS: usize = 1000;

/// Tells of each part what it costs a request.
pub(super) fn each(mut tell: impl FnMut(&str, f64)) {
    // Peek and permits make timers, which need a runtime to be made in.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime of this thread");
    let _inside = runtime.enter();
    tell("auth, one of 1000 keys", auth());
    tell("rate_limit by caller and in all", rate_limit());
    tell("rate_limit by address", by_address());
    tell("rate_limit without a limit", cost(RateLimitLayer::new([])));
    shared::each(&mut tell);
    tell("concurrency, a permit", concurrency());
    tell("token_cap, a number clamped", token_cap(10));
    tell("token_cap, a number that fits", token_cap(1_000_000));
    tell("token_cap without a cap", token_cap(0));
    tell("budget, tokens and money in memory", budget(true));
    tell("budget without one", budget(false));
    tell("models, another question", models());
    tell("cors without pages", cost(CorsLayer::default()));
    tell("cors, no page asks", cors());
}

/// What a future gives that never waits.
pub(super) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

/// A request with this key, of this caller.
fn request(
    made: &Request<()>,
    key: Option<&HeaderValue>,
    caller: Option<&Caller>,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.method_mut() = made.method().clone();
    *request.uri_mut() = made.uri().clone();
    request.headers_mut().clone_from(made.headers());
    if let Some(key) = key {
        request.headers_mut().insert("authorization", key.clone());
    }
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller.clone());
    }
    request
}

/// What a layer costs a request of a caller that is known.
fn cost<L>(layer: L) -> f64
where
    L: Layer<Inside>,
    L::Service: Service<Request<Full<Bytes>>>,
{
    let (made, caller) = (head(), Caller::new("team-500", Terms::default()));
    of(layer, || request(&made, None, Some(&caller)))
}

fn of<L>(layer: L, make: impl Fn() -> Request<Full<Bytes>>) -> f64
where
    L: Layer<Inside>,
    L::Service: Service<Request<Full<Bytes>>>,
{
    let (mut bare, mut guarded) = (Inside, layer.layer(Inside));
    added(
        || drop(black_box(at_once(bare.call(make())))),
        || {
            let answer = at_once(guarded.call(make()));
            assert!(answer.is_ok(), "the request is let in");
            drop(black_box(answer));
        },
    )
}

fn auth() -> f64 {
    let key = |at: usize| format!("tg-0123456789abcdef0123456789abcdef-{at}");
    let grant = |at: usize| Grant::new(Caller::new(format!("team-{at}"), Terms::default()));
    let keys = (0..CALLERS).map(|at| (Digest::of(key(at)).expect("it is not empty"), grant(at)));
    let keys = Keys::new(keys).expect("no two are the same");
    let bearer = format!("Bearer {}", key(CALLERS / 2));
    let bearer = HeaderValue::try_from(bearer).expect("visible ASCII");
    let made = head();
    of(AuthLayer::new(keys), || request(&made, Some(&bearer), None))
}

/// So often that it never refuses here.
fn quota() -> Quota {
    Quota::new(u32::MAX, Duration::from_secs(1)).expect("a rate")
}

fn rate_limit() -> f64 {
    let quotas = (0..CALLERS).map(|at| (Arc::from(format!("team-{at}")), quota().into()));
    let callers = Limit::new("requests", ByCaller::new(quotas), Cells::new(0));
    let all = Limit::new("global", Everyone(quota().into()), Cells::new(0));
    cost(RateLimitLayer::new([callers, all]))
}

fn by_address() -> f64 {
    let limit = Limit::new("address", ByAddress(quota().into()), Cells::new(65_536));
    let layer = RateLimitLayer::new([limit.gives_back(false)]);
    let made = head();
    of(layer, || {
        let mut request = request(&made, None, None);
        let address = ClientAddress::new([10, 1, 2, 3].into());
        request.extensions_mut().insert(address);
        request
    })
}

fn concurrency() -> f64 {
    cost(ConcurrencyLayer::new(Permits::new(Limits::default())))
}

fn models() -> f64 {
    let served = ["gpt-4o", "o3"].map(|name| Listed::new(name, name, "openai"));
    cost(ModelsLayer::new(served).everybody(true))
}

fn cors() -> f64 {
    let page = OriginPattern::new("https://*.example.com").expect("an origin");
    cost(CorsLayer::new([page]))
}

/// Tokens and money that no run of the bench comes to the end of.
pub(super) fn limited() -> Policy {
    let money = |usd| budget::Budget {
        amount: Usd::new(usd),
        per: Period::Month,
    };
    let terms = budget::Terms {
        tokens: Rate::new(u32::MAX, Duration::from_millis(1)),
        money: Some(money(1e8)),
        ..budget::Terms::default()
    };
    Policy {
        callers: [("team-500".into(), terms)].into(),
        global: Some(money(1e8)),
        ..Policy::off()
    }
}

/// A request that was routed to a model with a price.
pub(super) fn routed(made: &Request<()>, caller: &Caller) -> Request<Held<Full<Bytes>>> {
    let mut request = request(made, None, Some(caller)).map(Held::unread);
    request.extensions_mut().insert(Route {
        name: None,
        model: Some("gpt-4o-mini".into()),
        pin: None,
    });
    request
}

/// What is reserved for a request and settled when its answer is dropped, or nothing.
fn budget(limits: bool) -> f64 {
    let policy = if limits { limited() } else { Policy::off() };
    let layer = BudgetLayer::new(policy, Ledger::new(0));
    let (made, caller) = (head(), Caller::new("team-500", Terms::default()));
    let make = || routed(&made, &caller);
    let (mut bare, mut guarded) = (OneEvent::new(), layer.layer(OneEvent::new()));
    added(
        || drop(black_box(at_once(bare.call(make())))),
        || {
            let answer = at_once(guarded.call(make()));
            assert!(answer.is_ok(), "the request is let in");
            drop(black_box(answer));
        },
    )
}

/// What a cap adds to reading the body, which somebody has to do anyway; 0 is no cap.
fn token_cap(most: u64) -> f64 {
    let caps = match most {
        0 => Caps::off(),
        most => Caps {
            max_tokens: Some(most),
            ..Caps::off()
        },
    };
    let mut made = head();
    made.headers_mut().remove("content-length");
    let text = "word ".repeat(200);
    let body = format!(
        r#"{{"model":"bench-model","max_tokens":4096,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let body = Bytes::from(body);
    let make = || request(&made, None, None).map(|_| Full::new(body.clone()));
    let peek = || PeekLayer::new(1 << 20);
    let mut bare = peek().layer(Inside);
    let mut capped = peek().layer(TokenCapLayer::new(caps).layer(Inside));
    added(
        || drop(black_box(at_once(bare.call(make())))),
        || {
            let answer = at_once(capped.call(make()));
            assert!(answer.is_ok(), "the request is let in");
            drop(black_box(answer));
        },
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_part_lets_its_requests_in() {
        let mut parts = Vec::new();
        super::each(|part, cost| {
            assert!(cost.is_finite(), "{part}");
            parts.push(part.to_owned());
        });
        // Three of them where a redis-server is installed.
        assert!([13, 16].contains(&parts.len()), "{parts:?}");
    }
}
