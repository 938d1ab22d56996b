use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{alive::Alive, seam::Seam};
use crate::{clock::Clock, conn::Conn, error::BoxError};

pin_project! {
    /// The response body of [`Seal`](super::Seal).
    ///
    /// Dropping it drops the body inside, whatever it waits for.
    pub struct ResponseBody<B, C: Clock> {
        // Dropped as soon as it has failed: what it holds is given back then.
        #[pin]
        inner: Option<B>,
        seam: Seam,
        // Boxed: few answers have one, and each body would be as large.
        alive: Option<Box<Alive<C>>>,
        clock: C,
        #[pin]
        state: State<C::Sleep>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<Z> {
        // The body inside is relayed.
        // → Breaking when it fails or is to be cut
        Relaying,
        // Everything that is to be said was handed over.
        // → Broken when it has been flushed, or time is up
        // Boxed: few bodies break, and each would be as large.
        Breaking { breaking: Pin<Box<Breaking<Z>>> },
        // The failure was returned.
        Broken,
    }
}

pin_project! {
    struct Breaking<Z> {
        error: Option<BoxError>,
        flush: Flush,
        #[pin]
        limit: Z,
    }
}

/// How to know that what was handed over has been written.
#[derive(Debug)]
enum Flush {
    /// The transport tells, for what came before this mark.
    Told(u64),
    /// Nobody tells: the server gets one turn of the task.
    Turn,
    /// It has had its turn.
    Over,
}

impl<B: Body, C: Clock> ResponseBody<B, C> {
    pub(super) fn new(inner: B, seam: Seam, every: Option<Duration>, clock: C) -> Self {
        let alive = every.zip(seam.keep_alive());
        Self {
            inner: Some(inner),
            seam,
            alive: alive.map(|(every, frame)| Box::new(Alive::new(every, frame))),
            clock,
            state: State::Relaying,
        }
    }
}

impl Flush {
    fn of(conn: Option<&Conn>) -> Self {
        conn.map_or(Self::Turn, |conn| Self::Told(conn.mark()))
    }

    fn poll(&mut self, conn: Option<&Conn>, cx: &mut Context<'_>) -> Poll<()> {
        match (&*self, conn) {
            (Self::Told(mark), Some(conn)) => conn.poll_flushed(*mark, cx),
            (Self::Turn, _) => {
                *self = Self::Over;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl<B, C> Body for ResponseBody<B, C>
where
    B: Body<Data = Bytes, Error = BoxError>,
    C: Clock,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Relaying => {
                    let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
                        return Poll::Ready(None);
                    };
                    let error = match this.seam.cut() {
                        Some(cut) => {
                            // What was kept back belongs to what came before the cut.
                            if this.seam.is_withheld()
                                && let Poll::Ready(Some(Ok(frame))) = inner.as_mut().poll_frame(cx)
                            {
                                if let Some(data) = frame.data_ref() {
                                    this.seam.pass(data);
                                }
                                return Poll::Ready(Some(Ok(frame)));
                            }
                            cut.into()
                        }
                        None => match inner.poll_frame(cx) {
                            Poll::Pending => {
                                let Some(alive) = this.alive else {
                                    return Poll::Pending;
                                };
                                let frame = ready!(alive.poll(this.seam, this.clock, cx));
                                return Poll::Ready(Some(Ok(Frame::data(frame))));
                            }
                            Poll::Ready(Some(Err(error))) => error,
                            Poll::Ready(Some(Ok(frame))) => {
                                if let Some(data) = frame.data_ref() {
                                    this.seam.pass(data);
                                }
                                if let Some(alive) = this.alive {
                                    alive.heard();
                                }
                                return Poll::Ready(Some(Ok(frame)));
                            }
                            Poll::Ready(None) => return Poll::Ready(None),
                        },
                    };
                    this.inner.set(None);
                    let words = this.seam.last_words(&error);
                    this.seam.failed(&error);
                    let flush = Flush::of(this.seam.conn.as_deref());
                    let limit = this.clock.now() + super::FLUSH;
                    let breaking = Box::pin(Breaking {
                        error: Some(error),
                        flush,
                        limit: this.clock.sleep_until(limit),
                    });
                    this.state.set(State::Breaking { breaking });
                    if let Some(words) = words {
                        return Poll::Ready(Some(Ok(Frame::data(words))));
                    }
                }
                StateProj::Breaking { breaking } => {
                    let breaking = breaking.as_mut().project();
                    let flushed = breaking.flush.poll(this.seam.conn.as_deref(), cx);
                    if flushed.is_pending() {
                        ready!(breaking.limit.poll(cx));
                    }
                    let error = breaking.error.take();
                    this.seam.broken();
                    this.state.set(State::Broken);
                    return Poll::Ready(error.map(Err));
                }
                StateProj::Broken => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Relaying => self.inner.as_ref().is_none_or(Body::is_end_stream),
            State::Breaking { .. } => false,
            State::Broken => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B, C: Clock> fmt::Debug for ResponseBody<B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("seam", &self.seam)
            .finish_non_exhaustive()
    }
}
