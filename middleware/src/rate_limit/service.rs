use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    cell::Level,
    key::{Asked, Key},
    quota::Quota,
    sharing::{self, Seat},
    table::{Cells, How, Open},
};
use crate::{
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    record::{Record, Standing, Unit},
    store::Store,
};

/// One limit: how requests are counted, and where.
#[derive(Clone)]
pub struct Limit {
    pub(super) name: Arc<str>,
    pub(super) key: Arc<dyn Key>,
    pub(super) cells: Cells,
    pub(super) told: bool,
    returns: bool,
    // What tells it from others of its name in a shared store.
    pub(super) apart: Option<Arc<str>>,
}

impl Limit {
    /// A limit of this name, as the caller is told of it: letters, digits, `-`, `_` and `.`.
    pub fn new(name: impl Into<Arc<str>>, key: impl Key, cells: Cells) -> Self {
        Self {
            name: name.into(),
            key: Arc::new(key),
            cells,
            told: false,
            returns: true,
            apart: None,
        }
    }

    /// What tells this limit from others of its name where a [`Store`] counts: those of a layer, and of all layers that use the store.
    #[must_use]
    pub fn apart(mut self, from_others: impl Into<Arc<str>>) -> Self {
        self.apart = Some(from_others.into());
        self
    }

    pub(super) fn over(&self, quota: Quota, wait: u64) -> Over {
        Over {
            limit: self.name.clone(),
            quota,
            wait,
        }
    }

    /// Whether each answer says how the limit stands: for those that are the caller's own.
    #[must_use]
    pub fn told(mut self, yes: bool) -> Self {
        self.told = yes;
        self
    }

    /// Whether a request that a limit further inside refuses has not counted here; it has not, unless this says no.
    #[must_use]
    pub fn gives_back(mut self, yes: bool) -> Self {
        self.returns = yes;
        self
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name)
            .field("told", &self.told)
            .field("gives_back", &self.returns)
            .finish_non_exhaustive()
    }
}

/// Refuses what comes more often than its limits allow.
#[derive(Clone)]
pub struct RateLimitLayer<C = SystemClock> {
    limits: Arc<[Limit]>,
    store: Option<Arc<dyn Store>>,
    clock: C,
}

impl RateLimitLayer {
    /// A layer with these limits, which decide as one.
    ///
    /// # Panics
    ///
    /// If two limits share their cells: a request would wait for itself.
    pub fn new(limits: impl IntoIterator<Item = Limit>) -> Self {
        let limits: Arc<[Limit]> = limits.into_iter().collect();
        for (at, limit) in limits.iter().enumerate() {
            let twice = limits[..at].iter().any(|it| it.cells.are(&limit.cells));
            assert!(!twice, "each limit of a layer has cells of its own");
        }
        Self {
            limits,
            store: None,
            clock: SystemClock,
        }
    }
}

impl<C> RateLimitLayer<C> {
    /// Counts together with the other processes that use this store; none is this process alone.
    #[must_use]
    pub fn shared(mut self, store: Option<Arc<dyn Store>>) -> Self {
        self.store = store;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> RateLimitLayer<D> {
        RateLimitLayer {
            limits: self.limits,
            store: self.store,
            clock,
        }
    }
}

impl<C> fmt::Debug for RateLimitLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limits", &self.limits)
            .field("shared", &self.store.is_some())
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for RateLimitLayer<C> {
    type Service = RateLimit<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimit<S, C = SystemClock> {
    inner: S,
    policy: RateLimitLayer<C>,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimit<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    C: Clock,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, Request<ReqBody>, S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let RateLimitLayer {
            limits,
            store,
            clock,
        } = &self.policy;
        if limits.is_empty() {
            // Nothing counts: the time is not asked for.
            let inner = self.inner.call(req);
            return ResponseFuture::called(inner, Vec::new());
        }
        let asked = Asked::of(&req);
        let record = req.extensions().get::<Record>();
        let now = clock.now();
        if let Some(store) = store {
            let seats = sharing::seats(limits, store, &asked, |it| it.nanos(now), record);
            return self.seated(seats, req);
        }
        let mut open = Vec::new();
        match admit(limits, true, &asked, now, record, &mut open) {
            Ok(()) => ResponseFuture::called(self.inner.call(req), open),
            Err(over) => ResponseFuture::refused(over.refusal()),
        }
    }
}

impl<S, C: Clone> RateLimit<S, C> {
    /// Goes on with what the limits of a shared store have said, or waits until they have.
    fn seated<R>(&mut self, seats: Vec<Seat>, req: R) -> ResponseFuture<S, R, S::Future, C>
    where
        S: Service<R> + Clone,
    {
        let refuses = |seat: &Seat| matches!(seat, Seat::Over(_) | Seat::Away);
        let waits = seats.iter().any(|seat| matches!(seat, Seat::Trip(_)));
        if waits && !seats.iter().any(refuses) {
            // The one that is ready goes along.
            let next = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, next);
            return ResponseFuture {
                step: Step::Waiting {
                    seats,
                    waiting: Some(Box::new((inner, req))),
                    policy: self.policy.clone(),
                },
            };
        }
        match conclude(seats, &self.policy.limits) {
            Ok(open) => ResponseFuture::called(self.inner.call(req), open),
            Err(refusal) => ResponseFuture::refused(refusal),
        }
    }
}

