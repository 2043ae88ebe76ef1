mod read;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use serde_json::{Map, Value, json};

use self::{
    read::are_read_as_they_were_written,
    written::{
        CLOSED, OPEN, Samples, World, connection, first_alert, general, in_a_minute, publication, publisher, region,
        ten_a_second, world, written,
    },
};
use super::*;
use crate::{
    auth::access::{Authorization, NAME_FIELD, Regions, USER_FIELD, authorizer_field},
    error::Code,
    fanout::FanoutTask,
    model::{
        alert::{Format, Logged},
        audience::Audience,
        connection::SlotRange,
        position::Positions,
        publication::Publication,
    },
    publish::{
        publisher::{Publisher, alerts_per_minute},
        removal::RemovalRequest,
    },
    tables::{alerts::AlertKey, subscriptions::connection_state::MembershipChange},
};

/// What a made-up form 2 adds everywhere.
const ADDITION: &str = "from_form_2";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("forms")
}

fn file(form: &Form, number: u32) -> String {
    format!("{}.{number}.json", form.name)
}

/// The golden files of the forms that this crate writes.
fn golden() -> Samples {
    let own = ALL.iter().filter(|form| form.tested_in == HERE);
    let read = |form: &'static Form| {
        let text = fs::read_to_string(folder().join(file(form, form.number))).expect(form.name);
        (form.name, serde_json::from_str(&text).expect(form.name))
    };
    own.map(read).collect()
}

// --- A later form -----------------------------------------------------------------------------------------------------

/// The same with what a made-up form 2 adds: its number and a field, wherever a later form may add one.
fn of_form_2(samples: &Samples) -> Samples {
    let added = |form: &Form, value: &Value| {
        let mut value = value.clone();
        match (form.place, form.name) {
            (Place::Sent, _) => add_to_objects(&mut value),
            (Place::Client, "cursor") => {
                let entries = value.as_str().expect("a text").split('_');
                let entries: Vec<String> =
                    entries.map(|entry| if entry.is_empty() { String::new() } else { format!("{entry}.x1") }).collect();
                value = json!(entries.join("_"));
            }
            (Place::Client, _) => value.as_object_mut().expect("regions").values_mut().for_each(add_to_objects),
            _ => {
                let item = value.as_object_mut().expect("an item");
                item.insert(FORM.to_owned(), json!({"N": "2"}));
                item.insert(ADDITION.to_owned(), json!({"S": "more"}));
                if form.name == "snapshot" {
                    let entry = item["PL"]["S"].as_str().expect("an entry");
                    item["PL"] = json!({"S": format!("{entry}.x1")});
                }
            }
        }
        value
    };
    let of_form_2 = |(name, samples): (&&'static str, &BTreeMap<String, Value>)| {
        let form = named(name).expect(name);
        (*name, samples.iter().map(|(key, value)| (key.clone(), added(form, value))).collect())
    };
    samples.iter().map(of_form_2).collect()
}

fn add_to_objects(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(add_to_objects),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| *name != "video").for_each(|(_, value)| add_to_objects(value));
            let rest: Map<String, Value> = std::mem::take(fields);
            // Before all others too: the order of fields says nothing.
            fields.insert(FORM.to_owned(), json!(2));
            fields.extend(rest);
            fields.insert(ADDITION.to_owned(), json!({"more": [1]}));
        }
        _ => {}
    }
}

/// Has functions of form 1 write whatever they write of what is there already.
async fn write_again(World { alerts, subscriptions, publisher: publishes, clock, .. }: &World) {
    clock.fetch_add(60_000, Ordering::Relaxed);
    alerts.note_audience(&region("PL"), 13_000).await.expect("noted");
    assert!(alerts.lease(&region("DE"), "another").await.expect("asked"));
    for name in ["PL", "FR"] {
        // The alert of before is just so old.
        let again = Publication { repeat_window: Some(Duration::from_secs(60)), ..publication(name, "again", None) };
        let published = publishes.publish(again, &publisher(), in_a_minute()).await;
        published.expect("published").expect("published");
    }
    alerts.mark_dispatched(&Logged::Alert(first_alert())).await.expect("marked");
    let second = RemovalRequest { region: region("PL"), seq: 2, epoch: None };
    let unbounded = Publisher { rate_limit: None, ..publishes.clone() };
    unbounded.take_back(&second, &publisher(), "test").await.expect("removed").expect("removed");

    let all = [Audience::Region(region("PL")), Audience::Region(region("DE")), general()];
    let change = MembershipChange::Join(&all, Format::ViralAlert);
    subscriptions.admit(&connection(OPEN), change, ten_a_second()).await.expect("asked").expect("admitted");
    subscriptions.subscribe(&connection(OPEN), &all, Format::ViralAlert).await.expect("asked").expect("written");
    subscriptions.mark_closed(&connection(CLOSED).id).await.expect("closed again");
}

