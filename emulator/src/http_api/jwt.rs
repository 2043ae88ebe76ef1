//! JWT authorizers: tokens are checked with the keys that their issuer publishes. A token that cannot be checked is
//! refused.
//!
//! Signatures are ring's: API Gateway takes RSA only, so that a library of tokens would add nothing but a global choice
//! of its cryptography. Source: API Gateway developer guide, "Control access to HTTP APIs with JWT authorizers".

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clock::{Clock, Timestamp};
use http_body_util::Full;
use hyper::{Request, Uri, body::Bytes};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::event::AuthorizerContext;
use crate::{
    error::ErrorChain,
    http_client::HttpClient,
    template::{HttpApiKind, JwtAuthorizer},
};

/// How long an issuer may take for its configuration, and as long for its keys. Source: API Gateway quotas for HTTP
/// APIs.
const ISSUER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Largest answer of an issuer. Our own choice.
const ISSUER_BYTES_MAX: usize = 256 * 1024;

/// How long keys are kept. The service keeps them for two hours.
const KEYS_AGE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Pause after which keys are fetched again, for a token that names an unknown one or after a failure. Our own choice.
const KEYS_PAUSE: Duration = Duration::from_secs(10);

/// Why a token is refused whose time is over.
pub(super) const EXPIRED: &str = "the token has expired";

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// It is not valid, for this reason, which the client is told.
    Invalid(&'static str),
    /// It has none of the scopes.
    Scope,
    /// It cannot be checked, for this reason.
    Unverifiable(String),
}

/// The claims of a token that was checked.
pub(super) type Claims = Map<String, Value>;

/// A key of an issuer.
#[derive(Clone, Debug)]
struct Key {
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<String>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// What is known of an issuer.
#[derive(Debug, Default)]
struct Known {
    /// Keys by their ids.
    keys: BTreeMap<String, Key>,
    fetched_at: Option<Timestamp>,
    asked_at: Option<Timestamp>,
    /// Why it gave no keys when it was asked.
    failure: Option<String>,
}

/// The keys of all issuers that were asked.
#[derive(Debug)]
pub(super) struct Issuers {
    http: Arc<HttpClient>,
    /// By their addresses, which are those of the template's authorizers.
    known: StdMutex<BTreeMap<String, Arc<Mutex<Known>>>>,
}

impl Issuers {
    pub(super) fn new(http: Arc<HttpClient>) -> Self {
        Self { http, known: StdMutex::default() }
    }

    /// Checks a token.
    pub(super) async fn check(
        &self,
        authorizer: &JwtAuthorizer,
        scopes: &[String],
        token: &str,
        clock: &Clock,
    ) -> Result<Claims, TokenError> {
        let parts = Parts::of(token).ok_or(TokenError::Invalid("the token is malformed"))?;
        let key = self.key(&authorizer.issuer, &parts.key_id, clock).await?;
        parts.verify(&key)?;
        check_claims(&parts.claims, authorizer, !scopes.is_empty(), clock.now())?;
        if !scopes.is_empty() && !scopes_of(&parts.claims).iter().any(|scope| scopes.contains(scope)) {
            return Err(TokenError::Scope);
        }
        Ok(parts.claims)
    }

    /// Returns the key of this id. Requests for an issuer wait for each other, so that it is asked once.
    async fn key(&self, issuer: &str, id: &str, clock: &Clock) -> Result<Key, TokenError> {
        let unknown = TokenError::Invalid("the token names an unknown key");
        let of_issuer = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(issuer.to_owned()).or_default())
        };
        let mut known = of_issuer.lock().await;
        let now = clock.now();
        let is_within = |at: Option<Timestamp>, span: Duration| at.is_some_and(|at| now.since(at) < span);
        if is_within(known.fetched_at, KEYS_AGE_MAX)
            && let Some(key) = known.keys.get(id)
        {
            return Ok(key.clone());
        }
        if is_within(known.asked_at, KEYS_PAUSE) {
            return Err(known.failure.clone().map_or(unknown, TokenError::Unverifiable));
        }
        let fetched = self.fetch(issuer).await;
        // Those who waited need not ask again.
        let now = clock.now();
        known.asked_at = Some(now);
        match fetched {
            Ok(keys) => {
                *known = Known { keys, fetched_at: Some(now), asked_at: Some(now), failure: None };
                known.keys.get(id).cloned().ok_or(unknown)
            }
            Err(error) => {
                let reason = format!("the keys of the issuer {issuer} cannot be fetched: {error}");
                known.failure = Some(reason.clone());
                Err(TokenError::Unverifiable(reason))
            }
        }
    }

    async fn fetch(&self, issuer: &str) -> Result<BTreeMap<String, Key>, String> {
        let configuration = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let configuration = self.get(&configuration).await?;
        let keys = configuration.get("jwks_uri").and_then(Value::as_str);
        let keys = self.get(keys.ok_or("its configuration has no jwks_uri")?).await?;
        let keys = keys.get("keys").and_then(Value::as_array).ok_or("its key set has no keys")?;
        Ok(keys.iter().filter_map(key_of).collect())
    }

    async fn get(&self, address: &str) -> Result<Value, String> {
        let uri: Uri = address.parse().map_err(|error| format!("invalid address {address}: {error}"))?;
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri;
        let fetched = self.http.fetch(request, ISSUER_BYTES_MAX, ISSUER_TIMEOUT).await;
        let response = fetched.map_err(|error| format!("{address}: {}", ErrorChain(&error)))?;
        if !response.status().is_success() {
            return Err(format!("{address} answers with {}", response.status()));
        }
        let body = serde_json::from_slice(response.body());
        body.map_err(|error| format!("{address} does not answer with JSON: {error}"))
    }
}

