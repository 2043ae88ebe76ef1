//! What the code writes and sends.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use aws_sdk_dynamodb::Client;
use clock::{Clock, Timestamp};
use dynoxide::{Database, errors::DynoxideError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    fake_aws::{FakeResponse, Requests, sdk_for_operations},
    fanout::{Content, FanoutPart, FanoutTask},
    forms::{Form, Place, named},
    limits::QUEUE_END_BEFORE,
    model::{
        alert::{Alert, Format, Position},
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
        alerts::Alerts,
        subscriptions::{
            Subscriptions,
            connection_state::{Charged, MembershipChange, MessageRate},
        },
    },
};

/// When everything is written.
pub(super) const NOW: i64 = 1_795_000_000_000;

/// Samples of each form: items by their keys, everything else by a name.
pub(super) type Samples = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// The real clients on the real engine, with a clock that stands.
pub(super) struct World {
    pub(super) alerts: Alerts,
    pub(super) subscriptions: Subscriptions,
    pub(super) publisher: Publisher,
    pub(super) clock: Arc<AtomicI64>,
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
pub(super) fn world(samples: &Samples) -> World {
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
    pub(super) fn items(&self) -> Samples {
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

pub(super) fn region(name: &str) -> Region {
    name.parse().expect(name)
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

pub(super) fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(super) fn publication(region: &str, title: &str, key: Option<&str>) -> Publication {
    let body = json!({
        "region": region,
        "video": {"id": "v-1", "title": title, "thumbnail": "https://t.test/1.jpg", "score": 97.5, "z": [1], "a": {}},
    });
    let mut publication = Publication::from_bytes(body.to_string().as_bytes()).expect("valid");
    publication.idempotency_key = key.map(|key| IdempotencyKey::parse(key, "id").expect("a key"));
    publication
}

/// One that is not to become an alert within an hour of another one of its video.
pub(super) fn within_an_hour(publication: Publication) -> Publication {
    Publication { repeat_window: Some(Duration::from_secs(3_600)), ..publication }
}

pub(super) fn publisher() -> PublisherId {
    PublisherId::new("iam", "AROA1")
}

pub(super) fn connection(id: &str) -> Connection {
    Connection { id: id.parse().expect(id), since: Timestamp::from_millis(NOW - 1_000) }
}

pub(super) const OPEN: &str = "eHrdFcnvvHcCE-w=";
pub(super) const CLOSED: &str = "eHrdGcnvvHcCFAA=";

pub(super) fn connects(id: &str) -> ConnectRequest {
    let one = ConnectionLimit { source: ConnectionQuotaKey::of_user("ola"), max: 1, of: "user" };
    ConnectRequest {
        connection: connection(id),
        address: Some("203.0.113.7".parse().expect("an address")),
        audience: Some(Audience::Region(region("PL"))),
        format: Format::NewTrending,
        bounds: vec![one],
    }
}

pub(super) fn general() -> Audience {
    Audience::Room("general".parse().expect("a room"))
}

pub(super) fn ten_a_second() -> Charged {
    Charged::Message(MessageRate::per_second(10).expect("a rate"))
}

pub(super) fn part() -> FanoutPart {
    let ranges = vec![SlotRange { first: 3, last: 9 }, SlotRange { first: 0, last: 1 }];
    FanoutPart { ranges, rate: 4750.0, everyone: false, events: false }
}

pub(super) fn room_message() -> RoomMessage {
    RoomMessage {
        id: "m-1".to_owned(),
        room: "general".parse().expect("a room"),
        frame: r#"{"type":"chat","message":"Cześć"}"#.to_owned(),
        until: now().after(Duration::from_secs(30)),
    }
}

pub(super) fn positions() -> Positions {
    [("PL", 43), ("DE", 7)].map(|(name, seq)| (region(name), Position { epoch: NOW, seq })).into_iter().collect()
}

/// Events as they are sent, by what they are about.
fn sent(world: &World) -> BTreeMap<String, Value> {
    let name = |task: &Value| {
        let of = |field: &str| match field {
            "events" => task["part"][field] == true,
            _ => task.get(field).is_some_and(|value| !value.is_null()),
        };
        let name =
            ["events", "redriven_at", "part", "alert", "removal", "room_message"].into_iter().find(|field| of(field));
        (name.expect("a task").to_owned(), task.clone())
    };
    // Of two alerts the last.
    world.sent(r#""dispatched_at":"#).iter().map(name).collect()
}

/// What the code writes and sends.
pub(super) async fn written() -> Samples {
    let world = world(&Samples::new());
    let World { alerts, subscriptions, publisher: publishes, .. } = &world;
    let mut outcomes = BTreeMap::new();
    alerts.note_audience(&region("PL"), 12_400).await.expect("noted");
    let committed = alerts.commit(&region("PL"), &[publication("PL", "Ż", Some("k-1"))], in_a_minute()).await;
    assert!(matches!(committed[..], [Ok(Ok(_))]), "{committed:?}");
    publishes
        .publish(within_an_hour(publication("PL", "two", None)), &publisher(), in_a_minute())
        .await
        .expect("made")
        .expect("made");
    let three = publication("PL", "three", Some("k-3"));
    outcomes.insert("published", publishes.publish(three.clone(), &publisher(), in_a_minute()).await);
    let publishes = Publisher { rate_limit: None, ..publishes.clone() };
    let third = RemovalRequest { region: region("PL"), seq: 3, epoch: None };
    publishes.take_back(&third, &publisher(), "test").await.expect("removed").expect("removed");
    outcomes.insert("removed", publishes.publish(three, &publisher(), in_a_minute()).await);
    let low = Publication { score: Some(1.0), ..publication("PL", "low", None) };
    outcomes.insert("withheld", publishes.publish(low, &publisher(), in_a_minute()).await);
    let again = within_an_hour(publication("PL", "again", None));
    outcomes.insert("recently_alerted", publishes.publish(again, &publisher(), in_a_minute()).await);
    // Where another one leads, a publication waits. This one is withdrawn when its time is up.
    assert!(alerts.lease(&region("DE"), "holder").await.expect("asked"));
    let soon = Instant::now() + QUEUE_END_BEFORE + Duration::from_millis(100);
    let waited = alerts.commit(&region("DE"), &[within_an_hour(publication("DE", "waits", Some("k-4")))], soon).await;
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
    let for_events = FanoutTask { part: None, ..task.clone() }.for_events_alone();
    for task in [task, redriven, for_events] {
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

pub(super) fn id(place: usize) -> String {
    format!("id-{place}")
}

pub(super) fn alert(region_name: &str, title: &str, seq: u64, place: usize) -> Alert {
    let publication = publication(region_name, title, None);
    let position = Position { epoch: NOW, seq };
    Alert { id: id(place), region: region(region_name), position, video: publication.video, at: now() }
}

pub(super) fn first_alert() -> Alert {
    alert("PL", "Ż", 1, 1)
}
