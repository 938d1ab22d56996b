//! Fetches the keys that callers' tokens are signed with: beside the requests, never on the way of one.
//!
//! Each set of keys has a thread of its own, which sleeps nearly always. A reload that names the same address keeps what was
//! fetched. A start, and a reload that names another address, wait for the first fetch, but not for long: without keys callers
//! with tokens could only be told to come again.

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use tokio::{sync::oneshot, time::timeout};
use tollgate_middleware::{
    auth::jwt::{Fetch, KeySet, LARGEST},
    client::{Client, Pool},
    clock::SystemClock,
    error::BoxError,
};
use tower::ServiceExt;

use crate::{
    config::{Jwt, Scheme},
    connect::{Connector, Io, TlsError},
};

/// The sets of keys of a process, by their addresses. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySets(Arc<Mutex<Vec<Source>>>);

/// A set, and what fetches it.
#[derive(Debug)]
struct Source {
    uri: Uri,
    keys: KeySet,
    // Ends the thread when it is dropped.
    _stop: oneshot::Sender<Infallible>,
}

/// Why a set of keys cannot be fetched at all.
#[derive(Debug)]
pub enum StartError {
    /// The system's certificates cannot be read.
    Tls(TlsError),
    /// There is no thread for it.
    Thread(io::Error),
}

impl KeySets {
    /// Sees to it that the set is fetched that these tokens are checked with.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read, or the thread cannot be made.
    pub(crate) fn prepare(&self, jwt: Option<&Jwt>) -> Result<(), StartError> {
        let Some(Jwt { jwks, .. }) = jwt else {
            return Ok(());
        };
        if self.lock().iter().any(|source| source.uri == *jwks) {
            return Ok(());
        }
        let source = start(jwks)?;
        self.lock().push(source);
        Ok(())
    }

    /// The set of an address; an empty one if nobody prepared it.
    pub(crate) fn of(&self, uri: &Uri) -> KeySet {
        let all = self.lock();
        let found = all.iter().find(|source| source.uri == *uri);
        found.map_or_else(KeySet::new, |source| source.keys.clone())
    }

    /// Fetches none but this one any more.
    pub(crate) fn keep(&self, jwt: Option<&Jwt>) {
        let kept = |source: &Source| jwt.is_some_and(|jwt| jwt.jwks == source.uri);
        self.lock().retain(kept);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(uri: &Uri) -> Result<Source, StartError> {
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        _ => Scheme::Https,
    };
    let connector = Connector::new(scheme, None).map_err(StartError::Tls)?;
    let none_idle = Pool {
        max_idle: 0,
        ..Pool::default()
    };
    let client = Client::new(connector, uri.clone(), none_idle).connect_timeout(ONE_TRY);
    let (first, fetched) = mpsc::sync_channel(1);
    let fetch = OverHttp {
        client,
        uri: uri.clone(),
        failing: AtomicBool::new(false),
        first,
    };
    let (stop, stopped) = oneshot::channel::<Infallible>();
    let keys = KeySet::new();
    let set = keys.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(StartError::Thread)?;
    let run = async move {
        tokio::select! {
            () = set.keep_fresh(fetch, SystemClock) => {}
            _ = stopped => {}
        }
    };
    thread::Builder::new()
        .name("keys".into())
        .spawn(move || runtime.block_on(run))
        .map_err(StartError::Thread)?;
    // Late keys are still keys.
    let _ = fetched.recv_timeout(FIRST);
    Ok(Source {
        uri: uri.clone(),
        keys,
        _stop: stop,
    })
}

/// Asks the address each time anew.
struct OverHttp {
    client: Client<Connector, Empty<Bytes>, Io>,
    uri: Uri,
    // Whether the last time was in vain.
    failing: AtomicBool,
    first: mpsc::SyncSender<()>,
}

impl Fetch for OverHttp {
    async fn fetch(&self) -> Result<Vec<u8>, BoxError> {
        let answer = match timeout(ONE_TRY, self.get()).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(elapsed.into()),
        };
        if let Err(error) = &answer
            && !self.failing.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                error,
                "the set of keys of `layers.auth.jwt` cannot be fetched"
            );
        }
        answer
    }

    fn took(&self, yes: bool) {
        let failed = self.failing.swap(!yes, Ordering::Relaxed);
        if yes && failed {
            tracing::info!("the set of keys of `layers.auth.jwt` is fetched again");
        }
        if !yes && !failed {
            tracing::warn!("what `layers.auth.jwt.jwks` leads to is no set of keys");
        }
        // Only the first one is waited for.
        let _ = self.first.try_send(());
    }
}

impl OverHttp {
    async fn get(&self) -> Result<Vec<u8>, BoxError> {
        let target = self.uri.path_and_query();
        let request = Request::get(target.map_or("/", |target| target.as_str()))
            .header(
                header::HOST,
                self.uri.authority().map_or("", |it| it.as_str()),
            )
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity")
            .header(
                header::USER_AGENT,
                concat!("tollgate/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())?;
        let answer = self.client.clone().oneshot(request).await?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("{status}: a redirect is not followed").into());
        }
        if status != StatusCode::OK {
            return Err(status.to_string().into());
        }
        let body = Limited::new(answer.into_body(), LARGEST).collect().await?;
        Ok(body.to_bytes().into())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("layers.auth.jwt: ")?;
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "there is no thread to fetch keys: {error}"),
        }
    }
}

impl Error for StartError {}

/// How long one fetch takes at most.
const ONE_TRY: Duration = Duration::from_secs(10);
/// How long the first one is waited for.
const FIRST: Duration = Duration::from_secs(1);
