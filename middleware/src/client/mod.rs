//! The leaf of the stack: sends a request to one upstream over HTTP/1.1.
//!
//! Contract
//! - *Reads*: the request as it is; its target must be in origin form and carry `host`.
//! - *Writes*: nothing.
//! - *Refuses*: [`Connect`](Reason::Connect) if no connection could be made,
//!   [`Closed`](Reason::Closed) if the upstream closed before a head,
//!   [`Protocol`](Reason::Protocol) if it did not speak HTTP/1.1, said two lengths, switched to
//!   another protocol or sent interim answers without end; a body that breaks off ends with
//!   [`Truncated`](Reason::Truncated).
//! - *Bodies*: frames pass as they come, in the poll that received them; trailers are dropped.
//! - *Ready*: always.
//! - *Place*: innermost.
//!
//! **No task per connection.** The connection is polled inside the response future until the head
//! has come, and then inside the response body's own `poll_frame`. One read from the socket feeds
//! many frames without a switch of tasks, and dropping the future or the body closes the
//! connection: cancelling needs no code.
//!
//! **The pool** is last in, first out, and belongs to one [`Client`] and its clones. Make one client
//! per worker thread and upstream: then nothing is shared between threads. A connection returns to
//! it when an answer has ended well and nothing is left to read. An idle connection is not watched:
//! one that proves closed before a byte of the request was written, or on which something waits that
//! nobody asked for, is replaced by the next one, at last by a fresh one. So what comes after an
//! answer, or while a connection is idle, answers no request. What a runtime has not heard of yet only
//! the transport itself can tell: [`Client::quiet`]. It need not be asked of a connection that was idle
//! while the runtime looked at its sockets: [`Client::looks`].
//!
//! Opening a connection and a request each box one future, because hyper's cannot be named.
//!
//! ```no_run
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Empty};
//! use tollgate_middleware::client::{Client, Pool};
//! use tower::ServiceExt;
//!
//! # async fn example<C>(connector: C) -> Result<(), tollgate_middleware::error::BoxError>
//! # where
//! #     C: tower::Service<http::Uri> + Clone + Send + 'static,
//! #     C::Response: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
//! #     C::Error: Into<tollgate_middleware::error::BoxError>,
//! #     C::Future: Send,
//! # {
//! let client = Client::new(connector, "http://127.0.0.1:8000".parse()?, Pool::default());
//! let request = http::Request::get("/v1/models").header("host", "127.0.0.1:8000");
//! let response = client.oneshot(request.body(Empty::<Bytes>::new())?).await?;
//! println!("{}", response.status());
//! # Ok(())
//! # }
//! ```

mod body;
mod gate;
mod link;
mod pool;
mod sane;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};
use tower_service::Service;

pub use self::{body::ResponseBody, pool::Pool};
use self::{
    link::{Link, Sent},
    pool::Shared,
    watch::{Fault, Idle, Watched},
};
use crate::{
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
};

/// The name under which refusals of the client appear.
const LAYER: &str = "upstream";
/// What the head of an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Bytes of it; less than 8 KiB counts as 8 KiB, which is what HTTP reads at a time. Twice as much may come before
    /// its end, interim answers included.
    pub bytes: usize,
    /// Headers in it.
    pub headers: usize,
}

impl Default for Heads {
    /// 64 KiB and 200: a provider's head is a few kilobytes.
    fn default() -> Self {
        Self {
            bytes: 64 * 1024,
            headers: 200,
        }
    }
}

/// A client of one upstream. Clones share the pool.
pub struct Client<C, B, T, K = SystemClock>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    origin: Arc<Origin<C>>,
    connect: Duration,
    heads: Heads,
    quiet: fn(&T) -> bool,
    looks: fn() -> u64,
    pool: Arc<Shared<T, B, K>>,
}

/// Whom to reach, and how: wanted only for a new connection.
struct Origin<C> {
    uri: Uri,
    // Locked while it is cloned, so that it need not be Sync.
    connector: Mutex<C>,
}

