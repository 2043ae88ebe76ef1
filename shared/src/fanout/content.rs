//! What a fan-out delivers, and to whom.

use clock::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    limits::ROOM_SHARE,
    model::{
        alert::{Alert, Format, Logged, Removal},
        audience::Audience,
        channel,
        room::RoomMessage,
    },
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// An alert, already in the log.
    Alert(Alert),
    /// That an alert was taken back.
    Removal(Removal),
    /// What somebody says in a room.
    RoomMessage(RoomMessage),
}

/// What is published on the Event API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub channel: String,
    /// The very text of the frame that clients of the WebSocket API receive as `viral_alert`.
    pub frame: String,
}

impl From<Logged> for Content {
    fn from(logged: Logged) -> Self {
        match logged {
            Logged::Alert(alert) => Self::Alert(alert),
            Logged::Removed(removal) => Self::Removal(removal),
        }
    }
}

impl Content {
    /// Its unique id.
    pub fn id(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.id,
            Self::Removal(removal) => &removal.id,
            Self::RoomMessage(message) => &message.id,
        }
    }

    /// The region or the room that it is for.
    pub fn place(&self) -> &str {
        match self {
            Self::Alert(alert) => alert.region.as_str(),
            Self::Removal(removal) => removal.region.as_str(),
            Self::RoomMessage(message) => message.room.name(),
        }
    }

    /// The number of the alert in the log of its region.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Alert(alert) => Some(alert.position.seq),
            Self::Removal(removal) => Some(removal.position.seq),
            Self::RoomMessage(_) => None,
        }
    }

    /// What is published of it on the Event API. None of what is said in a room, and of a region without a channel.
    pub fn event(&self) -> Option<Event> {
        let (region, frame) = match self {
            Self::Alert(alert) => (&alert.region, alert.frame(Format::ViralAlert)),
            Self::Removal(removal) => (&removal.region, removal.frame()),
            Self::RoomMessage(_) => return None,
        };
        Some(Event { channel: channel::of_region(region)?, frame })
    }

    /// Whether it is news for those who did not name its region: those who watch all regions, and everyone where nobody
    /// watches.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(self, Self::Alert(Alert { region, .. }) | Self::Removal(Removal { region, .. }) if !region.is_canary())
    }

    /// Who gets it: those who watch its region and those who watch all regions, or everyone; or those who are in its
    /// room.
    pub(super) fn audiences(&self, everyone: bool) -> (Audience, Option<Audience>) {
        match self {
            Self::Alert(Alert { region, .. }) | Self::Removal(Removal { region, .. }) => {
                match (self.is_for_all(), everyone) {
                    (false, _) => (Audience::Region(region.clone()), None),
                    (true, true) => (Audience::Everyone, None),
                    (true, false) => (Audience::Region(region.clone()), Some(Audience::All)),
                }
            }
            Self::RoomMessage(message) => (Audience::Room(message.room.clone()), None),
        }
    }

    /// Whether it is for those alone who receive `viral_alert`. Clients that receive `new_trending` take whatever they
    /// are sent for an alert, so they are not told that one was taken back.
    pub(super) fn is_for_viral_alert_alone(&self) -> bool {
        matches!(self, Self::Removal(_))
    }

    /// Where in the ring it begins, so that the same people are not always last.
    pub(super) fn start(&self) -> u32 {
        let digest = Sha256::digest(self.id());
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    /// Returns the calls per second that its fan-out may make: all of `push_rate` for an alert or a removal, a share of
    /// it for a room message.
    pub(super) fn rate(&self, push_rate: f64) -> f64 {
        match self {
            Self::Alert(_) | Self::Removal(_) => push_rate,
            Self::RoomMessage(_) => push_rate / ROOM_SHARE,
        }
    }

    /// Whether it is too old to deliver.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        matches!(self, Self::RoomMessage(message) if message.until < now)
    }
}
