//! DynamoDB units of each operation, as `docs/cost.md` lists them.
//!
//! A proxy between functions and engine adds a request for the consumed capacity to each call. The engine counts as
//! DynamoDB does: writes in units of 1 KB and reads in units of 4 KB, half of it for eventually consistent reads, twice
//! in a transaction, and once more for each index of an item.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use clock::Timestamp;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use shared::{
    limits::{FRAME_BYTES_MAX, MESSAGE_READ_UNITS_MAX, PAGE_READ_UNITS_MAX, REGION_BYTES_MAX, REGIONS_OF_ALL_MAX},
    model::alert::Position,
    tables::alerts::snapshot::{Snapshot, SnapshotEntry},
};
use tokio::net::TcpListener;

use crate::site::{Client, Site, root, run};

/// The index that only recover reads.
const UNDISPATCHED_INDEX: &str = "undispatched";

/// Consumed units.
#[derive(Clone, Debug, Default, PartialEq)]
struct Consumed {
    requests: BTreeMap<String, u32>,
    read_units: f64,
    write_units: f64,
}

impl fmt::Display for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.requests.iter().map(|(operation, times)| match times {
            1 => operation.clone(),
            times => format!("{operation} × {times}"),
        });
        let requests: Vec<_> = requests.collect();
        let requests = if requests.is_empty() { "none".to_owned() } else { requests.join(", ") };
        write!(f, "{requests} | {} | {} |", self.read_units, self.write_units)
    }
}

/// Operations that write. The others read.
const WRITES: [&str; 6] =
    ["BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem", "ExecuteTransaction"];

/// Units of an item of at most 1 KB in a transaction, even a cancelled one.
const TRANSACTED_ITEM_UNITS: f64 = 2.0;

/// Units of an item of at most 1 KB, even if the condition of the write fails.
const WRITTEN_ITEM_UNITS: f64 = 1.0;

impl Consumed {
    fn add(&mut self, operation: &str, request: &Value, response: &Value) {
        *self.requests.entry(operation.to_owned()).or_default() += 1;
        let capacity = &response["ConsumedCapacity"];
        let of_tables = capacity.as_array().cloned().unwrap_or_else(|| vec![capacity.clone()]);
        let told: f64 = of_tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum();
        let kind = response["__type"].as_str().unwrap_or_default();
        let units = if kind.ends_with("TransactionCanceledException") {
            let items = request["TransactItems"].as_array().expect("items of a transaction");
            assert!(items.iter().all(|item| item.to_string().len() < 1_024), "too large for one unit: {request}");
            items.len() as f64 * TRANSACTED_ITEM_UNITS
        } else if kind.ends_with("ConditionalCheckFailedException") {
            assert!(response.to_string().len() < 1_024, "too large for one unit: {response}");
            WRITTEN_ITEM_UNITS
        } else {
            assert!(told > 0.0, "{operation} says nothing of what it consumed: {response}");
            told
        };
        if WRITES.contains(&operation) {
            self.write_units += units;
        } else {
            self.read_units += units;
        }
    }
}

/// A proxy before a database that sums the consumed units.
struct Meter {
    address: Uri,
    consumed: Arc<Mutex<Consumed>>,
}

