//! The smaller services: SQS, Parameter Store, and an issuer of tokens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use shared::model::audience::CANARY;
use tokio::time::{Instant, sleep};

use crate::{
    base64url,
    client::{Call, Reply},
    cloud::{CANARY_TOKEN_PARAMETER, Cloud, FunctionName, TOKEN_END_S, TOKEN_ISSUER, lock},
};

/// What tokens are signed with where there is no issuer.
const SECRET: &str = "a secret of thirty-two bytes, as every secret should be";

/// The seed of the issuer's key.
const KEY: [u8; 32] = [7; 32];

/// The queues of dead letters.
#[derive(Default)]
pub(super) struct Queues {
    messages: BTreeMap<&'static str, Vec<Message>>,
    sent: u64,
    /// Alerts of which a part of the fan-out was a dead letter: region and number.
    undelivered: BTreeSet<(String, u64)>,
}

struct Message {
    id: u64,
    body: String,
    visible_at: Instant,
    /// It was refused by a limit, which redriving it does not lift.
    is_over_limit: bool,
}

/// What is wrong with a token beside its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    None,
    /// Somebody else has signed it.
    Signature,
}

/// Makes a token of claims.
///
/// # Panics
///
/// If the key cannot be made, which is a constant.
pub fn token(claims: &Value, has_issuer: bool, forgery: Forgery) -> String {
    let of_others = u8::from(forgery == Forgery::Signature);
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    let mut claims = claims.clone();
    if has_issuer {
        (claims["iss"], claims["aud"]) = (json!(TOKEN_ISSUER), json!("viral-alerts"));
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": "1", "typ": "JWT"})), part(&claims));
        let key = Ed25519KeyPair::from_seed_unchecked(&KEY.map(|byte| byte + of_others)).expect("a key");
        return format!("{signed}.{}", base64url(key.sign(signed.as_bytes()).as_ref()));
    }
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET.as_bytes()[of_others.into()..]);
    format!("{signed}.{}", base64url(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

/// The queue whose address ends with a name.
fn queue_of(url: &str) -> &'static str {
    if url.ends_with("/undelivered") { "undelivered" } else { "unpublished" }
}

impl Cloud {
    /// Parameter Store's answer.
    pub(super) fn parameter(&self, call: &Call) -> Reply {
        if self.chance("parameters", self.weather().failed_secrets) {
            return Reply::error(500, "InternalServerError", "sorry");
        }
        let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        if asked["Name"] == CANARY_TOKEN_PARAMETER {
            let claims = json!({"exp": TOKEN_END_S, "regions": [CANARY]});
            return Reply::json(&json!({"Parameter": {"Value": token(&claims, true, Forgery::None)}}));
        }
        Reply::json(&json!({"Parameter": {"Value": SECRET}}))
    }

    /// The issuer's answer.
    pub(super) fn issuer(&self, path: &str) -> Reply {
        if self.chance("issuer", self.weather().failed_secrets) {
            return Reply { status: 500, body: b"sorry".to_vec() };
        }
        if path != "/keys" {
            return Reply { status: 404, body: path.as_bytes().to_vec() };
        }
        let key = Ed25519KeyPair::from_seed_unchecked(&KEY).expect("a key");
        let x = base64url(key.public_key().as_ref());
        Reply::json(
            &json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig", "alg": "EdDSA", "x": x}]}),
        )
    }

    /// Keeps what a function has failed on for good.
    pub(super) fn dead_letter(&self, function: FunctionName, event: &[u8], request_id: &str, error: &str) {
        let name = match function {
            FunctionName::Deliver => "undelivered",
            FunctionName::Publish => "unpublished",
            _ => return,
        };
        self.note(|| format!("a dead letter of {function}: {error}"));
        let event: Value = serde_json::from_slice(event).unwrap_or_default();
        let content = if event["removal"].is_object() { &event["removal"] } else { &event["alert"] };
        if event["part"]["events"] == true {
            self.note_event_given_up(&event);
        } else if let (Some(region), Some(seq)) = (content["region"].as_str(), content["seq"].as_u64()) {
            lock(&self.queues).undelivered.insert((region.to_owned(), seq));
        }
        let record = json!({
            "version": "1.0",
            "requestContext": {"requestId": request_id, "condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": event,
        });
        let mut queues = lock(&self.queues);
        queues.sent += 1;
        let id = queues.sent;
        let is_over_limit = error.contains("RateLimited");
        let message = Message { id, body: record.to_string(), visible_at: Instant::now(), is_over_limit };
        queues.messages.entry(name).or_default().push(message);
    }

    /// Whether a part of the fan-out of an alert was a dead letter.
    pub fn was_undelivered(&self, region: &str, seq: u64) -> bool {
        lock(&self.queues).undelivered.contains(&(region.to_owned(), seq))
    }

    /// Whether an event with a publication of a video is a dead letter.
    pub fn is_dead_letter(&self, video: &str) -> bool {
        let named = json!(video).to_string();
        lock(&self.queues).messages.get("unpublished").is_some_and(|all| all.iter().any(|it| it.body.contains(&named)))
    }

    /// Dead letters that nobody has driven again, without those that a limit refuses.
    pub fn dead_letters(&self) -> usize {
        lock(&self.queues).messages.values().flatten().filter(|message| !message.is_over_limit).count()
    }

    pub(super) async fn queue(self: &Arc<Self>, call: &Call) -> Reply {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let name = queue_of(body["QueueUrl"].as_str().unwrap_or_default());
        if call.operation == "DeleteMessage" {
            let receipt = body["ReceiptHandle"].as_str().and_then(|receipt| receipt.parse::<u64>().ok());
            lock(&self.queues).messages.entry(name).or_default().retain(|message| Some(message.id) != receipt);
            return Reply::json(&json!({}));
        }
        let most = usize::try_from(body["MaxNumberOfMessages"].as_u64().unwrap_or(1)).unwrap_or(1);
        let visible_at = Instant::now() + Duration::from_secs(body["VisibilityTimeout"].as_u64().unwrap_or(30));
        let mut found = Vec::new();
        let now = Instant::now();
        for message in lock(&self.queues).messages.entry(name).or_default() {
            if message.visible_at <= now && found.len() < most {
                message.visible_at = visible_at;
                let id = message.id.to_string();
                found.push(json!({"MessageId": id, "ReceiptHandle": id, "Body": message.body}));
            }
        }
        if found.is_empty() {
            sleep(Duration::from_secs(body["WaitTimeSeconds"].as_u64().unwrap_or_default())).await;
        }
        Reply::json(&json!({"Messages": found}))
    }
}
