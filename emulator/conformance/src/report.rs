//! Results of cases, as text and as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    case::{Case, CaseSource},
    runner::StepFailure,
};

/// Result of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaseOutcome {
    /// The gateway behaves as the case says.
    Passed,
    /// It behaves differently.
    Failed(StepFailure),
    /// It behaves differently from the emulator, and the behaviour of API Gateway is unknown.
    Unconfirmed(StepFailure),
    /// The emulator behaves differently, as the case says.
    Known(StepFailure),
    /// It did not run, and why.
    Skipped(String),
}

impl CaseOutcome {
    /// Rates a result. The emulator must pass every case, other gateways only those with a known source.
    pub(crate) fn of(result: Result<(), StepFailure>, case: &Case, is_emulator: bool) -> Self {
        let known = case.known_difference.as_ref().filter(|_| is_emulator);
        match (result, known) {
            (Ok(()), None) => Self::Passed,
            (Ok(()), Some(known)) => Self::Failed(StepFailure {
                step: case.steps.len(),
                verb: "known-difference",
                expected: known.clone(),
                got: "no difference any more: remove known-difference from the case".to_owned(),
            }),
            (Err(failure), Some(_)) => Self::Known(failure),
            (Err(failure), None) if case.source == CaseSource::Unknown && !is_emulator => Self::Unconfirmed(failure),
            (Err(failure), None) => Self::Failed(failure),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Known(_) => "known",
            Self::Skipped(_) => "skipped",
        }
    }

    const fn failure(&self) -> Option<&StepFailure> {
        match self {
            Self::Failed(failure) | Self::Unconfirmed(failure) | Self::Known(failure) => Some(failure),
            Self::Passed | Self::Skipped(_) => None,
        }
    }
}

/// The results so far.
#[derive(Debug, Default)]
pub(crate) struct ConformanceReport {
    counts: BTreeMap<&'static str, usize>,
    cases: Vec<Value>,
}

impl ConformanceReport {
    /// Adds a result and returns its lines of text.
    pub(crate) fn add(&mut self, case: &Case, outcome: &CaseOutcome, took: Duration) -> String {
        *self.counts.entry(outcome.name()).or_default() += 1;
        let mut entry = json!({
            "name": case.name, "file": case.file, "source": case.source.to_string(), "outcome": outcome.name(),
            "millis": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        let mut lines = format!("{:<12}[{}] {}", outcome.name(), case.source, case.name);
        if let Some(StepFailure { step, verb, expected, got }) = outcome.failure() {
            entry["step"] = json!({"number": step, "verb": verb, "expected": expected, "got": got});
            let file = &case.file;
            lines += &format!(
                "\n            {file}.yaml, step {step} ({verb})\n            expected {expected}\
                 \n            got      {got}\n            see      {}",
                case.cite
            );
        }
        if let CaseOutcome::Skipped(why) = outcome {
            entry["why"] = json!(why);
            lines += &format!(" ({why})");
        }
        self.cases.push(entry);
        lines
    }

    /// Whether at least one case passed and none failed.
    pub(crate) fn is_success(&self) -> bool {
        !self.counts.contains_key("failed") && self.counts.contains_key("passed")
    }

    /// Counts of the results.
    pub(crate) fn summary(&self) -> String {
        let count = |name: &str| self.counts.get(name).copied().unwrap_or_default();
        format!(
            "{} cases: {} passed, {} failed, {} known differences, {} unconfirmed, {} skipped",
            self.cases.len(),
            count("passed"),
            count("failed"),
            count("known"),
            count("unconfirmed"),
            count("skipped")
        )
    }

    /// The report as JSON.
    pub(crate) fn json(&self, gateway: &str) -> Value {
        json!({"gateway": gateway, "counts": self.counts, "cases": self.cases})
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::case;

    fn case(source: &str, more: &str) -> Case {
        let text = format!("- {{name: n, source: '{source}', cite: c, steps: [drop: {{}}]{more}}}");
        case::parse(&text, Path::new("f.yaml")).expect("a case").remove(0)
    }

    #[test]
    fn an_unknown_behaviour_fails_the_emulator_only() {
        let failure = StepFailure { step: 1, verb: "connect", expected: "a".to_owned(), got: "b".to_owned() };
        let of = |source, is_emulator| CaseOutcome::of(Err(failure.clone()), &case(source, ""), is_emulator);
        assert_eq!(of("?", false), CaseOutcome::Unconfirmed(failure.clone()));
        assert_eq!(of("?", true), CaseOutcome::Failed(failure.clone()));
        assert_eq!(of("S", false), CaseOutcome::Failed(failure.clone()));
        assert_eq!(CaseOutcome::of(Ok(()), &case("?", ""), false), CaseOutcome::Passed);
    }

    #[test]
    fn a_known_difference_is_required_in_the_emulator_only() {
        let failure = StepFailure { step: 1, verb: "connect", expected: "a".to_owned(), got: "b".to_owned() };
        let case = case("R", ", known-difference: it does b");
        assert_eq!(CaseOutcome::of(Err(failure.clone()), &case, true), CaseOutcome::Known(failure.clone()));
        assert_eq!(CaseOutcome::of(Err(failure.clone()), &case, false), CaseOutcome::Failed(failure));
        assert!(matches!(CaseOutcome::of(Ok(()), &case, true), CaseOutcome::Failed(_)));
        assert_eq!(CaseOutcome::of(Ok(()), &case, false), CaseOutcome::Passed);
    }

    #[test]
    fn a_run_without_a_passed_case_or_with_a_failed_one_is_not_a_success() {
        let mut report = ConformanceReport::default();
        assert!(!report.is_success(), "no case ran");
        report.add(&case("D", ""), &CaseOutcome::Passed, Duration::ZERO);
        assert!(report.is_success());
        let failure = StepFailure { step: 2, verb: "expect", expected: "a".to_owned(), got: "b".to_owned() };
        let lines = report.add(&case("D", ""), &CaseOutcome::Failed(failure), Duration::ZERO);
        assert!(
            lines.contains("f.yaml, step 2 (expect)") && lines.contains("expected a") && lines.contains("got      b")
        );
        assert!(!report.is_success());
        assert_eq!(report.json("x")["counts"], json!({"failed": 1, "passed": 1}));
    }
}
