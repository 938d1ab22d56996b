//! Law 2: the inner service is never called without having been ready.

use std::future::poll_fn;

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    in_time,
    inner::{Calls, Failure, Inner, is_fault},
};
use crate::body::{BoxError, Script, collect};

/// The law, for a layer over an inner service with boxed errors.
///
/// Holds for calls one after another, for a call by a clone of a ready service and by the service it was cloned from, for a
/// service polled ready twice, and for two calls in flight. An error of the inner service's readiness comes out of the
/// layer's readiness or of its call.
///
/// # Panics
/// When the law is broken.
pub async fn ready<L, RB>(layer: &L)
where
    L: Layer<Inner>,
    L::Service: Service<Request<Script>, Response = Response<RB>> + Clone,
    <L::Service as Service<Request<Script>>>::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    ready_over(
        |inner: Inner| layer.layer(inner),
        || Request::new(Script::empty()),
    )
    .await;
}

/// The law, for whatever the closure builds over the inner service, with requests that the layer lets pass.
///
/// # Panics
/// As [`ready`].
pub async fn ready_over<E, S, RB>(
    build: impl Fn(Inner<E>) -> S,
    request: impl Fn() -> Request<Script>,
) where
    E: Failure,
    S: Service<Request<Script>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    in_time("ready", one_after_another(&build, &request)).await;
    in_time("ready", clones(&build, &request)).await;
    in_time("ready", polled_twice(&build, &request)).await;
    in_time("ready", in_flight(&build, &request)).await;
    if E::failure().is_some() {
        let outcome = in_time("ready", once(&mut build(Inner::failing_ready()), request())).await;
        let error =
            outcome.expect_err("ready: the inner service's readiness failed and nobody was told");
        assert!(
            is_fault(&error),
            "ready: the error of the inner service's readiness was lost in {error:?}"
        );
    }
}

async fn one_after_another<E, S, RB>(
    build: impl Fn(Inner<E>) -> S,
    request: impl Fn() -> Request<Script>,
) where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let (mut service, calls) = start(build);
    for _ in 0..3 {
        passed(once(&mut service, request()).await);
    }
    judge(&calls, 3, "one call after another");
}

async fn clones<E, S, RB>(build: impl Fn(Inner<E>) -> S, request: impl Fn() -> Request<Script>)
where
    S: Service<Request<Script>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let (mut service, calls) = start(build);
    passed(made_ready(&mut service).await);
    // Cloned while ready: the clone must ask for itself, and the original stays ready.
    let mut clone = service.clone();
    passed(service.call(request()).await.map_err(Into::into));
    passed(once(&mut clone, request()).await);
    passed(once(&mut clone.clone(), request()).await);
    judge(&calls, 3, "calls by a clone of a ready service");
}

async fn polled_twice<E, S, RB>(
    build: impl Fn(Inner<E>) -> S,
    request: impl Fn() -> Request<Script>,
) where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let (mut service, calls) = start(build);
    passed(made_ready(&mut service).await);
    passed(once(&mut service, request()).await);
    judge(&calls, 1, "a call after being polled ready twice");
}

async fn in_flight<E, S, RB>(build: impl Fn(Inner<E>) -> S, request: impl Fn() -> Request<Script>)
where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let (mut service, calls) = start(build);
    passed(made_ready(&mut service).await);
    let first = service.call(request());
    passed(made_ready(&mut service).await);
    let second = service.call(request());
    // A layer may let one call wait for another, so both are polled.
    let (second, first) = tokio::join!(second, first);
    for response in [first, second] {
        let response = passed(response.map_err(Into::into));
        collect(response.into_body()).await;
    }
    judge(&calls, 2, "two calls in flight");
}

fn start<E, S>(build: impl Fn(Inner<E>) -> S) -> (S, Calls) {
    let inner = Inner::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    (build(inner), calls)
}

async fn made_ready<S, RB>(service: &mut S) -> Result<(), BoxError>
where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx))
        .await
        .map_err(Into::into)
}

/// Ready, call, and the body to its end, since a layer may hold something until then.
async fn once<S, RB>(service: &mut S, request: Request<Script>) -> Result<(), BoxError>
where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    made_ready(service).await?;
    let response = service.call(request).await.map_err(Into::into)?;
    collect(response.into_body()).await;
    Ok(())
}

fn passed<T>(outcome: Result<T, BoxError>) -> T {
    outcome.unwrap_or_else(|error| panic!("ready: refused with {error}"))
}

fn judge(calls: &Calls, expected: usize, what: &str) {
    assert_eq!(
        calls.unready(),
        0,
        "ready, {what}: the inner service was called without having been ready"
    );
    assert_eq!(
        calls.take().len(),
        expected,
        "ready, {what}: wrong number of calls of the inner service"
    );
}
