//! Laws, what is left out, and the strategies in simulation: 10^5 draws with a fixed seed.

mod choice;
mod simulated;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use tollgate_testing::{
    body::Script,
    laws::{self, Outcome},
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{Balance, ResponseBody, StickyOn, Strategy, Target, Unusable};
use crate::{
    chance::Chance,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::Endpoint,
    health::{Board, Health, Policy, Source, Verdict},
};

type Stub = BoxCloneSyncService<Request<()>, Response<Empty<Bytes>>, BoxError>;

/// Some targets, and who was asked.
struct Rig {
    board: Board,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            board: Board::new(SystemClock.now()),
            asked: Arc::default(),
        }
    }

    fn health(&self, name: &str) -> Health {
        self.board.health(name, Some("m"))
    }

    /// A target that answers with this status.
    fn target(&self, name: &'static str, status: u16) -> Target<Stub> {
        let asked = self.asked.clone();
        let service = service_fn(move |_: Request<()>| {
            asked.lock().unwrap().push(name);
            let mut response = Response::new(Empty::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            std::future::ready(Ok(response))
        });
        self.with(name, BoxCloneSyncService::new(service))
    }

    fn with<S>(&self, name: &'static str, service: S) -> Target<S> {
        let endpoint = Endpoint::new(name, format!("{name}/m"), None);
        Target::new(endpoint, Source::fixed(&self.board, name, "m"), service)
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Opens the circuit of a target until then.
    fn open(&self, name: &str, open_for: Duration) {
        let policy = Policy {
            consecutive: Some(1),
            open_for,
            ..Policy::default()
        };
        let (health, now) = (self.health(name), SystemClock.now());
        let pass = health.enter(&policy, None, now).unwrap();
        health.settle(pass, Verdict::Failure, &policy, now);
    }
}

/// A request on a surface, so that it is not about what a provider keeps.
fn chat() -> Request<()> {
    Request::post("/v1/chat/completions").body(()).unwrap()
}

async fn ask(
    balance: &Balance<Stub>,
    req: Request<()>,
) -> Result<Response<ResponseBody<Empty<Bytes>, SystemClock>>, BoxError> {
    balance.clone().oneshot(req).await
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn in_order(targets: impl IntoIterator<Item = Target<Stub>>) -> Balance<Stub> {
    Balance::new(targets, Strategy::Fallback).unwrap()
}

/// The service as a layer, for the law of types.
struct Alone;

impl<S> Layer<S> for Alone {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance::new([Rig::new().with("one", inner)], Strategy::Fallback).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_laws() {
    let over = |inner: laws::Inner| {
        let rig = Rig::new();
        let one = rig.with("one", inner.clone());
        Balance::new([one, rig.with("two", inner).weight(0)], Strategy::P2c).unwrap()
    };
    laws::types::<Alone>();
    laws::transparent_over(over, laws::cases()).await;
    laws::ready_over(over, || Request::new(Script::empty())).await;
    laws::absent_facts_over(over, |outcome| matches!(outcome, Outcome::Answered(..))).await;
}

/// What another route sends to a target runs there, too, whatever that route goes by.
#[tokio::test(start_paused = true)]
async fn the_load_of_every_route_counts_where_one_goes_by_it() {
    let rig = Rig::new();
    let targets = || [rig.target("one", 200), rig.target("two", 200)];
    let in_order = in_order(targets());
    drop(ask(&in_order, chat()).await.unwrap());
    let running = || ["one", "two"].map(|name| rig.health(name).pulse().running());
    let by_load = Balance::new(targets(), Strategy::LeastInflight).unwrap();
    let held = ask(&in_order, chat()).await.unwrap();
    assert_eq!(running(), [1, 0]);
    rig.asked();
    drop(ask(&by_load, chat()).await.unwrap());
    assert_eq!(rig.asked(), ["two"]);
    drop(held);
    assert_eq!(running(), [0, 0]);
}

/// The load is taken back once the body is gone, however that ends.
#[tokio::test(start_paused = true)]
async fn the_load_is_held_to_the_end_of_the_body() {
    let rig = Rig::new();
    let balance = Balance::new(
        [rig.target("one", 200), rig.target("two", 200)],
        Strategy::LeastInflight,
    )
    .unwrap();
    let (first, second) = (
        ask(&balance, chat()).await.unwrap(),
        ask(&balance, chat()).await.unwrap(),
    );
    let running = || ["one", "two"].map(|name| rig.health(name).pulse().running());
    assert_eq!(running(), [1, 1], "the second goes where nothing runs");
    drop((first, second));
    assert_eq!(running(), [0, 0]);
    let abandoned = ask(&balance, chat());
    drop(abandoned);
    assert_eq!(running(), [0, 0]);
}
