//! The list price of a month of Viral Alerts, line by line, and of the alternatives for the same use.
//!
//! The client's tests count its messages (`client.json`). The units of DynamoDB are those of the table in
//! `docs/cost.md`, which a test measures. CPU per push comes from `docs/scale.md`.

mod units;

pub mod attacks;
pub mod canary;
pub mod event_api;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::units::Units;

/// Days of a month.
const DAYS: f64 = 30.0;

/// Minutes after which a client rotates its connection. Source: `shared::limits`, `rotate_after_ms`.
const ROTATION_MINUTES: f64 = 110.0;

/// Minutes between keepalives. Source: `client/src/limits.ts`.
const KEEPALIVE_MINUTES: f64 = 9.5;

/// Messages of a request and its answer: a ping, a keepalive, a subscription.
const MESSAGES_PER_QUESTION: f64 = 2.0;

/// Invocations for each connection: connect, subscribe, disconnect.
const INVOCATIONS_PER_CONNECTION: f64 = 3.0;

/// Invocations for each alert: publish, deliver.
const INVOCATIONS_PER_ALERT: f64 = 2.0;

/// Invocations of recover in a day: one a minute.
const RECOVERIES_A_DAY: f64 = 24.0 * 60.0;

/// GB-seconds of such an invocation: 256 MB for 15 ms, mostly waiting for DynamoDB.
const GB_SECONDS_PER_INVOCATION: f64 = 0.25 * 0.015;

/// GB-seconds of deliver for each push. Source: `docs/scale.md`.
const GB_SECONDS_PER_PUSH: f64 = 0.00038;

/// Bytes of a pushed alert, and of an answer, with TLS and TCP.
const BYTES_PER_PUSH: f64 = 600.0;
const BYTES_PER_ANSWER: f64 = 250.0;

/// Bytes that an invocation logs, including Lambda's own lines.
const LOG_BYTES_PER_INVOCATION: f64 = 700.0;

/// Months of log retention: the default of the template's `LogRetentionDays`.
const LOG_RETENTION_MONTHS: f64 = 1.0;

/// Bytes that DynamoDB stores for a connection with one region: three items, and the index.
const STORED_BYTES_PER_CONNECTION: f64 = 900.0;

/// Bytes that DynamoDB stores for an alert, for 24 hours.
const STORED_BYTES_PER_ALERT: f64 = 1_000.0;

/// Custom metrics of the template, and metrics that its alarms watch. Each is billed.
const METRICS: f64 = 10.0;
const ALARMS: f64 = 40.0;

/// Channels of Ably in use around the clock: the regions of the demo page.
const ABLY_CHANNELS: f64 = 20.0;

/// Longest life of a connection to AppSync Events and AWS IoT Core, in minutes.
const LONG_LIFE_MINUTES: f64 = MINUTES_A_DAY;

/// Read units of recover without work: a query of an empty index, and a read of the snapshot.
const READS_PER_RECOVERY: f64 = 4.5;

/// The row of a keepalive of one region, in the table of `docs/cost.md`.
const KEEPALIVE_ROW: &str = "keepalive, one region";

/// Subscribers of the alert in the row with an idempotency key: those of the row before it.
const PUSHES_OF_KEYED_ROW: f64 = 999.0;

/// Minutes of a day.
pub const MINUTES_A_DAY_MAX: u16 = 24 * 60;
const MINUTES_A_DAY: f64 = 24.0 * 60.0;

/// The default AWS region for prices.
pub const DEFAULT_REGION: &str = "us-east-1";

/// How much the service is used. The fields have the names of the command's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Browsers.
    pub clients: u32,
    /// Minutes a day that each is connected, 1 to [`MINUTES_A_DAY_MAX`].
    #[serde(rename = "minutes")]
    pub minutes_a_day: u16,
    /// Alerts a day that each gets.
    #[serde(rename = "alerts")]
    pub alerts_a_day: u32,
    /// Alerts a day that are published, in all regions.
    #[serde(rename = "published")]
    pub published_a_day: u32,
}

impl Usage {
    /// A medium site whose visitors stay for half an hour.
    pub const DEFAULT: Self = Self { clients: 10_000, minutes_a_day: 30, alerts_a_day: 20, published_a_day: 500 };

    /// Returns the connections a month if none lives longer than this many minutes.
    fn connections(&self, life_minutes: f64) -> f64 {
        f64::from(self.clients) * (f64::from(self.minutes_a_day) / life_minutes).ceil() * DAYS
    }

    /// Returns the keepalives a month. A connection sends the first after an interval.
    fn keepalives(&self) -> f64 {
        let minutes = f64::from(self.minutes_a_day);
        let rotations = (minutes / ROTATION_MINUTES).floor();
        let within = |minutes: f64| (minutes / KEEPALIVE_MINUTES).floor();
        let a_day = rotations * within(ROTATION_MINUTES) + within(minutes - rotations * ROTATION_MINUTES);
        f64::from(self.clients) * a_day * DAYS
    }

    fn minutes(&self) -> f64 {
        f64::from(self.clients) * f64::from(self.minutes_a_day) * DAYS
    }

