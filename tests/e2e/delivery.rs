//! Who receives an alert, and what happens to dead connections.

use aws_sdk_dynamodb::types::AttributeValue;
use clock::Clock;
use futures_util::StreamExt;
use serde_json::{Value, json};
use shared::{
    model::{
        alert::Format,
        audience::Audience,
        connection::{Connection, ConnectionId, Slot},
    },
    tables::subscriptions::{
        Subscriptions,
        connection_state::{Charged, MembershipChange},
    },
};

use crate::site::{Site, eventually, run};

fn alert(region: &str) -> Value {
    json!({"region": region, "video": {"id": "v1", "title": "Title", "thumbnail": "", "score": 97}})
}

#[test]
fn an_alert_reaches_its_region_and_all_once_each_and_nobody_else() {
    run(async {
        let site = Site::start().await;
        let mut poland = site.watcher("PL").await;
        let mut all = site.watcher("ALL").await;
        let mut germany = site.watcher("DE").await;
        let mut idle = site.connect("/prod").await;
        let mut both = site.watcher("PL").await;
        both.subscribe("ALL").await;
        let seq = site.publish(&alert("PL")).await["seq"].clone();
        for client in [&mut poland, &mut all, &mut both] {
            assert_eq!(client.json().await["seq"], seq);
        }
        for client in [&mut poland, &mut all, &mut both, &mut germany, &mut idle] {
            client.expect_nothing().await;
        }
    });
}

#[test]
fn an_alert_that_nobody_watches_goes_to_everyone() {
    run(async {
        let site = Site::start().await;
        let mut germany = site.watcher("DE").await;
        let mut idle = site.connect("/prod").await;
        let mut at_connect = site.connect("/prod?region=JP").await;
        site.publish(&alert("PL")).await;
        // The frame says why a client gets an alert of a region without a subscription.
        for client in [&mut germany, &mut idle] {
            let frame = client.json().await;
            assert_eq!((&frame["type"], &frame["everyone"]), (&json!("viral_alert"), &json!(true)));
        }
        let frame = at_connect.json().await;
        assert_eq!(frame["event"], "new_trending", "in the form of its own subscription");
        assert_eq!(frame["everyone"], true);
        site.publish(&alert("DE")).await;
        let frame = germany.json().await;
        assert_eq!((&frame["region"], frame.get("everyone")), (&json!("DE"), None), "who watches it is meant");
    });
}

#[test]
fn with_the_fallback_off_an_alert_that_nobody_watches_goes_to_nobody() {
    run(async {
        let site = Site::with(&[("FallbackToEveryone", "false")]).await;
        let mut germany = site.watcher("DE").await;
        let answer = site.publish(&alert("PL")).await;
        assert_eq!(answer["published"], true);
        germany.expect_nothing().await;
    });
}

#[test]
fn disconnecting_leaves_no_item_behind() {
    run(async {
        let site = Site::start().await;
        let mut in_order = site.watcher("PL").await;
        in_order.subscribe("DE").await;
        in_order.subscribe("ALL").await;
        let vanishing = site.watcher("SE").await;
        assert_eq!(site.subscriptions().await.len(), 6);
        in_order.close().await;
        vanishing.vanish();
        eventually("no items", || async { site.subscriptions().await.is_empty() }).await;
        assert_eq!(site.connected(), 0);
    });
}

#[test]
fn a_client_that_vanishes_while_alerts_arrive_fails_none_of_them() {
    run(async {
        let site = Site::start().await;
        let mut staying = site.watcher("PL").await;
        let mut vanishing = Vec::new();
        for _ in 0..10 {
            vanishing.push(site.watcher("PL").await);
        }
        for client in vanishing {
            client.vanish();
            let seq = site.publish(&alert("PL")).await["seq"].clone();
            assert_eq!(staying.json().await["seq"], seq);
        }
        eventually("only the client that stays has items", || async { site.subscriptions().await.len() == 2 }).await;
        staying.expect_nothing().await;
    });
}

async fn subscribe(subscriptions: &Subscriptions, connection: &Connection, audiences: &[Audience]) {
    let change = MembershipChange::Join(audiences, Format::ViralAlert);
    subscriptions.admit(connection, change, Charged::Change).await.expect("a write").expect("open");
    subscriptions.subscribe(connection, audiences, Format::ViralAlert).await.expect("a write").expect("open");
}

/// Writes the items of a connection that ended without a `$disconnect`, `age_ms` old.
async fn leave_behind(site: &Site, connection: &str, age_ms: i64) {
    let then = Clock::System.now().millis() - age_ms;
    let clock = Clock::Manual(std::sync::Arc::new(then.into()));
    let connection = Connection { id: connection.parse().expect("an id"), since: clock.now() };
    let subscriptions = Subscriptions::new(site.dynamodb(), "SubscriptionsTable".to_owned(), clock);
    let audiences = [Audience::Everyone, Audience::All, "PL".parse().expect("a region")];
    subscribe(&subscriptions, &connection, &audiences).await;
}

