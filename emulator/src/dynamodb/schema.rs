//! Keys of tables and indexes, from which the partition of a request is found.

use dynoxide::{Item, types::item_size};
use serde_json::{Map, Value};

/// The keys of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Schema {
    /// Names of the partition key and, if there is one, the sort key.
    keys: Vec<String>,
    pub(super) indexes: Vec<Index>,
    /// Whether the table is on demand, which throttles with another error.
    pub(super) is_on_demand: bool,
}

/// A global secondary index. A local one is part of the partitions of its table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    keys: Vec<String>,
    projection: Projection,
}

#[derive(Debug, PartialEq, Eq)]
enum Projection {
    All,
    /// The keys of the table and the index, and these attributes.
    Some(Vec<String>),
}

/// An entry of an index: what it projects of an item.
#[derive(Debug, PartialEq)]
pub(super) struct IndexEntry {
    /// Value of the partition key, as JSON.
    pub(super) partition: String,
    /// Values of all keys of the index.
    pub(super) place: Vec<Value>,
    pub(super) bytes: usize,
    attributes: Map<String, Value>,
}

impl Schema {
    /// Reads the response to `DescribeTable`.
    pub(super) fn read(described: &Value) -> Option<Self> {
        let table = described.get("Table")?;
        let index = |index: &Value| {
            let projection = &index["Projection"];
            let more = projection["NonKeyAttributes"].as_array().into_iter().flatten();
            Some(Index {
                name: index["IndexName"].as_str()?.to_owned(),
                keys: key_names(&index["KeySchema"])?,
                projection: match projection["ProjectionType"].as_str() {
                    Some("ALL") => Projection::All,
                    _ => Projection::Some(more.filter_map(Value::as_str).map(str::to_owned).collect()),
                },
            })
        };
        let indexes = table["GlobalSecondaryIndexes"].as_array().into_iter().flatten();
        Some(Self {
            keys: key_names(&table["KeySchema"])?,
            indexes: indexes.map(index).collect::<Option<_>>()?,
            is_on_demand: table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST",
        })
    }

    /// The partition of an item or its key.
    pub(super) fn partition_of(&self, item: &Value) -> Option<String> {
        item.get(self.keys.first()?).map(Value::to_string)
    }

    /// The key of an item.
    pub(super) fn key_of(&self, item: &Value) -> Option<Value> {
        let value = |name: &String| Some((name.clone(), item.get(name)?.clone()));
        self.keys.iter().map(value).collect::<Option<Map<_, _>>>().map(Value::Object)
    }

    /// The partition that a query reads, of the table or of the index of this name.
    pub(super) fn queried(&self, query: &Value, index: Option<&str>) -> Option<String> {
        let keys = match index {
            Some(name) => &self.indexes.iter().find(|index| index.name == name)?.keys,
            None => &self.keys,
        };
        let name = keys.first()?;
        if let Some(condition) = query["KeyConditions"].get(name) {
            return condition["AttributeValueList"].get(0).map(Value::to_string);
        }
        let expression = query["KeyConditionExpression"].as_str()?;
        let spaced = expression.replace('=', " = ").replace(['(', ')'], " ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let named = |word: &str| {
            word == name || word.starts_with('#') && query["ExpressionAttributeNames"][word].as_str() == Some(name)
        };
        let value = words.windows(3).find_map(|three| match three {
            [left, "=", right] if named(left) => Some(*right),
            [left, "=", right] if named(right) => Some(*left),
            _ => None,
        })?;
        query["ExpressionAttributeValues"].get(value).map(Value::to_string)
    }
}

impl Index {
    /// The entry of an item. `None` if the item lacks a key of the index.
    pub(super) fn entry(&self, table: &Schema, item: &Value) -> Option<IndexEntry> {
        let place: Vec<Value> = self.keys.iter().map(|key| item.get(key).cloned()).collect::<Option<_>>()?;
        let all = item.as_object()?;
        let attributes: Map<String, Value> = match &self.projection {
            Projection::All => all.clone(),
            Projection::Some(more) => {
                let is_there =
                    |name: &String| table.keys.contains(name) || self.keys.contains(name) || more.contains(name);
                all.iter()
                    .filter(|(name, _)| is_there(name))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            }
        };
        let attributes_value = Value::Object(attributes.clone());
        Some(IndexEntry { partition: place.first()?.to_string(), place, bytes: size(&attributes_value), attributes })
    }
}

/// Size of an item in bytes, as DynamoDB counts it.
pub(super) fn size(item: &Value) -> usize {
    serde_json::from_value::<Item>(item.clone()).map_or(0, |item| item_size(&item))
}

/// Names of the keys, the partition key first.
fn key_names(schema: &Value) -> Option<Vec<String>> {
    let of = |kind: &str| {
        let key = schema.as_array()?.iter().find(|key| key["KeyType"] == kind)?;
        key["AttributeName"].as_str().map(str::to_owned)
    };
    Some(std::iter::once(of("HASH")?).chain(of("RANGE")).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        Schema::read(&json!({"Table": {
            "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "GlobalSecondaryIndexes": [
                {"IndexName": "keys", "KeySchema": [key("g", "HASH")], "Projection": {"ProjectionType": "KEYS_ONLY"}},
                {
                    "IndexName": "all",
                    "KeySchema": [key("g", "HASH"), key("sk", "RANGE")],
                    "Projection": {"ProjectionType": "ALL"},
                },
            ],
        }}))
        .expect("a schema")
    }

    #[test]
    fn the_partition_of_a_query_is_found_however_its_condition_is_written() {
        let check = |query: Value, index: Option<&str>, expected: Option<Value>| {
            assert_eq!(schema().queried(&query, index), expected.map(|value| value.to_string()), "{query}");
        };
        let a = json!({"S": "a"});
        let with = |condition: &str| {
            json!({
                "KeyConditionExpression": condition,
                "ExpressionAttributeNames": {"#p": "pk", "#g": "g"},
                "ExpressionAttributeValues": {":a": a, ":b": {"N": "1"}},
            })
        };
        for condition in ["pk = :a", "#p=:a", "(pk = :a) AND sk > :b", "sk BETWEEN :b AND :b and :a = #p"] {
            check(with(condition), None, Some(a.clone()));
        }
        check(with("#g = :a"), Some("keys"), Some(a.clone()));
        check(with("sk = :b"), None, None);
        check(with("pk = :a"), Some("none"), None);
        check(json!({"KeyConditions": {"pk": {"AttributeValueList": [a]}}}), None, Some(a.clone()));
    }

    #[test]
    fn an_index_holds_what_it_projects_of_items_that_have_its_keys() {
        let schema = schema();
        let item = json!({"pk": {"S": "a"}, "sk": {"N": "1"}, "g": {"S": "x"}, "more": {"S": "yyyy"}});
        let [keys, all] = schema.indexes.as_slice() else { panic!("two") };
        let of_keys = keys.entry(&schema, &item).expect("an entry");
        assert_eq!((of_keys.partition, of_keys.attributes.len()), (r#"{"S":"x"}"#.to_owned(), 3));
        let of_all = all.entry(&schema, &item).expect("an entry");
        assert!(of_all.bytes > of_keys.bytes);
        assert_eq!(of_all.place, [json!({"S": "x"}), json!({"N": "1"})]);
        assert_eq!(keys.entry(&schema, &json!({"pk": {"S": "a"}, "sk": {"N": "1"}})), None);
        assert_eq!(schema.key_of(&item), Some(json!({"pk": {"S": "a"}, "sk": {"N": "1"}})));
    }
}
