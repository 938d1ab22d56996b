use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::policy::{self, Pages};
use crate::{body::Reply, origin::OriginPattern};

/// Lets pages ask, and read what they are answered.
#[derive(Clone, Debug, Default)]
pub struct CorsLayer {
    // None names no page.
    pages: Option<Arc<Pages>>,
}

impl CorsLayer {
    /// These pages may ask; without any, nothing is answered and nothing changed.
    pub fn new(pages: impl IntoIterator<Item = OriginPattern>) -> Self {
        Self::of(Pages {
            all: false,
            some: pages.into_iter().collect(),
        })
    }

    /// Every page may ask.
    pub fn any() -> Self {
        Self::of(Pages {
            all: true,
            some: Box::default(),
        })
    }

    fn of(pages: Pages) -> Self {
        Self {
            pages: (!pages.are_none()).then(|| Arc::new(pages)),
        }
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = Cors<S>;

    fn layer(&self, inner: S) -> Cors<S> {
        Cors {
            inner,
            pages: self.pages.clone(),
        }
    }
}

/// The service of [`CorsLayer`].
#[derive(Clone, Debug)]
pub struct Cors<S> {
    inner: S,
    pages: Option<Arc<Pages>>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Cors<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<Reply<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<ReqBody>) -> Self::Future {
        let Some(pages) = &self.pages else {
            let inner = self.inner.call(req);
            return ResponseFuture {
                step: Step::Called { inner },
            };
        };
        let allowed = pages.allow(req.headers());
        let step = match allowed {
            Some(origin) if policy::asks(req.method(), req.headers()) => Step::Own {
                answer: Some(policy::may(*origin, req.headers())),
            },
            allowed => Step::Told {
                inner: self.inner.call(req),
                allowed,
            },
        };
        ResponseFuture { step }
    }
}

pin_project! {
    /// The future of [`Cors`].
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
        Called { #[pin] inner: F },
        Told { #[pin] inner: F, allowed: Option<Box<HeaderValue>> },
        Own { answer: Option<Response<()>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Reply<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().step.project() {
            StepProj::Called { inner } => {
                let answer = ready!(inner.poll(cx));
                Poll::Ready(answer.map(|response| response.map(Reply::relayed)))
            }
            StepProj::Told { inner, allowed } => {
                let mut answer = ready!(inner.poll(cx));
                if let Ok(response) = &mut answer {
                    policy::tell(allowed.take().map(|it| *it), response.headers_mut());
                }
                Poll::Ready(answer.map(|response| response.map(Reply::relayed)))
            }
            StepProj::Own { answer } => {
                let answer = answer
                    .take()
                    .expect("a future is not polled after it was ready");
                Poll::Ready(Ok(answer.map(|()| Reply::own(Bytes::new()))))
            }
        }
    }
}