impl Meter {
    async fn before(database: Uri) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("an address");
        let consumed = Arc::new(Mutex::new(Consumed::default()));
        let counted = Arc::clone(&consumed);
        let client = HttpClient::builder(TokioExecutor::new()).build_http();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (client, database, consumed) = (client.clone(), database.clone(), Arc::clone(&counted));
                let service = service_fn(move |request| {
                    let (client, database, consumed) = (client.clone(), database.clone(), Arc::clone(&consumed));
                    async move { Ok::<_, Infallible>(forward(request, client, database, &consumed).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, consumed }
    }

    /// Returns the units consumed since the last call.
    fn take(&self) -> Consumed {
        std::mem::take(&mut *self.consumed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn forward(
    request: Request<Incoming>,
    client: HttpClient<HttpConnector, Full<Bytes>>,
    database: Uri,
    consumed: &Mutex<Consumed>,
) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let mut asked: Value = serde_json::from_slice(&body.collect().await.expect("a body").to_bytes()).expect("JSON");
    asked["ReturnConsumedCapacity"] = json!("TOTAL");
    let target = head.headers["x-amz-target"].to_str().expect("text").to_owned();
    head.uri = database;
    // Both describe the body that the proxy received.
    head.headers.remove("content-length");
    head.headers.remove("x-amz-content-sha256");
    let answer = client.request(Request::from_parts(head, asked.to_string().into())).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let operation = target.rsplit('.').next().expect("an operation");
    let told = serde_json::from_slice(&body).expect("JSON");
    // recover runs each minute, also during a measurement.
    let is_of_snapshot = |key: &Value| key["region"]["S"].as_str().is_some_and(|region| region.starts_with("@heads#"));
    if asked["IndexName"] == UNDISPATCHED_INDEX || is_of_snapshot(&asked["Key"]) && operation == "GetItem" {
        return Response::from_parts(head, body.into());
    }
    consumed.lock().unwrap_or_else(PoisonError::into_inner).add(operation, &asked, &told);
    Response::from_parts(head, body.into())
}

/// The measured rows of the table.
struct Rows {
    site: Site,
    /// The database behind the meter.
    tables: Site,
    meter: Meter,
    rows: Vec<(String, Consumed)>,
    watchers: Vec<Client>,
}

impl Rows {
    /// Records the units since the last row.
    async fn note(&mut self, what: &str) {
        self.site.settled().await;
        self.rows.push((what.to_owned(), self.meter.take()));
    }

    async fn publish(&self, region: &str, key: Option<&str>) {
        self.publish_within(0, region, key).await;
    }

    async fn publish_within(&self, repeat_window: u64, region: &str, key: Option<&str>) {
        let alert = json!({
            "region": region,
            "repeat_window": repeat_window,
            "video": {"id": "v1", "title": "Zażółć gęślą jaźń", "thumbnail": "https://t.example/1.jpg", "score": 97},
        });
        let key = key.map(|key| ("idempotency-key", key));
        let headers: Vec<_> = std::iter::once(("content-type", "application/json")).chain(key).collect();
        let (status, answer) = self.site.post("/publish", &headers, alert.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn watch(&mut self, region: &str, count: usize) {
        while self.watchers.len() < count {
            let watcher = self.site.connect(&format!("/prod?region={region}")).await;
            self.watchers.push(watcher);
        }
    }

    async fn of_connections(&mut self) {
        let mut client = self.site.connect("/prod").await;
        self.note("connect").await;
        client.subscribe("DE").await;
        self.note("subscribe to a region").await;
        let start = json!({"epoch": 0, "seq": 0});
        let kept = json!({"type": "kept"});
        assert_eq!(client.ask(&json!({"type": "keepalive", "regions": ["DE"], "since": {"DE": start}})).await, kept);
        self.note("keepalive, one region").await;
        client.ask(&json!({"type": "ping"})).await;
        self.note("ping").await;
        client.ask(&json!({"type": "echo"})).await;
        self.note("echo, and anything that is refused").await;

        let mut many = self.newcomer().await;
        let regions: Vec<_> = (0..25).map(|number| format!("R{number}")).collect();
        many.ask(&json!({"type": "subscribe_region", "regions": regions})).await;
        self.note("subscribe to 25 regions").await;
        let since: BTreeMap<_, _> = regions.iter().map(|region| (region, &start)).collect();
        assert_eq!(many.ask(&json!({"type": "keepalive", "regions": regions, "since": since})).await, kept);
        self.note("keepalive, 25 regions").await;
        // From here on its rate limit is in use.
        many.subscribe("R1").await;
        self.note("subscribe to one of them once more, at once").await;
        many.ask(&json!({"type": "unsubscribe_region", "regions": regions})).await;
        self.note("unsubscribe from 25 regions, at once").await;
        many.ask(&json!({"type": "join", "room": "dogs"})).await;
        self.meter.take();
        many.ask(&json!({"type": "leave", "room": "dogs"})).await;
        self.note("leave a room, at once").await;

        let mut talker = self.newcomer().await;
        talker.ask(&json!({"type": "join", "room": "general"})).await;
        self.note("join a room").await;
        talker.ask(&json!({"type": "chat", "user": "Ola", "message": "hej"})).await;
        self.note("chat or typing, to a room of one").await;
        talker.ask(&json!({"type": "count", "region": "DE"})).await;
        self.note("count a region of one").await;
        let mut stranger = self.newcomer().await;
        stranger.ask(&json!({"type": "chat", "user": "Ola", "room": "cats", "message": "hej"})).await;
        self.note("chat in a room that it is not in yet").await;

        for other in [many, talker, stranger] {
            other.close().await;
        }
        crate::site::eventually("one is left", || async { self.tables.subscriptions().await.len() == 2 }).await;
        self.site.settled().await;
        self.meter.take();
        client.close().await;
        self.gone().await;
        self.note("disconnect, with one region").await;
        let client = self.site.connect("/prod?region=DE").await;
        self.note("connect with a region").await;
        client.close().await;
        self.gone().await;
        self.meter.take();
    }

    /// Connects a client without changes.
    async fn newcomer(&self) -> Client {
        let client = self.site.connect("/prod").await;
        self.site.settled().await;
        self.meter.take();
        client
    }

    /// Waits until no connection has items: `$disconnect` runs some time after the socket has ended.
    async fn gone(&self) {
        crate::site::eventually("no traces", || async { self.tables.subscriptions().await.is_empty() }).await;
        self.site.settled().await;
    }

    async fn of_alerts(&mut self) {
        self.publish("XX", None).await;
        self.note("an alert that nobody gets, the first of its region").await;
        self.publish("XX", None).await;
        self.note("an alert that nobody gets").await;
        self.publish_within(60, "XX", None).await;
        self.note("the same with a window").await;
        self.publish_within(60, "XX", None).await;
        self.note("its video again, within the window").await;
        for what in ["taking it back", "taking it back once more"] {
            assert_eq!(self.site.request("DELETE", "/alerts/XX/2", &[]).await.status, 200);
            self.note(what).await;
        }
        self.alert_to(1).await;
        self.alert_to(100).await;
        self.alert_to(PAGE - 1).await;
        self.publish("PL", Some("key")).await;
        self.note("the same with an idempotency key").await;
        self.publish("PL", Some("key")).await;
        self.note("its repetition").await;
        self.alert_to(PAGE).await;
    }

    async fn of_reading(&mut self) {
        for _ in 0..3 {
            self.publish("YY", None).await;
        }
        // It has no subscribers, so it goes to everyone.
        self.site.settled().await;
        let mut client = self.site.connect("/prod").await;
        self.meter.take();
        let start = json!({"epoch": 0, "seq": 0});
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "YY", "since": start})).await;
        assert_eq!(answer["alerts"].as_array().map(Vec::len), Some(3), "{answer}");
        self.note("subscribe with a position, 3 alerts missed").await;
        let mut client = self.newcomer().await;
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "ALL"})).await;
        assert_eq!(answer["positions"].as_object().map(serde_json::Map::len), Some(3), "{answer}");
        self.note("subscribe to ALL, 3 regions").await;
        let since = &answer["positions"];
        let answer = client.ask(&json!({"type": "keepalive", "region": "ALL", "since": since})).await;
        assert_eq!(answer, json!({"type": "kept"}));
        self.note("keepalive, ALL").await;
        for (query, what) in [
            ("region=YY&after=0", "GET /alerts, 3 alerts missed"),
            ("region=YY&after=3", "GET /alerts, none missed"),
            ("region=ALL", "GET /alerts, the newest of 3 regions"),
        ] {
            let (status, answer) = self.site.get(&format!("/alerts?{query}")).await;
            assert_eq!(status, 200, "{answer}");
            self.note(what).await;
        }
    }

