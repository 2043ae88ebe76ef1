//! DynamoDB as the service is: the real engine, with transactions that conflict, partitions with a throughput, indexes
//! that are behind, batches that are processed in part, and items that expire late.
//!
//! Sources: DynamoDB developer guide, "Amazon DynamoDB Transactions: How it works", "Read consistency", "Burst and
//! adaptive capacity", "Using time to live". Assumed on top: of two transactions that touch one item the later one is
//! cancelled at once; a partition key has a partition of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apigw_local::Tables;
use dynoxide::{Database, errors::DynoxideError};
use rand::RngExt;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::{Call, Reply},
    cloud::{Cloud, forms::later_request},
};

/// Write units a second of one partition.
const WRITE_UNITS: f64 = 1_000.0;

/// Read units a second of one partition.
const READ_UNITS: f64 = 3_000.0;

/// Attributes that are keys of a table, partition first. The scores table has no second one.
const KEYS: [(&str, [&str; 2]); 3] = [
    ("AlertsTable", ["region", "seq"]),
    ("SubscriptionsTable", ["audience", "slot"]),
    ("ScoresTable", ["region", "region"]),
];

/// Units of reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    pub reads: f64,
    pub writes: f64,
}

/// The database of a world.
pub struct Store {
    primary: Database,
    /// What indexes and eventually consistent reads see.
    replica: Database,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Items in transactions that are under way.
    locked: BTreeSet<String>,
    /// What a partition has left, and when it was filled last.
    buckets: BTreeMap<String, (f64, Option<Instant>)>,
    /// What the replica has still to be told: when, and which item.
    behind: VecDeque<(Instant, &'static str, Value)>,
    /// The items of the primary by table, partition and sort key, because to read a whole table takes the engine long.
    items: BTreeMap<(&'static str, String, String), Value>,
    /// Requests that took effect or were refused.
    requests: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// The static name and the keys of a table.
fn table(name: &str) -> (&'static str, [&'static str; 2]) {
    KEYS.into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("the template has no table {name}"))
}

/// The key of an item, or of a request for one.
fn key_of(keys: [&str; 2], item: &Value) -> Value {
    Value::Object(keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect::<Map<_, _>>())
}

fn text(attribute: &Value) -> &str {
    attribute.as_object().and_then(|value| value.values().next()).and_then(Value::as_str).unwrap_or_default()
}

impl Store {
    /// A new and empty one.
    ///
    /// # Panics
    ///
    /// If the engine refuses a table of the template.
    pub fn new(tables: &Tables) -> Self {
        let database = || tables.in_memory().expect("the engine takes the tables of the template");
        Self { primary: database(), replica: database(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// All items of a table, sorted by their keys.
    ///
    /// # Panics
    ///
    /// If the template has no such table.
    pub fn items(&self, name: &str) -> Vec<Value> {
        let (name, _) = table(name);
        let state = self.state();
        let first = (name, String::new(), String::new());
        state.items.range(first..).take_while(|((of, ..), _)| *of == name).map(|(_, item)| item.clone()).collect()
    }

    /// Removes the items whose time has come by `now`, in seconds since the Unix epoch.
    pub fn expire(&self, now: i64) {
        let has_expired = |item: &Value| text(&item["expires_at"]).parse::<i64>().is_ok_and(|at| at <= now);
        let expired: Vec<_> = self.state().items.extract_if(.., |_, item| has_expired(item)).collect();
        for ((name, ..), item) in expired {
            let (_, keys) = table(name);
            for database in [&self.primary, &self.replica] {
                let request = json!({"TableName": name, "Key": key_of(keys, &item)});
                database.delete_item(serde_json::from_value(request).expect("a request")).expect("deleted");
            }
        }
    }

    /// Tells the replica what it has to know by now; all of it where there is no lag any more.
    fn catch_up(&self, all: bool) {
        let now = Instant::now();
        let mut newest: BTreeMap<String, (&'static str, Value)> = BTreeMap::new();
        {
            let mut state = self.state();
            while state.behind.front().is_some_and(|(at, ..)| all || *at <= now) {
                let Some((_, name, item)) = state.behind.pop_front() else { break };
                newest.insert(format!("{name} {}", item["Key"]), (name, item));
            }
        }
        for (name, item) in newest.into_values() {
            let written = if item["Item"].is_null() {
                let request = json!({"TableName": name, "Key": item["Key"]});
                self.replica.delete_item(serde_json::from_value(request).expect("a request")).map(drop)
            } else {
                let request = json!({"TableName": name, "Item": item["Item"]});
                self.replica.put_item(serde_json::from_value(request).expect("a request")).map(drop)
            };
            written.expect("what the primary takes the replica does");
        }
    }

    fn get(&self, name: &str, key: &Value) -> Value {
        let request = json!({"TableName": name, "Key": key, "ConsistentRead": true});
        let answer = self.primary.get_item(serde_json::from_value(request).expect("a request"));
        answer.ok().and_then(|answer| serde_json::to_value(answer).ok()).map_or(Value::Null, |mut it| it["Item"].take())
    }
}

/// Carries out a request on a database, and says what it cost.
fn run<Q: DeserializeOwned, R: Serialize>(
    body: Value,
    action: impl Fn(Q) -> Result<R, DynoxideError>,
) -> (Reply, Units, bool) {
    let request = match serde_json::from_value(body) {
        Ok(request) => request,
        Err(error) => {
            return (Reply::error(400, "SerializationException", &error.to_string()), Units::default(), false);
        }
    };
    match action(request) {
        Ok(response) => {
            let mut response = serde_json::to_value(&response).expect("an answer is JSON");
            let units = units(&response["ConsumedCapacity"]);
            if let Some(fields) = response.as_object_mut() {
                fields.remove("ConsumedCapacity");
            }
            (Reply::json(&response), units, true)
        }
        // A condition that fails costs what looking at the item did.
        Err(error) => {
            let reply = Reply { status: error.status_code(), body: error.to_json().into_bytes() };
            (reply, Units { reads: 0.0, writes: 1.0 }, false)
        }
    }
}

fn units(consumed: &Value) -> Units {
    let of = |table: &Value| {
        let number = |name: &str| table[name].as_f64().unwrap_or_default();
        Units { reads: number("ReadCapacityUnits").max(number("CapacityUnits")), writes: number("WriteCapacityUnits") }
    };
    match consumed {
        Value::Array(tables) => tables
            .iter()
            .map(of)
            .fold(Units::default(), |sum, one| Units { reads: sum.reads + one.reads, writes: sum.writes + one.writes }),
        one => of(one),
    }
}

fn is_write(operation: &str) -> bool {
    matches!(operation, "PutItem" | "UpdateItem" | "DeleteItem" | "BatchWriteItem" | "TransactWriteItems")
}

/// Whether a request may be answered by the replica.
fn is_eventual(operation: &str, body: &Value) -> bool {
    match operation {
        "Query" | "GetItem" => body["ConsistentRead"] != true,
        "BatchGetItem" => body["RequestItems"]
            .as_object()
            .is_some_and(|tables| tables.values().any(|table| table["ConsistentRead"] != true)),
        _ => false,
    }
}

/// What a request asks of the database.
struct Request {
    operation: String,
    body: Value,
}

impl Request {
    /// The items that it writes, by table and key.
    fn items(&self) -> Vec<(&'static str, Value)> {
        let one = |request: &Value| {
            let (name, keys) = table(request["TableName"].as_str().unwrap_or_default());
            let of = if request["Item"].is_object() { &request["Item"] } else { &request["Key"] };
            (name, key_of(keys, of))
        };
        match self.operation.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" => vec![one(&self.body)],
            "TransactWriteItems" => {
                let actions = self.body["TransactItems"].as_array().into_iter().flatten();
                actions.filter_map(|action| action.as_object()?.values().next()).map(one).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The partition that a request is charged to: that of its first item.
    fn partition(&self) -> String {
        if let Some((name, key)) = self.items().first() {
            return format!("writes {name} {}", text(&key[table(name).1[0]]));
        }
        let name = self.body["TableName"].as_str().unwrap_or_default();
        let values: HashMap<&str, &Value> = self.body["ExpressionAttributeValues"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let condition = self.body["KeyConditionExpression"].as_str().unwrap_or_default();
        let placeholder = condition.split(" = ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let of_query = placeholder.and_then(|name| values.get(name)).map(|value| text(value));
        let of_key = || self.body["Key"].as_object()?.values().next().map(text);
        format!("reads {name} {}", of_query.or_else(of_key).unwrap_or_default())
    }
}

impl State {
    /// Keeps what an item of the primary is now; null if there is none.
    fn keep(&mut self, name: &'static str, key: &Value, item: &Value) {
        let [partition, sort] = table(name).1.map(|attribute| text(&key[attribute]).to_owned());
        if item.is_null() {
            self.items.remove(&(name, partition, sort));
        } else {
            self.items.insert((name, partition, sort), item.clone());
        }
    }

    /// Whether the partition has units left. What a request costs is known only afterwards.
    fn has_units(&mut self, partition: &str) -> bool {
        let most = if partition.starts_with("reads") { READ_UNITS } else { WRITE_UNITS };
        let now = Instant::now();
        let (left, at) = self.buckets.entry(partition.to_owned()).or_insert((most, None));
        let since = at.map_or(Duration::ZERO, |at| now.duration_since(at));
        (*left, *at) = (most.min(*left + since.as_secs_f64() * most), Some(now));
        *left > 0.0
    }

    fn charge(&mut self, partition: &str, units: f64) {
        if let Some((left, _)) = self.buckets.get_mut(partition) {
            *left -= units;
        }
    }
}

impl Cloud {
    /// Carries out a request to DynamoDB, and says what it cost.
    pub(super) async fn database(&self, call: &Call) -> (Reply, Units) {
        let mut body = match serde_json::from_slice(&call.body) {
            Ok(body) => body,
            Err(error) => {
                let reply = Reply::error(400, "SerializationException", &error.to_string());
                return (reply, Units::default());
            }
        };
        if self.writes_later_form(&call.process) {
            later_request(&call.operation, &mut body);
        }
        if let Some(items) = self.settings.page_items
            && call.operation == "Query"
            && call.process.starts_with("DeliverFunction")
            && body["Limit"].is_number()
        {
            body["Limit"] = json!(items);
        }
        let request = Request { operation: call.operation.clone(), body };
        self.store.state().requests += 1;
        let (throttles, fails) = (self.weather().throttled_requests, self.weather().failed_requests);
        if self.chance(&call.process, throttles) {
            let name = request.operation.as_str();
            let reply = if name == "TransactWriteItems" {
                Reply::cancelled(request.items().iter().map(|_| "ThrottlingError"))
            } else {
                Reply::throttled()
            };
            return (reply, Units::default());
        }
        let fails = self.chance(&call.process, fails);
        let failed = || Reply::error(500, "InternalServerError", "it failed");
        if fails && self.chance(&call.process, 0.5) {
            return (failed(), Units::default());
        }
        let (reply, units) = match request.operation.as_str() {
            "BatchWriteItem" => self.batch(&call.process, &request.body).await,
            "TransactWriteItems" => self.transact(call, request).await,
            _ => self.single(call, request),
        };
        (if fails { failed() } else { reply }, units)
    }

    /// One item after the other, in any order. Some are left to the caller.
    async fn batch(&self, process: &str, body: &Value) -> (Reply, Units) {
        let mut sum = Units::default();
        let mut unprocessed = Map::new();
        for (name, writes) in body["RequestItems"].as_object().into_iter().flatten() {
            let mut writes: Vec<Value> = writes.as_array().cloned().unwrap_or_default();
            let mut left = Vec::new();
            while !writes.is_empty() {
                let index = self.draw(process, |random| random.random_range(0..writes.len()));
                let write = writes.swap_remove(index);
                if self.chance(process, self.weather().unprocessed_writes) {
                    left.push(write);
                    continue;
                }
                let pause = self.draw(process, |random| random.random_range(0..8_u64));
                sleep(Duration::from_millis(pause)).await;
                let (operation, request) = match (&write["PutRequest"], &write["DeleteRequest"]) {
                    (Value::Null, delete) => ("DeleteItem", json!({"TableName": name, "Key": delete["Key"]})),
                    (put, _) => ("PutItem", json!({"TableName": name, "Item": put["Item"]})),
                };
                let call = Call { process: process.to_owned(), ..Call::default() };
                let (reply, units) = self.single(&call, Request { operation: operation.to_owned(), body: request });
                sum = Units { reads: sum.reads + units.reads, writes: sum.writes + units.writes };
                if reply.status != 200 {
                    left.push(write);
                }
            }
            if !left.is_empty() {
                unprocessed.insert(name.clone(), left.into());
            }
        }
        (Reply::json(&json!({"UnprocessedItems": unprocessed})), sum)
    }

    async fn transact(&self, call: &Call, request: Request) -> (Reply, Units) {
        let items = request.items();
        let names: Vec<String> = items.iter().map(|(name, key)| format!("{name} {key}")).collect();
        let partition = request.partition();
        {
            let mut state = self.store.state();
            let conflicts: Vec<bool> = names.iter().map(|name| state.locked.contains(name)).collect();
            if conflicts.contains(&true) {
                let codes = conflicts.iter().map(|conflict| if *conflict { "TransactionConflict" } else { "None" });
                return (Reply::cancelled(codes), Units { reads: 0.0, writes: 2.0 * names.len() as f64 });
            }
            if !state.has_units(&partition) {
                return (Reply::cancelled(names.iter().map(|_| "ThrottlingError")), Units::default());
            }
            state.locked.extend(names.iter().cloned());
        }
        let pause = self.draw(&call.process, |random| random.random_range(8..25_u64));
        sleep(Duration::from_millis(pause)).await;
        let outcome = self.carry_out(call, &request.operation, request.body, items);
        let mut state = self.store.state();
        for name in &names {
            state.locked.remove(name);
        }
        state.charge(&partition, outcome.1.writes);
        outcome
    }

    /// A request that takes effect at one moment.
    fn single(&self, call: &Call, request: Request) -> (Reply, Units) {
        let items = request.items();
        let partition = request.partition();
        {
            let mut state = self.store.state();
            if items.iter().any(|(name, key)| state.locked.contains(&format!("{name} {key}"))) {
                let reply = Reply::error(400, "TransactionConflictException", "Transaction is ongoing for the item");
                return (reply, Units { reads: 0.0, writes: 1.0 });
            }
            if !state.has_units(&partition) {
                return (Reply::throttled(), Units::default());
            }
        }
        let Request { operation, body } = request;
        let outcome = self.carry_out(call, &operation, body, items);
        self.store.state().charge(&partition, outcome.1.reads + outcome.1.writes);
        outcome
    }

    fn carry_out(
        &self,
        call: &Call,
        operation: &str,
        mut body: Value,
        items: Vec<(&'static str, Value)>,
    ) -> (Reply, Units) {
        let lag = self.weather().lag_ms;
        let is_eventual = is_eventual(operation, &body);
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        let mut database = &self.store.primary;
        if is_eventual {
            self.store.catch_up(lag == 0.0);
            database = &self.store.replica;
        }
        let (reply, mut units, has_written) = match operation {
            "GetItem" => run(body, |request| database.get_item(request)),
            "PutItem" => run(body, |request| database.put_item(request)),
            "UpdateItem" => run(body, |request| database.update_item(request)),
            "DeleteItem" => run(body, |request| database.delete_item(request)),
            "Query" => run(body, |request| database.query(request)),
            "BatchGetItem" => run(body, |request| database.batch_get_item(request)),
            "TransactWriteItems" => run(body, |request| database.transact_write_items(request)),
            other => {
                let reply = Reply::error(400, "UnknownOperationException", &format!("the world has no {other}"));
                (reply, Units::default(), false)
            }
        };
        if is_write(operation) {
            units = Units { reads: 0.0, writes: units.reads.max(units.writes) };
            if has_written {
                let mut state_of = Vec::new();
                for (name, key) in items {
                    let item = self.store.get(name, &key);
                    self.check_lifetime(name, &item);
                    self.store.state().keep(name, &key, &item);
                    state_of.push((name, json!({"Key": key, "Item": item})));
                }
                for (name, item) in state_of {
                    let after = if lag > 0.0 { self.draw(&call.process, |it| it.random_range(0.0..=lag)) } else { 0.0 };
                    let mut state = self.store.state();
                    let at = Instant::now() + Duration::from_secs_f64(after / 1_000.0);
                    // Changes arrive in the order in which they were made.
                    let at = state.behind.back().map_or(at, |(last, ..)| at.max(*last));
                    state.behind.push_back((at, name, item));
                }
            }
        }
        (reply, units)
    }
}

/// The store that the requests of a world go to.
pub(super) type SharedStore = Arc<Store>;
