//! Throughput limits of DynamoDB: a partition that needs more than 3,000 read or 1,000 write units per second is
//! throttled.
//!
//! Here each partition key of a table or an index is a partition. Units are those of the developer guide:
//!
//! - a read costs one unit per 4 KB, and half of that if it is eventually consistent;
//! - a write costs one unit per 1 KB of the larger of the item before and after;
//! - a transaction costs twice as much;
//! - each entry of an index that a write changes costs its own units.
//!
//! A bucket holds the units of one second. The service may keep those of up to five minutes, but does not promise it.
//! Its partitions may hold several keys, and it may split a key with many items: neither is modelled. `Scan` and
//! PartiQL are neither limited nor counted.
//!
//! Source: DynamoDB developer guide, "Read and write operations", "Burst and adaptive capacity", "Throttling issues",
//! and the API reference of each operation.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::Clock;
use dynoxide::{
    Database,
    types::{read_capacity_units_with_consistency, table_write_capacity_units},
};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    engine::{DynamoDbResponse, carry_out, item, refusal},
    schema::{Schema, size},
};
use crate::{aws::arn, rate::TokenBucket};

/// Most buckets of partitions that are kept; above it, full ones are dropped.
const PARTITIONS_MAX: usize = 65_536;

/// Cost of an item in a transaction, relative to one outside.
const TRANSACTION_FACTOR: f64 = 2.0;

/// Units per second of every partition key. Written `READS:WRITES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableCapacity {
    /// Read units per second.
    pub reads: NonZeroU32,
    /// Write units per second.
    pub writes: NonZeroU32,
}

impl TableCapacity {
    /// The limits of the service.
    pub const SERVICE: Self =
        Self { reads: NonZeroU32::new(3_000).expect("above 0"), writes: NonZeroU32::new(1_000).expect("above 0") };
}

/// A text that is not a capacity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid capacity {0:?}: expected READS:WRITES, whole numbers above zero, such as 3000:1000")]
pub struct TableCapacityError(String);

impl FromStr for TableCapacity {
    type Err = TableCapacityError;

    fn from_str(text: &str) -> Result<Self, TableCapacityError> {
        let number = |number: &str| number.parse::<NonZeroU32>().map_err(|_| TableCapacityError(text.to_owned()));
        let (reads, writes) = text.split_once(':').ok_or_else(|| TableCapacityError(text.to_owned()))?;
        Ok(Self { reads: number(reads)?, writes: number(writes)? })
    }
}

/// Units used so far by all tables, and how often they were throttled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TableUnits {
    /// Read units.
    pub read: f64,
    /// Write units, those of indexes included.
    pub write: f64,
    /// Requests, and items of batches, that were throttled.
    pub throttled: u64,
}

/// A partition of a table, or of one of its indexes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Partition {
    pub(super) table: String,
    pub(super) index: Option<String>,
    /// Value of the partition key, as JSON.
    pub(super) key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum CapacityKind {
    Read,
    Write,
}

impl CapacityKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

/// Units by partition.
type Units = Vec<(Partition, f64)>;

/// Token buckets of all partitions.
#[derive(Debug)]
pub(crate) struct Capacity {
    limits: TableCapacity,
    clock: Clock,
    buckets: Mutex<HashMap<(CapacityKind, Partition), TokenBucket>>,
    schemas: Mutex<HashMap<String, Arc<Schema>>>,
    used: Mutex<TableUnits>,
}

/// One item that a request writes.
struct ItemChange {
    table: String,
    schema: Arc<Schema>,
    key: Value,
    /// The item before.
    old: Option<Value>,
    /// The item after, as far as the request determines it.
    new: ItemAfter,
}

/// An item after a request.
enum ItemAfter {
    /// The item of the request.
    Put(Value),
    /// No item.
    Deleted,
    /// An item that only the database knows.
    Updated,
    /// The item before.
    Same,
}

impl Capacity {
    pub(crate) fn new(limits: TableCapacity, clock: Clock) -> Self {
        let (buckets, schemas, used) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { limits, clock, buckets, schemas, used }
    }

    pub(crate) fn used(&self) -> TableUnits {
        *lock(&self.used)
    }

