//! Verification of signatures of version 4.
//!
//! A refusal quotes what should have been signed, as the service does. Source: IAM user guide, "Create a signed AWS API
//! request"; the wording is recorded from the service.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use clock::Timestamp;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{
    HeaderMap, Request,
    header::{AUTHORIZATION, HOST},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::FormatItem, macros::format_description};

use super::{api::Gateway, query::query};
use crate::aws::{self, REGION};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Longest time between a signature in a header and now. Source: the service's own refusals.
const SKEW_SECS_MAX: i64 = 5 * 60;

/// Longest validity of a signature in a query. Source: IAM user guide.
const EXPIRES_SECS_MAX: i64 = 7 * 24 * 60 * 60;

/// What is escaped in a canonical query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is escaped in a canonical path. That includes `%`: the path is encoded once more than on the wire.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// The service of the gateway's signatures.
const SERVICE: &str = "execute-api";

/// A signer whose signatures are accepted, and the scope in which they are.
#[derive(Clone, Copy, Debug)]
struct ExpectedSigner<'a> {
    access_key: &'a str,
    secret: &'a str,
    region: &'a str,
    service: &'a str,
}

/// Why a signature is refused. The status is always 403.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignatureError {
    /// For the header `x-amzn-errortype`.
    pub(crate) error_type: &'static str,
    /// In the words of the service.
    pub(crate) message: Cow<'static, str>,
    /// What to do about it, for the log.
    advice: &'static str,
}

impl SignatureError {
    /// Logs the refusal with advice.
    pub(crate) fn log(&self, path: &str) {
        tracing::warn!(path, error_type = self.error_type, advice = self.advice, "signature refused");
    }

    fn incomplete(message: String) -> Self {
        let advice = "sign the request with an AWS client; this is not a signature of version 4";
        Self { error_type: "IncompleteSignatureException", message: message.into(), advice }
    }

    fn invalid(message: String, advice: &'static str) -> Self {
        Self { error_type: "InvalidSignatureException", message: message.into(), advice }
    }
}

impl Gateway {
    /// Checks that a request has a signature, and verifies it if the settings ask for that.
    pub(super) fn authenticate<B>(&self, request: &Request<B>, body: &[u8]) -> Result<(), SignatureError> {
        authenticate(request, body, self.settings.check_signatures, self.clock.now())
    }
}

/// Checks that a request has a signature, and verifies it if `verifies`.
pub(crate) fn authenticate<B>(
    request: &Request<B>,
    body: &[u8],
    verifies: bool,
    now: Timestamp,
) -> Result<(), SignatureError> {
    authenticate_for(SERVICE, request, body, verifies, now)
}

/// The same for a request of another service, whose name the scope of the signature has.
pub(crate) fn authenticate_for<B>(
    service: &str,
    request: &Request<B>,
    body: &[u8],
    verifies: bool,
    now: Timestamp,
) -> Result<(), SignatureError> {
    if !is_signed(request) {
        return Err(SignatureError {
            error_type: "MissingAuthenticationTokenException",
            message: "Missing Authentication Token".into(),
            advice: "sign the request with the credentials that `apigw-local env` prints",
        });
    }
    if verifies { ExpectedSigner::local(service).check(request, body, now) } else { Ok(()) }
}

/// Returns whether a request has a signature, in the header or the query.
fn is_signed<B>(request: &Request<B>) -> bool {
    in_header(request.headers()).is_some()
        || request.uri().query().is_some_and(|query| query.contains("X-Amz-Signature="))
}

fn in_header(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    text.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '))
}

/// A signature with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PresentedSignature {
    access_key: String,
    /// Date, region, service and `aws4_request`.
    scope: [String; 4],
    /// Names in lower case, sorted.
    signed_headers: Vec<String>,
    signature: String,
    /// As the client wrote it.
    date: String,
    signed_at: i64,
    /// Validity of a signature in a query, in seconds from `signed_at`.
    expires_secs: Option<i64>,
}

