//! What both tables need from DynamoDB: reading attributes, and writing batches until nothing is left over.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, WriteRequest},
};
use rand::RngExt;

use crate::{
    error::Failure,
    limits::{BATCH_WRITE_BACKOFF, BATCH_WRITE_ITEMS_MAX, BATCH_WRITE_ROUNDS_MAX},
};

/// The attributes of one item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// A string attribute.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Reads a string attribute.
pub(crate) fn read_text<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, UnreadableItem> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or(UnreadableItem(name))
}

/// Reads a number attribute.
pub(crate) fn read_number<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, UnreadableItem> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|value| value.parse().ok()).ok_or(UnreadableItem(name))
}

/// A stored item lacks an attribute, or has one of another type than this version writes.
#[derive(Debug, thiserror::Error)]
#[error("an item has no readable attribute {0}")]
pub(crate) struct UnreadableItem(pub(crate) &'static str);

/// Some items of a batch were still unprocessed after the last round.
#[derive(Debug, thiserror::Error)]
#[error("{0} items were still unprocessed after {BATCH_WRITE_ROUNDS_MAX} rounds")]
struct Unprocessed(usize);

/// Writes or deletes items in batches, sending again what DynamoDB leaves unprocessed, within bounds.
pub(crate) async fn write_all(client: &Client, table: &str, requests: Vec<WriteRequest>) -> Result<(), Failure> {
    for batch in requests.chunks(BATCH_WRITE_ITEMS_MAX) {
        let mut left = batch.to_vec();
        let mut pause_max = BATCH_WRITE_BACKOFF;
        for round in 0..BATCH_WRITE_ROUNDS_MAX {
            if round > 0 {
                tokio::time::sleep(jittered(pause_max)).await;
                pause_max *= 2;
            }
            let output = client
                .batch_write_item()
                .request_items(table, left)
                .send()
                .await
                .map_err(|error| Failure::new("writing a batch of items", error))?;
            left = output.unprocessed_items.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            return Err(Failure::new("writing a batch of items", Unprocessed(left.len())));
        }
    }
    Ok(())
}

/// A random pause of up to `max`: many that wait for the same thing do not come back together.
pub(crate) fn jittered(max: Duration) -> Duration {
    max.mul_f64(rand::rng().random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::DeleteRequest;

    use super::*;
    use crate::fake_aws::{Answer, sdk};

    fn deletions(count: usize) -> Vec<WriteRequest> {
        let delete = |n| DeleteRequest::builder().key("k", number(n)).build().expect("complete");
        (0..count).map(|n| WriteRequest::builder().delete_request(delete(n)).build()).collect()
    }

    fn unprocessed(count: usize) -> Answer {
        let items: Vec<String> =
            (0..count).map(|n| format!(r#"{{"DeleteRequest":{{"Key":{{"k":{{"N":"{n}"}}}}}}}}"#)).collect();
        Answer(200, "", format!(r#"{{"UnprocessedItems":{{"t":[{}]}}}}"#, items.join(",")))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_unprocessed_is_sent_again_until_nothing_is_left() {
        let (sdk, requests) = sdk(|before| unprocessed(if before == 0 { 3 } else { 0 }));
        write_all(&Client::new(&sdk), "t", deletions(30)).await.expect("written in the end");
        let sizes: Vec<usize> =
            requests.lock().expect("unpoisoned").iter().map(|body| body.matches("DeleteRequest").count()).collect();
        assert_eq!(sizes, [25, 3, 5], "a full batch, what was left of it, and the rest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_never_processed_fails_within_bounds() {
        let (sdk, requests) = sdk(|_| unprocessed(1));
        let failure = write_all(&Client::new(&sdk), "t", deletions(1)).await.expect_err("never processed");
        assert!(crate::error::Chain(&failure).to_string().contains("1 items were still unprocessed"));
        assert_eq!(requests.lock().expect("unpoisoned").len(), BATCH_WRITE_ROUNDS_MAX as usize);
    }
}
