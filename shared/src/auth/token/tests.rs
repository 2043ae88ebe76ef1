//! Tokens made here, with ring and by hand, against the gate.

use std::{
    convert::Infallible,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::runtime::{environment::Environment, metrics::Metrics, network::Network};

/// A key pair that was made for these tests and opens nothing: PKCS #1, DER, base64.
const RSA: &str = include_str!("test_rsa.txt");

const SECRET: &str = "a secret of thirty-two bytes, as every secret should be";
const ISSUER: &str = "https://issuer.example/";
const NOW: i64 = 1_795_000_000;

/// A service that answers with what the test says at the moment, and counts.
#[derive(Clone)]
struct Service {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, Value)>>,
    asked: Arc<AtomicUsize>,
}

impl Service {
    async fn start(answer: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = Self { address, answer: Arc::new(Mutex::new((200, answer))), asked: Arc::default() };
        let serving = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                let answer = service_fn(move |_: Request<Incoming>| {
                    serving.asked.fetch_add(1, Ordering::SeqCst);
                    let (status, body) = serving.answer.lock().expect("unpoisoned").clone();
                    let body = http_body_util::Full::new(hyper::body::Bytes::from(body.to_string()));
                    async move { Ok::<_, Infallible>(Response::builder().status(status).body(body).expect("valid")) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        service
    }

    fn says(&self, status: u16, answer: Value) {
        *self.answer.lock().expect("unpoisoned") = (status, answer);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn sdk() -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn authenticator(variables: &[(&str, &str)], clock: Clock) -> Result<Authenticator, String> {
    let environment: Environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let start = StartContext { environment, sdk: sdk(), network: Network::System, clock, metrics: Metrics::Off };
    let mut reader = start.environment.reader();
    let authenticator = Authenticator::from_env(&start, &mut reader);
    reader.finish(authenticator).map_err(|error| error.to_string())
}

fn manual() -> (Clock, Arc<AtomicI64>) {
    let ms = Arc::new(AtomicI64::new(NOW * 1_000));
    (Clock::Manual(Arc::clone(&ms)), ms)
}

/// The answer of Parameter Store.
fn parameter(value: &str) -> Value {
    json!({"Parameter": {"Name": "/token", "Type": "SecureString", "Value": value}})
}

/// A gate with a secret, and the service that it reads it from.
async fn authenticator_with_secret(more: &[(&str, &str)]) -> (Authenticator, Service, Arc<AtomicI64>) {
    authenticator_with_secret_at("AWS_ENDPOINT_URL_SSM", more).await
}

/// The same with the variable that leads to the service.
async fn authenticator_with_secret_at(
    endpoint_variable: &str,
    more: &[(&str, &str)],
) -> (Authenticator, Service, Arc<AtomicI64>) {
    let service = Service::start(parameter(SECRET)).await;
    let (clock, ms) = manual();
    let endpoint = format!("http://{}", service.address);
    let own = [
        ("AUTHORIZATION", "required"),
        ("TOKEN_SECRET_PARAMETER", "/token"),
        ("TOKEN_ISSUER", ISSUER),
        ("TOKEN_AUDIENCE", "alerts"),
        (endpoint_variable, &endpoint),
    ];
    (authenticator(&[&own, more].concat(), clock).expect("complete"), service, ms)
}

/// A gate with published keys, and the service that publishes them.
async fn authenticator_with_keys(keys: Vec<Value>) -> (Authenticator, Service, Arc<AtomicI64>) {
    let service = Service::start(json!({"keys": keys})).await;
    let (clock, ms) = manual();
    let url = format!("http://{}/keys.json", service.address);
    let variables = [
        ("AUTHORIZATION", "required"),
        ("JWKS_URL", url.as_str()),
        ("TOKEN_ISSUER", ISSUER),
        ("TOKEN_AUDIENCE", "alerts"),
    ];
    (authenticator(&variables, clock).expect("complete"), service, ms)
}

fn claims() -> Value {
    json!({"sub": "user-1", "iss": ISSUER, "aud": "alerts", "exp": NOW + 600, "regions": ["PL", "E*"]})
}

/// The claims with one that is another; null removes it.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(&header), encoded(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |message| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

fn with_secret(claims: &Value) -> String {
    token(json!({"alg": "HS256", "typ": "JWT"}), claims, hs256(SECRET.as_bytes()))
}

fn rsa() -> RsaKeyPair {
    let der = BASE64_STANDARD.decode(RSA.split_whitespace().collect::<String>()).expect("base64");
    RsaKeyPair::from_der(&der).expect("a key")
}

fn rs256(key: &RsaKeyPair) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |message| {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("signed");
        signature
    }
}

fn part(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(id: &str) -> Value {
    let key: ring::rsa::PublicKeyComponents<Vec<u8>> = rsa().public().into();
    json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": part(&key.n), "e": part(&key.e)})
}

fn rsa_token(id: &str) -> String {
    token(json!({"alg": "RS256", "kid": id}), &claims(), rs256(&rsa()))
}

async fn admitted(authenticator: &Authenticator, token: &str) -> Result<Principal, Rejected> {
    authenticator.admit(Some(token)).await.expect("keys")
}

fn user() -> Principal {
    Principal {
        id: "user-1".to_owned(),
        regions: "PL,E*".parse().expect("patterns"),
        publishes: Regions::none(),
        user: Some("user-1".to_owned()),
        name: None,
        expires_at: Some(Timestamp::from_millis((NOW + 600) * 1_000)),
    }
}

#[tokio::test]
async fn a_token_says_who_somebody_is_and_which_regions_are_allowed() {
    let (authenticator, service, ms) = authenticator_with_secret(&[]).await;
    assert_eq!(admitted(&authenticator, &with_secret(&claims())).await, Ok(user()));
    let without = admitted(&authenticator, &with_secret(&with("regions", Value::Null))).await.expect("let in");
    assert_eq!(without.regions, Regions::all());
    let publisher = admitted(&authenticator, &with_secret(&with("publish", json!(["PL"])))).await.expect("let in");
    assert_eq!(publisher.publishes, "PL".parse().expect("patterns"));
    let named =
        admitted(&authenticator, &with_secret(&with("name", json!("ż".repeat(USER_BYTES_MAX))))).await.expect("let in");
    assert_eq!(named.name.as_deref(), Some("ż".repeat(USER_BYTES_MAX / 2).as_str()));
    let several = with("aud", json!(["other", "alerts"]));
    assert!(admitted(&authenticator, &with_secret(&several)).await.is_ok());
    assert_eq!(service.asked(), 1, "a secret is kept for a while");
    ms.fetch_add(5 * 60 * 1_000, Ordering::SeqCst);
    assert!(admitted(&authenticator, &with_secret(&claims())).await.is_ok());
    assert_eq!(service.asked(), 2, "and then read again");
}

#[tokio::test]
async fn a_token_with_a_claim_that_is_wrong_or_missing_is_refused() {
    let (authenticator, ..) = authenticator_with_secret(&[]).await;
    for (name, value, expected) in [
        ("exp", json!(NOW - 60), Rejected::Expired),
        ("exp", Value::Null, Rejected::Malformed),
        ("exp", json!("tomorrow"), Rejected::Malformed),
        ("nbf", json!(NOW + 61), Rejected::NotYet),
        ("nbf", json!("now"), Rejected::Malformed),
        ("iss", json!("https://other.example/"), Rejected::Issuer),
        ("iss", Value::Null, Rejected::Issuer),
        ("aud", json!("other"), Rejected::Audience),
        ("aud", json!([]), Rejected::Audience),
        ("aud", Value::Null, Rejected::Audience),
        ("regions", json!(["PL,DE"]), Rejected::Regions),
        ("regions", json!("PL"), Rejected::Malformed),
        ("publish", json!(["P L"]), Rejected::Regions),
        ("publish", json!(true), Rejected::Malformed),
    ] {
        assert_eq!(
            admitted(&authenticator, &with_secret(&with(name, value.clone()))).await,
            Err(expected),
            "{name} {value}"
        );
    }
    for (name, value) in [("exp", json!(NOW - 59)), ("exp", json!(f64::from(i32::MAX))), ("nbf", json!(NOW + 60))] {
        assert!(
            admitted(&authenticator, &with_secret(&with(name, value.clone()))).await.is_ok(),
            "{name} {value}: leeway"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_not_signed_with_the_secret_is_refused() {
    let (authenticator, ..) = authenticator_with_secret(&[]).await;
    let unsigned = |algorithm: &str| token(json!({"alg": algorithm}), &claims(), |_| Vec::new());
    for algorithm in ["none", "None", "NONE", ""] {
        assert!(admitted(&authenticator, &unsigned(algorithm)).await.is_err(), "{algorithm}");
    }
    assert_eq!(admitted(&authenticator, &unsigned("HS256")).await, Err(Rejected::Signature));
    let other = token(json!({"alg": "HS256"}), &claims(), hs256(b"another secret"));
    assert_eq!(admitted(&authenticator, &other).await, Err(Rejected::Signature));
    assert_eq!(admitted(&authenticator, &rsa_token("a")).await, Err(Rejected::Algorithm));
    let longer = token(json!({"alg": "HS512"}), &claims(), hs256(SECRET.as_bytes()));
    assert_eq!(admitted(&authenticator, &longer).await, Err(Rejected::Algorithm));
    for text in ["x", "a.b", "a.b.c", "a.b.c.d", "..", &"a".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(admitted(&authenticator, text).await, Err(Rejected::Malformed), "{text:.20}");
    }
}

#[tokio::test]
async fn a_secret_that_is_too_short_or_cannot_be_read_lets_nobody_in() {
    let (authenticator, service, _) = authenticator_with_secret(&[]).await;
    service.says(400, json!({"__type": "ParameterNotFound"}));
    assert!(authenticator.admit(Some(&with_secret(&claims()))).await.is_err());
    service.says(200, parameter("short"));
    let short = token(json!({"alg": "HS256"}), &claims(), hs256(b"short"));
    assert!(authenticator.admit(Some(&short)).await.is_err());
}

#[tokio::test]
async fn the_secret_is_read_where_the_variable_for_all_services_leads() {
    let (authenticator, service, _) = authenticator_with_secret_at("AWS_ENDPOINT_URL", &[]).await;
    assert_eq!(admitted(&authenticator, &with_secret(&claims())).await, Ok(user()));
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn published_keys_of_each_kind_check_the_tokens_of_their_own_algorithm_alone() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
    let ed =
        Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).expect("a key").as_ref()).expect("a key");
    let (authenticator, ..) = authenticator_with_keys(vec![
        rsa_jwk("rsa"),
        json!({"kty": "EC", "kid": "ec", "crv": "P-256", "x": part(x), "y": part(y)}),
        json!({"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": part(ed.public_key().as_ref())}),
        json!({"kty": "oct", "kid": "oct", "k": part(SECRET.as_bytes())}),
        json!({"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": rsa_jwk("")["n"], "e": "AQAB"}),
        json!({"kty": "new kind", "kid": "new"}),
        json!("nonsense"),
    ])
    .await;
    let es256 = |message: &[u8]| ec.sign(&random, message).expect("signed").as_ref().to_vec();
    let eddsa = |message: &[u8]| ed.sign(message).as_ref().to_vec();
    let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "kid": id});
    assert_eq!(admitted(&authenticator, &rsa_token("rsa")).await, Ok(user()));
    assert_eq!(admitted(&authenticator, &token(header("ES256", "ec"), &claims(), es256)).await, Ok(user()));
    assert_eq!(admitted(&authenticator, &token(header("EdDSA", "ed"), &claims(), eddsa)).await, Ok(user()));
    // The classic: the public key, which everybody has, taken for a secret.
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = rsa().public().into();
    for known_to_all in [rsa().public().as_ref(), &public.n, rsa_jwk("rsa").to_string().as_bytes()] {
        let forged = token(header("HS256", "rsa"), &claims(), hs256(known_to_all));
        assert_eq!(admitted(&authenticator, &forged).await, Err(Rejected::Algorithm));
    }
    let secret = token(header("HS256", "oct"), &claims(), hs256(SECRET.as_bytes()));
    assert_eq!(admitted(&authenticator, &secret).await, Err(Rejected::UnknownKey), "a published secret is none");
    assert_eq!(admitted(&authenticator, &rsa_token("for-encryption")).await, Err(Rejected::UnknownKey));
    let crossed = token(header("ES256", "rsa"), &claims(), es256);
    assert_eq!(admitted(&authenticator, &crossed).await, Err(Rejected::Algorithm));
    assert_eq!(
        admitted(&authenticator, &token(header("ES256", "ec"), &claims(), eddsa)).await,
        Err(Rejected::Signature)
    );
    let nameless = token(json!({"alg": "RS256"}), &claims(), rs256(&rsa()));
    assert_eq!(admitted(&authenticator, &nameless).await, Err(Rejected::NoKeyId));
    assert!(admitted(&authenticator, &token(header("none", "rsa"), &claims(), |_| Vec::new())).await.is_err());
}

#[tokio::test]
async fn keys_that_are_rotated_are_fetched_when_a_token_names_them_and_at_most_once_a_minute() {
    let (authenticator, service, ms) = authenticator_with_keys(vec![rsa_jwk("old")]).await;
    let passes = |time: Duration| ms.fetch_add(i64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    assert!(admitted(&authenticator, &rsa_token("old")).await.is_ok());
    service.says(200, json!({"keys": [rsa_jwk("new")]}));
    for _ in 0..3 {
        assert_eq!(admitted(&authenticator, &rsa_token("new")).await, Err(Rejected::UnknownKey));
    }
    assert_eq!(service.asked(), 1, "whatever tokens name");
    passes(Duration::from_secs(60));
    assert!(admitted(&authenticator, &rsa_token("new")).await.is_ok());
    assert_eq!(admitted(&authenticator, &rsa_token("old")).await, Err(Rejected::UnknownKey), "withdrawn");
    assert_eq!(service.asked(), 2);

    service.says(500, json!({}));
    passes(Duration::from_secs(10 * 60));
    assert!(admitted(&authenticator, &rsa_token("new")).await.is_err_and(|rejected| rejected == Rejected::Expired));
    assert_eq!(service.asked(), 3, "old keys serve where the issuer fails");
    passes(Duration::from_secs(60 * 60));
    assert!(authenticator.admit(Some(&rsa_token("new"))).await.is_err(), "but not longer than an hour");
}

#[tokio::test]
async fn after_a_first_fetch_of_keys_that_failed_tokens_are_admitted_a_second_later() {
    let (authenticator, service, ms) = authenticator_with_keys(vec![rsa_jwk("k")]).await;
    for stumble in [json!({}), json!({"keys": []}), json!({"keys": [{"kty": "new kind", "kid": "k"}]})] {
        service.says(if stumble == json!({}) { 503 } else { 200 }, stumble);
        let asked = service.asked();
        for _ in 0..20 {
            assert!(authenticator.admit(Some(&rsa_token("k"))).await.is_err(), "the issuer stumbles");
        }
        assert_eq!(service.asked(), asked + 1, "20 requests ask once");
        ms.fetch_add(5_000, Ordering::SeqCst);
    }
    let (authenticator, service, ms) = authenticator_with_keys(vec![rsa_jwk("k")]).await;
    service.says(503, json!({}));
    assert!(authenticator.admit(Some(&rsa_token("k"))).await.is_err());
    service.says(200, json!({"keys": [rsa_jwk("k")]}));
    ms.fetch_add(1_000, Ordering::SeqCst);
    assert_eq!(admitted(&authenticator, &rsa_token("k")).await, Ok(user()));
    assert_eq!(service.asked(), 2);
}

#[tokio::test]
async fn a_new_key_that_could_not_be_fetched_is_a_failure_and_an_invented_one_is_asked_for_once_a_minute() {
    let (authenticator, service, ms) = authenticator_with_keys(vec![rsa_jwk("old")]).await;
    assert!(admitted(&authenticator, &rsa_token("old")).await.is_ok());
    service.says(503, json!({}));
    ms.fetch_add(60_000, Ordering::SeqCst);
    for second in 0..60 {
        let unknown = authenticator.admit(Some(&rsa_token("new"))).await;
        assert!(unknown.is_err(), "{second}: whether there is such a key is not known");
        assert!(admitted(&authenticator, &rsa_token("old")).await.is_ok());
        assert_eq!(service.asked(), 2, "{second}");
        ms.fetch_add(1_000, Ordering::SeqCst);
    }
    service.says(200, json!({"keys": [rsa_jwk("old"), rsa_jwk("new")]}));
    assert!(admitted(&authenticator, &rsa_token("new")).await.is_ok());
    assert_eq!(admitted(&authenticator, &rsa_token("invented")).await, Err(Rejected::UnknownKey));
    assert_eq!(service.asked(), 3);
}

#[tokio::test]
async fn in_an_outage_of_parameter_store_the_older_secret_is_used_and_asked_for_once() {
    let (authenticator, service, ms) = authenticator_with_secret(&[]).await;
    assert!(admitted(&authenticator, &with_secret(&claims())).await.is_ok());
    for (status, answer) in [(503, json!({})), (200, parameter("short"))] {
        service.says(status, answer);
        ms.fetch_add(5 * 60 * 1_000, Ordering::SeqCst);
        let asked = service.asked();
        let token = with_secret(&with("exp", json!(f64::from(i32::MAX))));
        for _ in 0..20 {
            assert!(admitted(&authenticator, &token).await.is_ok());
        }
        assert_eq!(service.asked(), asked + 1);
    }
    let secret = "another secret of more than thirty-two bytes";
    service.says(200, parameter(secret));
    ms.fetch_add(5_000, Ordering::SeqCst);
    let token = token(json!({"alg": "HS256"}), &with("exp", json!(f64::from(i32::MAX))), hs256(secret.as_bytes()));
    assert!(admitted(&authenticator, &token).await.is_ok(), "soon after the outage the new secret counts");
}

#[test]
fn a_secret_does_not_show_itself() {
    let secret: TokenSecret = SECRET.parse().expect("long enough");
    assert_eq!(format!("{secret:?}"), "TokenSecret");
    let refused = "guessable".parse::<TokenSecret>().expect_err("too short");
    assert!(!format!("{refused} {refused:?}").contains("guessable"));
}

#[tokio::test]
async fn a_token_that_needs_an_extension_is_refused() {
    let (authenticator, ..) = authenticator_with_secret(&[]).await;
    let with_header = |more: Value| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        token(header, &claims(), hs256(SECRET.as_bytes()))
    };
    for more in [
        json!({"crit": ["exp2"], "exp2": 1}),
        json!({"crit": ["b64"], "b64": true}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"b64": false}),
        json!({"b64": null}),
    ] {
        let refused = admitted(&authenticator, &with_header(more.clone())).await.expect_err("refused");
        assert_eq!(refused, Rejected::Extension, "{more}");
    }
    for more in [json!({"b64": true}), json!({"x5t": "x", "own": {"crit": 1}})] {
        assert!(admitted(&authenticator, &with_header(more.clone())).await.is_ok(), "{more}");
    }
    let twice = format!("{}.{}", part(br#"{"alg":"HS256","b64":true,"b64":false}"#), encoded(&claims()));
    let signature = part(&hs256(SECRET.as_bytes())(twice.as_bytes()));
    assert_eq!(admitted(&authenticator, &format!("{twice}.{signature}")).await, Err(Rejected::Malformed));
}

#[tokio::test]
async fn the_mode_says_what_becomes_of_those_without_a_token() {
    let (required, ..) = authenticator_with_secret(&[]).await;
    let (optional, ..) = authenticator_with_secret(&[("AUTHORIZATION", "optional")]).await;
    let off = authenticator(&[("AUTHORIZATION", "off")], manual().0).expect("complete");
    let anonymous = Principal::anonymous();
    assert_eq!((&anonymous.user, &anonymous.publishes), (&None, &Regions::none()));
    for nothing in [None, Some("")] {
        assert_eq!(required.admit(nothing).await.expect("keys"), Err(Rejected::Missing));
        assert_eq!(optional.admit(nothing).await.expect("keys"), Ok(anonymous.clone()));
        assert_eq!(off.admit(nothing).await.expect("keys"), Ok(anonymous.clone()));
    }
    assert_eq!(admitted(&optional, &with_secret(&claims())).await, Ok(user()));
    assert_eq!(admitted(&optional, "x").await, Err(Rejected::Malformed), "a bad one is refused");
    assert!(!off.is_on() && optional.is_on());
}

#[test]
fn a_gate_that_could_not_hold_is_not_built() {
    let on = ("AUTHORIZATION", "required");
    let problem = |variables: &[(&str, &str)]| authenticator(variables, Clock::System).expect_err("incomplete");
    assert!(problem(&[on]).contains("either JWKS_URL or TOKEN_SECRET_PARAMETER"));
    let both = problem(&[on, ("JWKS_URL", "https://x.example"), ("TOKEN_SECRET_PARAMETER", "/x")]);
    assert!(both.contains("either JWKS_URL or TOKEN_SECRET_PARAMETER"), "{both}");
    let claims = [("TOKEN_ISSUER", "i"), ("TOKEN_AUDIENCE", "a")];
    let open = problem(&[&[on, ("JWKS_URL", "http://x.example")][..], &claims].concat());
    assert!(open.contains("invalid address of keys"), "{open}");
    assert!(problem(&[on, ("JWKS_URL", "http://127.0.0.1:1")]).contains("TOKEN_ISSUER and TOKEN_AUDIENCE"));
    assert!(problem(&[("AUTHORIZATION", "on")]).contains("off, optional or required"));
}

fn pass(variables: &[(&str, &str)], clock: Clock) -> Result<Pass, String> {
    let environment: Environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let start = StartContext { environment, sdk: sdk(), network: Network::System, clock, metrics: Metrics::Off };
    let mut reader = start.environment.reader();
    let pass = Pass::from_env(&start, &mut reader);
    reader.finish_whole(pass).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_canary_signs_itself_a_token_that_allows_its_own_region_for_minutes() {
    let (authenticator, service, ms) = authenticator_with_secret(&[]).await;
    let endpoint = format!("http://{}", service.address);
    let variables = [
        ("AUTHORIZATION", "required"),
        ("TOKEN_SECRET_PARAMETER", "/token"),
        ("TOKEN_ISSUER", ISSUER),
        ("TOKEN_AUDIENCE", "alerts"),
        ("AWS_ENDPOINT_URL_SSM", &endpoint),
    ];
    let pass = pass(&variables, Clock::Manual(Arc::clone(&ms))).expect("complete");
    let token = pass.token().await.expect("the secret is read").expect("a token");
    let principal = admitted(&authenticator, &token).await.expect("let in");
    assert_eq!(
        (principal.regions, principal.publishes),
        (Regions::of_patterns(["X-CANARY"]).expect("one"), Regions::none())
    );
    assert_eq!(principal.user, None, "it takes no seat of a user");
    ms.fetch_add(7 * 60 * 1_000, Ordering::SeqCst);
    assert_eq!(admitted(&authenticator, &token).await, Err(Rejected::Expired));
    let later = pass.token().await.expect("the secret is read").expect("a token");
    assert!(admitted(&authenticator, &later).await.is_ok());
}

#[tokio::test]
async fn the_canary_takes_a_token_that_is_given_to_it_and_none_where_none_is_required() {
    let service = Service::start(parameter(" a.b-_.c\n")).await;
    let endpoint = format!("http://{}", service.address);
    let of_an_issuer = [
        ("AUTHORIZATION", "required"),
        ("JWKS_URL", "https://issuer.example/keys.json"),
        ("CANARY_TOKEN_PARAMETER", "/canary"),
        ("AWS_ENDPOINT_URL_SSM", &endpoint),
    ];
    let token = pass(&of_an_issuer, manual().0).expect("complete").token().await;
    assert_eq!(token.expect("read").as_deref(), Some("a.b-_.c"));
    let missing = pass(&of_an_issuer[..2], manual().0).expect_err("no token can be had");
    assert!(missing.contains("CANARY_TOKEN_PARAMETER"), "{missing}");
    for open in ["off", "optional"] {
        let token = pass(&[("AUTHORIZATION", open), ("CANARY_TOKEN_PARAMETER", "/canary")], manual().0);
        assert_eq!(token.expect("complete").token().await.expect("nothing is read"), None);
    }
    service.says(200, parameter("a.b.c, bearer.d"));
    let pass = pass(&of_an_issuer, manual().0).expect("complete");
    let failure = pass.token().await.expect_err("no token");
    let text = crate::error::ErrorChain(&failure).to_string();
    assert!(text.contains("the parameter holds no token") && !text.contains("bearer"), "{text}");
}

#[test]
fn tokens_are_found_where_they_may_be() {
    assert_eq!(of_authorization("Bearer a.b.c"), Some("a.b.c"));
    assert_eq!(of_authorization("bearer  a.b.c "), Some("a.b.c"));
    assert_eq!(of_authorization("Basic a"), None);
    assert_eq!(of_subprotocols("viral-alerts, bearer.a.b.c"), Some("a.b.c"));
    assert_eq!(of_subprotocols("viral-alerts"), None);
    // An empty one hides none that comes after it.
    assert_eq!((of_parameter(""), of_parameter("a")), (None, Some("a")));
    assert_eq!((of_authorization("Bearer "), of_authorization("Bearer   ")), (None, None));
    assert_eq!(of_subprotocols("bearer., bearer.a"), Some("a"));
    assert!(offers_subprotocol("other,viral-alerts") && !offers_subprotocol("viral-alerts2"));
}

/// Lines that were logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_part_of_a_token_or_a_secret_is_logged_at_any_level() {
    let lines = Lines::default();
    let to = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || to.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (authenticator, service, ms) = authenticator_with_secret(&[]).await;
    let good = with_secret(&claims());
    let bad = token(json!({"alg": "HS256"}), &claims(), hs256(b"another secret"));
    let mut said = String::new();
    for token in [&good, &bad, "not.a.token"] {
        said += &format!("{:?}", authenticator.admit(Some(token)).await);
    }
    service.says(500, json!({}));
    ms.fetch_add(6 * 60 * 1_000, Ordering::SeqCst);
    said += &format!("{:?} {authenticator:?}", authenticator.admit(Some(&good)).await);
    let logged = String::from_utf8(lines.0.lock().expect("unpoisoned").clone()).expect("UTF-8") + &said;
    assert!(logged.contains("the older one is used"), "something is logged: {logged}");
    let parts = good.split('.').chain(bad.split('.')).chain([SECRET, "another secret"]);
    for part in parts {
        assert!(!logged.contains(part), "{part} in {logged}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_that_was_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let good = with_secret(&claims());
        let at = at.index(good.len());
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        prop_assume!(changed != good);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (authenticator, ..) = authenticator_with_secret(&[]).await;
            // The last character of a signature carries two bits that count for nothing.
            let last = at + 1 == good.len();
            prop_assert!(admitted(&authenticator, &changed).await.is_err() || last, "{changed}");
            Ok(())
        })?;
    }

    #[test]
    fn nothing_that_is_sent_as_a_token_is_a_panic(text in "\\PC{0,80}", header in "[{}\":,a-z0-9]{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (authenticator, ..) = authenticator_with_secret(&[]).await;
            let dotted = format!("{}.{}.{}", part(header.as_bytes()), part(text.as_bytes()), part(b"x"));
            for token in [text.as_str(), &dotted] {
                prop_assert!(token.is_empty() || admitted(&authenticator, token).await.is_err());
            }
            Ok(())
        })?;
    }
}