/// A published key that is for signatures with RSA.
fn key_of(key: &Value) -> Option<(String, Key)> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("kty") != Some("RSA") || text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
    let key = Key { algorithm: text("alg").map(str::to_owned), modulus: bytes("n")?, exponent: bytes("e")? };
    Some((text("kid")?.to_owned(), key))
}

/// A token that is not checked yet.
struct Parts<'a> {
    algorithm: String,
    key_id: String,
    claims: Claims,
    /// What is signed.
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Reads a token. `None` if it is none, or needs something that is not understood here (`crit`).
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decoded(part)?).ok();
        let header = object(header)?;
        let text = |name: &str| header.get(name).and_then(Value::as_str).map(str::to_owned);
        if header.contains_key("crit") || header.contains_key("b64") {
            return None;
        }
        Some(Self {
            algorithm: text("alg")?,
            key_id: text("kid")?,
            claims: object(claims)?,
            message,
            signature: decoded(signature)?,
        })
    }

    fn verify(&self, key: &Key) -> Result<(), TokenError> {
        let parameters: &RsaParameters = match self.algorithm.as_str() {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "RS384" => &RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &RSA_PKCS1_2048_8192_SHA512,
            _ => return Err(TokenError::Invalid("the token is not signed with RSA")),
        };
        if key.algorithm.as_ref().is_some_and(|algorithm| *algorithm != self.algorithm) {
            return Err(TokenError::Invalid("the token is of another algorithm than its key"));
        }
        let key = RsaPublicKeyComponents { n: &key.modulus, e: &key.exponent };
        let verified = key.verify(parameters, self.message.as_bytes(), &self.signature);
        verified.map_err(|_| TokenError::Invalid("the signature of the token is wrong"))
    }
}

/// Checks who issued a token, for whom, and when it is valid.
fn check_claims(
    claims: &Claims,
    authorizer: &JwtAuthorizer,
    needs_scope: bool,
    now: Timestamp,
) -> Result<(), TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(&authorizer.issuer) {
        return Err(TokenError::Invalid("the token has another issuer"));
    }
    let Some(audiences) = &authorizer.audiences else {
        let wanted = if needs_scope { "access" } else { "id" };
        if claims.get("token_use").and_then(Value::as_str) != Some(wanted) {
            return Err(TokenError::Invalid("the token is for another use"));
        }
        return check_time(claims, now);
    };
    let named: Vec<&str> = match claims.get("aud").or_else(|| claims.get("client_id")) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|audience| named.contains(&audience.as_str())) {
        return Err(TokenError::Invalid("the token does not have a valid audience"));
    }
    check_time(claims, now)
}

fn check_time(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let secs = |name: &str| claims.get(name).and_then(Value::as_f64);
    let now = now.millis() as f64 / 1_000.0;
    match secs("exp") {
        Some(expires) if expires > now => {}
        Some(_) => return Err(TokenError::Invalid(EXPIRED)),
        None => return Err(TokenError::Invalid("the token has no exp, the number that says when it expires")),
    }
    if ["nbf", "iat"].iter().any(|name| secs(name).is_some_and(|from| from > now)) {
        return Err(TokenError::Invalid("the token is not valid yet"));
    }
    Ok(())
}

/// The scopes of a token: in `scope` or `scp`, a text with spaces or a list.
fn scopes_of(claims: &Claims) -> Vec<String> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(text)) => text.split(' ').map(str::to_owned).collect(),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// What events of HTTP APIs carry of a token: claims as texts, and the scopes of the route, if it has some. Those of
/// REST APIs carry the claims alone.
pub(super) fn context(kind: HttpApiKind, claims: &Claims, scopes: &[String]) -> AuthorizerContext {
    let claims: Map<String, Value> = claims.iter().map(|(name, claim)| (name.clone(), json!(as_text(claim)))).collect();
    if kind == HttpApiKind::Rest {
        return AuthorizerContext { v1: Some(json!({"claims": claims})), v2: None };
    }
    let scopes = if scopes.is_empty() { Value::Null } else { json!(scopes) };
    let inner = json!({"claims": claims, "scopes": scopes});
    AuthorizerContext { v2: Some(json!({"jwt": inner})), v1: Some(inner) }
}

/// A claim as events have it: a list in brackets, with spaces.
fn as_text(claim: &Value) -> String {
    match claim {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(as_text).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
