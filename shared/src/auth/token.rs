//! Tokens (JSON Web Tokens) of those who connect or read: who signed them, for whom, until when, and what they allow.
//!
//! The algorithm is that of the configured key and never what a token says: a secret is for HS256, and a public key for
//! the one algorithm of its kind. A token is a secret, so no error and no log holds any part of it.
//!
//! Source: RFC 7519, and RFC 8725 (best current practices).

mod jwks;
mod pass;
mod secret;
mod signatures;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clock::{Clock, Timestamp};
use http::Uri;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;

pub use self::pass::Pass;
use self::{jwks::Jwks, secret::TokenSecret};
use crate::{
    auth::{
        access::{Authorization, Regions},
        secrets::SecretParameter,
    },
    error::{ApiError, Code, InternalError},
    limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY, USER_BYTES_MAX},
    model::strict_json,
    runtime::{environment::Reader, function::StartContext},
};

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The subject of the token, or `anonymous`.
    pub id: String,
    /// What the token allows to watch and to read.
    pub regions: Regions,
    /// What it allows to publish for.
    pub publishes: Regions,
    /// Who it is, where the token says so.
    pub user: Option<String>,
    /// The name under which others see it, where the token gives one. Cut at [`USER_BYTES_MAX`].
    pub name: Option<String>,
    /// When the token ends, if there is one.
    pub expires_at: Option<Timestamp>,
}

impl Principal {
    /// Somebody without a token, where none is needed: everything may be read.
    fn anonymous() -> Self {
        Self {
            id: "anonymous".to_owned(),
            regions: Regions::all(),
            publishes: Regions::none(),
            user: None,
            name: None,
            expires_at: None,
        }
    }
}

/// Why a token is refused. Clients see none of it but that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// There is no token, and one is required.
    #[error("there is no token")]
    Missing,
    /// It is not a token, or a required part is missing or has another form.
    #[error("the token is malformed")]
    Malformed,
    /// It says another algorithm than that of the key.
    #[error("the token is of another algorithm than the key")]
    Algorithm,
    /// It needs something that is not understood here: the header `crit`, or a payload that is not base64.
    #[error("the token needs an extension that is not supported")]
    Extension,
    /// It names no key where several are configured.
    #[error("the token names no key")]
    NoKeyId,
    /// It names a key that the issuer does not publish.
    #[error("the token names an unknown key")]
    UnknownKey,
    /// It was signed by somebody else, or changed.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// It was issued by somebody else.
    #[error("the token is of another issuer")]
    Issuer,
    /// It was issued for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// The claim `regions` or `publish` is not a list of patterns.
    #[error("the token's regions cannot be understood")]
    Regions,
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> Self {
        let message = match rejected {
            Rejected::Missing => "a token is needed, as Authorization: Bearer or as the parameter token",
            _ => "the token is not valid",
        };
        Self::new(Code::Unauthorized, message)
    }
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since the Unix epoch, with fractions where the issuer likes them.
    exp: f64,
    nbf: Option<f64>,
    name: Option<String>,
    regions: Option<Vec<String>>,
    publish: Option<Vec<String>>,
}

/// Where the keys come from.
#[derive(Debug)]
enum Keys {
    Secret(Box<SecretParameter<TokenSecret>>),
    Published(Box<Jwks>),
}

#[derive(Debug)]
struct Verifier {
    keys: Keys,
    issuer: String,
    audience: String,
    clock: Clock,
}

/// The subprotocol of clients that cannot keep a token out of the address in another way: browsers offer it beside
/// `bearer.{token}`, and are answered with it alone.
pub const SUBPROTOCOL: &str = "viral-alerts";

/// The token in a header `Authorization: Bearer {token}`.
pub fn of_authorization(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// The token in a parameter `token` of the address. An empty one is none, so that it does not hide one elsewhere.
pub fn of_parameter(parameter: &str) -> Option<&str> {
    Some(parameter).filter(|token| !token.is_empty())
}

/// The token in a header `Sec-WebSocket-Protocol: viral-alerts, bearer.{token}`.
pub fn of_subprotocols(header: &str) -> Option<&str> {
    header.split(',').filter_map(|offered| offered.trim().strip_prefix("bearer.")).find(|token| !token.is_empty())
}

/// Whether a header `Sec-WebSocket-Protocol` offers [`SUBPROTOCOL`].
pub fn offers_subprotocol(header: &str) -> bool {
    header.split(',').any(|offered| offered.trim() == SUBPROTOCOL)
}

/// Checks the tokens of clients, for every function that receives one.
#[derive(Debug)]
pub struct Authenticator {
    authorization: Authorization,
    verifier: Option<Verifier>,
}

impl Authenticator {
    /// The gate that a function's environment describes.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        let authorization = environment.parsed(Authorization::VARIABLE, Authorization::Off);
        let verifier = match authorization {
            Authorization::Off => None,
            Authorization::Optional | Authorization::Required => Verifier::from_env(start, environment),
        };
        Self { authorization, verifier }
    }

    /// Whether tokens are asked for.
    pub fn is_on(&self) -> bool {
        self.authorization != Authorization::Off
    }

    /// Checks a token, and returns who has it or why it is rejected.
    ///
    /// # Errors
    ///
    /// If the secret or the issuer's keys could not be read.
    pub async fn admit(&self, token: Option<&str>) -> Result<Result<Principal, Rejected>, InternalError> {
        match (&self.verifier, token.filter(|token| !token.is_empty())) {
            (None, _) => Ok(Ok(Principal::anonymous())),
            (Some(_), None) if self.authorization == Authorization::Optional => Ok(Ok(Principal::anonymous())),
            (Some(_), None) => Ok(Err(Rejected::Missing)),
            (Some(verifier), Some(token)) => verifier.verify(token).await,
        }
    }
}

