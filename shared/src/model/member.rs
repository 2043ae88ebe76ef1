//! The members of an audience, and pages of them.

use clock::Timestamp;

use crate::model::{
    alert::Format,
    connection::{ConnectionId, Slot},
};

/// One connection in an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub connection: ConnectionId,
    pub format: Format,
    /// When the connection began.
    pub since: Timestamp,
}

/// A part of an audience, in ascending order of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudiencePage {
    pub members: Vec<Member>,
    /// Where the next page begins: after this slot. None on the last page.
    pub next: Option<Slot>,
}
