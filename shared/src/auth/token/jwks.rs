//! The public keys of an issuer, as it publishes them.
//!
//! Source: RFC 7517 (JSON Web Key), RFC 8037 (Ed25519).

use std::{collections::BTreeMap, sync::Arc};

use clock::Clock;
use futures_util::FutureExt;
use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    error::InternalError,
    limits::{JWKS_AGE_MAX, JWKS_BYTES_MAX, JWKS_KEPT_MAX, JWKS_PAUSE, JWKS_TIMEOUT},
    runtime::{
        https::Https,
        network::Network,
        refreshed::{Fetched, Refreshed, Terms},
        tls::NoCertificates,
    },
};

/// A key and its one algorithm.
type Key = (DecodingKey, Algorithm);

/// The keys that an issuer publishes, by their ids.
type Keys = BTreeMap<String, Key>;

const TERMS: Terms = Terms {
    doing: "fetching the keys of tokens",
    age_max: JWKS_AGE_MAX,
    kept_max: JWKS_KEPT_MAX,
    timeout: JWKS_TIMEOUT,
};

/// The keys of one issuer. They are fetched when they are needed: the first time, when they are ten minutes old, and
/// when a token names one that is not among them, but for that at most once a minute.
#[derive(Debug)]
pub(super) struct Jwks(Refreshed<Arc<Keys>>);

/// An address that keys cannot be taken from.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidUrl {
    #[error("invalid address of keys: expected https://, or http:// on this machine")]
    NotHttps,
    #[error(transparent)]
    NoCertificates(#[from] NoCertificates),
}

#[derive(Deserialize)]
struct PublishedKeys {
    keys: Vec<Value>,
}

impl Jwks {
    pub(super) fn new(network: &Network, url: Uri, clock: Clock) -> Result<Self, InvalidUrl> {
        // Whoever can change what is sent over plain HTTP can sign any token; on one machine there is nobody between.
        let is_this_machine = matches!(url.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine => {}
            _ => return Err(InvalidUrl::NotHttps),
        }
        let (https, name) = (Https::seldom(network, &url)?, url.to_string());
        let fetch = move || {
            let (https, url) = (https.clone(), url.clone());
            async move { fetch(&https, &url).await.map(Arc::new) }.boxed()
        };
        Ok(Self(Refreshed::new(TERMS, name, clock, fetch)))
    }

    /// Returns the key of this id, or none if the issuer publishes no such key. Fails if that is not known, because the
    /// issuer does not answer. Keys that were fetched before are used for an hour then.
    pub(super) async fn key(&self, id: &str) -> Result<Option<Key>, InternalError> {
        if let Some(key) = self.0.get().await?.get(id) {
            return Ok(Some(key.clone()));
        }
        Ok(self.0.get_again(JWKS_PAUSE).await?.get(id).cloned())
    }
}

async fn fetch(https: &Https, url: &Uri) -> Fetched<Keys> {
    let request = Request::get(url).header("accept", "application/json").body(Full::new(Bytes::new()))?;
    let body = https.exchange(request, JWKS_TIMEOUT, JWKS_BYTES_MAX).await?;
    let published: PublishedKeys = serde_json::from_slice(&body)?;
    let keys: Keys = published.keys.into_iter().filter_map(usable).collect();
    // Such an answer is a fault of the issuer. With it in place of the keys that are there, every token would be
    // refused.
    if keys.is_empty() { Err("none of the published keys can be used".into()) } else { Ok(keys) }
}

/// A published key that signatures of tokens can be checked with. Others are left out: issuers publish more than that.
fn usable(key: Value) -> Option<(String, Key)> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        // A secret that is published is none.
        _ => return None,
    };
    let is_for_it = jwk.common.key_algorithm.is_none_or(|named| named == name);
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let id = jwk.common.key_id.clone().filter(|_| is_for_it && signs)?;
    Some((id, (DecodingKey::from_jwk(&jwk).ok()?, algorithm)))
}