    async fn alert_to(&mut self, count: usize) {
        self.watch("PL", count).await;
        // The first alert of a region is another row.
        self.publish("PL", None).await;
        self.site.settled().await;
        self.meter.take();
        self.publish("PL", None).await;
        self.site.settled().await;
        self.rows.push((format!("an alert to {count}"), self.meter.take()));
    }
}

/// Items in one page of an audience.
const PAGE: usize = shared::limits::AUDIENCE_PAGE_ITEMS as usize;

/// The heading of the table.
const HEADING: &str = "## Requests and units";

#[test]
fn every_request_to_dynamodb_is_in_the_table_of_what_it_costs() {
    // This process holds both ends of a thousand sockets.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a higher limit of open files");
    run(async {
        let tables = Site::start_in_process().await;
        let database = tables.aws_variables["AWS_ENDPOINT_URL_DYNAMODB"].parse().expect("an address");
        let meter = Meter::before(database).await;
        let site = Site::on(&meter.address).await;
        let mut rows = Rows { site, tables, meter, rows: Vec::new(), watchers: Vec::new() };
        rows.of_connections().await;
        rows.of_alerts().await;
        rows.of_reading().await;
        rows.rows.push(("a run of the synthetic canary".to_owned(), of_canary().await));
        compare(&rows.rows);
    });
}

