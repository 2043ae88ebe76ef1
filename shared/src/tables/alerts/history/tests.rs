//! What reading for clients finds and takes, in tables of any content.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use clock::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    fake_aws::{FakeResponse, sdk_for},
    limits::{
        ALERT_TTL, FRAME_BYTES_MAX, MESSAGE_READ_UNITS_MAX, PAGE_READ_UNITS_MAX, READ_UNIT_BYTES, REGIONS_OF_ALL_MAX,
        REMOVED_ITEM_BYTES_MAX,
    },
    model::{
        alert::{Format, Position},
        audience::Audience,
        position::Positions,
    },
    protocol::{
        leg,
        reply::{Reply, Subscribed},
        request::Audiences,
    },
    replay::{
        paging::{self, Begin},
        resumption::{self, Standing},
    },
    tables::alerts::snapshot::SnapshotEntry,
};

const EPOCH: i64 = 1_795_000_000_000;
const NOW: i64 = EPOCH + 60_000;

/// What there is of a log: the titles of its alerts have so many bytes, and none where the time to live has removed
/// one. One that was taken back has [`TAKEN_BACK`].
type Log = Vec<Option<usize>>;

const TAKEN_BACK: usize = 0;

/// A table with these logs and their snapshot, and the read units that it has taken.
fn history(logs: Vec<Log>) -> (History, Arc<AtomicUsize>) {
    let logs: BTreeMap<String, Log> = (0..).map(name).zip(logs).collect();
    let units = Arc::new(AtomicUsize::new(0));
    let taken = Arc::clone(&units);
    let (sdk, _) = sdk_for(move |body| {
        let request: Value = serde_json::from_str(body).expect("JSON");
        let (answer, units) = match request.get("RequestItems") {
            Some(tables) => shards(&logs, tables["t"]["Keys"].as_array().expect("keys")),
            None => query(&logs, &request),
        };
        taken.fetch_add(units, Ordering::Relaxed);
        FakeResponse(200, "", answer.to_string())
    });
    (History::new(Client::new(&sdk), "t".to_owned(), clock(NOW)), units)
}

fn clock(ms: i64) -> Clock {
    Clock::Manual(Arc::new(AtomicI64::new(ms)))
}

fn name(number: usize) -> String {
    format!("R-{number:03}")
}

fn region(name: &str) -> Region {
    name.parse().expect(name)
}

fn item(region: &str, seq: usize, title_bytes: usize) -> Value {
    let video = json!({"id": "v", "title": "t".repeat(title_bytes)}).to_string();
    let mut item = json!({
        "region": {"S": region}, "seq": {"N": seq.to_string()}, "epoch": {"N": EPOCH.to_string()},
        "id": {"S": uuid::Uuid::nil().to_string()}, "at": {"N": EPOCH.to_string()}, "video": {"S": video},
    });
    if title_bytes == TAKEN_BACK {
        let fields = item.as_object_mut().expect("an object");
        fields.remove("video");
        fields.insert("removed_at".to_owned(), json!({"N": NOW.to_string()}));
    }
    item
}

/// What was read: bytes of the title.
fn title_bytes(logged: &Logged) -> usize {
    logged.alert().map_or(TAKEN_BACK, |alert| alert.video.title().len())
}

/// Bytes of an item as DynamoDB counts them, and attributes that are there beside those.
fn item_bytes(item: &Value) -> usize {
    let others = if item.get("removed_at").is_some() { REMOVED_ITEM_BYTES_MAX } else { 110 };
    others + item["video"]["S"].as_str().map_or(0, str::len)
}

fn shards(logs: &BTreeMap<String, Log>, keys: &[Value]) -> (Value, usize) {
    let with_log = logs.iter().filter(|(_, log)| !log.is_empty());
    let entries: BTreeMap<String, Value> = with_log
        .map(|(name, log)| {
            let largest = log.iter().flatten().max().copied().unwrap_or_default();
            let entry = SnapshotEntry {
                position: Position { epoch: EPOCH, seq: log.len() as u64 },
                committed_at: Timestamp::from_millis(EPOCH),
                largest_bytes: largest + 250,
                audience: Some(7),
            };
            (name.clone(), json!({"S": entry.to_text()}))
        })
        .collect();
    let shard = |key: &Value| {
        let mut item = json!({"region": key["region"], "seq": key["seq"]});
        for (name, entry) in &entries {
            if crate::tables::alerts::snapshot::key_of(&region(name)) == key["region"]["S"] {
                item[name] = entry.clone();
            }
        }
        item
    };
    (json!({"Responses": {"t": keys.iter().map(shard).collect::<Vec<_>>()}}), keys.len())
}

