//! The public keys of an issuer, as it publishes them.
//!
//! Source: RFC 7517 (JSON Web Key), RFC 8037 (Ed25519).

use std::collections::BTreeMap;

use http::{Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    clock::{Clock, Timestamp},
    error::{Chain, Failure},
    https::{Https, NoCertificates},
    limits::{JWKS_AGE_MAX, JWKS_BYTES_MAX, JWKS_KEPT_MAX, JWKS_PAUSE, JWKS_TIMEOUT},
};

/// A key and its one algorithm.
type Key = (DecodingKey, Algorithm);

/// The keys of one issuer. They are fetched when they are needed: the first time, when they are ten minutes old, and when a
/// token names one that is not among them, but then at most once a minute.
#[derive(Debug)]
pub(super) struct Jwks {
    url: Uri,
    https: Https,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: BTreeMap<String, Key>,
    /// When these keys arrived.
    fetched_at: Option<Timestamp>,
    /// When they were last asked for, in vain or not.
    asked_at: Option<Timestamp>,
}

/// An address that keys cannot be taken from.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidUrl {
    #[error("keys come from an https:// address, or from this machine")]
    NotHttps,
    #[error(transparent)]
    NoCertificates(#[from] NoCertificates),
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl Jwks {
    pub(super) fn new(url: Uri, clock: Clock) -> Result<Self, InvalidUrl> {
        // Whoever can change what is sent over plain HTTP can sign any token; on one machine there is nobody between.
        let is_this_machine = matches!(url.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine => {}
            _ => return Err(InvalidUrl::NotHttps),
        }
        Ok(Self { https: Https::new(&url)?, url, clock, known: Mutex::default() })
    }

    /// The key of this id; none where the issuer publishes no such key. Keys that were fetched before serve for an hour where
    /// the issuer does not answer.
    pub(super) async fn key(&self, id: &str) -> Result<Option<Key>, Failure> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let is_younger = |at: Option<Timestamp>, than| at.is_some_and(|at| now.since(at) < than);
        let is_known = known.keys.contains_key(id) && is_younger(known.fetched_at, JWKS_AGE_MAX);
        if !is_known && !is_younger(known.asked_at, JWKS_PAUSE) {
            known.asked_at = Some(now);
            match self.fetch().await {
                Ok(keys) => {
                    known.keys = keys;
                    known.fetched_at = Some(now);
                }
                Err(failure) => tracing::warn!(error = %Chain(&failure), "keys of tokens not fetched"),
            }
        }
        if !is_younger(known.fetched_at, JWKS_KEPT_MAX) {
            return Err(Failure::new("fetching the keys of tokens", "there are none"));
        }
        Ok(known.keys.get(id).cloned())
    }

    async fn fetch(&self) -> Result<BTreeMap<String, Key>, Failure> {
        const DOING: &str = "fetching the keys of tokens";
        let request = Request::get(&self.url).header("accept", "application/json").body(Full::new(Bytes::new()));
        let request = request.map_err(|error| Failure::new(DOING, error))?;
        let body = self.https.exchange(request, JWKS_TIMEOUT, JWKS_BYTES_MAX).await;
        let body = body.map_err(|error| Failure::new(DOING, error))?;
        let published: Published = serde_json::from_slice(&body).map_err(|error| Failure::new(DOING, error))?;
        Ok(published.keys.into_iter().filter_map(usable).collect())
    }
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
