//! The tables of `docs/scale.md`.

use crate::{
    assumptions::{
        GB_SECOND_DOLLARS, MESSAGE_DOLLARS, READ_UNIT_DOLLARS, REQUEST_DOLLARS, WORKER_GB, WRITE_UNIT_DOLLARS,
    },
    world::{Outcome, Scenario},
};

type Run = (Scenario, Outcome);

/// Prints how long alerts take, and the load on the gateway and Lambda.
pub(crate) fn time(runs: &[&Run]) {
    println!(
        "| audience | quota | first push | half | 99 % | last | quota used | workers | invocations | in a row | \
         refused | repeated | undelivered |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for (scenario, outcome) in runs {
        println!(
            "| {} | {}/s | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            grouped(scenario.ring.len() as f64),
            grouped(scenario.quota.per_second),
            shown(quantile(outcome, 0.0)),
            shown(quantile(outcome, 0.5)),
            shown(quantile(outcome, 0.99)),
            shown(time_to_last(outcome)),
            percent(used(scenario, outcome)),
            outcome.workers,
            outcome.invocations,
            outcome.depth,
            percent(outcome.refused as f64 / outcome.calls as f64),
            grouped(outcome.retried as f64),
            outcome.undelivered,
        );
    }
    println!();
}

/// Prints what alerts cost.
pub(crate) fn cost(runs: &[&Run]) {
    println!(
        "| audience | quota | read units | most in a second | write units | GB-seconds | pushes | Lambda | DynamoDB | \
         sum |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (scenario, outcome) in runs {
        let gb_seconds = outcome.lambda_secs * WORKER_GB;
        let pushes = outcome.sent as f64 * MESSAGE_DOLLARS;
        let lambda = gb_seconds * GB_SECOND_DOLLARS + outcome.invocations as f64 * REQUEST_DOLLARS;
        let table = outcome.read_units * READ_UNIT_DOLLARS + outcome.write_units * WRITE_UNIT_DOLLARS;
        println!(
            "| {} | {}/s | {} | {} | {} | {} | ${pushes:.4} | ${lambda:.4} | ${table:.4} | ${:.4} |",
            grouped(scenario.ring.len() as f64),
            grouped(scenario.quota.per_second),
            grouped(outcome.read_units),
            grouped(outcome.read_units_by_second.iter().copied().fold(0.0, f64::max)),
            grouped(outcome.write_units),
            grouped(gb_seconds),
            pushes + lambda + table,
        );
    }
    println!();
}

/// Prints how much of the quota dead connections use.
pub(crate) fn gone(runs: &[Run]) {
    println!(
        "| gone | first posts | later posts and GetConnection | DeleteConnection | of all calls | last push | \
         end of the work | removed |\n|---|---|---|---|---|---|---|---|"
    );
    for (scenario, outcome) in runs {
        let gone = (scenario.ring.len() / scenario.gone_every as usize) as u64;
        let later = outcome.posts_to_gone - gone + outcome.looks;
        println!(
            "| {:.0} % | {} | {} | {} | {} | {} | {} | {} |",
            100.0 / f64::from(scenario.gone_every),
            grouped(scenario.ring.len() as f64),
            grouped(later as f64),
            grouped(outcome.closed as f64),
            percent((later + outcome.closed) as f64 / outcome.calls as f64),
            shown(time_to_last(outcome)),
            shown(outcome.ended.as_secs_f64()),
            grouped(outcome.removed as f64),
        );
    }
    println!();
}

/// Prints alerts at the same moment.
pub(crate) fn several(runs: &[Run]) {
    println!(
        "| alerts | first of them done | last of them done | quota used | refused | repeated | undelivered |\n\
         |---|---|---|---|---|---|---|"
    );
    for (scenario, outcome) in runs {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            scenario.alerts,
            shown(outcome.last.iter().min().map_or(0.0, std::time::Duration::as_secs_f64)),
            shown(time_to_last(outcome)),
            percent(used(scenario, outcome)),
            percent(outcome.refused as f64 / outcome.calls as f64),
            grouped(outcome.retried as f64),
            outcome.undelivered,
        );
    }
    println!();
}

/// Prints slower posts.
pub(crate) fn slower(runs: &[Run]) {
    varied("posts take", runs, |scenario| format!("{} times as long", scenario.slower));
}

/// Prints a rate that is set too high.
pub(crate) fn rates(runs: &[Run]) {
    varied("`PushRate`", runs, |scenario| match scenario.push_rate {
        1.0 => "the quota".to_owned(),
        times => format!("{times} times the quota"),
    });
}

fn varied(what: &str, runs: &[Run], name: impl Fn(&Scenario) -> String) {
    println!("| {what} | last push | quota used | refused | repeated | undelivered |\n|---|---|---|---|---|---|");
    for (scenario, outcome) in runs {
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            name(scenario),
            shown(time_to_last(outcome)),
            percent(used(scenario, outcome)),
            percent(outcome.refused as f64 / outcome.calls as f64),
            grouped(outcome.retried as f64),
            outcome.undelivered,
        );
    }
    println!();
}

/// Returns the seconds from the commit to the last push.
pub(crate) fn time_to_last(outcome: &Outcome) -> f64 {
    outcome.last.iter().max().map_or(0.0, std::time::Duration::as_secs_f64)
}

/// Returns the seconds after which this share of the pushes was made.
fn quantile(outcome: &Outcome, share: f64) -> f64 {
    let wanted = (outcome.sent as f64 * share).max(1.0);
    let mut seen = 0.0;
    let ms = outcome.sent_at_ms.iter().position(|pushes| {
        seen += f64::from(*pushes);
        seen >= wanted
    });
    ms.unwrap_or_default() as f64 / 1e3
}

/// Returns the share of the quota that was used from the commit to the last push.
fn used(scenario: &Scenario, outcome: &Outcome) -> f64 {
    outcome.taken_by_last as f64 / (scenario.quota.per_second * time_to_last(outcome))
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 10.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

fn shown(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.2} s"),
        10.0..120.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min {:02.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor()),
    }
}

/// Formats a whole number with separated thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
