//! The bill of clients on the second leg (`Delivery=both`): connections and alerts of AppSync Events, and looks at the
//! log over HTTP.

use crate::{
    ALARMS, BYTES_PER_ANSWER, BYTES_PER_PUSH, Bill, DAYS, INVOCATIONS_PER_ALERT, Invocations, LOG_RETENTION_MONTHS,
    METRICS, MINUTES_A_DAY, Part, Prices, READS_PER_RECOVERY, RECOVERIES_A_DAY, STORED_BYTES_PER_ALERT, Usage, units,
};

/// Minutes between looks at the log unless a page sets another number. Source: `CHECK_MS` in `client/src/limits.ts`.
pub const LOOK_MINUTES: f64 = 30.0;

/// Minutes after which the browser client replaces its connection: 20 to 23 hours. Source: `MARGIN_MS` there.
const LIFE_MINUTES: f64 = 21.5 * 60.0;

/// Looks of the browser client when it has connected: one after it has subscribed, and another some seconds later.
const LOOKS_PER_CONNECTION: f64 = 2.0;

/// Operations of a connection: to connect and to subscribe. Tokens have authorize invoked for each.
const OPERATIONS_PER_CONNECTION: f64 = 2.0;

/// Bytes of the access log of the HTTP API for a request.
const ACCESS_LOG_BYTES: f64 = 250.0;

/// Metrics of deliver about the Event API, and those that its alarm watches.
const METRICS_OF_EVENTS: f64 = 2.0;
const ALARMS_OF_EVENTS: f64 = 4.0;

/// The row of a look that finds nothing, in the table of `docs/cost.md`.
const LOOK_ROW: &str = "GET /alerts, none missed";

impl Usage {
    /// Looks at the log in a month: those of a client that connects, and then one every `minutes`.
    pub(crate) fn looks(&self, minutes: f64) -> f64 {
        let a_day = (f64::from(self.minutes_a_day) / minutes).floor();
        self.connections(LIFE_MINUTES) * LOOKS_PER_CONNECTION + f64::from(self.clients) * a_day * DAYS
    }
}

/// Returns the bill if all clients use the Event API, and look at the log every `look_minutes`.
pub fn bill(usage: &Usage, prices: &Prices, look_minutes: f64) -> Bill {
    let [looks, connections, published] =
        [usage.looks(look_minutes), usage.connections(LIFE_MINUTES), usage.published()];
    let recoveries = RECOVERIES_A_DAY * DAYS;
    let looked = Invocations(looks);
    let others = Invocations(connections * OPERATIONS_PER_CONNECTION + published * INVOCATIONS_PER_ALERT + recoveries);
    let (look, alert) = (units::of(LOOK_ROW), units::of("the same with an idempotency key"));
    let one = units::of("an alert to 1");
    let log_gb = looked.log_gb() + others.log_gb() + (looks + published) * ACCESS_LOG_BYTES / 1e9;
    let stored = f64::from(usage.published_a_day) * STORED_BYTES_PER_ALERT;
    let transferred = usage.pushes() * BYTES_PER_PUSH + (looks + connections) * BYTES_PER_ANSWER;
    let rows = [
        (Part::Connections, "AppSync: minutes of connections", "appsync_minute", usage.minutes()),
        (Part::Keepalives, "HTTP API: looks at the log", "http_request", looks),
        (Part::Keepalives, "Lambda: looks", "lambda_request", looks),
        (Part::Keepalives, "Lambda: GB-seconds of looks", "lambda_gb_second", looked.gb_seconds()),
        (Part::Keepalives, "DynamoDB: read units of looks", "dynamodb_read", looks * look.reads),
        (Part::Messages, "AppSync: alerts", "appsync_operation", usage.pushes()),
        (
            Part::Messages,
            "AppSync: connections and subscriptions",
            "appsync_operation",
            connections * OPERATIONS_PER_CONNECTION,
        ),
        (Part::Messages, "AppSync: publications", "appsync_operation", published),
        (Part::Messages, "API Gateway: publications over HTTP", "http_request", published),
        (Part::Functions, "Lambda: invocations", "lambda_request", others.0),
        (Part::Functions, "Lambda: GB-seconds", "lambda_gb_second", others.gb_seconds()),
        (Part::Tables, "DynamoDB: write units", "dynamodb_write", published * alert.writes),
        (
            Part::Tables,
            "DynamoDB: read units",
            "dynamodb_read",
            published * one.reads + recoveries * READS_PER_RECOVERY,
        ),
        (Part::Tables, "DynamoDB: GB stored", "dynamodb_stored_gb", stored / 1e9),
        (Part::Operation, "CloudWatch: GB of logs", "log_gb", log_gb),
        (Part::Operation, "CloudWatch: GB of logs stored", "log_stored_gb", log_gb * LOG_RETENTION_MONTHS),
        (Part::Operation, "CloudWatch: metrics", "metric", METRICS + METRICS_OF_EVENTS),
        (Part::Operation, "CloudWatch: alarms", "alarm", ALARMS + ALARMS_OF_EVENTS),
        (Part::Transfer, "GB to the internet", "transfer_gb", transferred / 1e9),
    ];
    let lines = rows.into_iter().map(|(part, what, price, quantity)| prices.line(part, what, price, quantity));
    Bill::new("Viral Alerts, Event API", lines.collect())
}

/// Returns what one look costs without a cache: the request, the function, the read unit, and the lines of logs.
pub fn look_usd(prices: &Prices) -> f64 {
    let one = Invocations(1.0);
    let log_gb = one.log_gb() + ACCESS_LOG_BYTES / 1e9;
    [
        ("http_request", 1.0),
        ("lambda_request", 1.0),
        ("lambda_gb_second", one.gb_seconds()),
        ("dynamodb_read", units::of(LOOK_ROW).reads),
        ("log_gb", log_gb),
        ("log_stored_gb", log_gb * LOG_RETENTION_MONTHS),
        ("transfer_gb", BYTES_PER_ANSWER / 1e9),
    ]
    .iter()
    .map(|(price, quantity)| prices.usd(price, *quantity))
    .sum()
}

/// Returns the looks of clients that stay open for a month, if there is one every minute.
pub fn looks_every_minute(clients: u32) -> f64 {
    f64::from(clients) * MINUTES_A_DAY * DAYS
}
