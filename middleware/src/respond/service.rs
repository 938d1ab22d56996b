use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    answer::{answer, root},
    standing,
};
use crate::{
    body::Reply,
    conn::{Conn, Cut},
    dialect::{self, Shape},
    error::{BoxError, Reason, Rejection},
    record::Record,
};

/// Answers what the layers inside refuse.
#[derive(Clone, Copy, Debug, Default)]
pub struct RespondLayer {
    root: bool,
}

impl RespondLayer {
    /// A layer that answers refusals only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `GET /` and `HEAD /` are answered here, before anything inside is asked: 200, with nothing in it. Clients and
    /// load balancers ask so whether somebody is there.
    #[must_use]
    pub fn root(mut self, yes: bool) -> Self {
        self.root = yes;
        self
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S>;

    fn layer(&self, inner: S) -> Respond<S> {
        Respond {
            inner,
            root: self.root,
            unready: None,
        }
    }
}

/// The service of [`RespondLayer`].
#[derive(Debug)]
pub struct Respond<S> {
    inner: S,
    root: bool,
    // What the inner service's readiness failed with, kept for the next call.
    unready: Option<BoxError>,
}

impl<S: Clone> Clone for Respond<S> {
    fn clone(&self) -> Self {
        // Readiness belongs to the instance that was asked.
        Self {
            inner: self.inner.clone(),
            root: self.root,
            unready: None,
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Respond<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<Reply<ResBody>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.unready.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.unready = Some(error.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let conn = req.extensions().get::<Conn>().cloned();
        let asked = match req.extensions().get::<Record>() {
            Some(record) => Asked::Recorded {
                record: record.clone(),
            },
            None => Asked::Unrecorded {
                shape: Shape::of(dialect::surface_of(&req).as_ref()),
            },
        };
        let kind = match self.unready.take() {
            Some(error) => Kind::Unready { error: Some(error) },
            None if self.root && asks_root(&req) => Kind::Root,
            None => Kind::Called {
                inner: self.inner.call(req),
            },
        };
        ResponseFuture { kind, asked, conn }
    }
}

fn asks_root<B>(req: &Request<B>) -> bool {
    req.uri().path() == "/" && matches!(*req.method(), Method::GET | Method::HEAD)
}

#[derive(Debug)]
enum Asked {
    Recorded { record: Record },
    Unrecorded { shape: Shape },
}

impl Asked {
    fn answer<B>(&self, error: &BoxError) -> Response<Reply<B>> {
        let response = match self {
            Self::Recorded { record } => {
                match Rejection::find(&**error) {
                    Some(why) => record.set_refused(why),
                    None => record.set_refused(&Rejection::new(Reason::Internal, "respond", "")),
                }
                let shape = Shape::of(record.surface());
                let mut response = answer(error, shape, Some(record.request_id()));
                record.with_standings(|all| {
                    standing::tell(response.headers_mut(), shape, all, record.arrived());
                });
                response
            }
            Self::Unrecorded { shape } => answer(error, *shape, None),
        };
        response.map(Reply::own)
    }
}

fn cut_short(cut: Cut) -> Rejection {
    let (reason, told) = match cut {
        Cut::Drain => (Reason::Draining, "the gateway is shutting down; ask again"),
        Cut::SlowReader => (Reason::SlowReader, "nothing was read for too long"),
    };
    let again = std::time::Duration::from_secs(1);
    Rejection::new(reason, "respond", told).retry_after(again)
}

pin_project! {
    /// The future of [`Respond`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
        asked: Asked,
        conn: Option<Conn>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F> {
        Called { #[pin] inner: F },
        Root,
        Unready { error: Option<BoxError> },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let error = match this.kind.as_mut().project() {
            KindProj::Called { inner } => match inner.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    return Poll::Ready(Ok(response.map(Reply::relayed)));
                }
                Poll::Ready(Err(error)) => error.into(),
                Poll::Pending => {
                    // Nothing has gone out yet: the server's wish to end becomes an answer.
                    let Some(cut) = this.conn.as_ref().and_then(Conn::asked_to_cut) else {
                        return Poll::Pending;
                    };
                    this.kind.set(Kind::Unready { error: None });
                    cut_short(cut).into()
                }
            },
            KindProj::Root => return Poll::Ready(Ok(root().map(Reply::own))),
            KindProj::Unready { error } => error
                .take()
                .expect("a future is not polled after it was ready"),
        };
        Poll::Ready(Ok(this.asked.answer(&error)))
    }
}
