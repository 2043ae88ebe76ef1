//! A seeded simulation of whole fan-outs: the real code in virtual time, with a table, a gateway and a Lambda that do
//! the worst that the real ones are known to do. Checked on every run:
//!
//! 1. each subscriber that stayed connected got the alert at least once, or was closed, so that it comes back;
//! 2. nobody outside the audience got it;
//! 3. no live connection was removed, and none closed but after three answers that agree, over two seconds;
//! 4. no window of one second had more calls than the quota;
//! 5. the work ended.
//!
//! The gateway lies as often as it likes: to posts and to questions, each with a probability of its own. Other mischief
//! is bounded as the worker's patience is: a connection fails at most twice, opens within two seconds, and the gateway
//! fails for everyone for at most four. A run is a function of its seed: `SIMULATION_SEED=7 cargo test -p shared
//! simulation` shows one.

pub(super) mod world;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clock::{Clock, Timestamp};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use self::world::{Bug, NOW_MS, Seen, Setup, World, alert};
use super::*;
use crate::{limits::PUSH_RATE_USED, runtime::environment::Environment};

/// Runs in a test, unless `SIMULATION_SEEDS` says another number; `tests/run --nightly` makes 10,000.
const SEEDS: u64 = 200;

/// Runs in which each planted bug has to be found.
const PLANTED_SEEDS: u64 = 1_000;

/// Virtual time after which a run that has not ended never will.
const END_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// One asynchronous invocation with its retries, as Lambda makes them. What fails for good is a dead letter.
async fn invoke(world: Arc<World>, task: FanoutTask, is_calm: bool) {
    for wait in [0, 60, 120] {
        sleep(Duration::from_secs(wait)).await;
        world.takes(5, 200).await;
        world.state().invocations += 1;
        let push_rate = if world.bug == Some(Bug::RateIgnored) { world.setup.quota * 3.0 } else { world.setup.quota };
        let fanout = Fanout {
            services: Arc::new(Seen::new(&world)),
            push_rate,
            worker_rate: world.setup.worker_rate,
            suspects_max: world.setup.suspects_max,
            fallback_to_everyone: world.setup.fallback,
            clock: Clock::Manual(Arc::new(NOW_MS.into())),
        };
        let limit = world.setup.invocation_limit;
        let crash_after = (!is_calm && world.chance(world.setup.crash)).then(|| {
            // Mostly at once, sometimes in the middle of long work.
            let share: f64 = world.state().random.random_range(0.0..1.0);
            Duration::from_secs_f64(share.powi(3) * 4.0)
        });
        let run = fanout.deliver(&task, Instant::now() + limit);
        // Whether it is ended by a crash or by the time limit, nothing of it goes on.
        let ended = timeout(crash_after.unwrap_or(limit), run).await;
        match ended {
            Ok(Ok(_)) => return,
            Ok(Err(_)) => {}
            Err(_) if crash_after.is_none() => {
                world.state().violations.push("an invocation ran into its time limit".to_owned());
            }
            Err(_) => {}
        }
    }
    world.state().dead.push(task);
}

/// Runs until nothing is left to do, dead letters included, which are driven again when all else has ended.
async fn run(world: &Arc<World>) {
    let first = FanoutTask {
        content: Content::Alert(alert()),
        dispatched_at: Timestamp::from_millis(0),
        part: None,
        depth: 0,
        redriven_at: None,
    };
    world.state().started.push(first);
    let mut under_way = JoinSet::new();
    let mut is_calm = false;
    loop {
        let started = std::mem::take(&mut world.state().started);
        for task in started {
            let times = if world.chance(world.setup.duplicate) { 2 } else { 1 };
            for _ in 0..times {
                under_way.spawn(invoke(Arc::clone(world), task.clone(), is_calm));
            }
        }
        // Invocations start others while they run.
        match timeout(Duration::from_millis(10), under_way.join_next()).await {
            Ok(Some(ended)) => ended.expect("no invocation panics"),
            Ok(None) => {
                let dead = std::mem::take(&mut world.state().dead);
                if dead.is_empty() || world.bug == Some(Bug::DeadLettersLost) {
                    return;
                }
                is_calm = true;
                // Whoever drives dead letters again starts a new chain.
                world.state().started.extend(dead.into_iter().map(|task| FanoutTask { depth: 0, ..task }));
            }
            Err(_) => {}
        }
    }
}

