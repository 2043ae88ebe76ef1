//! A certificate of the user's, such as one of mkcert, that browsers trust.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use clock::Timestamp;
use tokio_rustls::rustls::{
    CertificateError, Error, InconsistentKeys, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

/// Largest file of a certificate or a key, in bytes. Our own choice: a chain has a few thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The PEM files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, followed by those of its issuers.
    pub certificate: PathBuf,
    /// Its private key, without a passphrase.
    pub key: PathBuf,
}

/// Why the files of a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// One cannot be read.
    #[error("cannot read {0}: expected a PEM file with {1}")]
    Read(PathBuf, &'static str, #[source] io::Error),
    /// One is not a file of a certificate or a key.
    #[error("{0} has more than {FILE_BYTES_MAX} bytes: expected a PEM file with {1}")]
    TooLarge(PathBuf, &'static str),
    /// The file of the certificate is damaged.
    #[error("invalid certificate in {0}: expected PEM (-----BEGIN CERTIFICATE-----)")]
    Certificate(PathBuf, #[source] pem::Error),
    /// The file of the certificate has none.
    #[error("no certificate in {0}: expected PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(PathBuf),
    /// The file of the key has none.
    #[error("no private key in {0}: expected PEM (-----BEGIN PRIVATE KEY-----, RSA PRIVATE KEY or EC PRIVATE KEY)")]
    NoKey(PathBuf, #[source] pem::Error),
    /// The key has a passphrase.
    #[error("the private key in {0} has a passphrase: expected one without, which `openssl pkey -in {0}` prints")]
    Encrypted(PathBuf),
    /// The key belongs to another certificate.
    #[error("the private key in {key} is not that of the first certificate in {certificate}")]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// What is in them is not a certificate or a key that TLS can use.
    #[error("cannot use the certificate in {certificate} with the private key in {key}")]
    Unusable {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
        /// What TLS says about it.
        #[source]
        source: Error,
    },
}

/// Reads the certificate with its issuers, and checks that the key is its key.
pub(super) fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsFileError> {
    let TlsFiles { certificate, key } = files;
    let chain_text = text(certificate, "a certificate")?;
    let key_text = text(key, "a private key")?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_text.as_bytes()).collect();
    let chain = chain.map_err(|error| TlsFileError::Certificate(certificate.clone(), error))?;
    if chain.is_empty() {
        return Err(TlsFileError::NoCertificate(certificate.clone()));
    }
    let private = PrivateKeyDer::from_pem_slice(key_text.as_bytes()).map_err(|error| {
        let is_encrypted = key_text.contains("ENCRYPTED");
        if is_encrypted { TlsFileError::Encrypted(key.clone()) } else { TlsFileError::NoKey(key.clone(), error) }
    })?;
    let (key, certificate) = (key.clone(), certificate.clone());
    CertifiedKey::from_der(chain, private, provider).map_err(|source| match source {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFileError::Mismatch { key, certificate },
        source => TlsFileError::Unusable { key, certificate, source },
    })
}

fn text(file: &Path, expected: &'static str) -> Result<String, TlsFileError> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| TlsFileError::Read(file.to_owned(), expected, error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsFileError::TooLarge(file.to_owned(), expected));
    }
    Ok(text)
}

/// Returns what is wrong with the time of a certificate or of one of its issuers, whose certificates follow it.
pub(super) fn problem_of_time(
    certified: &CertifiedKey,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Option<String> {
    let chain = certified.cert.iter().enumerate();
    chain.map(|(at, certificate)| (at, problem_of(certificate, provider, now))).find_map(|(at, problem)| {
        let of = if at == 0 { "the certificate of --tls-cert" } else { "the certificate of an issuer in --tls-cert" };
        problem.map(|problem| format!("{of} {problem}, and clients refuse it: make a new one"))
    })
}

fn problem_of(certificate: &CertificateDer<'_>, provider: &Arc<CryptoProvider>, now: UnixTime) -> Option<String> {
    // Its time is the first that is checked, whoever has issued it and for whom.
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let Err(Error::InvalidCertificate(reason)) = verifier.verify_server_cert(certificate, &[], &name, &[], now) else {
        return None;
    };
    let time = |time: UnixTime| {
        let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_millis(secs.saturating_mul(1_000)).rfc3339_secs()
    };
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => Some(format!("expired at {}", time(not_after))),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("is not valid before {}", time(not_before)))
        }
        _ => None,
    }
}

/// Returns the first of these hosts for which a certificate is valid.
pub(super) fn valid_for<'a>(certified: &CertifiedKey, hosts: &[&'a str]) -> Option<&'a str> {
    let certificate = ParsedCertificate::try_from(certified.end_entity_cert().ok()?).ok()?;
    let is_valid =
        |host: &str| ServerName::try_from(host).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok());
    hosts.iter().copied().find(|host| is_valid(host))
}
