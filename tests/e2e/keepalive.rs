//! The keepalive: it says whether the subscriptions exist and nothing was missed.

use serde_json::{Value, json};
use shared::tables::alerts::snapshot::Snapshot;

use crate::{
    history::{base_36, new_region, publish},
    site::{Client, Site, run},
};

async fn keepalive(client: &mut Client, regions: &Value, since: &Value) -> Value {
    client.ask(&json!({"type": "keepalive", "regions": regions, "since": since})).await
}

/// Removes a region from the snapshot, as when its log has expired.
async fn sweep(site: &Site, region: &str) {
    let snapshot = Snapshot::new(site.dynamodb(), "AlertsTable".to_owned());
    let region = region.parse().expect("a region");
    let entry = snapshot.read([&region]).await.expect("read")[&region];
    assert!(snapshot.remove(&region, &entry).await.expect("removed"));
}

#[test]
fn an_unchanged_world_is_kept_and_a_lost_push_shows() {
    run(async {
        let site = Site::start().await;
        let (region, silent) = (new_region(), new_region());
        let _watcher = site.watcher(&region).await;
        let first = publish(&site, &region).await;
        let mut client = site.connect("/prod").await;
        client.ask(&json!({"type": "subscribe_region", "regions": [region, silent]})).await;
        let start = json!({"epoch": 0, "seq": 0});
        let regions = json!([region.to_lowercase(), silent]);
        let since = json!({&region: first, &silent: start});
        assert_eq!(keepalive(&mut client, &regions, &since).await, json!({"type": "kept"}));
        let alone = json!({"type": "keepalive", "region": region, "since": first});
        assert_eq!(client.ask(&alone).await, json!({"type": "kept"}));

        let last = publish(&site, &region).await;
        assert_eq!(client.json().await["seq"], 2, "pushed, but say that it was lost");
        let behind = json!({"type": "kept", "behind": [region]});
        assert_eq!(keepalive(&mut client, &regions, &since).await, behind);
        let answer = client.ask(&json!({"type": "subscribe_region", "region": region, "since": first})).await;
        assert_eq!((&answer["alerts"][0]["seq"], &answer["positions"][&region]), (&json!(2), &last));
        assert_eq!(
            keepalive(&mut client, &regions, &json!({&region: last, &silent: start})).await["behind"],
            Value::Null
        );
        // A position of another log, one ahead of this log, and none, which is not compared.
        for other in [json!({"epoch": 7, "seq": 2}), json!({"epoch": last["epoch"], "seq": 3})] {
            assert_eq!(keepalive(&mut client, &regions, &json!({&region: other})).await, behind);
        }
        assert_eq!(keepalive(&mut client, &regions, &json!({})).await, json!({"type": "kept"}));
    });
}

#[test]
fn a_lost_subscription_shows() {
    run(async {
        let site = Site::start().await;
        let (kept, lost) = (new_region(), new_region());
        let mut client = site.connect("/prod").await;
        let never = keepalive(&mut client, &json!([kept, "ALL"]), &json!({})).await;
        assert_eq!(never, json!({"type": "kept", "missing": [kept, "ALL"]}));
        client.ask(&json!({"type": "subscribe_region", "regions": [kept, lost]})).await;
        client.ask(&json!({"type": "unsubscribe_region", "region": lost})).await;
        let regions = json!([kept, lost]);
        assert_eq!(keepalive(&mut client, &regions, &json!({})).await, json!({"type": "kept", "missing": [lost]}));
        client.ask(&json!({"type": "subscribe_region", "region": lost})).await;
        assert_eq!(keepalive(&mut client, &regions, &json!({})).await, json!({"type": "kept"}));
    });
}

#[test]
fn under_all_a_region_that_came_into_being_is_behind_and_so_is_one_that_is_gone() {
    run(async {
        let site = Site::start().await;
        let (known, gone, born) = (new_region(), new_region(), new_region());
        publish(&site, &known).await;
        publish(&site, &gone).await;
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "ALL"})).await;
        let since = answer["positions"].clone();
        assert_eq!(keepalive(&mut client, &json!(["ALL"]), &since).await, json!({"type": "kept"}));
        publish(&site, &born).await;
        client.json().await;
        sweep(&site, &gone).await;
        let mut behind = vec![born, gone.clone()];
        behind.sort();
        let answer = keepalive(&mut client, &json!(["ALL"]), &since).await;
        assert_eq!(answer, json!({"type": "kept", "behind": behind}));

        // Every way to resume reports the gap.
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "ALL", "since": since})).await;
        assert_eq!((&answer["not_recovered"], &answer["positions"][&gone]["epoch"]), (&json!([gone]), &json!(0)));
        let old = &since[&gone];
        let answer = client.ask(&json!({"type": "subscribe_region", "region": gone, "since": old})).await;
        assert_eq!((&answer["recovered"], &answer["not_recovered"]), (&json!(false), &json!([gone])));
        let cursor = format!("{gone}.{}.1", base_36(&old["epoch"]));
        for asked in [gone.as_str(), "ALL"] {
            let (_, page) = site.get(&format!("/alerts?region={asked}&after={cursor}")).await;
            assert_eq!((&page["recovered"], &page["not_recovered"]), (&json!(false), &json!([gone])), "{asked}");
            assert_eq!(page["positions"][&gone], json!({"epoch": 0, "seq": 0}));
        }
    });
}

#[test]
fn a_keepalive_is_read_as_strictly_as_a_subscription() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod").await;
        for (message, code, field) in [
            (json!({"type": "keepalive"}), "missing_field", "region"),
            (json!({"type": "keepalive", "region": "P"}), "invalid_region", "region"),
            (json!({"type": "keepalive", "regions": []}), "invalid_field", "regions"),
            (json!({"type": "keepalive", "region": "PL", "since": {}}), "missing_field", "since.PL"),
            (json!({"type": "keepalive", "region": "ALL", "since": 7}), "invalid_field", "since"),
        ] {
            let answer = client.ask(&message).await;
            assert_eq!((&answer["code"], &answer["field"]), (&json!(code), &json!(field)), "{message}");
        }
    });
}
