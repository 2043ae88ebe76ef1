//! The cost of attacks on a stack with the template's default parameters, in US dollars an hour.
//!
//! Throttles bound the requests of all clients together, so each row is a rate times the highest cost of a request. A
//! test compares the rates with the template, and the bounds of one request with `shared::limits`.

use crate::{GB_SECONDS_PER_INVOCATION, LOG_BYTES_PER_INVOCATION, Prices};

/// Seconds of an hour.
const HOUR_SECS: f64 = 3_600.0;

/// Throttles of the template, in requests per second of all clients together.
pub const CONNECT_RATE: f64 = 500.0;
/// Messages to a function.
pub const MESSAGE_RATE: f64 = 450.0;
/// Pings.
pub const PING_RATE: f64 = 250.0;
/// Requests to `POST /webhook`.
pub const WEBHOOK_RATE: f64 = 20.0;
/// Requests to `GET /alerts`.
pub const HISTORY_RATE: f64 = 500.0;

/// Connections of an attacker that stays connected.
const CONNECTIONS: f64 = 1_000.0;

/// Rate limit of subscription changes of a connection, per second. Source: `shared::limits`.
const CHANGES_PER_SEC: f64 = 1.0;

/// Its burst.
const CHANGES_BURST: f64 = 100.0;

/// Write units of one change: the item, and the index by connection.
const WRITES_PER_CHANGE: f64 = 2.0;

/// Regions of one message.
const REGIONS_PER_MESSAGE: f64 = 25.0;

/// Billing units of a message of 128 KB, the largest that API Gateway accepts.
const LARGEST_MESSAGE: f64 = 4.0;

/// Read units of a message that asks for the positions of all regions: the shards of the snapshot, and the connection's
/// state.
const READS_PER_MESSAGE: f64 = 9.0;

/// Read units of a message that asks for the missed alerts of one region, which fill a frame: one shard, the
/// connection, two frames, and empty queries. Source: `shared::limits`, `MESSAGE_READ_UNITS_MAX`.
const READS_PER_FRAME: f64 = 30.0 - 8.0 + 1.0 + 1.0;

/// Read units of one more region of a message, with its alerts.
const READS_PER_REGION: f64 = 1.0;

/// Read units of one eventually consistent page of 1,000 subscribers, the most that a count reads.
const READS_PER_COUNT: f64 = 14.0;

/// GB of the largest answer, one frame of 32 KB.
const GB_PER_FRAME: f64 = 32.0 * 1_024.0 / 1e9;

/// GB of the largest page of `GET /alerts`. Source: `shared::limits`, `PAGE_BYTES_MAX`.
const GB_PER_PAGE: f64 = 64.0 * 1_024.0 / 1e9;

/// Read units of the largest request to `GET /alerts`. Source: `shared::limits`, `PAGE_READ_UNITS_MAX`.
const READS_PER_PAGE: f64 = 8.0 + 16.0 + 25.0 + 6.0;

/// Billing units of the largest request body for Lambda, 6 MB in steps of 512 KB.
const LARGEST_HTTP_REQUEST: f64 = 12.0;

/// The billed units of one request.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    messages: f64,
    invocations: f64,
    reads: f64,
    writes: f64,
    http_requests: f64,
    transfer_gb: f64,
}

impl Use {
    fn usd(self, prices: &Prices) -> f64 {
        let price = |name: &str, quantity: f64| prices.usd(name, quantity);
        price("gateway_message", self.messages)
            + price("lambda_request", self.invocations)
            + price("lambda_gb_second", self.invocations * GB_SECONDS_PER_INVOCATION)
            + price("log_gb", self.invocations * LOG_BYTES_PER_INVOCATION / 1e9)
            + price("dynamodb_read", self.reads)
            + price("dynamodb_write", self.writes)
            + price("http_request", self.http_requests)
            + price("transfer_gb", self.transfer_gb)
    }
}

/// An attack and its highest cost.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What the attacker does.
    pub what: &'static str,
    /// The formula, with the parameters that bound it.
    pub formula: String,
    /// US dollars an hour at most.
    pub usd_an_hour: f64,
    /// Who else it delays.
    pub delays: &'static str,
}

