//! What all tables need from DynamoDB: reading attributes, and reading and writing batches until nothing is left over.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeysAndAttributes, WriteRequest},
};

use crate::{
    error::InternalError,
    limits::{BATCH_BACKOFF, BATCH_GET_KEYS_MAX, BATCH_ROUNDS_MAX, BATCH_WRITE_ITEMS_MAX},
    runtime::backoff::Backoff,
};

/// The attributes of one item.
pub type Item = HashMap<String, AttributeValue>;

pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Reads a string attribute.
pub fn read_text<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, UnreadableItem> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or(UnreadableItem(name))
}

/// Reads a number attribute.
pub fn read_number<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, UnreadableItem> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|value| value.parse().ok()).ok_or(UnreadableItem(name))
}

/// A stored item lacks an attribute, or has one of another type than this version writes.
#[derive(Debug, thiserror::Error)]
#[error("an item has no readable attribute {0}")]
pub struct UnreadableItem(pub(crate) &'static str);

/// Some items of a batch were still unprocessed after the last round.
#[derive(Debug, thiserror::Error)]
#[error("{0} items were still unprocessed after {BATCH_ROUNDS_MAX} rounds")]
struct Unprocessed(usize);

/// Writes or deletes items in batches, sending again what DynamoDB leaves unprocessed, within bounds.
pub(crate) async fn write_all(client: &Client, table: &str, requests: Vec<WriteRequest>) -> Result<(), InternalError> {
    for batch in requests.chunks(BATCH_WRITE_ITEMS_MAX) {
        let mut left = batch.to_vec();
        let mut backoff = Backoff::doubling(BATCH_BACKOFF);
        for round in 0..BATCH_ROUNDS_MAX {
            if round > 0 {
                backoff.pause().await;
            }
            let output = client
                .batch_write_item()
                .request_items(table, left)
                .send()
                .await
                .map_err(|error| InternalError::new("writing a batch of items", error))?;
            left = output.unprocessed_items.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            return Err(InternalError::new("writing a batch of items", Unprocessed(left.len())));
        }
    }
    Ok(())
}

/// Reads items by their keys, consistently and in batches, asking again for what DynamoDB leaves unprocessed, within
/// bounds. Those that are not there are left out; the order is any.
pub(crate) async fn read_all(client: &Client, table: &str, keys: Vec<Item>) -> Result<Vec<Item>, InternalError> {
    let doing = "reading a batch of items";
    let mut items = Vec::new();
    for batch in keys.chunks(BATCH_GET_KEYS_MAX) {
        let mut left = batch.to_vec();
        let mut backoff = Backoff::doubling(BATCH_BACKOFF);
        for round in 0..BATCH_ROUNDS_MAX {
            if round > 0 {
                backoff.pause().await;
            }
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| InternalError::new(doing, error))?;
            let output = client
                .batch_get_item()
                .request_items(table, wanted)
                .send()
                .await
                .map_err(|error| InternalError::new(doing, error))?;
            items.extend(output.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
            left = output
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(table))
                .map_or(Vec::new(), |left| left.keys);
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            return Err(InternalError::new(doing, Unprocessed(left.len())));
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::DeleteRequest;

    use super::*;
    use crate::fake_aws::{FakeResponse, sdk};

    fn deletions(count: usize) -> Vec<WriteRequest> {
        let delete = |n| DeleteRequest::builder().key("k", number(n)).build().expect("complete");
        (0..count).map(|n| WriteRequest::builder().delete_request(delete(n)).build()).collect()
    }

    fn unprocessed(count: usize) -> FakeResponse {
        let items: Vec<String> =
            (0..count).map(|n| format!(r#"{{"DeleteRequest":{{"Key":{{"k":{{"N":"{n}"}}}}}}}}"#)).collect();
        FakeResponse(200, "", format!(r#"{{"UnprocessedItems":{{"t":[{}]}}}}"#, items.join(",")))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_unprocessed_is_sent_again_until_nothing_is_left() {
        let (sdk, requests) = sdk(|before| unprocessed(if before == 0 { 3 } else { 0 }));
        write_all(&Client::new(&sdk), "t", deletions(30)).await.expect("written in the end");
        let sizes: Vec<usize> =
            requests.lock().expect("unpoisoned").iter().map(|body| body.matches("DeleteRequest").count()).collect();
        assert_eq!(sizes, [25, 3, 5], "a full batch, what was left of it, and the rest");
    }

    fn keys(count: usize) -> Vec<Item> {
        (0..count).map(|n| Item::from([("k".to_owned(), number(n))])).collect()
    }

    /// One item, and `left` keys unprocessed.
    fn partly_read(left: usize) -> FakeResponse {
        let keys: Vec<String> = (0..left).map(|n| format!(r#"{{"k":{{"N":"{n}"}}}}"#)).collect();
        let left = match left {
            0 => String::new(),
            _ => format!(r#""t":{{"Keys":[{}],"ConsistentRead":true}}"#, keys.join(",")),
        };
        FakeResponse(200, "", format!(r#"{{"Responses":{{"t":[{{"k":{{"N":"7"}}}}]}},"UnprocessedKeys":{{{left}}}}}"#))
    }

    #[tokio::test(start_paused = true)]
    async fn keys_left_unprocessed_are_asked_for_again_until_none_is_left() {
        let (sdk, requests) = sdk(|before| partly_read(if before == 0 { 3 } else { 0 }));
        let items = read_all(&Client::new(&sdk), "t", keys(105)).await.expect("read in the end");
        let requests = requests.lock().expect("unpoisoned");
        let sizes: Vec<usize> = requests.iter().map(|body| body.matches(r#"{"k":"#).count()).collect();
        assert_eq!((sizes, items.len()), (vec![100, 3, 5], 3), "a full batch, what was left of it, and the rest");
        assert!(requests.iter().all(|body| body.contains(r#""ConsistentRead":true"#)), "{requests:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_never_processed_fail_within_bounds() {
        let (sdk, requests) = sdk(|_| partly_read(1));
        let failure = read_all(&Client::new(&sdk), "t", keys(1)).await.expect_err("never processed");
        assert!(crate::error::ErrorChain(&failure).to_string().contains("1 items were still unprocessed"));
        assert_eq!(requests.lock().expect("unpoisoned").len(), BATCH_ROUNDS_MAX as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_never_processed_fails_within_bounds() {
        let (sdk, requests) = sdk(|_| unprocessed(1));
        let failure = write_all(&Client::new(&sdk), "t", deletions(1)).await.expect_err("never processed");
        assert!(crate::error::ErrorChain(&failure).to_string().contains("1 items were still unprocessed"));
        assert_eq!(requests.lock().expect("unpoisoned").len(), BATCH_ROUNDS_MAX as usize);
    }
}
