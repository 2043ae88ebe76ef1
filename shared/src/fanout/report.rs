//! How a part of a fan-out ended, as a report and as metrics.

use std::collections::BTreeMap;

use clock::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{error::InternalError, fanout::content::Content, push::Cause, runtime::metrics::document};

/// How a part of a fan-out ended, in numbers of connections where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FanoutReport {
    /// The gateway took the alert.
    pub sent: u64,
    /// The connection does not exist any more, as three answers in a row agreed.
    pub gone: u64,
    /// Of those that are gone, how many were there when they were closed after it. Their clients see their sockets
    /// close, and come back.
    pub closed: u64,
    /// The alert did not arrive, by cause. These clients find the gap by its position.
    pub undelivered: BTreeMap<Cause, u64>,
    /// Answers that the rate, or a client's buffer, was exhausted.
    pub throttled: u64,
    /// Posts that were repeated, for any reason.
    pub retried: u64,
    /// Further invocations that were started to share the work.
    pub workers: usize,
    /// Whether the rest was handed over to another invocation because the time ran out.
    pub handed_over: bool,
    /// Whether the alert went to everyone, because its region had no subscribers.
    pub fell_back: bool,
    /// How many are in the audience, as estimated by the invocation that divides it; None of a part.
    pub audience: Option<u64>,
    /// Half of the posts took at most so long, in milliseconds.
    pub post_p50_ms: f64,
    /// All but one in a hundred took at most so long, in milliseconds.
    pub post_p99_ms: f64,
    /// Time from the dispatch to the last push of this part, in milliseconds.
    pub lag_ms: u64,
}

/// A part of a fan-out that failed.
#[derive(Debug)]
pub struct FailedPart {
    /// What it did until then. Posts that were under way are in none of its numbers.
    pub report: Box<FanoutReport>,
    pub failure: InternalError,
}

impl FanoutReport {
    /// Returns the metrics of one part of a fan-out. What was delivered is in properties, which can be searched for and
    /// cost nothing.
    pub fn metrics(&self, content: &Content, function: &str, at: Timestamp) -> Value {
        let undelivered = self.undelivered.values().sum::<u64>();
        let metrics = [
            ("Sent", "Count", json!(self.sent)),
            ("Gone", "Count", json!(self.gone)),
            ("Undelivered", "Count", json!(undelivered)),
            ("Retried", "Count", json!(self.retried)),
            ("Throttled", "Count", json!(self.throttled)),
            ("PostP50", "Milliseconds", json!(self.post_p50_ms)),
            ("PostP99", "Milliseconds", json!(self.post_p99_ms)),
            ("Lag", "Milliseconds", json!(self.lag_ms)),
        ];
        let mut document = document(&metrics, function, at);
        document["Alert"] = json!(content.id());
        document["Region"] = json!(content.place());
        document["Seq"] = json!(content.seq());
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::simulation::world::alert;

    #[test]
    fn the_metrics_of_a_part_have_its_numbers_and_name_what_was_delivered() {
        let report = FanoutReport {
            sent: 3,
            undelivered: [(Cause::TimedOut, 1), (Cause::Throttled, 2)].into(),
            lag_ms: 41,
            ..FanoutReport::default()
        };
        let document = report.metrics(&Content::Alert(alert()), "Deliver", Timestamp::from_millis(7));
        assert_eq!((&document["Sent"], &document["Undelivered"], &document["Lag"]), (&json!(3), &json!(3), &json!(41)));
        assert_eq!((&document["Region"], &document["Seq"]), (&json!("PL"), &json!(1)));
    }
}
