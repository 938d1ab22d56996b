use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    keys::Grant,
    origin,
    slots::{self, Found, Slot},
};
use crate::{
    call::Call,
    clock::{Clock, SystemClock},
    dialect::{self, Operation, Recognised},
    error::{BoxError, Reason, Rejection},
    facts::{Caller, ClientAddress},
    record::Record,
};

/// What a caller presents.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The key, as it came.
    pub key: &'a [u8],
    /// Whether it came as a bearer token.
    pub bearer: bool,
    /// Now, by the wall clock.
    pub now: SystemTime,
    /// Now, by the monotonic clock.
    pub at: Instant,
}

/// Somebody who is known.
#[derive(Clone, Debug)]
pub struct Known {
    caller: Caller,
    grant: Arc<Grant>,
}

/// Why somebody is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The key names nobody, or nobody any more.
    Key,
    /// Nobody can say now; ask again after this time.
    Unavailable(Duration),
}

/// Says whom a key names.
///
/// It must not tell by the time it takes how much of a key is right.
pub trait Verify: Send + Sync + 'static {
    /// Whom it names.
    ///
    /// # Errors
    ///
    /// Nobody, or nobody that can be told now.
    fn verify(&self, presented: &Presented<'_>) -> Result<Known, Unknown>;
}

impl<F> Verify for F
where
    F: Fn(&Presented<'_>) -> Result<Known, Unknown> + Send + Sync + 'static,
{
    fn verify(&self, presented: &Presented<'_>) -> Result<Known, Unknown> {
        self(presented)
    }
}

impl Known {
    /// This caller, within these restrictions. Whether the grant holds at all was judged by who makes this.
    pub fn new(caller: Caller, grant: Arc<Grant>) -> Self {
        Self { caller, grant }
    }

    /// Who it is.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("bearer", &self.bearer)
            .finish_non_exhaustive()
    }
}

/// Lets in only callers that are known.
#[derive(Clone)]
pub struct AuthLayer<C = SystemClock> {
    verify: Option<Arc<dyn Verify>>,
    clock: C,
}

impl AuthLayer {
    /// Lets in whom this knows.
    pub fn new(verify: impl Verify) -> Self {
        Self {
            verify: Some(Arc::new(verify)),
            clock: SystemClock,
        }
    }

    /// Lets everybody in.
    pub fn open() -> Self {
        Self {
            verify: None,
            clock: SystemClock,
        }
    }
}

impl<C> AuthLayer<C> {
    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> AuthLayer<D> {
        AuthLayer {
            verify: self.verify,
            clock,
        }
    }
}

impl<C: Clock> AuthLayer<C> {
    /// Who sent the request; takes their key out of it.
    fn admit<B>(&self, verify: &dyn Verify, req: &mut Request<B>) -> Result<(), Rejection> {
        let uri = req.uri();
        let unrecorded;
        let record = req.extensions().get::<Record>().cloned();
        let recognised = match &record {
            Some(record) => record.recognised(),
            None => {
                let (path, query) = (uri.path(), uri.query());
                unrecorded = dialect::recognise(req.method(), path, query, req.headers());
                &unrecorded
            }
        };
        let gemini = slots::is_gemini(recognised, uri.path());
        let (slot, key) = match slots::find(req.headers(), uri, gemini) {
            Found::One(slot, key) => (slot, key),
            Found::Nothing => return Err(unauthenticated()),
            Found::Different(one, other) => return Err(two_keys(one, other)),
        };
        let presented = Presented {
            key: &key,
            bearer: slot == Slot::Bearer,
            now: self.clock.wall(),
            at: self.clock.now(),
        };
        let known = match verify.verify(&presented) {
            Ok(known) => known,
            Err(Unknown::Key) => return Err(unauthenticated()),
            Err(Unknown::Unavailable(wait)) => return Err(unavailable(wait)),
        };
        may(&known.grant, req, recognised)?;
        let mut target = std::mem::take(req.uri_mut());
        slots::empty(req.headers_mut(), &mut target, slot, gemini);
        *req.uri_mut() = target;
        if let Some(record) = record {
            record.set_caller(known.caller.clone());
        }
        req.extensions_mut().insert(known.caller);
        Ok(())
    }
}

/// Whether a known caller may do this, from here.
fn may<B>(grant: &Grant, req: &Request<B>, recognised: &Recognised) -> Result<(), Rejection> {
    if let Some(from) = &grant.from
        && !ClientAddress::of(req.extensions()).is_some_and(|address| from(address))
    {
        return Err(forbidden("this key is not valid from this address"));
    }
    if !grant.origins.is_empty() && !origin::comes_from(req.headers(), &grant.origins) {
        return Err(forbidden("this key is not valid for this page"));
    }
    let Some(surfaces) = &grant.surfaces else {
        return Ok(());
    };
    let asked = match recognised {
        Recognised::Surface(surface) => Some(surface.operation),
        _ => None,
    };
    let lists = |it| matches!(it, Operation::Models | Operation::Model);
    if asked.is_some_and(|it| lists(it) || surfaces.contains(&it)) {
        return Ok(());
    }
    Err(forbidden("this key is not valid for what is asked for"))
}

#[cold]
fn unauthenticated() -> Rejection {
    let told = "the key is missing or not valid; send the key of a caller as the API does: as a bearer token, in x-api-key, api-key or \
                x-goog-api-key";
    Rejection::new(Reason::Unauthenticated, "auth", told)
}

#[cold]
fn two_keys(one: Slot, other: Slot) -> Rejection {
    let (one, other) = (one.as_str(), other.as_str());
    let told = if one == other {
        format!("the head holds two different keys in {one}; send one")
    } else {
        format!("the head holds two different keys, in {one} and in {other}; send one")
    };
    Rejection::new(Reason::Malformed, "auth", told)
}

#[cold]
fn unavailable(wait: Duration) -> Rejection {
    let told = "nobody can say now whose key this is; ask again";
    Rejection::new(Reason::Overloaded, "auth", told).retry_after(wait)
}

#[cold]
fn forbidden(told: &'static str) -> Rejection {
    Rejection::new(Reason::Forbidden, "auth", told)
}

impl<C> fmt::Debug for AuthLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("open", &self.verify.is_none())
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for AuthLayer<C> {
    type Service = Auth<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Auth {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`AuthLayer`].
#[derive(Clone, Debug)]
pub struct Auth<S, C = SystemClock> {
    inner: S,
    policy: AuthLayer<C>,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Auth<S, C>
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

    fn call(&mut self, mut req: Request<ReqBody>) -> Self::Future {
        let admitted = match &self.policy.verify {
            Some(verify) => self.policy.admit(&**verify, &mut req),
            None => Ok(()),
        };
        let call = Call::admitted(admitted, || self.inner.call(req));
        ResponseFuture { call }
    }
}

pin_project! {
    /// The future of [`Auth`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: Call<F, BoxError>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll_answer(cx)
    }
}
