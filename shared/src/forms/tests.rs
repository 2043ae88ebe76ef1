use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use aws_sdk_dynamodb::Client;
use clock::{Clock, Timestamp};
use dynoxide::{Database, errors::DynoxideError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    auth::access::{Authorization, NAME_FIELD, Regions, USER_FIELD, authorizer_field},
    error::Code,
    fake_aws::{FakeResponse, Requests, sdk_for_operations},
    fanout::{Content, FanoutPart, FanoutTask},
    limits::{LEASE, QUEUE_END_BEFORE},
    model::{
        alert::{Alert, Format, Logged, Position, Removal},
        audience::{Audience, ConnectionQuotaKey, Region},
        connect_request::{ConnectRequest, ConnectionLimit},
        connection::{Connection, SlotRange},
        position::Positions,
        publication::{IdempotencyKey, Publication, PublisherId},
        room::RoomMessage,
    },
    publish::{
        publisher::{Dispatcher, Publisher, alerts_per_minute},
        removal::RemovalRequest,
    },
    tables::{
        alerts::{AlertKey, Alerts, LogFront, LogHead, logged, snapshot::SnapshotEntry},
        subscriptions::{
            Subscriptions,
            connection_state::{Charged, MembershipChange, MessageRate, RecordedState},
        },
    },
};

/// When everything is written.
const NOW: i64 = 1_795_000_000_000;

/// What a made-up form 2 adds everywhere.
const ADDITION: &str = "from_form_2";

/// Samples of each form: items by their keys, everything else by a name.
type Samples = BTreeMap<&'static str, BTreeMap<String, Value>>;

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

// --- The world --------------------------------------------------------------------------------------------------------

/// The real clients on the real engine, with a clock that stands.
struct World {
    alerts: Alerts,
    subscriptions: Subscriptions,
    publisher: Publisher,
    clock: Arc<AtomicI64>,
    database: Database,
    requests: Requests,
}

fn run<Q: DeserializeOwned, R: Serialize>(body: &str, action: impl Fn(Q) -> Result<R, DynoxideError>) -> FakeResponse {
    match action(serde_json::from_str(body).expect("a request")) {
        Ok(response) => FakeResponse(200, "", serde_json::to_string(&response).expect("serialisable")),
        Err(error) => FakeResponse(error.status_code(), "", error.to_json()),
    }
}

fn create(database: &Database, name: &str, keys: [(&str, &str); 2], index: [(&str, &str); 2]) {
    let schema = |keys: [(&str, &str); 2]| {
        let of = |(name, _), kind| json!({"AttributeName": name, "KeyType": kind});
        json!([of(keys[0], "HASH"), of(keys[1], "RANGE")])
    };
    let attributes: BTreeMap<_, _> = keys.into_iter().chain(index).collect();
    let attributes: Vec<_> =
        attributes.into_iter().map(|(name, kind)| json!({"AttributeName": name, "AttributeType": kind})).collect();
    let table = json!({
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": attributes,
        "KeySchema": schema(keys),
        "GlobalSecondaryIndexes": [{
            "IndexName": if name == "alerts" { "undispatched" } else { "by_connection" },
            "KeySchema": schema(index),
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        }],
    });
    database.create_table(serde_json::from_value(table).expect("a table")).expect("created");
}

/// A world with these items.
fn world(samples: &Samples) -> World {
    let database = Database::memory().expect("a database");
    create(&database, "alerts", [("region", "S"), ("seq", "N")], [("undispatched", "S"), ("committed_at", "N")]);
    create(&database, "subscriptions", [("audience", "S"), ("slot", "S")], [("connection_id", "S"), ("slot", "S")]);
    for (name, samples) in samples {
        for item in samples.values() {
            let table = match named(name).expect(name).place {
                Place::AlertsTable => "alerts",
                Place::SubscriptionsTable => "subscriptions",
                _ => continue,
            };
            let put = serde_json::from_value(json!({"TableName": table, "Item": item})).expect("an item");
            database.put_item(put).expect("put");
        }
    }
    let engine = database.clone();
    let (sdk, requests) = sdk_for_operations(move |operation, body| match operation {
        "GetItem" => run(body, |request| engine.get_item(request)),
        "PutItem" => run(body, |request| engine.put_item(request)),
        "UpdateItem" => run(body, |request| engine.update_item(request)),
        "DeleteItem" => run(body, |request| engine.delete_item(request)),
        "Query" => run(body, |request| engine.query(request)),
        "BatchGetItem" => run(body, |request| engine.batch_get_item(request)),
        "BatchWriteItem" => run(body, |request| engine.batch_write_item(request)),
        "TransactWriteItems" => run(body, |request| engine.transact_write_items(request)),
        // An invocation.
        _ => FakeResponse(202, "", String::new()),
    });
    let now = Arc::new(AtomicI64::new(NOW));
    let clock = Clock::Manual(Arc::clone(&now));
    let alerts = Alerts::new(Client::new(&sdk), "alerts".to_owned(), clock.clone());
    World {
        subscriptions: Subscriptions::new(Client::new(&sdk), "subscriptions".to_owned(), clock.clone()),
        publisher: Publisher {
            alerts: alerts.clone(),
            dispatcher: Dispatcher::new(aws_sdk_lambda::Client::new(&sdk), "deliver".to_owned(), clock),
            score_threshold: 85.0,
            push_rate: 10_000.0,
            rate_limit: alerts_per_minute(2),
        },
        alerts,
        clock: now,
        database,
        requests,
    }
}

