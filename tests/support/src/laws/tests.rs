//! One layer that is glass, the same layer with one fault at a time, and the law that must catch each.

mod ended;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::task::LocalSet;
use tower_layer::Layer;
use tower_service::Service;

use super::*;
use crate::body::{BoxError, Fault, Script};

/// What is wrong with the layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wrong {
    #[default]
    Nothing,
    // of heads and outcomes
    AddsHeader,
    AnswersInternal,
    DropsDuplicateHeader,
    Hangs,
    NormalisesTarget,
    PanicsWithoutFact,
    // of bodies
    HidesEnd,
    HidesSize,
    LosesRequestTrailers,
    LosesShortFrames,
    LosesTrailers,
    PollsAfterEnd,
    SwallowsBodyError,
    // of readiness
    CallsAClone,
    ClonesReadiness,
    NeverAsks,
    SwallowsReadyError,
}

impl<S: Clone> Layer<S> for Wrong {
    type Service = Glass<S>;

    fn layer(&self, inner: S) -> Glass<S> {
        Glass {
            inner,
            wrong: *self,
            ready: false,
        }
    }
}

#[derive(Clone)]
struct Glass<S> {
    inner: S,
    wrong: Wrong,
    ready: bool,
}

impl<S, B, RB> Service<Request<B>> for Glass<S>
where
    S: Service<Request<Pane<B>>, Response = Response<RB>, Error = BoxError> + Clone + Send,
    S::Future: Send + 'static,
    RB: Body + Send + 'static,
{
    type Response = Response<Pane<RB>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.wrong == Wrong::NeverAsks || self.wrong == Wrong::ClonesReadiness && self.ready {
            return Poll::Ready(Ok(()));
        }
        let answer = std::task::ready!(self.inner.poll_ready(cx));
        self.ready = true;
        Poll::Ready(if self.wrong == Wrong::SwallowsReadyError {
            Ok(())
        } else {
            answer
        })
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let wrong = self.wrong;
        self.ready = false;
        let (mut head, body) = req.into_parts();
        match wrong {
            Wrong::AddsHeader => drop(
                head.headers
                    .insert("via", http::HeaderValue::from_static("1.1 x")),
            ),
            Wrong::NormalisesTarget => head.uri = head.uri.path().parse().unwrap(),
            Wrong::PanicsWithoutFact => _ = head.extensions.get::<()>().expect("a fact"),
            _ => {}
        }
        let of_request = if wrong == Wrong::LosesRequestTrailers {
            Wrong::LosesTrailers
        } else {
            Wrong::Nothing
        };
        let req = Request::from_parts(
            head,
            Pane {
                inner: body,
                wrong: of_request,
            },
        );
        let future = if wrong == Wrong::CallsAClone {
            self.inner.clone().call(req)
        } else {
            self.inner.call(req)
        };
        Box::pin(async move {
            if wrong == Wrong::Hangs {
                std::future::pending::<()>().await;
            }
            let (mut head, body) = future.await?.into_parts();
            match wrong {
                Wrong::DropsDuplicateHeader => {
                    let last = head.headers.get_all("x-twice").iter().next_back().cloned();
                    last.map(|last| head.headers.insert("x-twice", last));
                }
                Wrong::AnswersInternal => head.status = StatusCode::INTERNAL_SERVER_ERROR,
                _ => {}
            }
            Ok(Response::from_parts(head, Pane { inner: body, wrong }))
        })
    }
}

struct Pane<B> {
    inner: B,
    wrong: Wrong,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Pane<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let wrong = self.wrong;
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) if wrong == Wrong::LosesTrailers && frame.is_trailers() => None,
            Some(Ok(frame))
                if wrong == Wrong::LosesShortFrames
                    && frame.data_ref().is_some_and(|data| data.len() < 3) =>
            {
                Some(Ok(Frame::data(Bytes::new())))
            }
            Some(Err(_)) if wrong == Wrong::SwallowsBodyError => None,
            None if wrong == Wrong::PollsAfterEnd => {
                assert!(Pin::new(&mut self.inner).poll_frame(cx).is_ready());
                None
            }
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.wrong != Wrong::HidesEnd && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.wrong == Wrong::HidesSize {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}

/// Runs what must fail and gives what it said.
async fn broken(law: impl Future<Output = ()> + 'static) -> String {
    let local = LocalSet::new();
    let error = local
        .run_until(local.spawn_local(law))
        .await
        .expect_err("the law did not see the fault");
    let message = error.into_panic();
    match message.downcast::<String>() {
        Ok(message) => *message,
        Err(message) => (*message.downcast::<&str>().expect("a message")).to_owned(),
    }
}

#[track_caller]
fn says(message: &str, part: &str, wrong: impl std::fmt::Debug) {
    assert!(
        message.contains(part),
        "{wrong:?} was caught, but for: {message}"
    );
}