/// Returns all attacks. Among those by connected clients, the most expensive comes last.
pub fn attacks(prices: &Prices) -> Vec<Attack> {
    let hourly = |rate: f64, one: Use| rate * HOUR_SECS * one.usd(prices);
    let message = Use { messages: 2.0, invocations: 1.0, reads: READS_PER_MESSAGE, writes: 1.0, ..Use::default() };
    let frame = Use { reads: READS_PER_FRAME, transfer_gb: GB_PER_FRAME, ..message };
    let large = Use { messages: LARGEST_MESSAGE + 1.0, reads: 0.0, ..message };
    let change = Use { writes: WRITES_PER_CHANGE, reads: READS_PER_REGION, ..Use::default() };
    let changes = hourly(CONNECTIONS * CHANGES_PER_SEC, change);
    let ping = Use { messages: LARGEST_MESSAGE + 1.0, ..Use::default() };
    let everything = hourly(MESSAGE_RATE, frame) + hourly(PING_RATE, ping) + changes;
    let waits = "clients that subscribe: some messages are refused and retried";
    let row = |what, formula: String, usd_an_hour, delays| Attack { what, formula, usd_an_hour, delays };
    vec![
        row(
            "1,000 connections subscribe to 25 regions and leave them in turn",
            format!(
                "`MessageRate` × (2 messages + {READS_PER_MESSAGE} reads + 1 write) \
                 + 1,000 changes × (2 writes + 1 read)"
            ),
            hourly(MESSAGE_RATE, message) + changes,
            waits,
        ),
        row(
            "1,000 connections ask again for missed alerts that fill a frame",
            format!(
                "`MessageRate` × (2 messages + {READS_PER_FRAME} reads + 1 write + 32 KB to the internet) \
                 + 1,000 changes"
            ),
            hourly(MESSAGE_RATE, frame) + changes,
            waits,
        ),
        row(
            "messages for `ALL` with a `since` of 300 unknown regions; keepalives",
            format!("`MessageRate` × (2 messages + {READS_PER_MESSAGE} reads + 1 write)"),
            hourly(MESSAGE_RATE, message),
            waits,
        ),
        row(
            "counts of a large audience",
            format!("`MessageRate` × (2 messages + {READS_PER_COUNT} reads + 1 write)"),
            hourly(MESSAGE_RATE, Use { reads: READS_PER_COUNT, ..message }),
            waits,
        ),
        row(
            "messages of 128 KB, billed as four and refused",
            "`MessageRate` × (5 messages + 1 write)".to_owned(),
            hourly(MESSAGE_RATE, large),
            waits,
        ),
        row(
            "pings of 128 KB",
            "`PingRate` × 5 messages".to_owned(),
            hourly(PING_RATE, ping),
            "clients that ping: an error frame; the connection stays open",
        ),
        row(
            "**1,000 connections that stay and do all of this at once**",
            "the most expensive message, changes and pings".to_owned(),
            everything,
            "the same",
        ),
        row(
            "`POST /webhook` without a signature, 6 MB each",
            "`WebhookRate` × 12 requests of 512 KB".to_owned(),
            hourly(WEBHOOK_RATE, Use { http_requests: LARGEST_HTTP_REQUEST, invocations: 1.0, ..Use::default() }),
            "publishers that sign webhooks: 429 and a retry; publishers with IAM do not wait",
        ),
        row(
            "`GET /alerts`, the largest page each time",
            format!("`HistoryRate` × (1 request + {READS_PER_PAGE} reads + 64 KB to the internet)"),
            hourly(
                HISTORY_RATE,
                Use {
                    http_requests: 1.0,
                    invocations: 1.0,
                    reads: READS_PER_PAGE,
                    transfer_gb: GB_PER_PAGE,
                    ..Use::default()
                },
            ),
            "browsers without WebSockets, and clients that fetch what they missed",
        ),
        row(
            "connections that open, subscribe as much as they may, and close",
            format!(
                "`ConnectRate` × (2 invocations + 10 writes) \
                 + `MessageRate` × {REGIONS_PER_MESSAGE} changes (4 writes)"
            ),
            hourly(CONNECT_RATE, Use { invocations: 2.0, writes: 10.0, reads: 3.0, ..Use::default() })
                + hourly(
                    MESSAGE_RATE.min(CONNECT_RATE * CHANGES_BURST / REGIONS_PER_MESSAGE),
                    Use { writes: 1.0 + REGIONS_PER_MESSAGE * 2.0 * WRITES_PER_CHANGE, ..message },
                ),
            "clients that connect: 429 and a retry. `ConnectRate` and `MessageRate` lower it in proportion",
        ),
    ]
}

