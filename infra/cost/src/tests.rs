use super::*;

const DOCUMENT: &str = include_str!("../../../docs/cost.md");

fn usage(clients: u32, minutes_a_day: u16) -> Usage {
    Usage { clients, minutes_a_day, ..Usage::DEFAULT }
}

fn prices() -> Prices {
    Prices::of_region(DEFAULT_REGION).expect("known")
}

/// Returns quantity and dollars of a line.
fn line(bill: &Bill, what: &str) -> (f64, f64) {
    bill.lines.iter().find(|line| line.what.contains(what)).map(|line| (line.quantity, line.usd)).expect(what)
}

fn assert_close(left: f64, right: f64, what: &str) {
    assert!((left - right).abs() < 0.01, "{what}: {left} is not {right}");
}

#[test]
fn every_price_is_there_with_its_source_and_date() {
    let estimate = Estimate::new(usage(1, 1), DEFAULT_REGION).expect("known");
    for region in estimate.regions {
        let prices = Prices::of_region(&region).expect("known");
        for (name, price) in prices.iter() {
            assert!(price.usd > 0.0 && price.per >= 1.0 && !price.of.is_empty(), "{region}: {name}");
            assert!(price.source.starts_with("https://") && price.read.len() == 7, "{region}: {name}");
        }
        // A missing row of units or a missing price would be NaN.
        assert!(bills(&usage(1, 1), &prices).iter().all(|bill| bill.total.is_finite()), "{region}");
    }
}

#[test]
fn an_unknown_region_is_refused_by_name() {
    let refusal = Prices::of_region("me-central-1").expect_err("unknown").to_string();
    assert!(refusal.contains("me-central-1") && refusal.contains("us-east-1"), "{refusal}");
}

#[derive(Deserialize)]
struct Counted {
    counted: BTreeMap<String, Vec<Day>>,
}

/// Returns what a client sends in a day with this many visible minutes.
#[derive(Deserialize)]
struct Day {
    minutes: u16,
    connections: f64,
    subscriptions: f64,
    keepalives: f64,
    units: f64,
}

#[test]
fn messages_are_those_that_the_client_was_counted_to_send() {
    let counted: Counted = serde_json::from_str(include_str!("../client.json")).expect("figures");
    for (watches, days) in counted.counted {
        for day in days {
            let bill = own(&Usage { alerts_a_day: 0, ..usage(1, day.minutes) }, &prices());
            let case = format!("{watches}, {} minutes", day.minutes);
            let (keepalives, subscriptions) = (line(&bill, "keepalives and").0, line(&bill, "subscriptions and").0);
            assert_close(keepalives, day.keepalives * 2.0 * DAYS, &case);
            // The model assumes one message for a subscription, which is enough for ALL or 25 regions.
            let messages = day.subscriptions / day.connections;
            assert_close(subscriptions * messages, day.subscriptions * 2.0 * DAYS, &case);
            assert_close(keepalives + subscriptions * messages, day.units * DAYS, &case);
            assert_eq!(messages, if watches == "60 regions" { 3.0 } else { 1.0 }, "{case}");
        }
    }
}

#[test]
fn the_readme_of_the_client_has_the_messages_of_a_day() {
    let counted: Counted = serde_json::from_str(include_str!("../client.json")).expect("figures");
    let all_day =
        &counted.counted["1 region"].iter().find(|day| day.minutes == MINUTES_A_DAY_MAX).expect("a whole day");
    let sentence = format!("costs {} messages, {:.0} an hour", all_day.units, all_day.units / 24.0);
    assert!(include_str!("../../../client/README.md").contains(&sentence), "client/README.md lacks: {sentence}");
}

/// Returns the cost of one keepalive, by the row of its units.
fn keepalive_usd(row: &str) -> f64 {
    let units = units::of(row);
    let invocation = Invocations(1.0);
    [
        ("gateway_message", MESSAGES_PER_QUESTION),
        ("lambda_request", 1.0),
        ("lambda_gb_second", invocation.gb_seconds()),
        ("dynamodb_write", units.writes),
        ("dynamodb_read", units.reads),
        ("log_gb", invocation.log_gb()),
    ]
    .iter()
    .map(|(price, quantity)| prices().usd(price, *quantity))
    .sum()
}

/// Returns the cost of a ping and its answer.
const PING_USD: f64 = 2.0e-6;

const KEEPALIVES: [&str; 3] = ["keepalive, one region", "keepalive, 25 regions", "keepalive, ALL"];

#[test]
fn a_keepalive_costs_about_twice_a_ping() {
    for row in KEEPALIVES {
        let times = keepalive_usd(row) / PING_USD;
        assert!((1.5..2.25).contains(&times), "{row}: {times}");
        assert_eq!(units::of(row).writes, 1.0, "{row}");
    }
}

