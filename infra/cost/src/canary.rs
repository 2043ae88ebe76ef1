//! What the synthetic canary (`Canary=on`) adds to a month.

use crate::{
    Bill, DAYS, GB_SECONDS_PER_INVOCATION, LOG_BYTES_PER_INVOCATION, LOG_RETENTION_MONTHS, MESSAGES_PER_QUESTION,
    MINUTES_A_DAY, Part, Prices, units,
};

/// Runs in a month: one a minute.
const RUNS: f64 = MINUTES_A_DAY * DAYS;

/// Short invocations of a run: connect, subscribe, publish, disconnect.
const SHORT_INVOCATIONS: f64 = 4.0;

/// All invocations of a run: these, deliver and canary.
const INVOCATIONS: f64 = SHORT_INVOCATIONS + 2.0;

/// GB-seconds of canary in a run: 256 MB for half a second, mostly waiting. An estimate, not measured in an account.
const GB_SECONDS_OF_CANARY: f64 = 0.25 * 0.5;

/// GB-seconds of deliver for one push: 1,769 MB for 50 ms. Also an estimate.
const GB_SECONDS_OF_DELIVER: f64 = 1.73 * 0.05;

/// Messages of a run: the subscription, its answer, and the alert.
const MESSAGES: f64 = MESSAGES_PER_QUESTION + 1.0;

/// `Arrived` and `ArrivalLatency`.
const METRICS: f64 = 2.0;

/// `SilenceAlarm`.
const ALARMS: f64 = 1.0;

/// Returns what the canary adds to a month.
pub fn bill(prices: &Prices) -> Bill {
    let run = units::of("a run of the synthetic canary");
    let gb_seconds = SHORT_INVOCATIONS * GB_SECONDS_PER_INVOCATION + GB_SECONDS_OF_CANARY + GB_SECONDS_OF_DELIVER;
    let log_gb = RUNS * INVOCATIONS * LOG_BYTES_PER_INVOCATION / 1e9;
    let rows = [
        (Part::Connections, "API Gateway: minutes of connections", "gateway_minute", RUNS),
        (Part::Messages, "API Gateway: messages", "gateway_message", RUNS * MESSAGES),
        (Part::Functions, "Lambda: invocations", "lambda_request", RUNS * INVOCATIONS),
        (Part::Functions, "Lambda: GB-seconds", "lambda_gb_second", RUNS * gb_seconds),
        (Part::Tables, "DynamoDB: write units", "dynamodb_write", RUNS * run.writes),
        (Part::Tables, "DynamoDB: read units", "dynamodb_read", RUNS * run.reads),
        (Part::Operation, "CloudWatch: GB of logs", "log_gb", log_gb),
        (Part::Operation, "CloudWatch: GB of logs stored", "log_stored_gb", log_gb * LOG_RETENTION_MONTHS),
        (Part::Operation, "CloudWatch: metrics", "metric", METRICS),
        (Part::Operation, "CloudWatch: alarms", "alarm", ALARMS),
    ];
    let lines = rows.into_iter().map(|(part, what, price, quantity)| prices.line(part, what, price, quantity));
    Bill::new("The synthetic canary", lines.collect())
}
