//! Tokens signed here, against keys that a server on this machine publishes.

use std::sync::{
    Arc, Mutex as StdMutex,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use base64::prelude::BASE64_STANDARD;
use hyper::{Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use tokio::net::TcpListener;

use super::*;
use crate::{
    gateway::GatewayOptions,
    http_api::{HttpApis, event, refusal::Refusal, resource_policy::ResourcePolicy, routing},
    lambda::Functions,
    template::{HttpAuthorization, HttpIdentitySource, Template, TemplateInputs},
};

/// A key pair that was made for these tests and opens nothing: PKCS #1, DER, base64.
const RSA: &str = include_str!("test_rsa.txt");

const NOW: i64 = 1_795_000_000;

fn rsa() -> RsaKeyPair {
    let der = BASE64_STANDARD.decode(RSA.replace('\n', "")).expect("base64");
    RsaKeyPair::from_der(&der).expect("a key pair")
}

fn published(id: &str) -> Value {
    let key: ring::rsa::PublicKeyComponents<Vec<u8>> = rsa().public().into();
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": text(&key.n), "e": text(&key.e)})
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; rsa().public().modulus_len()];
    rsa().sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("signed");
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// An issuer on this machine, whose keys a test may change, and how often it was asked for them.
struct Issuer {
    address: String,
    keys: Arc<StdMutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/pool", listener.local_addr().expect("an address"));
        let keys = Arc::new(StdMutex::new(json!([published("a")])));
        let (asked, base, serving) = (Arc::new(AtomicUsize::new(0)), address.clone(), Arc::clone(&keys));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (base, keys, counted) = (base.clone(), Arc::clone(&serving), Arc::clone(&counted));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let body = match request.uri().path() {
                        "/pool/.well-known/openid-configuration" => json!({"jwks_uri": format!("{base}/keys")}),
                        "/pool/keys" => {
                            counted.fetch_add(1, Ordering::SeqCst);
                            json!({"keys": keys.lock().expect("unpoisoned").clone()})
                        }
                        other => panic!("{other}"),
                    };
                    let response = Response::new(Full::new(Bytes::from(body.to_string())));
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { address, keys, asked }
    }

    fn authorizer(&self) -> JwtAuthorizer {
        JwtAuthorizer {
            source: HttpIdentitySource::Header("Authorization".to_owned()),
            issuer: self.address.clone(),
            audiences: Some(vec!["x".to_owned(), "y".to_owned()]),
        }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.address, "aud": "y", "exp": NOW + 600, "scope": "read write", "groups": ["a", "b"], "n": 7})
    }

    /// The claims with one that is another; null removes it.
    fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        let fields = claims.as_object_mut().expect("an object");
        match value {
            Value::Null => _ = fields.remove(name),
            value => _ = fields.insert(name.to_owned(), value),
        }
        claims
    }
}

fn manual() -> (Clock, Arc<AtomicI64>) {
    let ms = Arc::new(AtomicI64::new(NOW * 1_000));
    (Clock::Manual(Arc::clone(&ms)), ms)
}

#[tokio::test]
async fn a_token_is_checked_with_the_keys_of_its_issuer_and_its_claims_are_texts() {
    let (issuer, issuers, (clock, _)) = (Issuer::start().await, Issuers::new(Arc::default()), manual());
    let header = json!({"alg": "RS256", "kid": "a"});
    let scopes = ["write".to_owned(), "admin".to_owned()];
    let token = token(&header, &issuer.claims());
    let claims = issuers.check(&issuer.authorizer(), &scopes, &token, &clock).await.expect("valid");
    let AuthorizerContext { v1: Some(v1), v2: Some(v2) } = context(HttpApiKind::Http, &claims, &scopes) else {
        panic!("no context")
    };
    assert_eq!(v2, json!({"jwt": v1}));
    assert_eq!(v1["scopes"], json!(["write", "admin"]));
    assert_eq!((&v1["claims"]["groups"], &v1["claims"]["n"]), (&json!("[a b]"), &json!("7")));
    assert_eq!(context(HttpApiKind::Http, &claims, &[]).v1.expect("one")["scopes"], Value::Null);
}

