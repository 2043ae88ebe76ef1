//! DynamoDB units of each operation, from the table in `docs/cost.md`, which an end-to-end test measures.

const DOCUMENT: &str = include_str!("../../../docs/cost.md");

/// The heading of the table.
const HEADING: &str = "## Requests and units";

/// Billed units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Units {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
}

/// Returns the units of a row by its first column, or NaN for a missing row, which a test finds.
pub(crate) fn of(what: &str) -> Units {
    rows().find(|(name, _)| *name == what).map_or(Units { reads: f64::NAN, writes: f64::NAN }, |(_, units)| units)
}

fn rows() -> impl Iterator<Item = (&'static str, Units)> {
    let section = DOCUMENT.split_once(HEADING).map_or("", |(_, section)| section);
    section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let (what, _requests) = (cells.next()?, cells.next()?);
        Some((what, Units { reads: cells.next()?.parse().ok()?, writes: cells.next()?.parse().ok()? }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        let section = DOCUMENT.split_once(HEADING).expect("the table").1;
        let lines = section.lines().filter(|line| line.starts_with("| ")).count();
        // The first row is the head.
        assert_eq!(rows().count(), lines - 1);
        assert!(rows().count() > 20);
        assert_eq!(of("ping"), Units { reads: 0.0, writes: 0.0 });
        assert!(of("no such row").reads.is_nan());
    }
}
