//! Schedule expressions: when a schedule invokes its function.

use std::time::Duration;

use super::cron::{CronError, CronExpression};

/// A parsed schedule expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleExpression {
    /// `rate(…)`: after every such interval.
    Rate(Duration),
    /// `cron(…)`: in these minutes of UTC.
    Cron(CronExpression),
}

impl ScheduleExpression {
    /// Reads `rate(5 minutes)` or `cron(0 10 * * ? *)`. `None` if it is neither.
    pub(crate) fn parse(expression: &str) -> Result<Option<Self>, CronError> {
        let within = |kind: &str| expression.trim().strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
        match within("cron") {
            Some(fields) => CronExpression::parse(fields).map(Self::Cron).map(Some),
            None => Ok(within("rate").and_then(rate).map(Self::Rate)),
        }
    }
}

/// Reads an interval such as `5 minutes`.
fn rate(interval: &str) -> Option<Duration> {
    let (count, unit) = interval.trim().split_once(' ')?;
    let secs = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        "day" | "days" => 24 * 60 * 60,
        _ => return None,
    };
    let count: u64 = count.parse().ok()?;
    (count > 0).then(|| count.checked_mul(secs).map(Duration::from_secs)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_what_is_neither_rate_nor_cron_is_not() {
        let every = |secs| Ok(Some(ScheduleExpression::Rate(Duration::from_secs(secs))));
        assert_eq!(ScheduleExpression::parse("rate(1 minute)"), every(60));
        assert_eq!(ScheduleExpression::parse("rate(2 hours)"), every(7_200));
        assert!(matches!(ScheduleExpression::parse(" cron(0 1 * * ? *) "), Ok(Some(ScheduleExpression::Cron(_)))));
        assert!(matches!(ScheduleExpression::parse("cron(0 1 * * * *)"), Err(CronError::Days)));
        for bad in ["rate(0 minutes)", "rate(minute)", "rate(5 weeks)", "at(2026-11-22T00:00:00)", "cron", "cron(", ""]
        {
            assert_eq!(ScheduleExpression::parse(bad), Ok(None), "{bad}");
        }
        assert_eq!(ScheduleExpression::parse("rate(18446744073709551615 days)"), Ok(None));
    }
}
