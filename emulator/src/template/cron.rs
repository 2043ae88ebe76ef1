//! `cron(minutes hours day-of-month month day-of-week year)` as EventBridge documents it
//! (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cron-expressions.html>): in UTC, to the minute.
//!
//! Where the documentation is silent, it works as in Quartz, whose syntax this is: names in either case, `*/5`, a step
//! within a range, `LW` and `L-3`. `31W` does not match a month without a 31st. Nothing here does I/O or reads a clock.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use clock::Timestamp;
use time::{Date, Month, OffsetDateTime, Time, Weekday, util::days_in_month};

/// Seconds of a minute.
const MINUTE_SECS: i64 = 60;

/// Most occurrences of a day of the week in a month.
const OCCURRENCES_MAX: u16 = 5;

/// Largest number after `L-`: no month has more days before its last one. Source: Quartz.
const BEFORE_LAST_MAX: u16 = 30;

/// One of the six fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CronField {
    Minutes,
    Hours,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl CronField {
    const fn bounds(self) -> RangeInclusive<u16> {
        match self {
            Self::Minutes => 0..=59,
            Self::Hours => 0..=23,
            Self::DayOfMonth => 1..=31,
            Self::Month => 1..=12,
            Self::DayOfWeek => 1..=7,
            Self::Year => 1970..=2199,
        }
    }

    /// Names of the values, in order.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
            Self::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
            _ => &[],
        }
    }

    fn error(self, text: &str, problem: CronFieldProblem) -> CronError {
        CronError::Field { field: self, text: text.to_owned(), problem }
    }

    fn value(self, text: &str) -> Result<u16, CronError> {
        let named = self.names().iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.and_then(|index| u16::try_from(index).ok()).map(|index| self.bounds().start() + index);
        value
            .or_else(|| number(text))
            .filter(|value| self.bounds().contains(value))
            .ok_or_else(|| self.error(text, CronFieldProblem::Value(self)))
    }

    /// The values of `*`, `5`, `5-10`, and of each with `/step`. A range that ends before it begins wraps around, as
    /// the hours `20-2` do.
    fn values(self, text: &str) -> Result<BTreeSet<u16>, CronError> {
        let (min, max) = self.bounds().into_inner();
        let (base, step) = match text.split_once('/') {
            Some(_) if self == Self::DayOfWeek => return Err(self.error(text, CronFieldProblem::Slash)),
            Some((base, step)) => (base, Some(step)),
            None => (text, None),
        };
        let (first, last) = match base.split_once('-') {
            _ if base == "*" => (min, max),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => {
                let first = self.value(base)?;
                // A step without a range goes on to the last value.
                (first, if step.is_some() { max } else { first })
            }
        };
        let step = match step {
            Some(step) => number(step)
                .filter(|step| (1..=max).contains(step))
                .ok_or_else(|| self.error(text, CronFieldProblem::Step(max)))?,
            None => 1,
        };
        let count = max - min + 1;
        let span = match last.checked_sub(first) {
            Some(span) => span,
            None if self == Self::Year => return Err(self.error(text, CronFieldProblem::Backwards)),
            None => count - first + last,
        };
        let values = (0..=span).step_by(step.into());
        Ok(values.map(|offset| min + (first - min + offset) % count).collect())
    }

    fn all_values(self, text: &str) -> Result<BTreeSet<u16>, CronError> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            values.append(&mut self.values(part)?);
        }
        Ok(values)
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
            Self::Year => "year",
        })
    }
}

/// Why an expression is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CronError {
    #[error("expected the six fields minutes hours day-of-month month day-of-week year in cron(…), not {0}")]
    Fields(usize),
    #[error("exactly one of day-of-month and day-of-week must be ?")]
    Days,
    #[error("invalid {field} {text:?}: {problem}")]
    Field { field: CronField, text: String, problem: CronFieldProblem },
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CronFieldProblem {
    #[error("{}", values_of(*.0))]
    Value(CronField),
    #[error("expected a step from 1 to {0}")]
    Step(u16),
    #[error("this field does not take /")]
    Slash,
    #[error("a range of years cannot end before it begins")]
    Backwards,
    #[error("expected a number from 0 to {BEFORE_LAST_MAX} after L-")]
    BeforeLast,
    #[error("expected a number from 1 to {OCCURRENCES_MAX} after #")]
    Occurrence,
    #[error("# must be alone in its field")]
    Alone,
}

