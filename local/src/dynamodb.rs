//! DynamoDB: the embedded engine behind its HTTP server, with the tables of the template.

use std::{collections::BTreeMap, path::Path, time::Duration};

use dynoxide::Database;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::template::{LoadError, Template};

/// Time between two removals of expired items. The service promises it within days.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// File of the database within the data directory.
const FILE: &str = "dynamodb.sqlite";

/// Why the database or a table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {0}")]
    Directory(std::path::PathBuf, #[source] std::io::Error),
    /// The engine failed.
    #[error("the DynamoDB engine failed while {0}")]
    Engine(String, #[source] dynoxide::errors::DynoxideError),
    /// The template declares a table in a way that DynamoDB would refuse.
    #[error("the table {0} of the template is not a table")]
    Invalid(String, #[source] serde_json::Error),
}

/// The tables of a template.
#[derive(Clone, Debug)]
pub struct Tables(BTreeMap<String, Value>);

impl Tables {
    /// Reads those of the template at `path`, whose parameters have their defaults.
    pub fn of_template(path: &Path) -> Result<Self, LoadError> {
        Template::load(path, &BTreeMap::new()).map(|template| Self(template.tables))
    }

    /// A database with these tables, in memory or in a directory.
    pub fn open(&self, data_dir: Option<&Path>) -> Result<Database, DatabaseError> {
        open(data_dir, &self.0)
    }
}

/// Opens the database, in memory or in a directory, and creates the tables that are not there yet.
pub(crate) fn open(data_dir: Option<&Path>, tables: &BTreeMap<String, Value>) -> Result<Database, DatabaseError> {
    let engine = |doing: String| move |error| DatabaseError::Engine(doing, error);
    let database = match data_dir {
        None => Database::memory().map_err(engine("opening a database in memory".to_owned()))?,
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .map_err(|error| DatabaseError::Directory(directory.to_owned(), error))?;
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

/// Properties that `CreateTable` takes under the same name and in the same form as CloudFormation.
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

/// The value with numbers and booleans where it has them as text: parameters are text, which CloudFormation converts.
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

/// Serves the database on `listener`, and removes expired items from time to time, until `shutdown`.
pub(crate) fn serve(database: Database, listener: TcpListener, shutdown: CancellationToken, tasks: &TaskTracker) {
    let sweeper = database.clone();
    let swept_until = shutdown.clone();
    tasks.spawn(async move {
        while swept_until.run_until_cancelled(tokio::time::sleep(SWEEP_EVERY)).await.is_some() {
            let sweeper = sweeper.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || sweeper.sweep_ttl()).await {
                tracing::warn!(%error, "expired items not removed");
            }
        }
    });
    tasks.spawn(async move {
        if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, shutdown.cancelled_owned()).await
        {
            tracing::error!(error, "the DynamoDB engine stopped");
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        open(None, &[("table".to_owned(), table.clone())].into()).expect("created");
        let mut refused = table;
        refused["ProvisionedThroughput"]["ReadCapacityUnits"] = json!("many");
        assert!(open(None, &[("table".to_owned(), refused)].into()).is_err(), "not a number");
    }
}