impl World {
    /// All items of both tables.
    fn items(&self) -> Samples {
        let mut samples = Samples::new();
        for (table, place) in [("alerts", Place::AlertsTable), ("subscriptions", Place::SubscriptionsTable)] {
            let scan = serde_json::from_value(json!({"TableName": table})).expect("a request");
            let found = serde_json::to_value(self.database.scan(scan).expect("scanned")).expect("serialisable");
            for item in found["Items"].as_array().expect("items") {
                add_item(&mut samples, place, item);
            }
        }
        samples
    }

    /// Bodies of requests that have this text, without their white space.
    fn sent(&self, with: &str) -> Vec<Value> {
        let requests = self.requests.lock().expect("unpoisoned");
        let matching = requests.iter().filter(|body| body.contains(with));
        matching.map(|body| serde_json::from_str(body).expect("JSON")).collect()
    }
}

fn add_item(samples: &mut Samples, place: Place, item: &Value) {
    let (partition, sort) = match place {
        Place::AlertsTable => (&item["region"]["S"], &item["seq"]["N"]),
        _ => (&item["audience"]["S"], &item["slot"]["S"]),
    };
    let (partition, sort) = (partition.as_str().expect("a text"), sort.as_str().expect("a text"));
    let form = Form::of_item(place, partition, sort).expect(partition);
    samples.entry(form.name).or_default().insert(format!("{partition}/{sort}"), in_order(item));
}

/// The same item: neither the attributes of an item nor the members of a set have an order.
fn in_order(item: &Value) -> Value {
    let item: BTreeMap<_, _> = item.as_object().expect("an item").clone().into_iter().collect();
    let in_order = |(name, mut value): (String, Value)| {
        if let Some(Value::Array(members)) = value.get_mut("SS") {
            members.sort_by_key(Value::to_string);
        }
        (name, value)
    };
    Value::Object(item.into_iter().map(in_order).collect())
}

/// Gives random ids, which have hyphens, the same names each time, in their order.
fn named_anew(value: &mut Value, names: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains('-') && uuid::Uuid::try_parse(text).is_ok() => {
            let place = names.iter().position(|name| name == text).unwrap_or(names.len());
            if place == names.len() {
                names.push(text.clone());
            }
            *text = id(place + 1);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| named_anew(value, names)),
        Value::Object(fields) => fields.values_mut().for_each(|value| named_anew(value, names)),
        _ => {}
    }
}

// --- What is written --------------------------------------------------------------------------------------------------

fn region(name: &str) -> Region {
    name.parse().expect(name)
}

fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn publication(region: &str, title: &str, key: Option<&str>) -> Publication {
    let body = json!({
        "region": region,
        "video": {"id": "v-1", "title": title, "thumbnail": "https://t.test/1.jpg", "score": 97.5, "z": [1], "a": {}},
    });
    let mut publication = Publication::from_bytes(body.to_string().as_bytes()).expect("valid");
    publication.idempotency_key = key.map(|key| IdempotencyKey::parse(key, "id").expect("a key"));
    publication
}

fn publisher() -> PublisherId {
    PublisherId::new("iam", "AROA1")
}

fn connection(id: &str) -> Connection {
    Connection { id: id.parse().expect(id), since: Timestamp::from_millis(NOW - 1_000) }
}

const OPEN: &str = "eHrdFcnvvHcCE-w=";
const CLOSED: &str = "eHrdGcnvvHcCFAA=";

