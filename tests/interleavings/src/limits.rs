//! B08: whoever goes first, the burst is admitted and nobody else.

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use shuttle::thread;
use tollgate_middleware::{
    error::{BoxError, Reason, Rejection},
    rate_limit::{Cells, Everyone, Limit, Quota, Quotas, RateLimitLayer},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::still::Still;

/// What is inside: an answer, or a limit that refuses.
#[derive(Clone, Copy)]
struct Inside {
    refuses: bool,
}

impl Service<Request<()>> for Inside {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let refusal = Rejection::new(Reason::RateLimit, "inside", "too often");
        ready(if self.refuses {
            Err(refusal.into())
        } else {
            Ok(Response::new(()))
        })
    }
}

fn limit(name: &'static str, burst: u32, cells: &Cells) -> Limit {
    let quota = Quota::new(burst, Duration::from_secs(3600)).expect("a rate");
    Limit::new(name, Everyone(Quotas::from(quota)), cells.clone())
}

/// Asks once; whether it was admitted.
fn asks(layer: &RateLimitLayer<Still>, inside: Inside) -> bool {
    let mut service = layer.layer(inside);
    let asking = pin!(service.call(Request::new(())));
    let answer = asking.poll(&mut Context::from_waker(Waker::noop()));
    matches!(answer, Poll::Ready(Ok(_)))
}

fn admitted(layer: &RateLimitLayer<Still>, askers: usize, inside: Inside) -> usize {
    let ask = |layer: RateLimitLayer<Still>| move || usize::from(asks(&layer, inside));
    let threads: Vec<_> = (0..askers)
        .map(|_| thread::spawn(ask(layer.clone())))
        .collect();
    let counts = threads
        .into_iter()
        .map(|it| it.join().expect("no thread panics"));
    counts.sum()
}

const ORDERS: usize = 5_000;
const ANSWERS: Inside = Inside { refuses: false };
const REFUSES: Inside = Inside { refuses: true };

#[test]
fn the_burst_is_admitted_and_not_one_more() {
    shuttle::check_random(
        || {
            let cells = Cells::new(0);
            let layer = RateLimitLayer::new([limit("all", 3, &cells)]).clock(Still::now());
            assert_eq!(admitted(&layer, 5, ANSWERS), 3);
        },
        ORDERS,
    );
}

/// Two limits decide as one: whoever sees one of them full has not been counted in the other.
#[test]
fn two_limits_admit_both_or_charge_neither() {
    shuttle::check_random(
        || {
            let (wide, narrow) = (Cells::new(0), Cells::new(0));
            let still = Still::now();
            let both = RateLimitLayer::new([limit("wide", 4, &wide), limit("narrow", 2, &narrow)])
                .clock(still);
            let alone = RateLimitLayer::new([limit("wide", 4, &wide)]).clock(still);
            assert_eq!(admitted(&both, 4, ANSWERS), 2);
            // What the narrow one refused is still there.
            assert_eq!(admitted(&alone, 4, ANSWERS), 2);
        },
        ORDERS,
    );
}

/// What a limit inside refuses is given back, whoever else asks meanwhile.
#[test]
fn what_is_given_back_is_whole() {
    shuttle::check_random(
        || {
            let cells = Cells::new(0);
            let layer = RateLimitLayer::new([limit("all", 3, &cells)]).clock(Still::now());
            let other = layer.clone();
            let refused = thread::spawn(move || admitted(&other, 3, REFUSES));
            let first = admitted(&layer, 2, ANSWERS);
            assert_eq!(refused.join().expect("no thread panics"), 0);
            assert_eq!(first + admitted(&layer, 4, ANSWERS), 3);
        },
        ORDERS,
    );
}