#[tokio::test]
async fn nobody_is_let_in_whose_token_is_not_good() {
    let (issuer, issuers, (clock, _)) = (Issuer::start().await, Issuers::new(Arc::default()), manual());
    let good = json!({"alg": "RS256", "kid": "a"});
    let check = async |token: String, scopes: &[String]| {
        issuers.check(&issuer.authorizer(), scopes, &token, &clock).await.expect_err("refused")
    };
    for (claims, reason) in [
        (issuer.with("iss", json!("https://other.example")), "the token has another issuer"),
        (issuer.with("aud", json!(["z"])), "the token does not have a valid audience"),
        (issuer.with("aud", Value::Null), "the token does not have a valid audience"),
        (issuer.with("exp", json!(NOW)), "the token has expired"),
        (issuer.with("exp", Value::Null), "the token has no exp, the number that says when it expires"),
        (issuer.with("nbf", json!(NOW + 1)), "the token is not valid yet"),
        (issuer.with("iat", json!(NOW + 1)), "the token is not valid yet"),
    ] {
        assert_eq!(check(token(&good, &claims), &[]).await, TokenError::Invalid(reason), "{claims}");
    }
    assert_eq!(check(token(&good, &issuer.claims()), &["admin".to_owned()]).await, TokenError::Scope);
    for (header, reason) in [
        (json!({"alg": "none", "kid": "a"}), "the token is not signed with RSA"),
        (json!({"alg": "HS256", "kid": "a"}), "the token is not signed with RSA"),
        (json!({"alg": "RS512", "kid": "a"}), "the token is of another algorithm than its key"),
        (json!({"alg": "RS256"}), "the token is malformed"),
        (json!({"alg": "RS256", "kid": "a", "crit": ["x"]}), "the token is malformed"),
        (json!({"alg": "RS256", "kid": "b"}), "the token names an unknown key"),
    ] {
        assert_eq!(check(token(&header, &issuer.claims()), &[]).await, TokenError::Invalid(reason), "{header}");
    }
    let whole = token(&good, &issuer.claims());
    let (message, signature) = whole.rsplit_once('.').expect("three parts");
    let (head, _) = message.split_once('.').expect("three parts");
    let forged = BASE64_URL_SAFE_NO_PAD.encode(issuer.with("sub", json!("admin")).to_string());
    let wrong = TokenError::Invalid("the signature of the token is wrong");
    assert_eq!(check(format!("{head}.{forged}.{signature}"), &[]).await, wrong);
    assert_eq!(check(format!("{message}."), &[]).await, wrong);
    for text in ["", "x", "a.b.c", "..", message] {
        assert_eq!(check(text.to_owned(), &[]).await, TokenError::Invalid("the token is malformed"), "{text}");
    }
}

#[tokio::test]
async fn tokens_of_a_user_pool_are_for_any_client_and_their_use_depends_on_scopes() {
    let (issuer, issuers, (clock, _)) = (Issuer::start().await, Issuers::new(Arc::default()), manual());
    let pool = JwtAuthorizer { audiences: None, ..issuer.authorizer() };
    let header = json!({"alg": "RS256", "kid": "a"});
    let check = async |used: Value, scopes: &[String]| {
        let token = token(&header, &issuer.with("token_use", used));
        issuers.check(&pool, scopes, &token, &clock).await
    };
    let read = ["read".to_owned()];
    let claims = check(json!("id"), &[]).await.expect("an identity token");
    assert!(check(json!("access"), &read).await.is_ok());
    let other = Err(TokenError::Invalid("the token is for another use"));
    for (used, scopes) in [(json!("access"), &[][..]), (Value::Null, &[]), (json!("id"), &read)] {
        assert_eq!(check(used.clone(), scopes).await, other, "{used}");
    }
    let AuthorizerContext { v1: Some(v1), v2: None } = context(HttpApiKind::Rest, &claims, &[]) else { panic!("v1") };
    assert_eq!((v1.as_object().map(Map::len), &v1["claims"]["n"]), (Some(1), &json!("7")));
}

