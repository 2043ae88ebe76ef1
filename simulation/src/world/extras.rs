//! What happens in some worlds beside the rest, so that a check of it can fail. It is drawn from a stream of its own:
//! whatever is added here, the rest of a world stays as it was.

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    cloud::{EventApi, Settings, Weather},
    world::items::{Item, Pass, Via, What},
};

/// Tells this stream from that of the rest.
const STREAM: u64 = 0x6265_7369_6465;

/// Shares of worlds in which something happens.
const BURST: f64 = 0.12;
const PAGES: f64 = 0.15;
const CONFLICT: f64 = 0.15;
const HOLDERS: f64 = 0.15;
const DIVIDED: f64 = 0.03;
const AGAIN: f64 = 0.08;
const FULL: f64 = 0.04;
const VIRAL: f64 = 0.2;
const REDRIVEN: f64 = 0.5;
const LEG: f64 = 0.33;

/// Share of the invocations of deliver that die where somebody drives dead letters again while they do.
const BAD_DELIVERIES: f64 = 0.7;

/// Bytes of all alerts of a burst, about: more than an answer and a page hold.
const BURST_BYTES: usize = 100_000;

/// Milliseconds after which the first dead letters are there.
const DEAD_LETTERS_MS: u64 = 190_000;

/// The world to which something is added.
pub(super) struct Extras<'a> {
    pub(super) seed: u64,
    pub(super) span_ms: u64,
    pub(super) regions: &'a [&'a str],
    pub(super) settings: &'a mut Settings,
    pub(super) weather: &'a mut Weather,
}

/// Adds to what happens in a world, to what it is deployed with, and to its weather.
pub(super) fn add(world: Extras<'_>, items: &mut Vec<Item>) {
    let Extras { seed, span_ms, regions, settings, weather } = world;
    let random = &mut SmallRng::seed_from_u64(seed ^ STREAM);
    let mut add = |at_ms: u64, what: What| {
        items.push(Item { number: items.len(), at_ms, what });
        items.len() - 1
    };
    let one = |random: &mut SmallRng| (*regions.choose(random).unwrap_or(&"PL")).to_owned();
    let is_limited = settings.alerts_per_minute < 100;
    if random.random_bool(if is_limited { 0.5 } else { BURST }) {
        let at_ms = random.random_range(0..span_ms);
        let bytes = *[700, 4_000, 12_000, 29_000].choose(random).unwrap_or(&700);
        let count = (BURST_BYTES / bytes).min(25);
        // Whoever comes back has missed it.
        if random.random_bool(0.6) {
            add(at_ms.saturating_sub(random.random_range(0..900)), What::Cut);
        }
        let (publisher, region) = (random.random_range(0..2), one(random));
        add(at_ms, What::Burst { publisher, region, count, bytes });
    }
    if random.random_bool(PAGES) {
        let passes = [Pass::None, Pass::Valid, Pass::Valid, Pass::Ended, Pass::Forged, Pass::OfAnother];
        for _ in 0..random.random_range(1..=2) {
            let region = if random.random_bool(0.3) { "ALL".to_owned() } else { one(random) };
            let pass = *passes.choose(random).unwrap_or(&Pass::None);
            let (at_ms, limit) = (random.random_range(span_ms / 2..span_ms), random.random_range(1..6));
            add(at_ms, What::Page { region, limit, pass });
        }
    }
    if random.random_bool(CONFLICT) {
        // The first items of a world are its clients, and its publications follow.
        let of = random.random_range(6..14);
        add(random.random_range(0..span_ms), What::Conflict { of });
    }
    if span_ms > DEAD_LETTERS_MS && settings.has_operator {
        if random.random_bool(REDRIVEN) && !weather.is_calm() {
            weather.bad_deliveries = weather.bad_deliveries.max(BAD_DELIVERIES);
        }
        for _ in 0..random.random_range(1..=2) {
            add(random.random_range(DEAD_LETTERS_MS..=span_ms), What::Redrive);
        }
    }
    if settings.authorization != "off" && random.random_bool(HOLDERS) {
        let life_s = random.random_range(2..30);
        add(random.random_range(0..span_ms / 2), What::Holder { region: one(random), life_s, stays: false });
        add(random.random_range(0..span_ms / 2), What::Holder { region: one(random), life_s, stays: true });
    }
    if random.random_bool(DIVIDED) {
        settings.page_items = Some(random.random_range(1..=2));
        settings.push_rate = 10_000;
        let region = one(random);
        for _ in 0..random.random_range(4..=7) {
            add(random.random_range(0..span_ms / 3), What::Reference { region: region.clone() });
        }
        add(random.random_range(span_ms / 3..span_ms), published(random, &region));
        add(random.random_range(span_ms / 3..span_ms), published(random, &region));
    }
    if random.random_bool(FULL) {
        settings.regions_max = random.random_range(1..=2);
    }
    if random.random_bool(AGAIN) {
        add(0, What::Again);
    }
    if random.random_bool(VIRAL) {
        let window_s = *[2, 5, 3_600].choose(random).unwrap_or(&2);
        let width = *[40, 700, 8_000].choose(random).unwrap_or(&700);
        let times = (0..random.random_range(3..9)).map(|_| {
            let score = *[90, 90, 90, 93, 96].choose(random).unwrap_or(&90);
            (random.random_range(0..width), score)
        });
        let (times, at_ms) = (times.collect(), random.random_range(0..span_ms));
        let of = add(at_ms, What::Viral { region: one(random), window_s, times });
        if random.random_bool(0.4) {
            add(at_ms + random.random_range(0..8_000), What::Remove { of });
        }
    }
    if random.random_bool(LEG) {
        add_leg(Extras { seed, span_ms, regions, settings, weather }, random, items);
    }
}