impl PresentedSignature {
    fn read<B>(request: &Request<B>, query: &[(String, String)]) -> Result<Self, SignatureError> {
        match in_header(request.headers()) {
            Some(parameters) => Self::from_header(request.headers(), parameters),
            None => Self::from_query(query),
        }
    }

    fn from_header(headers: &HeaderMap, parameters: &str) -> Result<Self, SignatureError> {
        let mut given = BTreeMap::new();
        // Commas separate the parameters, or spaces if a client leaves the commas out.
        for part in parameters.split([',', ' ']).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                SignatureError::incomplete(format!(
                    "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: \
                     '{ALGORITHM}{parameters}'."
                ))
            })?;
            given.insert(name, value);
        }
        let date = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
        let wanted = ["Credential", "Signature", "SignedHeaders"];
        let mut missing: Vec<String> = wanted
            .iter()
            .filter(|name| !given.contains_key(**name))
            .map(|name| format!("Authorization header requires '{name}' parameter."))
            .collect();
        if date.is_none() {
            missing.push(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.".to_owned(),
            );
        }
        let [credential, signature, signed_headers] = wanted.map(|name| given.get(name).copied());
        match (credential, signature, signed_headers, date) {
            (Some(credential), Some(signature), Some(signed_headers), Some(date)) => {
                Self::new(credential, signature, signed_headers, date, None)
            }
            _ => {
                Err(SignatureError::incomplete(format!("{} Authorization={ALGORITHM}{parameters}", missing.join(" "))))
            }
        }
    }

    fn from_query(query: &[(String, String)]) -> Result<Self, SignatureError> {
        const WANTED: [&str; 6] = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
            "X-Amz-Date",
            "X-Amz-Expires",
        ];
        let given = WANTED.map(|wanted| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()));
        let [Some(algorithm), Some(credential), Some(signature), Some(signed_headers), Some(date), Some(expires)] =
            given
        else {
            let missing = WANTED.iter().zip(given).filter(|(_, value)| value.is_none());
            let sentences = missing.map(|(name, _)| format!("AWS query-string parameters must include '{name}'."));
            let sentences = sentences.collect::<Vec<_>>().join(" ");
            return Err(SignatureError::incomplete(format!("{sentences} Re-examine the query-string parameters.")));
        };
        if algorithm != ALGORITHM {
            return Err(SignatureError::incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'.")));
        }
        let expires: Option<i64> = expires.parse().ok().filter(|secs| (0..=EXPIRES_SECS_MAX).contains(secs));
        let expires = expires.ok_or_else(|| {
            SignatureError::incomplete(format!("X-Amz-Expires must be between 0 and {EXPIRES_SECS_MAX} seconds."))
        })?;
        Self::new(credential, signature, signed_headers, date, Some(expires))
    }

    fn new(
        credential: &str,
        signature: &str,
        signed_headers: &str,
        date: &str,
        expires_secs: Option<i64>,
    ) -> Result<Self, SignatureError> {
        // An access key contains no slash; the four parts of the scope follow it.
        let mut parts = credential.split('/').map(str::to_owned);
        let access_key = parts.next().unwrap_or_default();
        let scope: Result<[String; 4], _> = parts.collect::<Vec<_>>().try_into();
        let scope = scope.map_err(|_| {
            SignatureError::incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got \
                 '{credential}'"
            ))
        })?;
        let signed_at = read_date(date).ok_or_else(|| {
            SignatureError::incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
            ))
        })?;
        let mut signed_headers: Vec<String> = signed_headers.split(';').map(str::to_ascii_lowercase).collect();
        signed_headers.sort_unstable();
        Ok(Self {
            access_key,
            scope,
            signed_headers,
            signature: signature.to_owned(),
            date: date.to_owned(),
            signed_at,
            expires_secs,
        })
    }
}

impl<'a> ExpectedSigner<'a> {
    /// The signer that the emulator accepts.
    const fn local(service: &'a str) -> Self {
        Self { access_key: aws::ACCESS_KEY, secret: aws::ACCESS_KEY, region: REGION, service }
    }