// --- Tests ------------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn what_the_code_writes_is_what_the_golden_files_have() {
    let (golden, written) = (golden(), written().await);
    let changed = golden.iter().filter_map(|(name, golden)| {
        let written = json!(written.get(name));
        named(name).expect(name).check(&json!(golden), &written).err().map(|changed| changed.to_string())
    });
    let changed: Vec<String> = changed.collect();
    assert!(changed.is_empty(), "{}", changed.join("\n"));
    assert_eq!(golden.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_the_golden_files_have_is_read_as_it_was_written() {
    are_read_as_they_were_written(&golden()).await;
}

#[tokio::test(start_paused = true)]
async fn readers_of_form_1_survive_a_form_2_that_adds_a_field() {
    are_read_as_they_were_written(&of_form_2(&golden())).await;
}

#[test]
fn what_an_authorizer_said_is_read_from_the_golden_file_and_from_a_form_2_that_adds_a_field() {
    let text = fs::read_to_string(folder().join("authorizer_context.1.json")).expect("a golden file");
    let contexts: Value = serde_json::from_str(&text).expect("JSON");
    for added in [false, true] {
        let said = |name: &str| {
            let mut event = ApiGatewayWebsocketProxyRequest::default();
            let fields = &mut event.request_context.authorizer.fields;
            fields.extend(contexts[name].as_object().expect("a context").clone());
            if added {
                // A context has neither lists nor objects.
                fields.extend([(FORM.to_owned(), json!("2")), (ADDITION.to_owned(), json!("more"))]);
            }
            let regions = Regions::of_event(&event, Authorization::Required).to_string();
            let publishes = Regions::published_by(&event, Authorization::Required).to_string();
            let field = |name| authorizer_field(&event, name).map(str::to_owned);
            (regions, publishes, field(USER_FIELD), field(NAME_FIELD))
        };
        let [regions, publishes, user, name] = ["PL,E*", "PL", "ola", "Ola Ż"].map(str::to_owned);
        assert_eq!(said("everything"), (regions, publishes, Some(user), Some(name)));
        assert_eq!(said("anonymous"), ("*".to_owned(), String::new(), None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_form_2_added_is_kept_or_lost_by_writers_of_form_1_as_the_list_says() {
    let world = world(&of_form_2(&golden()));
    let before = world.items();
    write_again(&world).await;
    let after = world.items();
    for (name, samples) in &before {
        let form = named(name).expect(name);
        let changed = samples.iter().filter(|(key, item)| after[name].get(*key) != Some(item));
        let changed: Vec<(&String, bool)> = changed
            .map(|(key, _)| (key, after[name].get(key).is_some_and(|item| item.get(ADDITION).is_some())))
            .collect();
        match form.rewrite {
            Rewrite::Keeps => {
                assert!(!changed.is_empty() && changed.iter().all(|(_, has)| *has), "{name}: {changed:?}")
            }
            Rewrite::Loses => {
                assert!(!changed.is_empty() && changed.iter().all(|(_, has)| !has), "{name}: {changed:?}")
            }
            Rewrite::Never => assert!(changed.is_empty(), "{name}: {changed:?}"),
        }
    }
    // What was added to the entry of a region goes with the entry.
    assert!(!after["snapshot"]["@heads#1/0"]["PL"].to_string().contains('.'));
    // What is sent on.
    let samples = of_form_2(&golden());
    let task: FanoutTask = serde_json::from_value(samples["fanout_task"]["part"].clone()).expect("a task");
    assert_eq!(json!(task), golden()["fanout_task"]["part"]);
    let cursor: Positions = samples["cursor"]["several"].as_str().expect("a text").parse().expect("a cursor");
    assert_eq!(json!(cursor.to_string()), golden()["cursor"]["several"]);
}

/// The same samples, one of which cannot be read.
fn broken(name: &str, key: &str, attribute: &str, value: Value) -> World {
    let mut samples = golden();
    let item = samples.get_mut(name).and_then(|samples| samples.get_mut(key)).expect(key);
    assert!(item.get(attribute).is_some(), "{item}");
    item[attribute] = value;
    world(&samples)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_written_over() {
    let later = || json!({"M": {"later": {"S": "1"}}});
    let is_as_before = |world: &World, before: &Samples, name: &str, key: &str| {
        assert_eq!(world.items()[name][key], before[name][key], "{name}");
    };
    let world = broken("head", "@head#PL/0", "last_seq", later());
    let before = world.items();
    let committed = world.alerts.commit(&region("PL"), &[publication("PL", "five", None)], in_a_minute()).await;
    assert!(matches!(committed[..], [Err(_)]), "{committed:?}");
    is_as_before(&world, &before, "head", "@head#PL/0");

    // An entry of another form begins with what sorts behind all digits.
    for later in [later(), json!({"S": "~2"})] {
        let world = broken("snapshot", "@heads#1/0", "PL", later);
        let before = world.items();
        world.alerts.record_head(&region("PL")).await.expect("it counts as further already");
        assert!(world.alerts.snapshot.read_all().await.expect("read").is_empty());
        is_as_before(&world, &before, "snapshot", "@heads#1/0");
    }

    let world = broken("receipt", "@key#PL#k-1/0", "alert_seq", later());
    let before = world.items();
    let again = world.alerts.commit(&region("PL"), &[publication("PL", "Ż", Some("k-1"))], in_a_minute()).await;
    assert!(matches!(&again[..], [Ok(Err(refusal))] if refusal.code == Code::OutcomeUnknown), "{again:?}");
    is_as_before(&world, &before, "receipt", "@key#PL#k-1/0");

    let limit = alerts_per_minute(2).expect("a limit");
    let key = golden()["publisher_rate_limit"].keys().next().expect("one").clone();
    let world = broken("publisher_rate_limit", &key, "used_until", later());
    let before = world.items();
    world.alerts.allow(&publisher(), limit, 1).await.expect_err("it changes at each attempt, as far as is known");
    is_as_before(&world, &before, "publisher_rate_limit", &key);

    let key = format!("@connection#{OPEN}/state");
    let world = broken("connection_state", &key, "messages_until", later());
    let before = world.items();
    let admitted = world.subscriptions.admit(&connection(OPEN), MembershipChange::None, ten_a_second()).await;
    assert_eq!(admitted.expect("asked").expect_err("refused").code, Code::RateLimited);
    is_as_before(&world, &before, "connection_state", &key);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_left_out_alone() {
    let world = broken("alert", "PL/1", "video", json!({"S": "no JSON"}));
    let key = AlertKey { region: "PL".to_owned(), seq: 1 };
    world.alerts.if_undispatched(&key).await.expect_err("unreadable");
    let slot = golden()["subscription"].keys().find(|key| key.starts_with("PL/")).expect("one").clone();
    let world = broken("subscription", &slot, "format", json!({"S": "later"}));
    let page = world.subscriptions.page(&Audience::Region(region("PL")), SlotRange::WHOLE, None).await.expect("read");
    assert!(page.members.is_empty());
    let mut task = golden()["fanout_task"]["alert"].clone();
    let alert = task["alert"].take();
    task.as_object_mut().expect("an object").remove("alert");
    task["poll"] = alert;
    assert!(serde_json::from_value::<FanoutTask>(task).is_err(), "a content of a later version");
}

#[test]
fn a_changed_form_fails_with_what_to_do() {
    let form = named("head").expect("a form");
    let golden = json!({"@head#PL/0": {"epoch": {"N": "1"}, "last_seq": {"N": "2"}}});
    assert_eq!(form.check(&golden, &golden.clone()), Ok(()));
    let mut written = golden.clone();
    written["@head#PL/0"]["closed"] = json!({"BOOL": true});
    let changed = form.check(&golden, &written).expect_err("changed").to_string();
    for text in [
        "form 1 of `head` has changed",
        "the number 2",
        "a reader for it with a test",
        "add `shared/forms/head.2.json`",
    ] {
        assert!(changed.contains(text), "{changed}");
    }
    assert!(form.check(&golden, &json!({})).is_err());
}

#[test]
fn every_form_has_its_golden_files_and_the_test_that_reads_them() {
    let expected: BTreeSet<String> =
        ALL.iter().flat_map(|form| (1..=form.number).map(|number| file(form, number))).collect();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name");
    let found = fs::read_dir(folder()).expect("a folder").map(|entry| name(entry.expect("an entry"))).collect();
    assert_eq!(expected, found);
    for form in ALL.iter().filter(|form| form.tested_in != HERE) {
        let test = folder().join("../..").join(form.tested_in);
        let text = fs::read_to_string(&test).expect(form.tested_in);
        assert!(
            text.contains(&file(form, form.number)),
            "{} does not read {}",
            form.tested_in,
            file(form, form.number)
        );
    }
}

#[test]
fn the_guide_to_upgrading_names_every_form_with_its_number() {
    let document = fs::read_to_string(folder().join("../../docs/operations.md")).expect("the guide");
    let (_, rest) = document.split_once("\n## Upgrading\n").expect("its section");
    let section = rest.split("\n## ").next().unwrap_or_default();
    for Form { name, number, .. } in ALL {
        assert!(section.contains(&format!("`{name}` {number}")), "{name} {number}");
    }
}
