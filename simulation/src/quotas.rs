//! DynamoDB with its limits: transactions take time and conflict, and a partition takes so many units a second.
//!
//! Sources: DynamoDB developer guide, "Read/write capacity mode", "Amazon DynamoDB Transactions: How it works" and
//! "Designing partition keys to distribute your workload": 1,000 write units and 3,000 read units a second of each
//! partition. Assumed on top: a partition key has a partition of its own; one second's units may be used at once,
//! although the service keeps up to five minutes of them; a transaction that is cancelled takes all its units; of
//! two transactions that touch one item the later one is cancelled at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::{Call, Lost, Reply, World},
    engine::Engine,
};

/// Write units a second of one partition.
const WRITE_UNITS: f64 = 1_000.0;

/// Read units a second of one partition.
const READ_UNITS: f64 = 3_000.0;

/// Milliseconds of a request on its way, there and back each.
const WAY_MS: Range<u64> = 1..4;

/// Milliseconds of a transaction.
const TRANSACTION_MS: Range<u64> = 10..30;

/// Milliseconds that Lambda takes to accept an invocation, beside the way.
const INVOCATION_MS: Range<u64> = 5..15;

/// A database with the limits of AWS, and a Lambda that accepts invocations.
pub struct Quotas {
    engine: Engine,
    random: Mutex<StdRng>,
    state: Mutex<State>,
    losses: Mutex<Losses>,
}

/// Which requests do not arrive, and which answers.
pub enum Losses {
    /// All arrive.
    None,
    /// A share of the requests, and of the answers.
    Share(f64),
    /// What is chosen: requests are asked about with false, and their answers with true.
    Chosen(Chosen),
}

/// Says of a call whether its request is lost, and then whether its answer is.
pub type Chosen = Box<dyn FnMut(&Call, bool) -> bool + Send>;

#[derive(Default)]
struct State {
    /// Items in transactions that are under way.
    locked: BTreeSet<String>,
    buckets: HashMap<String, (f64, Option<Instant>)>,
    counts: BTreeMap<String, u64>,
    invocations: Vec<Value>,
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quotas")
    }
}

/// What an action writes, and what that costs.
struct Write {
    /// Table and key.
    item: String,
    /// Partitions of the table and of indexes, and the units of each.
    units: Vec<(String, f64)>,
}

impl Quotas {
    /// A world whose chances the seed decides.
    pub fn new(engine: Engine, seed: u64) -> Arc<Self> {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { engine, random, state: Mutex::default(), losses: Mutex::new(Losses::None) })
    }

    /// Its database.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How often each operation was asked for, and how often each limit was met.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.state().counts.clone()
    }

    /// What functions were invoked with.
    pub fn invocations(&self) -> Vec<Value> {
        self.state().invocations.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random(&self, range: Range<u64>) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(range)
    }

    /// Loses these requests and answers from now on.
    pub fn lose(&self, losses: Losses) {
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }

    fn is_lost(&self, call: &Call, is_answer: bool) -> bool {
        match &mut *self.losses.lock().unwrap_or_else(PoisonError::into_inner) {
            Losses::None => false,
            Losses::Share(share) => {
                self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..1.0) < *share
            }
            Losses::Chosen(chosen) => chosen(call, is_answer),
        }
    }

    async fn pass(&self, range: Range<u64>) {
        let ms = self.random(range);
        sleep(Duration::from_millis(ms)).await;
    }

    async fn carry_out(&self, call: &Call) -> Reply {
        if call.operation.is_empty() {
            self.pass(INVOCATION_MS).await;
            self.state().invocations.push(serde_json::from_slice(&call.body).unwrap_or_default());
            return Reply { status: 202, body: Vec::new() };
        }
        self.state().count(&call.operation);
        let body: Value = serde_json::from_slice(&call.body).expect("clients send JSON");
        match call.operation.as_str() {
            "TransactWriteItems" => self.transact(call, &body).await,
            "PutItem" | "UpdateItem" | "DeleteItem" => {
                let write = self.write(&call.operation, &body, 1.0);
                let mut state = self.state();
                if state.locked.contains(&write.item) {
                    state.count("conflicts of single writes");
                    return Reply::error(400, "TransactionConflictException", "Transaction is ongoing for the item");
                }
                if !state.take(&write.units, WRITE_UNITS) {
                    return Reply::throttled();
                }
                drop(state);
                self.engine.answer(call)
            }
            _ => self.read(call, body),
        }
    }

    async fn transact(&self, call: &Call, body: &Value) -> Reply {
        let actions = body["TransactItems"].as_array().expect("actions");
        let writes: Vec<Write> = actions
            .iter()
            .map(|action| {
                let (kind, request) = action.as_object().and_then(|action| action.iter().next()).expect("an action");
                self.write(kind, request, 2.0)
            })
            .collect();
        let mut units: Vec<(String, f64)> = Vec::new();
        for (partition, more) in writes.iter().flat_map(|write| &write.units) {
            match units.iter_mut().find(|(known, _)| known == partition) {
                Some((_, sum)) => *sum += more,
                None => units.push((partition.clone(), *more)),
            }
        }
        {
            let mut state = self.state();
            let conflicts: Vec<bool> = writes.iter().map(|write| state.locked.contains(&write.item)).collect();
            if !state.take(&units, WRITE_UNITS) {
                return Reply::cancelled(writes.iter().map(|_| "ThrottlingError"));
            }
            if conflicts.contains(&true) {
                state.count("conflicts of transactions");
                return Reply::cancelled(
                    conflicts.iter().map(|conflict| if *conflict { "TransactionConflict" } else { "None" }),
                );
            }
            state.locked.extend(writes.iter().map(|write| write.item.clone()));
        }
        self.pass(TRANSACTION_MS).await;
        let reply = self.engine.answer(call);
        let mut state = self.state();
        for write in &writes {
            state.locked.remove(&write.item);
        }
        if reply.status != 200 {
            state.count("conditions of transactions that failed");
        }
        reply
    }

    fn read(&self, call: &Call, mut body: Value) -> Reply {
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        let asked = Call { body: body.to_string().into_bytes(), ..call.clone() };
        let reply = self.engine.answer(&asked);
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let capacity = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum(),
            one => one["CapacityUnits"].as_f64().unwrap_or_default(),
        };
        let partitions = partitions(&body);
        let each = capacity / partitions.len().max(1) as f64;
        let units: Vec<_> = partitions.into_iter().map(|partition| (format!("reads {partition}"), each)).collect();
        if self.state().take(&units, READ_UNITS) { reply } else { Reply::throttled() }
    }

    /// What a put, an update or a delete writes. In a transaction it costs twice as much, except in indexes.
    fn write(&self, kind: &str, request: &Value, factor: f64) -> Write {
        let table = request["TableName"].as_str().unwrap_or_default();
        let names = ["region", "seq", "audience", "slot"];
        let of = if request["Item"].is_object() { &request["Item"] } else { &request["Key"] };
        let key: serde_json::Map<String, Value> =
            names.iter().filter_map(|name| Some(((*name).to_owned(), of.get(*name)?.clone()))).collect();
        let get = json!({"TableName": table, "Key": key});
        let get = Call { operation: "GetItem".to_owned(), body: get.to_string().into_bytes(), ..Call::default() };
        let old: Value = serde_json::from_slice(&self.engine.answer(&get).body).unwrap_or_default();
        let old = &old["Item"];
        let size = |value: &Value| if value.is_null() { 0 } else { value.to_string().len() };
        let written = match kind {
            "Put" | "PutItem" => size(of),
            "Update" | "UpdateItem" => size(old) + size(&request["ExpressionAttributeValues"]),
            _ => 0,
        };
        let base = size(old).max(written).div_ceil(1024).max(1) as f64;
        let partition =
            format!("{table} {}", of["region"]["S"].as_str().or(of["audience"]["S"].as_str()).unwrap_or("?"));
        let mut units = vec![(format!("writes {partition}"), base * factor)];
        let leaves = request["UpdateExpression"].as_str().is_some_and(|text| text.contains("REMOVE undispatched"));
        if of["undispatched"].is_object() || (leaves && old["undispatched"].is_object()) {
            units.push((format!("writes {table}/undispatched"), 1.0));
        }
        Write { item: format!("{table} {}", Value::Object(key)), units }
    }
}