/// The values that a field takes, for an error message.
fn values_of(field: CronField) -> String {
    let (min, max) = field.bounds().into_inner();
    match field.names() {
        [first, .., last] => format!("expected {min}-{max} or {first}-{last}"),
        _ => format!("expected {min}-{max}"),
    }
}

/// A parsed `cron(…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpression {
    minutes: BTreeSet<u16>,
    hours: BTreeSet<u16>,
    days: Days,
    months: BTreeSet<u16>,
    years: BTreeSet<u16>,
}

/// The field that is not `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Vec<DayOfMonth>),
    OfWeek(Vec<DayOfWeek>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DayOfMonth {
    Days(BTreeSet<u16>),
    /// `L`, the last day, or `L-3`, three days before it.
    Last {
        before: u8,
    },
    /// `LW`
    LastWorkday,
    /// `15W`: the workday, Monday to Friday, of the same month that is closest to the 15th.
    NearestWorkday(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DayOfWeek {
    /// From 1, which is Sunday.
    Days(BTreeSet<u16>),
    /// `6L`: the last of its kind in the month.
    Last(u16),
    /// `3#2`: the second Tuesday.
    Nth { weekday: u16, nth: u8 },
}

impl CronExpression {
    /// Reads the six fields between the brackets.
    pub(crate) fn parse(fields: &str) -> Result<Self, CronError> {
        let fields: Vec<_> = fields.split_whitespace().collect();
        let [minutes, hours, day_of_month, month, day_of_week, year] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let days = match (day_of_month, day_of_week) {
            ("?", "?") => return Err(CronError::Days),
            (days, "?") => Days::OfMonth(days.split(',').map(DayOfMonth::parse).collect::<Result<_, _>>()?),
            ("?", days) => Days::OfWeek(DayOfWeek::parse_all(days)?),
            _ => return Err(CronError::Days),
        };
        Ok(Self {
            minutes: CronField::Minutes.all_values(minutes)?,
            hours: CronField::Hours.all_values(hours)?,
            days,
            months: CronField::Month.all_values(month)?,
            years: CronField::Year.all_values(year)?,
        })
    }

    /// The first minute of the schedule after `after`. `None` when there is none before 2200.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let minute = after.secs().div_euclid(MINUTE_SECS).checked_add(1)?;
        let from = OffsetDateTime::from_unix_timestamp(minute.checked_mul(MINUTE_SECS)?).ok()?;
        let dates = self.years.iter().flat_map(|&year| self.months.iter().map(move |&month| (year.into(), month)));
        let dates = dates.filter(|&(year, month)| (year, month) >= (from.year(), u8::from(from.month()).into()));
        let dates = dates.flat_map(|(year, month)| days_of(year, month)).filter(|&date| self.days.contain(date));
        let at = dates.filter(|&date| date >= from.date()).find_map(|date| {
            let earliest = if date == from.date() { from.time() } else { Time::MIDNIGHT };
            Some(date.with_time(self.time_from(earliest)?).assume_utc())
        })?;
        Some(Timestamp::from_millis(at.unix_timestamp() * 1_000))
    }

    /// The first time of a day at or after `earliest`.
    fn time_from(&self, earliest: Time) -> Option<Time> {
        let (first_hour, first_minute) = (u16::from(earliest.hour()), u16::from(earliest.minute()));
        self.hours.range(first_hour..).find_map(|&hour| {
            let from = if hour == first_hour { first_minute } else { 0 };
            let minute = *self.minutes.range(from..).next()?;
            Time::from_hms(hour.try_into().ok()?, minute.try_into().ok()?, 0).ok()
        })
    }
}

impl Days {
    fn contain(&self, date: Date) -> bool {
        match self {
            Self::OfMonth(days) => days.iter().any(|days| days.contain(date)),
            Self::OfWeek(days) => days.iter().any(|days| days.contain(date)),
        }
    }
}

impl DayOfMonth {
    fn parse(text: &str) -> Result<Self, CronError> {
        const FIELD: CronField = CronField::DayOfMonth;
        let upper = text.to_ascii_uppercase();
        if upper == "L" {
            return Ok(Self::Last { before: 0 });
        }
        if upper == "LW" {
            return Ok(Self::LastWorkday);
        }
        if let Some(before) = upper.strip_prefix("L-") {
            let before = number(before).filter(|before| *before <= BEFORE_LAST_MAX);
            // Its bound fits in eight bits; so do the two bounds below.
            return before
                .map(|before| Self::Last { before: before as u8 })
                .ok_or_else(|| FIELD.error(text, CronFieldProblem::BeforeLast));
        }
        if let Some(day) = upper.strip_suffix('W') {
            return FIELD.value(day).map(|day| Self::NearestWorkday(day as u8));
        }
        FIELD.values(text).map(Self::Days)
    }

    fn contain(&self, date: Date) -> bool {
        let length = days_in_month(date.month(), date.year());
        match self {
            Self::Days(days) => days.contains(&date.day().into()),
            Self::Last { before } => date.day() + before == length,
            Self::LastWorkday => is_nearest_workday(date, length),
            Self::NearestWorkday(day) => *day <= length && is_nearest_workday(date, *day),
        }
    }
}

/// Whether `date` is the workday closest to a day of its month.
fn is_nearest_workday(date: Date, day: u8) -> bool {
    let length = days_in_month(date.month(), date.year());
    let nearest = match date.replace_day(day).map(Date::weekday) {
        Ok(Weekday::Saturday) if day == 1 => 3,
        Ok(Weekday::Saturday) => day - 1,
        Ok(Weekday::Sunday) if day == length => day - 2,
        Ok(Weekday::Sunday) => day + 1,
        Ok(_) => day,
        Err(_) => return false,
    };
    date.day() == nearest
}

impl DayOfWeek {
    fn parse_all(text: &str) -> Result<Vec<Self>, CronError> {
        let days = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if days.len() > 1 && days.iter().any(|days| matches!(days, Self::Nth { .. })) {
            return Err(CronField::DayOfWeek.error(text, CronFieldProblem::Alone));
        }
        Ok(days)
    }

    fn parse(text: &str) -> Result<Self, CronError> {
        const FIELD: CronField = CronField::DayOfWeek;
        if let Some((weekday, nth)) = text.split_once('#') {
            let nth = number(nth).filter(|nth| (1..=OCCURRENCES_MAX).contains(nth));
            let nth = nth.ok_or_else(|| FIELD.error(text, CronFieldProblem::Occurrence))?;
            return Ok(Self::Nth { weekday: FIELD.value(weekday)?, nth: nth as u8 });
        }
        match text.strip_suffix(['L', 'l']) {
            // The last day of the week, which is Saturday: of every week.
            Some("") => Ok(Self::Days([*FIELD.bounds().end()].into())),
            Some(weekday) => Ok(Self::Last(FIELD.value(weekday)?)),
            None => FIELD.values(text).map(Self::Days),
        }
    }

    fn contain(&self, date: Date) -> bool {
        let weekday = u16::from(date.weekday().number_days_from_sunday()) + 1;
        match self {
            Self::Days(days) => days.contains(&weekday),
            Self::Last(last) => weekday == *last && date.day() + 7 > days_in_month(date.month(), date.year()),
            Self::Nth { weekday: of, nth } => weekday == *of && date.day().div_ceil(7) == *nth,
        }
    }
}

/// Reads a number of digits only, without a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn days_of(year: i32, month: u16) -> impl Iterator<Item = Date> {
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
    let days = month.map(|month| (month, days_in_month(month, year)));
    days.into_iter().flat_map(move |(month, days)| {
        (1..=days).filter_map(move |day| Date::from_calendar_date(year, month, day).ok())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::{Duration, format_description::well_known::Rfc3339};

    use super::*;

    fn at(text: &str) -> Timestamp {
        let at = OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).expect("a time");
        Timestamp::from_millis(at.unix_timestamp() * 1_000)
    }

    #[test]
    fn the_next_times_are_those_that_are_documented() {
        // Expression, a moment, and the times that follow it. 2026-11-01 is a Sunday.
        let table: [(&str, &str, &[&str]); 29] = [
            // The examples of EventBridge.
            ("0 10 * * ? *", "2026-11-22T09:59:59", &["2026-11-22T10:00:00", "2026-11-23T10:00:00"]),
            ("15 12 * * ? *", "2026-11-22T12:15:00", &["2026-11-23T12:15:00"]),
            ("0 18 ? * MON-FRI *", "2026-11-20T18:00:00", &["2026-11-23T18:00:00", "2026-11-24T18:00:00"]),
            ("0 8 1 * ? *", "2026-11-22T00:00:00", &["2026-12-01T08:00:00", "2027-01-01T08:00:00"]),
            ("0/15 * * * ? *", "2026-11-22T23:31:00", &["2026-11-22T23:45:00", "2026-11-23T00:00:00"]),
            ("0/10 * ? * MON-FRI *", "2026-11-20T23:50:00", &["2026-11-23T00:00:00", "2026-11-23T00:10:00"]),
            ("0/5 8-17 ? * MON-FRI *", "2026-11-20T17:50:00", &["2026-11-20T17:55:00", "2026-11-23T08:00:00"]),
            ("0/30 20-2 ? * MON-FRI *", "2026-11-20T23:00:00", &["2026-11-20T23:30:00", "2026-11-23T00:00:00"]),
            ("0/30 20-2 ? * MON-FRI *", "2026-11-23T02:00:00", &["2026-11-23T02:30:00", "2026-11-23T20:00:00"]),
            ("5,35 14 * * ? *", "2026-11-22T14:05:00", &["2026-11-22T14:35:00", "2026-11-23T14:05:00"]),
            ("15 10 ? * 6L 2019-2022", "2022-11-01T00:00:00", &["2022-11-25T10:15:00", "2022-12-30T10:15:00"]),
            ("1/10 * * * ? *", "2026-11-22T10:00:00", &["2026-11-22T10:01:00", "2026-11-22T10:11:00"]),
            ("1/10 * * * ? *", "2026-11-22T10:51:00", &["2026-11-22T11:01:00"]),
            ("0 0 3W * ? *", "2026-10-04T00:00:00", &["2026-11-03T00:00:00", "2026-12-03T00:00:00"]),
            ("0 0 ? * 3#2 *", "2026-11-01T00:00:00", &["2026-11-10T00:00:00", "2026-12-08T00:00:00"]),
            ("0 0 1 JAN,FEB,MAR ? *", "2026-02-01T00:00:00", &["2026-03-01T00:00:00", "2027-01-01T00:00:00"]),
            ("0 0 1-15 * ? *", "2026-11-14T00:00:00", &["2026-11-15T00:00:00", "2026-12-01T00:00:00"]),
            ("0 0 L * ? *", "2024-02-01T00:00:00", &["2024-02-29T00:00:00", "2024-03-31T00:00:00"]),
            ("0 0 ? * L *", "2026-11-01T00:00:00", &["2026-11-07T00:00:00", "2026-11-14T00:00:00"]),
            // The closest workday: a Saturday's is Friday, a Sunday's Monday, and never one of another month.
            ("0 0 21W 11 ? 2026", "2026-01-01T00:00:00", &["2026-11-20T00:00:00"]),
            ("0 0 22W 11 ? 2026", "2026-01-01T00:00:00", &["2026-11-23T00:00:00"]),
            ("0 0 1W 8 ? 2026", "2026-01-01T00:00:00", &["2026-08-03T00:00:00"]),
            ("0 0 31W * ? 2026", "2026-03-31T00:00:00", &["2026-05-29T00:00:00", "2026-07-31T00:00:00"]),
            ("0 0 31W 5 ? 2026", "2026-01-01T00:00:00", &["2026-05-29T00:00:00"]),
            // As in Quartz.
            ("0 0 LW * ? *", "2026-10-31T00:00:00", &["2026-11-30T00:00:00", "2026-12-31T00:00:00"]),
            ("0 0 L-3 * ? *", "2026-11-01T00:00:00", &["2026-11-27T00:00:00", "2026-12-28T00:00:00"]),
            ("*/20 0 ? * fri#5 *", "2026-11-01T00:00:00", &["2027-01-29T00:00:00", "2027-01-29T00:20:00"]),
            ("10-30/15 0 ? nov-dec sat-mon *", "2026-11-21T00:25:00", &["2026-11-22T00:10:00", "2026-11-22T00:25:00"]),
            ("0 20-2/3 1 1 ? *", "2026-01-01T00:00:00", &["2026-01-01T02:00:00", "2026-01-01T20:00:00"]),
        ];
        for (expression, after, expected) in table {
            let cron = CronExpression::parse(expression).expect(expression);
            let times = std::iter::successors(cron.next(at(after)), |time| cron.next(*time));
            let times: Vec<_> = times.take(expected.len()).map(Timestamp::rfc3339_secs).collect();
            assert_eq!(times, expected.iter().map(|time| format!("{time}Z")).collect::<Vec<_>>(), "{expression}");
        }
    }

    #[test]
    fn what_never_comes_again_has_no_next_time() {
        for expression in ["0 0 30 2 ? *", "0 0 1 1 ? 2020", "0 0 ? 2 1#5 2025-2026", "0 0 31W 4 ? *"] {
            let cron = CronExpression::parse(expression).expect(expression);
            assert_eq!(cron.next(at("2026-11-22T00:00:00")), None, "{expression}");
        }
        let always = CronExpression::parse("* * * * ? *").expect("valid");
        assert_eq!(always.next(at("2199-12-31T23:58:59")), Some(at("2199-12-31T23:59:00")));
        assert_eq!(always.next(at("2199-12-31T23:59:00")), None);
        assert_eq!(always.next(Timestamp::from_millis(i64::MAX)), None);
        assert_eq!(always.next(Timestamp::from_millis(i64::MIN)), None);
        assert_eq!(always.next(at("1960-01-01T00:00:00")), Some(at("1970-01-01T00:00:00")));
    }

    #[test]
    fn an_invalid_expression_is_refused_with_its_field() {
        for (expression, expected) in [
            (
                "0 10 * * ?",
                "expected the six fields minutes hours day-of-month month day-of-week year in cron(…), not 5",
            ),
            ("", "expected the six fields minutes hours day-of-month month day-of-week year in cron(…), not 0"),
            (
                "0 0 0 10 * * ? *",
                "expected the six fields minutes hours day-of-month month day-of-week year in cron(…), not 8",
            ),
            ("0 10 * * * *", "exactly one of day-of-month and day-of-week must be ?"),
            ("0 10 1 * MON *", "exactly one of day-of-month and day-of-week must be ?"),
            ("0 10 ? * ? *", "exactly one of day-of-month and day-of-week must be ?"),
            ("60 * * * ? *", "invalid minutes \"60\": expected 0-59"),
            ("? * * * ? *", "invalid minutes \"?\": expected 0-59"),
            ("1,,2 * * * ? *", "invalid minutes \"\": expected 0-59"),
            ("+1 * * * ? *", "invalid minutes \"+1\": expected 0-59"),
            ("/5 * * * ? *", "invalid minutes \"\": expected 0-59"),
            ("0/0 * * * ? *", "invalid minutes \"0/0\": expected a step from 1 to 59"),
            ("0/60 * * * ? *", "invalid minutes \"0/60\": expected a step from 1 to 59"),
            ("0 24 * * ? *", "invalid hours \"24\": expected 0-23"),
            ("0 8-24 * * ? *", "invalid hours \"24\": expected 0-23"),
            ("0 0 0 * ? *", "invalid day-of-month \"0\": expected 1-31"),
            ("0 0 32W * ? *", "invalid day-of-month \"32\": expected 1-31"),
            ("0 0 1-5W * ? *", "invalid day-of-month \"1-5\": expected 1-31"),
            ("0 0 L-31 * ? *", "invalid day-of-month \"L-31\": expected a number from 0 to 30 after L-"),
            ("0 0 1,? * ? *", "invalid day-of-month \"?\": expected 1-31"),
            ("0 0 1 13 ? *", "invalid month \"13\": expected 1-12 or JAN-DEC"),
            ("0 0 1 SUN ? *", "invalid month \"SUN\": expected 1-12 or JAN-DEC"),
            ("0 0 ? * 0 *", "invalid day-of-week \"0\": expected 1-7 or SUN-SAT"),
            ("0 0 ? * 8L *", "invalid day-of-week \"8\": expected 1-7 or SUN-SAT"),
            ("0 0 ? * 2/2 *", "invalid day-of-week \"2/2\": this field does not take /"),
            ("0 0 ? * 3#6 *", "invalid day-of-week \"3#6\": expected a number from 1 to 5 after #"),
            ("0 0 ? * 3#1,6#3 *", "invalid day-of-week \"3#1,6#3\": # must be alone in its field"),
            ("0 0 1 * ? 1969", "invalid year \"1969\": expected 1970-2199"),
            ("0 0 1 * ? 2030-2020", "invalid year \"2030-2020\": a range of years cannot end before it begins"),
        ] {
            assert_eq!(CronExpression::parse(expression).expect_err(expression).to_string(), expected, "{expression}");
        }
    }

    /// One item of a list. It finds its values one by one, not as the parser does.
    #[derive(Clone, Debug)]
    struct ListItem {
        first: Option<u16>,
        last: Option<u16>,
        step: Option<u16>,
    }

    impl ListItem {
        fn text(&self) -> String {
            let base = match (self.first, self.last) {
                (None, _) => "*".to_owned(),
                (Some(first), None) => first.to_string(),
                (Some(first), Some(last)) => format!("{first}-{last}"),
            };
            self.step.map_or_else(|| base.clone(), |step| format!("{base}/{step}"))
        }

        /// Walks from the first value to the last, around the end if need be.
        fn contains(&self, value: u16, field: CronField) -> bool {
            let (min, max) = field.bounds().into_inner();
            let first = self.first.unwrap_or(min);
            let last = self.last.unwrap_or(if self.first.is_none() || self.step.is_some() { max } else { first });
            let (mut at, mut walked) = (first, 0);
            loop {
                if at == value && walked % self.step.unwrap_or(1) == 0 {
                    return true;
                }
                if at == last {
                    return false;
                }
                (at, walked) = (if at == max { min } else { at + 1 }, walked + 1);
            }
        }
    }

    fn part(field: CronField) -> impl Strategy<Value = ListItem> {
        let (min, max) = field.bounds().into_inner();
        let step = if field == CronField::DayOfWeek { Just(None).boxed() } else { prop::option::of(1..=max).boxed() };
        (prop::option::of(min..=max), prop::option::of(min..=max), step).prop_map(move |(first, last, step)| {
            let last = last.filter(|last| field != CronField::Year || first.is_none_or(|first| first <= *last));
            ListItem { first, last: last.filter(|_| first.is_some()), step }
        })
    }

    fn parts(field: CronField) -> impl Strategy<Value = Vec<ListItem>> {
        prop::collection::vec(part(field), 1..=3)
    }

    /// A day field with its meaning, found by looking at the days of the month.
    #[derive(Clone, Debug)]
    enum Day {
        Parts(Vec<ListItem>),
        BeforeLast(u16),
        LastWorkday,
        NearestWorkday(u16),
        Weekdays(Vec<ListItem>),
        LastWeekday(u16),
        NthWeekday(u16, u16),
    }

    impl Day {
        /// The fields day-of-month and day-of-week.
        fn fields(&self) -> (String, String) {
            let list = |parts: &[ListItem]| parts.iter().map(ListItem::text).collect::<Vec<_>>().join(",");
            let of_month = |text: String| (text, "?".to_owned());
            let of_week = |text: String| ("?".to_owned(), text);
            match self {
                Self::Parts(parts) => of_month(list(parts)),
                Self::BeforeLast(0) => of_month("L".to_owned()),
                Self::BeforeLast(days) => of_month(format!("L-{days}")),
                Self::LastWorkday => of_month("LW".to_owned()),
                Self::NearestWorkday(day) => of_month(format!("{day}W")),
                Self::Weekdays(parts) => of_week(list(parts)),
                Self::LastWeekday(weekday) => of_week(format!("{weekday}L")),
                Self::NthWeekday(weekday, nth) => of_week(format!("{weekday}#{nth}")),
            }
        }

        fn contains(&self, date: Date) -> bool {
            let month: Vec<_> = days_of(date.year(), u8::from(date.month()).into()).collect();
            let weekday = |date: Date| u16::from(date.weekday().number_from_sunday());
            let is_workday = |date: &&Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
            let alike = month.iter().filter(|other| other.weekday() == date.weekday());
            match self {
                Self::Parts(parts) => parts.iter().any(|part| part.contains(date.day().into(), CronField::DayOfMonth)),
                Self::BeforeLast(days) => month.iter().rev().nth((*days).into()) == Some(&date),
                Self::LastWorkday => month.iter().rfind(is_workday) == Some(&date),
                Self::NearestWorkday(day) => {
                    let distance = |date: &&Date| u16::from(date.day()).abs_diff(*day);
                    usize::from(*day) <= month.len()
                        && month.iter().filter(is_workday).min_by_key(distance) == Some(&date)
                }
                Self::Weekdays(parts) => parts.iter().any(|part| part.contains(weekday(date), CronField::DayOfWeek)),
                Self::LastWeekday(last) => weekday(date) == *last && alike.clone().next_back() == Some(&date),
                Self::NthWeekday(of, nth) => {
                    weekday(date) == *of && alike.clone().nth(usize::from(*nth) - 1) == Some(&date)
                }
            }
        }
    }

    fn day() -> impl Strategy<Value = Day> {
        prop_oneof![
            parts(CronField::DayOfMonth).prop_map(Day::Parts),
            (0..=30_u16).prop_map(Day::BeforeLast),
            Just(Day::LastWorkday),
            (1..=31_u16).prop_map(Day::NearestWorkday),
            parts(CronField::DayOfWeek).prop_map(Day::Weekdays),
            (1..=7_u16).prop_map(Day::LastWeekday),
            (1..=7_u16, 1..=5_u16).prop_map(|(weekday, nth)| Day::NthWeekday(weekday, nth)),
        ]
    }

    /// Days that are looked at, minute by minute where the day itself matches: a leap year and a month more.
    const HORIZON_DAYS: i64 = 400;

    proptest! {
        #[test]
        fn the_next_time_matches_is_later_and_none_lies_between(
            minutes in parts(CronField::Minutes),
            hours in parts(CronField::Hours),
            day in day(),
            months in parts(CronField::Month),
            years in parts(CronField::Year),
            // 1970 to 2199, in seconds.
            after in 0..7_258_118_400_i64,
        ) {
            let list = |parts: &[ListItem]| parts.iter().map(ListItem::text).collect::<Vec<_>>().join(",");
            let (of_month, of_week) = day.fields();
            let expression =
                format!("{} {} {of_month} {} {of_week} {}", list(&minutes), list(&hours), list(&months), list(&years));
            let cron = CronExpression::parse(&expression);
            let cron = cron.map_err(|error| TestCaseError::fail(format!("{expression}: {error}")))?;
            let in_list = |parts: &[ListItem], value: u16, field| parts.iter().any(|part| part.contains(value, field));

            let after = OffsetDateTime::from_unix_timestamp(after).expect("in range");
            let end = after + Duration::days(HORIZON_DAYS);
            let mut minute = after.replace_second(0).expect("a second") + Duration::minutes(1);
            let mut expected = None;
            while expected.is_none() && minute < end && minute.year() <= 2199 {
                let matches_day = day.contains(minute.date())
                    && in_list(&months, u8::from(minute.month()).into(), CronField::Month)
                    && in_list(&years, minute.year().try_into().expect("a year"), CronField::Year);
                let matches_time = || {
                    in_list(&hours, minute.hour().into(), CronField::Hours)
                        && in_list(&minutes, minute.minute().into(), CronField::Minutes)
                };
                if matches_day && matches_time() {
                    expected = Some(minute);
                } else if matches_day {
                    minute += Duration::minutes(1);
                } else {
                    minute = minute.replace_time(Time::MIDNIGHT) + Duration::days(1);
                }
            }
            let next = cron.next(Timestamp::from_millis(after.unix_timestamp() * 1_000));
            let next = next.map(|next| OffsetDateTime::from_unix_timestamp(next.secs()).expect("in range"));
            match expected {
                Some(expected) => prop_assert_eq!(next, Some(expected), "{}", expression),
                None => prop_assert!(next.is_none_or(|next| next >= end), "{}: {:?}", expression, next),
            }
        }
    }
}
