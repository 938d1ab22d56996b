use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    account::{Short, Terms},
    admit::Admitted,
    asking::Waits,
    journal::Journal,
    ledger::{Ledger, Refusal},
    policy::Policy,
    riding::{Riding, ended_by},
    shared::Shared,
};
use crate::{
    body::{Guarded, Held},
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    record::Ended,
};

/// A response body in which a reservation rides.
pub type ResponseBody<B, C = SystemClock> = Guarded<B, Riding<C>>;

/// Reserves what a request may cost before it is sent, and settles what it did cost when its answer has ended.
#[derive(Clone)]
pub struct BudgetLayer<C = SystemClock> {
    pub(super) policy: Arc<Policy>,
    pub(super) ledger: Ledger,
    pub(super) journal: Option<Arc<dyn Journal>>,
    pub(super) shared: Option<Shared>,
    pub(super) clock: C,
}

impl BudgetLayer {
    /// A layer with this policy, over these accounts.
    pub fn new(policy: Policy, ledger: Ledger) -> Self {
        Self {
            policy: Arc::new(policy),
            ledger,
            journal: None,
            shared: None,
            clock: SystemClock,
        }
    }
}

impl<C> BudgetLayer<C> {
    /// Writes down what is admitted and how it ends. A request under a budget of money waits until its admission is written down.
    #[must_use]
    pub fn journal(mut self, journal: Arc<dyn Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Keeps what is limited where several processes see it, and not in the ledger. A request under limits waits for an answer.
    #[must_use]
    pub fn shared(mut self, shared: Shared) -> Self {
        for (name, terms) in &self.policy.callers {
            shared.watch(Some(name), terms);
        }
        let terms = Terms {
            money: self.policy.global,
            ..Terms::default()
        };
        shared.watch(None, &terms);
        self.shared = Some(shared);
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> BudgetLayer<D> {
        BudgetLayer {
            policy: self.policy,
            ledger: self.ledger,
            journal: self.journal,
            shared: self.shared,
            clock,
        }
    }

    fn is_off(&self) -> bool {
        self.policy.is_off() && self.journal.is_none()
    }
}

impl<C> fmt::Debug for BudgetLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer")
            .field("policy", &self.policy)
            .field("journal", &self.journal.is_some())
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for BudgetLayer<C> {
    type Service = Budgeted<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Budgeted {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`BudgetLayer`].
#[derive(Clone, Debug)]
pub struct Budgeted<S, C = SystemClock> {
    inner: S,
    pub(super) layer: BudgetLayer<C>,
}

#[cold]
pub(super) fn refuse(Refusal { short, global }: &Refusal) -> Rejection {
    let whose = if *global { "all together" } else { "you" };
    match short {
        Short::Tokens { wait, rate, .. } => {
            let wait = Duration::from_nanos(*wait);
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let told = format!("over {rate} (limit tokens); ask again in {seconds} s");
            Rejection::new(Reason::RateLimit, "budget", Cow::Owned(told)).retry_after(wait)
        }
        Short::Money { budget, .. } => {
            let told = match budget.per.as_str() {
                Some(period) => format!(
                    "what is left of the money that {whose} may spend this {period} is less than this request may cost"
                ),
                None => format!(
                    "what is left of the money that {whose} may spend is less than this request may cost"
                ),
            };
            Rejection::new(Reason::InsufficientQuota, "budget", Cow::Owned(told))
        }
    }
}

#[cold]
pub(super) fn unwritten() -> Rejection {
    let told = "what is spent cannot be written down at the moment, and your budget is of money; ask again";
    Rejection::new(Reason::Overloaded, "budget", told).retry_after(AGAIN)
}

#[cold]
fn unchanged() -> Rejection {
    let told = "an output limit was put where another one was";
    Rejection::new(Reason::Internal, "budget", told)
}

#[cold]
pub(super) fn away() -> Rejection {
    let told = "what is left of your limits cannot be known at the moment; ask again";
    Rejection::new(Reason::Overloaded, "budget", told).retry_after(AGAIN)
}

/// When to ask again after a disk that was full or slow, and a store that is away.
const AGAIN: Duration = Duration::from_secs(1);

impl<S, C, B, ResBody> Service<Request<Held<B>>> for Budgeted<S, C>
where
    S: Service<Request<Held<B>>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody, C>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Request<Held<B>>, S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> Self::Future {
        if self.layer.is_off() {
            return ResponseFuture::called(self.inner.call(req), None);
        }
        match self.admit(&req) {
            Ok(None) => ResponseFuture::called(self.inner.call(req), None),
            Ok(Some(Admitted {
                riding,
                waits,
                change,
            })) => {
                if !change.apply(&mut req) {
                    riding.failed(Ended::Internal);
                    return ResponseFuture::refused(unchanged());
                }
                if waits.is_over() {
                    return ResponseFuture::called(self.inner.call(req), Some(riding));
                }
                // The one that is ready goes along.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                ResponseFuture {
                    step: Step::Waiting {
                        waits,
                        waiting: Some(Box::new((inner, req))),
                    },
                    riding: Some(riding),
                }
            }
            Err(refused) => ResponseFuture::refused(refused),
        }
    }
}

pin_project! {
    /// The future of [`Budgeted`].
    pub struct ResponseFuture<S, R, F, C: Clock> {
        #[pin]
        step: Step<S, R, F>,
        // Behind what it waits for: that is dropped first, and has said what it used.
        riding: Option<Riding<C>>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, R, F> {
        // What waits is boxed: few do, and each future would be as large.
        Waiting { waits: Waits, waiting: Option<Box<(S, R)>> },
        Called { #[pin] inner: F },
        Refused { error: Option<BoxError> },
    }
}

impl<S, R, F, C: Clock> ResponseFuture<S, R, F, C> {
    fn called(inner: F, riding: Option<Riding<C>>) -> Self {
        Self {
            step: Step::Called { inner },
            riding,
        }
    }

    fn refused(why: Rejection) -> Self {
        Self {
            step: Step::Refused {
                error: Some(why.into()),
            },
            riding: None,
        }
    }
}

impl<S, R, F, C: Clock> fmt::Debug for ResponseFuture<S, R, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("riding", &self.riding)
            .finish_non_exhaustive()
    }
}

impl<S, Q, C, B> Future for ResponseFuture<S, Request<Held<Q>>, S::Future, C>
where
    S: Service<Request<Held<Q>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    C: Clock,
    B: Body<Data = Bytes, Error = BoxError>,
{
    type Output = Result<Response<ResponseBody<B, C>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Waiting { waits, waiting } => {
                    const ONCE: &str = "a future is not polled after it was ready";
                    let (_, req) = &mut **waiting.as_mut().expect(ONCE);
                    let refused = match ready!(waits.poll(req, cx)) {
                        Err(refused) => Some((refused, Ended::Refused)),
                        Ok(None) => None,
                        Ok(Some(got)) => {
                            if let Some(riding) = this.riding.as_mut() {
                                riding.reserved(got.leases, got.worst, got.written);
                            }
                            let changed = got.lower.is_none_or(|lower| lower.apply(req));
                            (!changed).then(|| (unchanged(), Ended::Internal))
                        }
                    };
                    if let Some((refused, ended)) = refused {
                        *waits = Waits::default();
                        if let Some(riding) = this.riding.take() {
                            riding.failed(ended);
                        }
                        return Poll::Ready(Err(refused.into()));
                    }
                    if !waits.is_over() {
                        continue;
                    }
                    let (mut inner, req) = *waiting.take().expect(ONCE);
                    let inner = inner.call(req);
                    this.step.set(Step::Called { inner });
                }
                StepProj::Called { inner } => {
                    let answer = ready!(inner.poll(cx)).map_err(Into::into);
                    let riding = this.riding.take();
                    return Poll::Ready(match answer {
                        Ok(response) => Ok(ride(response, riding)),
                        Err(error) => {
                            if let Some(riding) = riding {
                                riding.failed(ended_by(&error));
                            }
                            Err(error)
                        }
                    });
                }
                StepProj::Refused { error } => {
                    let error = error
                        .take()
                        .expect("a future is not polled after it was ready");
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

fn ride<B, C>(response: Response<B>, riding: Option<Riding<C>>) -> Response<ResponseBody<B, C>>
where
    B: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    let mut riding = riding.unwrap_or_else(Riding::none);
    let good = response.status().is_success();
    riding.answered(good, response.extensions().get());
    response.map(|body| Guarded::new(body, riding))
}
