//! The token with which the synthetic canary connects where tokens are required.

use std::{fmt, str::FromStr};

use clock::Clock;
use serde_json::{Map, Value, json};

use super::{secret::TokenSecret, signatures};
use crate::{
    auth::{access::Authorization, secrets::SecretParameter},
    error::InternalError,
    limits::{CANARY_TOKEN_LIFE, TOKEN_BYTES_MAX},
    model::audience::CANARY,
    runtime::{environment::Reader, function::StartContext},
};

/// What the canary connects with.
#[derive(Debug)]
pub enum Pass {
    /// Nothing: no token is required.
    None,
    /// A token that somebody put into a parameter, as the keys of a foreign issuer demand.
    Given(Box<SecretParameter<GivenToken>>),
    /// A token for the region of the canary alone, signed anew for each run with the secret that tokens are checked
    /// with.
    Signed(Box<Signer>),
}

/// Signs tokens of the canary.
#[derive(Debug)]
pub struct Signer {
    secret: SecretParameter<TokenSecret>,
    issuer: String,
    audience: String,
    clock: Clock,
}

/// A token in a parameter.
#[derive(Clone)]
pub struct GivenToken(String);

/// A text that no token can be. It is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the parameter holds no token: expected header.payload.signature, at most {TOKEN_BYTES_MAX} bytes")]
pub struct NoToken;

impl FromStr for GivenToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let token = text.trim();
        let is_of_tokens = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let well_formed = token.len() <= TOKEN_BYTES_MAX && token.split('.').count() == 3;
        (well_formed && token.bytes().all(is_of_tokens)).then(|| Self(token.to_owned())).ok_or(NoToken)
    }
}

/// It does not show itself by accident.
impl fmt::Debug for GivenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenToken")
    }
}

impl Pass {
    /// The pass that a function's environment describes: the token of `CANARY_TOKEN_PARAMETER` where there is one, or
    /// one that is signed with the secret of `TOKEN_SECRET_PARAMETER`.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Option<Self> {
        if environment.parsed(Authorization::VARIABLE, Authorization::Off) != Authorization::Required {
            return Some(Self::None);
        }
        let given: String = environment.parsed("CANARY_TOKEN_PARAMETER", String::new());
        let secret: String = environment.parsed("TOKEN_SECRET_PARAMETER", String::new());
        match (given.is_empty(), secret.is_empty()) {
            (false, _) => Some(Self::Given(Box::new(SecretParameter::from_env(start, environment, given)?))),
            (true, false) => Some(Self::Signed(Box::new(Signer {
                secret: SecretParameter::from_env(start, environment, secret)?,
                issuer: environment.parsed("TOKEN_ISSUER", String::new()),
                audience: environment.parsed("TOKEN_AUDIENCE", String::new()),
                clock: start.clock.clone(),
            }))),
            (true, true) => {
                environment
                    .problem("CANARY_TOKEN_PARAMETER must name a parameter with a token, as JWKS_URL checks them");
                None
            }
        }
    }

    /// The token to connect with. Fails if the parameter cannot be read.
    pub async fn token(&self) -> Result<Option<String>, InternalError> {
        match self {
            Self::None => Ok(None),
            Self::Given(parameter) => Ok(Some(parameter.get().await?.0)),
            Self::Signed(signer) => signer.token().await.map(Some),
        }
    }
}

impl Signer {
    /// Without `sub`: it takes no seat of a user.
    async fn token(&self) -> Result<String, InternalError> {
        let TokenSecret(key) = self.secret.get().await?;
        let expires_at = self.clock.now().after(CANARY_TOKEN_LIFE).secs();
        let mut claims =
            Map::from_iter([("exp".to_owned(), json!(expires_at)), ("regions".to_owned(), json!([CANARY]))]);
        for (claim, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if !value.is_empty() {
                claims.insert(claim.to_owned(), json!(value));
            }
        }
        signatures::signed_hs256(&Value::Object(claims), &key)
    }
}
