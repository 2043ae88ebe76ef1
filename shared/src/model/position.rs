//! Positions of a client in the logs of regions: as a message states them in `since`, and as a cursor.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    error::{ApiError, Code},
    limits::REGIONS_OF_ALL_MAX,
    model::{
        alert::{Logged, Position},
        audience::{Audience, Region},
    },
};

/// One position for each of several regions, at most [`REGIONS_OF_ALL_MAX`] when read from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Positions(BTreeMap<Region, Position>);

impl Positions {
    /// The position of a region, if it is named.
    pub fn get(&self, region: &Region) -> Option<Position> {
        self.0.get(region).copied()
    }

    /// Sets the position of a region.
    pub fn set(&mut self, region: Region, position: Position) {
        self.0.insert(region, position);
    }

    /// The regions that are named, ascending.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.0.keys()
    }

    /// Reads the field `since` of a message about `audiences`: one position if they are one region, and otherwise an
    /// object of positions by region.
    ///
    /// # Errors
    ///
    /// `missing_field`, `invalid_field` or `invalid_region`, with the field.
    pub fn of_message(since: &Value, audiences: &[Audience]) -> Result<Self, ApiError> {
        let Value::Object(fields) = since else {
            return Err(invalid("since", "since must be a position or an object of positions by region"));
        };
        // The values of a map are objects, also where a region has such a name.
        let is_position = ["epoch", "seq"].iter().any(|name| fields.get(*name).is_some_and(|value| !value.is_object()));
        match audiences {
            [Audience::Region(region)] if is_position => {
                Ok(Self::from_iter([(region.clone(), position(fields, "since")?)]))
            }
            _ if is_position => {
                Err(invalid("since", "with several regions or ALL, since must be an object of positions by region"))
            }
            [Audience::Region(region)] => {
                let positions = Self::by_region(fields)?;
                // Whoever names other regions alone is not told that nothing was missed.
                let field = format!("since.{region}");
                let missing = || ApiError::of_field(Code::MissingField, &field, format!("{field} is missing"));
                positions.get(region).ok_or_else(missing)?;
                Ok(positions)
            }
            _ => Self::by_region(fields),
        }
    }

    fn by_region(fields: &Map<String, Value>) -> Result<Self, ApiError> {
        if fields.len() > REGIONS_OF_ALL_MAX {
            return Err(invalid("since", format!("since may name at most {REGIONS_OF_ALL_MAX} regions")));
        }
        let mut positions = BTreeMap::new();
        for (name, value) in fields {
            let region: Region = name
                .parse()
                .map_err(|error| ApiError::of_field(Code::InvalidRegion, "since", format!("in since, {error}")))?;
            let field = format!("since.{region}");
            let Value::Object(value) = value else { return Err(invalid(&field, "a position must be an object")) };
            if positions.insert(region, position(value, &field)?).is_some() {
                return Err(invalid(&field, "since names this region twice"));
            }
        }
        Ok(Self(positions))
    }
}

impl FromIterator<(Region, Position)> for Positions {
    fn from_iter<I: IntoIterator<Item = (Region, Position)>>(positions: I) -> Self {
        Self(positions.into_iter().collect())
    }
}

fn position(fields: &Map<String, Value>, field: &str) -> Result<Position, ApiError> {
    let number = |name: &str| {
        let field = format!("{field}.{name}");
        match fields.get(name) {
            None => Err(ApiError::of_field(Code::MissingField, &field, format!("{field} is missing"))),
            // No log has a negative epoch, so both are bounded by the smaller of the two types.
            Some(value) => value
                .as_i64()
                .filter(|number| *number >= 0)
                .ok_or_else(|| invalid(&field, "must be a whole number from 0")),
        }
    };
    Ok(Position { epoch: number("epoch")?, seq: number("seq")?.unsigned_abs() })
}

fn invalid(field: &str, message: impl Into<String>) -> ApiError {
    ApiError::of_field(Code::InvalidField, field, message)
}

/// What stands between the regions of a cursor, and is the cursor that names none. Like the dot within an entry it is
/// part of no region's name, and nothing that writes addresses escapes it.
const SEPARATOR: &str = "_";

/// Base of the numbers in a cursor: with digits and letters they are short.
const RADIX: u32 = 36;

