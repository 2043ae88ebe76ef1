//! Metrics as CloudWatch takes them from a log: one JSON document on a line (embedded metric format).
//!
//! Source: CloudWatch user guide, "Embedding metrics within logs".

use std::time::Duration;

use clock::Timestamp;
use serde_json::{Map, Value, json};

use crate::fanout::{Content, Report};

/// Namespace of the metrics. With the one dimension each of them costs what one custom metric does.
const NAMESPACE: &str = "ViralAlerts";

/// Where metrics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// To standard output, which is the log of a function.
    Log,
    /// Nowhere: standard output is somebody else's.
    Off,
}

impl Metrics {
    /// Writes one document.
    pub fn emit(self, document: &Value) {
        if self == Self::Log {
            println!("{document}");
        }
    }
}

/// The metric of an invocation of recover: how many forgotten alerts it has dispatched.
pub fn of_recovery(recovered: u64, function: &str, at: Timestamp) -> Value {
    document(&[("Recovered", "Count", json!(recovered))], function, at)
}

/// The metric of recover where nearly as many regions have a log as may have one.
pub fn of_regions(regions: usize, function: &str, at: Timestamp) -> Value {
    document(&[("Regions", "Count", json!(regions))], function, at)
}

/// The metrics of a run of the synthetic canary: whether its alert arrived, 1 or 0, and how long that took.
pub fn of_canary(latency: Option<Duration>, function: &str, at: Timestamp) -> Value {
    let mut metrics = vec![("Arrived", "Count", json!(u8::from(latency.is_some())))];
    metrics.extend(latency.map(|latency| ("ArrivalLatency", "Milliseconds", json!(latency.as_secs_f64() * 1_000.0))));
    document(&metrics, function, at)
}

/// The metrics of one part of a fan-out, with what was delivered as properties that can be searched for and cost nothing.
pub fn of_fanout(report: &Report, content: &Content, function: &str, at: Timestamp) -> Value {
    let undelivered = report.undelivered.values().sum::<u64>();
    let metrics = [
        ("Sent", "Count", json!(report.sent)),
        ("Gone", "Count", json!(report.gone)),
        ("Undelivered", "Count", json!(undelivered)),
        ("Retried", "Count", json!(report.retried)),
        ("Throttled", "Count", json!(report.throttled)),
        ("PostP50", "Milliseconds", json!(report.post_p50_ms)),
        ("PostP99", "Milliseconds", json!(report.post_p99_ms)),
        ("Lag", "Milliseconds", json!(report.lag_ms)),
    ];
    let mut document = document(&metrics, function, at);
    document["Alert"] = json!(content.id());
    document["Region"] = json!(content.place());
    document["Seq"] = json!(content.seq());
    document
}

/// A document with metrics: the name, the unit and the value of each.
fn document(metrics: &[(&str, &str, Value)], function: &str, at: Timestamp) -> Value {
    let definitions: Vec<Value> = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": definitions});
    let mut document = Map::from_iter([
        ("_aws".to_owned(), json!({"Timestamp": at.millis(), "CloudWatchMetrics": [directive]})),
        ("FunctionName".to_owned(), json!(function)),
    ]);
    document.extend(metrics.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())));
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::alert::{Alert, Position},
        push::Cause,
    };

    #[test]
    fn every_metric_that_is_declared_has_a_value_and_the_document_is_one_line() {
        let alert = Alert {
            id: "id".to_owned(),
            region: "PL".parse().expect("a region"),
            position: Position { epoch: 1, seq: 7 },
            video: serde_json::from_str(r#"{"id":"v","title":"a\nb","thumbnail":"","score":99}"#).expect("a video"),
            at: Timestamp::from_millis(0),
        };
        let report = Report {
            sent: 3,
            undelivered: [(Cause::TimedOut, 1), (Cause::Throttled, 2)].into(),
            lag_ms: 41,
            ..Report::default()
        };
        let at = Timestamp::from_millis(1_795_000_000_000);
        let document = of_fanout(&report, &Content::Alert(alert), "Deliver", at);
        complete(&document);
        assert_eq!((&document["Sent"], &document["Undelivered"], &document["Lag"]), (&json!(3), &json!(3), &json!(41)));
        complete(&of_recovery(2, "Recover", at));
        assert_eq!(of_recovery(2, "Recover", at)["Recovered"], 2);
        let arrived = of_canary(Some(Duration::from_millis(41)), "Canary", at);
        complete(&arrived);
        assert_eq!((&arrived["Arrived"], &arrived["ArrivalLatency"]), (&json!(1), &json!(41.0)));
        let silent = of_canary(None, "Canary", at);
        complete(&silent);
        assert_eq!((&silent["Arrived"], silent.get("ArrivalLatency")), (&json!(0), None));
        complete(&of_regions(250, "Recover", at));
        assert_eq!(of_regions(250, "Recover", at)["Regions"], 250);
    }

    fn complete(document: &Value) {
        let directive = &document["_aws"]["CloudWatchMetrics"][0];
        for metric in directive["Metrics"].as_array().expect("metrics") {
            let name = metric["Name"].as_str().expect("a name");
            assert!(document[name].is_number(), "{name}");
        }
        for dimension in directive["Dimensions"][0].as_array().expect("dimensions") {
            assert!(document[dimension.as_str().expect("a name")].is_string());
        }
        assert!(!document.to_string().contains('\n'));
    }
}