    /// Carries out an operation, or throttles it if its partitions have no capacity left.
    pub(super) fn carry_out(&self, database: &Database, operation: &str, body: &str) -> DynamoDbResponse {
        let limited = serde_json::from_str::<Value>(body).ok().and_then(|input| match operation {
            "GetItem" => self.get(database, body, &input),
            "Query" => self.query(database, input),
            "PutItem" | "UpdateItem" | "DeleteItem" => self.write(database, operation, body, &input),
            "BatchGetItem" => self.batch_get(database, input),
            "BatchWriteItem" => self.batch_write(database, input),
            "TransactGetItems" => self.transact_get(database, body, &input),
            "TransactWriteItems" => self.transact_write(database, body, &input),
            "CreateTable" | "UpdateTable" | "DeleteTable" => {
                lock(&self.schemas).clear();
                None
            }
            _ => None,
        });
        // The engine refuses a request with an unknown table or key.
        limited.unwrap_or_else(|| carry_out(database, operation, body))
    }

    fn get(&self, database: &Database, body: &str, input: &Value) -> Option<DynamoDbResponse> {
        let (partition, units) = self.cost_of_read(database, input["TableName"].as_str()?, &input["Key"], input)?;
        if let Some(throttled) = self.throttled(CapacityKind::Read, &[(partition.clone(), units)]) {
            return Some(self.refuse(database, CapacityKind::Read, &throttled, 1));
        }
        self.charge(CapacityKind::Read, &[(partition, units)]);
        Some(carry_out(database, "GetItem", body))
    }

    fn query(&self, database: &Database, mut input: Value) -> Option<DynamoDbResponse> {
        let table = input["TableName"].as_str()?.to_owned();
        let index = input["IndexName"].as_str().map(str::to_owned);
        let schema = self.schema(database, &table)?;
        let key = schema.queried(&input, index.as_deref())?;
        let partition = Partition { table, index, key };
        // The cost of a query is known afterwards. It is charged then, and later requests wait for it.
        let least = if input["ConsistentRead"] == true { 1.0 } else { 0.5 };
        if let Some(throttled) = self.throttled(CapacityKind::Read, &[(partition.clone(), least)]) {
            return Some(self.refuse(database, CapacityKind::Read, &throttled, 1));
        }
        let asked = input["ReturnConsumedCapacity"].as_str().is_some_and(|asked| asked != "NONE");
        if !asked {
            input["ReturnConsumedCapacity"] = json!("TOTAL");
        }
        let (status, answer) = carry_out(database, "Query", &input.to_string());
        let Ok(Value::Object(mut output)) = serde_json::from_str(&answer) else { return Some((status, answer)) };
        let units = output.get("ConsumedCapacity").and_then(|consumed| consumed["CapacityUnits"].as_f64());
        self.charge(CapacityKind::Read, &[(partition, units.unwrap_or(least))]);
        if asked {
            return Some((status, answer));
        }
        output.remove("ConsumedCapacity");
        Some((status, Value::Object(output).to_string()))
    }

    fn write(&self, database: &Database, operation: &str, body: &str, input: &Value) -> Option<DynamoDbResponse> {
        let change = self.change(database, operation.trim_end_matches("Item"), input)?;
        let estimate = change.cost(&change.expected(), 1.0);
        if let Some(throttled) = self.throttled(CapacityKind::Write, &estimate) {
            return Some(self.refuse(database, CapacityKind::Write, &throttled, 1));
        }
        let answer = carry_out(database, operation, body);
        self.charge(CapacityKind::Write, &change.cost(&change.actual(database, answer.0), 1.0));
        Some(answer)
    }

    fn batch_get(&self, database: &Database, mut input: Value) -> Option<DynamoDbResponse> {
        let mut unprocessed = Map::new();
        let mut first = None;
        let (mut refused, mut asked) = (0, 0);
        for (table, request) in input["RequestItems"].as_object_mut()? {
            let keys = std::mem::take(request["Keys"].as_array_mut()?);
            asked += keys.len();
            let (mut taken, mut left) = (Vec::new(), Vec::new());
            for key in keys {
                let cost = self.cost_of_read(database, table, &key, request)?;
                match self.throttled(CapacityKind::Read, std::slice::from_ref(&cost)) {
                    None => {
                        self.charge(CapacityKind::Read, &[cost]);
                        taken.push(key);
                    }
                    Some(throttled) => {
                        first.get_or_insert(throttled);
                        left.push(key);
                    }
                }
            }
            refused += left.len();
            if !left.is_empty() {
                let mut rest = request.clone();
                rest["Keys"] = Value::Array(left);
                unprocessed.insert(table.clone(), rest);
            }
            request["Keys"] = Value::Array(taken);
        }
        self.batched(database, "BatchGetItem", input, "UnprocessedKeys", unprocessed, first, refused == asked, refused)
    }

