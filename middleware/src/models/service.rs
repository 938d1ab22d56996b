use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::list::{self, Listed};
use crate::{
    body::Reply,
    call::{Call, Came},
    dialect::{self, Operation},
    facts::Caller,
    record::Record,
};

/// Answers a list of models with what the caller may use.
#[derive(Clone, Debug)]
pub struct ModelsLayer {
    all: Arc<[Listed]>,
    everybody: bool,
}

impl ModelsLayer {
    /// The names that are served, in the order of the answer.
    pub fn new(all: impl IntoIterator<Item = Listed>) -> Self {
        Self {
            all: all.into_iter().collect(),
            everybody: false,
        }
    }

    /// Whether those are answered here too who may use any model: yes where no provider knows all that is served.
    #[must_use]
    pub fn everybody(mut self, yes: bool) -> Self {
        self.everybody = yes;
        self
    }
}

impl<S> Layer<S> for ModelsLayer {
    type Service = Models<S>;

    fn layer(&self, inner: S) -> Models<S> {
        Models {
            inner,
            policy: self.clone(),
        }
    }
}

/// The service of [`ModelsLayer`].
#[derive(Clone, Debug)]
pub struct Models<S> {
    inner: S,
    policy: ModelsLayer,
}

impl ModelsLayer {
    /// The answer, if it is ours to give.
    fn answer<B>(&self, req: &Request<B>) -> Option<Vec<u8>> {
        let caller: Option<&Caller> = req.extensions().get();
        let listed = caller.is_some_and(|caller| caller.terms().models.is_some());
        if !(listed || self.everybody) || req.method() != Method::GET {
            return None;
        }
        let unrecorded;
        let surface = match req.extensions().get::<Record>() {
            Some(record) => record.surface(),
            None => {
                unrecorded = dialect::surface_of(req);
                unrecorded.as_ref()
            }
        };
        let surface = surface?;
        match surface.operation {
            Operation::Models => Some(list::all(surface.dialect, &self.all, caller)),
            // What is in no list may still be served, or is refused by who knows the routes.
            Operation::Model => {
                let name = surface.model_in(req.uri().path())?;
                list::one(surface.dialect, &self.all, &name, caller)
            }
            _ => None,
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Models<S>
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
        let call = match self.policy.answer(&req) {
            Some(text) => Call::ours(text),
            None => Call::inside(self.inner.call(req)),
        };
        ResponseFuture { call }
    }
}

pin_project! {
    /// The future of [`Models`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        call: Call<F, Vec<u8>>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Reply<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match ready!(self.project().call.poll(cx)) {
            Came::Inside(answer) => {
                Poll::Ready(answer.map(|response| response.map(Reply::relayed)))
            }
            Came::Ours(text) => {
                let mut response = Response::new(Reply::own(text));
                let headers = response.headers_mut();
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                Poll::Ready(Ok(response))
            }
        }
    }
}
