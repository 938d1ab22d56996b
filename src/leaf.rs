//! What stands at the end of a target's stack: a provider over the network, or the built-in one.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollgate_middleware::{
    client::{self, Client},
    clock::SystemClock,
    error::{BoxError, Reason, Rejection},
};
use tower_service::Service;

use crate::{
    connect::{Connector, Io},
    mock::{self, Mock},
};

/// A client of one provider, of one worker. hyper keeps room for 32 requests on each connection: their bodies should
/// be small.
pub type HttpClient<B> = Client<Connector, B, Io>;

/// The built-in provider breaks off as one over the network does.
fn broken(error: BoxError) -> BoxError {
    let told = "the provider's answer broke off before its end";
    Rejection::new(Reason::Truncated, "upstream", told)
        .because(error)
        .into()
}

/// The innermost service.
#[derive(Debug)]
pub enum Leaf<B>
where
    B: Body + 'static,
{
    /// A provider that is asked over HTTP.
    Http(HttpClient<B>),
    /// The provider that answers by itself.
    Mock(Mock),
}

impl<B> Clone for Leaf<B>
where
    B: Body + 'static,
{
    fn clone(&self) -> Self {
        match self {
            Self::Http(client) => Self::Http(client.clone()),
            Self::Mock(mock) => Self::Mock(*mock),
        }
    }
}

impl<B> Service<Request<B>> for Leaf<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<LeafBody<B>>;
    type Error = BoxError;
    type Future = LeafFuture<B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Http(client) => Service::<Request<B>>::poll_ready(client, cx),
            Self::Mock(mock) => {
                Service::<Request<B>>::poll_ready(mock, cx).map_err(|never| match never {})
            }
        }
    }

    fn call(&mut self, req: Request<B>) -> LeafFuture<B> {
        match self {
            Self::Http(client) => LeafFuture::Http {
                inner: client.call(req),
            },
            Self::Mock(mock) => LeafFuture::Mock {
                inner: Box::pin(mock.call(req)),
            },
        }
    }
}

type HttpBody<B> = client::ResponseBody<Io, B, SystemClock>;

pin_project! {
    /// The future of [`Leaf`].
    #[project = FutureProj]
    #[expect(missing_docs, reason = "the variants are those of Leaf")]
    pub enum LeafFuture<B>
    where
        B: Body,
        B: 'static,
    {
        Http { #[pin] inner: client::ResponseFuture<Response<HttpBody<B>>> },
        // Boxed: its size would be that of every request's future.
        Mock { inner: Pin<Box<mock::ResponseFuture<B>>> },
    }
}

impl<B> Future for LeafFuture<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<LeafBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            FutureProj::Http { inner } => inner
                .poll(cx)
                .map_ok(|res| res.map(|body| LeafBody::Http { body })),
            FutureProj::Mock { inner } => inner
                .as_mut()
                .poll(cx)
                .map_ok(|res| {
                    res.map(|body| LeafBody::Mock {
                        body: Box::pin(body),
                    })
                })
                .map_err(|never: Infallible| match never {}),
        }
    }
}

pin_project! {
    /// The response body of [`Leaf`].
    #[project = BodyProj]
    #[expect(missing_docs, reason = "the variants are those of Leaf")]
    pub enum LeafBody<B>
    where
        B: Body,
        B: 'static,
    {
        Http { #[pin] body: HttpBody<B> },
        // Boxed: its size would be that of every answer's body.
        Mock { body: Pin<Box<mock::Body>> },
    }
}

impl<B> Body for LeafBody<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            BodyProj::Http { body } => body.poll_frame(cx),
            BodyProj::Mock { body } => body.as_mut().poll_frame(cx).map_err(broken),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http { body } => body.is_end_stream(),
            Self::Mock { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http { body } => body.size_hint(),
            Self::Mock { body } => body.size_hint(),
        }
    }
}