    fn batch_write(&self, database: &Database, mut input: Value) -> Option<DynamoDbResponse> {
        let mut unprocessed = Map::new();
        let mut first = None;
        let mut changes = Vec::new();
        let mut refused = 0;
        for (table, requests) in input["RequestItems"].as_object_mut()? {
            let (mut taken, mut left) = (Vec::new(), Vec::new());
            for request in std::mem::take(requests.as_array_mut()?) {
                let change = self.change_of_batch(database, table, &request)?;
                let cost = change.cost(&change.expected(), 1.0);
                match self.throttled(CapacityKind::Write, &cost) {
                    None => {
                        self.charge(CapacityKind::Write, &cost);
                        changes.push(change);
                        taken.push(request);
                    }
                    Some(throttled) => {
                        first.get_or_insert(throttled);
                        left.push(request);
                    }
                }
            }
            refused += left.len();
            if !left.is_empty() {
                unprocessed.insert(table.clone(), Value::Array(left));
            }
            *requests = Value::Array(taken);
        }
        let none = changes.is_empty();
        self.batched(database, "BatchWriteItem", input, "UnprocessedItems", unprocessed, first, none, refused)
    }

    /// Carries out the part of a batch that has capacity and reports the rest as unprocessed. Throttles the batch if
    /// that is all.
    #[expect(clippy::too_many_arguments, reason = "both batch operations end here")]
    fn batched(
        &self,
        database: &Database,
        operation: &str,
        mut input: Value,
        unprocessed_name: &str,
        unprocessed: Map<String, Value>,
        throttled: Option<(CapacityKind, Partition)>,
        is_all: bool,
        refused: usize,
    ) -> Option<DynamoDbResponse> {
        let Some(throttled) = throttled else { return Some(carry_out(database, operation, &input.to_string())) };
        if is_all {
            return Some(self.refuse(database, throttled.0, &throttled, refused));
        }
        lock(&self.used).throttled += refused as u64;
        let items = input["RequestItems"].as_object_mut()?;
        items.retain(|_, requests| {
            requests.get("Keys").unwrap_or(requests).as_array().is_some_and(|requests| !requests.is_empty())
        });
        let (status, answer) = carry_out(database, operation, &input.to_string());
        let Ok(mut output) = serde_json::from_str::<Value>(&answer) else { return Some((status, answer)) };
        if status == StatusCode::OK {
            output[unprocessed_name] = Value::Object(unprocessed);
        }
        Some((status, output.to_string()))
    }

    fn transact_get(&self, database: &Database, body: &str, input: &Value) -> Option<DynamoDbResponse> {
        let consistent = json!({"ConsistentRead": true});
        let mut costs = Vec::new();
        for item in input["TransactItems"].as_array()? {
            let get = &item["Get"];
            let (partition, units) =
                self.cost_of_read(database, get["TableName"].as_str()?, &get["Key"], &consistent)?;
            costs.push(vec![(partition, units * TRANSACTION_FACTOR)]);
        }
        if let Some(cancelled) = self.cancelled(CapacityKind::Read, &costs) {
            return Some(cancelled);
        }
        self.charge(CapacityKind::Read, &costs.concat());
        Some(carry_out(database, "TransactGetItems", body))
    }

    fn transact_write(&self, database: &Database, body: &str, input: &Value) -> Option<DynamoDbResponse> {
        let mut changes = Vec::new();
        for item in input["TransactItems"].as_array()? {
            let (operation, request) = item.as_object()?.iter().next()?;
            changes.push(self.change(database, operation, request)?);
        }
        let costs: Vec<_> = changes.iter().map(|change| change.cost(&change.expected(), TRANSACTION_FACTOR)).collect();
        if let Some(cancelled) = self.cancelled(CapacityKind::Write, &costs) {
            return Some(cancelled);
        }
        let answer = carry_out(database, "TransactWriteItems", body);
        for change in &changes {
            // A cancelled transaction costs as much as a successful one.
            self.charge(CapacityKind::Write, &change.cost(&change.actual(database, answer.0), TRANSACTION_FACTOR));
        }
        Some(answer)
    }

