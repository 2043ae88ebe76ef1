//! Makes a world that fails smaller, as long as it fails in the same way.

use std::collections::BTreeSet;

use apigw_local::Tables;

use crate::{
    cloud::Weather,
    world::{Choice, Outcome, plan::Plan, run},
};

/// Leaves out items and parts of the weather as long as the same guarantee is broken. Runs at most `runs_max` worlds.
pub fn shrink(tables: &Tables, choice: &Choice, guarantee: u32, runs_max: usize) -> (Choice, Outcome) {
    let mut runs = 0;
    let mut smallest = choice.clone();
    let mut outcome = run(tables, &smallest, false);
    let mut fails = |candidate: &Choice| {
        runs += 1;
        let outcome = run(tables, candidate, false);
        (runs <= runs_max && outcome.broken.iter().any(|(broken, _)| *broken == guarantee)).then_some(outcome)
    };
    let mut items: Vec<usize> = Plan::of(&smallest).items.iter().map(|item| item.number).collect();
    // First large parts, then single items.
    let mut part = items.len().div_ceil(2);
    while part > 0 {
        let mut begin = 0;
        while begin < items.len() {
            let rest: Vec<usize> = items
                .iter()
                .enumerate()
                .filter(|(at, _)| !(begin..begin + part).contains(at))
                .map(|(_, it)| *it)
                .collect();
            let candidate = Choice { only: Some(rest.iter().copied().collect()), ..smallest.clone() };
            match fails(&candidate) {
                Some(failed) => (items, smallest, outcome) = (rest, candidate, failed),
                None => begin += part,
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    for calm in Weather::PARTS {
        let calmed: BTreeSet<String> = smallest.calmed.iter().cloned().chain([(*calm).to_owned()]).collect();
        if !Plan::of(&smallest).weather.blowing().contains(calm) {
            continue;
        }
        let candidate = Choice { calmed, ..smallest.clone() };
        if let Some(failed) = fails(&candidate) {
            (smallest, outcome) = (candidate, failed);
        }
    }
    (smallest, outcome)
}
