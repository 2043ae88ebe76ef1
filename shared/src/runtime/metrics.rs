//! Metrics as CloudWatch takes them from a log: one JSON document on a line (embedded metric format).
//!
//! Source: CloudWatch user guide, "Embedding metrics within logs".

use clock::Timestamp;
use serde_json::{Map, Value, json};

/// Namespace of the metrics. With the one dimension each of them costs what one custom metric does.
const NAMESPACE: &str = "ViralAlerts";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// To standard output, which is the log of a function.
    Log,
    /// Nowhere: standard output is somebody else's.
    Off,
}

impl Metrics {
    pub fn emit(self, document: &Value) {
        if self == Self::Log {
            println!("{document}");
        }
    }
}

/// Returns a document with metrics: the name, the unit and the value of each.
pub fn document(metrics: &[(&str, &str, Value)], function: &str, at: Timestamp) -> Value {
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

    #[test]
    fn every_metric_that_is_declared_has_a_value_and_the_document_is_one_line() {
        let metrics = [("Sent", "Count", json!(3)), ("Lag", "Milliseconds", json!(41.5))];
        let document = document(&metrics, "a\nfunction", Timestamp::from_millis(1_795_000_000_000));
        let directive = &document["_aws"]["CloudWatchMetrics"][0];
        let declared: Vec<_> = directive["Metrics"].as_array().expect("metrics").iter().collect();
        assert_eq!(declared.len(), metrics.len());
        for metric in declared {
            let name = metric["Name"].as_str().expect("a name");
            assert!(document[name].is_number(), "{name}");
        }
        for dimension in directive["Dimensions"][0].as_array().expect("dimensions") {
            assert!(document[dimension.as_str().expect("a name")].is_string());
        }
        assert_eq!((&document["Sent"], &document["Lag"]), (&json!(3), &json!(41.5)));
        assert!(!document.to_string().contains('\n'));
    }
}