    /// Cancels a transaction if its partitions lack the capacity for all of its items.
    fn cancelled(&self, kind: CapacityKind, costs: &[Units]) -> Option<DynamoDbResponse> {
        self.throttled(kind, &costs.concat())?;
        lock(&self.used).throttled += 1;
        let reason = |cost: &Units| match self.throttled(kind, cost) {
            Some(_) => json!({"Code": "ThrottlingError", "Message": MESSAGE}),
            None => json!({"Code": "None"}),
        };
        let mut reasons: Vec<Value> = costs.iter().map(reason).collect();
        if reasons.iter().all(|reason| reason["Code"] == "None") {
            // There is capacity for each item, but not for all of them.
            reasons.fill(json!({"Code": "ThrottlingError", "Message": MESSAGE}));
        }
        let codes: Vec<_> = reasons.iter().filter_map(|reason| reason["Code"].as_str()).collect();
        let message = format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        );
        let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
        let body = json!({"__type": kind, "Message": message, "CancellationReasons": reasons});
        Some((StatusCode::BAD_REQUEST, body.to_string()))
    }

    /// The partition and the units of a read of one item.
    fn cost_of_read(&self, database: &Database, table: &str, key: &Value, options: &Value) -> Option<(Partition, f64)> {
        let schema = self.schema(database, table)?;
        let partition = Partition { table: table.to_owned(), index: None, key: schema.partition_of(key)? };
        let bytes = item(database, table, key).map_or(0, |item| size(&item));
        let is_consistent = options["ConsistentRead"] == true;
        Some((partition, read_capacity_units_with_consistency(bytes, is_consistent)))
    }

    fn change_of_batch(&self, database: &Database, table: &str, request: &Value) -> Option<ItemChange> {
        let put = &request["PutRequest"];
        let (operation, mut request) =
            if put.is_object() { ("Put", put.clone()) } else { ("Delete", request["DeleteRequest"].clone()) };
        request["TableName"] = json!(table);
        self.change(database, operation, &request)
    }

    /// The change that `Put`, `Update`, `Delete` or `ConditionCheck` makes.
    fn change(&self, database: &Database, operation: &str, request: &Value) -> Option<ItemChange> {
        let table = request["TableName"].as_str()?.to_owned();
        let schema = self.schema(database, &table)?;
        let (key, new) = match operation {
            "Put" => (schema.key_of(&request["Item"])?, ItemAfter::Put(request["Item"].clone())),
            "Delete" => (request["Key"].clone(), ItemAfter::Deleted),
            "Update" => (request["Key"].clone(), ItemAfter::Updated),
            "ConditionCheck" => (request["Key"].clone(), ItemAfter::Same),
            _ => return None,
        };
        schema.partition_of(&key)?;
        let old = item(database, &table, &key);
        Some(ItemChange { table, schema, key, old, new })
    }

    fn schema(&self, database: &Database, table: &str) -> Option<Arc<Schema>> {
        if let Some(known) = lock(&self.schemas).get(table) {
            return Some(Arc::clone(known));
        }
        let (_, description) = carry_out(database, "DescribeTable", &json!({"TableName": table}).to_string());
        let schema = Arc::new(Schema::read(&serde_json::from_str(&description).ok()?)?);
        lock(&self.schemas).insert(table.to_owned(), Arc::clone(&schema));
        Some(schema)
    }

    /// The first partition without enough capacity. A cost above the size of a bucket needs a full bucket.
    fn throttled(&self, kind: CapacityKind, costs: &[(Partition, f64)]) -> Option<(CapacityKind, Partition)> {
        let mut totals: BTreeMap<&Partition, f64> = BTreeMap::new();
        for (partition, units) in costs {
            *totals.entry(partition).or_default() += units;
        }
        let now = self.clock.now();
        let buckets = &mut *lock(&self.buckets);
        let lacking = totals.into_iter().find(|(partition, units)| {
            let bucket = buckets.get_mut(&(kind, (*partition).clone()));
            bucket.is_some_and(|bucket| !bucket.has(*units, now))
        });
        lacking.map(|(partition, _)| (kind, partition.clone()))
    }

    fn charge(&self, kind: CapacityKind, costs: &[(Partition, f64)]) {
        let now = self.clock.now();
        let per_second = match kind {
            CapacityKind::Read => f64::from(self.limits.reads.get()),
            CapacityKind::Write => f64::from(self.limits.writes.get()),
        };
        let mut buckets = lock(&self.buckets);
        for (partition, units) in costs {
            if buckets.len() >= PARTITIONS_MAX {
                buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            let bucket = buckets.entry((kind, partition.clone()));
            bucket.or_insert_with(|| TokenBucket::full(per_second, per_second, now)).charge(*units, now);
        }
        let total: f64 = costs.iter().map(|(_, units)| units).sum();
        let mut used = lock(&self.used);
        match kind {
            CapacityKind::Read => used.read += total,
            CapacityKind::Write => used.write += total,
        }
    }

    /// Throttles a request, or all `items` of a batch.
    fn refuse(
        &self,
        database: &Database,
        kind: CapacityKind,
        (_, partition): &(CapacityKind, Partition),
        items: usize,
    ) -> DynamoDbResponse {
        lock(&self.used).throttled += items as u64;
        let Partition { table, index, key } = partition;
        tracing::debug!(table, index, key, kind = kind.name(), "throttled: the partition has no capacity left");
        let is_on_demand = self.schema(database, table).is_some_and(|schema| schema.is_on_demand);
        let name = if is_on_demand { "ThrottlingException" } else { "ProvisionedThroughputExceededException" };
        let (status, body) = refusal(&format!("com.amazonaws.dynamodb.v20120810#{name}"), MESSAGE);
        let Ok(mut body) = serde_json::from_str::<Value>(&body) else { return (status, body) };
        let (of, resource) = match index {
            Some(index) => ("Index", format!("table/{table}/index/{index}")),
            None => ("Table", format!("table/{table}")),
        };
        let reason = format!("{of}{}KeyRangeThroughputExceeded", kind.name());
        body["throttlingReasons"] = json!([{"reason": reason, "resource": arn("dynamodb", &resource)}]);
        (status, body.to_string())
    }
}

