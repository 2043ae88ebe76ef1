//! `cargo run -p cost` prints the cost of a month.

use std::{fmt::Write as _, io::Write as _, process::ExitCode};

use clap::Parser;
use cost::{DEFAULT_REGION, Estimate, MINUTES_A_DAY_MAX, Usage, attacks, canary};

/// Prints the list price of a month of Viral Alerts, beside the alternatives
#[derive(Debug, Parser)]
struct Arguments {
    /// Browsers
    #[arg(long, default_value_t = Usage::DEFAULT.clients)]
    clients: u32,

    /// Minutes a day that each is connected
    #[arg(
        long,
        default_value_t = Usage::DEFAULT.minutes_a_day,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MINUTES_A_DAY_MAX))
    )]
    minutes: u16,

    /// Alerts a day that each gets
    #[arg(long, default_value_t = Usage::DEFAULT.alerts_a_day)]
    alerts: u32,

    /// Alerts a day that are published, in all regions
    #[arg(long, default_value_t = Usage::DEFAULT.published_a_day)]
    published: u32,

    /// AWS region for prices
    #[arg(long, default_value = DEFAULT_REGION)]
    region: String,

    /// Add a bill for the synthetic canary
    #[arg(long, conflicts_with_all = ["json", "attacks"])]
    canary: bool,

    /// Print JSON with the prices and their sources, as the demo page uses it
    #[arg(long)]
    json: bool,

    /// Print the cost of an hour of each attack instead, as the table of docs/security.md
    #[arg(long, conflicts_with = "json")]
    attacks: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let usage = Usage {
        clients: arguments.clients,
        minutes_a_day: arguments.minutes,
        alerts_a_day: arguments.alerts,
        published_a_day: arguments.published,
    };
    let mut estimate = match Estimate::new(usage, &arguments.region) {
        Ok(estimate) => estimate,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.canary {
        estimate.bills.push(canary::bill(&estimate.prices));
    }
    let text = if arguments.attacks {
        attacks::table(&estimate.prices)
    } else if arguments.json {
        serde_json::json!(estimate).to_string() + "\n"
    } else {
        table(&estimate)
    };
    // A closed pipe is fine: `head` has what it wants.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn table(estimate: &Estimate) -> String {
    let mut text = String::new();
    for bill in &estimate.bills {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<40} {:>14} {:>10.2} $ a month", bill.service, "", bill.total);
        for line in &bill.lines {
            let _ = writeln!(text, "  {:<38} {:>14.0} {:>10.2}", line.what, line.quantity, line.usd);
        }
    }
    text
}
