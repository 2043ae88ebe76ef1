//! The secret with which tokens are signed and checked.

use std::{fmt, str::FromStr};

use jsonwebtoken::DecodingKey;

use crate::limits::TOKEN_SECRET_BYTES_MIN;

/// The secret that tokens are signed with.
#[derive(Clone)]
pub(super) struct TokenSecret(pub(super) DecodingKey);

/// A secret that could be guessed. It is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("the secret of tokens has fewer than {TOKEN_SECRET_BYTES_MIN} bytes")]
pub(super) struct ShortSecret;

impl FromStr for TokenSecret {
    type Err = ShortSecret;

    fn from_str(text: &str) -> Result<Self, ShortSecret> {
        let is_long_enough = text.len() >= TOKEN_SECRET_BYTES_MIN;
        is_long_enough.then(|| Self(DecodingKey::from_secret(text.as_bytes()))).ok_or(ShortSecret)
    }
}

/// It does not show itself by accident.
impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}
