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
    key::{Asked, Key},
    quota::Quota,
    table::{Cells, Open},
};
use crate::{
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
    record::{Record, Standing, Unit},
};

/// One limit: how requests are counted, and where.
#[derive(Clone)]
pub struct Limit {
    name: Arc<str>,
    key: Arc<dyn Key>,
    cells: Cells,
    told: bool,
    returns: bool,
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
#[derive(Clone, Debug)]
pub struct RateLimitLayer<C = SystemClock> {
    limits: Arc<[Limit]>,
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
            clock: SystemClock,
        }
    }
}

impl<C> RateLimitLayer<C> {
    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> RateLimitLayer<D> {
        RateLimitLayer {
            limits: self.limits,
            clock,
        }
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
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    C: Clock,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let limits = &*self.policy.limits;
        if limits.is_empty() {
            // Nothing counts: the time is not asked for.
            let inner = self.inner.call(req);
            return ResponseFuture::called(inner, Vec::new());
        }
        let asked = Asked::of(&req);
        let record = req.extensions().get::<Record>();
        let mut open = Vec::new();
        let now = self.policy.clock.now();
        match admit(limits, true, &asked, now, record, &mut open) {
            Ok(()) => ResponseFuture::called(self.inner.call(req), open),
            Err(over) => ResponseFuture {
                step: Step::Refused {
                    error: Some(over.refusal().into()),
                },
            },
        }
    }
}

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
            open.push(Open::new(cells.clone(), tag, charge));
        }
    }
    if limit.told
        && let Some(record) = record
    {
        for level in cell.levels(nanos) {
            record.add_standing(Standing {
                limit: limit.name.clone(),
                quota: u64::from(level.quota.burst()),
                window: level.quota.per(),
                left: u64::from(level.left),
                reset: Duration::from_nanos(level.reset),
                unit: Unit::Requests,
            });
        }
    }
    match (mine, others) {
        (None, others) => others,
        (Some((wait, _)), Err(others)) if others.wait >= wait => Err(others),
        (Some((wait, quota)), _) => Err(Over {
            limit: limit.name.clone(),
            quota,
            wait,
        }),
    }
}

pin_project! {
    /// The future of [`RateLimit`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    #[project = StepProj]
    #[derive(Debug)]
    enum Step<F> {
        // What was counted and may be given back stays counted if it is dropped.
        Called { #[pin] inner: F, open: Vec<Open> },
        Refused { error: Option<BoxError> },
    }
}

impl<F> ResponseFuture<F> {
    fn called(inner: F, open: Vec<Open>) -> Self {
        Self {
            step: Step::Called { inner, open },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Called { inner, open } => {
                let answer = ready!(inner.poll(cx)).map_err(Into::into);
                let open = std::mem::take(open);
                if let Err(error) = &answer
                    && is_limit(error)
                {
                    open.into_iter().for_each(Open::give_back);
                }
                Poll::Ready(answer)
            }
            StepProj::Refused { error } => {
                let error = error
                    .take()
                    .expect("a future is not polled after it was ready");
                Poll::Ready(Err(error))
            }
        }
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
