//! What a month of Viral Alerts costs at list price, line by line, and what the alternatives would cost for the same use.
//!
//! Units of DynamoDB are those of the table in `docs/cost.md`, which a test holds; CPU per push that of `docs/scale.md`.

pub mod attacks;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Days of the month that is reckoned with.
const DAYS: f64 = 30.0;

/// Minutes after which a client rotates its connection. Source: `shared::limits`, `rotate_after_ms`.
const ROTATION_MINUTES: f64 = 110.0;

/// Minutes between two pings of a client that hears nothing: just below the gateway's idle limit of ten.
const PING_MINUTES: f64 = 9.5;

/// Messages for each connection beside alerts and pings: a subscription and its answer.
const MESSAGES_PER_CONNECTION: f64 = 2.0;

/// Invocations for each connection: connect, subscribe, disconnect.
const INVOCATIONS_PER_CONNECTION: f64 = 3.0;

/// GB-seconds of such an invocation: 256 MB for 15 ms, of which most is waiting for DynamoDB.
const GB_SECONDS_PER_INVOCATION: f64 = 0.25 * 0.015;

/// Write units for each connection that subscribes to one region and closes. Source: `docs/cost.md`.
const WRITES_PER_CONNECTION: f64 = 10.0;

/// Read units for the same: the position in the acknowledgement, and the look for what is to be removed.
const READS_PER_CONNECTION: f64 = 3.5;

/// Write and read units of an alert itself, whoever gets it. Source: `docs/cost.md`.
const WRITES_PER_ALERT: f64 = 11.0;
const READS_PER_ALERT: f64 = 3.0;

/// Read units for each connection that gets an alert: an item of 113 bytes, read consistently.
const READS_PER_PUSH: f64 = 113.0 / 4096.0;

/// GB-seconds of deliver for each push. Source: `docs/scale.md`.
const GB_SECONDS_PER_PUSH: f64 = 0.00038;

/// Bytes of a pushed alert with what TLS and TCP add.
const BYTES_PER_PUSH: f64 = 600.0;

/// Bytes that an invocation logs, those of Lambda itself included.
const LOG_BYTES_PER_INVOCATION: f64 = 700.0;

/// Custom metrics of the template, and the metrics that its alarms watch, each of which is billed.
const METRICS: f64 = 10.0;
const ALARMS: f64 = 28.0;

/// Minutes that a connection to AppSync Events and AWS IoT Core lives at most.
const LONG_LIFE_MINUTES: f64 = 24.0 * 60.0;

/// Minutes of a day.
pub const MINUTES_A_DAY_MAX: u16 = 24 * 60;

/// The AWS region whose prices count where none is named.
pub const DEFAULT_REGION: &str = "us-east-1";

/// How much the service is used. The wire names are those of the command's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Browsers.
    pub clients: u32,
    /// Minutes a day for which each of them is connected, 1 to [`MINUTES_A_DAY_MAX`].
    #[serde(rename = "minutes")]
    pub minutes_a_day: u16,
    /// Alerts a day that each of them gets.
    #[serde(rename = "alerts")]
    pub alerts_a_day: u32,
    /// Alerts a day that are published, in all regions together.
    #[serde(rename = "published")]
    pub published_a_day: u32,
}

impl Usage {
    /// What is reckoned with where nothing else is said: a middling site whose visitors stay for half an hour.
    pub const DEFAULT: Self = Self { clients: 10_000, minutes_a_day: 30, alerts_a_day: 20, published_a_day: 500 };

    /// Connections a month when none lives longer than so many minutes.
    fn connections(&self, life_minutes: f64) -> f64 {
        f64::from(self.clients) * (f64::from(self.minutes_a_day) / life_minutes).ceil() * DAYS
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

/// A price at which something is sold.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Price {
    /// US dollars.
    pub usd: f64,
    /// For so many.
    pub per: f64,
    /// Of what.
    pub of: String,
    /// Where it was read.
    pub source: String,
    /// When, as year and month.
    pub read: String,
}

#[derive(Debug, Deserialize)]
struct File {
    regions: BTreeMap<String, BTreeMap<String, Price>>,
}

/// The prices of one region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prices(BTreeMap<String, Price>);

/// There are no prices for a region.
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

    /// US dollars for so many of what has this name.
    fn usd(&self, price: &str, quantity: f64) -> f64 {
        // Every name that is used here is in the file for every region; a test asks for all.
        self.0.get(price).map_or(f64::NAN, |price| quantity * price.usd / price.per)
    }
}

fn prices_by_region() -> BTreeMap<String, BTreeMap<String, Price>> {
    let file: File = serde_json::from_str(include_str!("../prices.json")).expect("a test reads the file");
    file.regions
}

/// What a line is for, so that services can be compared part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// That connections are open.
    Connections,
    /// Keeping them open.
    Pings,
    /// Messages but pings.
    Messages,
    /// Functions that run.
    Functions,
    /// Reading and writing tables.
    Tables,
    /// Logs, metrics and alarms.
    Operation,
    /// Bytes to the internet.
    Transfer,
    /// What is paid whatever is used.
    Package,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What it is for.
    pub part: Part,
    /// What is paid for.
    pub what: &'static str,
    /// How many in a month.
    pub quantity: f64,
    /// US dollars in a month.
    pub usd: f64,
}

/// What one service costs in a month.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// Who sells it.
    pub service: &'static str,
    /// US dollars in a month: the sum of the lines.
    pub total: f64,
    /// What it consists of.
    pub lines: Vec<Line>,
}

impl Bill {
    fn new(service: &'static str, lines: Vec<Line>) -> Self {
        Self { service, total: lines.iter().map(|line| line.usd).sum(), lines }
    }
}