    fn check<B>(&self, request: &Request<B>, body: &[u8], now: Timestamp) -> Result<(), SignatureError> {
        let query = query(request.uri().query().unwrap_or_default());
        let presented = PresentedSignature::read(request, &query)?;
        if presented.access_key != self.access_key {
            return Err(SignatureError {
                error_type: "UnrecognizedClientException",
                message: "The security token included in the request is invalid.".into(),
                advice: "sign with AWS_ACCESS_KEY_ID=local and AWS_SECRET_ACCESS_KEY=local",
            });
        }
        self.check_scope(&presented)?;
        check_time(&presented, now.secs())?;
        self.check_signature(request, &query, &presented, body)
    }

    fn check_scope(
        &self,
        PresentedSignature { scope, date, signed_headers, .. }: &PresentedSignature,
    ) -> Result<(), SignatureError> {
        let [day, region, service, terminator] = scope;
        let mut wrong = String::new();
        // Writing to a string cannot fail.
        if region != self.region {
            let _ = write!(wrong, "Credential should be scoped to a valid region, not '{region}'. ");
        }
        if service != self.service {
            let _ = write!(wrong, "Credential should be scoped to correct service: '{}'. ", self.service);
        }
        if terminator != "aws4_request" {
            let _ = write!(
                wrong,
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'. "
            );
        }
        let http_day = date.split('T').next().unwrap_or_default();
        if day != http_day {
            let _ = write!(
                wrong,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{day}' != '{http_day}', from '{date}'. "
            );
        }
        if !wrong.is_empty() {
            let advice = "sign for the region in AWS_REGION, the service of the API and the day in X-Amz-Date";
            return Err(SignatureError::invalid(wrong, advice));
        }
        if !signed_headers.iter().any(|name| name == HOST.as_str()) {
            let message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned();
            return Err(SignatureError::invalid(message, "sign the header Host too"));
        }
        Ok(())
    }

    fn check_signature<B>(
        &self,
        request: &Request<B>,
        query: &[(String, String)],
        presented: &PresentedSignature,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        let canonical = canonical_request(request, query, &presented.signed_headers, body);
        let text = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            presented.date,
            presented.scope.join("/"),
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = presented.scope.iter().fold(first, |key, part| mac(&key, part).finalize().into_bytes().to_vec());
        // Compares in constant time.
        let right = hex::decode(&presented.signature).is_ok_and(|given| mac(&key, &text).verify_slice(&given).is_ok());
        if right {
            return Ok(());
        }
        let message = format!(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String for \
             this request should have been\n'{canonical}'\n\nThe String-to-Sign should have been\n'{text}'\n"
        );
        let advice =
            "sign with AWS_SECRET_ACCESS_KEY=local, or compare what you signed with the string in the response";
        Err(SignatureError::invalid(message, advice))
    }
}

fn check_time(presented: &PresentedSignature, now: i64) -> Result<(), SignatureError> {
    let advice = "sign each request just before you send it, and compare the clocks of both machines";
    let (lifetime, described) = match presented.expires_secs {
        None => (SKEW_SECS_MAX, format!("{} min.", SKEW_SECS_MAX / 60)),
        Some(secs) => (secs, format!("{secs} sec.")),
    };
    let (signed_at, date) = (presented.signed_at, &presented.date);
    if signed_at < now - lifetime {
        let earliest = write_date(now - lifetime);
        let message =
            format!("Signature expired: {date} is now earlier than {earliest} ({} - {described})", write_date(now));
        return Err(SignatureError::invalid(message, advice));
    }
    if signed_at > now + SKEW_SECS_MAX {
        let latest = write_date(now + SKEW_SECS_MAX);
        let message = format!(
            "Signature not yet current: {date} is still later than {latest} ({} + {} min.)",
            write_date(now),
            SKEW_SECS_MAX / 60
        );
        return Err(SignatureError::invalid(message, advice));
    }
    Ok(())
}

