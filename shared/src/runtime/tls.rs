//! TLS on ring, with the certificates that the system trusts.

use std::sync::Arc;

use http::uri::Scheme;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The system has no certificates that TLS could be trusted by.
#[derive(Debug, thiserror::Error)]
#[error("no certificate authority is trusted on this system, so nothing can be called over HTTPS: {0:?}")]
pub struct NoCertificates(Vec<rustls_native_certs::Error>);

/// TLS with the certificates of the system; with none for plain HTTP, as reading them takes milliseconds.
pub fn tls(scheme: Option<&Scheme>) -> Result<ClientConfig, NoCertificates> {
    let mut roots = RootCertStore::empty();
    if scheme == Some(&Scheme::HTTPS) {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err(NoCertificates(system.errors));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what the protocol's versions need")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
