//! What a function says about its batch.

use hyper::body::Bytes;
use serde_json::Value;

use crate::{invocation::InvokeError, json};

/// The outcome of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// All of it is done.
    Done,
    /// The items of these ids failed.
    Failed(Vec<String>),
    /// All of it failed.
    AllFailed,
}

/// Reads the answer of a function. `ids` are those of the batch.
///
/// Source: Lambda developer guide, "Implementing partial batch responses", "Success and failure conditions".
pub(super) fn outcome(answer: &Result<Bytes, InvokeError>, reports_failures: bool, ids: &[&str]) -> BatchOutcome {
    let Ok(answer) = answer else { return BatchOutcome::AllFailed };
    if !reports_failures {
        return BatchOutcome::Done;
    }
    let Ok(answer) = json::read_answer(answer) else { return BatchOutcome::AllFailed };
    let failures = match answer.get("batchItemFailures") {
        None | Some(Value::Null) => return BatchOutcome::Done,
        Some(Value::Array(failures)) if failures.is_empty() => return BatchOutcome::Done,
        Some(Value::Array(failures)) => failures,
        Some(_) => return BatchOutcome::AllFailed,
    };
    let id = |failure: &Value| {
        let id = failure.get("itemIdentifier")?.as_str()?;
        ids.contains(&id).then(|| id.to_owned())
    };
    failures.iter().map(id).collect::<Option<_>>().map_or(BatchOutcome::AllFailed, BatchOutcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: &str, reports: bool) -> BatchOutcome {
        outcome(&Ok(Bytes::from(answer.to_owned())), reports, &["a", "b"])
    }

    #[test]
    fn an_answer_is_read_as_documented() {
        let half = r#"{"batchItemFailures": [], "log": "\ud83d"}"#;
        for done in ["null", "{}", r#"{"batchItemFailures": []}"#, r#"{"batchItemFailures": null}"#, r#""text""#, half]
        {
            assert_eq!(of(done, true), BatchOutcome::Done, "{done}");
        }
        let failed = r#"{"batchItemFailures": [{"itemIdentifier": "b"}]}"#;
        assert_eq!(of(failed, true), BatchOutcome::Failed(vec!["b".to_owned()]));
        assert_eq!(of(failed, false), BatchOutcome::Done, "unless the mapping asks for it");
        for all in [
            r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#,
            r#"{"batchItemFailures": [{"wrong": "b"}]}"#,
            r#"{"batchItemFailures": [{"itemIdentifier": "other"}]}"#,
            r#"{"batchItemFailures": "b"}"#,
            "not JSON",
        ] {
            assert_eq!(of(all, true), BatchOutcome::AllFailed, "{all}");
        }
        let thrown = Err(InvokeError::UnknownFunction("f".to_owned()));
        assert_eq!(outcome(&thrown, true, &[]), BatchOutcome::AllFailed);
    }
}
