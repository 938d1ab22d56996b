use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::permits::{Entry, Full, Permit, Permits, Waiting, Whose};
use crate::{
    body::{Ending, Guard, Guarded},
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::Caller,
};

/// Bounds how much runs at once.
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer<C = SystemClock> {
    permits: Permits,
    clock: C,
}

impl ConcurrencyLayer {
    /// A layer that takes from these permits.
    pub fn new(permits: Permits) -> Self {
        Self {
            permits,
            clock: SystemClock,
        }
    }
}

impl<C> ConcurrencyLayer<C> {
    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> ConcurrencyLayer<D> {
        ConcurrencyLayer {
            permits: self.permits,
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

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let whose = req.extensions().get().map(|caller: &Caller| Whose {
            who: (caller.listed_as().clone(), caller.name().clone()),
            class: caller.terms().priority,
        });
        let step = match self.policy.permits.enter(whose.as_ref()) {
            Ok(Entry::Permit(permit)) => Step::Called {
                inner: self.inner.call(req),
                permit: Some(permit),
            },
            Ok(Entry::Waiting(waiting, limit)) => {
                // The instance that is ready goes along; what stays has to become ready anew.
                let fresh = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, fresh);
                let until = self.policy.clock.now() + limit;
                Step::Waiting {
                    waiting: Some(waiting),
                    call: Some((inner, req)),
                    timer: self.policy.clock.sleep_until(until),
                }
            }
            Err(full) => Step::Refused { full },
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

#[cold]
fn refusal(full: Full) -> Rejection {
    let (reason, told) = match full {
        Full::Caller => (
            Reason::RateLimit,
            "as many requests of this caller run at once as may; let one end first",
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
        step: Step<S, S::Future, B, C::Sleep>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F, B, Z> {
        // → Called with a permit, Refused without
        Waiting {
            waiting: Option<Waiting>,
            call: Option<(S, Request<B>)>,
            #[pin] timer: Z,
        },
        // The permit last: what runs inside is let go of before it is given back.
        Called { #[pin] inner: F, permit: Option<Permit> },
        Refused { full: Full },
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
                StepProj::Waiting {
                    waiting,
                    call,
                    timer,
                } => {
                    let place = waiting.as_mut().expect("taken only when the step changes");
                    let got = match place.poll(cx.waker()) {
                        Poll::Ready(got) => got,
                        Poll::Pending if timer.poll(cx).is_ready() => Err(Full::Queue),
                        Poll::Pending => return Poll::Pending,
                    };
                    let (mut inner, req) = call.take().expect("taken only when the step changes");
                    match got {
                        Ok(permit) => step.set(Step::Called {
                            inner: inner.call(req),
                            permit: Some(permit),
                        }),
                        Err(full) => step.set(Step::Refused { full }),
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
                StepProj::Refused { full } => return Poll::Ready(Err(refusal(*full).into())),
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