impl State {
    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Takes units from partitions, all or none.
    fn take(&mut self, units: &[(String, f64)], a_second: f64) -> bool {
        let now = Instant::now();
        for (partition, _) in units {
            let (left, at) = self.buckets.entry(partition.clone()).or_insert((a_second, None));
            let since = at.map_or(Duration::ZERO, |at| now.duration_since(at));
            (*left, *at) = (a_second.min(*left + since.as_secs_f64() * a_second), Some(now));
        }
        if let Some((partition, _)) =
            units.iter().find(|(partition, units)| self.buckets[partition].0 < units.min(a_second))
        {
            let what = format!("throttled: {}", partition.split_once('#').map_or(partition.as_str(), |(kind, _)| kind));
            self.count(&what);
            return false;
        }
        for (partition, units) in units {
            if let Some((left, _)) = self.buckets.get_mut(partition) {
                *left -= units;
            }
        }
        true
    }
}

/// The partitions that a read is about.
fn partitions(body: &Value) -> Vec<String> {
    let table = body["TableName"].as_str().unwrap_or_default();
    let text = |value: &Value| value.as_object()?.values().next()?.as_str().map(str::to_owned);
    if let Some(key) = body["Key"].as_object() {
        let partition = ["region", "audience"].iter().find_map(|name| text(key.get(*name)?));
        return partition.map(|partition| format!("{table} {partition}")).into_iter().collect();
    }
    if let Some(tables) = body["RequestItems"].as_object() {
        let keys = tables.iter().flat_map(|(table, asked)| {
            let keys = asked["Keys"].as_array().cloned().unwrap_or_default();
            keys.into_iter().map(move |key| format!("{table} {}", key["region"]["S"]))
        });
        return keys.collect();
    }
    let condition = body["KeyConditionExpression"].as_str().unwrap_or_default();
    let placeholder = condition.split(" = ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let partition = text(&body["ExpressionAttributeValues"][placeholder]).unwrap_or_default();
    vec![format!("{table}{} {partition}", body["IndexName"].as_str().unwrap_or_default())]
}

impl World for Quotas {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>> {
        async move {
            self.pass(WAY_MS).await;
            if self.is_lost(&call, false) {
                return Err(Lost);
            }
            // What has arrived is carried out, also where the one that asked for it ends meanwhile.
            let (world, asked) = (Arc::clone(&self), call.clone());
            let reply = tokio::spawn(async move { world.carry_out(&asked).await }).await.expect("no panic");
            self.pass(WAY_MS).await;
            if self.is_lost(&call, true) { Err(Lost) } else { Ok(reply) }
        }
        .boxed()
    }
}
