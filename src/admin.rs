//! The admin listener: health, readiness, metrics, the configuration, reload and drain, on a thread of
//! its own.
//!
//! `GET /livez` (also `/healthz`) depends on nothing; `GET /readyz` on the start and the drain,
//! never on a provider; `GET /metrics` is the scrape, as OpenMetrics for who names it in `accept`; `GET /config` is the redacted configuration in
//! force. `POST /reload` reads the configuration again and answers when that is done: 200, or 400 with
//! every problem. `POST /drain` begins the drain, as the first signal does. Nothing else is served here.
//!
//! **Who may.** Where others than this machine can connect, `/config`, `/reload` and `/drain` need the
//! token. Where only this machine can, its browsers still run the pages of strangers: a request that
//! names another host than this one (DNS rebinding), or a `POST` that a page of another site sent, is
//! 403 unless it brings the token.

mod guard;

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
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime,
    sync::{Semaphore, oneshot},
    time::{sleep, timeout},
};

pub use self::guard::Token;
use self::guard::{is_cross_site, is_foreign};
use crate::{
    listen::{self, Address, BindError, Listener},
    reload::{Failed, Outcome},
    server::Readiness,
    telemetry::exposition::Format,
};

/// Where to listen, and with which token.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One address.
    pub listen: Address,
    /// The bearer token.
    pub token: Token,
}

/// Gives the metrics as text of a format. Implemented for closures.
pub trait Scrape: Send + Sync + 'static {
    /// The present figures.
    fn scrape(&self, format: Format) -> String;
}

impl<F: Fn(Format) -> String + Send + Sync + 'static> Scrape for F {
    fn scrape(&self, format: Format) -> String {
        self(format)
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
    /// For `/reload`: asks for it.
    pub reload: Box<dyn Fn() -> oneshot::Receiver<Outcome> + Send + Sync>,
    /// For `/drain`: begins it, if it has not begun.
    pub drain: Box<dyn Fn() + Send + Sync>,
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
    let reach = match &settings.listen {
        Address::Unix(_) => Reach::Files,
        address if address.is_loopback() => Reach::Machine,
        Address::Tcp { .. } => Reach::Others,
    };
    if settings.token.present().is_none() && reach == Reach::Others {
        return Err(StartError::Open(settings.listen));
    }
    let bound = listen::bind(&settings.listen, 1, "--admin").map_err(StartError::Bind)?;
    let address = bound.address().clone();
    let (listeners, unlink) = bound.into_parts();
    let desk = Arc::new(Desk {
        pages,
        token: settings.token,
        reach,
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
        let service = service_fn(move |req: Request<_>| {
            let page = desk.page(&req);
            async { Ok::<_, Infallible>(page.finished().await) }
        });
        // Not for long: whoever connects and does nothing, or takes nothing, must not keep probes out.
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(8192)
            .serve_connection(TokioIo::new(stream), service);
        match timeout(CONNECTION_TIME, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "admin connection ended by an error"),
            Err(_) => tracing::debug!("an admin connection took too long"),
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
    token: Token,
    reach: Reach,
}

/// Who can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Whoever may open the file of a unix socket: no browser can.
    Files,
    /// The programs of this machine.
    Machine,
    /// Other machines.
    Others,
}

/// An answer, or what it waits for.
#[derive(Debug)]
enum Page {
    Ready(Response<Full<Bytes>>),
    Reload(oneshot::Receiver<Outcome>),
}

impl Desk {
    fn page<B>(&self, req: &Request<B>) -> Page {
        Page::Ready(match (self.refusal(req), req.uri().path()) {
            (Some(refusal), _) => refusal,
            (None, "/reload") => return Page::Reload((self.pages.reload)()),
            (None, "/drain") => {
                (self.pages.drain)();
                plain(StatusCode::ACCEPTED, self.pages.readiness.as_str())
            }
            (None, "/readyz") if !self.pages.readiness.is_ready() => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                self.pages.readiness.as_str(),
            ),
            (None, "/metrics") => {
                let accept = req.headers().get_all(ACCEPT).iter();
                let format = Format::accepted(accept.filter_map(|value| value.to_str().ok()));
                let mut response = plain(StatusCode::OK, self.pages.metrics.scrape(format));
                let headers = response.headers_mut();
                let kind = HeaderValue::from_static(format.media_type());
                headers.insert(CONTENT_TYPE, kind);
                headers.insert(VARY, HeaderValue::from_static("accept"));
                response
            }
            (None, "/config") => plain(StatusCode::OK, (self.pages.config)()),
            (None, _) => plain(StatusCode::OK, "ok"),
        })
    }

    /// What is to be said instead of the page.
    fn refusal<B>(&self, req: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let (allowed, guarded) = match req.uri().path() {
            "/livez" | "/healthz" | "/readyz" | "/metrics" => ("GET, HEAD", false),
            "/config" => ("GET, HEAD", true),
            "/reload" | "/drain" => ("POST", true),
            _ => return Some(plain(StatusCode::NOT_FOUND, "not found")),
        };
        let served = match *req.method() {
            Method::GET | Method::HEAD => allowed != "POST",
            Method::POST => allowed == "POST",
            _ => false,
        };
        if !served {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
            return Some(response);
        }
        if self.token.is_in(req.headers()) {
            return None;
        }
        match self.reach {
            Reach::Files => None,
            Reach::Machine => (is_foreign(req) || is_cross_site(req)).then(|| {
                let told = "this listener is for this machine: ask for it by 127.0.0.1 or localhost, \
                            or bring the admin token";
                plain(StatusCode::FORBIDDEN, told)
            }),
            Reach::Others => guarded.then(|| {
                let mut response = plain(StatusCode::UNAUTHORIZED, "the admin token is needed");
                let challenge = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }),
        }
    }
}

impl Page {
    async fn finished(self) -> Response<Full<Bytes>> {
        let outcome = match self {
            Self::Ready(response) => return response,
            Self::Reload(outcome) => timeout(RELOAD_TIME, outcome).await,
        };
        match outcome {
            Ok(Ok(Ok(generation))) => plain(StatusCode::OK, format!("generation {generation}\n")),
            Ok(Ok(Err(error))) => {
                let status = match error {
                    Failed::Refused(_) => StatusCode::BAD_REQUEST,
                    Failed::Internal => StatusCode::INTERNAL_SERVER_ERROR,
                    Failed::Busy => StatusCode::SERVICE_UNAVAILABLE,
                    Failed::NoSource => StatusCode::NOT_IMPLEMENTED,
                };
                plain(status, format!("{error}\n{UNCHANGED}\n"))
            }
            // The thread that reloads has ended with the gateway.
            Ok(Err(_)) => plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway has ended"),
            Err(_) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the configuration is still being read",
            ),
        }
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

// ===== impl Pages =====

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

/// How long an answer waits for a reload: a file system may hang.
const RELOAD_TIME: Duration = Duration::from_secs(30);
/// What a failed reload is told with.
const UNCHANGED: &str = "the running configuration was left as it is";
/// Connections served at once; a scraper and two probes need three.
const CONNECTIONS: usize = 64;
/// Time to a head, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// Time for a connection in all; a reload may take half of it.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Wait before the next attempt to accept.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
