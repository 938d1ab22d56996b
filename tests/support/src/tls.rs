//! A throwaway certificate authority, for the scripted upstream and for listeners.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ResolvesServerCertUsingSni, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The certificate of the authority, in PEM: what a client must trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPem(pub String);

/// An authority that nobody knows.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// An acceptor with a fresh certificate for `localhost` and 127.0.0.1 that offers `http/1.1`.
pub(crate) fn acceptor() -> (TlsAcceptor, CaPem) {
    let authority = Authority::new();
    let pair = authority.issue(&["localhost", "127.0.0.1"]);
    (pair.acceptor(None), authority.pem())
}

// ===== impl Authority =====

impl Authority {
    /// A fresh one.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(authority, key).expect("an authority"))
    }

    /// Its certificate.
    #[must_use]
    pub fn pem(&self) -> CaPem {
        CaPem(self.0.pem())
    }

    /// A certificate for these names, good for servers and for clients.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.sign(names, |_| {})
    }

    /// One whose time is over.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> Pair {
        self.sign(names, |leaf| {
            leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
            leaf.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut leaf = CertificateParams::new(names).expect("good names");
        leaf.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        edit(&mut leaf);
        let key = KeyPair::generate().expect("a key");
        let leaf = leaf.signed_by(&key, &self.0).expect("a signed certificate");
        Pair {
            cert: leaf.pem(),
            key: key.serialize_pem(),
        }
    }
}

// ===== impl Pair =====

impl Pair {
    fn parts(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (cert, key)
    }

    /// An acceptor that shows this certificate and offers `http/1.1`; `clients` must show one of that authority.
    ///
    /// # Panics
    /// When the key is not the certificate's.
    #[must_use]
    pub fn acceptor(&self, clients: Option<&CaPem>) -> TlsAcceptor {
        // The provider is named, because the process may hold more than one and the default may be unset.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()), provider);
                builder.with_client_cert_verifier(verifier.build().expect("an authority"))
            }
        };
        let (cert, key) = self.parts();
        let mut config = builder
            .with_single_cert(vec![cert], key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// An acceptor that serves nobody who does not ask for this name.
    ///
    /// # Panics
    /// When the certificate is not for that name.
    #[must_use]
    pub fn acceptor_for(&self, name: &str) -> TlsAcceptor {
        Self::acceptor_by_name([(name, self)])
    }

    /// An acceptor that shows to each who asks for one of these names its own certificate, and serves nobody else.
    ///
    /// # Panics
    /// When a certificate is not for its name.
    #[must_use]
    pub fn acceptor_by_name<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a Self)>,
    ) -> TlsAcceptor {
        let provider = aws_lc_rs::default_provider();
        let mut names = ResolvesServerCertUsingSni::new();
        for (name, pair) in pairs {
            let (cert, key) = pair.parts();
            let key = CertifiedKey::from_der(vec![cert], key, &provider).expect("a pair");
            names.add(name, key).expect("a certificate for the name");
        }
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(names));
        TlsAcceptor::from(Arc::new(config))
    }
}

// ===== impl CaPem =====

impl CaPem {
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let cert = CertificateDer::from_pem_slice(self.0.as_bytes()).expect("a certificate");
        roots.add(cert).expect("an authority");
        roots
    }

    /// A client that trusts this authority, shows `own`, and offers these protocols.
    ///
    /// # Panics
    /// When the pair is none.
    #[must_use]
    pub fn connector(&self, own: Option<&Pair>, protocols: &[&str]) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_root_certificates(self.roots());
        let mut config = match own.map(Pair::parts) {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(vec![cert], key)
                .expect("the key belongs to the certificate"),
        };
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}
