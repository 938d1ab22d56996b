//! The reference *inline*: one runtime, one listener and one pool of upstream connections per thread, and the
//! upstream connection polled inside the request's own task: in the answer's future until the head is there, in
//! the body's `poll_frame` behind it. Nothing is spawned per request, one flush serves all events that one read
//! brought, and dropping the body drops the connection.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Serves until the process is killed.
pub(crate) fn run(address: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let threads: Vec<_> = (0..super::WORKERS)
        .map(|_| thread::spawn(move || work(address, upstream)))
        .collect();
    threads.into_iter().try_for_each(|thread| {
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
    })
}

fn work(address: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pool = Arc::new(Pool {
            upstream,
            host: super::host_of(upstream)?,
            idle: Mutex::default(),
        });
        let listener = super::listen(address)?;
        super::accept(listener, |stream| {
            let pool = Arc::clone(&pool);
            async move {
                let service = service_fn(|req| pass(Arc::clone(&pool), req));
                // A cut connection is seen at the load generator.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    })
}

/// Sends the request on an idle connection, on the next one if that proves closed, at last on a fresh one.
async fn pass(pool: Arc<Pool>, mut req: Request<Incoming>) -> Result<Response<Relayed>, BoxError> {
    super::to_upstream(req.headers_mut(), &pool.host);
    loop {
        let (mut link, reused) = match pool.idle().await {
            Some(link) => (link, true),
            None => (Link::open(pool.upstream).await?, false),
        };
        match link.exchange(req).await {
            Ok(mut res) => {
                super::strip(res.headers_mut());
                return Ok(res.map(|body| Relayed::new(body, link, pool)));
            }
            Err((Some(unsent), _)) if reused => req = unsent,
            Err((_, error)) => return Err(error),
        }
    }
}

/// Upstream connections of one thread. The lock is never contended; it is there for `Send`.
struct Pool {
    upstream: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<Link>>,
}

/// One upstream connection and the handle that sends on it.
struct Link {
    sender: SendRequest<Incoming>,
    connection: Connection<TokioIo<TcpStream>, Incoming>,
    ended: bool,
}

/// The provider's body, which drives the connection that it comes from.
struct Relayed {
    body: Incoming,
    link: Option<Link>,
    pool: Arc<Pool>,
}

// ===== impl Pool =====

impl Pool {
    /// The connection that became idle last and is still open. It is polled here, since nobody watched it.
    async fn idle(&self) -> Option<Link> {
        poll_fn(|cx| {
            loop {
                let next = self
                    .idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop();
                let Some(mut link) = next else {
                    return Poll::Ready(None);
                };
                if link.is_idle(cx) {
                    return Poll::Ready(Some(link));
                }
            }
        })
        .await
    }

    fn put(&self, link: Link) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(link);
    }
}

// ===== impl Link =====

impl Link {
    async fn open(upstream: SocketAddr) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            connection,
            ended: false,
        })
    }

    /// Sends the request and drives the connection until the head of the answer is there. The error holds the
    /// request if none of it was written.
    async fn exchange(
        &mut self,
        req: Request<Incoming>,
    ) -> Result<Response<Incoming>, (Option<Request<Incoming>>, BoxError)> {
        let mut answer = pin!(self.sender.try_send_request(req));
        poll_fn(|cx| {
            if !self.ended {
                self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            }
            match answer.as_mut().poll(cx) {
                Poll::Ready(Ok(res)) => Poll::Ready(Ok(res)),
                Poll::Ready(Err(mut error)) => {
                    let unsent = error.take_message();
                    Poll::Ready(Err((unsent, error.into_error().into())))
                }
                Poll::Pending if self.ended => {
                    Poll::Ready(Err((None, "the upstream connection ended".into())))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            self.ended = Pin::new(&mut self.connection).poll(cx).is_ready();
        }
    }

    fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }
}

// ===== impl Relayed =====

impl Relayed {
    fn new(body: Incoming, link: Link, pool: Arc<Pool>) -> Self {
        Self {
            body,
            link: Some(link),
            pool,
        }
    }

    /// Gives the connection back once nothing is left to read.
    fn passed(
        &mut self,
        frame: Option<Result<Frame<Bytes>, hyper::Error>>,
        cx: &mut Context<'_>,
    ) -> Option<Result<Frame<Bytes>, BoxError>> {
        let ended = frame.is_none() || self.body.is_end_stream();
        if ended
            && let Some(mut link) = self.link.take()
            && link.is_idle(cx)
        {
            self.pool.put(link);
        }
        frame.map(|frame| frame.map_err(Into::into))
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(self.passed(frame, cx));
        }
        if let Some(link) = &mut self.link {
            link.drive(cx);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(self.passed(frame, cx)),
            Poll::Pending if self.link.as_ref().is_some_and(|link| link.ended) => {
                Poll::Ready(Some(Err("the upstream connection ended".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
