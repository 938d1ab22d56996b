use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::attempt::{Attempt, streams};
use crate::{
    body::Guarded,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    health::{Health, Policy, Source},
    record::{self, Record},
    sse::CAP,
};

/// Stops asking a target that fails.
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = SystemClock> {
    // None where nothing is judged.
    rule: Option<Arc<Rule>>,
    clock: C,
}

/// How one target is judged.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    source: Source,
    pub(super) policy: Policy,
    stream: Option<Duration>,
    document: Option<Duration>,
    pub(super) event: usize,
    target: Arc<str>,
    label: Option<Arc<str>>,
}

impl BreakerLayer {
    /// Judges the target whose health `source` finds.
    pub fn new(source: Source, policy: Policy) -> Self {
        let rule = Rule {
            source,
            policy,
            stream: None,
            document: None,
            event: CAP,
            target: "".into(),
            label: None,
        };
        Self {
            rule: Some(Arc::new(rule)),
            clock: SystemClock,
        }
    }

    /// Judges nothing, and lets everything pass.
    pub fn off() -> Self {
        Self {
            rule: None,
            clock: SystemClock,
        }
    }
}

impl<C> BreakerLayer<C> {
    /// How long a probe has for its first output, if a stream was asked for, and if not; for ever unless set.
    #[must_use]
    pub fn probes_within(self, stream: Option<Duration>, document: Option<Duration>) -> Self {
        self.with(|rule| (rule.stream, rule.document) = (stream, document))
    }

    /// Under which name and label a refused attempt is recorded; the name of the provider, and none, unless set.
    #[must_use]
    pub fn named(self, target: impl Into<Arc<str>>, label: Option<Arc<str>>) -> Self {
        let target = target.into();
        self.with(|rule| (rule.target, rule.label) = (target, label))
    }

    /// Keeps so many bytes of one event at most, in place of 1 MiB, where the first output is looked for.
    #[must_use]
    pub fn event(self, bytes: usize) -> Self {
        self.with(|rule| rule.event = bytes)
    }

    fn with(mut self, set: impl FnOnce(&mut Rule)) -> Self {
        if let Some(rule) = &mut self.rule {
            set(Arc::make_mut(rule));
        }
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> BreakerLayer<D> {
        BreakerLayer {
            rule: self.rule,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Breaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct Breaker<S, C = SystemClock> {
    inner: S,
    policy: BreakerLayer<C>,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Breaker<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    type Response = Response<Guarded<ResBody, Attempt<C>>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let clock = self.policy.clock.clone();
        let attempt = match &self.policy.rule {
            None => Attempt::unjudged(clock),
            Some(rule) => match rule.enter(req.extensions(), clock.now()) {
                Ok(passed) => Attempt::new(rule.clone(), passed, &req, clock),
                Err(refused) => {
                    // It may be made elsewhere.
                    crate::attempt::Attempt::give_back(req.extensions_mut());
                    let error = Some(refused.into());
                    let step = Step::Refused { error };
                    return ResponseFuture { step };
                }
            },
        };
        let inner = self.inner.call(req);
        let attempt = Some(attempt);
        ResponseFuture {
            step: Step::Called { inner, attempt },
        }
    }
}

impl Rule {
    fn enter(
        &self,
        facts: &Extensions,
        now: Instant,
    ) -> Result<(Health, crate::health::Pass), Rejection> {
        let health = self.source.of(facts);
        let clock = if streams(facts) {
            self.stream
        } else {
            self.document
        };
        match health.enter(&self.policy, clock, now) {
            Ok(pass) => Ok((health, pass)),
            Err(until) => Err(self.refuse(&health, facts.get(), until, now)),
        }
    }

    #[cold]
    fn refuse(
        &self,
        health: &Health,
        record: Option<&Record>,
        until: Instant,
        now: Instant,
    ) -> Rejection {
        if let Some(record) = record {
            let provider = health.provider();
            let unnamed = self.target.is_empty();
            let target = if unnamed { provider } else { &self.target };
            record.begin_attempt(record::Attempt {
                provider: provider.clone(),
                target: target.clone(),
                label: self.label.clone(),
                model: health.model().cloned(),
                error: Some("circuit"),
                ..record::Attempt::default()
            });
        }
        let told =
            "the provider has failed too often and is not asked for the moment; ask again later";
        Rejection::new(Reason::NoTarget, "breaker", told)
            .retry_after(until.saturating_duration_since(now))
    }
}

pin_project! {
    /// The future of [`Breaker`].
    pub struct ResponseFuture<F, C: Clock> {
        #[pin]
        step: Step<F, C>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, C: Clock> {
        // The attempt last: what runs inside is let go of before it is judged.
        Called { #[pin] inner: F, attempt: Option<Attempt<C>> },
        Refused { error: Option<BoxError> },
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    type Output = Result<Response<Guarded<B, Attempt<C>>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (inner, attempt) = match self.project().step.project() {
            StepProj::Called { inner, attempt } => (inner, attempt),
            StepProj::Refused { error } => {
                let error = error.take();
                let error = error.expect("a future is not polled after it was ready");
                return Poll::Ready(Err(error));
            }
        };
        let answer = ready!(inner.poll(cx)).map_err(Into::into);
        let mut attempt = attempt
            .take()
            .expect("a future is not polled after it was ready");
        attempt.answered(
            answer
                .as_ref()
                .map(|response| (response.status(), response.headers())),
        );
        Poll::Ready(answer.map(|response| response.map(|body| Guarded::new(body, attempt))))
    }
}

impl<F, C: Clock> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
