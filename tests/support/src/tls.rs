//! A throwaway certificate authority for the scripted upstream.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate of the authority, in PEM: what a client must trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPem(pub String);

/// An acceptor with a fresh certificate for `localhost` and 127.0.0.1 that offers `http/1.1`.
pub(crate) fn acceptor() -> (TlsAcceptor, CaPem) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");

    let mut leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .expect("two good names");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf
        .signed_by(&key, &authority)
        .expect("a signed certificate");

    // The provider is named, because the process may hold more than one and the default may be unset.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("the key belongs to the certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), CaPem(authority.pem()))
}
