//! What is logged, and how a line begins.

use std::{fmt, io::IsTerminal};

use clock::Clock;
use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

/// Words that people write for a level. A filter takes them for names of targets, which log nothing.
const MISTAKEN: [(&str, &str); 12] = [
    ("dbg", "debug"),
    ("debgu", "debug"),
    ("deubg", "debug"),
    ("err", "error"),
    ("erorr", "error"),
    ("errors", "error"),
    ("inf", "info"),
    ("information", "info"),
    ("inof", "info"),
    ("trcae", "trace"),
    ("warning", "warn"),
    ("warnings", "warn"),
];

/// Checks a filter, and returns it. Refuses words that were probably meant to be levels.
pub(super) fn filter(text: &str) -> Result<String, String> {
    let expected = "expected a level (error, warn, info, debug, trace, off) or pairs such as apigw_local=debug";
    EnvFilter::try_new(text).map_err(|_| format!("{expected}; RUST_LOG counts where the flag is missing"))?;
    for word in text.split(',').map(str::trim) {
        if let Some((_, level)) = MISTAKEN.iter().find(|(mistaken, _)| word.eq_ignore_ascii_case(mistaken)) {
            return Err(format!("{expected}; did you mean {level}?"));
        }
    }
    Ok(text.to_owned())
}

/// Begins to log to standard error.
pub(super) fn start(filter: &str) {
    tracing_subscriber::fmt()
        .with_timer(TimeOfDay)
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// The time of the day in UTC: whoever reads the log has started it.
#[derive(Clone, Copy, Debug)]
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = Clock::System.now().millis();
        let (millis, secs) = (now.rem_euclid(1_000), now.div_euclid(1_000));
        let (hours, minutes, secs) =
            (secs.rem_euclid(86_400) / 3_600, secs.rem_euclid(3_600) / 60, secs.rem_euclid(60));
        write!(writer, "{hours:02}:{minutes:02}:{secs:02}.{millis:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_means_nothing_is_refused_and_one_that_does_is_kept() {
        let levels = ["info", "WARN", "off", "apigw_local=debug", "info,apigw_local::gateway=trace"];
        for good in levels.into_iter().chain(["hyper", "my_crate", "tracer", "debugger", "offset", "in"]) {
            assert_eq!(filter(good).as_deref(), Ok(good));
        }
        for (bad, said) in [
            ("a=b=c", "RUST_LOG counts"),
            ("apigw_local=loud", "expected a level"),
            ("debgu", "did you mean debug?"),
            ("warning", "did you mean warn?"),
            ("err,apigw_local=debug", "did you mean error?"),
        ] {
            let error = filter(bad).expect_err("meaningless");
            assert!(error.starts_with("expected a level") && error.contains(said), "{bad}: {error}");
        }
    }
}
