//! The DynamoDB engine, called in this process, with the tables of the project's template.

use std::{collections::BTreeMap, fmt, path::Path};

use apigw_local::{Tables, TemplateSource};
use dynoxide::{Database, errors::DynoxideError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::client::{Call, Reply};

/// The template of the project.
pub fn template() -> TemplateSource {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml").into()
}

/// The tables of the project where it has a feed.
///
/// # Panics
///
/// If the template cannot be read.
pub fn tables() -> Tables {
    let parameters = BTreeMap::from([("FeedUrl".to_owned(), "https://feed.example/counts".to_owned())]);
    Tables::of_template_with(&template(), &parameters).expect("the template")
}

/// A database of its own, in memory, with the tables of the template, whose names are their logical ids.
#[derive(Clone)]
pub struct Engine(Database);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// A new and empty one. Read the tables once for many of them: [`Tables::of_template`] of [`template`].
    ///
    /// # Panics
    ///
    /// If the engine refuses a table, which it has accepted from the same template before.
    pub fn new(tables: &Tables) -> Self {
        Self(tables.in_memory().expect("the engine takes the tables of the template"))
    }

    /// Answers a request to DynamoDB, at once.
    pub fn answer(&self, call: &Call) -> Reply {
        let database = &self.0;
        match call.operation.as_str() {
            "GetItem" => run(call, |request| database.get_item(request)),
            "PutItem" => run(call, |request| database.put_item(request)),
            "UpdateItem" => run(call, |request| database.update_item(request)),
            "DeleteItem" => run(call, |request| database.delete_item(request)),
            "Query" => run(call, |request| database.query(request)),
            "BatchGetItem" => run(call, |request| database.batch_get_item(request)),
            "BatchWriteItem" => run(call, |request| database.batch_write_item(request)),
            "TransactWriteItems" => run(call, |request| database.transact_write_items(request)),
            other => Reply::error(400, "UnknownOperationException", &format!("the world has no {other}")),
        }
    }

    /// All items of a table, in any order.
    ///
    /// # Panics
    ///
    /// If the template has no table of this name.
    pub fn items(&self, table: &str) -> Vec<Value> {
        let request = serde_json::from_value(json!({"TableName": table})).expect("a request");
        let answer = serde_json::to_value(self.0.scan(request).expect("scanned")).expect("serialisable");
        answer["Items"].as_array().cloned().unwrap_or_default()
    }
}

fn run<Q: DeserializeOwned, R: Serialize>(call: &Call, action: impl Fn(Q) -> Result<R, DynoxideError>) -> Reply {
    let request = match serde_json::from_slice(&call.body) {
        Ok(request) => request,
        Err(error) => return Reply::error(400, "SerializationException", &error.to_string()),
    };
    match action(request) {
        Ok(response) => Reply::json(&response),
        Err(error) => Reply { status: error.status_code(), body: error.to_json().into_bytes() },
    }
}