fn connects(id: &str) -> ConnectRequest {
    let one = ConnectionLimit { source: ConnectionQuotaKey::of_user("ola"), max: 1, of: "user" };
    ConnectRequest {
        connection: connection(id),
        address: Some("203.0.113.7".parse().expect("an address")),
        audience: Some(Audience::Region(region("PL"))),
        format: Format::NewTrending,
        bounds: vec![one],
    }
}

fn general() -> Audience {
    Audience::Room("general".parse().expect("a room"))
}

fn ten_a_second() -> Charged {
    Charged::Message(MessageRate::per_second(10).expect("a rate"))
}

fn part() -> FanoutPart {
    let ranges = vec![SlotRange { first: 3, last: 9 }, SlotRange { first: 0, last: 1 }];
    FanoutPart { ranges, rate: 4750.0, everyone: false }
}

fn room_message() -> RoomMessage {
    RoomMessage {
        id: "m-1".to_owned(),
        room: "general".parse().expect("a room"),
        frame: r#"{"type":"chat","message":"Cześć"}"#.to_owned(),
        until: now().after(Duration::from_secs(30)),
    }
}

fn positions() -> Positions {
    [("PL", 43), ("DE", 7)].map(|(name, seq)| (region(name), Position { epoch: NOW, seq })).into_iter().collect()
}