/// The service's message for a partition without capacity.
const MESSAGE: &str = "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically \
    scaling your table or index so please try again shortly. If exceptions persist, check if you have a hot key: \
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html";

impl ItemChange {
    /// The item after, as expected before the request.
    fn expected(&self) -> Option<Value> {
        match &self.new {
            ItemAfter::Put(item) => Some(item.clone()),
            ItemAfter::Deleted => None,
            ItemAfter::Updated | ItemAfter::Same => self.old.clone(),
        }
    }

    /// The item after a request with this status. A failed request changes nothing.
    fn actual(&self, database: &Database, status: StatusCode) -> Option<Value> {
        match &self.new {
            ItemAfter::Updated if status == StatusCode::OK => item(database, &self.table, &self.key),
            _ if status != StatusCode::OK => self.old.clone(),
            _ => self.expected(),
        }
    }

    /// The units of each partition that the change writes to.
    fn cost(&self, new: &Option<Value>, factor: f64) -> Units {
        let Self { table, schema, key, old, .. } = self;
        let bytes = |item: &Option<Value>| item.as_ref().map(size);
        let of_table = Partition {
            table: table.clone(),
            index: None,
            // The change could not be read without it.
            key: schema.partition_of(key).unwrap_or_default(),
        };
        let mut costs = vec![(of_table, table_write_capacity_units(bytes(old), bytes(new)) * factor)];
        for index in &schema.indexes {
            let entry = |item: &Option<Value>| item.as_ref().and_then(|item| index.entry(schema, item));
            let (before, after) = (entry(old), entry(new));
            if before == after {
                continue;
            }
            let partition =
                |key: &str| Partition { table: table.clone(), index: Some(index.name.clone()), key: key.to_owned() };
            // The factor of transactions applies to the table, not to its indexes.
            match (before, after) {
                (Some(before), Some(after)) if before.place == after.place => {
                    let units = table_write_capacity_units(Some(before.bytes), Some(after.bytes));
                    costs.push((partition(&after.partition), units));
                }
                (before, after) => {
                    for entry in [before, after].into_iter().flatten() {
                        costs.push((partition(&entry.partition), table_write_capacity_units(None, Some(entry.bytes))));
                    }
                }
            }
        }
        costs
    }
}

/// Locks a mutex. A panic while it was held leaves the value consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
