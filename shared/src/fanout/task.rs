//! What one invocation of deliver does.

use clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::InternalError, fanout::content::Content, limits::INVOCATION_DEPTH_MAX, model::connection::SlotRange,
};

/// What one invocation of deliver does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FanoutTask {
    #[serde(flatten)]
    pub content: Content,
    /// When the fan-out was started: of an alert, right after the commit.
    pub dispatched_at: Timestamp,
    /// Its part of the fan-out. None for the invocation that divides it.
    #[serde(default)]
    pub part: Option<FanoutPart>,
    /// Number of invocations of deliver in the chain that led to this one.
    #[serde(default, rename = "chain")]
    pub depth: u32,
    /// When it was redriven from the dead-letter queue, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven_at: Option<Timestamp>,
}

/// A part of a fan-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FanoutPart {
    /// Which slots, in the order in which they are reached.
    pub ranges: Vec<SlotRange>,
    /// Calls of the management API per second that the part may make: see `plan::share`.
    pub rate: f64,
    /// Whether it goes to everyone, instead of to those who watch the region or all regions.
    pub everyone: bool,
    /// Whether it is what the Event API did not take, and no part of the ring. A function that does not know the Event
    /// API finds no ranges in it, and posts nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub events: bool,
}

/// The chain of invocations is so long that Lambda would take the next one for a loop.
#[derive(Debug, thiserror::Error)]
#[error(
    "{INVOCATION_DEPTH_MAX} invocations in a row did not reach everyone; the push rate is too low for this audience"
)]
struct InvocationDepthExceeded;

impl FanoutTask {
    /// Whether the Event API alone is left to publish it on.
    pub fn is_for_events_alone(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.events)
    }

    /// The task of another invocation that publishes this one's content on the Event API.
    pub fn for_events_alone(&self) -> Self {
        let part = FanoutPart { ranges: Vec::new(), rate: 0.0, everyone: false, events: true };
        Self { part: Some(part), depth: self.depth + 1, ..self.clone() }
    }

    /// The task that shares this one's work, or goes on with it.
    pub(super) fn followed_by(&self, part: FanoutPart) -> Result<Self, InternalError> {
        let depth = self.depth + 1;
        if depth >= INVOCATION_DEPTH_MAX {
            return Err(InternalError::new("handing over the rest of a fan-out", InvocationDepthExceeded));
        }
        Ok(Self { part: Some(part), depth, ..self.clone() })
    }
}
