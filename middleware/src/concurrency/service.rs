use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::permits::{Entry, Full, Permit, Permits, Waiting, Whose};
use crate::{
    attempt,
    body::{Ending, Guard, Guarded},
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::Caller,
    record::{Attempt, Mark, Record},
};

/// Bounds how much runs at once.
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer<C = SystemClock> {
    // None bounds nothing.
    permits: Option<Permits>,
    // Some: this is what one target may run, and whose attempt it is.
    target: Option<Arc<Attempt>>,
    clock: C,
}

impl ConcurrencyLayer {
    /// A layer that takes from these permits.
    pub fn new(permits: Permits) -> Self {
        Self {
            permits: Some(permits),
            target: None,
            clock: SystemClock,
        }
    }

    /// A layer that lets everything run.
    pub fn off() -> Self {
        Self {
            permits: None,
            target: None,
            clock: SystemClock,
        }
    }
}

impl<C> ConcurrencyLayer<C> {
    /// The permits are what one target may run: callers are not told apart, but for their class. What is refused is recorded as
    /// this attempt, with the word `saturated`; what waited, as a wait.
    #[must_use]
    pub fn of_target(mut self, attempt: Attempt) -> Self {
        self.target = Some(Arc::new(attempt));
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> ConcurrencyLayer<D> {
        ConcurrencyLayer {
            permits: self.permits,
            target: self.target,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for ConcurrencyLayer<C> {
    type Service = Concurrency<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Concurrency {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`ConcurrencyLayer`].
#[derive(Clone, Debug)]
pub struct Concurrency<S, C = SystemClock> {
    inner: S,
    policy: ConcurrencyLayer<C>,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Concurrency<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
    C: Clock,
{
    type Response = Response<Guarded<ResBody, Hold>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, ReqBody, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let Some(permits) = &self.policy.permits else {
            let inner = self.inner.call(req);
            let step = Step::Called {
                inner,
                permit: None,
            };
            return ResponseFuture { step };
        };
        let target = self.policy.target.as_ref();
        let whose = req.extensions().get().map(|caller: &Caller| Whose {
            who: target
                .is_none()
                .then(|| (caller.listed_as().clone(), caller.name().clone())),
            class: caller.terms().priority,
        });
        // Wanted where it is refused, or waits.
        let toll = || Toll {
            target: target.cloned(),
            record: req.extensions().get().cloned(),
            since: self.policy.clock.now(),
        };
        let step = match permits.enter(&whose.unwrap_or_default()) {
            Ok(Entry::Permit(permit)) => Step::Called {
                inner: self.inner.call(req),
                permit: Some(permit),
            },
            Ok(Entry::Waiting(waiting, limit)) => {
                let toll = toll();
                // The instance that is ready goes along; what stays has to become ready anew.
                let fresh = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, fresh);
                let until = self.policy.clock.now() + limit;
                let wait = Wait {
                    waiting,
                    call: Some((inner, req)),
                    timer: self.policy.clock.sleep_until(until),
                    toll: Some(toll),
                    clock: self.policy.clock.clone(),
                };
                Step::Waiting {
                    wait: Box::pin(wait),
                }
            }
            Err(full) => {
                let toll = toll();
                // It may be made elsewhere.
                attempt::Attempt::give_back(req.extensions_mut());
                Step::Refused { full, toll }
            }
        };
        ResponseFuture { step }
    }
}

/// The permit of a request, in the body of its answer.
#[derive(Debug)]
pub struct Hold {
    _permit: Option<Permit>,
}

#[cfg(test)]
impl Hold {
    pub(super) fn of(permit: Permit) -> Self {
        Self {
            _permit: Some(permit),
        }
    }
}

impl<E> Guard<E> for Hold {
    fn end(self, _: Ending<'_, E>) {}
}

/// Nobody can say when there will be room.
const SOON: Duration = Duration::from_secs(1);

/// What a refusal, or a queue, costs: told to the record.
#[derive(Debug)]
struct Toll {
    // Of whose places these are, if they are a target's.
    target: Option<Arc<Attempt>>,
    record: Option<Record>,
    since: Instant,
}

impl Toll {
    /// The wait is over.
    #[cold]
    fn paid(&self, refused: bool, now: Instant) {
        let Some(record) = &self.record else { return };
        let waited = now.saturating_duration_since(self.since);
        record.add_queued(waited);
        // Before the body has been read no time is counted as ours; one that is empty has been from the first. That of who is refused
        // is not read at all, and all of its time would be ours.
        if refused || self.target.is_some() || record.at(Mark::BodyRead).is_some() {
            record.add_waited(waited);
        }
    }
}

#[cold]
fn refusal(full: Full, toll: &Toll) -> Rejection {
    if let (Some(target), Some(record)) = (&toll.target, &toll.record) {
        record.begin_attempt(Attempt {
            error: Some("saturated"),
            ..Attempt::clone(target)
        });
    }
    let (reason, told) = match full {
        Full::Caller => (
            Reason::RateLimit,
            "as many requests of this caller run at once as may; let one end first",
        ),
        Full::Queue if toll.target.is_some() => (
            Reason::Overloaded,
            "the provider runs as many requests at once as it may; ask again",
        ),
        Full::Queue => (
            Reason::Overloaded,
            "there is no room for another request; ask again",
        ),
    };
    Rejection::new(reason, "concurrency", told).retry_after(SOON)
}

pin_project! {
    /// The future of [`Concurrency`].
    pub struct ResponseFuture<S, B, C>
    where
        S: Service<Request<B>>,
        C: Clock,
    {
        #[pin]
        step: Step<S, B, C>,
    }
}

pin_project! {
    /// What waits for a permit, and what it is for.
    struct Wait<S, B, C: Clock> {
        waiting: Waiting,
        call: Option<(S, Request<B>)>,
        #[pin]
        timer: C::Sleep,
        toll: Option<Toll>,
        clock: C,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, B, C>
    where
        S: Service<Request<B>>,
        C: Clock,
    {
        // → Called with a permit, Refused without
        // Boxed: few wait, and each future would be as large.
        Waiting { wait: Pin<Box<Wait<S, B, C>>> },
        // The permit last: what runs inside is let go of before it is given back.
        Called { #[pin] inner: S::Future, permit: Option<Permit> },
        Refused { full: Full, toll: Toll },
    }
}

impl<S, B, C, R> Future for ResponseFuture<S, B, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    C: Clock,
{
    type Output = Result<Response<Guarded<R, Hold>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Waiting { wait } => {
                    let wait = wait.as_mut().project();
                    let got = match wait.waiting.poll(cx.waker()) {
                        Poll::Ready(got) => got,
                        Poll::Pending if wait.timer.poll(cx).is_ready() => Err(Full::Queue),
                        Poll::Pending => return Poll::Pending,
                    };
                    let call = wait.call.take();
                    let (mut inner, mut req) = call.expect("taken only when the step changes");
                    let toll = wait.toll.take().expect("taken with the call");
                    toll.paid(got.is_err(), wait.clock.now());
                    match got {
                        Ok(permit) => step.set(Step::Called {
                            inner: inner.call(req),
                            permit: Some(permit),
                        }),
                        Err(full) => {
                            attempt::Attempt::give_back(req.extensions_mut());
                            step.set(Step::Refused { full, toll });
                        }
                    }
                }
                StepProj::Called { inner, permit } => {
                    let answer = std::task::ready!(inner.poll(cx)).map_err(Into::into);
                    let hold = Hold {
                        _permit: permit.take(),
                    };
                    return Poll::Ready(
                        answer.map(|response| response.map(|body| Guarded::new(body, hold))),
                    );
                }
                StepProj::Refused { full, toll } => {
                    return Poll::Ready(Err(refusal(*full, toll).into()));
                }
            }
        }
    }
}

impl<S, B, C> fmt::Debug for ResponseFuture<S, B, C>
where
    S: Service<Request<B>>,
    C: Clock,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