/// Writes `count` subscriptions to PL of dead connections, all in a sixth of the slots.
pub(crate) async fn leave_behind_in_a_sixth_of_the_ring(site: &Site, count: usize) {
    let then = Clock::System.now().millis() - 3_600_000;
    let clock = Clock::Manual(std::sync::Arc::new(then.into()));
    let since = clock.now();
    let subscriptions = Subscriptions::new(site.dynamodb(), "SubscriptionsTable".to_owned(), clock);
    let region = ["PL".parse::<Audience>().expect("a region")];
    let ids = (0..).map(|n| format!("GoneGone{n:05}CC=").parse::<ConnectionId>().expect("an id"));
    let writes = ids.filter(|id| Slot::of(id).hash() < u32::MAX / 6).take(count).map(|gone| {
        let (subscriptions, region) = (&subscriptions, &region);
        let gone = Connection { id: gone, since };
        async move {
            subscribe(subscriptions, &gone, region).await;
        }
    });
    futures_util::stream::iter(writes).buffer_unordered(32).collect::<Vec<()>>().await;
}

#[test]
fn what_a_lost_disconnect_left_behind_is_removed_by_the_next_alert() {
    run(async {
        let site = Site::start().await;
        let mut watching = site.watcher("PL").await;
        for n in 0..40 {
            leave_behind(&site, &format!("LostLostLo{n:02}CCC="), 3_600_000).await;
        }
        let seq = site.publish(&alert("PL")).await["seq"].clone();
        assert_eq!(watching.json().await["seq"], seq);
        watching.expect_nothing().await;
        assert_eq!(site.subscriptions().await.len(), 2, "only the client that watches is left");
    });
}

#[test]
fn a_large_audience_is_divided_among_invocations_and_each_connection_is_reached_once() {
    /// A little more than a page. In a sixth of the slots, they let the fan-out expect more than one worker's share.
    const ITEMS: usize = 1_100;
    run(async {
        let site = Site::start().await;
        let mut watching = Vec::new();
        for _ in 0..20 {
            watching.push(site.watcher("PL").await);
        }
        leave_behind_in_a_sixth_of_the_ring(&site, ITEMS).await;
        let invocations = site.invocations_of("DeliverFunction");
        let seq = site.publish(&alert("PL")).await["seq"].clone();
        for client in &mut watching {
            assert_eq!(client.json().await["seq"], seq);
        }
        site.settled().await;
        assert_eq!(site.invocations_of("DeliverFunction") - invocations, 2);
        for client in &mut watching {
            client.expect_nothing().await;
        }
        let left = site.subscriptions().await.len() - 2 * watching.len();
        assert_eq!(left, 0, "all {ITEMS} that are gone have been removed");
    });
}

#[test]
fn leftovers_of_the_dead_are_no_audience() {
    run(async {
        let site = Site::start().await;
        leave_behind(&site, "LostLostLost0CC=", 3_600_000).await;
        let mut idle = site.connect("/prod").await;
        site.publish(&alert("PL")).await;
        assert_eq!(idle.json().await["region"], "PL", "nobody alive watches PL, so everyone has it");
        assert_eq!(site.subscriptions().await.len(), 1);
    });
}

#[test]
fn a_connection_that_is_only_just_opening_is_not_removed() {
    run(async {
        let site = Site::start().await;
        leave_behind(&site, "OpeningOpenin0C=", 0).await;
        site.publish(&alert("PL")).await;
        assert_eq!(site.subscriptions().await.len(), 3, "the service answers Gone until $connect has returned");
        leave_behind(&site, "LostLostLost0CC=", 3_600_000).await;
        site.publish(&alert("PL")).await;
        let left: Vec<_> = site.subscriptions().await.into_iter().map(|(_, connection)| connection).collect();
        assert_eq!(left, ["OpeningOpenin0C="; 3], "an older one is removed");
    });
}

#[test]
fn an_item_that_cannot_be_read_fails_no_alert() {
    run(async {
        let site = Site::start().await;
        let mut watching = site.watcher("PL").await;
        let key = [("audience", "PL"), ("slot", "00000000by-hand")]
            .map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
        let dynamodb = site.dynamodb();
        dynamodb
            .put_item()
            .table_name("SubscriptionsTable")
            .set_item(Some(key.clone().into()))
            .send()
            .await
            .expect("a write");
        let seq = site.publish(&alert("PL")).await["seq"].clone();
        assert_eq!(watching.json().await["seq"], seq);
        dynamodb
            .delete_item()
            .table_name("SubscriptionsTable")
            .set_key(Some(key.into()))
            .send()
            .await
            .expect("a removal");
    });
}

#[test]
fn more_than_one_page_of_watchers_of_region_and_all_get_one_copy_each() {
    run(async {
        let site = Site::start().await;
        let mut clients = Vec::new();
        for n in 0..60 {
            let mut client = site.watcher(if n % 3 == 1 { "ALL" } else { "PL" }).await;
            if n % 3 == 2 {
                client.subscribe("ALL").await;
            }
            clients.push(client);
        }
        // Items of dead connections move the live ones to later pages.
        let site = &site;
        let write = |n| async move { leave_behind(site, &format!("Page{n:04}PagePCC="), 3_600_000).await };
        let writes = (0..1_500).map(write);
        futures_util::stream::iter(writes).buffer_unordered(32).collect::<Vec<()>>().await;
        let seq = site.publish(&alert("PL")).await["seq"].clone();
        for client in &mut clients {
            assert_eq!(client.json().await["seq"], seq);
            client.expect_nothing().await;
        }
    });
}
