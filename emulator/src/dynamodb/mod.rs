//! DynamoDB: the embedded engine behind the API that AWS clients speak, with the tables of the template.

pub(crate) mod api;
mod capacity;
mod engine;
mod schema;
mod streams;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use clock::Clock;
use dynoxide::Database;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::capacity::{TableCapacity, TableCapacityError, TableUnits};
pub(crate) use self::streams::{RETENTION as STREAM_RETENTION, StreamLog, StreamReader, StreamRecord};
use self::{
    capacity::Capacity,
    engine::{DynamoDbResponse, carry_out},
    streams::Streams,
};

use crate::template::{LoadError, TableStream, Template, TemplateInputs, TemplateSource};

/// Time between two removals of expired items. The service removes them within days.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// File of the database within the data directory.
const FILE: &str = "dynamodb.sqlite";

/// File in the data directory that the process which uses it locks. It says which process that is.
const LOCK_FILE: &str = "lock";

/// Why the database or a table could not be created.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {0}")]
    Directory(PathBuf, #[source] std::io::Error),
    /// Another process uses the data directory. The two would remove each other's connections.
    #[error("the data directory {directory} is in use by {holder}; stop that process, or name another with --data-dir")]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Which process, and since when.
        holder: String,
    },
    /// The engine failed.
    #[error("the DynamoDB engine failed while {0}")]
    Engine(String, #[source] dynoxide::errors::DynoxideError),
    /// The template declares a table that DynamoDB would refuse.
    #[error("invalid table {0} in the template")]
    Invalid(String, #[source] serde_json::Error),
}

/// The tables of a template.
#[derive(Clone, Debug)]
pub struct Tables(BTreeMap<String, Value>);

impl Tables {
    /// Reads the tables of a template, with the defaults of its parameters.
    pub fn of_template(source: &TemplateSource) -> Result<Self, LoadError> {
        Self::of_template_with(source, &BTreeMap::new())
    }

    /// Reads the tables of a template, with parameters that differ from their defaults.
    pub fn of_template_with(source: &TemplateSource, parameters: &BTreeMap<String, String>) -> Result<Self, LoadError> {
        let inputs = TemplateInputs { parameters: parameters.clone(), ..TemplateInputs::default() };
        Template::load(source, &inputs).map(|template| Self(template.tables))
    }

    /// Creates a database with these tables in memory.
    pub fn in_memory(&self) -> Result<Database, DatabaseError> {
        database(None, &self.0)
    }
}

/// The database of a running emulator.
pub(crate) struct Store {
    database: Database,
    /// The tables of the template.
    tables: BTreeMap<String, Value>,
    /// Limits of partitions, if there are any.
    capacity: Option<Capacity>,
    /// What writes change in tables with a stream.
    streams: Streams,
    clock: Clock,
    /// Held by operations together, and by a reset alone: it makes the tables anew, and nobody sees them gone.
    clearing: RwLock<()>,
    /// Keeps other processes out of the data directory.
    _lock: Option<File>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Store {
    /// Capacity units used so far, if they are counted.
    pub(crate) fn units(&self) -> Option<TableUnits> {
        self.capacity.as_ref().map(Capacity::used)
    }

    /// Removes all items of the template's tables and what waits in their streams, and returns how many tables that
    /// are. Tables that functions have created stay as they are.
    pub(crate) fn clear(&self) -> Result<usize, DatabaseError> {
        let _alone = self.clearing.write().unwrap_or_else(PoisonError::into_inner);
        for (name, properties) in &self.tables {
            let deleting = |error| DatabaseError::Engine(format!("emptying {name}"), error);
            let request = serde_json::json!({"TableName": name});
            let request =
                serde_json::from_value(request).map_err(|error| DatabaseError::Invalid(name.clone(), error))?;
            self.database.delete_table(request).map_err(deleting)?;
            create(&self.database, name, properties)?;
        }
        self.streams.clear();
        Ok(self.tables.len())
    }

    /// The stream of a table. `None` if it has none that invokes a function.
    pub(crate) fn stream(&self, table: &str) -> Option<&Arc<StreamLog>> {
        self.streams.of(table)
    }

    /// Carries out an operation. Input and output are JSON.
    pub(crate) fn carry_out(&self, operation: &str, body: &str) -> DynamoDbResponse {
        let _together = self.clearing.read().unwrap_or_else(PoisonError::into_inner);
        let perform = || match &self.capacity {
            Some(capacity) => capacity.carry_out(&self.database, operation, body),
            None => carry_out(&self.database, operation, body),
        };
        if self.streams.concerns(operation, body) {
            return self.streams.carry_out(&self.database, operation, body, perform);
        }
        perform()
    }
}

/// Opens the database, in memory or in a directory, and creates missing tables.
pub(crate) fn open(
    data_dir: Option<&Path>,
    tables: &BTreeMap<String, Value>,
    streams: &[TableStream],
    capacity: Option<TableCapacity>,
    clock: &Clock,
) -> Result<Arc<Store>, DatabaseError> {
    let lock = data_dir.map(|directory| lock(directory, clock)).transpose()?;
    let database = database(data_dir, tables)?;
    let capacity = capacity.map(|limits| Capacity::new(limits, clock.clone()));
    let streams = Streams::new(streams, &database, clock);
    Ok(Arc::new(Store {
        database,
        tables: tables.clone(),
        capacity,
        streams,
        clock: clock.clone(),
        clearing: RwLock::default(),
        _lock: lock,
    }))
}

fn database(data_dir: Option<&Path>, tables: &BTreeMap<String, Value>) -> Result<Database, DatabaseError> {
    let engine = |doing: String| move |error| DatabaseError::Engine(doing, error);
    let database = match data_dir {
        None => Database::memory().map_err(engine("opening a database in memory".to_owned()))?,
        Some(directory) => {
            let file = directory.join(FILE);
            Database::new(&file.to_string_lossy()).map_err(engine(format!("opening {}", file.display())))?
        }
    };
    for (name, properties) in tables {
        let known = database.get_table_metadata(name).map_err(engine(format!("looking up {name}")))?;
        if known.is_none() {
            create(&database, name, properties)?;
        }
    }
    Ok(database)
}

/// Locks the data directory for this process. The system unlocks it when the process ends, even if it is killed.
fn lock(directory: &Path, clock: &Clock) -> Result<File, DatabaseError> {
    let unusable = |error| DatabaseError::Directory(directory.to_owned(), error);
    std::fs::create_dir_all(directory).map_err(unusable)?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(directory.join(LOCK_FILE)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The other process may not have written it yet.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            return Err(DatabaseError::InUse { directory: directory.to_owned(), holder });
        }
    }
    let holder = format!("the process {} since {}", std::process::id(), clock.now().rfc3339());
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(holder.as_bytes())).map_err(unusable)?;
    Ok(file)
}