fn query(logs: &BTreeMap<String, Log>, request: &Value) -> (Value, usize) {
    let values = &request["ExpressionAttributeValues"];
    let number = |name: &str| -> usize { values[name]["N"].as_str().expect("a number").parse().expect("a number") };
    let region = values[":region"]["S"].as_str().expect("a region");
    let (first, last) = (number(":first"), number(":last"));
    assert!(first <= last, "DynamoDB refuses an empty range: {request}");
    let log = &logs[region];
    let mut items: Vec<Value> = (first..=last)
        .filter_map(|seq| log.get(seq - 1).copied().flatten().map(|bytes| item(region, seq, bytes)))
        .collect();
    if request["ScanIndexForward"] == false {
        items.reverse();
    }
    items.truncate(request["Limit"].as_u64().expect("a limit") as usize);
    let bytes: usize = items.iter().map(item_bytes).sum();
    (json!({"Items": items, "Count": items.len()}), bytes.div_ceil(READ_UNIT_BYTES).max(1))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

#[test]
fn alerts_that_have_all_expired_take_no_look_at_the_log() {
    run(async {
        let (mut history, units) = history(vec![vec![None; 3]]);
        history.clock = clock(Timestamp::from_millis(EPOCH).after(ALERT_TTL).millis());
        let since = [(region("R-000"), Position { epoch: EPOCH, seq: 1 })].into_iter().collect();
        let audiences = [Audience::Region(region("R-000"))];
        let resumption = resumption::resume(&history, &audiences, Some(&since)).await.expect("read");
        let recovery = resumption.recovery.expect("asked for");
        assert_eq!(recovery.regions, [(region("R-000"), None)].into());
        let batch = paging::read(&history, &audiences, &Begin::After(since), 100).await.expect("read");
        assert_eq!((batch.not_recovered, batch.more), (vec![region("R-000")], false));
        let batch = paging::read(&history, &audiences, &Begin::Newest, 100).await.expect("read");
        assert_eq!((batch.alerts.len(), units.load(Ordering::Relaxed)), (0, 3), "the shard, three times");
    });
}

#[test]
fn where_all_is_too_much_what_is_named_comes_first() {
    run(async {
        let (history, _) = history(vec![vec![Some(1)]; 400]);
        let since = [(region("YY"), Position { epoch: 9, seq: 1 })].into_iter().collect();
        let audiences = [Audience::All, Audience::Region(region("ZZ"))];
        let Standing { regions, covers_all, .. } =
            Standing::of(&history, &audiences, Some(&since)).await.expect("read");
        assert_eq!((regions.len(), covers_all), (REGIONS_OF_ALL_MAX, false));
        assert_eq!(regions[..3], ["ZZ", "YY", "R-000"].map(region));
    });
}

#[test]
fn what_is_behind_is_what_has_more_another_log_or_came_into_being() {
    run(async {
        let (history, units) = history(vec![vec![Some(1); 3]; 4]);
        let at = |name: &str, epoch, seq| (region(name), Position { epoch, seq });
        let since: Positions =
            [at("R-000", EPOCH, 3), at("R-001", EPOCH, 2), at("R-002", 7, 3), at("GONE", 7, 3), at("NEW", 0, 0)]
                .into_iter()
                .collect();
        let behind = resumption::behind(&history, &[Audience::All], Some(&since)).await.expect("read");
        assert_eq!(behind, ["GONE", "R-001", "R-002", "R-003"].map(region));
        assert_eq!(units.swap(0, Ordering::Relaxed), 8);
        let named = ["R-000", "R-003"].map(|name| Audience::Region(region(name)));
        let behind = resumption::behind(&history, &named, Some(&since)).await.expect("read");
        assert_eq!(behind, [], "a region without a position is not compared, and others are no business of it");
        assert!(resumption::behind(&history, &named, None).await.expect("nothing read").is_empty());
        assert!(units.load(Ordering::Relaxed) <= 2);
    });
}

fn logs() -> impl Strategy<Value = Vec<Log>> {
    let title_bytes = prop_oneof![4 => 1..400_usize, 1 => 1..31_000_usize];
    let alert = prop_oneof![17 => title_bytes.prop_map(Some), 2 => Just(Some(TAKEN_BACK)), 1 => Just(None)];
    proptest::collection::vec(proptest::collection::vec(alert, 0..12), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    /// Whatever lies in the logs: the units of a message, a frame, and each region as a whole or not at all. What
    /// surely fits is recovered.
    #[test]
    fn a_message_reads_30_units_and_one_for_each_region_that_its_answer_carries(logs in logs(), known in 0..8_u64) {
        let (history, units) = history(logs.clone());
        let position = |number: usize| (region(&name(number)), Position { epoch: EPOCH, seq: known });
        let since: Positions =
            (0..logs.len()).filter(|number| logs[*number].len() as u64 >= known.max(1)).map(position).collect();
        let resumption = run(resumption::resume(&history, &[Audience::All], Some(&since))).expect("read");
        let recovery = resumption.recovery.as_ref().expect("asked for");
        let carried = recovery.regions.values().flatten().filter(|alerts| !alerts.is_empty()).count();
        let units = units.load(Ordering::Relaxed);
        prop_assert!(units <= MESSAGE_READ_UNITS_MAX + carried, "{units} units for {carried} regions");
        let mut missed = Vec::new();
        for (number, log) in logs.iter().enumerate().filter(|(_, log)| !log.is_empty()) {
            let from = since.get(&region(&name(number))).map_or(0, |position| position.seq as usize);
            let expected = &log[from..];
            missed.push(expected);
            if let Some(alerts) = &recovery.regions[&region(&name(number))] {
                let titles: Vec<_> = alerts.iter().map(|logged| Some(title_bytes(logged))).collect();
                prop_assert_eq!(&titles, expected);
            }
        }
        let small = missed.iter().all(|missed| missed.iter().all(|bytes| bytes.is_some_and(|bytes| bytes < 400)));
        let few = missed.iter().filter(|missed| !missed.is_empty()).count() <= 25;
        if small && few && missed.iter().map(|missed| missed.len()).sum::<usize>() <= 35 {
            prop_assert!(recovery.regions.values().all(Option::is_some), "{:?}", recovery.regions.keys());
        }
        let (audiences, leg) = (Audiences::One(Audience::All), leg::tests::longest());
        for format in [Format::ViralAlert, Format::NewTrending] {
            let subscribed = Subscribed::new(&audiences, &resumption, format).with_events(Some(&leg));
            let frame = Reply::Subscribed(subscribed).frame();
            prop_assert!(frame.len() <= FRAME_BYTES_MAX, "{} bytes", frame.len());
        }
    }

    /// Page by page: the units of a page, and every alert once, except those of regions that are named as not
    /// recovered.
    #[test]
    fn a_page_reads_55_units_and_pages_hold_every_alert_once(logs in logs(), limit in 5..=100_usize) {
        let (history, units) = history(logs.clone());
        let mut begin = Begin::After(Positions::default());
        let mut read: BTreeMap<Region, Vec<usize>> = BTreeMap::new();
        let mut lost = Vec::new();
        for turn in 0.. {
            prop_assert!(turn < 500, "pages come to an end");
            let batch = run(paging::read(&history, &[Audience::All], &begin, limit)).expect("read");
            let units = units.swap(0, Ordering::Relaxed);
            prop_assert!(units <= PAGE_READ_UNITS_MAX, "{units} units");
            prop_assert!(batch.alerts.len() <= limit);
            for logged in &batch.alerts {
                read.entry(logged.region().clone()).or_default().push(title_bytes(logged));
            }
            lost.extend(batch.not_recovered);
            begin = Begin::After(batch.positions);
            if !batch.more {
                break;
            }
        }
        for (number, log) in logs.iter().enumerate().filter(|(_, log)| !log.is_empty()) {
            let titles = read.remove(&region(&name(number))).unwrap_or_default();
            let all: Option<Vec<usize>> = log.iter().copied().collect();
            match all {
                Some(all) => prop_assert_eq!(titles, all),
                None => prop_assert!(lost.contains(&region(&name(number))), "{number} is not named"),
            }
        }
        let newest = run(paging::read(&history, &[Audience::All], &Begin::Newest, limit)).expect("read");
        let units = units.load(Ordering::Relaxed);
        prop_assert!(units <= PAGE_READ_UNITS_MAX && newest.alerts.len() <= limit, "{units} units");
    }
}
