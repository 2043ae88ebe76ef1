//! Answers of a Lambda authorizer that are kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{credentials::Operation, limits::ANSWERS_MAX};

/// For what an answer is kept: operation, channel and a hash of the token, which may be long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    operation: &'static str,
    channel: Option<String>,
    token: [u8; 32],
}

impl AnswerKey {
    pub(super) fn new(operation: Operation<'_>, token: &str) -> Self {
        let channel = operation.channel.map(str::to_owned);
        Self { operation: operation.name, channel, token: Sha256::digest(token.as_bytes()).into() }
    }
}

/// The answers of an authorizer that are kept, with the time at which they end.
#[derive(Debug, Default)]
pub(super) struct KeptAnswers(Mutex<HashMap<AnswerKey, (Option<Value>, Timestamp)>>);

impl KeptAnswers {
    /// The answer that is kept: the context for handlers, or none of a refusal.
    pub(super) fn get(&self, key: &AnswerKey, now: Timestamp) -> Option<Option<Value>> {
        self.lock().get(key).filter(|(_, ends)| now < *ends).map(|(context, _)| context.clone())
    }

    /// Keeps an answer for a time.
    pub(super) fn keep(&self, key: AnswerKey, context: Option<Value>, ttl: Duration, now: Timestamp) {
        if ttl.is_zero() {
            return;
        }
        let mut answers = self.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (_, ends)| now < *ends);
        }
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(key, (context, now.after(ttl)));
    }

    /// Forgets all of them.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Ignores poisoning: each operation leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<AnswerKey, (Option<Value>, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(token: &str) -> AnswerKey {
        AnswerKey::new(Operation { name: "EVENT_CONNECT", namespace: None, channel: None }, token)
    }

    #[test]
    fn kept_answers_end_and_their_number_is_bounded() {
        let (kept, now) = (KeptAnswers::default(), Timestamp::from_millis(1_000_000));
        kept.keep(key("a"), Some(Value::from(1)), Duration::from_secs(60), now);
        kept.keep(key("b"), None, Duration::ZERO, now);
        assert_eq!((kept.get(&key("a"), now), kept.get(&key("b"), now)), (Some(Some(Value::from(1))), None));
        assert_eq!(kept.get(&key("a"), now.after(Duration::from_secs(60))), None);
        for n in 0..2 * ANSWERS_MAX {
            kept.keep(key(&n.to_string()), None, Duration::from_secs(60), now);
        }
        assert!(kept.lock().len() <= ANSWERS_MAX, "{}", kept.lock().len());
    }
}
