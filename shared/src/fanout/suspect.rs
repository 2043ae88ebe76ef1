//! A connection that was said to be gone.

use tokio::time::Instant;

use crate::{
    limits::GONE_AGAIN_AFTER,
    model::{connection::Slot, member::Member},
};

/// A connection that was said to be gone.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) member: Member,
    /// When the first of the answers came that agree.
    pub(super) since: Instant,
    /// How many there are: 1 to 3.
    pub(super) answers: u32,
    /// When it may be asked about again.
    pub(super) due: Instant,
    /// Questions after the first post, whatever the answers were.
    pub(super) asked: u32,
}

impl Suspect {
    /// A member of which a post was just answered that it is gone.
    pub(super) fn new(member: Member) -> Self {
        let now = Instant::now();
        Self { member, since: now, answers: 1, due: now + GONE_AGAIN_AFTER, asked: 0 }
    }

    pub(super) fn hash(&self) -> u32 {
        Slot::of(&self.member.connection).hash()
    }
}
