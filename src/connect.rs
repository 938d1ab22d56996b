//! Connections to providers: TCP, and TLS by rustls with aws-lc-rs.
//!
//! Proxy variables of the environment are not read: the only addresses that are dialled are those of
//! the configured providers, and of a webhook.

use std::{
    error::Error,
    fmt, fs,
    future::Future,
    io,
    mem::MaybeUninit,
    path::Path,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{
    FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream,
};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use socket2::SockRef;
use tokio::net::TcpStream;
use tollgate_middleware::error::{BoxError, Reason, Rejection};
use tower_service::Service;

use crate::{
    config::{ProviderTls, Scheme},
    dial::Dial,
    names::Names,
    pieces,
};

/// What a connection to a provider is.
///
/// The state of TLS lies behind a pointer: a plain connection does not keep a kilobyte for it.
#[derive(Debug)]
pub struct Io {
    kind: Kind,
    // As long as it is open.
    _counted: Counted,
}

#[derive(Debug)]
enum Kind {
    /// TCP.
    Plain(TokioIo<TcpStream>),
    /// TLS over TCP.
    Tls(Box<MaybeHttpsStream<TokioIo<TcpStream>>>),
}

/// How many connections to providers are open. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicU64>);

/// One of them.
#[derive(Debug)]
struct Counted(Open);

/// Makes connections to one provider. Clones share their TLS sessions, and what they know of names.
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<Dial>,
    open: Open,
}

impl Connector {
    /// A connector for a provider that is reached by `scheme`.
    ///
    /// # Errors
    ///
    /// If a certificate cannot be read. The system's roots are read only for `https` without a root
    /// of the provider's own.
    pub fn new(scheme: Scheme, tls: Option<&ProviderTls>) -> Result<Self, TlsError> {
        let none = ProviderTls::default();
        let tls = tls.unwrap_or(&none);
        let config = match scheme {
            Scheme::Http => client_config(RootCertStore::empty(), None)?,
            Scheme::Https => {
                let roots = tls.ca.as_deref().map_or_else(system_roots, roots_of)?;
                let client = tls.client.as_ref().map(|(cert, key)| (&**cert, &**key));
                client_config(roots, client)?
            }
        };
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http();
        let builder = match &tls.sni {
            None => builder.enable_http1(),
            Some(name) => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|error| TlsError::new("tls.sni is no host name", error))?;
                let resolver = FixedServerNameResolver::new(name);
                builder.with_server_name_resolver(resolver).enable_http1()
            }
        };
        Ok(Self {
            inner: builder.wrap_connector(Dial::new(Names::of_system())),
            open: Open::default(),
        })
    }

    /// All that is wrong with what a provider's `tls` names, by its key: not only the first, as [`new`](Self::new).
    pub(crate) fn problems(
        scheme: Scheme,
        tls: Option<&ProviderTls>,
    ) -> Vec<(&'static str, TlsError)> {
        let none = ProviderTls::default();
        let tls = tls.unwrap_or(&none);
        if scheme == Scheme::Http {
            return Vec::new();
        }
        let roots = tls.ca.as_deref().map_or_else(system_roots, roots_of).err();
        let client = tls.client.as_ref().map(|(cert, key)| (&**cert, &**key));
        let client =
            client.and_then(|pair| client_config(RootCertStore::empty(), Some(pair)).err());
        let mut all: Vec<_> = [("ca", roots), ("cert", client)]
            .into_iter()
            .filter_map(|(key, error)| Some((key, error?)))
            .collect();
        if all.is_empty() {
            all.extend(
                Self::new(scheme, Some(tls))
                    .err()
                    .map(|error| ("sni", error)),
            );
        }
        all
    }

    /// Counts its connections among these.
    #[must_use]
    pub fn counted_in(mut self, open: Open) -> Self {
        self.open = open;
        self
    }
}

