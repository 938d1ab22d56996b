use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    super::rules::Rules,
    body::ResponseBody,
    bounds::{Limits, Stop},
    hold::Hold,
    watch::{Watch, no_room, rejection},
};
use crate::{
    body::Room,
    conn::Conn,
    dialect::{self, Framing, Operation, Surface, events::other, said::Reader},
    error::BoxError,
    facts::Intent,
    record::Record,
};

/// What an answer is looked at with.
#[derive(Clone, Debug)]
pub(in super::super) struct Policy {
    /// Those that look at answers.
    pub(in super::super) rules: Rules,
    pub(in super::super) limits: Limits,
    /// What is held of all answers takes no more than this.
    pub(in super::super) room: Option<Room>,
}

/// What is known of an answer before it comes.
#[derive(Debug)]
pub(in super::super) struct Asked {
    policy: Policy,
    record: Option<Record>,
    conn: Option<Conn>,
    surface: Surface,
    reader: Reader,
    stream: bool,
}

impl Asked {
    /// None if no answer to this is looked at.
    pub(in super::super) fn of<B>(policy: &Policy, req: &Request<B>) -> Option<Self> {
        if policy.rules.is_empty() {
            return None;
        }
        let facts = req.extensions();
        let record = facts.get::<Record>().cloned();
        let intent = facts.get::<Intent>();
        let surface = match (intent, &record) {
            (Some(intent), _) => intent.surface().clone(),
            (None, Some(record)) => record.surface()?.clone(),
            (None, None) => dialect::surface_of(req)?,
        };
        // Unread, a body may have asked for a stream: the answer's label then says.
        let stream = match intent {
            Some(intent) => intent.stream(),
            None => surface.stream.unwrap_or(true),
        };
        Some(Self {
            reader: Reader::new(&surface)?,
            policy: policy.clone(),
            record,
            conn: facts.get().cloned(),
            surface,
            stream,
        })
    }

    /// The filter of an answer; none if nobody looks at it.
    fn watch<B: Body>(self, response: &Response<B>) -> Result<Option<Box<Watch>>, BoxError> {
        let status = response.status();
        // What a provider says of a failure is its own.
        if !status.is_success() || response.body().is_end_stream() {
            return Ok(None);
        }
        let surface = Some(&self.surface);
        let framing = dialect::framing_of(surface, self.stream, status, response.headers());
        let limits = self.policy.limits;
        if framing == Framing::Opaque {
            let spoken = matches!(
                self.surface.operation,
                Operation::Transcriptions | Operation::Translations
            );
            if limits.passes || spoken {
                return Ok(None);
            }
            return Err(rejection(&Stop::Unreadable).into());
        }
        let wrapped = self.surface.operation == Operation::Invoke;
        let rules = self.policy.rules;
        let hold = Hold::new(
            rules.clone(),
            self.reader,
            wrapped,
            framing,
            other(surface),
            limits,
        );
        let document = framing == Framing::Document;
        let conn = self.conn.as_ref();
        let mut watch = Watch::new(hold, rules, document, self.record, conn);
        watch.holds_in(self.policy.room.as_ref());
        Ok(Some(Box::new(watch)))
    }
}

pin_project! {
    /// Waits for an answer; one that is a document is read before its head is handed on.
    #[derive(Debug)]
    pub(in super::super) struct Answering<F, B> {
        #[pin]
        inner: F,
        // None: nobody looks at the answer.
        // Both boxed: room for them is kept for every request, and hardly one uses it.
        asked: Option<Box<Asked>>,
        reading: Option<Box<Reading<B>>>,
    }
}

impl<F, B> Answering<F, B> {
    /// Waits for `inner`.
    pub(in super::super) fn new(inner: F, asked: Option<Asked>) -> Self {
        Self {
            inner,
            asked: asked.map(Box::new),
            reading: None,
        }
    }
}

impl<F, B, E> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(reading) = this.reading {
            return reading.poll(cx);
        }
        let response = ready!(this.inner.poll(cx)).map_err(Into::into)?;
        let Some(asked) = this.asked.take() else {
            return Poll::Ready(Ok(response.map(ResponseBody::passed)));
        };
        let Some(watch) = asked.watch(&response)? else {
            return Poll::Ready(Ok(response.map(ResponseBody::passed)));
        };
        let (mut parts, body) = response.into_parts();
        if !watch.holds_head() {
            watch.announce(&mut parts.headers);
            let body = ResponseBody::watched(body, watch);
            return Poll::Ready(Ok(Response::from_parts(parts, body)));
        }
        let reading = Reading {
            answer: Some((parts, watch)),
            body: Some(Box::pin(body)),
            trailers: None,
        };
        this.reading.insert(Box::new(reading)).poll(cx)
    }
}

/// A document that is read while its head waits. It is boxed since it moves into the answer.
#[derive(Debug)]
struct Reading<B> {
    answer: Option<(Parts, Box<Watch>)>,
    body: Option<Pin<Box<B>>>,
    trailers: Option<HeaderMap>,
}

impl<B> Reading<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody<B>>, BoxError>> {
        while let (Some((_, watch)), Some(body)) = (&mut self.answer, &mut self.body) {
            let over = match ready!(body.as_mut().poll_frame(cx))
                .transpose()
                .map_err(Into::into)?
            {
                Some(frame) => match frame.into_data() {
                    Ok(data) => {
                        if !watch.has_room(data.len()) {
                            return Poll::Ready(Err(no_room().into()));
                        }
                        watch.feed(data);
                        body.is_end_stream()
                    }
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        body.is_end_stream()
                    }
                },
                None => true,
            };
            if over {
                self.body = None;
                watch.finish();
            }
            if let Some(stopped) = watch.take_stop() {
                return Poll::Ready(Err(stopped));
            }
            if over || !watch.holds_head() {
                break;
            }
        }
        let (mut parts, watch) = self
            .answer
            .take()
            .expect("a future is not polled after it was ready");
        watch.announce(&mut parts.headers);
        let body = match self.body.take() {
            Some(body) => ResponseBody::begun(body, watch),
            None => ResponseBody::whole(watch, self.trailers.take()),
        };
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }
}
