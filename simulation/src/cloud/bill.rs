//! What the database may cost: the table of docs/cost.md, which a test prints anew from what is measured.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Value, json};

use crate::cloud::{Cloud, FunctionName, Units, lock};

/// Where the table is.
const DOCUMENT: &str = include_str!("../../../docs/cost.md");

/// Read units of any message, and one more for each region whose alerts it carries. Source: docs/protocol.md, and
/// `shared::limits` holds it when it compiles.
const READS_OF_A_MESSAGE: f64 = 30.0;

/// Write units of the second look at a rate limit that is in use, as in the rows "at once".
const RATE_LIMIT_WRITES: f64 = 1.0;

/// What a connection with a token costs more. Source: docs/cost.md, "Tokens".
const SEAT: Units = Units { reads: 2.0, writes: 3.0 };
/// What it adds to try another seat, because somebody else has taken the one that it chose.
const ANOTHER_SEAT: Units = Units { reads: 1.0, writes: 2.0 };
const SEAT_ENDS: Units = Units { reads: 0.0, writes: 2.0 };

/// The rows of the table.
static ROWS: LazyLock<BTreeMap<&str, Units>> = LazyLock::new(|| {
    let lines = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = lines.map(|line| line.split(" | ").collect::<Vec<_>>());
    let units = |row: &[&str]| Some(Units { reads: row.get(2)?.parse().ok()?, writes: row.get(3)?.parse().ok()? });
    rows.filter_map(|row| Some((*row.first()?, units(&row)?))).collect()
});

/// The units of a row of the table.
///
/// # Panics
///
/// If the table has no such row.
fn row(what: &str) -> Units {
    *ROWS.get(what).unwrap_or_else(|| panic!("docs/cost.md has no row `{what}`"))
}

/// Write units of each further region.
fn writes_of_a_region() -> f64 {
    (row("subscribe to 25 regions").writes - row("subscribe to a region").writes) / 24.0
}

/// What a message may cost that asks for some regions and has no positions.
fn of_message(kind: &str, regions: usize, is_all: bool) -> Option<Units> {
    let count = regions.max(1) as f64;
    let limited = |Units { reads, writes }| Units { reads, writes: writes + RATE_LIMIT_WRITES };
    // Between one region and 25 each adds the same writes, and one read until all parts of the snapshot are read.
    let between = |one: &str, many: &str, all: &str| {
        let (one, many) = (row(one), row(many));
        let reads = if is_all { row(all).reads } else { many.reads.min(one.reads + count - 1.0) };
        limited(Units { reads, writes: one.writes + (count - 1.0) * (many.writes - one.writes) / 24.0 })
    };
    match kind {
        "subscribe_region" => {
            Some(between("subscribe to a region", "subscribe to 25 regions", "subscribe to ALL, 3 regions"))
        }
        "keepalive" => Some(between("keepalive, one region", "keepalive, 25 regions", "keepalive, ALL")),
        "unsubscribe_region" => {
            let all = row("unsubscribe from 25 regions, at once");
            Some(Units { writes: all.writes - (25.0 - count) * writes_of_a_region(), ..all })
        }
        "echo" => Some(limited(row("echo, and anything that is refused"))),
        "count" => Some(limited(row("count a region of one"))),
        _ => None,
    }
}

/// Write units that an alert adds which waits for others of its region. Source: docs/cost.md, "Publishers at one
/// moment".
const QUEUED_WRITES: f64 = 10.0;

/// Write units that a publication with a window adds where it is too late: a transaction that it loses, alone or with
/// others. Source: docs/cost.md, "How DynamoDB counts".
const LATE_WRITES: f64 = 12.0;

/// Write units that each further KB of an alert adds: two in the transaction, one when it is marked as dispatched, and,
/// where it waits for others, two for its place and two for a transaction that it loses to them. Source: docs/cost.md,
/// "How DynamoDB counts".
const LARGE_WRITES: f64 = 7.0;

/// What publishing and delivering has cost in a world, and what it was for.
#[derive(Debug, Default)]
pub(super) struct BillOfAlerts {
    publications: usize,
    /// Those with a window.
    with_window: usize,
    /// KB of them all.
    kilobytes: f64,
    /// Connections that a fan-out found gone and removed. Each of several at once may remove the same one.
    removed: f64,
    writes: f64,
}