/// The text is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a cursor is REGION.EPOCH.SEQ with numbers in base {RADIX}, several joined by {SEPARATOR}, \
     each region once, at most \
     {REGIONS_OF_ALL_MAX}"
)]
pub struct InvalidCursor;

/// The cursor: `DE.mwm0nk74.7_PL.mwm0nk75.17`, regions ascending, or `_` alone for no region. It is never empty: an
/// empty id would make a browser forget that it has one.
impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(SEPARATOR);
        }
        for (index, (region, position)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { SEPARATOR };
            write!(f, "{separator}{}", entry(region, *position))?;
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut positions = BTreeMap::new();
        for entry in text.split(SEPARATOR).filter(|_| text != SEPARATOR) {
            let mut parts = entry.split('.');
            // What a later form adds to an entry follows the number, behind a dot.
            let (Some(region), Some(epoch), Some(seq)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(InvalidCursor);
            };
            let region = region.parse().map_err(|_| InvalidCursor)?;
            let epoch = number(epoch).and_then(|epoch| i64::try_from(epoch).ok()).ok_or(InvalidCursor)?;
            let position = Position { epoch, seq: number(seq).ok_or(InvalidCursor)? };
            if positions.insert(region, position).is_some() || positions.len() > REGIONS_OF_ALL_MAX {
                return Err(InvalidCursor);
            }
        }
        Ok(Self(positions))
    }
}

/// A region in a cursor.
fn entry(region: &Region, Position { epoch, seq }: Position) -> String {
    // No log has a negative epoch: it is a time, and what comes from outside is checked.
    format!("{region}.{}.{}", base_36(epoch.unsigned_abs()), base_36(seq))
}

/// Bytes that a region takes in a cursor.
pub(crate) fn entry_bytes(region: &Region, position: Position) -> usize {
    entry(region, position).len() + SEPARATOR.len()
}

fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((number % u64::from(RADIX)) as u32, RADIX));
        number /= u64::from(RADIX);
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// A number of digits and lower-case letters alone; the parser also takes signs and capitals.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    plain.then(|| u64::from_str_radix(text, RADIX).ok()).flatten()
}

/// Alerts of one log, both ends inclusive; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub epoch: i64,
    pub first: u64,
    pub last: u64,
}

impl Span {
    /// How many alerts it holds.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether `alerts` begin the span and follow each other without a hole. The time to live removes items one by one
    /// and late.
    pub fn begins_with(self, alerts: &[Logged]) -> bool {
        let expected = (self.first..=self.last).map(|seq| Position { epoch: self.epoch, seq });
        alerts.len() as u64 <= self.count() && alerts.iter().map(Logged::position).eq(expected.take(alerts.len()))
    }

