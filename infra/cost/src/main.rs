//! `cargo run -p cost`: prints what a month costs.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use clap::Parser;
use cost::{Prices, Usage, bills};

/// What a month of Viral Alerts costs at list price, beside the alternatives.
#[derive(Debug, Parser)]
struct Arguments {
    /// Browsers
    #[arg(long, default_value_t = 10_000)]
    clients: u32,

    /// Minutes a day for which each of them is connected
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1_440))]
    minutes: u16,

    /// Alerts a day that each of them gets
    #[arg(long, default_value_t = 20)]
    alerts: u32,

    /// Alerts a day that are published, in all regions together
    #[arg(long, default_value_t = 500)]
    published: u32,

    /// AWS region whose prices count
    #[arg(long, default_value = "us-east-1")]
    region: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let prices = match Prices::of_region(&arguments.region) {
        Ok(prices) => prices,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let usage = Usage {
        clients: arguments.clients.into(),
        minutes_a_day: arguments.minutes.into(),
        alerts_a_day: arguments.alerts.into(),
        published_a_day: arguments.published.into(),
    };
    let mut text = String::new();
    for bill in bills(&usage, &prices) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<40} {:>14} {:>10.2} $ a month", bill.service, "", bill.total());
        for line in &bill.lines {
            let _ = writeln!(text, "  {:<38} {:>14.0} {:>10.2}", line.what, line.quantity, line.usd);
        }
    }
    // Whoever reads no further, such as `head`, has what it wants.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
