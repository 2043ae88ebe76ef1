//! Who may connect, subscribe and read with `Authorization=required`.

use std::time::UNIX_EPOCH;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    history::alert,
    site::{Site, run},
};
use clock::system_time;

pub(crate) const SECRET: &str = "a secret of thirty-two bytes, as every secret should be";
pub(crate) const PARAMETER: &str = "/viral-alerts/token";

/// Returns the seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let now = system_time().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("not that late")
}

/// Makes a token for some regions that is valid for this many seconds.
fn token(regions: &[&str], secs: i64) -> String {
    token_of(json!({"exp": now() + secs, "regions": regions}))
}

/// Makes a token with more claims, of `user-1` unless they name another user.
pub(crate) fn token_of(more: Value) -> String {
    let encoded = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mut claims = json!({"sub": "user-1", "iss": "tests", "aud": "alerts", "exp": now() + 60});
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let message = format!("{}.{}", encoded(json!({"alg": "HS256"})), encoded(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

async fn site(authorization: &str) -> Site {
    site_with(authorization, &[(PARAMETER, SECRET)]).await
}

async fn site_with(authorization: &str, secrets: &[(&str, &str)]) -> Site {
    site_of(&[("Authorization", authorization)], secrets).await
}

/// Starts the service with tokens required and other parameters.
pub(crate) async fn tokens_and(parameters: &[(&str, &str)]) -> Site {
    tokens_and_secrets(parameters, &[]).await
}

/// The same with other secrets, too.
pub(crate) async fn tokens_and_secrets(parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Site {
    let required = [("Authorization", "required")];
    site_of(&[&required[..], parameters].concat(), &[&[(PARAMETER, SECRET)], secrets].concat()).await
}

async fn site_of(parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Site {
    let of_tokens = [
        ("TokenSecretParameter", PARAMETER),
        ("TokenIssuer", "tests"),
        ("TokenAudience", "alerts"),
        ("DefaultRegion", "ALL"),
    ];
    Site::with_secrets(&[&of_tokens[..], parameters].concat(), secrets).await
}

async fn status(site: &Site, query: &str) -> Option<u16> {
    site.try_connect(&format!("/prod{query}"), &[]).await.err()
}

#[test]
fn without_a_valid_token_nobody_connects() {
    run(async {
        let site = site("required").await;
        assert_eq!(status(&site, "").await, Some(401));
        assert_eq!(status(&site, "?token=").await, Some(401));
        assert_eq!(status(&site, "?token=nonsense").await, Some(401));
        assert_eq!(status(&site, &format!("?token={}", token(&["PL"], -120))).await, Some(401), "expired");
        assert_eq!(status(&site, &format!("?token={}x", token(&["PL"], 60))).await, Some(401), "changed");
        assert!(site.subscriptions().await.is_empty(), "who is refused leaves nothing");
        let mut client = site.connect(&format!("/prod?token={}", token(&["PL"], 60))).await;
        client.subscribe("PL").await;
    });
}

#[test]
fn a_token_may_come_as_a_subprotocol_and_only_the_other_one_is_answered() {
    run(async {
        let site = site("required").await;
        let offered = format!("viral-alerts, bearer.{}", token(&["PL"], 60));
        // The client itself ends a connection if the answer has none of its subprotocols.
        let client = site.try_connect("/prod", &[("sec-websocket-protocol", &offered)]).await;
        client.expect("let in").subscribe("PL").await;
        let bad = [("sec-websocket-protocol", "viral-alerts, bearer.x")];
        assert_eq!(site.try_connect("/prod", &bad).await.err(), Some(401));
    });
}

#[test]
fn regions_outside_of_the_token_are_refused_at_connect_and_in_every_message() {
    run(async {
        let site = site("required").await;
        let token = token(&["PL", "E*"], 60);
        for (region, expected) in [("PL", None), ("EU", None), ("DE", Some(403)), ("ALL", Some(403))] {
            assert_eq!(status(&site, &format!("?token={token}&region={region}")).await, expected, "{region}");
        }
        // The token does not allow the default region, ALL.
        let mut client = site.connect(&format!("/prod?token={token}")).await;
        let subscribe = |region: Value| json!({"type": "subscribe_region", "region": region});
        for _ in 0..2 {
            let answer = client.ask(&subscribe(json!("DE"))).await;
            assert_eq!(
                (&answer["type"], &answer["code"], &answer["field"], &answer["retryable"]),
                (&json!("error"), &json!("forbidden"), &json!("region"), &json!(false)),
                "{answer}"
            );
        }
        let answer = client.ask(&json!({"type": "subscribe_region", "regions": ["PL", "ALL"]})).await;
        assert_eq!((&answer["code"], &answer["field"]), (&json!("forbidden"), &json!("regions")));
        client.subscribe("EU").await;
        site.publish(&alert("DE")).await;
        client.expect_nothing().await;
        site.publish(&alert("EU")).await;
        assert_eq!(client.json().await["region"], "EU");

        // Messages that name other regions get nothing of them.
        let start = json!({"epoch": 0, "seq": 0});
        let since = json!({"EU": start, "DE": start});
        for kind in ["keepalive", "subscribe_region"] {
            let answer = client.ask(&json!({"type": kind, "regions": ["EU", "DE"], "since": since})).await;
            assert_eq!((&answer["code"], &answer["field"]), (&json!("forbidden"), &json!("regions")), "{kind}");
            let answer = client.ask(&json!({"type": kind, "regions": ["EU"], "since": since})).await;
            assert!(!answer.to_string().contains("DE"), "{answer}");
            assert!(answer["behind"] == json!(["EU"]) || answer["alerts"][0]["region"] == "EU", "{answer}");
        }
    });
}

#[test]
fn an_optional_token_limits_those_who_bring_one() {
    run(async {
        let site = site("optional").await;
        let mut anonymous = site.connect("/prod").await;
        anonymous.subscribe("DE").await;
        assert_eq!(status(&site, "?token=nonsense").await, Some(401));
        assert_eq!(status(&site, &format!("?token={}&region=DE", token(&["PL"], 60))).await, Some(403));
    });
}

#[test]
fn alerts_are_read_over_http_with_the_same_token() {
    run(async {
        let site = site("required").await;
        site.publish(&alert("PL")).await;
        let bearer = format!("Bearer {}", token(&["PL"], 60));
        let read = |region: &'static str, header: Option<String>| {
            let site = &site;
            async move {
                let header = header.unwrap_or_default();
                let headers = [("authorization", header.as_str())];
                let headers = if header.is_empty() { &[][..] } else { &headers[..] };
                site.request("GET", &format!("/alerts?region={region}"), headers).await
            }
        };
        for (region, header, expected, code) in [
            ("PL", None, 401, "unauthorized"),
            ("PL", Some("Bearer x".to_owned()), 401, "unauthorized"),
            ("PL,DE", Some(bearer.clone()), 403, "forbidden"),
            ("ALL", Some(bearer.clone()), 403, "forbidden"),
        ] {
            let answer = read(region, header).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (expected, &json!(code)), "{region}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
        let answer = read("PL", Some(bearer)).await;
        assert_eq!((answer.status, answer.json()["alerts"].as_array().map(Vec::len)), (200, Some(1)));
        assert_eq!(answer.header("cache-control"), "private, max-age=1", "not for others");
        let (status, _) = site.get(&format!("/alerts?region=PL&token={}", token(&["PL"], 60))).await;
        assert_eq!(status, 200);
    });
}

#[test]
fn an_event_source_outlives_a_moment_in_which_tokens_cannot_be_checked() {
    run(async {
        let site = site_with("required", &[]).await;
        let path = format!("/alerts?region=PL&token={}", token(&["PL"], 60));
        let stream = site.request("GET", &path, &[("accept", "text/event-stream")]).await;
        assert_eq!((stream.status, stream.body.as_str()), (200, "retry: 3000\n\n"));
        assert_eq!(site.get(&path).await.0, 503);
    });
}

#[test]
fn without_tokens_it_is_said_that_anybody_may_connect() {
    run(async {
        let says = |site: &Site| site.notes.iter().any(|note| note.starts_with("anybody may connect"));
        assert!(says(&Site::start().await));
        assert!(!says(&site("required").await));
    });
}

#[test]
fn pages_of_listed_origins_connect_and_others_do_not() {
    run(async {
        let site = Site::with(&[("AllowedOrigins", "https://a.example,https://b.example")]).await;
        for (origin, expected) in [
            ("https://a.example", None),
            ("https://b.example", None),
            ("https://c.example", Some(403)),
            ("null", Some(403)),
        ] {
            assert_eq!(site.try_connect("/prod", &[("origin", origin)]).await.err(), expected, "{origin}");
        }
        assert!(site.try_connect("/prod", &[]).await.is_ok(), "no browser");
        let open = Site::start().await;
        assert!(open.try_connect("/prod", &[("origin", "https://c.example")]).await.is_ok(), "an empty list");
    });
}

/// Returns the headers of a request that is signed as Standard Webhooks says.
pub(crate) fn signed(id: &str, at: i64, body: &str, secret: &[u8]) -> [(&'static str, String); 3] {
    let message = format!("{id}.{at}.{body}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(signature));
    [("webhook-id", id.to_owned()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signature)]
}

async fn post_webhook(site: &Site, headers: &[(&'static str, String)], body: &str) -> (u16, Value) {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    site.post("/webhook", &headers, body.to_owned()).await
}

#[test]
fn a_webhook_publishes_when_it_is_signed_and_once() {
    run(async {
        let (old, new) = ([7_u8; 24], [8_u8; 24]);
        let both = format!("whsec_{} whsec_{}", BASE64_STANDARD.encode(old), BASE64_STANDARD.encode(new));
        let parameters = [("WebhookSecretParameter", "/viral-alerts/webhook")];
        let site = Site::with_secrets(&parameters, &[("/viral-alerts/webhook", &both)]).await;
        let body = alert("PL").to_string();
        let now = now();
        for (id, secret) in [("msg_1", old), ("msg_2", new)] {
            let (status, answer) = post_webhook(&site, &signed(id, now, &body, &secret), &body).await;
            assert_eq!((status, &answer["published"]), (200, &json!(true)), "{answer}");
        }
        let mut replayed = signed("msg_1", now, &body, &old).to_vec();
        replayed.push(("idempotency-key", "another".to_owned()));
        let (_, answer) = post_webhook(&site, &replayed, &body).await;
        assert_eq!(answer["duplicate"], true, "a header that is not signed does not make it another one");
        for (headers, body) in [
            (signed("msg_3", now, &body, &[9; 24]), body.clone()),
            (signed("msg_3", now - 301, &body, &old), body.clone()),
            (signed("msg_3", now, &body, &old), alert("DE").to_string()),
        ] {
            let (status, answer) = post_webhook(&site, &headers, &body).await;
            assert_eq!((status, &answer["error"]["code"]), (401, &json!("unauthorized")), "{answer}");
        }
        assert_eq!(post_webhook(&site, &[], &body).await.0, 401);
        let (_, log) = site.get("/alerts?region=PL,DE").await;
        assert_eq!(log["alerts"].as_array().map(Vec::len), Some(2), "{log}");
    });
}

#[test]
fn without_a_secret_every_webhook_is_refused() {
    run(async {
        let site = Site::start().await;
        let body = alert("PL").to_string();
        let (status, answer) = post_webhook(&site, &signed("msg_1", now(), &body, b""), &body).await;
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("unauthorized")), "{answer}");
    });
}
