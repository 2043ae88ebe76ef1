//! Makes a world that fails smaller, as long as it fails in the same way.

use apigw_local::Tables;

use crate::{
    cloud::Weather,
    world::{Outcome, Plan, run},
};

/// Leaves out items and parts of the weather as long as the same guarantee is broken. Runs at most `runs_max` worlds.
pub fn shrink(tables: &Tables, plan: &Plan, guarantee: u32, runs_max: usize) -> (Plan, Outcome) {
    let mut runs = 0;
    let mut smallest = plan.clone();
    let mut outcome = run(tables, &smallest, false);
    let mut fails = |candidate: &Plan| {
        runs += 1;
        let outcome = (runs <= runs_max).then(|| run(tables, candidate, false))?;
        outcome.broken.iter().any(|(broken, _)| *broken == guarantee).then_some(outcome)
    };
    // First large parts, then single items.
    let mut part = smallest.items.len().div_ceil(2);
    while part > 0 {
        let mut begin = 0;
        while begin < smallest.items.len() {
            let end = smallest.items.len().min(begin + part);
            let mut candidate = smallest.clone();
            candidate.items.drain(begin..end);
            match fails(&candidate) {
                Some(failed) => (smallest, outcome) = (candidate, failed),
                None => begin += part,
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    for calm in Weather::PARTS.iter().filter(|part| plan.weather.blowing().contains(*part)) {
        let mut candidate = smallest.clone();
        candidate.weather.calm(&[(*calm).to_owned()].into());
        if let Some(failed) = fails(&candidate) {
            (smallest, outcome) = (candidate, failed);
        }
    }
    (smallest, outcome)
}
