//! TLS for the gateway's own port, so that code which insists on `https://` or `wss://` works unchanged.
//!
//! A certificate authority is made at every start and forgotten at the end; functions that run as processes are told to
//! trust it. Plain HTTP is served on the same port: the first byte of a TLS handshake is no letter.

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

use crate::aws::REGION;

/// Where systems keep the certificates that they trust, the first that exists.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// First byte of a TLS record that carries a handshake. Source: RFC 8446.
pub(crate) const HANDSHAKE_RECORD: u8 = 22;

/// A certificate for the local gateway, under all the names that code may call it by.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    authority_pem: String,
}

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for the local gateway")]
pub struct TlsError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Identity {
    /// Makes an authority and a certificate for this machine, `address` and the API's own name in the cloud.
    pub(crate) fn new(address: IpAddr) -> Result<Self, TlsError> {
        Self::make(address).map_err(TlsError)
    }

    fn make(address: IpAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(rcgen::DnType::CommonName, "Viral Alerts local mode");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names =
            ["localhost", "127.0.0.1", "::1", &address.to_string(), &format!("*.execute-api.{REGION}.amazonaws.com")]
                .map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
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

    /// Writes the authority to `directory` and returns the variables that make clients of the usual languages trust it.
    pub(crate) fn trust(&self, directory: &Path) -> io::Result<BTreeMap<String, String>> {
        let alone = directory.join("authority.pem");
        fs::write(&alone, &self.authority_pem)?;
        let mut variables = vec![("NODE_EXTRA_CA_CERTS", alone.clone())];
        // These replace what the client trusts, so what the system trusts has to stay in.
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
