use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::policy::{self, Caps};
use crate::{
    body::Held,
    call::Call,
    dialect,
    error::{BoxError, Rejection},
    facts::{Intent, OutputLimit, Route},
    record::Record,
};

/// Bounds what a request may ask for.
#[derive(Clone, Debug)]
pub struct TokenCapLayer {
    caps: Arc<Caps>,
}

impl TokenCapLayer {
    /// A layer with these caps.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps: Arc::new(caps),
        }
    }
}

impl<S> Layer<S> for TokenCapLayer {
    type Service = TokenCap<S>;

    fn layer(&self, inner: S) -> TokenCap<S> {
        TokenCap {
            inner,
            caps: self.caps.clone(),
        }
    }
}

/// The service of [`TokenCapLayer`].
#[derive(Clone, Debug)]
pub struct TokenCap<S> {
    inner: S,
    caps: Arc<Caps>,
}

impl<S> TokenCap<S> {
    /// Judges a request, and edits it so that it fits.
    fn fit<B>(&self, req: &mut Request<Held<B>>) -> Result<(), Rejection> {
        let facts = req.extensions();
        let routed = facts.get().and_then(|route: &Route| route.model.clone());
        let Some(intent) = facts.get::<Intent>() else {
            let unrecorded;
            let surface = match facts.get::<Record>() {
                Some(record) => record.surface(),
                None => {
                    unrecorded = dialect::surface_of(req);
                    unrecorded.as_ref()
                }
            };
            let Some(surface) = surface else {
                return Ok(());
            };
            let named = surface.model_in(req.uri().path());
            let model = routed.as_deref().or(named.as_deref());
            return policy::unread(&self.caps, surface, model);
        };
        let model = routed.as_deref().or_else(|| intent.model());
        let verdict = policy::decide(&self.caps, intent, model, &req.body().text())?;
        if let Some(tokens) = verdict.limit {
            let inserted = verdict.inserted;
            req.extensions_mut()
                .insert(OutputLimit { tokens, inserted });
        }
        if verdict.edits.is_empty() {
            return Ok(());
        }
        for (at, with) in verdict.edits {
            req.body_mut().edit(at, with);
        }
        let length = req.body().held_len();
        if let Some(announced) = req.headers_mut().get_mut(header::CONTENT_LENGTH) {
            *announced = HeaderValue::from(length);
        }
        Ok(())
    }
}

impl<S, B, ResBody> Service<Request<Held<B>>> for TokenCap<S>
where
    S: Service<Request<Held<B>>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResBody>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> Self::Future {
        let fits = if self.caps.is_off() {
            Ok(())
        } else {
            self.fit(&mut req)
        };
        let call = Call::admitted(fits, || self.inner.call(req));
        ResponseFuture { call }
    }
}

pin_project! {
    /// The future of [`TokenCap`].
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
