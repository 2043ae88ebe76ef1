//! TLS on the gateway's port, so that code with hard-coded `https://` or `wss://` addresses works unchanged.
//!
//! Every start makes a new certificate authority, and functions that run as processes trust it. The same port serves
//! plain HTTP: the first byte of a TLS handshake is not a letter.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::aws;

/// Where systems keep the certificates that they trust. The first that exists is used.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// First byte of a TLS handshake record. Source: RFC 8446.
pub(crate) const HANDSHAKE_RECORD: u8 = 22;

/// The gateway's certificate, for all names under which code may call it.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    authority_pem: String,
}

/// The gateway's certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for the gateway")]
pub struct TlsError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Identity {
    /// Makes an authority, and a certificate for this machine, `address` and the API's names in AWS.
    pub(crate) fn new(address: IpAddr) -> Result<Self, TlsError> {
        Self::make(address).map_err(TlsError)
    }

    fn make(address: IpAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(rcgen::DnType::CommonName, "apigw-local");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let here = ["localhost", "127.0.0.1", "::1", &address.to_string()].map(str::to_owned);
        let mut params = CertificateParams::new(here.into_iter().chain(aws::api_hosts("*")).collect::<Vec<_>>())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), authority_pem: authority.pem() })
    }

    /// Writes the authority to `directory`. Returns variables that make clients in Node.js, Python and others trust it.
    pub(crate) fn trust(&self, directory: &Path) -> io::Result<BTreeMap<String, String>> {
        let alone = directory.join("authority.pem");
        fs::write(&alone, &self.authority_pem)?;
        let mut variables = vec![("NODE_EXTRA_CA_CERTS", alone.clone())];
        // These variables replace the client's list, so the bundle includes the system's certificates.
        let system = SYSTEM_BUNDLES.iter().find_map(|bundle| fs::read_to_string(bundle).ok());
        match system {
            Some(system) => {
                let together = directory.join("bundle.pem");
                fs::write(&together, format!("{system}\n{}", self.authority_pem))?;
                variables.extend([("AWS_CA_BUNDLE", together.clone()), ("SSL_CERT_FILE", together)]);
            }
            None => variables.push(("AWS_CA_BUNDLE", alone)),
        }
        let text = |(name, path): (&str, std::path::PathBuf)| (name.to_owned(), path.display().to_string());
        Ok(variables.into_iter().map(text).collect())
    }
}
