//! Regions, and the audiences that alerts go to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits::{REGION_BYTES_MAX, REGION_BYTES_MIN};

/// The name under which a client subscribes to the alerts of every region.
pub const ALL: &str = "ALL";

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
        "a region has {REGION_BYTES_MIN} to {REGION_BYTES_MAX} letters, digits or hyphens and starts with a letter, such as PL"
    )]
    Malformed,
    /// `ALL` where only one region makes sense.
    #[error("{ALL} stands for every region and can be subscribed to but not published to")]
    All,
}

impl Region {
    /// The upper-case name.
    pub fn as_str(&self) -> &str {
        &self.0
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

/// A set of connections that is kept as one item collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Those who watch one region.
    Region(Region),
    /// Those who watch every region.
    All,
    /// Every connection, whatever it watches.
    Everyone,
}

impl Audience {
    /// The partition key of the audience. No client can name `@everyone`: `@` is not part of a region's name.
    pub fn key(&self) -> &str {
        match self {
            Self::Region(region) => region.as_str(),
            Self::All => ALL,
            Self::Everyone => "@everyone",
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
            Err(InvalidRegion::Malformed) => Err(InvalidRegion::Malformed),
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
    fn absurd_regions_are_refused() {
        let long = "P".repeat(300);
        for absurd in ["", " ", "P", "../x", &long, "P\u{0}L", "P\u{7}", "@everyone", "room#x", "ÄÖ", "ſſ", "1A", "P L"]
        {
            assert_eq!(absurd.parse::<Audience>(), Err(InvalidRegion::Malformed), "{absurd:?}");
        }
        assert_eq!("all".parse::<Region>(), Err(InvalidRegion::All));
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