/// Measures the second run of the canary, in its own stack, because its schedule would disturb other measurements.
async fn of_canary() -> Consumed {
    let tables = Site::start_in_process().await;
    let database = tables.aws_variables["AWS_ENDPOINT_URL_DYNAMODB"].parse().expect("an address");
    let meter = Meter::before(database).await;
    // The second run follows at once, and takes as much as one a minute later.
    let site = Site::on_with(&meter.address, &[("Canary", "on"), ("AlertsPerMinute", "60000")]).await;
    for _ in 0..2 {
        meter.take();
        let (_, answer) = site.invoke("CanaryFunction", &json!({})).await;
        assert_eq!(answer["arrived"], true, "{answer}");
        crate::site::eventually("no traces", || async { tables.subscriptions().await.is_empty() }).await;
        site.settled().await;
    }
    meter.take()
}

fn compare(measured: &[(String, Consumed)]) {
    let file = root().join("docs/cost.md");
    let text = std::fs::read_to_string(&file).expect("the document");
    let section = text.split_once(HEADING).map_or("", |(_, section)| section);
    let section = section.split_once("\n#").map_or(section, |(section, _)| section);
    let documented: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let lines: Vec<_> = measured.iter().map(|(what, consumed)| format!("| {what} | {consumed}")).collect();
    let table = lines.join("\n");
    assert!(
        documented == lines,
        "{} differs from what was measured; write\n\n| what | requests | read units | write units |\n\
             |---|---|---|---|\n{table}\n",
        file.display()
    );
}

/// Starts a site behind a meter, with `regions` that are in the snapshot at their first alert, and not in the log.
async fn metered(regions: &[String]) -> (Site, Site, Meter, Value) {
    let tables = Site::start_in_process().await;
    let database = tables.aws_variables["AWS_ENDPOINT_URL_DYNAMODB"].parse().expect("an address");
    let meter = Meter::before(database).await;
    let site = Site::on(&meter.address).await;
    let snapshot = Snapshot::new(tables.dynamodb(), "AlertsTable".to_owned());
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    let entry = SnapshotEntry {
        position: Position { epoch: now, seq: 1 },
        committed_at: Timestamp::from_millis(now),
        largest_bytes: FRAME_BYTES_MAX,
        audience: Some(10_000_000),
    };
    for region in regions {
        snapshot.record(&region.parse().expect("a region"), &entry).await.expect("recorded");
    }
    let positions = regions.iter().map(|region| (region.clone(), json!({"epoch": now, "seq": 1}))).collect();
    (tables, site, meter, Value::Object(positions))
}

/// Returns as many regions as `ALL` may have, with the longest names.
fn regions_of_all() -> Vec<String> {
    (0..REGIONS_OF_ALL_MAX).map(|number| format!("{number:R>REGION_BYTES_MAX$}")).collect()
}