/// What a use costs in a month, with the prices behind the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The AWS region.
    pub region: String,
    /// The use.
    pub usage: Usage,
    /// The bills: this project's first, then its alternatives.
    pub bills: Vec<Bill>,
    /// The prices of the region.
    pub prices: Prices,
    /// All regions that there are prices for.
    pub regions: Vec<String>,
}

impl Estimate {
    /// What a use costs at the list prices of an AWS region.
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

/// The bills for a use: this project's first, then its alternatives.
fn bills(usage: &Usage, prices: &Prices) -> Vec<Bill> {
    vec![
        own(usage, prices),
        broker("AppSync Events", ["appsync_minute", "appsync_operation"], usage, prices),
        broker("AWS IoT Core", ["iot_minute", "iot_message"], usage, prices),
        ably(usage, prices),
    ]
}

fn own(usage: &Usage, prices: &Prices) -> Bill {
    let connections = usage.connections(ROTATION_MINUTES);
    let published = usage.published();
    let invocations = connections * INVOCATIONS_PER_CONNECTION + published * 2.0;
    let gb_seconds = invocations * GB_SECONDS_PER_INVOCATION + usage.pushes() * GB_SECONDS_PER_PUSH;
    let writes = connections * WRITES_PER_CONNECTION + published * WRITES_PER_ALERT;
    let reads = connections * READS_PER_CONNECTION + published * READS_PER_ALERT + usage.pushes() * READS_PER_PUSH;
    let lines = vec![
        prices.line(Part::Connections, "API Gateway: minutes of connections", "gateway_minute", usage.minutes()),
        prices.line(
            Part::Pings,
            "API Gateway: pings and their answers",
            "gateway_message",
            usage.minutes() / PING_MINUTES * 2.0,
        ),
        prices.line(Part::Messages, "API Gateway: alerts", "gateway_message", usage.pushes()),
        prices.line(
            Part::Messages,
            "API Gateway: subscriptions",
            "gateway_message",
            connections * MESSAGES_PER_CONNECTION,
        ),
        prices.line(Part::Functions, "Lambda: invocations", "lambda_request", invocations),
        prices.line(Part::Functions, "Lambda: GB-seconds", "lambda_gb_second", gb_seconds),
        prices.line(Part::Tables, "DynamoDB: write units", "dynamodb_write", writes),
        prices.line(Part::Tables, "DynamoDB: read units", "dynamodb_read", reads),
        prices.line(Part::Operation, "CloudWatch: GB of logs", "log_gb", invocations * LOG_BYTES_PER_INVOCATION / 1e9),
        prices.line(Part::Operation, "CloudWatch: metrics", "metric", METRICS),
        prices.line(Part::Operation, "CloudWatch: alarms", "alarm", ALARMS),
        prices.line(Part::Transfer, "GB to the internet", "transfer_gb", usage.pushes() * BYTES_PER_PUSH / 1e9),
    ];
    Bill::new("Viral Alerts", lines)
}

/// A service whose connections live for a day, whose pings are free, and that counts what is published, delivered, and asked for
/// when a client connects.
fn broker(service: &'static str, [minute, operation]: [&str; 2], usage: &Usage, prices: &Prices) -> Bill {
    let connections = usage.connections(LONG_LIFE_MINUTES);
    let operations = usage.pushes() + usage.published() + connections * MESSAGES_PER_CONNECTION;
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
        prices.line(Part::Package, "package", "ably_package", 1.0),
    ];
    Bill::new("Ably", lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(clients: u32, minutes_a_day: u16) -> Usage {
        Usage { clients, minutes_a_day, ..Usage::DEFAULT }
    }

    fn prices() -> Prices {
        Prices::of_region(DEFAULT_REGION).expect("known")
    }

    #[test]
    fn every_price_is_there_with_its_source_and_date() {
        let estimate = Estimate::new(usage(1, 1), DEFAULT_REGION).expect("known");
        for region in estimate.regions {
            let prices = Prices::of_region(&region).expect("known");
            for (name, price) in prices.iter() {
                assert!(price.usd > 0.0 && price.per >= 1.0 && !price.of.is_empty(), "{region}: {name}");
                assert!(price.source.starts_with("https://") && price.read.len() == 7, "{region}: {name}");
            }
            assert!(bills(&usage(1, 1), &prices).iter().all(|bill| bill.total.is_finite()), "{region}");
        }
    }

    #[test]
    fn an_unknown_region_is_refused_by_name() {
        let refusal = Prices::of_region("me-central-1").expect_err("unknown").to_string();
        assert!(refusal.contains("me-central-1") && refusal.contains("us-east-1"), "{refusal}");
    }

    #[test]
    fn idle_minutes_and_pings_are_what_they_are_by_hand() {
        let bill = own(&usage(100_000, 1_440), &prices());
        let usd = |what: &str| bill.lines.iter().find(|line| line.what.contains(what)).expect(what).usd;
        // 100,000 × 43,200 minutes at $0.25 for a million.
        assert!((usd("minutes of connections") - 1_080.0).abs() < 0.01);
        // A ping and its answer every 9.5 minutes, at $1 for a million.
        assert!((usd("pings") - 909.47).abs() < 0.01);
        // 100,000 × 20 × 30 alerts.
        assert!((usd("alerts") - 60.0).abs() < 0.01);
    }

    #[test]
    fn half_an_hour_a_day_costs_a_fraction_of_always_on() {
        let total = |minutes| own(&usage(100_000, minutes), &prices()).total;
        assert!(total(30) < total(1_440) / 10.0, "{} {}", total(30), total(1_440));
    }
}
