//! Signatures of version 4 for posts. The AWS clients sign any request; a post differs from the next one in its path alone,
//! so the key is derived once, the payload is hashed once, and one hash and one HMAC are left for each post.
//!
//! Source: IAM user guide, "Create a signed AWS API request".

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

/// The service that the management API belongs to.
const SERVICE: &str = "execute-api";

/// How long signatures carry the same time. AWS accepts them for five minutes.
const STAMP_LIFE: Duration = Duration::from_secs(30);

/// Signs posts to one endpoint with one set of credentials.
pub(super) struct Signer {
    credentials: Credentials,
    region: String,
    host: String,
    stamp: Mutex<Arc<Stamp>>,
}

/// What changes with time: the date, and the key that is derived from it.
struct Stamp {
    at: SystemTime,
    date_time: String,
    scope: String,
    key: Vec<u8>,
}

impl Signer {
    pub(super) fn new(credentials: Credentials, region: String, host: String, now: SystemTime) -> Self {
        let stamp = Mutex::new(Arc::new(Stamp::new(&credentials, &region, now)));
        Self { credentials, region, host, stamp }
    }

    /// The headers `authorization` and `x-amz-date` of a post to `path`, as it is sent, of a payload with this hash.
    pub(super) fn sign(&self, path: &str, payload_sha256: &str, now: SystemTime) -> (String, String) {
        let stamp = self.stamp(now);
        let (token, signed_headers) = match self.credentials.session_token() {
            None => (String::new(), "host;x-amz-date"),
            Some(token) => (format!("x-amz-security-token:{token}\n"), "host;x-amz-date;x-amz-security-token"),
        };
        let request = format!(
            "POST\n{}\n\nhost:{}\nx-amz-date:{}\n{token}\n{signed_headers}\n{payload_sha256}",
            canonical(path),
            self.host,
            stamp.date_time
        );
        let text =
            format!("AWS4-HMAC-SHA256\n{}\n{}\n{}", stamp.date_time, stamp.scope, sha256_hex(request.as_bytes()));
        let signature = calculate_signature(&stamp.key, text.as_bytes());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={signed_headers}, Signature={signature}",
            self.credentials.access_key_id(),
            stamp.scope
        );
        (authorization, stamp.date_time.clone())
    }

    /// The token that goes with temporary credentials, as the header `x-amz-security-token`.
    pub(super) fn session_token(&self) -> Option<&str> {
        self.credentials.session_token()
    }

    fn stamp(&self, now: SystemTime) -> Arc<Stamp> {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.duration_since(stamp.at);
        if age.is_err() || age.is_ok_and(|age| age > STAMP_LIFE) {
            *stamp = Arc::new(Stamp::new(&self.credentials, &self.region, now));
        }
        Arc::clone(&stamp)
    }
}

impl Stamp {
    fn new(credentials: &Credentials, region: &str, now: SystemTime) -> Self {
        const DATE_TIME: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
        // The format has no component that can fail.
        let date_time = OffsetDateTime::from(now).format(DATE_TIME).unwrap_or_default();
        let date = date_time.get(..8).unwrap_or_default();
        let key = generate_signing_key(credentials.secret_access_key(), now, region, SERVICE).as_ref().to_vec();
        Self { at: now, scope: format!("{date}/{region}/{SERVICE}/aws4_request"), date_time, key }
    }
}

/// A path in the form that is signed: what is escaped in it already is escaped once more.
fn canonical(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len() + 8), |mut canonical, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => canonical.push(byte.into()),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(canonical, "%{byte:02X}");
            }
        }
        canonical
    })
}

/// The hash of a payload, in hexadecimal digits.
pub(super) fn sha256_hex(payload: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(payload);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SigningSettings, sign},
        sign::v4::SigningParams,
    };
    use proptest::prelude::*;

    use super::*;

    /// What the library of the AWS clients makes of the same request.
    fn expected(credentials: &Credentials, host: &str, path: &str, payload: &[u8], now: SystemTime) -> Option<String> {
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .expect("complete");
        let url = format!("https://{host}{path}");
        let headers = [("host", host)].into_iter();
        let request = SignableRequest::new("POST", url, headers, SignableBody::Bytes(payload)).expect("signable");
        let (instructions, _) = sign(request, &params.into()).expect("signed").into_parts();
        let (headers, _) = instructions.into_parts();
        headers.into_iter().find(|header| header.name() == "authorization").map(|header| header.value().to_owned())
    }

    proptest! {
        #[test]
        fn it_signs_as_the_aws_clients_do(
            id in "[A-Za-z0-9_-]{15}=",
            stage in "/[a-z]{1,10}|",
            token in proptest::option::of("[A-Za-z0-9/+=]{1,40}"),
            payload: Vec<u8>,
            secs in 1_600_000_000_u64..2_000_000_000,
            later in 0_u64..100_000,
        ) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            let credentials = Credentials::new("AKIDEXAMPLE", "secret/key", token, None, "test");
            let host = "abc123defg.execute-api.eu-central-1.amazonaws.com";
            let signer = Signer::new(credentials.clone(), "eu-central-1".to_owned(), host.to_owned(), now);
            let path = format!("{stage}/@connections/{}", id.replace('=', "%3D"));
            // Signed long after it was made, the signature has to be of that time or of at most 30 s before.
            let later = now + Duration::from_secs(later);
            let (authorization, _) = signer.sign(&path, &sha256_hex(&payload), later);
            let stamped = signer.stamp(later).at;
            prop_assert!(later.duration_since(stamped).expect("not of the future") <= STAMP_LIFE);
            prop_assert_eq!(Some(authorization), expected(&credentials, host, &path, &payload, stamped));
        }
    }
}