/// Adds a second leg, clients of it, and somebody who wants more than is theirs.
fn add_leg(world: Extras<'_>, random: &mut SmallRng, items: &mut Vec<Item>) {
    let Extras { span_ms, regions, settings, weather, .. } = world;
    let mut add = |at_ms: u64, what: What| items.push(Item { number: items.len(), at_ms, what });
    let one = |random: &mut SmallRng| (*regions.choose(random).unwrap_or(&"PL")).to_owned();
    weather.draw_leg(random);
    let share = *[100, 100, 60, 30].choose(random).unwrap_or(&100);
    let later_share = if random.random_bool(0.3) { *[0, 50, 100].choose(random).unwrap_or(&100) } else { share };
    let check_ms = Some(*[120_000, 300_000, 600_000].choose(random).unwrap_or(&300_000));
    settings.event_api = Some(EventApi { share, later_share, check_ms });
    if later_share != share {
        add(random.random_range(0..span_ms), What::Redeploy);
    }
    for _ in 0..random.random_range(2..=3) {
        let watched = if random.random_bool(0.3) { "ALL".to_owned() } else { one(random) };
        let changes = (0..random.random_range(0..2))
            .map(|_| (random.random_range(0..span_ms), random.random_bool(0.6), one(random)))
            .collect();
        let at_ms = random.random_range(0..span_ms / 3);
        add(at_ms, What::Ours { regions: vec![watched], changes, on_events: true });
    }
    if random.random_bool(0.5) {
        let all = [Pass::None, Pass::Valid, Pass::Ended, Pass::Forged, Pass::OfAnother, Pass::OfAnother];
        let pass = *all.choose(random).unwrap_or(&Pass::None);
        add(random.random_range(0..span_ms / 2), What::Intrude { region: one(random), pass });
    }
}

fn published(random: &mut SmallRng, region: &str) -> What {
    let via = *[Via::Http, Via::Event].choose(random).unwrap_or(&Via::Http);
    What::Publish { publisher: 0, region: region.to_owned(), via, has_key: true, count: 1 }
}