/// What limits that have all said something come to: all admit, or none has counted.
fn conclude(seats: Vec<Seat>, limits: &[Limit]) -> Result<Vec<Open>, Rejection> {
    let (mut open, mut over, mut away) = (Vec::with_capacity(seats.len()), None::<Over>, false);
    for seat in seats {
        match seat {
            Seat::Taken(taken) => open.push(taken),
            Seat::Over(it) if over.as_ref().is_none_or(|worst| worst.wait < it.wait) => {
                over = Some(it);
            }
            Seat::Away => away = true,
            // Nobody waits for it any more.
            Seat::Over(_) | Seat::Trip(_) => {}
        }
    }
    let refusal = match over {
        Some(over) => over.refusal(),
        None if away => self::away(),
        None => {
            // What never comes back is settled.
            open.retain(|it| {
                limits
                    .iter()
                    .any(|limit| limit.returns && it.is_of(&limit.cells))
            });
            return Ok(open);
        }
    };
    open.into_iter().for_each(Open::give_back);
    Err(refusal)
}

#[cold]
fn away() -> Rejection {
    let told = "requests are counted in a store that is away at the moment; ask again";
    Rejection::new(Reason::Overloaded, "rate_limit", told).retry_after(AGAIN)
}

/// When to ask again while the store is away.
const AGAIN: Duration = Duration::from_secs(1);

/// The limit that a request has to wait for longest.
#[derive(Debug)]
pub(super) struct Over {
    limit: Arc<str>,
    quota: Quota,
    pub(super) wait: u64,
}

impl Over {
    #[cold]
    fn refusal(self) -> Rejection {
        let Self { limit, quota, wait } = self;
        let wait = Duration::from_nanos(wait);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let told = format!("over {quota} (limit {limit}); ask again in {seconds} s");
        Rejection::new(Reason::RateLimit, "rate_limit", Cow::Owned(told)).retry_after(wait)
    }
}

/// Lets a request in if every limit does, and counts it then; `so_far`: those outside do. All cells that it counts in are held until that is decided, in the
/// order of the limits, so that nobody sees it counted here and not there.
pub(super) fn admit(
    limits: &[Limit],
    so_far: bool,
    asked: &Asked<'_>,
    now: Instant,
    record: Option<&Record>,
    open: &mut Vec<Open>,
) -> Result<(), Over> {
    let Some((limit, inner)) = limits.split_first() else {
        return Ok(());
    };
    let counted = limit.key.count(asked).filter(|it| !it.quotas.is_empty());
    let Some(counted) = counted else {
        return admit(inner, so_far, asked, now, record, open);
    };
    let cells = &limit.cells;
    let tag = cells.tag(&counted.id);
    let nanos = cells.nanos(now);
    let mut shard = cells.shard(tag);
    let (cell, own) = cells.cell(&mut shard, tag, &counted, nanos);
    let mine = cell.wait(nanos);
    let so_far = so_far && mine.is_none();
    let others = admit(inner, so_far, asked, now, record, open);
    if so_far && others.is_ok() {
        let returns = limit.returns && own;
        let charge = cell.charge(nanos, returns);
        if returns {
            open.push(Open::new(cells.clone(), tag, How::Here(charge)));
        }
    }
    if limit.told
        && let Some(record) = record
    {
        stands(&limit.name, record, cell.levels(nanos));
    }
    match (mine, others) {
        (None, others) => others,
        (Some((wait, _)), Err(others)) if others.wait >= wait => Err(others),
        (Some((wait, quota)), _) => Err(limit.over(quota, wait)),
    }
}

