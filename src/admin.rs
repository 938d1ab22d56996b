//! The admin listener: health, readiness, metrics and the configuration, on a thread of its own.
//!
//! `GET /livez` (also `/healthz`) depends on nothing; `GET /readyz` on the start and the drain,
//! never on a provider; `GET /metrics` is the scrape; `GET /config` is the redacted configuration
//! and needs the token where others than this machine can connect. Nothing else is served here.

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime,
    sync::{Semaphore, oneshot},
    time::sleep,
};

use crate::{
    listen::{self, Address, BindError, Listener},
    server::Readiness,
};

/// Where to listen, and who may read the configuration.
#[derive(Clone)]
pub struct Settings {
    /// One address.
    pub listen: Address,
    /// The bearer token; an empty one is none.
    pub token: Option<String>,
}

/// Gives the metrics in the text format of OpenMetrics, which Prometheus reads. Implemented for
/// closures.
pub trait Scrape: Send + Sync + 'static {
    /// The present figures.
    fn scrape(&self) -> String;
}

impl<F: Fn() -> String + Send + Sync + 'static> Scrape for F {
    fn scrape(&self) -> String {
        self()
    }
}

/// What the listener shows.
pub struct Pages {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub metrics: Box<dyn Scrape>,
    /// For `/config`: the configuration in force, without secrets.
    pub config: Box<dyn Fn() -> String + Send + Sync>,
}

/// The running listener. Dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    address: Address,
    // Dropped first: that is what ends the thread.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The admin listener cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on.
    Bind(BindError),
    /// Others than this machine could read the configuration.
    Open(Address),
    /// The thread or its runtime cannot be made.
    Runtime(io::Error),
}

/// Binds the listener and serves it until the handle is dropped.
///
/// # Errors
///
/// An address that cannot be bound; one that is not loopback, without a token.
pub fn start(settings: Settings, pages: Pages) -> Result<Admin, StartError> {
    let token = settings.token.filter(|token| !token.is_empty());
    let local = settings.listen.is_loopback();
    if token.is_none() && !local {
        return Err(StartError::Open(settings.listen));
    }
    let bound = listen::bind(&settings.listen, 1, "--admin").map_err(StartError::Bind)?;
    let address = bound.address().clone();
    let (listeners, unlink) = bound.into_parts();
    let desk = Arc::new(Desk {
        pages,
        token: token.filter(|_| !local),
    });
    let (stop, stopped) = oneshot::channel();
    let (ready, serving) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("admin".into())
        .spawn(move || {
            run(listeners, &desk, stopped, &ready);
            drop(unlink);
        })
        .map_err(StartError::Runtime)?;
    let said = serving
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the admin thread ended")));
    said.map_err(StartError::Runtime)?;
    Ok(Admin {
        address,
        stop: Some(stop),
        thread: Some(thread),
    })
}

/// The life of the thread.
fn run(
    listeners: Vec<Listener>,
    desk: &Arc<Desk>,
    stopped: oneshot::Receiver<Infallible>,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    let built = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody waits any more only if the caller is gone.
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        for listener in listeners {
            let begun = match listener {
                Listener::Tcp(listener) => TcpListener::from_std(listener)
                    .map(|listener| drop(spawn(accept_tcp(listener, desk.clone())))),
                Listener::Unix(listener) => UnixListener::from_std(listener)
                    .map(|listener| drop(spawn(accept_unix(listener, desk.clone())))),
            };
            if let Err(error) = begun {
                let _ = ready.send(Err(error));
                return;
            }
        }
        let _ = ready.send(Ok(()));
        // The sender sends nothing: it is dropped.
        let _ = stopped.await;
    });
}

async fn accept_tcp(listener: TcpListener, desk: Arc<Desk>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &desk, &room).await,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, desk: Arc<Desk>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &desk, &room).await,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves a connection beside the others, once there is room for it.
async fn admit<T>(stream: T, desk: &Arc<Desk>, room: &Arc<Semaphore>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(permit) = room.clone().acquire_owned().await else {
        return;
    };
    let desk = desk.clone();
    spawn(async move {
        let service = service_fn(move |req| std::future::ready(desk.answer(&req)));
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(8192)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended by an error");
        }
        drop(permit);
    });
}

#[expect(
    clippy::disallowed_methods,
    reason = "the admin listener has a runtime of its own"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(work)
}

/// Answers the requests.
struct Desk {
    pages: Pages,
    /// Asked for only where others than this machine can connect.
    token: Option<String>,
}

impl Desk {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "hyper asks for a service that may fail"
    )]
    fn answer(&self, req: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let bearer = req.headers().get(AUTHORIZATION);
        Ok(self.page(req.method(), req.uri().path(), bearer))
    }

    fn page(
        &self,
        method: &Method,
        path: &str,
        bearer: Option<&HeaderValue>,
    ) -> Response<Full<Bytes>> {
        if !matches!(
            path,
            "/livez" | "/healthz" | "/readyz" | "/metrics" | "/config"
        ) {
            return plain(StatusCode::NOT_FOUND, "not found");
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/readyz" if self.pages.readiness.is_ready() => plain(StatusCode::OK, "ok"),
            "/readyz" => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                self.pages.readiness.as_str(),
            ),
            "/metrics" => {
                let mut response = plain(StatusCode::OK, self.pages.metrics.scrape());
                let kind = HeaderValue::from_static(METRICS_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            "/config" if self.admits(bearer) => plain(StatusCode::OK, (self.pages.config)()),
            "/config" => {
                let mut response = plain(StatusCode::UNAUTHORIZED, "the admin token is needed");
                let challenge = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
            _ => plain(StatusCode::OK, "ok"),
        }
    }

    /// Whether the token was presented, compared in constant time.
    fn admits(&self, bearer: Option<&HeaderValue>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let Some((scheme, presented)) = bearer.and_then(|bearer| {
            let bearer = bearer.as_bytes();
            let space = memchr::memchr(b' ', bearer)?;
            Some((&bearer[..space], bearer[space..].trim_ascii()))
        }) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer") && presented.ct_eq(token.as_bytes()).into()
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// ===== impl Admin =====

impl Admin {
    /// The address, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended too.
            let _ = thread.join();
        }
    }
}

// ===== impl Settings, Pages =====

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret.
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

// ===== impl StartError =====

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Open(address) => write!(
                f,
                "the admin listener {address} can be reached by other machines and has no token; \
                 set admin.token, or listen on 127.0.0.1"
            ),
            Self::Runtime(error) => write!(f, "cannot start the admin listener: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Bind(error) => error.source(),
            Self::Open(_) => None,
            Self::Runtime(error) => Some(error),
        }
    }
}

/// The media type of OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections served at once; a scraper and two probes need three.
const CONNECTIONS: usize = 64;
/// Time to a head, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// Wait before the next attempt to accept.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