/// Properties with the same name and form in `CreateTable` and CloudFormation.
const CREATE_TABLE_PROPERTIES: [&str; 6] = [
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "ProvisionedThroughput",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
];

fn create(database: &Database, name: &str, properties: &Value) -> Result<(), DatabaseError> {
    let invalid = |error| DatabaseError::Invalid(name.to_owned(), error);
    let engine = |error| DatabaseError::Engine(format!("creating {name}"), error);
    let mut request = serde_json::json!({"TableName": name});
    for property in CREATE_TABLE_PROPERTIES {
        if let Some(value) = properties.get(property) {
            request[property] = typed(value);
        }
    }
    database.create_table(serde_json::from_value(request).map_err(invalid)?).map_err(engine)?;
    if let Some(specification) = properties.get("TimeToLiveSpecification") {
        let request = serde_json::json!({"TableName": name, "TimeToLiveSpecification": typed(specification)});
        database.update_time_to_live(serde_json::from_value(request).map_err(invalid)?).map_err(engine)?;
    }
    Ok(())
}

/// Converts texts to numbers and booleans as CloudFormation does: values of parameters are text.
fn typed(value: &Value) -> Value {
    let entry = |(name, value): (&String, &Value)| {
        let converted = match (name.as_str(), value) {
            ("ReadCapacityUnits" | "WriteCapacityUnits", Value::String(text)) => text.parse().ok().map(Value::Number),
            ("Enabled", Value::String(text)) => text.parse().ok().map(Value::Bool),
            _ => None,
        };
        (name.clone(), converted.unwrap_or_else(|| typed(value)))
    };
    match value {
        Value::Object(entries) => Value::Object(entries.iter().map(entry).collect()),
        Value::Array(items) => Value::Array(items.iter().map(typed).collect()),
        _ => value.clone(),
    }
}

/// Removes expired items every minute until `shutdown`.
pub(crate) fn sweep(store: Arc<Store>, shutdown: CancellationToken, tasks: &TaskTracker) {
    tasks.spawn(async move {
        while shutdown.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            let sweeper = Arc::clone(&store);
            let sweep = move || {
                let _together = sweeper.clearing.read().unwrap_or_else(PoisonError::into_inner);
                sweeper.streams.sweep(&sweeper.database, sweeper.clock.now().secs())
            };
            if let Ok(Err(error)) = tokio::task::spawn_blocking(sweep).await {
                tracing::warn!(%error, "expired items not removed");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_data_directory_is_of_one_process_until_that_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || open(Some(directory.path()), &BTreeMap::new(), &[], None, &Clock::System);
        let first = open().expect("opened");
        let refused = open().expect_err("in use").to_string();
        let holder = format!("is in use by the process {} since 2", std::process::id());
        assert!(refused.contains(&holder), "{refused}");
        drop(first);
        open().expect("free again");
    }

    #[test]
    fn a_table_that_is_cleared_is_there_all_the_time() {
        let table = json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        let store = open(None, &[("table".to_owned(), table)].into(), &[], None, &Clock::System).expect("created");
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let put = json!({"TableName": "table", "Item": {"id": {"S": "a"}}}).to_string();
                        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                            let (status, answer) = store.carry_out("PutItem", &put);
                            assert_eq!(status, hyper::StatusCode::OK, "{answer}");
                        }
                    })
                })
                .collect();
            for _ in 0..50 {
                assert_eq!(store.clear().expect("cleared"), 1);
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            writers.into_iter().for_each(|writer| writer.join().expect("no error"));
        });
    }

    #[test]
    fn numbers_and_booleans_of_a_table_may_come_from_parameters() {
        let units = json!({"ReadCapacityUnits": "5", "WriteCapacityUnits": 5});
        let table = json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "ProvisionedThroughput": units,
            "GlobalSecondaryIndexes": [{
                "IndexName": "by_id",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
                "ProvisionedThroughput": units,
            }],
            "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": "true"},
        });
        let open = |table: Value| open(None, &[("table".to_owned(), table)].into(), &[], None, &Clock::System);
        open(table.clone()).expect("created");
        let mut refused = table;
        refused["ProvisionedThroughput"]["ReadCapacityUnits"] = json!("many");
        assert!(open(refused).is_err(), "not a number");
    }
}
