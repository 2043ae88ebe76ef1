//! Signatures of version 4 for posts to connections, and for publications on the Event API. The AWS clients sign any
//! request; a post differs from the next one in its path alone, so the key is derived once, the payload is hashed once,
//! and one hash and one HMAC are left for each post.
//!
//! Source: IAM user guide, "Create a signed AWS API request".

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::generate_signing_key;
use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};

/// How long signatures carry the same time. AWS accepts them for five minutes.
const STAMP_LIFE: Duration = Duration::from_secs(30);

/// What is escaped in a segment of a path.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is escaped in a path for the signature, whether or not it was before.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Signs posts to one endpoint with one set of credentials.
pub(super) struct Signer {
    credentials: Credentials,
    service: &'static str,
    region: String,
    host: String,
    stamp: Mutex<Arc<Stamp>>,
}

/// What all posts of some time have in common.
struct Stamp {
    at: SystemTime,
    date: Bytes,
    key: hmac::Key,
    /// What is hashed, between the path and the hash of the payload.
    headers: String,
    /// What is signed, up to the hash of the request.
    text: String,
    /// The header, up to the signature.
    authorization: String,
}

impl Signer {
    /// A signer of requests to `host`, which belongs to this service.
    pub(super) fn new(
        credentials: Credentials,
        service: &'static str,
        region: String,
        host: String,
        now: SystemTime,
    ) -> Self {
        let stamp = Mutex::new(Arc::new(Stamp::new(&credentials, service, &region, &host, now)));
        Self { credentials, service, region, host, stamp }
    }

    /// The headers `authorization` and `x-amz-date` of a post to `path`, as it is sent, of a payload with this hash.
    pub(super) fn sign(&self, path: &str, payload_sha256: &str, now: SystemTime) -> (String, Bytes) {
        let stamp = self.stamp(now);
        let mut request = Sha256::new_with_prefix("POST\n");
        utf8_percent_encode(path, RESERVED_IN_PATH).for_each(|part| request.update(part));
        request.update(&stamp.headers);
        request.update(payload_sha256);
        let mut text = hmac::Context::with_key(&stamp.key);
        text.update(stamp.text.as_bytes());
        text.update(hex::encode(request.finalize()).as_bytes());
        (format!("{}{}", stamp.authorization, hex::encode(text.sign())), stamp.date.clone())
    }

    fn stamp(&self, now: SystemTime) -> Arc<Stamp> {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.duration_since(stamp.at);
        if age.is_err() || age.is_ok_and(|age| age > STAMP_LIFE) {
            *stamp = Arc::new(Stamp::new(&self.credentials, self.service, &self.region, &self.host, now));
        }
        Arc::clone(&stamp)
    }
}

impl Stamp {
    fn new(credentials: &Credentials, service: &str, region: &str, host: &str, now: SystemTime) -> Self {
        const DATE_TIME: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
        // The format has no component that can fail.
        let date_time = OffsetDateTime::from(now).format(DATE_TIME).unwrap_or_default();
        let day = date_time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let key = generate_signing_key(credentials.secret_access_key(), now, region, service);
        let (token, signed) = match credentials.session_token() {
            None => (String::new(), "host;x-amz-date"),
            Some(token) => (format!("x-amz-security-token:{token}\n"), "host;x-amz-date;x-amz-security-token"),
        };
        let access_key = credentials.access_key_id();
        Self {
            at: now,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            headers: format!("\n\nhost:{host}\nx-amz-date:{date_time}\n{token}\n{signed}\n"),
            text: format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n"),
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, Signature="
            ),
            date: date_time.into(),
        }
    }
}

/// The hash of a payload, in hexadecimal digits.
pub(super) fn sha256_hex(payload: &[u8]) -> String {
    hex::encode(Sha256::digest(payload))
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
    fn expected(
        credentials: &Credentials,
        service: &str,
        host: &str,
        path: &str,
        payload: &[u8],
        now: SystemTime,
    ) -> Option<String> {
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(service)
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
            service in prop_oneof![Just("execute-api"), Just("appsync")],
            token in proptest::option::of("[A-Za-z0-9/+=]{1,40}"),
            payload: Vec<u8>,
            secs in 1_600_000_000_u64..2_000_000_000,
            later in 0_u64..100_000,
        ) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            let credentials = Credentials::new("AKIDEXAMPLE", "secret/key", token, None, "test");
            let host = "abc123defg.execute-api.eu-central-1.amazonaws.com";
            let signer = Signer::new(credentials.clone(), service, "eu-central-1".to_owned(), host.to_owned(), now);
            let path = format!("{stage}/@connections/{}", id.replace('=', "%3D"));
            // Signed long after it was made, the signature has to be of that time or of at most 30 s before.
            let later = now + Duration::from_secs(later);
            let (authorization, _) = signer.sign(&path, &sha256_hex(&payload), later);
            let stamped = signer.stamp(later).at;
            prop_assert!(later.duration_since(stamped).expect("not of the future") <= STAMP_LIFE);
            prop_assert_eq!(Some(authorization), expected(&credentials, service, host, &path, &payload, stamped));
        }
    }
}