/// Events as they are sent, by what they are about.
fn sent(world: &World) -> BTreeMap<String, Value> {
    let name = |task: &Value| {
        let of = |field: &str| task.get(field).is_some_and(|value| !value.is_null());
        let name = ["redriven_at", "part", "alert", "removal", "room_message"].into_iter().find(|field| of(field));
        (name.expect("a task").to_owned(), task.clone())
    };
    // Of two alerts the last.
    world.sent(r#""dispatched_at":"#).iter().map(name).collect()
}

/// What the code writes and sends.
async fn written() -> Samples {
    let world = world(&Samples::new());
    let World { alerts, subscriptions, publisher: publishes, .. } = &world;
    let mut outcomes = BTreeMap::new();
    alerts.note_audience(&region("PL"), 12_400).await.expect("noted");
    let committed = alerts.commit(&region("PL"), &[publication("PL", "Ż", Some("k-1"))], in_a_minute()).await;
    assert!(matches!(committed[..], [Ok(Ok(_))]), "{committed:?}");
    publishes.publish(publication("PL", "two", None), &publisher(), in_a_minute()).await.expect("made").expect("made");
    let three = publication("PL", "three", Some("k-3"));
    outcomes.insert("published", publishes.publish(three.clone(), &publisher(), in_a_minute()).await);
    let publishes = Publisher { rate_limit: None, ..publishes.clone() };
    let third = RemovalRequest { region: region("PL"), seq: 3, epoch: None };
    publishes.take_back(&third, &publisher(), "test").await.expect("removed").expect("removed");
    outcomes.insert("removed", publishes.publish(three, &publisher(), in_a_minute()).await);
    let low = Publication { score: Some(1.0), ..publication("PL", "low", None) };
    outcomes.insert("withheld", publishes.publish(low, &publisher(), in_a_minute()).await);
    // Where another one leads, a publication waits. This one is withdrawn when its time is up.
    assert!(alerts.lease(&region("DE"), "holder").await.expect("asked"));
    let soon = Instant::now() + QUEUE_END_BEFORE + Duration::from_millis(100);
    let waited = alerts.commit(&region("DE"), &[publication("DE", "waits", Some("k-4"))], soon).await;
    assert!(matches!(waited[..], [Err(_)]), "{waited:?}");

    subscriptions.open(&connects(OPEN)).await.expect("asked").expect("opened");
    let joined = [Audience::Region(region("DE")), general()];
    let change = MembershipChange::Join(&joined, Format::ViralAlert);
    subscriptions.admit(&connection(OPEN), change, ten_a_second()).await.expect("asked").expect("admitted");
    subscriptions.subscribe(&connection(OPEN), &joined, Format::ViralAlert).await.expect("asked").expect("written");
    let unbounded = ConnectRequest { bounds: Vec::new(), ..connects(CLOSED) };
    subscriptions.open(&unbounded).await.expect("asked").expect("opened");
    subscriptions.close(&connection(CLOSED).id).await.expect("closed");

    let alert = Content::Alert(first_alert());
    let task = FanoutTask { content: alert, dispatched_at: now(), part: Some(part()), depth: 2, redriven_at: None };
    let redriven = FanoutTask { redriven_at: Some(now()), depth: 0, ..task.clone() };
    for task in [task, redriven] {
        publishes.dispatcher.start(&task).await.expect("sent");
    }
    publishes.dispatcher.deliver(Content::RoomMessage(room_message())).await.expect("sent");

    let mut samples = world.items();
    let waiting = world.sent(r#""attribute_not_exists(id)""#);
    let mut waiting = waiting.into_iter().map(|put| put["Item"].clone());
    let mut waiting = waiting.next().expect("one waited");
    let ticket = waiting["seq"]["N"].as_str().and_then(|ticket| ticket.strip_prefix(&NOW.to_string()));
    assert_eq!(ticket.map(str::len), Some(15), "milliseconds and a random part: {waiting}");
    waiting["seq"] = json!({"N": format!("{NOW}000000000000007")});
    add_item(&mut samples, Place::AlertsTable, &waiting);
    samples.insert("fanout_task", sent(&world));
    let outcomes = outcomes.into_iter().map(|(name, outcome)| {
        (name.to_owned(), serde_json::to_value(outcome.expect("published").expect("published")).expect("JSON"))
    });
    samples.insert("publish_outcome", outcomes.collect());
    let cursors = [("none", Positions::default()), ("several", positions())];
    let cursors = cursors.map(|(name, positions)| (name.to_owned(), json!(positions.to_string())));
    samples.insert("cursor", cursors.into());
    samples.insert("positions", [("several".to_owned(), json!(positions()))].into());
    let mut names = Vec::new();
    samples.values_mut().flat_map(BTreeMap::values_mut).for_each(|value| named_anew(value, &mut names));
    samples
}

fn id(place: usize) -> String {
    format!("id-{place}")
}

fn alert(region_name: &str, title: &str, seq: u64, place: usize) -> Alert {
    let publication = publication(region_name, title, None);
    let position = Position { epoch: NOW, seq };
    Alert { id: id(place), region: region(region_name), position, video: publication.video, at: now() }
}

fn first_alert() -> Alert {
    alert("PL", "Ż", 1, 1)
}

// --- What is read -----------------------------------------------------------------------------------------------------

/// Reads each sample as functions do, and compares it with what was written.
async fn are_read_as_they_were_written(samples: &Samples) {
    of_the_alerts_table(&world(samples)).await;
    of_the_subscriptions_table(&world(samples)).await;

    let task =
        |content, part, depth, redriven_at| FanoutTask { content, dispatched_at: now(), part, depth, redriven_at };
    let removal = Removal { id: id(3), region: region("PL"), position: Position { epoch: NOW, seq: 3 }, at: now() };
    let tasks = [
        ("alert", task(Content::Alert(alert("PL", "three", 3, 3)), None, 0, None)),
        ("removal", task(Content::Removal(removal), None, 0, None)),
        ("room_message", task(Content::RoomMessage(room_message()), None, 0, None)),
        ("part", task(Content::Alert(first_alert()), Some(part()), 2, None)),
        ("redriven_at", task(Content::Alert(first_alert()), Some(part()), 0, Some(now()))),
    ];
    for (name, task) in tasks {
        let text = samples["fanout_task"][name].to_string();
        assert_eq!(serde_json::from_str::<FanoutTask>(&text).expect(name), task);
    }
    let outcomes = &samples["publish_outcome"];
    // As the canary reads it.
    let published = ["published", "removed", "withheld"].map(|name| outcomes[name]["published"] == true);
    assert_eq!(published, [true, true, false]);

    let cursor = |name: &str| samples["cursor"][name].as_str().expect("a text").parse::<Positions>();
    assert_eq!((cursor("none"), cursor("several")), (Ok(Positions::default()), Ok(positions())));
    assert_eq!(Positions::of_message(&samples["positions"]["several"], &[Audience::All]).expect("valid"), positions());
}

async fn of_the_alerts_table(world: &World) {
    let World { alerts, clock, .. } = world;
    let position = Position { epoch: NOW, seq: 3 };
    let head = LogHead { position, committed_at: now(), largest_bytes: 261 };
    let front = alerts.front(&region("PL")).await.expect("read");
    assert_eq!(front, LogFront { head: Some(head), audience: Some(12_400), is_led: false });
    assert!(alerts.front(&region("DE")).await.expect("read").is_led);
    assert_eq!(alerts.registered().await.expect("read"), ["PL"]);
    let entry = SnapshotEntry { position, committed_at: now(), largest_bytes: 1024, audience: Some(12_400) };
    assert_eq!(alerts.snapshot.read_all().await.expect("read"), [(region("PL"), entry)].into());

    let key = AlertKey { region: "PL".to_owned(), seq: 1 };
    assert_eq!(alerts.if_undispatched(&key).await.expect("read"), Some(Logged::Alert(first_alert())));
    let read =
        async |seq| logged(&alerts.get("PL", seq, "reading").await.expect("read").expect("there")).expect("read");
    assert_eq!(read(2).await, Logged::Alert(alert("PL", "two", 2, 2)));
    let removal = Removal { id: id(3), region: region("PL"), position, at: now() };
    assert_eq!(read(3).await, Logged::Removed(removal));

    let limit = alerts_per_minute(2).expect("a limit");
    let refused = alerts.allow(&publisher(), limit, 1).await.expect("asked").expect_err("two were published");
    assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(Duration::from_secs(30))));

    let again = alerts.commit(&region("PL"), &[publication("PL", "Ż", Some("k-1"))], in_a_minute()).await;
    let [Ok(Ok(again))] = &again[..] else { panic!("{again:?}") };
    assert_eq!((&again.logged, again.duplicate), (&Logged::Alert(first_alert()), true), "as its receipt says");

    // Another one has to wait, and leads when the lease ends: it commits for both.
    let lease_ends = async {
        sleep(Duration::from_millis(100)).await;
        clock.store(now().after(LEASE).millis() + 1, Ordering::Relaxed);
    };
    let (de, other) = (region("DE"), publication("DE", "other", None));
    let (committed, ()) = tokio::join!(alerts.commit(&de, std::slice::from_ref(&other), in_a_minute()), lease_ends);
    assert!(matches!(committed[..], [Ok(Ok(_))]), "{committed:?}");
    let log = [alerts.get("DE", 1, "reading").await, alerts.get("DE", 2, "reading").await];
    let log = log.map(|item| logged(&item.expect("read").expect("there")).expect("readable"));
    let waited = log.iter().find(|logged| logged.id() == id(4)).and_then(Logged::alert).expect("the one that waited");
    assert_eq!((waited.video.title(), waited.at), ("waits", now()));
}