/// Runs a future in virtual time.
fn in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// What is wrong after a run, and a number that two runs of one seed have in common.
fn simulate(seed: u64, bug: Option<Bug>) -> (Vec<String>, u64) {
    in_virtual_time(async {
        let world = World::new(seed, bug);
        let began = Instant::now();
        let ended = timeout(END_MAX, run(&world)).await;
        let mut state = world.state();
        let mut violations = std::mem::take(&mut state.violations);
        if ended.is_err() {
            violations.push("the work has not ended".to_owned());
        }
        let everyone = world.setup.fallback
            && !state.connections.iter().any(|(id, truth)| truth.received > 0 && world.is_audience(id, false));
        for (id, truth) in &state.connections {
            if truth.stayed && truth.received == 0 && !truth.was_closed && world.is_audience(id, false) {
                violations.push(format!("{id} stayed connected, was not closed and got nothing"));
            }
            if truth.received > 0 && !world.is_audience(id, everyone) {
                violations.push(format!("{id} is outside the audience and got it"));
            }
        }
        // Copies of one invocation have a share of the rate each; then it is the gateway's answers that slow them down.
        let is_repeated = world.setup.duplicate + world.setup.crash + world.setup.unreadable_page > 0.0;
        if !is_repeated
            && let Some(calls) = most_in_a_second(&state.calls)
            && calls as f64 > world.setup.quota
        {
            violations.push(format!("{calls} calls in a second, {:.0} are allowed", world.setup.quota));
        }
        let trace = state.trace ^ state.calls.len() as u64 ^ (began.elapsed().as_nanos() as u64);
        (violations, trace)
    })
}

fn most_in_a_second(calls: &[Instant]) -> Option<usize> {
    let mut from = 0;
    (0..calls.len())
        .map(|to| {
            while calls[to].duration_since(calls[from]) >= Duration::from_secs(1) {
                from += 1;
            }
            to - from + 1
        })
        .max()
}

/// The seeds to run: one that was asked for, or all.
fn seeds(count: u64) -> Vec<u64> {
    match variable("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

fn variable(name: &str) -> Option<u64> {
    Environment::from_process().get(name).map(|number| number.parse().expect("a number"))
}

#[test]
fn every_alert_reaches_whom_it_should_whatever_goes_wrong() {
    let seeds = seeds(variable("SIMULATION_SEEDS").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for seeds in seeds.chunks(seeds.len().div_ceil(threads)) {
            scope.spawn(move || {
                for seed in seeds {
                    let (violations, _) = simulate(*seed, None);
                    let setup = Setup::of(&mut SmallRng::seed_from_u64(*seed));
                    assert!(violations.is_empty(), "SIMULATION_SEED={seed}: {violations:#?} with {setup:#?}");
                }
            });
        }
    });
}

#[test]
fn of_those_who_are_there_as_many_are_closed_as_three_lies_in_a_row_strike() {
    const WATCHERS: usize = 20_000;
    const LIE: f64 = 0.1;
    // A world without other mischief, in which the gateway lies to posts and to questions.
    let mut random = SmallRng::seed_from_u64(1);
    let setup = Setup {
        watchers: WATCHERS,
        watchers_of_all: 0,
        outsiders: 0,
        page_items: 1_000,
        quota: 5_000.0,
        worker_rate: 5_000.0,
        suspects_max: WATCHERS,
        invocation_limit: Duration::from_secs(900),
        post_lies: LIE,
        look_lies: LIE,
        fallback: false,
        ..Setup::calm(&mut random)
    };
    let world = World::of(setup, random, None);
    in_virtual_time(run(&world));
    let state = world.state();
    assert!(state.violations.is_empty(), "{:?}", state.violations);
    let truths = || state.connections.values();
    let closed = truths().filter(|truth| truth.was_closed).count();
    let reached = truths().filter(|truth| truth.received > 0).count();
    assert_eq!((closed + reached, truths().count()), (WATCHERS, WATCHERS), "each has it or is closed");
    // The post, the question and the post lie; or the question does not and the post after it does, which begins anew.
    let expected = WATCHERS as f64 * LIE.powi(3) / (1.0 - (1.0 - LIE) * LIE);
    assert!((closed as f64 - expected).abs() <= 5.0 * expected.sqrt(), "{closed} of {WATCHERS}, not {expected:.0}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in seeds(50) {
        assert_eq!(simulate(seed, None), simulate(seed, None), "SIMULATION_SEED={seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    let bugs = [
        Bug::LastOfPageLost,
        Bug::TwoAnswersSuffice,
        Bug::RemovedAndNotClosed,
        Bug::NoMerge,
        Bug::RestLost,
        Bug::RateIgnored,
        Bug::DeadLettersLost,
    ];
    for bug in bugs {
        let found = (0..PLANTED_SEEDS).find(|seed| !simulate(*seed, Some(bug)).0.is_empty());
        let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found by {PLANTED_SEEDS} seeds"));
        assert!(simulate(seed, None).0.is_empty(), "seed {seed} fails without {bug:?} too");
        println!("{bug:?} is found by seed {seed}");
    }
}

#[test]
fn setups_vary() {
    // A simulation that never meets a case proves nothing about it.
    let setups: Vec<Setup> = (0..300).map(|seed| Setup::of(&mut SmallRng::seed_from_u64(seed))).collect();
    let workers = |setup: &Setup| plan::workers(setup.watchers as u64, setup.quota, setup.worker_rate);
    let numbers: BTreeSet<usize> = setups.iter().map(workers).collect();
    assert!(numbers.len() > 5 && numbers.contains(&1), "{numbers:?}");
    let long = |setup: &&Setup| setup.watchers as f64 > setup.quota * PUSH_RATE_USED * 5.0;
    assert!(setups.iter().filter(long).count() > 3, "too few that hand over");
}
