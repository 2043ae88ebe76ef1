//! Whole worlds: every guarantee holds in them, a seed decides all of it, and the document says the same.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, process::Command};

use shared::runtime::environment::Environment;
use simulation::{
    cloud::{EventApi, Settings, Situation, Weather},
    engine::tables,
    world::{
        Choice, Plan,
        guarantees::GUARANTEES,
        items::{Item, Pass, Via, What},
        run,
    },
};

/// Worlds in a test, unless `WORLDS` says another number. `tests/run` asks for fewer: its suite `worlds` runs 1,500.
const SEEDS: u64 = 100;

/// Worlds that are run in two processes; `tests/run worlds` compares 50.
const TWICE: u64 = 5;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn every_guarantee_holds_in_every_world() {
    let seeds = Environment::from_process().get("WORLDS").map_or(SEEDS, |number| number.parse().expect("a number"));
    let (holds, text) = simulate(&["--seeds", &seeds.to_string()]);
    assert!(holds, "{text}");
    println!("{text}");
}

#[test]
fn the_same_seed_is_the_same_world_in_another_process_and_beside_other_worlds() {
    let hashes = |jobs: &str| {
        let (_, text) =
            simulate(&["--seeds", &TWICE.to_string(), "--keep-going", "--no-shrink", "--hashes", "--jobs", jobs]);
        let is_hash = |line: &&str| {
            line.split_once(' ').is_some_and(|(seed, hash)| seed.parse::<u64>().is_ok() && hash.len() == 16)
        };
        let hashes: BTreeSet<String> = text.lines().filter(is_hash).map(str::to_owned).collect();
        assert_eq!(hashes.len() as u64, TWICE, "{text}");
        hashes
    };
    assert_eq!(hashes("1"), hashes("2"));
    // Byte for byte.
    let trace = |seed: u64| simulate(&["--seed", &seed.to_string()]);
    for seed in 0..2 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

#[test]
fn worlds_are_different_and_large_enough() {
    let tables = tables();
    let outcomes: Vec<_> =
        (0..4).map(|seed| run(&tables, &Plan::of(&Choice { seed, ..Choice::default() }), false)).collect();
    let hashes: BTreeSet<u64> = outcomes.iter().map(|outcome| outcome.hash).collect();
    assert_eq!(hashes.len(), outcomes.len());
    for (seed, outcome) in outcomes.iter().enumerate() {
        let figures = outcome.figures;
        assert!(figures.clients >= 5 && figures.alerts >= 5, "seed {seed}: {figures:?}");
        assert!(figures.publishers >= 2 && figures.database_requests >= 150, "seed {seed}: {figures:?}");
    }
}

#[test]
fn in_a_calm_world_the_scorer_publishes_what_goes_viral_and_the_canary_hears_its_alert_in_each_run() {
    let mut plan = Plan::of(&Choice { seed: 3, ..Choice::default() });
    plan.weather = Weather::default();
    for (authorization, has_issuer) in [("off", false), ("required", false), ("required", true)] {
        plan.settings = Settings {
            authorization: authorization.to_owned(),
            has_issuer,
            push_rate: 1_000,
            alerts_per_minute: 600,
            regions_max: 300,
            ..plan.settings
        };
        plan.items = [What::Score { regions: vec!["PL".to_owned()], pause_ms: 2_000 }, What::Watch { pause_ms: 3_000 }]
            .into_iter()
            .enumerate()
            .map(|(number, what)| Item { number, at_ms: 0, what })
            .collect();
        let outcome = run(&tables(), &plan, true);
        assert_eq!(outcome.broken, []);
        let lines = |part: &str| outcome.trace.iter().filter(|line| line.contains(part)).count();
        let runs = lines("CanaryFunction-1 ends: ");
        assert!(runs > 3, "{runs}");
        assert_eq!(lines(r#"CanaryFunction-1 ends: {"arrived":true"#), runs);
        assert_eq!(lines("announces rise-PL-2 in PL"), 1);
        assert_eq!(lines("announces usual"), 0);
    }
}

/// A world with pages that use the Event API, and with alerts in groups: for a while nothing shows that the last one of
/// a group was lost.
fn on_both_legs(seed: u64, check_ms: Option<u64>) -> Plan {
    const GROUPS: u64 = 8;
    const PAUSE_MS: u64 = 150_000;
    let mut plan = Plan::of(&Choice { seed, ..Choice::default() });
    plan.weather = Weather { failed_events: 0.6, ..Weather::default() };
    plan.settings = Settings {
        authorization: "required".to_owned(),
        push_rate: 1_000,
        connections_per_user: 50,
        alerts_per_minute: 600,
        regions_max: 300,
        has_operator: true,
        page_items: None,
        event_api: Some(EventApi { share: 100, later_share: 60, check_ms }),
        ..plan.settings
    };
    let mut items = vec![(0, What::Intrude { region: "PL".to_owned(), pass: Pass::OfAnother })];
    items.extend(
        ["ALL", "PL", "PL", "DE", "ALL"]
            .map(|region| (0, What::Ours { regions: vec![region.to_owned()], changes: Vec::new(), on_events: true })),
    );
    for group in 0..GROUPS {
        let at_ms = 20_000 + group * PAUSE_MS;
        let region = if group % 2 == 0 { "PL" } else { "DE" }.to_owned();
        for place in 0..4 {
            let (via, publisher) = (Via::Http, place as usize);
            let publish = What::Publish { publisher, region: region.clone(), via, has_key: true, count: 1 };
            items.push((at_ms + place * 700, publish));
        }
        items.push((at_ms + 60_000, What::Remove { of: items.len() - 1 }));
    }
    items.push((GROUPS * PAUSE_MS / 2, What::Redeploy));
    plan.items = items.into_iter().enumerate().map(|(number, (at_ms, what))| Item { number, at_ms, what }).collect();
    plan.span_ms = GROUPS * PAUSE_MS;
    plan
}

/// Worlds after which everything has happened on the Event API that is left to chance.
const WORLDS_OF_LOSSES: u64 = 8;

#[test]
fn what_the_event_api_loses_repeats_and_reorders_is_complete_and_in_order_for_applications() {
    let tables = tables();
    let mut missing: BTreeSet<Situation> = BTreeSet::from([
        Situation::EventLost,
        Situation::EventDoubled,
        Situation::EventOvertaken,
        Situation::EventNotTaken,
        Situation::EventFailed,
        Situation::EventUnanswered,
        Situation::EventTakenLater,
        Situation::EventHandedOver,
        Situation::FoundByNumber,
        Situation::FoundByLook,
        Situation::LegChanged,
        Situation::LegAvoided,
        Situation::ChannelRefused,
    ]);
    for seed in 0..WORLDS_OF_LOSSES {
        let outcome = run(&tables, &on_both_legs(seed, Some(60_000)), false);
        assert_eq!(outcome.broken, [], "seed {seed}");
        missing.retain(|situation| !outcome.reached.contains_key(situation));
        if missing.is_empty() {
            return;
        }
    }
    panic!("in {WORLDS_OF_LOSSES} worlds there are no {missing:?}");
}

#[test]
fn without_a_look_at_the_log_an_application_misses_the_last_alert_that_is_lost() {
    let tables = tables();
    let is_missed = |seed| {
        let outcome = run(&tables, &on_both_legs(seed, None), false);
        outcome.broken.iter().any(|(guarantee, message)| *guarantee == 2 && message.contains("it has come to"))
    };
    assert!((0..WORLDS_OF_LOSSES).any(is_missed), "nothing is missed in {WORLDS_OF_LOSSES} worlds");
}

/// A paragraph in lines of at most 100 characters, the later ones indented.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= 100 {
            let _ = write!(line, " {word}");
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines.join("\n")
}

/// Calls of AWS services one after another from a publication to the first post: the rate limit, beside a look at the
/// log; the commit; the snapshot; the invocation of deliver; and the audience, beside another look at the log.
const CALLS_TO_THE_FIRST_POST: u64 = 5;

#[test]
fn five_calls_follow_one_another_from_a_publication_to_the_first_post() {
    /// Longer than anything else takes, and shorter than what functions wait for.
    const WAY_MS: u64 = 100;
    let mut plan = Plan::of(&Choice { seed: 0, ..Choice::default() });
    plan.weather = Weather::default();
    plan.settings = Settings {
        authorization: "off".to_owned(),
        push_rate: 1_000,
        alerts_per_minute: 600,
        regions_max: 300,
        way_ms: Some(WAY_MS),
        ..plan.settings
    };
    let region = "PL".to_owned();
    let publish =
        |publisher| What::Publish { publisher, region: region.clone(), via: Via::Http, has_key: true, count: 1 };
    let plain = What::Plain { regions: vec![region.clone()], leaves_after_ms: None };
    // The first alert of a region also begins its log.
    plan.items = [(0, plain), (10_000, publish(0)), (20_000, publish(1))]
        .into_iter()
        .enumerate()
        .map(|(number, (at_ms, what))| Item { number, at_ms, what })
        .collect();
    plan.span_ms = 30_000;
    let outcome = run(&tables(), &plan, true);
    assert_eq!(outcome.broken, []);
    for at_ms in [10_000, 20_000] {
        let ms_of = |line: &String| line.trim_start().split(' ').next().and_then(|ms| ms.parse::<u64>().ok());
        let is_later = |line: &&String| ms_of(line).is_some_and(|ms| ms >= at_ms);
        let first = |what: &str| {
            let found = outcome.trace.iter().filter(is_later).find(|line| line.contains(what));
            found.and_then(ms_of).unwrap_or_else(|| panic!("{what}: {:#?}", outcome.trace))
        };
        // A call arrives after one way.
        let (began, posted) = (first(" PublishFunction-1 UpdateItem") - WAY_MS, first("/@connections/"));
        assert_eq!((posted - began) / (2 * WAY_MS), CALLS_TO_THE_FIRST_POST, "{:#?}", outcome.trace);
    }
}

#[test]
fn the_document_states_the_guarantees_that_are_checked() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guarantees.md");
    let document = fs::read_to_string(path).expect("docs/guarantees.md");
    let (head, _) = document.split_once("\n## ").expect("sections");
    let mut expected = format!("{head}\n");
    for guarantee in GUARANTEES {
        let name = format!("{}{}", guarantee.name[..1].to_uppercase(), &guarantee.name[1..]);
        let _ = write!(
            expected,
            "## {}. {name}\n\n{}\n\n{}\n{}\n{}\n\n",
            guarantee.number,
            wrapped(guarantee.sentence, ""),
            wrapped(&format!("- **Promised in** {}.", guarantee.promised), "  "),
            wrapped(&format!("- **Checked by** {}.", guarantee.check), "  "),
            wrapped(&format!("- **Weaker:** {}", guarantee.weaker), "  "),
        );
    }
    assert_eq!(document.trim_end(), expected.trim_end(), "docs/guarantees.md and guarantees.rs differ");
}