async fn of_the_subscriptions_table(World { subscriptions, .. }: &World) {
    let Connection { id, since } = connection(OPEN);
    let (pl, de) = (Audience::Region(region("PL")), Audience::Region(region("DE")));
    for (audience, format) in [
        (&Audience::Everyone, Format::NewTrending),
        (&pl, Format::NewTrending),
        (&de, Format::ViralAlert),
        (&general(), Format::ViralAlert),
    ] {
        let page = subscriptions.page(audience, SlotRange::WHOLE, None).await.expect("read");
        let members: Vec<_> =
            page.members.iter().map(|member| (&member.connection, member.format, member.since)).collect();
        assert_eq!(members, [(&id, format, since)], "{audience}");
    }
    let state = subscriptions.state(&id).await.expect("read");
    let RecordedState::Open(memberships) = state else { panic!("{state:?}") };
    let formats = [&pl, &de, &general(), &Audience::All].map(|audience| memberships.format_in(audience));
    assert_eq!(formats, [Some(Format::NewTrending), Some(Format::ViralAlert), Some(Format::ViralAlert), None]);
    assert_eq!(memberships.first_room.map(Audience::Room), Some(general()));
    let closed = subscriptions.state(&connection(CLOSED).id).await.expect("read");
    assert_eq!(closed, RecordedState::Closed);

    let one = Charged::Message(MessageRate::per_second(1).expect("a rate"));
    let waits = subscriptions.admit(&connection(OPEN), MembershipChange::None, one).await.expect("asked");
    let waits = waits.expect_err("a message came at this moment");
    assert_eq!((waits.code, waits.retry_after), (Code::RateLimited, Some(Duration::from_millis(100))));
    let full = subscriptions.open(&connects("eHrdHcnvvHcCGBB=")).await.expect("asked").expect_err("the seat is taken");
    assert_eq!(full.code, Code::LimitReached);
    let noted = subscriptions.mark_closed(&id).await.expect("closed");
    let audiences: BTreeSet<String> = noted.audiences.into_iter().collect();
    assert_eq!(audiences, ["DE", "PL", "room#general"].map(str::to_owned).into());
    assert_eq!(noted.seats.len(), 1);
    let again = subscriptions.mark_closed(&id).await.expect("closed");
    assert_eq!(again.audiences.into_iter().collect::<BTreeSet<_>>(), audiences, "the first answer may be lost");
    assert_eq!(again.seats, noted.seats);
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
        let published = publishes.publish(publication(name, "again", None), &publisher(), in_a_minute()).await;
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
