use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    ask::{self, StickyOn},
    body::ResponseBody,
    field::{Field, Nobody},
    strategy::{Dice, Strategy},
    target::Target,
    watch::Watch,
};
use crate::{
    attempt::{Ask, Attempt, Chosen, TARGETS},
    chance::Chance,
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    facts::{Caller, PricedOnly, Route},
    record::Record,
    resident::{Called, Resident},
};

/// A service made of one service per target.
pub struct Balance<S, C = SystemClock> {
    pub(super) field: Arc<Field>,
    services: Arc<[Resident<S>]>,
    on: Option<StickyOn>,
    clock: C,
}

/// Targets that nothing can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// There is none.
    None,
    /// There are more than [`TARGETS`].
    TooMany,
    /// Each has the weight 0.
    Drained,
}

impl<S> Balance<S> {
    /// A choice between these targets.
    ///
    /// # Errors
    ///
    /// Targets of which none could ever be picked, or too many of them.
    pub fn new(
        targets: impl IntoIterator<Item = Target<S>>,
        strategy: Strategy,
    ) -> Result<Self, Unusable> {
        let targets = targets
            .into_iter()
            .map(|target| (target.seat, Resident::new(target.service)));
        let (mut seats, services): (Vec<_>, Vec<_>) = targets.unzip();
        if seats.is_empty() {
            return Err(Unusable::None);
        }
        if seats.len() > TARGETS {
            return Err(Unusable::TooMany);
        }
        if seats.iter().all(|seat| seat.weight == 0) {
            return Err(Unusable::Drained);
        }
        super::target::tell_apart(&mut seats);
        if strategy.measures() {
            seats.iter().for_each(|seat| seat.source.count());
        }
        Ok(Self {
            on: matches!(strategy, Strategy::Sticky).then_some(StickyOn::First),
            field: Arc::new(Field {
                seats: seats.into(),
                strategy,
                dice: Dice::new(Chance::of_process()),
                state: 0,
            }),
            services: services.into(),
            clock: SystemClock,
        })
    }
}

impl<S, C> Balance<S, C> {
    /// What the choice of [`Strategy::Weighted`] and of [`Strategy::Sticky`] sticks to.
    #[must_use]
    pub fn sticky(mut self, on: StickyOn) -> Self {
        self.on = Some(on);
        self
    }

    /// The place of the target that keeps files, batches, stored responses and cached content; unless set, the first.
    ///
    /// # Panics
    ///
    /// If there is no such target, or the service was cloned already.
    #[must_use]
    pub fn state_target(self, at: usize) -> Self {
        assert!(at < self.services.len(), "a target of this balance");
        self.field(|field| field.state = at)
    }

    /// Draws from another row of chance.
    ///
    /// # Panics
    ///
    /// If the service was cloned already.
    #[must_use]
    pub fn chance(self, chance: Chance) -> Self {
        self.field(|field| field.dice = Dice::new(chance))
    }

    fn field(mut self, change: impl FnOnce(&mut Field)) -> Self {
        change(Arc::get_mut(&mut self.field).expect("nobody has a clone yet"));
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> Balance<S, D> {
        Balance {
            field: self.field,
            services: self.services,
            on: self.on,
            clock,
        }
    }

    /// Of each target, whether a request for this model may go to it, or why not: `pin` names the only provider, `bound` says that
    /// it is about what a provider keeps.
    pub fn eligible(
        &self,
        model: Option<&str>,
        pin: Option<&str>,
        bound: bool,
    ) -> Vec<Result<(), &'static str>> {
        let seats = self.field.seats.iter().enumerate();
        let why = |(at, seat)| self.field.admits(at, seat, model, pin, bound);
        seats.map(why).collect()
    }

    /// The services, in the order of the targets.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &S> {
        self.services.iter().map(Resident::service)
    }
}

impl<S, C: Clock> Balance<S, C> {
    fn ask<B>(&self, req: &Request<B>) -> Ask {
        let facts = req.extensions();
        let model = ask::model(req);
        let terms = || facts.get().map(|caller: &Caller| caller.terms().clone());
        if let [seat] = &*self.field.seats {
            // There is nothing to choose: it is the one, if it may be asked at all.
            let several = seat.keys.as_ref().is_some_and(|keys| !keys.is_sole());
            return Ask {
                model,
                eligible: 1,
                terms: several.then(terms).flatten(),
                bound: ask::is_bound(req),
                ..Ask::default()
            };
        }
        let bound = ask::is_bound(req);
        let pin = facts.get().and_then(|route: &Route| route.pin.as_deref());
        let mut eligible = self.field.eligible(model.as_deref(), pin, bound);
        if facts.get::<PricedOnly>().is_some() {
            eligible = self.field.priced(eligible, model.as_deref());
        }
        let counts = matches!(self.field.strategy, Strategy::Cheapest | Strategy::Own(_));
        Ask {
            eligible,
            key: self.on.and_then(|on| ask::key(req, on)),
            tokens: if counts { ask::tokens(req) } else { (0, 0) },
            terms: terms(),
            model,
            bound,
        }
    }

    fn pick(&self, ask: &Ask) -> Result<Chosen, Rejection> {
        if ask.eligible == 0 {
            let told = "none of the route's targets serves this model at present";
            return Err(Rejection::new(Reason::NoTarget, LAYER, told));
        }
        self.field
            .first(ask, || self.clock.now())
            .map_err(|nobody| self.nobody(nobody))
    }

