//! Runs the real fan-out in virtual time, for audiences too large to measure, and prints the tables of
//! `docs/scale.md`. `assumptions.rs` lists the assumptions.
//!
//! ```text
//! cargo run --release --package benches --example scale -- --figure docs/scale.svg
//! ```

mod assumptions;
mod audience;
mod figure;
mod report;
mod world;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use clap::Parser;

use crate::{
    assumptions::{QUOTA_DEFAULT, QUOTA_NEWER, QUOTA_RAISED},
    audience::Ring,
    figure::Line,
    world::{Outcome, Scenario, simulate},
};

/// Simulates alerts to large audiences
#[derive(Debug, Parser)]
struct Arguments {
    /// Sizes of the audience. The tables show those from 100,000
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000, 10_000_000])]
    audiences: Vec<u32>,

    /// Alerts published at the same moment, to 100,000 each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 5, 10, 20])]
    alerts: Vec<usize>,

    /// Factors by which posts are slower than assumed, to 1,000,000
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 4.0, 8.0])]
    slower: Vec<f64>,

    /// Factors by which `PushRate` exceeds the quota, to 1,000,000
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 2.0, 4.0, 10.0])]
    push_rates: Vec<f64>,

    /// One connection in this many is gone, of 1,000,000
    #[arg(long, value_delimiter = ',', default_values_t = [100, 10, 2])]
    gone_every: Vec<u32>,

    /// Write the chart to this file
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,

    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Smallest audience in the table.
const SHOWN_MIN: u32 = 100_000;

/// Audience of each of several alerts.
const SEVERAL_AUDIENCE: u32 = 100_000;

/// Audience of the runs with slower posts, a high `PushRate`, and more dead connections.
const SLOWER_AUDIENCE: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let mut rings = BTreeMap::new();
    let mut ring = |size| Arc::clone(rings.entry(size).or_insert_with(|| Arc::new(Ring::of(size))));

    let mut sizes = Vec::new();
    for audience in &arguments.audiences {
        for quota in [QUOTA_NEWER, QUOTA_DEFAULT, QUOTA_RAISED] {
            sizes.push(Scenario::new(ring(*audience), quota));
        }
    }
    let hundred_thousand = Scenario::new(ring(SEVERAL_AUDIENCE), QUOTA_DEFAULT);
    let several = arguments.alerts.iter().map(|alerts| Scenario { alerts: *alerts, ..hundred_thousand.clone() });
    let several: Vec<_> = several.collect();
    let million = Scenario::new(ring(SLOWER_AUDIENCE), QUOTA_DEFAULT);
    let slower: Vec<_> =
        arguments.slower.iter().map(|slower| Scenario { slower: *slower, ..million.clone() }).collect();
    let rates = arguments.push_rates.iter().map(|push_rate| Scenario { push_rate: *push_rate, ..million.clone() });
    let rates: Vec<_> = rates.collect();
    let gone = arguments.gone_every.iter().map(|gone_every| Scenario { gone_every: *gone_every, ..million.clone() });
    let gone: Vec<_> = gone.collect();

    let sizes = all(&sizes, arguments.seed);
    let shown: Vec<_> = sizes.iter().filter(|(scenario, _)| scenario.ring.len() >= SHOWN_MIN as usize).collect();
    report::time(&shown);
    report::cost(&shown);
    report::gone(&all(&gone, arguments.seed));
    report::several(&all(&several, arguments.seed));
    report::slower(&all(&slower, arguments.seed));
    report::rates(&all(&rates, arguments.seed));
    if let Some(path) = arguments.figure {
        let points = |quota| {
            let runs = sizes.iter().filter(move |(scenario, _)| scenario.quota == quota);
            runs.map(|(scenario, outcome)| (scenario.ring.len() as f64, report::time_to_last(outcome))).collect()
        };
        let line = |quota: assumptions::Quota| Line {
            name: format!("{}/s", report::grouped(quota.per_second)),
            points: points(quota),
        };
        std::fs::write(path, figure::draw(&[QUOTA_NEWER, QUOTA_DEFAULT, QUOTA_RAISED].map(line)))?;
    }
    eprintln!("{:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Runs scenarios on all processors, the long ones first. Returns each with its outcome, in the given order.
fn all(scenarios: &[Scenario], seed: u64) -> Vec<(Scenario, Outcome)> {
    let mut order: Vec<usize> = (0..scenarios.len()).collect();
    order.sort_by_key(|number| scenarios[*number].ring.len() * scenarios[*number].alerts);
    let (order, outcomes) = (Mutex::new(order), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = order.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some(number) = next else { break };
                    let outcome = simulate(&scenarios[number], seed);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(number, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.into_iter().map(|(number, outcome)| (scenarios[number].clone(), outcome)).collect()
}
