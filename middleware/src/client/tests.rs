mod ends;
mod idle;
mod pipe;
mod sockets;
mod unasked;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tollgate_testing::upstream::{ID, SCRIPT, Upstream};
use tower_service::Service;

use super::{Client, Pool, ResponseBody};
use crate::{
    clock::{Clock, SystemClock},
    error::{BoxError, Reason, Rejection},
};

type Sent = BoxBody<Bytes, BoxError>;

/// Connects with TCP to the authority of the origin.
#[derive(Clone, Debug)]
struct Tcp;

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let to = uri.authority().expect("an origin").to_string();
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Gives one end of an in-memory pipe and keeps the other for the test.
#[derive(Clone, Debug, Default)]
struct Pipes(Arc<Mutex<Vec<DuplexStream>>>);

impl Pipes {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The provider's end of the pipe that was opened last.
    fn last(&self) -> DuplexStream {
        self.0.lock().unwrap().pop().expect("a connection was made")
    }
}

impl Service<Uri> for Pipes {
    type Response = TokioIo<DuplexStream>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<TokioIo<DuplexStream>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.0.lock().unwrap().push(theirs);
        std::future::ready(Ok(TokioIo::new(ours)))
    }
}

/// A clock that stands still until the test moves it; its timers never fire.
#[derive(Clone, Debug)]
struct Manual(Arc<Mutex<Instant>>);

impl Manual {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemClock.now())))
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Manual {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Instant) -> Self::Sleep {
        tokio::time::sleep(Duration::from_secs(100_000))
    }
}

fn sockets(upstream: &Upstream) -> Client<Tcp, Sent, TokioIo<TcpStream>> {
    sockets_with(upstream, Pool::default(), SystemClock)
}

fn sockets_with<K: Clock>(
    upstream: &Upstream,
    pool: Pool,
    clock: K,
) -> Client<Tcp, Sent, TokioIo<TcpStream>, K> {
    let origin = format!("http://{}", upstream.addr()).parse().unwrap();
    Client::with_clock(Tcp, origin, pool, clock)
}

fn body(text: &'static str) -> Sent {
    Full::from(text).map_err(|never| match never {}).boxed()
}

fn nothing() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn post(id: &str, text: &'static str) -> Request<Sent> {
    Request::post("/v1/chat/completions?a=%2F")
        .header("host", "provider.test")
        .header(ID, id)
        .header(SCRIPT, id)
        .body(body(text))
        .unwrap()
}

/// A call of a service that is always ready.
async fn call<C, T, K>(
    client: &Client<C, Sent, T, K>,
    req: Request<Sent>,
) -> Result<Response<ResponseBody<T, Sent, K>>, BoxError>
where
    C: Service<Uri, Response = T> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    K: Clock,
{
    let mut client = client.clone();
    poll_fn(|cx| client.poll_ready(cx)).await?;
    client.call(req).await
}

/// A call and its whole answer.
async fn text<C, T, K>(
    client: &Client<C, Sent, T, K>,
    req: Request<Sent>,
) -> Result<String, BoxError>
where
    C: Service<Uri, Response = T> + Clone + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    K: Clock,
{
    let bytes = call(client, req)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    Ok(String::from_utf8(bytes.into()).unwrap())
}

#[track_caller]
fn reason(error: &BoxError) -> Reason {
    let found = Rejection::find(&**error).expect("a rejection");
    assert_eq!(found.layer(), "upstream");
    found.reason()
}

/// What the client wrote, up to the end of a request with this body.
async fn read_request(pipe: &mut DuplexStream, body: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(format!("\r\n\r\n{body}").as_bytes()) {
        assert_ne!(pipe.read_buf(&mut seen).await.unwrap(), 0, "closed early");
    }
    String::from_utf8(seen).unwrap()
}

async fn write(pipe: &mut DuplexStream, text: &str) {
    pipe.write_all(text.as_bytes()).await.unwrap();
}

/// Turns enough for a current-thread runtime to have looked at its sockets.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Counts how often it was dropped.
#[derive(Clone, Debug, Default)]
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