    fn nobody(&self, nobody: Nobody) -> Rejection {
        let told = "every target of this route has failed of late, and is left alone for a while; ask again";
        let refused = Rejection::new(Reason::NoTarget, LAYER, told);
        match nobody.until {
            Some(until) => refused.retry_after(until.saturating_duration_since(self.clock.now())),
            None => refused,
        }
    }

    /// The target of this request, and whether it is the first one that it is sent to.
    fn choose<B>(&self, req: &Request<B>) -> Result<(Chosen, bool), Rejection> {
        let Some(attempt) = req.extensions().get::<Attempt>() else {
            return Ok((self.pick(&self.ask(req))?, true));
        };
        attempt.pick(|course| {
            let planned = course.planned;
            let planned =
                planned.and_then(|index| self.field.at(index, course.ask.model.as_deref()));
            let (chosen, first) = match planned {
                Some(chosen) => (chosen, false),
                None => {
                    let ask = self.ask(req);
                    let chosen = self.pick(&ask)?;
                    course.set_ask(ask, self.field.clone());
                    (chosen, course.number <= 1)
                }
            };
            course.choose(chosen.clone());
            Ok((chosen, first))
        })
    }
}

impl<S, C: Clone> Clone for Balance<S, C> {
    fn clone(&self) -> Self {
        Self {
            field: self.field.clone(),
            services: self.services.clone(),
            on: self.on,
            clock: self.clock.clone(),
        }
    }
}

impl<S, C> fmt::Debug for Balance<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Balance<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
    C: Clock,
{
    type Response = Response<ResponseBody<ResBody, C>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, ReqBody, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Which service must be ready depends on the request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let (chosen, first) = match self.choose(&req) {
            Ok(chosen) => chosen,
            Err(refused) => {
                return ResponseFuture {
                    step: Step::Refused {
                        error: Some(refused.into()),
                    },
                    watch: None,
                };
            }
        };
        let measures = self.field.strategy.measures();
        let seat = &self.field.seats[chosen.index];
        let attempt = || req.extensions().get::<Attempt>().cloned();
        let watch = Watch {
            // What runs for this route runs for those that go by it, too.
            load: seat.source.counts().then(|| chosen.health.load()),
            since: measures.then(|| self.clock.now()),
            alone: seat.callers_own.then(attempt),
            first,
            record: req.extensions().get::<Record>().cloned(),
            clock: self.clock.clone(),
            begun: chosen.health.pulse().begin(),
            chosen,
        };
        let endpoint = &self.field.seats[watch.chosen.index].endpoint;
        req.extensions_mut().insert(endpoint.clone());
        let step = match self.services[watch.chosen.index].call(req) {
            Called::Runs(inner) => Step::Called { inner },
            Called::Failed(error) => Step::Refused {
                error: Some(error.into()),
            },
            Called::Waits(inner, req) => Step::Readying {
                ready: Some(Box::new((inner, req))),
            },
        };
        ResponseFuture {
            step,
            watch: Some(watch),
        }
    }
}

const LAYER: &str = "balance";

pin_project! {
    /// The future of [`Balance`].
    pub struct ResponseFuture<S, B, C>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, S::Future, B>,
        // Last: what runs inside is let go of before the load is taken back.
        watch: Option<Watch<C>>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F, B> {
        // → Called when the chosen service is ready. Boxed: it is rare, and each future would be as large.
        Readying { ready: Option<Box<(S, Request<B>)>> },
        Called { #[pin] inner: F },
        Refused { error: Option<BoxError> },
    }
}

impl<S, B, C, R> Future for ResponseFuture<S, B, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    C: Clock,
{
    type Output = Result<Response<ResponseBody<R, C>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answer = loop {
            match this.step.as_mut().project() {
                StepProj::Readying { ready } => {
                    let waits = ready.as_mut().expect("taken only when the step changes");
                    let (inner, _) = &mut **waits;
                    if let Err(error) = ready!(inner.poll_ready(cx)) {
                        break Err(error.into());
                    }
                    let (mut inner, req) = *ready.take().expect("it was there just now");
                    this.step.set(Step::Called {
                        inner: inner.call(req),
                    });
                }
                StepProj::Called { inner } => break ready!(inner.poll(cx)).map_err(Into::into),
                StepProj::Refused { error } => {
                    let error = error.take();
                    break Err(error.expect("a future is not polled after it was ready"));
                }
            }
        };
        let watch = this.watch.take();
        Poll::Ready(match (answer, watch) {
            (Ok(response), Some(watch)) => Ok(watch.answered(response)),
            (Ok(response), None) => Ok(response.map(|body| ResponseBody::new(body, None))),
            (Err(error), watch) => {
                if let Some(watch) = watch {
                    watch.failed(&error);
                }
                Err(error)
            }
        })
    }
}

impl<S, B, C> fmt::Debug for ResponseFuture<S, B, C>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("there is no target"),
            Self::TooMany => write!(f, "there are more than {TARGETS} targets"),
            Self::Drained => f.write_str("each target has the weight 0"),
        }
    }
}

impl std::error::Error for Unusable {}
