//! Durations, and the line of the report that they make.

use std::time::Duration;

/// Repeated measurements of one thing.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Prints a row: median, lowest, highest, count.
    pub(crate) fn print(mut self, what: &str) {
        self.0.sort_unstable();
        if let [lowest, .., highest] = self.0.as_slice() {
            let median = self.0[self.0.len() / 2];
            println!("| {what} | {} | {} | {} | {} |", shown(median), shown(*lowest), shown(*highest), self.0.len());
        }
    }
}

fn shown(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1_000.0 {
        format!("{micros:.0} µs")
    } else if micros < 100_000.0 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.0} ms", micros / 1e3)
    }
}