    fn pushes(&self) -> f64 {
        f64::from(self.clients) * f64::from(self.alerts_a_day) * DAYS
    }

    fn published(&self) -> f64 {
        f64::from(self.published_a_day) * DAYS
    }
}

/// A list price.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Price {
    /// US dollars.
    pub usd: f64,
    /// The quantity that it is for.
    pub per: f64,
    /// The unit.
    pub of: String,
    /// Where it was read.
    pub source: String,
    /// Year and month in which it was read.
    pub read: String,
}

#[derive(Debug, Deserialize)]
struct File {
    regions: BTreeMap<String, BTreeMap<String, Price>>,
}

/// The prices of one region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices(BTreeMap<String, Price>);

/// A region has no prices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("infra/cost/prices.json has no prices for {region}, only for {known}; add them with their source")]
pub struct UnknownRegion {
    region: String,
    known: String,
}

impl Prices {
    /// The list prices of an AWS region.
    pub fn of_region(region: &str) -> Result<Self, UnknownRegion> {
        let mut regions = prices_by_region();
        let known = regions.keys().cloned().collect::<Vec<_>>().join(", ");
        regions.remove(region).map(Self).ok_or_else(|| UnknownRegion { region: region.to_owned(), known })
    }

    /// Every price with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Price)> {
        self.0.iter().map(|(name, price)| (name.as_str(), price))
    }

    fn line(&self, part: Part, what: &'static str, price: &str, quantity: f64) -> Line {
        Line { part, what, quantity, usd: self.usd(price, quantity) }
    }

    /// Returns the US dollars for a quantity of what has this name.
    fn usd(&self, price: &str, quantity: f64) -> f64 {
        // The file has every name for every region: a test uses all.
        self.0.get(price).map_or(f64::NAN, |price| quantity * price.usd / price.per)
    }
}

fn prices_by_region() -> BTreeMap<String, BTreeMap<String, Price>> {
    let file: File = serde_json::from_str(include_str!("../prices.json")).expect("a test reads the file");
    file.regions
}

/// The purpose of a line, to compare services part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Open connections.
    Connections,
    /// Keeping connections open and finding gaps: messages, functions and tables.
    Keepalives,
    /// Other messages.
    Messages,
    /// Other invocations of functions.
    Functions,
    /// Other requests to tables.
    Tables,
    /// Logs, metrics and alarms.
    Operation,
    /// Bytes to the internet.
    Transfer,
    /// Fixed prices.
    Package,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its purpose.
    pub part: Part,
    /// What it charges for.
    pub what: &'static str,
    /// The quantity in a month.
    pub quantity: f64,
    /// US dollars in a month.
    pub usd: f64,
}

/// The bill of one service for a month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// The service.
    pub service: &'static str,
    /// US dollars in a month: the sum of the lines.
    pub total: f64,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Bill {
    fn new(service: &'static str, lines: Vec<Line>) -> Self {
        Self { service, total: lines.iter().map(|line| line.usd).sum(), lines }
    }
}

/// The bills for a use, with the prices behind them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The AWS region.
    pub region: String,
    /// The use.
    pub usage: Usage,
    /// The bills: those of this project's two legs, then its alternatives.
    pub bills: Vec<Bill>,
    /// The prices of the region.
    pub prices: Prices,
    /// All regions with prices.
    pub regions: Vec<String>,
}

impl Estimate {
    /// Calculates the bills for a use at the list prices of an AWS region.
    pub fn new(usage: Usage, region: &str) -> Result<Self, UnknownRegion> {
        let prices = Prices::of_region(region)?;
        Ok(Self {
            region: region.to_owned(),
            usage,
            bills: bills(&usage, &prices),
            prices,
            regions: prices_by_region().into_keys().collect(),
        })
    }
}

/// Returns the bills for a use: those of this project's two legs, then its alternatives.
fn bills(usage: &Usage, prices: &Prices) -> Vec<Bill> {
    vec![
        own(usage, prices),
        event_api::bill(usage, prices, event_api::LOOK_MINUTES),
        broker("AppSync Events", ["appsync_minute", "appsync_operation"], usage, prices),
        broker("AWS IoT Core", ["iot_minute", "iot_message"], usage, prices),
        ably(usage, prices),
    ]
}

/// Returns the lines of invocations and their logs.
struct Invocations(f64);

impl Invocations {
    fn gb_seconds(&self) -> f64 {
        self.0 * GB_SECONDS_PER_INVOCATION
    }

    fn log_gb(&self) -> f64 {
        self.0 * LOG_BYTES_PER_INVOCATION / 1e9
    }
}

/// Returns the units of a connection that subscribes to one region and closes.
fn units_of_connection() -> Units {
    ["connect", "subscribe to a region", "disconnect, with one region"].map(units::of).into_iter().fold(
        Units { reads: 0.0, writes: 0.0 },
        |sum, row| Units { reads: sum.reads + row.reads, writes: sum.writes + row.writes },
    )
}

