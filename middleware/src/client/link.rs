use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest},
    rt::{Read, Write},
};

use super::{
    gate::Gate,
    watch::{Idle, Watch, Watched},
};
use crate::error::BoxError;

/// One connection and the handle that sends over it.
pub(crate) struct Link<T, B>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    sender: SendRequest<B>,
    /// None once the connection has ended. Only its drop hands back a request that it has not begun
    /// to write.
    connection: Option<Connection<Watched<T>, B>>,
    gate: Gate,
    watch: Watch,
    pub(super) born: Instant,
    pub(super) idle_since: Instant,
    looks: fn() -> u64,
    /// How often the runtime had looked when it became idle.
    looked: u64,
}

/// What became of a request.
pub(super) enum Sent<B> {
    Answered(Response<Incoming>),
    /// It came back: nothing of it was written.
    Unwritten(Request<B>, hyper::Error),
    Failed(hyper::Error),
}

impl<T, B> Link<T, B>
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        sender: SendRequest<B>,
        connection: Connection<Watched<T>, B>,
        watch: Watch,
        born: Instant,
        looks: fn() -> u64,
    ) -> Self {
        Self {
            sender,
            connection: Some(connection),
            gate: Gate::new(),
            watch,
            born,
            idle_since: born,
            looks,
            looked: 0,
        }
    }

    /// From now on it is idle.
    pub(super) fn rest(&mut self, now: Instant) {
        self.idle_since = now;
        self.looked = (self.looks)();
    }

    /// Whether the runtime, which has looked `looks` times, has looked while this was idle.
    pub(super) fn was_looked_at(&self, looks: u64) -> bool {
        self.looked != looks
    }

    /// Sends the request and drives the connection until a head has come. What waits already on a connection that was
    /// idle answers nothing: the request comes back then.
    pub(super) async fn send(&mut self, req: Request<B>, idle: Idle) -> Sent<B> {
        self.watch.request(idle);
        let mut answer = std::pin::pin!(self.sender.try_send_request(req));
        let (connection, gate) = (&mut self.connection, &mut self.gate);
        let outcome = poll_fn(|cx| {
            gate.poll(cx, |cx| {
                drive(connection, cx);
                answer.as_mut().poll(&mut nobody())
            })
        });
        match outcome.await {
            Ok(response) => {
                self.watch.answer();
                Sent::Answered(response)
            }
            Err(mut failed) => match failed.take_message() {
                Some(message) => Sent::Unwritten(message, failed.into_error()),
                None => Sent::Failed(failed.into_error()),
            },
        }
    }

    /// Takes by `next` what there is of the answer; if that is nothing, after the connection was moved on.
    pub(super) fn poll<F>(
        &mut self,
        cx: &mut Context<'_>,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<F>,
    ) -> Poll<F> {
        let connection = &mut self.connection;
        self.gate.poll(cx, |cx| {
            if let Poll::Ready(next) = next(&mut nobody()) {
                return Poll::Ready(next);
            }
            drive(connection, cx);
            next(&mut nobody())
        })
    }

    /// Whether another request may be sent: the last exchange is over, on both sides, and nothing
    /// unasked for has arrived.
    pub(super) fn is_free(&mut self) -> bool {
        let connection = &mut self.connection;
        let ended = self.gate.rest(|cx| drive(connection, cx));
        !ended && matches!(self.sender.poll_ready(&mut nobody()), Poll::Ready(Ok(())))
    }
}

/// What comes of a connection need wake nobody: only its own poll brings it, and is followed by a look.
pub(super) fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Moves a connection on and lets go of it at its end; true once it has ended. What went wrong is
/// told to whoever waits for the answer or reads its body.
fn drive<T, B>(connection: &mut Option<Connection<Watched<T>, B>>, cx: &mut Context<'_>) -> bool
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    if let Some(running) = connection
        && Pin::new(running).poll(cx).is_ready()
    {
        *connection = None;
    }
    connection.is_none()
}