impl<C, B, T> Client<C, B, T>
where
    C: Service<Uri, Response = T>,
    T: Read + Write,
    B: http_body::Body + 'static,
{
    /// A client of the scheme and authority of `origin`, which `connector` can reach.
    pub fn new(connector: C, origin: Uri, pool: Pool) -> Self {
        Self::with_clock(connector, origin, pool, SystemClock)
    }
}

impl<C, B, T, K> Client<C, B, T, K>
where
    C: Service<Uri, Response = T>,
    T: Read + Write,
    B: http_body::Body + 'static,
{
    /// As [`new`](Client::new), with another clock.
    pub fn with_clock(connector: C, origin: Uri, pool: Pool, clock: K) -> Self {
        let pool = Arc::new(Shared::new(pool, clock));
        let origin = Origin {
            uri: origin,
            connector: Mutex::new(connector),
        };
        Self {
            origin: Arc::new(origin),
            connect: Duration::from_secs(5),
            heads: Heads::default(),
            quiet: |_| true,
            looks: || 0,
            pool,
        }
    }

    /// How to find out whether nothing waits to be read on a transport; asked once for each request
    /// over a connection that was idle.
    ///
    /// A runtime looks at its sockets now and then: an answer that came unasked since it last did
    /// would be taken for the answer of the request. Ask the system (`recv` with `MSG_PEEK`), which
    /// costs a system call. Unless set, what the runtime knows is relied upon.
    #[must_use]
    pub fn quiet(mut self, quiet: fn(&T) -> bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// How often the runtime has looked at its sockets: a number that grows before each look, asked for on the thread of
    /// the request ([`on_thread_park`](https://docs.rs/tokio/latest/tokio/runtime/struct.Builder.html#method.on_thread_park)
    /// of a runtime of one thread can count them).
    ///
    /// A connection that was idle during a look is taken before others, and without asking [`quiet`](Self::quiet): the
    /// runtime would have heard. Unless set, nothing is known of looks.
    #[must_use]
    pub fn looks(mut self, looks: fn() -> u64) -> Self {
        self.looks = looks;
        self
    }

    /// How long making a connection may take, the TLS handshake included; 5 seconds unless set.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect = limit;
        self
    }

    /// What the head of an answer may cost, over connections that are opened from now on.
    #[must_use]
    pub fn heads(mut self, heads: Heads) -> Self {
        self.heads = heads;
        self
    }
}

impl<C, B, T, K> Client<C, B, T, K>
where
    T: Read + Write + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
    K: Clock,
{
    /// Closes the idle connections that are past their time. To be called now and then by whoever
    /// owns the client's runtime: the client spawns no timer.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Closes the idle connections, and keeps none from now on: for a client whose place another one
    /// has taken. Requests of its clones run on, and open connections of their own.
    pub fn retire(&self) {
        self.pool.retire();
    }

    /// Idle connections at present.
    pub fn idle(&self) -> usize {
        self.pool.idle()
    }
}

impl<C, B, T, K> Clone for Client<C, B, T, K>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    fn clone(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            connect: self.connect,
            heads: self.heads,
            quiet: self.quiet,
            looks: self.looks,
            pool: self.pool.clone(),
        }
    }
}

impl<C, B, T, K> fmt::Debug for Client<C, B, T, K>
where
    T: Read + Write,
    B: http_body::Body + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.origin.uri.host())
            .finish_non_exhaustive()
    }
}

impl<C, B, T, K> Service<Request<B>> for Client<C, B, T, K>
where
    C: Service<Uri, Response = T> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    T: Read + Write + Unpin + Send + 'static,
    K: Clock,
{
    type Response = Response<ResponseBody<T, B, K>>;
    type Error = BoxError;
    type Future = ResponseFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        let client = self.clone();
        ResponseFuture {
            inner: Box::pin(client.send(req)),
        }
    }
}

