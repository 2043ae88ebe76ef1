//! Signatures of webhooks, by which a publisher without AWS credentials shows who it is.
//!
//! Source: Standard Webhooks specification, "Signature scheme" (symmetric, `v1`).

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Timestamp;
use ring::hmac;

use crate::{
    error::{ApiError, Code},
    limits::{WEBHOOK_SECRET_BYTES, WEBHOOK_SECRETS_MAX, WEBHOOK_WINDOW},
};

/// What a secret begins with, as publishers are given it.
const SECRET_PREFIX: &str = "whsec_";

/// The version of signatures that are made with a secret.
const VERSION: &str = "v1";

/// The headers of a request that are signed, or sign.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `webhook-id`: the same for every attempt.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`: seconds since the Unix epoch, of this attempt.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`: one or more of `v1,{base64}`, separated by spaces.
    pub signature: Option<&'a str>,
}

/// The secrets that sign: one, or two while one replaces the other.
#[derive(Clone)]
pub struct SigningSecrets(Vec<hmac::Key>);

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningSecrets({})", self.0.len())
    }
}

/// A text that holds no such secrets. It is not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there have to be one or two of {SECRET_PREFIX}{{base64 of {} to {} bytes}}, separated by a space",
    WEBHOOK_SECRET_BYTES.start(), WEBHOOK_SECRET_BYTES.end()
)]
pub struct InvalidSigningSecrets;

impl FromStr for SigningSecrets {
    type Err = InvalidSigningSecrets;

    fn from_str(text: &str) -> Result<Self, InvalidSigningSecrets> {
        let key = |secret: &str| {
            let bytes = BASE64_STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
            WEBHOOK_SECRET_BYTES.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let keys: Option<Vec<_>> = text.split_whitespace().map(key).collect();
        match keys {
            Some(keys) if (1..=WEBHOOK_SECRETS_MAX).contains(&keys.len()) => Ok(Self(keys)),
            _ => Err(InvalidSigningSecrets),
        }
    }
}

impl SigningSecrets {
    /// The header `webhook-signature` of a request with this id, time and body: one signature of each secret, so that
    /// it is accepted before and after one secret replaces the other.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let message = signed(id, &timestamp.to_string(), body);
        let signature = |key| format!("{VERSION},{}", BASE64_STANDARD.encode(hmac::sign(key, &message)));
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }

    /// Checks that a request was signed with one of the secrets within the last five minutes. The comparison takes
    /// constant time.
    ///
    /// # Errors
    ///
    /// `unauthorized`, with the header that is missing or wrong.
    pub fn check(&self, headers: Headers<'_>, body: &[u8], now: Timestamp) -> Result<(), ApiError> {
        let missing =
            |name: &str| ApiError::of_field(Code::Unauthorized, name, format!("the header {name} is missing"));
        let id = headers.id.filter(|id| !id.is_empty()).ok_or_else(|| missing("webhook-id"))?;
        let timestamp = headers.timestamp.ok_or_else(|| missing("webhook-timestamp"))?;
        let signatures = headers.signature.ok_or_else(|| missing("webhook-signature"))?;

        let window = i64::try_from(WEBHOOK_WINDOW.as_secs()).unwrap_or(i64::MAX);
        let is_recent = timestamp.parse::<i64>().is_ok_and(|at| {
            let age = now.secs().checked_sub(at).and_then(i64::checked_abs);
            age.is_some_and(|age| age <= window)
        });
        if !is_recent {
            let message = format!("webhook-timestamp is not a time within {window} s of now");
            return Err(ApiError::of_field(Code::Unauthorized, "webhook-timestamp", message));
        }

        let message = signed(id, timestamp, body);
        let mut given = signatures.split(' ').filter_map(|signature| match signature.split_once(',') {
            Some((VERSION, text)) => BASE64_STANDARD.decode(text).ok(),
            _ => None,
        });
        let signed = given.any(|signature| self.0.iter().any(|key| hmac::verify(key, &message, &signature).is_ok()));
        signed.then_some(()).ok_or_else(|| {
            ApiError::of_field(Code::Unauthorized, "webhook-signature", "no signature of a known secret is there")
        })
    }
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut message = format!("{id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification's own documentation.
    const SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
    const ID: &str = "msg_loFOjxBNrRLzqYUf";
    const AT: i64 = 1_731_705_121;
    const BODY: &str = r#"{"event_type":"ping","data":{"success":true}}"#;
    const SIGNATURE: &str = "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=";

    /// Signed by another implementation of HMAC, of which the second secret is another one.
    const SECRET_2: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn check(secrets: &str, id: &str, timestamp: &str, signature: &str, body: &str, now: i64) -> Result<(), ApiError> {
        let headers = Headers { id: Some(id), timestamp: Some(timestamp), signature: Some(signature) };
        secrets.parse::<SigningSecrets>().expect("secrets").check(
            headers,
            body.as_bytes(),
            Timestamp::from_millis(now * 1_000),
        )
    }

    fn field(result: Result<(), ApiError>) -> String {
        let refusal = result.expect_err("refused");
        assert_eq!(refusal.code, Code::Unauthorized);
        refusal.field.expect("a field")
    }

    #[test]
    fn signatures_of_the_specification_are_accepted() {
        assert_eq!(check(SECRET, ID, "1731705121", SIGNATURE, BODY, AT), Ok(()));
        let second = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(check(SECRET_2, id, "1614265330", second, body, at), Ok(()));
    }

    #[test]
    fn one_of_two_secrets_and_one_of_several_signatures_is_enough() {
        for secrets in [format!("{SECRET} {SECRET_2}"), format!("{SECRET_2}\n{SECRET}\n")] {
            assert_eq!(check(&secrets, ID, "1731705121", SIGNATURE, BODY, AT), Ok(()));
        }
        let several = format!("v1,AAAA v1a,x nonsense {SIGNATURE} v2,y");
        assert_eq!(check(SECRET, ID, "1731705121", &several, BODY, AT), Ok(()));
        assert_eq!(field(check(SECRET_2, ID, "1731705121", SIGNATURE, BODY, AT)), "webhook-signature");
    }

    #[test]
    fn what_is_old_or_changed_or_of_another_version_is_refused() {
        for age in [-300, 0, 300] {
            assert_eq!(check(SECRET, ID, "1731705121", SIGNATURE, BODY, AT + age), Ok(()), "{age}");
        }
        for age in [-301, 301] {
            assert_eq!(field(check(SECRET, ID, "1731705121", SIGNATURE, BODY, AT + age)), "webhook-timestamp");
        }
        for timestamp in ["", "x", "1731705121.0", "-9223372036854775808", "99999999999999999999"] {
            assert_eq!(field(check(SECRET, ID, timestamp, SIGNATURE, BODY, AT)), "webhook-timestamp", "{timestamp}");
        }
        let is_refused = |id: &str, timestamp: &str, signature: &str, body: &str| {
            assert_eq!(field(check(SECRET, id, timestamp, signature, body, AT)), "webhook-signature");
        };
        is_refused("msg_other", "1731705121", SIGNATURE, BODY);
        is_refused(ID, "1731705122", SIGNATURE, BODY);
        is_refused(ID, "1731705121", SIGNATURE, "{}");
        is_refused(ID, "1731705121", &SIGNATURE.replace("v1,", "v2,"), BODY);
        is_refused(ID, "1731705121", &SIGNATURE.replace("v1,", ""), BODY);
        is_refused(ID, "1731705121", "v1,", BODY);
        is_refused(ID, "1731705121", "", BODY);
    }

    #[test]
    fn what_is_signed_here_is_what_the_specification_signs_and_passes_with_any_of_the_secrets() {
        let sign = |secrets: &str| secrets.parse::<SigningSecrets>().expect("secrets").sign(ID, AT, BODY.as_bytes());
        assert_eq!(sign(SECRET), SIGNATURE);
        let both = sign(&format!("{SECRET_2} {SECRET}"));
        for secret in [SECRET, SECRET_2] {
            assert_eq!(check(secret, ID, &AT.to_string(), &both, BODY, AT), Ok(()), "{secret}");
        }
    }

    #[test]
    fn every_header_has_to_be_there() {
        let all = Headers { id: Some(ID), timestamp: Some("1731705121"), signature: Some(SIGNATURE) };
        let secrets: SigningSecrets = SECRET.parse().expect("a secret");
        let missing = |headers| field(secrets.check(headers, BODY.as_bytes(), Timestamp::from_millis(AT * 1_000)));
        assert_eq!(missing(Headers { id: None, ..all }), "webhook-id");
        assert_eq!(missing(Headers { id: Some(""), ..all }), "webhook-id");
        assert_eq!(missing(Headers { timestamp: None, ..all }), "webhook-timestamp");
        assert_eq!(missing(Headers { signature: None, ..all }), "webhook-signature");
    }

    #[test]
    fn what_is_no_secret_is_not_used() {
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 65]));
        let three = format!("{SECRET} {SECRET} {SECRET}");
        for bad in ["", "plJ3nmyCDGBKInavdOK15jsl", "whsec_", "whsec_c2hvcnQ=", "whsec_%", &long, &three] {
            assert!(bad.parse::<SigningSecrets>().is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", SECRET.parse::<SigningSecrets>().expect("a secret")), "SigningSecrets(1)");
    }

    proptest! {
        #[test]
        fn a_body_that_was_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut body = BODY.as_bytes().to_vec();
            let at = at.index(body.len());
            prop_assume!(body[at] != to);
            body[at] = to;
            let headers = Headers { id: Some(ID), timestamp: Some("1731705121"), signature: Some(SIGNATURE) };
            let secrets: SigningSecrets = SECRET.parse().expect("a secret");
            prop_assert!(secrets.check(headers, &body, Timestamp::from_millis(AT * 1_000)).is_err());
        }
    }
}