#[tokio::test]
async fn keys_are_fetched_again_for_a_new_one_and_a_silent_issuer_lets_nobody_in() {
    let (issuer, issuers, (clock, ms)) = (Issuer::start().await, Issuers::new(Arc::default()), manual());
    let of = |id: &str| token(&json!({"alg": "RS256", "kid": id}), &issuer.with("exp", json!(NOW + 60 * 60 * 24)));
    let check = async |token: String| issuers.check(&issuer.authorizer(), &[], &token, &clock).await;
    assert!(check(of("a")).await.is_ok() && check(of("a")).await.is_ok());
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    *issuer.keys.lock().expect("unpoisoned") = json!([published("b")]);
    assert!(check(of("b")).await.is_err(), "not so soon after the last time");
    ms.fetch_add(10_000, Ordering::SeqCst);
    assert!(check(of("b")).await.is_ok() && check(of("a")).await.is_err());
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);

    let silent = JwtAuthorizer { issuer: "http://127.0.0.1:1".to_owned(), ..issuer.authorizer() };
    for _ in 0..2 {
        let refused = issuers.check(&silent, &[], &of("b"), &clock).await;
        assert!(matches!(refused, Err(TokenError::Unverifiable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_slow_issuer_does_not_keep_tokens_of_others_waiting() {
    let (issuer, issuers, (clock, _)) = (Issuer::start().await, Issuers::new(Arc::default()), manual());
    let token = token(&json!({"alg": "RS256", "kid": "a"}), &issuer.claims());
    // It accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (slow, own) = (JwtAuthorizer { issuer: address, ..issuer.authorizer() }, issuer.authorizer());
    tokio::select! {
        biased;
        first = issuers.check(&slow, &[], &token, &clock) => panic!("{first:?}"),
        checked = issuers.check(&own, &[], &token, &clock) => assert!(checked.is_ok(), "{checked:?}"),
    }
}

#[tokio::test]
async fn a_resource_policy_has_to_allow_what_a_user_pool_lets_in_and_is_asked_after_it() {
    let (issuer, (clock, _)) = (Issuer::start().await, manual());
    let statements = json!([
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "execute-api:/*/GET/*ed"},
        {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "execute-api:/*/GET/denied"},
    ]);
    let text = format!(
        "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
         RouteSelectionExpression: $request.body.a }} }}\n  Shop:\n    Type: AWS::ApiGateway::RestApi\n    \
         Properties:\n      Policy: {{ Statement: {statements} }}\n      Body: {{ paths: {{ '/{{page}}': {{ get: {{ \
         x-amazon-apigateway-integration: {{ type: MOCK }} }} }} }} }}\n"
    );
    let mut api = Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0);
    let pool = JwtAuthorizer { audiences: None, ..issuer.authorizer() };
    api.routes.iter_mut().for_each(|route| route.authorization = HttpAuthorization::Jwt(pool.clone()));
    let policy = ResourcePolicy::of(&api);
    let functions = Functions::unreachable(&BTreeMap::new());
    let (quotas, options, client) = (Arc::default(), GatewayOptions::default(), Arc::default());
    let apis = HttpApis::new(Vec::new(), |_| false, functions, clock, quotas, &options, client);
    let good = token(&json!({"alg": "RS256", "kid": "a"}), &issuer.with("token_use", json!("id")));
    let refused = async |path: &str, token: &str| {
        let request = Request::builder().uri(path).header("Authorization", token).body(()).expect("valid");
        let found = routing::best(&api, "GET", path).expect("a route");
        let incoming = event::Incoming {
            api: &api,
            route: found.route,
            path,
            parameters: &found.parameters,
            parts: &request.into_parts().0,
            peer: "192.0.2.1:9".parse().expect("an address"),
            now: Timestamp::from_millis(NOW * 1_000),
            request_id: "",
            uuid: "",
            trace_id: "",
        };
        apis.authorize(&incoming, policy.as_ref(), &Bytes::new()).await.err()
    };
    let by_policy = |is_denied: bool| Some(Refusal::Policy { is_denied });
    for (path, expected) in [("/allowed", None), ("/neither", by_policy(false)), ("/denied", by_policy(true))] {
        assert_eq!(refused(path, &good).await, expected, "{path}");
        for other in ["", "x.y.z"] {
            let refused = refused(path, other).await;
            assert!(matches!(refused, Some(Refusal::Token { .. })), "{path} {other}: {refused:?}");
        }
    }
}
