//! What is to happen in a world: who comes, what is published, and what the operators do.

use std::{collections::BTreeSet, fmt};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use crate::{
    cloud::{Settings, Weather},
    world::{
        extras::{self, Extras},
        items::{Item, Mischief, Via, What},
    },
};

/// Which world, and what of it is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub seed: u64,
    /// The numbers of the items that happen; all without it.
    pub only: Option<BTreeSet<usize>>,
    /// The parts of the weather that are calm, whatever the seed says.
    pub calmed: BTreeSet<String>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if let Some(only) = &self.only {
            let numbers: Vec<String> = only.iter().map(usize::to_string).collect();
            write!(f, " --only {}", numbers.join(","))?;
        }
        if !self.calmed.is_empty() {
            write!(f, " --calm {}", self.calmed.iter().map(String::as_str).collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

/// What is to happen in a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides everything that the rest does not say.
    pub seed: u64,
    pub settings: Settings,
    pub weather: Weather,
    pub items: Vec<Item>,
    /// Milliseconds until faults end.
    pub span_ms: u64,
}

/// Regions that alerts are published in, beside those that are born.
pub(super) const REGIONS: [&str; 5] = ["PL", "DE", "AE", "PL-MUSIC", "US"];

/// Shares of worlds with a scorer and with a canary.
const SCORED: f64 = 0.15;
const WATCHED: f64 = 0.1;

impl Plan {
    /// The plan of a seed.
    pub fn of(choice: &Choice) -> Self {
        let mut random = SmallRng::seed_from_u64(choice.seed);
        let mut weather = Weather::of(&mut random, &choice.calmed);
        let span_ms = match random.random_range(0..40) {
            0..31 => random.random_range(4_000..20_000),
            31..39 => random.random_range(30_000..400_000),
            // Longer than a connection lives.
            _ => random.random_range(7_500_000..8_000_000),
        };
        let mut settings = Settings {
            authorization: (*["off", "optional", "required"].choose(&mut random).unwrap_or(&"off")).to_owned(),
            has_issuer: random.random_bool(0.5),
            fallback_to_everyone: random.random_bool(0.5),
            push_rate: if random.random_bool(0.3) { random.random_range(3..12) } else { 10_000 },
            connections_per_user: if random.random_bool(0.7) { random.random_range(2..6) } else { 50 },
            messages_per_second: random.random_range(6..20),
            alerts_per_minute: if random.random_bool(0.2) { random.random_range(4..10) } else { 600 },
            regions_max: if random.random_bool(0.5) { random.random_range(8..40) } else { 300 },
            has_operator: random.random_bool(0.7),
            has_next_form: random.random_bool(0.3),
            page_items: None,
            way_ms: None,
            event_api: None,
        };
        let mut items = Vec::new();
        let few = random.random_range(1..=REGIONS.len());
        let regions = &REGIONS[..few];
        let some = |random: &mut SmallRng| -> Vec<String> {
            if random.random_bool(0.2) {
                return vec!["ALL".to_owned()];
            }
            let count = random.random_range(1..=regions.len().min(3));
            let chosen: BTreeSet<&str> = (0..count).filter_map(|_| regions.choose(random).copied()).collect();
            chosen.into_iter().map(str::to_owned).collect()
        };
        let one = |random: &mut SmallRng| (*regions.choose(random).unwrap_or(&"PL")).to_owned();
        let mut add = |at_ms: u64, what: What| {
            items.push(Item { number: items.len(), at_ms, what });
            items.len() - 1
        };
        // Much happens at the same few moments, or it would never meet.
        let moments: Vec<u64> = (0..3).map(|_| random.random_range(0..span_ms)).collect();
        let width = *[40, 200, 700].choose(&mut random).unwrap_or(&700);
        let time = |random: &mut SmallRng| -> u64 {
            match moments.choose(random) {
                Some(at) if random.random_bool(0.6) => at + random.random_range(0..width),
                _ => random.random_range(0..span_ms),
            }
        };
        let early = span_ms / 3;
        for _ in 0..random.random_range(1..=2) {
            let region = if random.random_bool(0.2) { "ALL".to_owned() } else { one(&mut random) };
            add(random.random_range(0..early), What::Reference { region });
        }
        for _ in 0..random.random_range(1..=2) {
            let leaves = random.random_bool(0.3);
            let leaves_after_ms = leaves.then(|| random.random_range(0..span_ms / 2));
            let at_ms = if random.random_bool(0.5) { time(&mut random) } else { random.random_range(0..early) };
            add(at_ms, What::Plain { regions: some(&mut random), leaves_after_ms });
        }
        for _ in 0..random.random_range(2..=3) {
            let changes = (0..random.random_range(0..3))
                .map(|_| (time(&mut random), random.random_bool(0.6), one(&mut random)))
                .collect();
            let at_ms = if random.random_bool(0.3) { time(&mut random) } else { random.random_range(0..early) };
            add(at_ms, What::Ours { regions: some(&mut random), changes, on_events: false });
        }
        for _ in 0..random.random_range(1..=2) {
            let all = [Mischief::Ghost, Mischief::Change, Mischief::Flood, Mischief::Crowd, Mischief::Trespass];
            let mischief = *all.choose(&mut random).unwrap_or(&Mischief::Ghost);
            add(time(&mut random), What::Hostile { mischief, regions: some(&mut random) });
        }
        let publishers = random.random_range(2..=4);
        // Some come at the same moment.
        let mut at_ms = 0;
        let mut publications = Vec::new();
        // A crowd publishes in one region at one moment.
        let crowd = random.random_bool(0.3).then(|| one(&mut random));
        for _ in 0..random.random_range(5..=11) {
            if !random.random_bool(if crowd.is_some() { 0.8 } else { 0.3 }) {
                at_ms = time(&mut random);
            }
            let via = *[Via::Http, Via::Http, Via::Event, Via::Invocation].choose(&mut random).unwrap_or(&Via::Http);
            let count = if random.random_bool(0.1) { random.random_range(2..=6) } else { 1 };
            publications.push(add(
                at_ms,
                What::Publish {
                    publisher: random.random_range(0..publishers),
                    region: crowd.clone().unwrap_or_else(|| one(&mut random)),
                    via,
                    has_key: random.random_bool(0.6),
                    count,
                },
            ));
        }
        for _ in 0..random.random_range(0..=2) {
            let of = *publications.choose(&mut random).unwrap_or(&0);
            add(time(&mut random), What::Remove { of });
        }
        for _ in 0..random.random_range(0..=3) {
            add(random.random_range(0..span_ms), What::Read { region: one(&mut random) });
        }
        if random.random_bool(if settings.has_next_form { 0.8 } else { 0.2 }) {
            add(random.random_range(0..span_ms), What::Redeploy);
        }
        if random.random_bool(0.3) {
            // Most of those who come back do so within a second.
            add(time(&mut random).saturating_sub(500), What::Cut);
        }
        if random.random_bool(0.02) {
            add(random.random_range(0..span_ms), What::Born { count: random.random_range(20..120) });
        }
        // About so many runs until faults end.
        let pause_ms = |random: &mut SmallRng| (span_ms / random.random_range(2..8)).max(1_000);
        if random.random_bool(SCORED) {
            let regions = regions.iter().take(2).map(|region| (*region).to_owned()).collect();
            add(random.random_range(0..early), What::Score { regions, pause_ms: pause_ms(&mut random) });
        }
        if random.random_bool(WATCHED) {
            add(random.random_range(0..early), What::Watch { pause_ms: pause_ms(&mut random) });
        }
        extras::add(
            Extras { seed: choice.seed, span_ms, regions, settings: &mut settings, weather: &mut weather },
            &mut items,
        );
        weather.calm(&choice.calmed);
        if let Some(only) = &choice.only {
            items.retain(|item| only.contains(&item.number));
        }
        Self { seed: choice.seed, settings, weather, items, span_ms }
    }
}
