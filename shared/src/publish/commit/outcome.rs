//! What publications come to.

use super::recent::StandingAlert;
use crate::{
    error::Decision,
    model::alert::{Alert, Logged},
};

/// What became of a publication in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// What is in the log: the new alert, or the one that an earlier publication with the same key made, or what is
    /// left of that.
    pub logged: Logged,
    /// Whether an earlier publication made it.
    pub duplicate: bool,
    /// Whether its fan-out has been started, or must not be, because it was taken back.
    pub dispatched: bool,
    /// Whether clients that subscribe are told of it, without which it must not be dispatched.
    pub is_shown: bool,
    /// How many the fan-out before it found in the audience, as an estimate. None for the first alert of a region,
    /// and for one that an earlier publication made.
    pub audience: Option<u64>,
}

impl Committed {
    /// One that has just been committed.
    pub(super) fn new(alert: Alert, audience: Option<u64>) -> Self {
        let logged = Logged::Alert(alert);
        Self { logged, duplicate: false, dispatched: false, is_shown: false, audience }
    }
}

/// What became of a publication that is valid.
#[derive(Clone, Debug, PartialEq)]
pub enum CommitOutcome {
    /// It is in the log.
    Committed(Committed),
    /// It is not, and will not be: this alert of the same video stands.
    RecentlyAlerted(StandingAlert),
}

impl CommitOutcome {
    /// What is in the log, if anything is.
    pub fn committed(self) -> Option<Committed> {
        match self {
            Self::Committed(committed) => Some(committed),
            Self::RecentlyAlerted(_) => None,
        }
    }
}

/// What a publication came to: an outcome; refused; or failed, and then it is not in the log and never will be.
pub type Commit = Decision<CommitOutcome>;
