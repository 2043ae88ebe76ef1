//! Runs worlds until a guarantee is broken, and makes the one that broke it small.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use apigw_local::Tables;
use clap::{Parser, builder::PossibleValuesParser};
use serde_json::json;
use simulation::{
    cloud::{Reached, Situation, Weather},
    engine::tables,
    world::{
        Choice, Outcome, Plan,
        guarantees::GUARANTEES,
        items::{Item, What},
        run, shrink,
    },
};

/// Worlds after which each situation has occurred: the rarest one occurs in about 20 of them.
const WORLDS_FOR_ALL: u64 = 1_000;

/// What worlds spend most of their time in otherwise.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs worlds: everything that the service is made of, in virtual time, with what a seed makes go wrong.
#[derive(Debug, Parser)]
struct Options {
    /// The one world to run, with its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// The items of that world that happen.
    #[arg(long, value_delimiter = ',', requires = "seed")]
    only: Option<Vec<usize>>,
    /// The parts of its weather that are calm.
    #[arg(long, value_delimiter = ',', requires = "seed", value_parser = PossibleValuesParser::new(Weather::PARTS))]
    calm: Vec<String>,
    /// A file with the plan of the one world to run, as --save writes it.
    #[arg(long, conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// Where the smallest plan that fails is written, for the folder simulation/corpus.
    #[arg(long, conflicts_with_all = ["seed", "plan"])]
    save: Option<PathBuf>,
    /// Where the traces of our clients are written, for the tests of the browser client.
    #[arg(long, conflicts_with_all = ["seed", "plan"])]
    traces: Option<PathBuf>,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=u64::MAX / 2))]
    from: u64,
    /// How many seeds; without a number until it is stopped.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=u64::MAX / 2))]
    seeds: Option<u64>,
    /// Threads; by default as many as there are processors.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Runs the worlds of simulation/corpus first.
    #[arg(long)]
    corpus: bool,
    /// Goes on after a world that fails.
    #[arg(long)]
    keep_going: bool,
    /// Does not make a world that fails smaller.
    #[arg(long)]
    no_shrink: bool,
    /// Prints a number for each world, which another run of it has in common.
    #[arg(long)]
    hashes: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(reason) = determinism::check() {
        eprintln!("worlds are not deterministic here: {reason}");
    }
    let tables = tables();
    warm_up(&tables);
    let chosen = match (&options.plan, options.seed) {
        (Some(path), _) => Some(read(path)),
        (None, Some(seed)) => {
            let only = options.only.as_ref().map(|only| only.iter().copied().collect::<BTreeSet<_>>());
            Some(Plan::of(&Choice { seed, only, calmed: options.calm.iter().cloned().collect() }))
        }
        (None, None) => None,
    };
    if let Some(plan) = chosen {
        let outcome = run(&tables, &plan, true);
        let mut out = std::io::stdout().lock();
        for line in &outcome.trace {
            // Whoever reads may have enough.
            if writeln!(out, "{line}").is_err() {
                return ExitCode::SUCCESS;
            }
        }
        drop(out);
        println!("{:?} {:016x}", outcome.figures, outcome.hash);
        let command = options.plan.as_deref().map_or_else(|| command(&plan), command_of);
        return report(&plan, &command, &outcome, 1);
    }
    many(&options, &tables)
}

/// Runs worlds that do not count. What a program makes once takes random numbers of the thread that makes it, and
/// would make the first worlds different from the same ones later.
fn warm_up(tables: &Tables) {
    for number in 0..4 {
        let mut plan = Plan::of(&Choice { seed: u64::MAX - number, ..Choice::default() });
        plan.settings.authorization = if number == 0 { "off" } else { "required" }.to_owned();
        plan.settings.has_issuer = number % 2 == 0;
        plan.settings.has_operator = true;
        // Dead letters, and requests that are tried again.
        plan.weather = Weather { bad_deliveries: 0.9, failed_requests: 0.1, ..Weather::default() };
        plan.span_ms = plan.span_ms.min(10_000);
        plan.items.retain(|item| !matches!(item.what, What::Score { .. } | What::Watch { .. }));
        let count = plan.items.len();
        let scheduled =
            [What::Score { regions: vec!["PL".to_owned()], pause_ms: 2_000 }, What::Watch { pause_ms: 5_000 }];
        let number = |(at, what)| Item { number: count + at, at_ms: 0, what };
        plan.items.extend(scheduled.into_iter().enumerate().map(number));
        run(tables, &plan, false);
    }
}

/// Reads a plan.
fn read(path: &Path) -> Plan {
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())).unwrap_or_else(|error| {
        eprintln!("cannot read {} as a plan that --save has written: {error}", path.display());
        std::process::exit(2)
    })
}

/// The plans that have failed once, by their names.
fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut plans: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    plans.sort();
    if plans.is_empty() {
        eprintln!("simulation/corpus has no plans");
        std::process::exit(2);
    }
    plans
}

/// The command that runs the plan of a file.
fn command_of(path: &Path) -> String {
    format!("simulate --plan {}", path.display())
}

/// The command that runs a plan of a seed.
fn command(plan: &Plan) -> String {
    let whole = Plan::of(&Choice { seed: plan.seed, ..Choice::default() });
    let only: BTreeSet<usize> = plan.items.iter().map(|item| item.number).collect();
    let blowing = plan.weather.blowing();
    let whole_weather = whole.weather.blowing();
    let calmed = whole_weather.iter().filter(|part| !blowing.contains(part)).map(|part| (*part).to_owned());
    let only = (plan.items.len() < whole.items.len()).then_some(only);
    format!("simulate {}", Choice { seed: plan.seed, only, calmed: calmed.collect() })
}

