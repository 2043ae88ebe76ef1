//! TLS on the gateway's port, so that code with hard-coded `https://` or `wss://` addresses works unchanged.
//!
//! Every start makes a new certificate authority, and functions that run as processes trust it. The same port serves
//! plain HTTP: the first byte of a TLS handshake is not a letter.
//!
//! A certificate of the user's is for browsers. Functions do not trust its issuer, so they keep the one that is made
//! here: at the API's names in the cloud, and at the address of the AWS services.

mod own;

use std::{collections::BTreeMap, fmt, fs, io, net::IpAddr, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

pub use self::own::{TlsFileError, TlsFiles};

use crate::aws;

/// Where systems keep the certificates that they trust. The first that exists is used.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// First byte of a TLS handshake record. Source: RFC 8446.
pub(crate) const HANDSHAKE_RECORD: u8 = 22;

/// The certificates of the listeners.
pub(crate) struct Identity {
    /// Of the gateway, for all names under which code may call it.
    pub(crate) gateway: TlsAcceptor,
    /// Of the AWS services, which functions call.
    pub(crate) services: TlsAcceptor,
    /// Of the HTTP API: only that of the user.
    pub(crate) http: Option<TlsAcceptor>,
    /// The authority that functions trust besides those of the system.
    authority_pem: String,
    own: Option<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
}

/// The certificates cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The gateway's own cannot be made.
    #[error("cannot make a certificate for the gateway")]
    Made(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// That of the user cannot be used.
    #[error(transparent)]
    Files(#[from] TlsFileError),
}

/// Selects the certificate of the gateway by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    made: Arc<CertifiedKey>,
    own: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_in_cloud = hello.server_name().is_some_and(|name| name.contains(aws::API_HOST));
        let own = self.own.as_ref().filter(|_| !is_in_cloud);
        Some(Arc::clone(own.unwrap_or(&self.made)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes an authority, and a certificate for this machine, `address` and the API's names in AWS. Reads the
    /// certificate of the user, if there is one.
    pub(crate) fn new(address: IpAddr, files: Option<&TlsFiles>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let own = files.map(|files| own::read(files, &provider)).transpose()?;
        let own = own.map(Arc::new);
        let (made, authority_pem) = make(address, &provider).map_err(TlsError::Made)?;
        let made = Arc::new(made);
        let acceptor = |made: &Arc<CertifiedKey>, own: Option<&Arc<CertifiedKey>>| {
            let names = Arc::new(ByName { made: Arc::clone(made), own: own.map(Arc::clone) });
            let config =
                ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
            let config = config.map_err(|error| TlsError::Made(error.into()))?;
            Ok::<_, TlsError>(TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_cert_resolver(names))))
        };
        Ok(Self {
            gateway: acceptor(&made, own.as_ref())?,
            services: acceptor(&made, None)?,
            http: own.as_ref().map(|own| acceptor(own, None)).transpose()?,
            authority_pem,
            own,
            provider,
        })
    }

    /// Returns the first of these hosts for which the certificate of the user is valid. `None` if there is none, or no
    /// such host.
    pub(crate) fn host_of_own<'a>(&self, hosts: &[&'a str]) -> Option<&'a str> {
        self.own.as_ref().and_then(|own| own::valid_for(own, hosts))
    }

    /// Returns a note if the certificate of the user has expired or is not valid yet.
    pub(crate) fn note_on_time(&self) -> Option<String> {
        self.own.as_ref().and_then(|own| own::problem_of_time(own, &self.provider, UnixTime::now()))
    }

    /// Writes what functions trust to `directory`. Returns variables that make clients in Node.js, Python and others do
    /// so.
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

/// Makes an authority, and a certificate for all names under which code may call the gateway. Also returns the PEM of
/// the authority.
fn make(
    address: IpAddr,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, String), Box<dyn std::error::Error + Send + Sync>> {
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
    let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, provider)?;
    Ok((certified, authority.pem()))
}