/// Returns the units of an alert with an idempotency key, and the read units for each of its subscribers.
fn units_of_alert() -> (Units, f64) {
    let (one, many) = (units::of("an alert to 1"), units::of("the same with an idempotency key"));
    (Units { reads: one.reads, writes: many.writes }, (many.reads - one.reads) / (PUSHES_OF_KEYED_ROW - 1.0))
}

fn own(usage: &Usage, prices: &Prices) -> Bill {
    let [connections, keepalives, published] =
        [usage.connections(ROTATION_MINUTES), usage.keepalives(), usage.published()];
    let recoveries = RECOVERIES_A_DAY * DAYS;
    let kept = Invocations(keepalives);
    let others = Invocations(connections * INVOCATIONS_PER_CONNECTION + published * INVOCATIONS_PER_ALERT + recoveries);
    let (keepalive, connection) = (units::of(KEEPALIVE_ROW), units_of_connection());
    let (alert, reads_per_push) = units_of_alert();
    let reads = connections * connection.reads
        + published * alert.reads
        + usage.pushes() * reads_per_push
        + recoveries * READS_PER_RECOVERY;
    let stored = usage.minutes() / DAYS / MINUTES_A_DAY * STORED_BYTES_PER_CONNECTION
        + f64::from(usage.published_a_day) * STORED_BYTES_PER_ALERT;
    let log_gb = kept.log_gb() + others.log_gb();
    let transferred = usage.pushes() * BYTES_PER_PUSH + (connections + keepalives) * BYTES_PER_ANSWER;
    let rows = [
        (Part::Connections, "API Gateway: minutes of connections", "gateway_minute", usage.minutes()),
        (
            Part::Keepalives,
            "API Gateway: keepalives and their answers",
            "gateway_message",
            keepalives * MESSAGES_PER_QUESTION,
        ),
        (Part::Keepalives, "Lambda: keepalives", "lambda_request", keepalives),
        (Part::Keepalives, "Lambda: GB-seconds of keepalives", "lambda_gb_second", kept.gb_seconds()),
        (Part::Keepalives, "DynamoDB: write units of keepalives", "dynamodb_write", keepalives * keepalive.writes),
        (Part::Keepalives, "DynamoDB: read units of keepalives", "dynamodb_read", keepalives * keepalive.reads),
        (Part::Messages, "API Gateway: alerts", "gateway_message", usage.pushes()),
        (
            Part::Messages,
            "API Gateway: subscriptions and their answers",
            "gateway_message",
            connections * MESSAGES_PER_QUESTION,
        ),
        (Part::Messages, "API Gateway: publications over HTTP", "http_request", published),
        (Part::Functions, "Lambda: invocations", "lambda_request", others.0),
        (
            Part::Functions,
            "Lambda: GB-seconds",
            "lambda_gb_second",
            others.gb_seconds() + usage.pushes() * GB_SECONDS_PER_PUSH,
        ),
        (
            Part::Tables,
            "DynamoDB: write units",
            "dynamodb_write",
            connections * connection.writes + published * alert.writes,
        ),
        (Part::Tables, "DynamoDB: read units", "dynamodb_read", reads),
        (Part::Tables, "DynamoDB: GB stored", "dynamodb_stored_gb", stored / 1e9),
        (Part::Operation, "CloudWatch: GB of logs", "log_gb", log_gb),
        (Part::Operation, "CloudWatch: GB of logs stored", "log_stored_gb", log_gb * LOG_RETENTION_MONTHS),
        (Part::Operation, "CloudWatch: metrics", "metric", METRICS),
        (Part::Operation, "CloudWatch: alarms", "alarm", ALARMS),
        (Part::Transfer, "GB to the internet", "transfer_gb", transferred / 1e9),
    ];
    let lines = rows.into_iter().map(|(part, what, price, quantity)| prices.line(part, what, price, quantity));
    Bill::new("Viral Alerts", lines.collect())
}

/// Returns the lines of a service with connections of a day and free pings, which charges for messages that are
/// published, delivered, and requested on connect.
fn broker(service: &'static str, [minute, operation]: [&str; 2], usage: &Usage, prices: &Prices) -> Bill {
    let connections = usage.connections(LONG_LIFE_MINUTES);
    let operations = usage.pushes() + usage.published() + connections * MESSAGES_PER_QUESTION;
    let lines = vec![
        prices.line(Part::Connections, "minutes of connections", minute, usage.minutes()),
        prices.line(Part::Messages, "messages", operation, operations),
        prices.line(Part::Transfer, "GB to the internet", "transfer_gb", usage.pushes() * BYTES_PER_PUSH / 1e9),
    ];
    Bill::new(service, lines)
}

fn ably(usage: &Usage, prices: &Prices) -> Bill {
    let lines = vec![
        prices.line(Part::Connections, "minutes of connections", "ably_minute", usage.minutes()),
        prices.line(Part::Messages, "messages", "ably_message", usage.pushes() + usage.published()),
        prices.line(
            Part::Connections,
            "minutes of channels",
            "ably_channel_minute",
            ABLY_CHANNELS * MINUTES_A_DAY * DAYS,
        ),
        prices.line(Part::Package, "package", "ably_package", 1.0),
    ];
    Bill::new("Ably", lines)
}

#[cfg(test)]
mod tests;