#[test]
fn idle_minutes_and_keepalives_are_what_they_are_by_hand() {
    let bill = own(&usage(100_000, 1_440), &prices());
    // 100,000 × 43,200 minutes at $0.25 for a million.
    assert_close(line(&bill, "minutes of connections").1, 1_080.0, "minutes");
    // 100,000 × 144 × 30 keepalives of two messages each, at $1 for a million.
    assert_close(line(&bill, "keepalives and").1, 864.0, "keepalives");
    // 100,000 × 20 × 30 alerts.
    assert_close(line(&bill, "API Gateway: alerts").1, 60.0, "alerts");
}

#[test]
fn half_an_hour_a_day_costs_a_fraction_of_always_on() {
    let total = |minutes| own(&usage(100_000, minutes), &prices()).total;
    assert!(total(30) < total(1_440) / 10.0, "{} {}", total(30), total(1_440));
}

/// Returns the metrics that alarms of the template watch in every deployment.
#[test]
fn metrics_of_alarms_are_as_many_as_the_template_has() {
    let template = include_str!("../../../template.yaml");
    let resources = template.split("\nResources:\n").nth(1).expect("resources");
    // A resource starts with a name indented by two spaces.
    let is_name = |line: &str| line.starts_with("  ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_alphabetic);
    let mut alarms: Vec<String> = Vec::new();
    for line in resources.lines() {
        if is_name(line) {
            alarms.push(String::new());
        }
        if let Some(alarm) = alarms.last_mut() {
            alarm.push_str(line);
            alarm.push('\n');
        }
    }
    alarms.retain(|text| text.contains("Type: AWS::CloudWatch::Alarm") && !text.contains("    Condition: "));
    let metrics: usize = alarms.iter().map(|text| text.matches("MetricName: ").count()).sum();
    assert_eq!(metrics as f64, ALARMS, "metrics that {} alarms watch", alarms.len());
}

#[test]
fn the_event_api_costs_what_it_does_by_hand() {
    let bill = event_api::bill(&usage(100_000, 1_440), &prices(), 46.0);
    // 100,000 × 43,200 minutes at $0.08 for a million.
    assert_close(line(&bill, "minutes of connections").1, 345.6, "minutes");
    // 100,000 × 20 × 30 alerts at $1 for a million.
    assert_close(line(&bill, "AppSync: alerts").1, 60.0, "alerts");
    // 100,000 × 30 days, twice a day, to connect and to subscribe.
    assert_close(line(&bill, "connections and subscriptions").1, 12.0, "connections");
    // 1,440 minutes have 31 intervals of 46, and each connection looks twice more.
    assert_close(line(&bill, "HTTP API: looks").1, 105.0, "looks");
    // Without rounding: 4,320 million looks, if there is one a minute, at $1 for a million.
    let looks = event_api::looks_every_minute(100_000);
    assert_close(prices().usd("http_request", looks), 4_320.0, "a look every minute");
    let one = event_api::bill(&usage(0, 1_440), &prices(), event_api::LOOK_MINUTES);
    let other = own(&usage(0, 1_440), &prices());
    // Two more metrics, four more that alarms watch, and the lines of 15,000 publications.
    assert_close(one.total - other.total, 2.0 * 0.3 + 4.0 * 0.1 + 0.015 + 0.002, "with nobody connected");
}

/// Returns seconds as `docs/scale.md` writes them.
fn time(seconds: f64) -> String {
    let (hours, minutes) = ((seconds / 3_600.0).floor(), (seconds / 60.0).floor());
    match seconds {
        _ if minutes >= 100.0 => format!("{hours} h {:.0} min", minutes - hours * 60.0),
        _ if minutes >= 1.0 && seconds > 60.0 => format!("{minutes} min {:02.0} s", seconds - minutes * 60.0),
        _ => format!("{seconds:.0} s"),
    }
}

#[test]
fn the_document_on_scale_has_the_figures_by_quota() {
    const OUTBOUND_EVENTS_PER_SEC: f64 = 1e6;
    const METERED_KB: f64 = 5.0;
    let thousands = |number: f64| whole(number).replace('$', "");
    let mut rows = Vec::new();
    for audience in [1e5, 1e6, 1e7] {
        let of_size = |kb: f64| {
            let events = audience * (kb / METERED_KB).ceil();
            format!("{} s, ${:.2}", events / OUTBOUND_EVENTS_PER_SEC, prices().usd("appsync_operation", events))
        };
        let name = if audience >= 1e6 { format!("{:.0},000,000", audience / 1e6) } else { thousands(audience) };
        rows.push(format!("| {name} | {} | {} | {} |", of_size(1.0), of_size(5.0), of_size(30.0)));
        rows.push(format!("| {name} | {} | {} |", time(audience / 2_000.0), time(audience / 500.0)));
        let [default, higher, highest] = [500.0, 2_000.0, 3_000.0].map(|rate| time(audience / rate));
        rows.push(format!("| {name} | {default} | {higher} | {highest} |"));
    }
    let document = include_str!("../../../docs/scale.md");
    let missing: Vec<_> = rows.into_iter().filter(|row| !document.contains(row)).collect();
    assert!(missing.is_empty(), "docs/scale.md lacks\n\n{}\n", missing.join("\n"));
}

fn whole(usd: f64) -> String {
    let digits = format!("{usd:.0}");
    let (thousands, rest) = digits.split_at(digits.len().saturating_sub(3));
    if thousands.is_empty() { format!("${rest}") } else { format!("${thousands},{rest}") }
}

/// Compares the rows of the document with the model.
fn documented() -> Vec<String> {
    let [half_an_hour, all_day] = [30, 1_440].map(|minutes| bills(&usage(100_000, minutes), &prices()));
    let mut rows: Vec<_> = half_an_hour
        .iter()
        .zip(&all_day)
        .map(|(half, all)| format!("| {} | {} | {} |", half.service, whole(half.total), whole(all.total)))
        .collect();
    let part = |bill: &Bill, parts: &[Part]| {
        whole(bill.lines.iter().filter(|line| parts.contains(&line.part)).map(|line| line.usd).sum())
    };
    for (what, parts) in [
        ("connections", &[Part::Connections][..]),
        ("keepalives", &[Part::Keepalives]),
        ("alerts and subscriptions", &[Part::Messages]),
        ("functions and tables", &[Part::Functions, Part::Tables]),
        ("logs, metrics and alarms", &[Part::Operation]),
        ("traffic", &[Part::Transfer]),
    ] {
        rows.push(format!("| {what} | {} | {} |", part(&half_an_hour[0], parts), part(&all_day[0], parts)));
    }
    let row = |what: &str, usd: f64| format!("| {what} | {usd:.2} | {:.1} |", usd / (1e6 * PING_USD));
    rows.push(row("a ping and its pong", 1e6 * PING_USD));
    rows.extend(KEEPALIVES.map(|what| row(what, 1e6 * keepalive_usd(what))));
    let minutes = |each: f64, every: f64| 1e6 / every * each;
    rows.push(format!("| the connections | {:.2} |", prices().usd("gateway_minute", 1e6)));
    rows.push(format!("| a ping every 25 s | {:.2} |", minutes(PING_USD, 25.0 / 60.0)));
    rows.push(format!(
        "| a keepalive every 9.5 minutes, as our client sends it | {:.2} |",
        minutes(keepalive_usd(KEEPALIVES[0]), KEEPALIVE_MINUTES)
    ));
    let (alert, reads_per_push) = units_of_alert();
    let audience = 10_000.0 * reads_per_push;
    rows.push(format!("| pushes | 10,000 messages | {:.4} |", prices().usd("gateway_message", 10_000.0)));
    rows.push(format!(
        "| reading the audience | {audience:.0} read units | {:.6} |",
        prices().usd("dynamodb_read", audience)
    ));
    rows.push(format!(
        "| the alert itself, with an idempotency key | {} read and {} write units | {:.6} |",
        alert.reads,
        alert.writes,
        prices().usd("dynamodb_read", alert.reads) + prices().usd("dynamodb_write", alert.writes)
    ));
    let always = |minutes: f64| event_api::bill(&usage(100_000, 1_440), &prices(), minutes);
    let looks = event_api::looks_every_minute(100_000);
    let look = event_api::look_usd(&prices());
    rows.push(format!("A million looks cost ${:.2}", look * 1e6));
    rows.push(format!("{} ÷ m", whole(looks * look)));
    for minutes in [9.5, 30.0, 46.0, 60.0] {
        let bill = always(minutes);
        let of_requests = prices().usd("http_request", looks / minutes);
        rows.push(format!(
            "| {minutes} minutes | {} | {} | {} |",
            whole(of_requests),
            whole(looks / minutes * look),
            whole(bill.total)
        ));
    }
    for (what, parts) in [
        ("connections", &[Part::Connections][..]),
        ("looks at the log", &[Part::Keepalives]),
        ("alerts and subscriptions", &[Part::Messages]),
        ("functions and tables", &[Part::Functions, Part::Tables]),
        ("logs, metrics and alarms", &[Part::Operation]),
        ("traffic", &[Part::Transfer]),
    ] {
        rows.push(format!("| {what} | {} | {} |", part(&half_an_hour[1], parts), part(&all_day[1], parts)));
    }
    let idle = own(&Usage { clients: 0, ..Usage::DEFAULT }, &prices());
    rows.push(format!("With nobody connected a stack costs ${:.2} a month", idle.total));
    let canary = canary::bill(&prices());
    let operation = canary.lines.iter().filter(|line| line.part == Part::Operation).map(|line| line.usd).sum::<f64>();
    rows.push(format!("The synthetic canary (`Canary=on`) adds ${:.2} a month", canary.total));
    rows.push(format!("${operation:.2} of that is for its logs"));
    rows
}

#[test]
fn the_document_says_what_the_model_says() {
    let missing: Vec<_> = documented().into_iter().filter(|row| !DOCUMENT.contains(row)).collect();
    assert!(missing.is_empty(), "docs/cost.md lacks\n\n{}\n", missing.join("\n"));
}