fn report(plan: &Plan, command: &str, outcome: &Outcome, worlds: u64) -> ExitCode {
    for (guarantee, message) in &outcome.broken {
        println!("guarantee {guarantee}: {message}");
    }
    let Some((number, message)) = outcome.broken.first() else { return ExitCode::SUCCESS };
    let name = GUARANTEES.iter().find(|guarantee| guarantee.number == *number).map(|guarantee| guarantee.name);
    println!("{command}");
    println!("{}", json!({"seed": plan.seed, "worlds": worlds, "guarantee": number, "name": name, "message": message}));
    ExitCode::FAILURE
}

/// Adds what one world has reached: how often each situation occurred, and in how many worlds.
fn note_reached(all: &mut BTreeMap<Situation, (u64, u64)>, reached: &Reached) {
    for (situation, times) in reached {
        let (sum, worlds) = all.entry(*situation).or_default();
        (*sum, *worlds) = (*sum + times, *worlds + 1);
    }
}

/// Whether each situation has occurred that should have.
fn all_reached(reached: &BTreeMap<Situation, (u64, u64)>, worlds: u64) -> ExitCode {
    let missing: Vec<_> = Situation::ALL.iter().filter(|situation| !reached.contains_key(situation)).collect();
    if worlds < WORLDS_FOR_ALL || missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    for situation in missing {
        println!("no world has {situation}: what checks them holds nothing");
    }
    ExitCode::FAILURE
}

fn many(options: &Options, tables: &Tables) -> ExitCode {
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, usize::from);
    for path in if options.corpus { corpus() } else { Vec::new() } {
        let plan = read(&path);
        let outcome = run(tables, &plan, false);
        if !outcome.broken.is_empty() {
            return report(&plan, &command_of(&path), &outcome, 0);
        }
    }
    let mut traces = options.traces.as_ref().map(|path| fs::File::create(path).expect("a file for the traces"));
    let written = Mutex::new(&mut traces);
    let (next, done, stops) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (sum, failed) = (Mutex::new([0_u64; 6]), Mutex::new(Vec::<(u64, Outcome)>::new()));
    let reached = Mutex::new(BTreeMap::<Situation, (u64, u64)>::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stops.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if options.seeds.is_some_and(|seeds| number >= seeds) {
                        return;
                    }
                    let seed = options.from + number;
                    let outcome = run(tables, &Plan::of(&Choice { seed, ..Choice::default() }), false);
                    if options.hashes {
                        println!("{seed} {:016x}", outcome.hash);
                    }
                    if let Some(file) = written.lock().expect("unpoisoned").as_mut() {
                        for trace in &outcome.traces {
                            file.write_all(trace.as_bytes()).expect("the trace is written");
                        }
                    }
                    let figures = outcome.figures;
                    let mut sum = sum.lock().expect("unpoisoned");
                    for (sum, more) in sum.iter_mut().zip([
                        figures.clients as u64,
                        figures.connections as u64,
                        figures.alerts as u64,
                        figures.publishers as u64,
                        figures.database_requests,
                        figures.seconds,
                    ]) {
                        *sum += more;
                    }
                    drop(sum);
                    note_reached(&mut reached.lock().expect("unpoisoned"), &outcome.reached);
                    let ran = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if ran.is_multiple_of(1_000) {
                        eprintln!("{ran} worlds, {:.1} a second", ran as f64 / began.elapsed().as_secs_f64());
                    }
                    if let Some((guarantee, message)) = outcome.broken.first() {
                        eprintln!("seed {seed}: guarantee {guarantee}: {message}");
                        failed.lock().expect("unpoisoned").push((seed, outcome));
                        stops.fetch_or(!options.keep_going, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let done = done.into_inner();
    let mut failed = failed.into_inner().expect("unpoisoned");
    failed.sort_by_key(|(seed, _)| *seed);
    let each = sum.into_inner().expect("unpoisoned").map(|sum| sum as f64 / done.max(1) as f64);
    let [clients, connections, alerts, publishers, requests, seconds] = each;
    println!(
        "{done} worlds in {:.1} s, {:.1} a second; on average {clients:.1} clients with {connections:.1} connections, \
         {alerts:.1} alerts of {publishers:.1} publishers, {requests:.0} requests to the database, {seconds:.0} s",
        began.elapsed().as_secs_f64(),
        done as f64 / began.elapsed().as_secs_f64(),
    );
    let reached = reached.into_inner().expect("unpoisoned");
    let count = |situation: &Situation| reached.get(situation).copied().unwrap_or_default();
    let counts = Situation::ALL.iter().map(|situation| (count(situation), situation));
    let list: Vec<_> = counts.map(|((times, worlds), name)| format!("{name}: {times} in {worlds} worlds")).collect();
    println!("{}", list.join("; "));
    let Some((seed, outcome)) = failed.first() else { return all_reached(&reached, done) };
    println!("{} worlds broke a guarantee", failed.len());
    let plan = Plan::of(&Choice { seed: *seed, ..Choice::default() });
    if options.no_shrink {
        return report(&plan, &command(&plan), outcome, *seed - options.from + 1);
    }
    let guarantee = outcome.broken.first().map_or(0, |(number, _)| *number);
    let (smallest, outcome) = shrink(tables, &plan, guarantee, 200);
    if let Some(path) = &options.save {
        let text = serde_json::to_string_pretty(&smallest).expect("a plan is JSON");
        fs::write(path, text + "\n").expect("the plan is written");
    }
    report(&smallest, &command(&smallest), &outcome, *seed - options.from + 1)
}