#[tokio::test(start_paused = true)]
async fn glass_keeps_every_law() {
    types::<Wrong>();
    types_of(&Wrong::Nothing);
    transparent(&Wrong::Nothing, cases()).await;
    ready(&Wrong::Nothing).await;
    absent_facts(
        &Wrong::Nothing,
        |outcome| matches!(outcome, Outcome::Answered(_, calls) if calls.len() == 1),
    )
    .await;
    transparent(&tower_layer::Identity::new(), cases()).await;
    ready(&tower_layer::Identity::new()).await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_over_an_infallible_service_can_be_judged() {
    transparent_over(|inner: Inner<Infallible>| inner, cases()).await;
    ready_over(
        |inner: Inner<Infallible>| inner,
        || Request::new(Script::empty()),
    )
    .await;
    absent_facts_over(
        |inner: Inner<Infallible>| inner,
        |outcome| matches!(outcome, Outcome::Answered(..)),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn transparency_sees_each_fault_of_a_layer() {
    for (wrong, part) in [
        (Wrong::AddsHeader, "the request differs"),
        (Wrong::AnswersInternal, "the response differs"),
        (Wrong::DropsDuplicateHeader, "the response differs"),
        (Wrong::Hangs, "never came to an end"),
        (Wrong::HidesEnd, "hints differ between frames"),
        (Wrong::HidesSize, "the response differs"),
        (Wrong::LosesRequestTrailers, "the request differs"),
        (Wrong::LosesShortFrames, "the response differs"),
        (Wrong::LosesTrailers, "the response differs"),
        (Wrong::NormalisesTarget, "the request differs"),
        (Wrong::PollsAfterEnd, "polled after its end"),
        (Wrong::SwallowsBodyError, "the response differs"),
    ] {
        says(
            &broken(async move { transparent(&wrong, cases()).await }).await,
            part,
            wrong,
        );
    }
}

#[tokio::test(start_paused = true)]
async fn transparency_sees_hints_that_are_wrong_between_frames_only() {
    // Right at the start, silent later.
    let build = |inner: Inner| {
        Mapped(inner, |script: Script| Late {
            inner: script,
            begun: false,
        })
    };
    let message = broken(async move { transparent_over(build, cases()).await }).await;
    says(&message, "hints differ between frames", "late");
}

#[tokio::test(start_paused = true)]
async fn transparency_sees_a_swallowed_error() {
    let build = |inner: Inner| Swallow(inner);
    says(
        &broken(async move { transparent_over(build, cases()).await }).await,
        "was swallowed",
        "swallows errors",
    );
}

#[tokio::test(start_paused = true)]
async fn transparency_does_not_pass_without_cases() {
    says(
        &broken(async { transparent(&Wrong::Nothing, []).await }).await,
        "no case",
        "nothing to judge",
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_sees_each_fault_of_a_layer() {
    for (wrong, part) in [
        (Wrong::CallsAClone, "without having been ready"),
        (Wrong::ClonesReadiness, "by a clone of a ready service"),
        (Wrong::NeverAsks, "without having been ready"),
        (Wrong::Hangs, "never came to an end"),
    ] {
        says(
            &broken(async move { ready(&wrong).await }).await,
            part,
            wrong,
        );
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_that_fails_may_be_told_by_the_call() {
    // The error is not lost: the call of an inner service that is not ready gives it again.
    ready(&Wrong::SwallowsReadyError).await;
    let build = |inner: Inner| Swallow(inner);
    says(
        &broken(async move { ready_over(build, || Request::new(Script::empty())).await }).await,
        "nobody was told",
        "swallowed",
    );
}

#[tokio::test(start_paused = true)]
async fn absent_facts_see_panics_internal_errors_and_undocumented_outcomes() {
    let message = broken(async { absent_facts(&Wrong::PanicsWithoutFact, |_| true).await }).await;
    says(&message, "the layer panicked", "panic");
    let message = broken(async { absent_facts(&Wrong::AnswersInternal, |_| true).await }).await;
    says(&message, "an internal error", "500");
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
    let message = broken(async move { absent_facts(&Wrong::Nothing, refused).await }).await;
    says(&message, "not the documented outcome", "answered");
}

/// Turns errors into empty responses.
#[derive(Clone)]
struct Swallow(Inner);

impl Service<Request<Script>> for Swallow {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Script>>::poll_ready(&mut self.0, cx).map(|_| Ok(()))
    }

    fn call(&mut self, req: Request<Script>) -> Self::Future {
        let future = self.0.call(req);
        Box::pin(async move { Ok(future.await.unwrap_or_default()) })
    }
}

/// Maps response bodies.
#[derive(Clone)]
struct Mapped<F>(Inner, F);

impl<F, B> Service<Request<Script>> for Mapped<F>
where
    F: Fn(Script) -> B + Clone + Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::<Request<Script>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, req: Request<Script>) -> Self::Future {
        let (future, map) = (self.0.call(req), self.1.clone());
        Box::pin(async move { Ok(future.await?.map(map)) })
    }
}

/// Forwards hints until the first frame.
struct Late {
    inner: Script,
    begun: bool,
}

impl Body for Late {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.begun = true;
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.begun && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.begun {
            SizeHint::default()
        } else {
            self.inner.size_hint()
        }
    }
}

#[tokio::test]
async fn the_inner_service_counts_calls_without_readiness() {
    let mut inner: Inner = Inner::answering(Response::new(Script::empty()));
    let calls = inner.calls();
    inner.call(Request::new(Script::empty())).await.unwrap();
    assert_eq!(calls.unready(), 1);
    poll_fn(|cx| Service::<Request<Script>>::poll_ready(&mut inner, cx))
        .await
        .unwrap();
    inner.call(Request::new(Script::empty())).await.unwrap();
    inner
        .clone()
        .call(Request::new(Script::empty()))
        .await
        .unwrap();
    assert_eq!((calls.unready(), calls.take().len()), (2, 3));

    let mut inner: Inner = Inner::failing();
    let error = inner.call(Request::new(Script::empty())).await.unwrap_err();
    assert!(error.is::<Fault>());
}