impl Cloud {
    /// Adds what an invocation has cost.
    pub(super) fn bill_alerts(&self, function: FunctionName, event: &[u8], answer: &[u8], units: Units) {
        if !self.weather.is_calm() || !matches!(function, FunctionName::Publish | FunctionName::Deliver) {
            return;
        }
        let mut bill = lock(&self.bill_of_alerts);
        bill.writes += units.writes;
        if function == FunctionName::Publish {
            let event: Value = serde_json::from_slice(event).unwrap_or_default();
            let body = event["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or(event);
            bill.kilobytes += body.to_string().len() as f64 / 1_024.0;
            bill.publications += body["publications"].as_array().map_or(1, Vec::len);
            bill.with_window += usize::from(!body["repeat_window"].is_null());
        } else {
            let report: Value = serde_json::from_slice(answer).unwrap_or_default();
            bill.removed += report["gone"].as_f64().unwrap_or_default();
        }
    }

    /// Guarantee 9 for all alerts of a world with that many regions. What they read depends on their audience.
    pub(crate) fn check_bill_of_alerts(&self, regions: usize) {
        let BillOfAlerts { publications, with_window, kilobytes, removed, writes } = *lock(&self.bill_of_alerts);
        let (first, next) =
            (row("an alert that nobody gets, the first of its region"), row("an alert that nobody gets"));
        let each = row("the same with an idempotency key").writes + QUEUED_WRITES;
        // The rows are of alerts of up to a KB, of which a publication has less.
        let large = (kilobytes - publications as f64).max(0.0);
        let removal = row("disconnect, with one region").writes
            + SEAT_ENDS.writes
            + regions.saturating_sub(1) as f64 * writes_of_a_region();
        let window = row("the same with a window").writes - next.writes + LATE_WRITES;
        let most = publications as f64 * each
            + with_window as f64 * window
            + large * LARGE_WRITES
            + regions as f64 * (first.writes - next.writes)
            + removed * removal;
        let what = format!("{publications} publications in {regions} regions");
        self.check_bill(&what, Units { reads: 0.0, writes: most }, Units { reads: 0.0, writes });
    }

    /// Guarantee 9 for a connection that was accepted, beside others of its user if it has one.
    pub(super) fn check_bill_of_connect(&self, regions: usize, rivals: Option<usize>, units: Units) {
        let Units { mut reads, mut writes } = if regions == 0 { row("connect") } else { row("connect with a region") };
        if let Some(rivals) = rivals {
            reads += SEAT.reads + rivals as f64 * ANOTHER_SEAT.reads;
            writes += SEAT.writes + rivals as f64 * ANOTHER_SEAT.writes;
        }
        self.check_bill("connect", Units { reads, writes }, units);
    }

    /// Guarantee 9 for the end of a connection that has asked for some regions.
    pub(super) fn check_bill_of_disconnect(&self, regions: usize, has_seat: bool, units: Units) {
        let row = row("disconnect, with one region");
        let seat = if has_seat { SEAT_ENDS } else { Units::default() };
        let writes = row.writes + seat.writes + regions.saturating_sub(1) as f64 * writes_of_a_region();
        let most = Units { reads: row.reads + seat.reads, writes };
        self.check_bill(&format!("the end of a connection with {regions} regions"), most, units);
    }

    /// Guarantee 9 for a message that was answered.
    pub(super) fn check_bill_of_message(&self, kind: &str, message: &Value, units: Units) {
        let regions = message["regions"].as_array().map_or(1, Vec::len);
        let is_all = message["region"] == "ALL"
            || message["regions"].as_array().is_some_and(|regions| regions.contains(&json!("ALL")));
        let carried = if is_all { 25.0 } else { regions as f64 };
        let Some(most) = of_message(kind, regions, is_all) else { return };
        let reads = if message["since"].is_null() { most.reads } else { READS_OF_A_MESSAGE + carried };
        self.check_bill(&format!("{kind} of {regions} regions"), Units { reads, ..most }, units);
    }

    fn check_bill(&self, what: &str, most: Units, units: Units) {
        // What fails is repeated, and billed again.
        if self.weather.is_calm() && (units.reads > most.reads || units.writes > most.writes) {
            let Units { reads, writes } = units;
            self.breaks(9, format!("{what} costs {reads} read and {writes} write units, more than {most:?}"));
        }
    }
}