/// Returns the table of `docs/security.md`.
pub fn table(prices: &Prices) -> String {
    let mut text =
        "| attack | formula, per second | dollars an hour, at most | who else waits |\n|---|---|---|---|\n".to_owned();
    for Attack { what, formula, usd_an_hour, delays } in attacks(prices) {
        text += &format!("| {what} | {formula} | {usd_an_hour:.2} | {delays} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_REGION;

    fn prices() -> Prices {
        Prices::of_region(DEFAULT_REGION).expect("known")
    }

    #[test]
    fn the_throttles_are_the_defaults_of_the_template() {
        let template = include_str!("../../../template.yaml");
        for (name, rate) in [
            ("ConnectRate", CONNECT_RATE),
            ("MessageRate", MESSAGE_RATE),
            ("PingRate", PING_RATE),
            ("WebhookRate", WEBHOOK_RATE),
            ("HistoryRate", HISTORY_RATE),
        ] {
            let declared = format!("  {name}:\n    Type: Number\n    Default: {rate}\n");
            assert!(template.contains(&declared), "{name} is not {rate} by default");
        }
    }

    #[test]
    fn a_thousand_connections_that_stay_cost_less_than_25_dollars_an_hour() {
        let dearest = attacks(&prices()).into_iter().find(|attack| attack.what.contains("that stay")).expect("a row");
        assert!((15.0..25.0).contains(&dearest.usd_an_hour), "{}", dearest.usd_an_hour);
    }

    #[test]
    fn the_bounds_are_those_of_the_service() {
        use shared::limits::{
            AUDIENCE_PAGE_ITEMS, CHANGE_EVERY, CHANGES_AT_ONCE, FRAME_BYTES_MAX, MESSAGE_READ_UNITS_MAX,
            PAGE_BYTES_MAX, PAGE_READ_UNITS_MAX, REGIONS_PER_MESSAGE_MAX, SNAPSHOT_SHARDS,
        };
        assert_eq!(CHANGES_PER_SEC, 1.0 / CHANGE_EVERY.as_secs_f64());
        assert_eq!(CHANGES_BURST, f64::from(CHANGES_AT_ONCE));
        assert_eq!(REGIONS_PER_MESSAGE, REGIONS_PER_MESSAGE_MAX as f64);
        assert_eq!(READS_PER_MESSAGE, SNAPSHOT_SHARDS as f64 + 1.0);
        assert_eq!(READS_PER_FRAME, (MESSAGE_READ_UNITS_MAX - SNAPSHOT_SHARDS) as f64 + 2.0);
        assert_eq!(READS_PER_PAGE, PAGE_READ_UNITS_MAX as f64);
        assert_eq!(GB_PER_FRAME, FRAME_BYTES_MAX as f64 / 1e9);
        assert_eq!(GB_PER_PAGE, PAGE_BYTES_MAX as f64 / 1e9);
        // Items of 113 bytes, eventually consistent.
        assert_eq!(READS_PER_COUNT, (f64::from(AUDIENCE_PAGE_ITEMS) * 113.0 / 4_096.0).ceil() / 2.0);
    }

    #[test]
    fn a_flood_of_pings_costs_what_it_costs_by_hand() {
        let pings = attacks(&prices()).into_iter().find(|attack| attack.what.contains("pings of")).expect("a row");
        // 250 a second × 3,600 s × 5 units at $1.00 for a million.
        assert!((pings.usd_an_hour - 4.5).abs() < 1e-9, "{}", pings.usd_an_hour);
    }

    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../docs/security.md");
        let table = table(&prices());
        assert!(document.contains(&table), "docs/security.md has to have this table:\n{table}");
    }
}
