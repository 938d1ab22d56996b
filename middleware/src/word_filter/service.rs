use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    answer::{Answering, Asked, Limits, Policy, ResponseBody},
    filter::Filter,
    request::{self, Verdict},
};
use crate::{
    body::{Held, Room},
    call::Call,
    dialect,
    error::{BoxError, Rejection},
    facts::Intent,
    json::Value,
    record::Record,
};

/// Refuses, masks or counts words in requests and in answers.
#[derive(Clone, Debug)]
pub struct WordFilterLayer {
    filter: Filter,
    policy: Policy,
}

impl WordFilterLayer {
    /// A layer with this filter. It keeps up to 1 MiB of one event of an answer, and of a document up to 32 MiB.
    pub fn new(filter: Filter) -> Self {
        let policy = Policy {
            rules: filter.response().clone(),
            limits: Limits {
                event: 1 << 20,
                document: 32 << 20,
                passes: filter.passes_uninspected(),
            },
            room: None,
        };
        Self { filter, policy }
    }

    /// How many bytes of a stream may be withheld; an answer that would need more is ended, or passes where what cannot be
    /// inspected does.
    #[must_use]
    pub fn event(mut self, bytes: usize) -> Self {
        self.policy.limits.event = bytes;
        self
    }

    /// How long a document may be, in bytes; beyond it is as with [`event`](Self::event).
    #[must_use]
    pub fn document(mut self, bytes: usize) -> Self {
        self.policy.limits.document = bytes;
        self
    }

    /// What is held of all answers together takes no more than this room. A document for which there is none is refused before its
    /// head; a stream is as with [`event`](Self::event).
    #[must_use]
    pub fn room(mut self, room: Room) -> Self {
        self.policy.room = Some(room);
        self
    }
}

impl<S> Layer<S> for WordFilterLayer {
    type Service = WordFilter<S>;

    fn layer(&self, inner: S) -> WordFilter<S> {
        WordFilter {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`WordFilterLayer`].
#[derive(Clone, Debug)]
pub struct WordFilter<S> {
    inner: S,
    layer: WordFilterLayer,
}

impl<S> WordFilter<S> {
    /// Judges a request, and masks in it what is to be masked.
    fn inspect<B>(&self, req: &mut Request<Held<B>>) -> Result<(), Rejection> {
        let rules = self.layer.filter.request();
        if rules.is_empty() {
            return Ok(());
        }
        let facts = req.extensions();
        let record = facts.get::<Record>().cloned();
        let Some(intent) = facts.get::<Intent>() else {
            let unrecorded;
            let surface = match &record {
                Some(record) => record.surface(),
                None => {
                    unrecorded = dialect::surface_of(req);
                    unrecorded.as_ref()
                }
            };
            return surface.map_or(Ok(()), |surface| self.layer.filter.unread(surface));
        };
        let text = req.body().text();
        // The whole text: spans of what is found here are of the same bytes.
        let root = intent.object().and_then(|_| Value::object(&text));
        let Some(root) = root else {
            return self.layer.filter.unread(intent.surface());
        };
        let verdict = request::inspect(rules, intent.surface(), root);
        drop(text);
        if let Some(record) = &record {
            for (rule, count) in &verdict.found {
                let action = rules.action(*rule).as_str();
                record.add_found(rules.id(*rule), action, *count);
            }
        }
        self.apply(verdict, req)
    }

    fn apply<B>(&self, verdict: Verdict, req: &mut Request<Held<B>>) -> Result<(), Rejection> {
        if let Some(rule) = verdict.refused {
            return Err(self.layer.filter.refusal(rule));
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

impl<S, B, ResBody> Service<Request<Held<B>>> for WordFilter<S>
where
    S: Service<Request<Held<B>>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut req: Request<Held<B>>) -> Self::Future {
        let inspected = self.inspect(&mut req);
        let call = Call::admitted(inspected, || {
            let asked = Asked::of(&self.layer.policy, &req);
            Answering::new(self.inner.call(req), asked)
        });
        ResponseFuture { call }
    }
}

pin_project! {
    /// The future of [`WordFilter`].
    #[derive(Debug)]
    pub struct ResponseFuture<F, B> {
        #[pin]
        call: Call<Answering<F, B>, BoxError>,
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll_answer(cx)
    }
}

#[cfg(test)]
mod tests;
