//! Regions, rooms, and the audiences that are made of those who watch or join them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::{REGION_BYTES_MAX, REGION_BYTES_MIN, ROOM_BYTES_MAX};

/// The name under which a client subscribes to the alerts of every region.
pub const ALL: &str = "ALL";

/// The region of the synthetic canary. It is not part of `ALL`, its alerts reach only clients that name it, and only
/// the canary publishes to it.
pub const CANARY: &str = "X-CANARY";

/// A region that alerts are published for, such as `PL`: 2 to 16 of `A`-`Z`, `0`-`9` and `-`, the first a letter.
///
/// Parsing trims white space and upper-cases, so `pl`, ` PL ` and `PL` are one region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// Why a text is not the name of a region or an audience.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegion {
    /// Not of the form that region names have.
    #[error(
        "a region has {REGION_BYTES_MIN} to {REGION_BYTES_MAX} letters, digits or hyphens and starts with a letter, \
         such as PL"
    )]
    Malformed,
    /// `ALL` where only one region makes sense.
    #[error("{ALL} stands for every region and can be subscribed to but not published to")]
    All,
    /// The region of the canary where every client would be subscribed to it.
    #[error("{CANARY} is reserved for the synthetic canary")]
    Reserved,
}

impl Region {
    /// The upper-case name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region named [`CANARY`].
    pub fn canary() -> Self {
        Self(CANARY.to_owned())
    }

    /// Whether this is the region of the synthetic canary.
    pub fn is_canary(&self) -> bool {
        self.0 == CANARY
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        let name = text.trim().to_ascii_uppercase();
        let well_formed = (REGION_BYTES_MIN..=REGION_BYTES_MAX).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
        match (well_formed, name.as_str()) {
            (false, _) => Err(InvalidRegion::Malformed),
            (true, ALL) => Err(InvalidRegion::All),
            (true, _) => Ok(Self(name)),
        }
    }
}

impl TryFrom<String> for Region {
    type Error = InvalidRegion;

    fn try_from(text: String) -> Result<Self, InvalidRegion> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room in which clients speak to each other: 1 to 64 bytes without control characters, case and all. White space
/// around the name does not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Room {
    /// The partition key: a prefix and the name.
    key: String,
}

/// What the partition keys of rooms begin with. No region's name contains `#`.
const ROOM_PREFIX: &str = "room#";

/// A text that is not the name of a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room has a name of 1 to {ROOM_BYTES_MAX} bytes without control characters, such as general")]
pub struct InvalidRoom;

impl Room {
    pub fn name(&self) -> &str {
        &self.key[ROOM_PREFIX.len()..]
    }

    /// The room that a partition key is of, if it is of one.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        key.strip_prefix(ROOM_PREFIX)?.parse().ok()
    }
}

/// The room of those who name none.
impl Default for Room {
    fn default() -> Self {
        Self { key: format!("{ROOM_PREFIX}global") }
    }
}

impl FromStr for Room {
    type Err = InvalidRoom;

    fn from_str(text: &str) -> Result<Self, InvalidRoom> {
        let name = text.trim();
        let well_formed = (1..=ROOM_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if well_formed { Ok(Self { key: format!("{ROOM_PREFIX}{name}") }) } else { Err(InvalidRoom) }
    }
}

impl TryFrom<String> for Room {
    type Error = InvalidRoom;

    fn try_from(text: String) -> Result<Self, InvalidRoom> {
        text.parse()
    }
}

impl From<Room> for String {
    fn from(room: Room) -> Self {
        room.name().to_owned()
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place from which there are so many connections at once: an address or a user. It holds the partition key of their
/// seats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionQuotaKey(String);

/// What the keys of addresses begin with.
const ADDRESS_PREFIX: &str = "@address#";

/// What the keys of users begin with.
const USER_PREFIX: &str = "@user#";

impl ConnectionQuotaKey {
    /// Those of an address. Of IPv6 the first 64 bits count: any host has all that begin with them.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(format!("{ADDRESS_PREFIX}{address}")),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(format!("{ADDRESS_PREFIX}{a:x}:{b:x}:{c:x}:{d:x}::/64"))
            }
        }
    }

    /// Those of a user, by the subject of the token. It may be long, and is nobody's business: a hash stands for it.
    pub fn of_user(subject: &str) -> Self {
        Self(format!("{USER_PREFIX}{}", short_digest(subject)))
    }

    /// The partition key of its seats.
    pub fn key(&self) -> &str {
        &self.0
    }