    /// Whether `alerts` are the whole span.
    pub fn is(self, alerts: &[Logged]) -> bool {
        alerts.len() as u64 == self.count() && self.begins_with(alerts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::limits::{CURSOR_ENTRY_BYTES_MAX, REGION_BYTES_MAX};

    fn audiences(names: &[&str]) -> Vec<Audience> {
        names.iter().map(|name| name.parse().expect(name)).collect()
    }

    fn positions(entries: &[(&str, i64, u64)]) -> Positions {
        entries
            .iter()
            .map(|(region, epoch, seq)| (region.parse().expect(region), Position { epoch: *epoch, seq: *seq }))
            .collect()
    }

    #[test]
    fn since_is_a_position_of_one_region_or_a_map() {
        let read = |since: Value, names: &[&str]| Positions::of_message(&since, &audiences(names)).expect("valid");
        assert_eq!(read(json!({"epoch": 9, "seq": 41, "other": 1}), &["PL"]), positions(&[("PL", 9, 41)]));
        assert_eq!(read(json!({"pl": {"epoch": 9, "seq": 41}}), &["PL"]), positions(&[("PL", 9, 41)]));
        assert_eq!(read(json!({"epoch": 0, "seq": 0}), &["PL"]), positions(&[("PL", 0, 0)]));
        assert_eq!(read(json!({}), &["ALL"]), Positions::default());
        // A region may be called like a field of a position.
        assert_eq!(read(json!({"SEQ": {"epoch": 1, "seq": 2}}), &["ALL"]), positions(&[("SEQ", 1, 2)]));
    }

    #[test]
    fn each_mistake_in_since_has_its_code_and_field() {
        let check = |since: Value, names: &[&str], code: Code, field: &str| {
            let refusal = Positions::of_message(&since, &audiences(names)).expect_err("must be refused");
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, Some(field)), "{since}");
        };
        let one = json!({"epoch": 1, "seq": 1});
        let many: Map<String, Value> = (0..=REGIONS_OF_ALL_MAX).map(|n| (format!("R{n}"), one.clone())).collect();
        check(json!(null), &["PL"], Code::InvalidField, "since");
        check(json!(41), &["PL"], Code::InvalidField, "since");
        check(json!([one]), &["PL"], Code::InvalidField, "since");
        check(json!({"seq": 1}), &["PL"], Code::MissingField, "since.epoch");
        check(json!({"epoch": 1}), &["PL"], Code::MissingField, "since.seq");
        check(json!({"epoch": "1", "seq": 1}), &["PL"], Code::InvalidField, "since.epoch");
        check(json!({"epoch": 1, "seq": -1}), &["PL"], Code::InvalidField, "since.seq");
        check(json!({"epoch": 1, "seq": 1.5}), &["PL"], Code::InvalidField, "since.seq");
        check(json!({"epoch": -1, "seq": 1}), &["PL"], Code::InvalidField, "since.epoch");
        check(json!({"epoch": 1, "seq": u64::MAX}), &["PL"], Code::InvalidField, "since.seq");
        check(one.clone(), &["PL", "DE"], Code::InvalidField, "since");
        check(one.clone(), &["ALL"], Code::InvalidField, "since");
        check(json!({"ALL": one}), &["ALL"], Code::InvalidRegion, "since");
        check(json!({"P": one}), &["PL"], Code::InvalidRegion, "since");
        check(json!({"PL": one, "pl": one}), &["PL"], Code::InvalidField, "since.PL");
        check(json!({"PL": {"epoch": 1}}), &["PL"], Code::MissingField, "since.PL.seq");
        check(json!({"PL": null}), &["PL"], Code::InvalidField, "since.PL");
        check(json!({}), &["PL"], Code::MissingField, "since.PL");
        check(json!({"DE": one}), &["PL"], Code::MissingField, "since.PL");
        check(Value::Object(many), &["ALL"], Code::InvalidField, "since");
    }

    #[test]
    fn a_cursor_is_short_and_ascending() {
        let cursor = |entries: &[(&str, i64, u64)]| positions(entries).to_string();
        assert_eq!(
            cursor(&[("PL", 1_795_000_000_001, 43), ("DE", 1_795_000_000_000, 7)]),
            "DE.mwm0nk74.7_PL.mwm0nk75.17"
        );
        assert_eq!(cursor(&[]), "_");
        assert_eq!(cursor(&[("PL", 0, 0)]), "PL.0.0");
        assert_eq!("_".parse(), Ok(Positions::default()));
        let longest = "A".repeat(REGION_BYTES_MAX);
        assert_eq!(cursor(&[(&longest, i64::MAX, u64::MAX)]).len() + SEPARATOR.len(), CURSOR_ENTRY_BYTES_MAX);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let many: Vec<String> = (0..=REGIONS_OF_ALL_MAX).map(|n| format!("R{n}.1.1")).collect();
        for bad in [
            "PL",
            "PL.1",
            "PL.1.-2",
            "PL.+1.2",
            "PL.1.",
            "ALL.1.2",
            "PL.1.A",
            "PL.1.2_",
            "__",
            "~",
            "PL.1.2_pl.1.3",
            "PL.1y2p0ij32e8e8.1",
            "PL.1.3w5e11264sgsg",
            &many.join("_"),
        ] {
            assert_eq!(bad.parse::<Positions>(), Err(InvalidCursor), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_own_text(
            entries in proptest::collection::btree_map("[A-Z][A-Z0-9-]{1,8}", (0..i64::MAX, 0..u64::MAX), 0..20),
        ) {
            let positions: Positions = entries
                .into_iter()
                .filter_map(|(region, (epoch, seq))| Some((region.parse().ok()?, Position { epoch, seq })))
                .collect();
            let cursor = positions.to_string();
            prop_assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
            prop_assert_eq!(cursor.parse(), Ok(positions));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Positions>();
        }
    }
}