#[test]
fn coming_back_to_all_takes_nine_read_units_however_many_regions_there_are() {
    /// Reconnects per second of a large audience: half of an account's quota. Source: docs/protocol.md.
    const RECONNECTIONS: f64 = 250.0;
    run(async {
        let (_tables, site, meter, positions) = metered(&regions_of_all()).await;
        let mut client = site.connect("/prod").await;
        // Writing messages also read the connection's state.
        for (message, units) in [
            (json!({"type": "subscribe_region", "region": "ALL", "since": positions}), 9.0),
            (json!({"type": "subscribe_region", "region": "ALL"}), 9.0),
            (json!({"type": "keepalive", "region": "ALL", "since": positions}), 8.0),
        ] {
            meter.take();
            let answer = client.ask(&message).await;
            assert!(answer["type"] == "kept" || answer["positions"] == positions, "{answer}");
            assert_ne!(answer["recovered"], false, "{answer}");
            let consumed = meter.take();
            assert_eq!(consumed.read_units, units, "{}", message["type"]);
            assert!(consumed.read_units * RECONNECTIONS < 5_000.0);
        }
    });
}

#[test]
fn no_message_reads_more_than_30_units_and_one_for_each_region_that_its_answer_carries() {
    run(async {
        let mut regions = regions_of_all();
        regions.truncate(REGIONS_OF_ALL_MAX - 50);
        let (_tables, site, meter, positions) = metered(&regions).await;
        // One log of 100 large alerts, one of 40 small ones and 40 of one each.
        let publish = async |region: &str, bytes: usize| {
            let video = json!({"id": "v", "title": "t", "more": "t".repeat(bytes), "score": 97});
            site.publish(&json!({"region": region, "video": video})).await
        };
        for _ in 0..100 {
            publish("LARGE", 30_000).await;
        }
        for _ in 0..40 {
            publish("SMALL", 10).await;
        }
        let single: Vec<String> = (0..40).map(|number| format!("S{number}")).collect();
        for region in &single {
            publish(region, 10).await;
        }
        site.settled().await;
        let start = json!({"epoch": 0, "seq": 0});
        let from_start =
            |names: &[String]| -> Value { names.iter().map(|name| (name.clone(), start.clone())).collect() };
        let invented: Vec<String> = (0..REGIONS_OF_ALL_MAX).map(|number| format!("X{number}")).collect();
        let mixed = [vec!["LARGE".to_owned(), "SMALL".to_owned()], single[..23].to_vec()].concat();
        let messages = [
            json!({"region": "ALL"}),
            json!({"region": "ALL", "since": {}}),
            json!({"region": "ALL", "since": positions}),
            json!({"region": "ALL", "since": from_start(&invented)}),
            json!({"regions": invented[..25], "since": from_start(&invented)}),
            json!({"region": "LARGE", "since": start}),
            json!({"region": "SMALL", "since": start}),
            json!({"regions": single[..25], "since": from_start(&single)}),
            json!({"regions": mixed, "since": from_start(&mixed)}),
            json!({"regions": regions[..25], "since": from_start(&regions)}),
        ];
        let mut carried_most = 0;
        for message in &messages {
            for format in ["viral_alert", "new_trending"] {
                let mut client = site.connect("/prod").await;
                for kind in ["subscribe_region", "keepalive"] {
                    let mut message = message.clone();
                    (message["type"], message["format"]) = (json!(kind), json!(format));
                    meter.take();
                    let answer = client.ask(&message).await;
                    assert_ne!(answer["type"], "error", "{answer}");
                    let alerts = answer["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let carried: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["region"].as_str()).collect();
                    let units = meter.take().read_units;
                    assert!(units <= (MESSAGE_READ_UNITS_MAX + carried.len()) as f64, "{units} units: {message}");
                    carried_most = carried_most.max(carried.len());
                }
                client.close().await;
            }
        }
        assert_eq!(carried_most, 25);
        for query in [
            "region=ALL".to_owned(),
            "region=ALL&after=_".to_owned(),
            "region=LARGE&after=0".to_owned(),
            "region=LARGE".to_owned(),
            format!("region={}", mixed.join(",")),
            format!(
                "region={}&after={}",
                mixed.join(","),
                mixed.iter().map(|name| format!("{name}.0.0")).collect::<Vec<_>>().join("_")
            ),
            format!("region={}", invented[..25].join(",")),
        ] {
            meter.take();
            let (status, page) = site.get(&format!("/alerts?{query}")).await;
            assert_eq!(status, 200, "{page}");
            let units = meter.take().read_units;
            assert!(units <= PAGE_READ_UNITS_MAX as f64, "{units} units: {query}");
        }
    });
}