    /// The source that a partition key is of, if it is of one.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        (key.starts_with(ADDRESS_PREFIX) || key.starts_with(USER_PREFIX)).then(|| Self(key.to_owned()))
    }
}

/// Half of the SHA-256 of a text, as hexadecimal digits: a key of one length for texts of any.
pub(crate) fn short_digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

/// A set of connections that is kept as one item collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Those who watch one region.
    Region(Region),
    /// Those who watch every region.
    All,
    /// Every connection, whatever it watches.
    Everyone,
    /// Those who are in a room.
    Room(Room),
}

impl Audience {
    /// The partition key of the audience. No client can name `@everyone`: `@` is not part of a region's name.
    pub fn key(&self) -> &str {
        match self {
            Self::Region(region) => region.as_str(),
            Self::All => ALL,
            Self::Everyone => "@everyone",
            Self::Room(room) => &room.key,
        }
    }
}

/// Parses what a client may subscribe to: a region, or `ALL`.
impl FromStr for Audience {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, InvalidRegion> {
        match text.parse() {
            Ok(region) => Ok(Self::Region(region)),
            Err(InvalidRegion::All) => Ok(Self::All),
            Err(invalid) => Err(invalid),
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_region_are_one_region() {
        for spelling in ["pl", " PL ", "PL", "\tPl\n"] {
            assert_eq!(spelling.parse::<Region>().expect(spelling).as_str(), "PL");
        }
        assert_eq!(" all ".parse::<Audience>(), Ok(Audience::All));
    }

    #[test]
    fn the_region_of_the_canary_is_a_name_that_clients_can_subscribe_to() {
        assert_eq!(" x-canary ".parse::<Region>(), Ok(Region::canary()));
        assert!(Region::canary().is_canary());
        assert!(!"X-CANARY2".parse::<Region>().expect("a region").is_canary());
    }

    #[test]
    fn absurd_regions_are_refused() {
        let long = "P".repeat(300);
        for absurd in ["", " ", "P", "../x", &long, "P\u{0}L", "P\u{7}", "@everyone", "room#x", "ÄÖ", "ſſ", "1A", "P L"]
        {
            assert_eq!(absurd.parse::<Audience>(), Err(InvalidRegion::Malformed), "{absurd:?}");
        }
        assert_eq!("all".parse::<Region>(), Err(InvalidRegion::All));
    }

    #[test]
    fn a_room_is_what_its_name_says_and_no_region() {
        for (text, name) in [(" general ", "general"), ("Sala główna", "Sala główna"), ("a#b", "a#b"), ("@x", "@x")]
        {
            let room: Room = text.parse().expect(text);
            assert_eq!((room.name(), Room::of_key(Audience::Room(room.clone()).key())), (name, Some(room.clone())));
            assert_eq!(serde_json::to_string(&room).expect("a text"), format!("{name:?}"));
        }
        for absurd in ["", "  ", "a\u{0}b", "a\nb", &"x".repeat(ROOM_BYTES_MAX + 1)] {
            assert_eq!(absurd.parse::<Room>(), Err(InvalidRoom), "{absurd:?}");
        }
        assert_eq!(Room::of_key("PL"), None);
        assert_eq!(Room::default().name(), "global");
    }

    #[test]
    fn hosts_of_one_network_come_from_one_place() {
        let key = |address: &str| ConnectionQuotaKey::of_address(address.parse().expect(address)).key().to_owned();
        assert_eq!(key("203.0.113.7"), "@address#203.0.113.7");
        assert_eq!(key("::ffff:203.0.113.7"), key("203.0.113.7"));
        assert_eq!(key("2001:db8:0:1::5"), key("2001:db8:0:1:ffff::"));
        assert_ne!(key("2001:db8:0:1::5"), key("2001:db8:0:2::5"));
        assert_ne!(ConnectionQuotaKey::of_user("a"), ConnectionQuotaKey::of_user("b"));
    }

    proptest! {
        #[test]
        fn a_parsed_region_is_stable_and_never_collides_with_another_audience(text in "\\PC{0,20}") {
            if let Ok(region) = text.parse::<Region>() {
                prop_assert_eq!(region.as_str().parse::<Region>(), Ok(region.clone()));
                let audience = Audience::Region(region);
                prop_assert_ne!(audience.key(), Audience::All.key());
                prop_assert_ne!(audience.key(), Audience::Everyone.key());
            }
        }
    }
}
