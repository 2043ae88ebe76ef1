//! What one invocation of deliver does.

use clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{error::Failure, fanout::content::Content, limits::CHAIN_MAX, model::connection::SlotRange};

/// What one invocation of deliver does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What is delivered.
    #[serde(flatten)]
    pub content: Content,
    /// When the fan-out was started: of an alert, right after the commit.
    pub dispatched_at: Timestamp,
    /// Its part of the fan-out. None for the invocation that divides it.
    #[serde(default)]
    pub part: Option<Part>,
    /// Invocations of this function before it in the chain that led to it.
    #[serde(default)]
    pub chain: u32,
    /// When it was taken out of the queue of what failed for good, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
}

/// A part of a fan-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which slots, in the order in which they are reached.
    pub ranges: Vec<SlotRange>,
    /// Calls of the management API per second that it may make.
    pub rate: f64,
    /// Whether it goes to everyone, instead of to those who watch the region or all regions.
    pub everyone: bool,
}

/// Lambda would take the next invocation for a loop.
#[derive(Debug, thiserror::Error)]
#[error("{CHAIN_MAX} invocations in a row did not reach everyone; the push rate is too low for this audience")]
struct ChainTooLong;

impl Task {
    /// The task that shares this one's work, or goes on with it.
    pub(super) fn followed_by(&self, part: Part) -> Result<Self, Failure> {
        let chain = self.chain + 1;
        if chain >= CHAIN_MAX {
            return Err(Failure::new("handing over the rest of a fan-out", ChainTooLong));
        }
        Ok(Self { part: Some(part), chain, ..self.clone() })
    }
}