impl Open {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Open(count) = &self.0;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// The roots of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the system's; read once.
fn system_roots() -> Result<RootCertStore, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(RootCertStore::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let cause = found.errors.into_iter().next();
        let cause: BoxError = cause.map_or_else(|| "none found".into(), Into::into);
        let what = "the system has no root certificates; install ca-certificates or set tls.ca";
        return Err(TlsError::new(what, cause));
    }
    Ok(RootCertStore::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

pub(crate) fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(file)? {
        roots
            .add(cert)
            .map_err(|error| TlsError::file("certificate", file, error))?;
    }
    Ok(roots)
}

pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(file).map_err(|error| TlsError::file("certificate", file, error))?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certs {
        Ok(certs) if certs.is_empty() => {
            Err(TlsError::file("certificate", file, "holds no certificate"))
        }
        Ok(certs) => Ok(certs),
        Err(error) => Err(TlsError::file("certificate", file, error)),
    }
}

fn client_config(
    roots: RootCertStore,
    client: Option<(&Path, &Path)>,
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::new("no protocol version of TLS", error))?
        .with_root_certificates(roots);
    let Some((cert, key)) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::file("private key", key, error))?;
    builder
        .with_client_auth_cert(chain, key_der)
        .map_err(|error| TlsError::file("private key", key, error))
}

/// A certificate or key, of a provider or of our own, that cannot be used.
#[derive(Debug)]
pub struct TlsError {
    what: String,
    source: BoxError,
}

impl TlsError {
    pub(crate) fn new(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn file(what: &str, file: &Path, source: impl Into<BoxError>) -> Self {
        Self::new(format!("{what} {}", file.display()), source)
    }

    /// The same, of this key of the configuration.
    pub(crate) fn of(mut self, key: &str) -> Self {
        self.what = format!("{key}: {}", self.what);
        self
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Error for TlsError {}

impl Io {
    /// Whether nothing waits to be read, by what the system knows.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let tcp = match &self.kind {
            Kind::Plain(tcp) => tcp.inner(),
            Kind::Tls(tls) => match &**tls {
                MaybeHttpsStream::Http(tcp) => tcp.inner(),
                MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
            },
        };
        let seen = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
        seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            // A provider judges our certificate when the handshake is over for us.
            Kind::Tls(tls) => Pin::new(tls).poll_read(cx, buf).map_err(explained),
        }
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Kind::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(tcp) => tcp.is_write_vectored(),
            Kind::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Plain(tcp) => pieces::poll_write(tcp.inner_mut(), cx, bufs),
            Kind::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, origin: Uri) -> Connecting {
        Connecting {
            inner: self.inner.call(origin),
            open: self.open.clone(),
        }
    }
}

pin_project! {
    /// A connection being made.
    pub struct Connecting {
        #[pin]
        inner: <HttpsConnector<Dial> as Service<Uri>>::Future,
        open: Open,
    }
}

impl Future for Connecting {
    type Output = Result<Io, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let connected = this.inner.poll(cx).map_ok(|io| Io {
            kind: match io {
                MaybeHttpsStream::Http(tcp) => Kind::Plain(tcp),
                tls => Kind::Tls(Box::new(tls)),
            },
            _counted: this.open.one(),
        });
        connected.map_err(|error| {
            if is_tls(&*error) {
                unacceptable(error).into()
            } else {
                error
            }
        })
    }
}

fn unacceptable(error: impl Into<BoxError>) -> Rejection {
    let told = "the provider's certificate or TLS handshake is not acceptable, or ours is not to it; \
                its operator, or the provider's `tls` key, has to be corrected";
    Rejection::new(Reason::Tls, "upstream", told).because(error)
}

fn explained(error: io::Error) -> io::Error {
    if is_tls(&error) {
        io::Error::new(error.kind(), unacceptable(error))
    } else {
        error
    }
}

/// Whether rustls made this error, however it is wrapped.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An io::Error tells what it wraps by another way than `source`.
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            && is_tls(inner)
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a connection that has carried some traffic shows by its delays that the option is missing; asked, it tells.
    #[tokio::test]
    async fn a_connection_to_a_provider_sends_small_writes_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}/", listener.local_addr().unwrap());
        let mut connector = Connector::new(Scheme::Http, None).unwrap();
        std::future::poll_fn(|cx| connector.poll_ready(cx))
            .await
            .unwrap();
        let io = connector.call(origin.parse().unwrap()).await.unwrap();
        let Kind::Plain(stream) = &io.kind else {
            panic!("a plain address gave a connection with TLS")
        };
        assert!(stream.inner().nodelay().unwrap());
        assert_eq!(connector.open.count(), 1);
        drop(io);
        assert_eq!(connector.open.count(), 0);
    }
}
