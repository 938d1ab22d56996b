//! TLS towards clients: rustls with aws-lc-rs, HTTP/1.1 only.
//!
//! The certificate in force is looked up at each handshake, so that a reload reaches every worker at
//! once and disturbs no connection: [`Tls::read`] builds what a configuration names and refuses what
//! cannot serve, [`Tls::change`] puts it in force.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::ServerTls,
    connect::{TlsError, certificates, roots_of},
};

/// The certificate in force, for every worker. Clones are the same one.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Certificate>>);

/// A certificate that can serve, with its key and whom it lets in.
#[derive(Clone)]
pub struct Certificate(Arc<ServerConfig>);

impl Tls {
    /// TLS with the certificate that a configuration names.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn new(files: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Self::read(files)?))))
    }

    /// Reads what a configuration names; nothing is changed by it.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a key that is not the certificate's, a certificate that has
    /// expired. The text names the file and says what to do.
    pub fn read(files: &ServerTls) -> Result<Certificate, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&files.cert).map_err(|error| error.of("server.tls.cert"))?;
        let key = key(&files.key)?;
        not_expired(&files.cert, &chain, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("no protocol version of TLS", error))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = roots_of(ca).map_err(|error| error.of("server.tls.client_ca"))?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| TlsError::file("server.tls.client_ca", ca, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| pair(files, error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Certificate(Arc::new(config)))
    }

    /// All that is wrong with what a configuration names, by the key of `server.tls`: not only the first, as [`read`](Self::read).
    pub(crate) fn problems(files: &ServerTls) -> Vec<(&'static str, TlsError)> {
        let cert = certificates(&files.cert).map_err(|error| error.of("server.tls.cert"));
        let (cert, key) = (cert.err(), key(&files.key).err());
        let roots = files.client_ca.as_deref().map(roots_of);
        let roots = roots.and_then(|roots| roots.map_err(|it| it.of("server.tls.client_ca")).err());
        let pair = || {
            let pair = ServerTls {
                client_ca: None,
                ..files.clone()
            };
            Self::read(&pair).err()
        };
        // Both can be read: whether they belong together.
        let pair = (cert.is_none() && key.is_none()).then(pair).flatten();
        let all = [("cert", cert.or(pair)), ("key", key), ("client_ca", roots)];
        let all = all.into_iter();
        all.filter_map(|(key, error)| Some((key, error?))).collect()
    }

    /// Puts a certificate in force: handshakes that begin from now on use it.
    pub fn change(&self, certificate: Certificate) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// The handshake of an accepted connection; its error is for the debug log alone.
    pub(super) async fn accept(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let now = {
            // Once per connection, and never held while anything is waited for.
            let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
            now.0.clone()
        };
        let mut tls = TlsAcceptor::from(now).accept(tcp).await?;
        // What a client does not take waits here too, encrypted.
        tls.get_mut().1.set_buffer_limit(Some(UNTAKEN));
        Ok(tls)
    }
}

/// Bytes that TLS keeps for a client that does not take them, in place of rustls' 64 KiB. Measured with stalled clients:
/// 16 KiB cost 80 KiB a client, as parts of three records live at a time; this costs 8.
const UNTAKEN: usize = 8 * 1024;

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        let why = format!("{error}; it must be a private key in PEM, without a passphrase");
        TlsError::file("server.tls.key", file, why)
    })
}

fn pair(files: &ServerTls, error: rustls::Error) -> TlsError {
    let (cert, key): (&PathBuf, &PathBuf) = (&files.cert, &files.key);
    let text = format!(
        "server.tls: {} cannot be used with the key {}; give the certificate, first in its file, \
         and the key that was made for it",
        cert.display(),
        key.display()
    );
    TlsError::new(text, error)
}

/// A client that verifies would refuse an expired certificate: it is refused here, where somebody reads it.
fn not_expired(
    file: &Path,
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    // rustls looks at the dates before it looks for an issuer. Whether a client trusts the issuer
    // is the client's business: only the dates count here.
    let mut roots = rustls::RootCertStore::empty();
    let [leaf, rest @ ..] = chain else {
        return Ok(());
    };
    roots
        .add(leaf.clone())
        .map_err(|error| TlsError::file("server.tls.cert", file, error))?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let Ok(verifier) = verifier else {
        return Ok(());
    };
    let name = ServerName::try_from("localhost").expect("a host name");
    let judged = verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now());
    match judged {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Err(TlsError::file(
            "server.tls.cert",
            file,
            "it has expired; renew it",
        )),
        _ => Ok(()),
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
