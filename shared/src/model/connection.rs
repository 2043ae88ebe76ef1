//! Connection ids, and the slots that spread them evenly over an audience.

use std::{fmt, str::FromStr};

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::CONNECTION_ID_BYTES_MAX;

/// The id that API Gateway gives a WebSocket connection: printable ASCII, today 16 characters of URL-safe base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId(String);

/// A connection: its id, and when it began. Both are the same in each of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub id: ConnectionId,
    /// When it began. What is written for it ends by this, so that writing it again changes nothing.
    pub since: Timestamp,
}

/// The text cannot be a connection id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connection id has 1 to {CONNECTION_ID_BYTES_MAX} printable ASCII characters")]
pub struct InvalidConnectionId;

impl ConnectionId {
    /// The id as API Gateway wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConnectionId {
    type Err = InvalidConnectionId;

    fn from_str(text: &str) -> Result<Self, InvalidConnectionId> {
        let well_formed =
            (1..=CONNECTION_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidConnectionId) }
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = InvalidConnectionId;

    fn try_from(text: String) -> Result<Self, InvalidConnectionId> {
        text.parse()
    }
}

impl From<ConnectionId> for String {
    fn from(id: ConnectionId) -> Self {
        id.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sort key of a connection within any audience: eight hexadecimal digits of a hash of the id, then the id.
///
/// Connection ids are ordered in time; the hash makes the keys uniform, so any range of slots is a fair share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(String);

impl Slot {
    /// The slot of a connection, the same in every audience.
    pub fn of(id: &ConnectionId) -> Self {
        let digest = Sha256::digest(id.as_str());
        let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self(format!("{hash:08x}{id}"))
    }

    /// The slot that a stored sort key is. `None` when it does not begin with a hash.
    pub fn of_key(key: &str) -> Option<Self> {
        let hash = key.get(..8)?;
        u32::from_str_radix(hash, 16).is_ok().then(|| Self(key.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the connection of the slot, or `None` if no connection id follows the hash.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.0[8..].parse().ok()
    }

    /// The hash that it begins with: its place in the ring.
    pub fn hash(&self) -> u32 {
        u32::from_str_radix(&self.0[..8], 16).unwrap_or_default()
    }
}

/// A share of the ring of slots, both bounds inclusive, in terms of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRange {
    /// Lowest hash in the range.
    pub first: u32,
    /// Highest hash in the range.
    pub last: u32,
}

impl SlotRange {
    /// All slots there are.
    pub const WHOLE: Self = Self { first: 0, last: u32::MAX };

    /// How many hashes lie in the range.
    pub fn size(self) -> u64 {
        u64::from(self.last) - u64::from(self.first) + 1
    }

    /// Whether a hash lies in the range.
    pub fn contains(self, hash: u32) -> bool {
        (self.first..=self.last).contains(&hash)
    }

    /// The lowest sort key that can lie in the range.
    pub fn lower_key(self) -> String {
        format!("{:08x}", self.first)
    }

    /// A sort key above all that can lie in the range: DEL sorts after every printable character.
    pub fn upper_key(self) -> String {
        format!("{:08x}\u{7f}", self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slot_of_an_id_never_changes() {
        // Stored items carry this key: a different hash would orphan every live subscription at the next deployment.
        let id: ConnectionId = "eHrdFcnvvHcCE-w=".parse().expect("a recorded id");
        assert_eq!(Slot::of(&id).as_str(), "c1df14eeeHrdFcnvvHcCE-w=");
    }

    #[test]
    fn ids_that_cannot_be_are_refused() {
        for bad in ["", "a b", "ä", "a\u{0}", &"x".repeat(CONNECTION_ID_BYTES_MAX + 1)] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(InvalidConnectionId), "{bad:?}");
        }
    }

    #[test]
    fn slots_of_consecutive_ids_are_uniform() {
        let quarter = SlotRange { first: 0, last: u32::MAX / 4 };
        let inside = (0..10_000)
            .map(|n| Slot::of(&format!("Gto47d9-Do{n:05}=").parse().expect("well-formed")))
            .filter(|slot| {
                slot.as_str() >= quarter.lower_key().as_str() && slot.as_str() <= quarter.upper_key().as_str()
            })
            .count();
        assert!((2_300..=2_700).contains(&inside), "{inside} of 10,000 in a quarter of the ring");
    }

    proptest! {
        #[test]
        fn every_slot_lies_in_the_whole_ring(id in "[!-~]{1,128}") {
            let slot = Slot::of(&id.parse().expect("printable"));
            prop_assert!(slot.as_str() >= SlotRange::WHOLE.lower_key().as_str());
            prop_assert!(slot.as_str() <= SlotRange::WHOLE.upper_key().as_str());
        }
    }
}
