//! Repeated measurements, and their row of the report.

use std::time::Duration;

/// Repeated measurements of one thing.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Returns the median, or zero without measurements.
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// Prints a row: median, lowest, highest, count.
    pub(crate) fn print(self, what: &str) {
        if let (Some(lowest), Some(highest)) = (self.0.iter().min(), self.0.iter().max()) {
            let (median, count) = (shown(self.median()), self.0.len());
            println!("| {what} | {median} | {} | {} | {count} |", shown(*lowest), shown(*highest));
        }
    }

    /// Prints the row with the median rate per second.
    pub(crate) fn print_with_rate(self, what: &str, things: usize) {
        let per_second = things as f64 / self.median().as_secs_f64();
        self.print(&format!("{what}, {per_second:.0} per second"));
    }
}

fn shown(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 100.0 {
        format!("{micros:.1} µs")
    } else if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else if micros < 100_000.0 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.0} ms", micros / 1e3)
    }
}
