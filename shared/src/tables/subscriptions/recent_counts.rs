//! Counts of audiences that this process has made lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use clock::Timestamp;

use crate::limits::{COUNT_AGE_MAX, COUNTS_KEPT_MAX};

/// How many connections are in an audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    /// Whether it is an estimate.
    pub is_approximate: bool,
}

/// What was counted lately by this process: clients that ask all at once read the first page of an audience once a
/// second, and deliver, which needs it, does not wait for them.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentCounts(Arc<Mutex<HashMap<String, (Timestamp, Counted)>>>);

impl RecentCounts {
    pub(super) fn get(&self, key: &str, now: Timestamp) -> Option<Counted> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(key).filter(|(at, _)| now.since(*at) < COUNT_AGE_MAX).map(|(_, counted)| *counted)
    }

    pub(super) fn keep(&self, key: &str, now: Timestamp, counted: Counted) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTS_KEPT_MAX {
            counts.retain(|_, (at, _)| now.since(*at) < COUNT_AGE_MAX);
        }
        if counts.len() < COUNTS_KEPT_MAX {
            counts.insert(key.to_owned(), (now, counted));
        }
    }
}
