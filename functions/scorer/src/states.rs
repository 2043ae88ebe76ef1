//! The scores table: one item a region.
//!
//! | attribute | |
//! |---|---|
//! | `region` (partition key) | the region's name |
//! | `rises` | what is known of it, as JSON ([`Rises`]) |
//! | `version` | counts writes; one goes through only if nobody else has written since the read |
//! | `expires_at` | time to live |

use crate::rises::Rises;
use aws_sdk_dynamodb::Client;
use clock::Clock;
use shared::{
    error::InternalError,
    limits::SCORES_TTL,
    model::audience::Region,
    tables::dynamodb::{UnreadableItem, number, read_number, read_text, text},
};

/// Reads and writes what is known of regions.
#[derive(Clone, Debug)]
pub(crate) struct States {
    client: Client,
    table: String,
    clock: Clock,
}

/// What is known of a region, and when it was read.
#[derive(Debug, Default)]
pub(crate) struct RegionState {
    pub(crate) rises: Rises,
    /// None when there is no item.
    version: Option<u64>,
}

impl States {
    pub(crate) fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock }
    }

    /// What is known of a region; nothing when it is new.
    pub(crate) async fn get(&self, region: &Region) -> Result<RegionState, InternalError> {
        let doing = "reading what is known of a region";
        let get = self.client.get_item().table_name(&self.table).key("region", text(region.as_str()));
        let output = get.consistent_read(true).send().await.map_err(|error| InternalError::new(doing, error))?;
        let Some(item) = output.item else { return Ok(RegionState::default()) };
        let unreadable = |error: UnreadableItem| InternalError::new(doing, error);
        let rises = read_text(&item, "rises").map_err(unreadable)?;
        Ok(RegionState {
            rises: serde_json::from_str(rises).map_err(|error| InternalError::new(doing, error))?,
            version: Some(read_number(&item, "version").map_err(unreadable)?),
        })
    }

    /// Stores it, unless another invocation has stored something since it was read.
    pub(crate) async fn put(&self, region: &Region, state: &mut RegionState) -> Result<(), InternalError> {
        let doing = "storing what is known of a region";
        let rises = serde_json::to_string(&state.rises).map_err(|error| InternalError::new(doing, error))?;
        let version = state.version.map_or(1, |version| version + 1);
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("region", text(region.as_str()))
            .item("rises", text(rises))
            .item("version", number(version))
            .item("expires_at", number(self.clock.now().after(SCORES_TTL).secs()));
        let put = match state.version {
            // A reserved word of DynamoDB.
            None => put
                .condition_expression("attribute_not_exists(#region)")
                .expression_attribute_names("#region", "region"),
            Some(read) => put
                .condition_expression("#version = :read")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":read", number(read)),
        };
        put.send().await.map_err(|error| InternalError::new(doing, error))?;
        state.version = Some(version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, atomic::AtomicI64};

    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region as AwsRegion};
    use aws_smithy_http_client::test_util::infallible_client_fn;
    use aws_smithy_types::body::SdkBody;
    use serde_json::{Value, json};
    use shared::forms::{self, FORM};

    use super::*;

    /// A table that has this item, and what is put into it.
    fn states(item: &Value) -> (States, Arc<Mutex<Vec<Value>>>) {
        let puts = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&puts), json!({"Item": item}).to_string());
        let http = infallible_client_fn(move |request: http::Request<SdkBody>| {
            let body: Value = serde_json::from_slice(request.body().bytes().expect("in memory")).expect("JSON");
            if body.get("Item").is_some() {
                seen.lock().expect("unpoisoned").push(body["Item"].clone());
            }
            http::Response::builder().status(200).body(SdkBody::from(answer.clone())).expect("valid")
        });
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(AwsRegion::new("eu-central-1"))
            .credentials_provider(Credentials::new("t", "t", None, None, "test"))
            .endpoint_url("http://127.0.0.1:1")
            .http_client(http)
            .build();
        let clock = Clock::Manual(Arc::new(AtomicI64::new(1_795_000_000_000)));
        (States::new(Client::from_conf(config), "t".to_owned(), clock), puts)
    }

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../../shared/forms/score_state.1.json")).expect("a golden file")
    }

    /// The same item with what a later form may add: to the item and to the objects of the JSON.
    fn with_additions(mut item: Value) -> Value {
        let mut rises: Value = serde_json::from_str(item["rises"]["S"].as_str().expect("a text")).expect("JSON");
        for object in ["", "/videos/v-1", "/videos/v-1/newest", "/videos/v-1/older", "/outbox/0", "/outbox/0/video"] {
            rises.pointer_mut(object).expect(object)[FORM] = json!(2);
        }
        item["rises"] = json!({"S": rises.to_string()});
        item[FORM] = json!({"N": "2"});
        item
    }

    #[tokio::test]
    async fn what_is_read_of_the_golden_file_is_written_as_it_has_it() {
        let (golden, region) = (golden(), "PL".parse().expect("a region"));
        for item in [golden["PL"].clone(), with_additions(golden["PL"].clone())] {
            let (states, puts) = states(&item);
            let mut state = states.get(&region).await.expect("read");
            let ids: Vec<_> = state.rises.outbox().iter().map(|announcement| announcement.id.as_str()).collect();
            assert_eq!(ids, ["rise:PL:v-1:1795000000000", "rise:PL:v-2:1795000000000"]);
            states.put(&region, &mut state).await.expect("written");
            let mut written = puts.lock().expect("unpoisoned").remove(0);
            assert_eq!(written["version"], json!({"N": "5"}), "one more than was read");
            written["version"] = golden["PL"]["version"].clone();
            // Attributes have no order.
            let written: std::collections::BTreeMap<_, _> = written.as_object().expect("an item").iter().collect();
            let form = forms::named("score_state").expect("a form");
            form.check(&golden, &json!({"PL": written})).unwrap_or_else(|changed| panic!("{changed}"));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_written_over() {
        for (attribute, value) in [("rises", json!({"S": "no JSON"})), ("version", json!({"S": "later"}))] {
            let mut item = golden()["PL"].clone();
            item[attribute] = value;
            let (states, puts) = states(&item);
            states.get(&"PL".parse().expect("a region")).await.expect_err("unreadable");
            assert!(puts.lock().expect("unpoisoned").is_empty());
        }
    }
}
