use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    limited::{Limited, Patience},
    read::{self, Plan},
};
use crate::{
    body::{Gather, Held, Room, Taken},
    clock::{Clock, SystemClock, Timer},
    dialect::{self, Parts, Surface},
    error::{BoxError, Rejection},
    json,
    record::Record,
};

/// Reads request bodies up to a limit.
#[derive(Clone, Debug)]
pub struct PeekLayer<C = SystemClock> {
    limit: u64,
    room: Option<Room>,
    timeout: Duration,
    silence: Duration,
    json: json::Limits,
    user_texts: bool,
    clock: C,
}

impl PeekLayer {
    /// Bodies of at most `limit` bytes, whole within 60 seconds and silent for at most 10.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            room: None,
            timeout: Duration::from_secs(60),
            silence: Duration::from_secs(10),
            json: json::Limits::default(),
            user_texts: false,
            clock: SystemClock,
        }
    }
}

impl<C> PeekLayer<C> {
    /// Bodies of all requests together take no more than this room; a request that finds none is refused. Without it
    /// only each alone is limited.
    #[must_use]
    pub fn room(mut self, room: Room) -> Self {
        self.room = Some(room);
        self
    }

    /// How long a body may take to come whole.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a body may pause.
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// How deep a JSON body may be nested, and how many members one object may have.
    #[must_use]
    pub fn json(mut self, limits: json::Limits) -> Self {
        self.json = limits;
        self
    }

    /// Keeps the texts of the user for whoever decides by what is said; each is copied.
    #[must_use]
    pub fn user_texts(mut self, yes: bool) -> Self {
        self.user_texts = yes;
        self
    }

    /// Takes the time from another clock.
    pub fn clock<D: Clock>(self, clock: D) -> PeekLayer<D> {
        let Self {
            limit,
            room,
            timeout,
            silence,
            json,
            user_texts,
            ..
        } = self;
        PeekLayer {
            limit,
            room,
            timeout,
            silence,
            json,
            user_texts,
            clock,
        }
    }
}

impl<S, C: Clone> Layer<S> for PeekLayer<C> {
    type Service = Peek<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Peek {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`PeekLayer`].
#[derive(Clone, Debug)]
pub struct Peek<S, C = SystemClock> {
    inner: S,
    policy: PeekLayer<C>,
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for Peek<S, C>
where
    S: Service<Request<Held<Limited<ReqBody, C>>>, Response = Response<ResBody>> + Clone,
    S::Error: Into<BoxError>,
    ReqBody: Body<Data = Bytes> + Unpin,
    ReqBody::Error: Into<BoxError>,
    C: Clock,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S, ReqBody, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let limit = self.policy.limit;
        let surface = surface(&req);
        let plan = read::announced(req.headers(), limit)
            .and_then(|()| Plan::of(req.method(), req.headers(), surface.as_ref()));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                return ResponseFuture {
                    step: Step::Refused {
                        error: Some(error.into()),
                    },
                };
            }
        };
        let (head, body) = req.into_parts();
        let body = Limited::new(body, limit);
        let patience = Patience {
            timeout: self.policy.timeout,
            silence: self.policy.silence,
            clock: self.policy.clock.clone(),
        };
        let (form, surface) = match (plan, surface) {
            (Plan::Json, Some(surface)) => (None, surface),
            (Plan::Multipart(parts), Some(surface)) => (Some(parts), surface),
            _ => {
                let req = Request::from_parts(head, Held::unread(body.patient(patience)));
                return ResponseFuture {
                    step: Step::Called {
                        inner: self.inner.call(req),
                    },
                };
            }
        };
        // The instance that is ready goes along; what stays has to become ready anew.
        let fresh = self.inner.clone();
        let reading = Reading {
            inner: std::mem::replace(&mut self.inner, fresh),
            head,
            body,
            surface,
            form,
            json: self.policy.json,
            user_texts: self.policy.user_texts,
            gather: Gather::default(),
            taken: self.policy.room.as_ref().map(Room::take),
        };
        ResponseFuture {
            step: Step::Reading {
                waits: Some(Box::new(Waits {
                    reading,
                    patience,
                    start: None,
                    timer: None,
                })),
            },
        }
    }
}

fn surface<B>(req: &Request<B>) -> Option<Surface> {
    if let Some(record) = req.extensions().get::<Record>() {
        return record.surface().cloned();
    }
    dialect::surface_of(req)
}

/// The instance that is ready, and the request for it.
type Readied<S, B, C> = (S, Request<Held<Limited<B, C>>>);

/// A request whose body is waited for.
struct Waits<S, B, C: Clock> {
    reading: Reading<S, B, C>,
    patience: Patience<C>,
    // When the first wait began.
    start: Option<Instant>,
    // Made when something is waited for.
    timer: Option<Pin<Box<C::Sleep>>>,
}

