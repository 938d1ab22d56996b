//! Law 5: a layer that misses a fact does what it documents.

use std::future::poll_fn;

use http::{Extensions, Request, Response, StatusCode};
use http_body::Body;
use tokio::task::JoinSet;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    in_time,
    inner::{Failure, Inner},
    transparent::Case,
};
use crate::{
    body::{BoxError, Collected, Script, collect},
    splits::Split,
};

/// What came of a request that carried no facts.
#[derive(Debug)]
pub enum Outcome {
    /// A response, with the requests that reached the inner service.
    Answered(Box<Response<Collected>>, Vec<Request<Collected>>),
    /// An error, from readiness or from the call.
    Refused(BoxError),
}

/// The law, for a layer over an inner service with boxed errors.
///
/// Sends an ordinary request whose extensions are empty to an inner service whose response has none either. The closure says
/// whether the outcome is the documented one, and not an internal error in the words of the layer's own errors.
///
/// # Panics
/// When the layer panics, when it answers 500, and when the closure says no.
pub async fn absent_facts<L, RB>(layer: &L, documented: impl FnOnce(&Outcome) -> bool)
where
    L: Layer<Inner>,
    L::Service: Service<Request<Script>, Response = Response<RB>> + Send + 'static,
    <L::Service as Service<Request<Script>>>::Future: Send,
    <L::Service as Service<Request<Script>>>::Error: Into<BoxError>,
    RB: Body + Send + 'static,
    RB::Error: Into<BoxError>,
{
    absent_facts_over(|inner: Inner| layer.layer(inner), documented).await;
}

/// The law, for whatever the closure builds over the inner service.
///
/// # Panics
/// As [`absent_facts`].
pub async fn absent_facts_over<E, S, RB>(
    build: impl FnOnce(Inner<E>) -> S,
    documented: impl FnOnce(&Outcome) -> bool,
) where
    E: Failure,
    S: Service<Request<Script>, Response = Response<RB>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    RB: Body + Send + 'static,
    RB::Error: Into<BoxError>,
{
    let body = |text: &str| Script::data(text.as_bytes(), &Split::Bytes(9));
    let mut case = Case::new(
        "no facts",
        body("{\"model\": \"m\"}"),
        body("data: [DONE]\n\n"),
    );
    *case.request.extensions_mut() = Extensions::new();
    let inner = Inner::answering(case.response);
    let calls = inner.calls();
    let service = build(inner);
    // On a task of its own, which keeps a panic from passing for the test's.
    let mut task = JoinSet::new();
    task.spawn(async move {
        call(service, case.request)
            .await
            .map_or_else(Outcome::Refused, |it| answered(it, &calls))
    });
    let outcome = match in_time("absent facts", task.join_next())
        .await
        .expect("one task was started")
    {
        Ok(outcome) => outcome,
        Err(error) => panic!("absent facts: the layer panicked: {error}"),
    };
    if let Outcome::Answered(response, _) = &outcome {
        assert_ne!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "absent facts: an internal error"
        );
    }
    assert!(
        documented(&outcome),
        "absent facts: not the documented outcome: {outcome:#?}"
    );
}

async fn call<S, RB>(
    mut service: S,
    request: Request<Script>,
) -> Result<Response<Collected>, BoxError>
where
    S: Service<Request<Script>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
    RB: Body,
    RB::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx))
        .await
        .map_err(Into::into)?;
    let response = service.call(request).await.map_err(Into::into)?;
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, collect(body).await))
}

fn answered(response: Response<Collected>, calls: &super::Calls) -> Outcome {
    Outcome::Answered(Box::new(response), calls.take())
}
