//! Which way a title runs.

use serde::{Deserialize, Serialize};
use unicode_bidi::{BidiClass, bidi_class};

use crate::model::audience::Region;

/// Direction of a text, as the HTML attribute `dir` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Ltr,
    Rtl,
}

/// Regions whose main script runs from right to left: the tie-breaker for a title without any letter.
const RTL_REGIONS: [&str; 20] = [
    "AE", "BH", "DZ", "EG", "IL", "IQ", "IR", "JO", "KW", "LB", "LY", "MA", "OM", "PK", "PS", "QA", "SA", "SY", "TN",
    "YE",
];

/// Direction of `title` by its first strong character (Unicode bidirectional algorithm, rule P2), else by `region`.
pub fn of_title(title: &str, region: &Region) -> Direction {
    title
        .chars()
        .find_map(|character| match bidi_class(character) {
            BidiClass::L => Some(Direction::Ltr),
            BidiClass::R | BidiClass::AL => Some(Direction::Rtl),
            _ => None,
        })
        .unwrap_or_else(|| if RTL_REGIONS.contains(&region.as_str()) { Direction::Rtl } else { Direction::Ltr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_strong_character_decides_and_the_region_breaks_ties() {
        let check = |title: &str, region: &str, expected| {
            let region = region.parse().expect("a region");
            assert_eq!(of_title(title, &region), expected, "{title:?} in {region}");
        };
        check("שיר חדש", "DE", Direction::Rtl);
        check("New song", "AE", Direction::Ltr);
        check("أغنية جديدة", "AE", Direction::Rtl);
        check("😂😂 123 … مرحبا", "US", Direction::Rtl);
        check("#1 Přípravy", "CZ", Direction::Ltr);
        check("新しい", "JP", Direction::Ltr);
        check("😂 100%", "AE", Direction::Rtl);
        check("😂 100%", "PL", Direction::Ltr);
        check("", "IL", Direction::Rtl);
    }
}