impl<C, B, T, K> Client<C, B, T, K>
where
    C: Service<Uri, Response = T> + Clone,
    C::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    T: Read + Write + Unpin + Send + 'static,
    K: Clock,
{
    async fn send(self, mut req: Request<B>) -> Result<Response<ResponseBody<T, B, K>>, BoxError> {
        while let Some((mut link, idle)) = self.pool.take((self.looks)()) {
            match link.send(req, idle).await {
                Sent::Answered(response) => return self.answer(response, link),
                // Not a byte of it was written: the connection was closed while it was idle, or
                // something unasked for waits on it.
                Sent::Unwritten(message, _) => req = message,
                Sent::Failed(error) => return Err(unanswered(error)),
            }
        }
        let mut link = self.open().await?;
        match link.send(req, Idle::Never).await {
            Sent::Answered(response) => self.answer(response, link),
            Sent::Unwritten(_, error) | Sent::Failed(error) => Err(unanswered(error)),
        }
    }

    fn answer(
        self,
        response: Response<hyper::body::Incoming>,
        link: Box<Link<T, B>>,
    ) -> Result<Response<ResponseBody<T, B, K>>, BoxError> {
        if let Some(told) = sane::fault(&response) {
            // The connection goes with what is still to come over it.
            return Err(Rejection::new(Reason::Protocol, LAYER, told).into());
        }
        let (head, incoming) = response.into_parts();
        let mut body = ResponseBody::new(incoming, link, self.pool);
        body.settle_if_ended();
        Ok(Response::from_parts(head, body))
    }

    async fn open(&self) -> Result<Box<Link<T, B>>, BoxError> {
        let now = self.pool.clock().now();
        let mut limit = std::pin::pin!(self.pool.clock().sleep_until(now + self.connect));
        let uri = self.origin.uri.clone();
        let connector = self.origin.connector.lock();
        let mut connector = connector.unwrap_or_else(PoisonError::into_inner).clone();
        let mut open = std::pin::pin!(async move {
            std::future::poll_fn(|cx| connector.poll_ready(cx))
                .await
                .map_err(unreached)?;
            let io = connector.call(uri).await.map_err(unreached)?;
            let mut builder = http1::Builder::new();
            let bytes = self.heads.bytes.max(HYPER_BUFFER);
            builder.max_buf_size(bytes).max_headers(self.heads.headers);
            let (io, watch) = Watched::new(io, self.quiet, bytes.saturating_mul(2));
            let (sender, connection) = builder.handshake(io).await.map_err(unanswered)?;
            Ok(Box::new(Link::new(
                sender, connection, watch, now, self.looks,
            )))
        });
        std::future::poll_fn(|cx| {
            if let Poll::Ready(opened) = open.as_mut().poll(cx) {
                return Poll::Ready(opened);
            }
            limit.as_mut().poll(cx).map(|()| {
                let told = "the provider did not accept a connection in time";
                Err(Rejection::new(Reason::Connect, LAYER, told).into())
            })
        })
        .await
    }
}

/// An error on the way to a connection; a connector may have explained it already.
fn unreached(error: impl Into<BoxError>) -> BoxError {
    let error = error.into();
    if Rejection::find(&*error).is_some() {
        return error;
    }
    let told = "the provider cannot be reached; try again later";
    Rejection::new(Reason::Connect, LAYER, told)
        .because(error)
        .into()
}

/// An error between the request and a response head.
fn unanswered(error: hyper::Error) -> BoxError {
    if let Some(found) = watch::said::<Rejection>(&error) {
        // A connector's transport has explained it already.
        let found = Rejection::new(found.reason(), LAYER, found.message().to_owned());
        return found.because(error).into();
    }
    let (reason, told) = if watch::said(&error) == Some(&Fault::Flood) {
        (
            Reason::Protocol,
            "the provider sent interim answers without end",
        )
    } else if error.is_parse() {
        (Reason::Protocol, "the provider's answer is not HTTP/1.1")
    } else if error.is_user() {
        return Rejection::unread(LAYER, error);
    } else {
        (
            Reason::Closed,
            "the provider closed the connection without an answer",
        )
    };
    Rejection::new(reason, LAYER, told).because(error).into()
}

/// The future of a [`Client`]'s answer. Dropping it closes the connection that it uses.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<R> {
    inner: Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>,
}

impl<R> Future for ResponseFuture<R> {
    type Output = Result<R, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl<R> fmt::Debug for ResponseFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// hyper's least `max_buf_size`; it panics below.
const HYPER_BUFFER: usize = 8192;