impl Verifier {
    fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Option<Self> {
        signatures::install();
        let issuer: String = environment.parsed("TOKEN_ISSUER", String::new());
        let audience: String = environment.parsed("TOKEN_AUDIENCE", String::new());
        let url: String = environment.parsed("JWKS_URL", String::new());
        let parameter: String = environment.parsed("TOKEN_SECRET_PARAMETER", String::new());
        let keys = match (url.is_empty(), parameter.is_empty()) {
            (true, false) => Keys::Secret(Box::new(SecretParameter::from_env(start, environment, parameter)?)),
            (false, true) => {
                // An identity provider signs for many, and many have one.
                if issuer.is_empty() || audience.is_empty() {
                    environment.problem("with JWKS_URL both TOKEN_ISSUER and TOKEN_AUDIENCE have to be set");
                }
                let url: Uri = environment.understood("JWKS_URL", url.parse())?;
                Keys::Published(Box::new(
                    environment.understood("JWKS_URL", Jwks::new(&start.network, url, start.clock.clone()))?,
                ))
            }
            _ => {
                environment.problem("tokens need either JWKS_URL or TOKEN_SECRET_PARAMETER");
                return None;
            }
        };
        Some(Self { keys, issuer, audience, clock: start.clock.clone() })
    }

    async fn verify(&self, token: &str) -> Result<Result<Principal, Rejected>, InternalError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(Err(Rejected::Malformed));
        }
        let header = match decode_header(token) {
            Ok(header) => header,
            Err(error) => return Ok(Err(rejected(error.kind()))),
        };
        if let Err(rejected) = without_extensions(token) {
            return Ok(Err(rejected));
        }
        let (key, algorithm) = match &self.keys {
            Keys::Secret(secret) => (secret.get().await?.0, Algorithm::HS256),
            Keys::Published(jwks) => {
                let Some(id) = header.kid.as_deref() else { return Ok(Err(Rejected::NoKeyId)) };
                match jwks.key(id).await? {
                    Some(key) => key,
                    None => return Ok(Err(Rejected::UnknownKey)),
                }
            }
        };
        Ok(self.check(token, &key, algorithm))
    }

    fn check(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Principal, Rejected> {
        let mut validation = Validation::new(algorithm);
        // Time is checked below, by the clock of the function.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        if !self.issuer.is_empty() {
            validation.set_issuer(&[&self.issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if !self.audience.is_empty() {
            validation.set_audience(&[&self.audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        let claims: Claims = decode(token, key, &validation).map_err(|error| rejected(error.kind()))?.claims;
        within(&claims, self.clock.now())?;
        let of_patterns = |patterns: &Option<Vec<String>>, otherwise: Regions| match patterns {
            None => Ok(otherwise),
            Some(patterns) => Regions::of_patterns(patterns.iter().map(String::as_str)).map_err(|_| Rejected::Regions),
        };
        Ok(Principal {
            id: claims.sub.clone().unwrap_or_else(|| "unnamed".to_owned()),
            regions: of_patterns(&claims.regions, Regions::all())?,
            publishes: of_patterns(&claims.publish, Regions::none())?,
            user: claims.sub,
            name: claims.name.map(|mut name| {
                name.truncate(name.floor_char_boundary(USER_BYTES_MAX));
                name
            }),
            expires_at: Some(Timestamp::from_millis((claims.exp * 1_000.0) as i64)),
        })
    }
}

/// Refuses a token whose header asks for more than is done here. Whoever made it relies on that.
///
/// Source: RFC 7515, section 4.1.11 (`crit`); RFC 7797, section 3 (`b64`).
fn without_extensions(token: &str) -> Result<(), Rejected> {
    let header = token.split('.').next().and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let header = strict_json::object(&header.ok_or(Rejected::Malformed)?).map_err(|_| Rejected::Malformed)?;
    let is_plain = !header.contains_key("crit") && header.get("b64").is_none_or(|b64| *b64 == true);
    is_plain.then_some(()).ok_or(Rejected::Extension)
}

/// Whether the time of a token has begun and is not over, give or take what clocks differ.
#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for the next 200 million years")]
fn within(claims: &Claims, now: Timestamp) -> Result<(), Rejected> {
    let (now, leeway) = (now.millis() as f64 / 1_000.0, TOKEN_LEEWAY.as_secs_f64());
    if claims.exp + leeway <= now {
        return Err(Rejected::Expired);
    }
    match claims.nbf {
        Some(nbf) if nbf - leeway > now => Err(Rejected::NotYet),
        _ => Ok(()),
    }
}

fn rejected(kind: &ErrorKind) -> Rejected {
    match kind {
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            Rejected::Algorithm
        }
        ErrorKind::InvalidSignature => Rejected::Signature,
        ErrorKind::InvalidIssuer => Rejected::Issuer,
        ErrorKind::InvalidAudience => Rejected::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Rejected::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Rejected::Audience,
        _ => Rejected::Malformed,
    }
}

#[cfg(test)]
mod tests;