impl<S, B, C: Clock> Waits<S, B, C> {
    /// Ready when the body is late; `progress` says that some of it has just come.
    fn poll_late(&mut self, cx: &mut Context<'_>, progress: bool) -> Poll<()> {
        let Self {
            patience,
            start,
            timer,
            ..
        } = self;
        let now = patience.clock.now();
        let whole = *start.get_or_insert(now) + patience.timeout;
        let next = whole.min(now + patience.silence);
        let timer = match timer {
            None => timer.insert(Box::pin(patience.clock.sleep_until(next))),
            Some(timer) => {
                if progress {
                    timer.as_mut().reset(next);
                }
                timer
            }
        };
        timer.as_mut().poll(cx)
    }
}

struct Reading<S, B, C: Clock> {
    inner: S,
    head: http::request::Parts,
    body: Limited<B, C>,
    surface: Surface,
    // None for JSON.
    form: Option<Box<Parts>>,
    json: json::Limits,
    user_texts: bool,
    gather: Gather,
    taken: Option<Taken>,
}

impl<S, B, C> Reading<S, B, C>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    C: Clock,
{
    /// Reads on; ready once enough of the body is known, with whether that is all of it. `progress` is set by each frame.
    fn poll(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<Result<bool, BoxError>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(Ok(true));
            };
            *progress = true;
            // Trailers of a request are not for us to read, and end it.
            let Ok(data) = frame.map_err(read::broken)?.into_data() else {
                continue;
            };
            if self
                .taken
                .as_mut()
                .is_some_and(|taken| !taken.more(data.len()))
            {
                return Poll::Ready(Err(read::no_room().into()));
            }
            let known = self.push(data)?;
            let over = self.body.is_end_stream();
            if over || known {
                return Poll::Ready(Ok(over));
            }
        }
    }

    /// Takes a frame; true once the part that names the model is known.
    fn push(&mut self, frame: Bytes) -> Result<bool, Rejection> {
        let known = match &mut self.form {
            Some(parts) => {
                parts.feed(&frame).map_err(read::unclear)?;
                parts.model().is_some()
            }
            None => false,
        };
        self.gather.push(frame);
        Ok(known)
    }

    /// The request, with everything that was read in it.
    fn request(self, over: bool, patience: Patience<C>) -> Result<Readied<S, B, C>, BoxError> {
        let Self {
            inner,
            mut head,
            mut body,
            surface,
            form,
            json,
            user_texts,
            gather,
            taken,
        } = self;
        let path = head.uri.path();
        let intent = match form {
            None => read::json(&surface, path, &gather.text(), &json, user_texts)?,
            Some(parts) => {
                if over {
                    parts.finish().map_err(read::unclear)?;
                }
                let intent = read::opaque(surface, path, parts.model());
                body = body.form(parts);
                intent
            }
        };
        if let Some(record) = head.extensions.get::<Record>() {
            record.set_intent(intent.clone());
        }
        head.extensions.insert(intent);
        let body = if over {
            Held::whole(gather.frames())
        } else {
            Held::begun(gather.frames(), body.patient(patience))
        };
        let body = match taken {
            Some(taken) => body.holding(taken),
            None => body,
        };
        Ok((inner, Request::from_parts(head, body)))
    }
}

pin_project! {
    /// The future of [`Peek`].
    pub struct ResponseFuture<S, B, C>
    where
        S: Service<Request<Held<Limited<B, C>>>>,
        C: Clock,
    {
        #[pin]
        step: Step<S, S::Future, B, C>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, F, B, C: Clock> {
        // → Called when enough of the body is known. Boxed: it is over when the answer is waited for, and each future would be as
        // large.
        Reading { waits: Option<Box<Waits<S, B, C>>> },
        Called { #[pin] inner: F },
        Refused { error: Option<BoxError> },
    }
}

impl<S, B, C, R> Future for ResponseFuture<S, B, C>
where
    S: Service<Request<Held<Limited<B, C>>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    C: Clock,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Reading { waits } => {
                    let once = waits.as_mut().expect("taken only when the step changes");
                    let mut progress = false;
                    let Poll::Ready(read) = once.reading.poll(cx, &mut progress) else {
                        ready!(once.poll_late(cx, progress));
                        return Poll::Ready(Err(read::too_slow().into()));
                    };
                    let waits = waits.take().expect("taken only when the step changes");
                    let Waits {
                        reading, patience, ..
                    } = *waits;
                    let (mut inner, req) = reading.request(read?, patience)?;
                    step.set(Step::Called {
                        inner: inner.call(req),
                    });
                }
                StepProj::Called { inner } => return inner.poll(cx).map_err(Into::into),
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

impl<S, B, C> fmt::Debug for ResponseFuture<S, B, C>
where
    S: Service<Request<Held<Limited<B, C>>>>,
    C: Clock,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