/// Writes down how a limit stands that is the caller's own.
pub(super) fn stands(limit: &Arc<str>, record: &Record, levels: impl Iterator<Item = Level>) {
    for level in levels {
        record.add_standing(Standing {
            limit: limit.clone(),
            quota: u64::from(level.quota.burst()),
            window: level.quota.per(),
            left: u64::from(level.left),
            reset: Duration::from_nanos(level.reset),
            unit: Unit::Requests,
        });
    }
}

pin_project! {
    /// The future of [`RateLimit`].
    pub struct ResponseFuture<S, R, F, C = SystemClock> {
        #[pin]
        step: Step<S, R, F, C>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, R, F, C> {
        // For a shared store. What it has said counts if it is dropped.
        // What waits is boxed: few do, and each future would be as large.
        Waiting { seats: Vec<Seat>, waiting: Option<Box<(S, R)>>, policy: RateLimitLayer<C> },
        // What was counted and may be given back stays counted if it is dropped.
        Called { #[pin] inner: F, open: Vec<Open> },
        Refused { error: Option<BoxError> },
    }
}

impl<S, R, F, C> ResponseFuture<S, R, F, C> {
    fn called(inner: F, open: Vec<Open>) -> Self {
        Self {
            step: Step::Called { inner, open },
        }
    }

    fn refused(refusal: Rejection) -> Self {
        Self {
            step: Step::Refused {
                error: Some(refusal.into()),
            },
        }
    }
}

impl<S, R, F, C> fmt::Debug for ResponseFuture<S, R, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, ReqBody, C, B> Future for ResponseFuture<S, Request<ReqBody>, S::Future, C>
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    C: Clock,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Waiting {
                    seats,
                    waiting,
                    policy,
                } => {
                    let req = waiting.as_ref().map(|waiting| &waiting.1);
                    let record = req.and_then(|req| req.extensions().get());
                    ready!(policy.poll_trips(seats, record, cx));
                    let seats = std::mem::take(seats);
                    match conclude(seats, &policy.limits) {
                        Ok(open) => {
                            let (mut inner, req) = *waiting.take().expect(AGAIN_POLLED);
                            let inner = inner.call(req);
                            step.set(Step::Called { inner, open });
                        }
                        Err(refusal) => return Poll::Ready(Err(refusal.into())),
                    }
                }
                StepProj::Called { inner, open } => {
                    let answer = ready!(inner.poll(cx)).map_err(Into::into);
                    let open = std::mem::take(open);
                    if let Err(error) = &answer
                        && is_limit(error)
                    {
                        open.into_iter().for_each(Open::give_back);
                    }
                    return Poll::Ready(answer);
                }
                StepProj::Refused { error } => {
                    let error = error.take().expect(AGAIN_POLLED);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

const AGAIN_POLLED: &str = "a future is not polled after it was ready";

impl<C: Clock> RateLimitLayer<C> {
    /// Ready when each limit has said something.
    fn poll_trips(
        &self,
        seats: &mut [Seat],
        record: Option<&Record>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(store) = &self.store else {
            return Poll::Ready(());
        };
        let mut all = Poll::Ready(());
        for seat in seats {
            let Seat::Trip(trip) = seat else { continue };
            let now = |cells: &Cells| cells.nanos(self.clock.now());
            match trip.poll(cx, &self.limits, store, now, record) {
                Poll::Ready(said) => *seat = said,
                Poll::Pending => all = Poll::Pending,
            }
        }
        all
    }
}

/// Whether a limit further inside refused.
fn is_limit(error: &BoxError) -> bool {
    let reason = Rejection::find(&**error).map(Rejection::reason);
    matches!(
        reason,
        Some(Reason::InsufficientQuota | Reason::Overloaded | Reason::RateLimit)
    )
}
