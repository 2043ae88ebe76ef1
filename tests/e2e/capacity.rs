//! Tables that throttle as DynamoDB does, through an AWS client.

use aws_sdk_dynamodb::{
    Client as DynamoDb,
    config::retry::RetryConfig,
    error::ProvideErrorMetadata,
    types::{AttributeValue, KeysAndAttributes, Put, PutRequest, TransactWriteItem, WriteRequest},
};

use crate::site::{Site, run};

type Item = std::collections::HashMap<String, AttributeValue>;

/// Makes an item of the alerts table, of this many bytes.
fn item(region: &str, seq: usize, bytes: usize) -> Item {
    [
        ("region".to_owned(), AttributeValue::S(region.to_owned())),
        ("seq".to_owned(), AttributeValue::N(seq.to_string())),
        ("text".to_owned(), AttributeValue::S("x".repeat(bytes))),
    ]
    .into()
}

/// Returns a client without retries, of tables with 40 read and 20 write units a second for each partition key.
async fn tables() -> (Site, DynamoDb) {
    let site = Site::with_capacity("40:20").await;
    let sdk = site.sdk().into_builder().retry_config(RetryConfig::disabled()).build();
    let client = DynamoDb::new(&sdk);
    (site, client)
}

const TABLE: &str = "AlertsTable";

#[test]
fn a_partition_above_its_capacity_is_throttled_and_another_one_is_not() {
    run(async {
        let (site, client) = tables().await;
        let put = async |region: &str, bytes: usize| {
            let sent = client.put_item().table_name(TABLE).set_item(Some(item(region, 1, bytes))).send().await;
            sent.err().map(|error| error.code().unwrap_or_default().to_owned())
        };
        // It takes 300 units of 20, so there are none for the next 14 seconds.
        assert_eq!(put("PL", 300_000).await, None);
        assert_eq!(put("PL", 10).await.as_deref(), Some("ThrottlingException"));
        assert_eq!(put("DE", 10).await, None);
        let get = async |region: &str| {
            let key = item(region, 1, 0).into_iter().filter(|(name, _)| name != "text").collect::<Item>();
            client.get_item().table_name(TABLE).set_key(Some(key)).consistent_read(true).send().await
        };
        assert!(get("PL").await.expect("a full bucket").item.is_some());
        let refused = get("PL").await.expect_err("74 units were read, of which 40 were there");
        assert_eq!(refused.code(), Some("ThrottlingException"), "{refused:?}");
        assert!(get("DE").await.expect("another partition").item.is_some());
        let used = site.table_units().expect("counted");
        assert!(used.write >= 294.0 && used.read >= 75.0 && used.throttled == 2, "{used:?}");
    });
}

#[test]
fn of_a_batch_what_is_throttled_is_handed_back_and_a_transaction_is_cancelled() {
    run(async {
        let (_site, client) = tables().await;
        let first = client.put_item().table_name(TABLE).set_item(Some(item("PL", 1, 300_000))).send().await;
        first.expect("a full bucket");
        let request = |region: &str| {
            let put = PutRequest::builder().set_item(Some(item(region, 2, 10))).build().expect("an item");
            WriteRequest::builder().put_request(put).build()
        };
        let batch = client.batch_write_item().request_items(TABLE, vec![request("PL"), request("DE")]).send().await;
        let left = batch.expect("one of them fits").unprocessed_items.unwrap_or_default();
        assert_eq!(left[TABLE], [request("PL")]);
        let put = |region: &str| {
            let put = Put::builder().table_name(TABLE).set_item(Some(item(region, 3, 10))).build().expect("an item");
            TransactWriteItem::builder().put(put).build()
        };
        let sent = client.transact_write_items().transact_items(put("DE")).transact_items(put("PL")).send().await;
        let refused = sent.expect_err("one of them does not fit").into_service_error();
        let cancelled = refused.is_transaction_canceled_exception();
        let message = refused.message().unwrap_or_default();
        assert!(cancelled && message.contains("[None, ThrottlingError]"), "{message}");
        let key = |seq: usize| item("PL", seq, 0).into_iter().filter(|(name, _)| name != "text").collect::<Item>();
        let keys = KeysAndAttributes::builder().keys(key(1)).keys(key(2)).consistent_read(true).build().expect("keys");
        let got = client.batch_get_item().request_items(TABLE, keys).send().await.expect("one of them fits");
        assert_eq!(got.responses.expect("items")[TABLE].len(), 1);
        assert_eq!(got.unprocessed_keys.expect("keys")[TABLE].keys(), [key(2)]);
    });
}