/// Returns the text that a client signs of a request.
fn canonical_request<B>(
    request: &Request<B>,
    query: &[(String, String)],
    signed_headers: &[String],
    body: &[u8],
) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut parameters: Vec<(String, String)> = query
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    parameters.sort_unstable();
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let header = |name: &String| {
        let values = request.headers().get_all(name.as_str()).iter();
        let values = values.map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        format!("{name}:{}\n", values.collect::<Vec<_>>().join(","))
    };
    [
        request.method().as_str(),
        &utf8_percent_encode(request.uri().path(), PATH).to_string(),
        &parameters.join("&"),
        &signed_headers.iter().map(header).collect::<String>(),
        &signed_headers.join(";"),
        &hex::encode(Sha256::digest(body)),
    ]
    .join("\n")
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac
}

/// Format of dates in signatures, such as `20150830T123600Z`.
const DATE: &[FormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

fn read_date(text: &str) -> Option<i64> {
    Some(PrimitiveDateTime::parse(text, DATE).ok()?.assume_utc().unix_timestamp())
}

fn write_date(secs: i64) -> String {
    OffsetDateTime::from_unix_timestamp(secs).ok().and_then(|at| at.format(DATE).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use aws_credential_types::Credentials;
    use aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
        sign::v4::SigningParams,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// When the published examples were signed: 30 August 2015, 12:36.
    const SIGNED_AT: i64 = 1_440_938_160;

    const LOCAL: ExpectedSigner<'_> = ExpectedSigner::local(SERVICE);

    /// The signer of the published examples.
    const EXAMPLE: ExpectedSigner<'_> = ExpectedSigner {
        access_key: "AKIDEXAMPLE",
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region: "us-east-1",
        service: "service",
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn published_examples_are_accepted_and_what_differs_in_one_place_is_not() {
        let check = |service: &str, method: &str, uri: &str, more: &[(&str, &str)], body: &str, signature: &str| {
            let host = if service == "iam" { "iam.amazonaws.com" } else { "example.amazonaws.com" };
            let signatory = ExpectedSigner { service, ..EXAMPLE };
            let mut headers = more.to_vec();
            headers.extend([("host", host), ("x-amz-date", "20150830T123600Z")]);
            let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            names.dedup();
            let credential = format!("AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request");
            let authorize = |signature: &str| {
                let names = names.join(";");
                format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
            };
            let checked = |method: &str, uri: &str, body: &str, signature: &str| {
                let authorization = authorize(signature);
                let headers = [&headers[..], &[("authorization", &authorization)]].concat();
                signatory.check(&request(method, uri, &headers), body.as_bytes(), at(SIGNED_AT))
            };
            assert_eq!(checked(method, uri, body, signature), Ok(()), "{method} {uri}");
            let separator = if uri.contains('?') { '&' } else { '?' };
            for wrong in [
                checked("DELETE", uri, body, signature),
                checked(method, &format!("{uri}{separator}x=1"), body, signature),
                checked(method, uri, &format!("{body}x"), signature),
                checked(method, uri, body, &signature.replace('5', "6")),
                checked(method, uri, body, &signature[2..]),
                checked(method, uri, body, "none"),
            ] {
                assert_eq!(wrong.expect_err("refused").error_type, "InvalidSignatureException");
            }
        };
        // The example of the IAM user guide.
        check(
            "iam",
            "GET",
            "/?Action=ListUsers&Version=2010-05-08",
            &[("content-type", "application/x-www-form-urlencoded; charset=utf-8")],
            "",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        );
        // From the test suite for signatures of version 4.
        check("service", "GET", "/", &[], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        check("service", "POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        check(
            "service",
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
    }

    /// Signs a request with the emulator's credentials, as an AWS client does.
    fn signed(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        expires: Option<Duration>,
    ) -> Request<()> {
        let mut settings = SigningSettings::default();
        if expires.is_some() {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = expires;
        }
        let identity = Credentials::new("local", "local", None, None, "test").into();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(SIGNED_AT.unsigned_abs());
        let params = SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("execute-api")
            .time(time)
            .settings(settings)
            .build()
            .expect("all there");
        let url = format!("http://127.0.0.1:8765{path}");
        let signable = SignableRequest::new(method, &url, headers.iter().copied(), SignableBody::Bytes(body));
        let (instructions, _) = sign(signable.expect("signable"), &params.into()).expect("signed").into_parts();
        let mut request = request(method, &url, &[&[("host", "127.0.0.1:8765")], headers].concat());
        instructions.apply_to_request_http1x(&mut request);
        // The request line has no scheme and no host.
        let uri = request.uri().path_and_query().expect("a path").as_str().parse().expect("a path");
        *request.uri_mut() = uri;
        request
    }

    #[test]
    fn a_header_is_valid_for_five_minutes_and_a_query_as_long_as_it_says() {
        let late = |expires: Option<u64>, secs: i64| {
            let expires = expires.map(Duration::from_secs);
            let request = signed("GET", "/prod", &[], b"", expires);
            LOCAL.check(&request, b"", at(SIGNED_AT + secs)).map_err(|rejected| rejected.message.into_owned())
        };
        for (expires, accepted) in [(None, [-300, 0, 300]), (Some(60), [-300, 0, 60]), (Some(900), [0, 600, 900])] {
            for secs in accepted {
                assert_eq!(late(expires, secs), Ok(()), "{expires:?} {secs}");
            }
        }
        assert_eq!(
            late(None, 301),
            Err("Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
                .to_owned())
        );
        assert!(late(Some(60), 61).is_err_and(|message| message.ends_with("(20150830T123701Z - 60 sec.)")));
        assert_eq!(
            late(None, -301),
            Err("Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
                 (20150830T123059Z + 5 min.)"
                .to_owned())
        );
    }

    #[test]
    fn a_wrong_signature_is_refused_in_the_words_of_the_service() {
        let check = |replaced: &str, by: &str, error_type: &str, message: &str| {
            let mut request = signed("POST", "/prod/@connections/eHrdFcnvvHcCE-w%3D", &[], b"x", None);
            let authorization = request.headers()[AUTHORIZATION].to_str().expect("a text").to_owned();
            assert!(authorization.contains(replaced), "{authorization}");
            let changed = authorization.replacen(replaced, by, 1);
            request.headers_mut().insert(AUTHORIZATION, changed.parse().expect("a header"));
            let rejected = LOCAL.check(&request, b"x", at(SIGNED_AT)).expect_err("refused");
            assert_eq!((rejected.error_type, &rejected.message[..message.len()]), (error_type, message));
        };
        let incomplete = "IncompleteSignatureException";
        let invalid = "InvalidSignatureException";
        check(
            "Credential=local",
            "Credential=other",
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        );
        check(REGION, "mars-1", invalid, "Credential should be scoped to a valid region, not 'mars-1'. ");
        check("execute-api", "apigateway", invalid, "Credential should be scoped to correct service: 'execute-api'. ");
        check("/20150830/", "/20150831/", invalid, "Date in Credential scope does not match YYYYMMDD from ISO-8601");
        check("host;", "", invalid, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.");
        check("Signature=", "Signature=00", invalid, "The request signature we calculated does not match");
        check(
            "Signature=",
            "Nothing=",
            incomplete,
            "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=local/",
        );
        check(
            "Credential=",
            "Credential= ",
            incomplete,
            "'local/20150830/eu-central-1/execute-api/aws4_request' not a valid key=value pair (missing equal-sign)",
        );
        check("/aws4_request", "", incomplete, "Credential must have exactly 5 slash-delimited elements");
    }

    #[test]
    fn a_refusal_quotes_what_should_have_been_signed() {
        let request = signed("POST", "/prod/@connections/eHrdFcnvvHcCE-w%3D", &[], b"x", None);
        let rejected = LOCAL.check(&request, b"y", at(SIGNED_AT)).expect_err("another body");
        let hash = hex::encode(Sha256::digest("y"));
        let canonical = format!(
            "should have been\n'POST\n/prod/%40connections/eHrdFcnvvHcCE-w%253D\n\nhost:127.0.0.1:8765\n\
             x-amz-date:20150830T123600Z\n\nhost;x-amz-date\n{hash}'\n\nThe String-to-Sign should have been\n\
             'AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/eu-central-1/execute-api/aws4_request\n"
        );
        assert!(rejected.message.contains(&canonical), "{}", rejected.message);
    }

    #[test]
    fn a_refused_query_names_the_parameter_that_is_missing_or_wrong() {
        let check = |query: &str, expected: &str| {
            let request = request("GET", &format!("/prod?{query}"), &[("host", "x")]);
            let rejected = LOCAL.check(&request, b"", at(SIGNED_AT)).expect_err("refused");
            assert_eq!(rejected.error_type, "IncompleteSignatureException");
            assert!(rejected.message.contains(expected), "{query}: {}", rejected.message);
        };
        check("X-Amz-Signature=00", "must include 'X-Amz-Credential'. ");
        let rest = "X-Amz-Credential=local/a/b/c/d&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        let dated = format!("{rest}&X-Amz-Date=20150830T123600Z");
        check(&format!("{dated}&X-Amz-Expires=60&X-Amz-Algorithm=MD5"), "Unsupported AWS 'algorithm': 'MD5'.");
        for expires in ["-1", "604801", "x"] {
            check(&format!("{dated}&X-Amz-Algorithm={ALGORITHM}&X-Amz-Expires={expires}"), "between 0 and 604800");
        }
        check(
            &format!("{rest}&X-Amz-Date=today&X-Amz-Algorithm={ALGORITHM}&X-Amz-Expires=60"),
            "Date must be in ISO-8601",
        );
    }

    proptest! {
        #[test]
        fn what_an_aws_client_signs_is_accepted(
            method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
            // As an AWS client writes a path: escaped once.
            path in "(/([a-zA-Z0-9@=_.~-]|%3D|%40|%20|%2F|%C3%A9){1,8}[a-z]){1,4}",
            parameters in vec(("[a-zA-Z0-9._~-]{1,6}", "([a-zA-Z0-9._~-]|%2F|%20|%3D|%26){0,6}"), 0..5),
            values in vec("[!-~]{1,5}( {1,3}[!-~]{1,5}){0,2}", 0..3),
            body in vec(any::<u8>(), 0..40),
            expires in prop::option::of(1_u64..604_800),
        ) {
            let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let uri = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
            let values = values.iter().map(String::as_str);
            let headers: Vec<_> = ["x-b", "content-type", "x-b"].into_iter().zip(values).collect();
            let request = signed(method, &uri, &headers, &body, expires.map(Duration::from_secs));
            prop_assert_eq!(LOCAL.check(&request, &body, at(SIGNED_AT)), Ok(()));
        }

        #[test]
        fn no_header_and_no_query_breaks_the_check(
            authorization in "AWS4-HMAC-SHA256 ([A-Za-z]{0,10}=?[ -~]{0,20}[, ]{0,2}){0,4}",
            query in concat!(
                "(X-Amz-(Signature|Date|Credential|Expires|Algorithm|SignedHeaders)=",
                "[!-~&&[^#<>\"`{}|^\\\\]]{0,20}&){0,6}",
            ),
        ) {
            let authorization = ("authorization", authorization.as_str());
            let headers = [("host", "x"), ("x-amz-date", "20150830T123600Z"), authorization];
            prop_assert!(LOCAL.check(&request("GET", "/prod", &headers), b"", at(SIGNED_AT)).is_err());
            let uri = format!("/prod?{query}");
            if uri.parse::<hyper::Uri>().is_ok() {
                prop_assert!(LOCAL.check(&request("GET", &uri, &headers[..1]), b"", at(SIGNED_AT)).is_err());
            }
        }
    }
}
