//! `GET /alerts`: history, pages, polling, EventSource and CORS.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::site::{Site, run};

pub(crate) fn alert(region: &str) -> Value {
    let video = json!({"id": "v1", "title": "Title", "thumbnail": "https://t.example/1.jpg", "score": 97});
    json!({"region": region, "video": video})
}

/// Returns a region that no other test publishes to.
pub(crate) fn new_region() -> String {
    format!("R{:010X}", rand::random_range(0..1_u64 << 40))
}

/// Publishes and returns the alert's position.
pub(crate) async fn publish(site: &Site, region: &str) -> Value {
    let answer = site.publish(&alert(region)).await;
    json!({"epoch": answer["epoch"], "seq": answer["seq"]})
}

/// Deletes an alert from the log, as the time to live does.
pub(crate) async fn delete_alert(site: &Site, region: &str, seq: u64) {
    site.dynamodb()
        .delete_item()
        .table_name("AlertsTable")
        .key("region", AttributeValue::S(region.to_owned()))
        .key("seq", AttributeValue::N(seq.to_string()))
        .send()
        .await
        .expect("deleted");
}

/// Publishes several alerts and returns the epoch.
async fn publish_many(site: &Site, region: &str, count: usize) -> Value {
    let mut last = Value::Null;
    for _ in 0..count {
        last = publish(site, region).await;
    }
    last["epoch"].clone()
}

/// Returns the sequence numbers of a region's alerts in an answer.
fn seqs(answer: &Value, region: &str) -> Vec<u64> {
    let alerts = answer["alerts"].as_array().unwrap_or_else(|| panic!("no alerts: {answer}")).iter();
    alerts.filter(|alert| alert["region"] == region).filter_map(|alert| alert["seq"].as_u64()).collect()
}

/// Formats a number as cursors do.
pub(crate) fn base_36(number: &Value) -> String {
    let mut left = number.as_u64().unwrap_or_else(|| panic!("no number: {number}"));
    let mut text = String::new();
    while left > 0 || text.is_empty() {
        text.insert(0, char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(left % 36) as usize]));
        left /= 36;
    }
    text
}

/// Asserts that the cursor of an answer equals its positions.
async fn page(site: &Site, query: &str) -> Value {
    let (status, answer) = site.get(&format!("/alerts?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    let positions = answer["positions"].as_object().expect("positions").iter();
    let entry = |(region, position): (&String, &Value)| {
        format!("{region}.{}.{}", base_36(&position["epoch"]), base_36(&position["seq"]))
    };
    let mut entries: Vec<String> = positions.map(entry).collect();
    entries.sort();
    assert_eq!(answer["after"], entries.join("_"), "{answer}");
    assert_eq!(answer["recovered"], answer.get("not_recovered").is_none(), "{answer}");
    answer
}

#[test]
fn the_newest_alerts_are_the_history_and_the_cursor_leads_on() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let empty = page(&site, &format!("region={region}")).await;
        assert_eq!(
            empty,
            json!({
                "alerts": [],
                "positions": {&region: {"epoch": 0, "seq": 0}},
                "after": format!("{region}.0.0"),
                "more": false,
                "recovered": true
            })
        );
        let epoch = publish_many(&site, &region, 5).await;
        let history = page(&site, &format!("region={}&limit=3", region.to_lowercase())).await;
        assert_eq!((seqs(&history, &region), &history["more"]), (vec![3, 4, 5], &json!(false)));
        assert_eq!(history["alerts"][0]["type"], "viral_alert");
        assert_eq!(history["positions"][&region], json!({"epoch": epoch, "seq": 5}));
        publish(&site, &region).await;
        let next =
            page(&site, &format!("region={region}&after={}", history["after"].as_str().expect("a cursor"))).await;
        assert_eq!(seqs(&next, &region), [6]);
        // A client with the position before the first alert gets everything.
        let all = page(&site, &format!("region={region}&after={}", empty["after"].as_str().expect("a cursor"))).await;
        assert_eq!(seqs(&all, &region), [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn what_was_missed_is_read_page_by_page_over_several_regions() {
    run(async {
        let site = Site::start().await;
        let mut regions = [new_region(), new_region(), new_region()];
        regions.sort();
        let [first, second, silent] = &regions;
        let epoch = publish_many(&site, first, 5).await;
        publish_many(&site, second, 4).await;
        let by_number = page(&site, &format!("region={first}&after=3")).await;
        assert_eq!(seqs(&by_number, first), [4, 5]);

        let epoch = base_36(&epoch);
        let mut after = format!("{first}.{epoch}.1_{second}.0.0_{silent}.0.0");
        let mut read = Vec::new();
        let mut pages = 0;
        loop {
            let page = page(&site, &format!("region={second},{first}&region={silent}&limit=3&after={after}")).await;
            read.extend([first, second].map(|region| seqs(&page, region)));
            assert_eq!(page["positions"][silent], json!({"epoch": 0, "seq": 0}));
            after = page["after"].as_str().expect("a cursor").to_owned();
            pages += 1;
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(pages, 3);
        assert_eq!(read, [vec![2, 3, 4], vec![], vec![5], vec![1, 2], vec![], vec![3, 4]]);
        // A region that the cursor does not name starts at its end.
        let page = page(&site, &format!("region={first},{second}&after={first}.{epoch}.4")).await;
        assert_eq!((seqs(&page, first), seqs(&page, second)), (vec![5], vec![]));
    });
}

#[test]
fn all_regions_are_read_from_their_beginning_where_the_cursor_does_not_name_them() {
    run(async {
        let site = Site::start().await;
        let (known, born) = (new_region(), new_region());
        publish(&site, &known).await;
        let before = page(&site, "region=ALL").await;
        assert_eq!(before["positions"][&known]["seq"], 1);
        publish(&site, &known).await;
        publish(&site, &born).await;
        let page = page(&site, &format!("region=all&after={}", before["after"].as_str().expect("a cursor"))).await;
        assert_eq!((seqs(&page, &known), seqs(&page, &born)), (vec![2], vec![1]));
        assert_eq!(page["alerts"].as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn what_the_log_cannot_tell_is_named_and_the_position_goes_on_at_its_end() {
    run(async {
        let site = Site::start().await;
        let (region, other) = (new_region(), new_region());
        let epoch = publish_many(&site, &region, 5).await;
        publish(&site, &other).await;
        let lost = async |after: String| {
            let page = page(&site, &format!("region={region},{other}&after={after}_{other}.0.0")).await;
            assert_eq!((&page["not_recovered"], &page["more"]), (&json!([region]), &json!(false)), "{after}");
            assert_eq!(page["positions"][&region], json!({"epoch": epoch, "seq": 5}));
            assert_eq!((seqs(&page, &region), seqs(&page, &other)), (vec![], vec![1]), "the others are recovered");
        };
        let epoch = base_36(&epoch);
        lost(format!("{region}.7.3")).await;
        lost(format!("{region}.{epoch}.6")).await;
        delete_alert(&site, &region, 1).await;
        delete_alert(&site, &region, 3).await;
        lost(format!("{region}.{epoch}.0")).await;
        lost(format!("{region}.{epoch}.1")).await;
        let whole = page(&site, &format!("region={region}&after=3")).await;
        assert_eq!(seqs(&whole, &region), [4, 5]);
        delete_alert(&site, &region, 5).await;
        lost(format!("{region}.{epoch}.3")).await;
    });
}

#[test]
fn large_alerts_make_a_page_shorter_and_none_is_left_out() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let video = json!({"id": "v", "title": "t", "more": "t".repeat(31_000), "score": 97});
        for _ in 0..5 {
            let (status, answer) =
                site.post("/publish", &[], json!({"region": region, "video": video}).to_string()).await;
            assert_eq!(status, 200, "{answer}");
        }
        let mut pages = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let page = page(&site, &format!("region={region}&after={after}")).await;
            pages.push(seqs(&page, &region));
            after = page["after"].as_str().expect("a cursor").to_owned();
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(pages, [vec![1, 2], vec![3, 4], vec![5]], "two alerts of 31 KB in 64 KB");
        let newest = page(&site, &format!("region={region}")).await;
        assert_eq!(seqs(&newest, &region), [4, 5]);
    });
}

#[test]
fn whoever_has_the_answer_already_is_told_so() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let _watcher = site.watcher(&region).await;
        publish(&site, &region).await;
        let path = format!("/alerts?region={region}&after=0");
        let answer = site.request("GET", &path, &[]).await;
        let etag = answer.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"'), "strong: {etag}");
        assert_eq!(answer.header("cache-control"), "public, max-age=1");
        assert_eq!(answer.header("vary"), "Accept, Origin");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
        let again = site.request("GET", &path, &[("if-none-match", &format!("\"x\", {etag}"))]).await;
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", etag.as_str()));
        assert_eq!(again.header("cache-control"), "public, max-age=1");
        publish(&site, &region).await;
        let changed = site.request("GET", &path, &[("if-none-match", &etag)]).await;
        assert_eq!((changed.status, seqs(&changed.json(), &region)), (200, vec![1, 2]));
        assert_ne!(changed.header("etag"), etag);
    });
}

/// Parses a body as EventSource does: alerts with their ids, the last id, and the pause. As in clients other than
/// browsers, an id counts only with data.
struct Events {
    alerts: Vec<(String, Value)>,
    others: Vec<(String, Value)>,
    last_id: String,
    retry: u64,
}

async fn events(site: &Site, query: &str, last_event_id: Option<&str>) -> Events {
    let mut headers = vec![("accept", "text/event-stream")];
    headers.extend(last_event_id.map(|id| ("last-event-id", id)));
    let answer = site.request("GET", &format!("/alerts?{query}"), &headers).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream; charset=utf-8"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store", "who comes from elsewhere in the log gets another answer");
    let mut events = Events { alerts: Vec::new(), others: Vec::new(), last_id: String::new(), retry: 0 };
    assert!(answer.body.ends_with("\n\n"), "the last block is complete: {:?}", answer.body);
    for block in answer.body.split_terminator("\n\n") {
        let (mut kind, mut id, mut data) = ("message", None, None);
        for line in block.lines() {
            match line.split_once(": ").expect("a field") {
                ("id", text) => id = Some(text.to_owned()),
                ("retry", ms) => events.retry = ms.parse().expect("milliseconds"),
                ("event", name) => kind = name,
                ("data", text) => data = Some(serde_json::from_str(text).expect("JSON")),
                other => panic!("{other:?}"),
            }
        }
        if let (Some(id), Some(_)) = (id, &data) {
            events.last_id = id;
        }
        match (kind, data) {
            ("message", Some(alert)) => events.alerts.push((events.last_id.clone(), alert)),
            ("position", Some(data)) => assert_eq!(data, json!({}), "it is there for its id"),
            (kind, Some(data)) => events.others.push((kind.to_owned(), data)),
            (_, None) => {}
        }
    }
    events
}

#[test]
fn an_event_source_goes_on_where_it_was_cut_off() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let epoch = base_36(&publish_many(&site, &region, 2).await);
        let query = format!("region={region}&limit=2");
        // Without a cursor it starts at the end.
        let start = events(&site, &query, None).await;
        assert_eq!(
            (start.alerts.len(), start.retry, start.last_id.as_str()),
            (0, 3_000, format!("{region}.{epoch}.2").as_str())
        );
        publish_many(&site, &region, 3).await;
        let next = events(&site, &query, Some(&start.last_id)).await;
        let ids: Vec<&str> = next.alerts.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, [format!("{region}.{epoch}.3"), format!("{region}.{epoch}.4")]);
        assert_eq!((&next.alerts[0].1["type"], &next.alerts[0].1["seq"]), (&json!("viral_alert"), &json!(3)));
        assert_eq!((next.retry, next.last_id.as_str()), (500, ids[1]), "there are more: it comes back soon");
        let last = events(&site, &query, Some(ids[1])).await;
        assert_eq!((last.alerts.len(), last.retry, last.others.len()), (1, 3_000, 0));
        // After a cut behind the first alert, that alert's id continues. It wins over the address.
        let again = events(&site, &format!("{query}&after=0"), Some(ids[0])).await;
        assert_eq!(again.alerts[0].1["seq"], 4);
        let by_address = events(&site, &format!("{query}&after=0"), None).await;
        assert_eq!(by_address.alerts[0].1["seq"], 1);
    });
}

#[test]
fn an_event_source_over_several_regions_is_never_ahead_of_what_it_was_sent() {
    run(async {
        let site = Site::start().await;
        let mut regions = [new_region(), new_region()];
        regions.sort();
        let [first, second] = &regions;
        let epochs =
            [publish_many(&site, first, 2).await, publish_many(&site, second, 2).await].map(|epoch| base_36(&epoch));
        let query = format!("region={first},{second}");
        let stream = events(&site, &query, Some(&format!("{first}.{}.0_{second}.0.0", epochs[0]))).await;
        let ids: Vec<&str> = stream.alerts.iter().map(|(id, _)| id.as_str()).collect();
        let id = |one: u64, two: &str| format!("{first}.{}.{one}_{second}.{two}", epochs[0]);
        let epoch = &epochs[1];
        assert_eq!(ids, [id(1, "0.0"), id(2, "0.0"), id(2, &format!("{epoch}.1")), id(2, &format!("{epoch}.2"))]);
        assert_eq!(stream.last_id, ids[3]);
        // The answer says that alerts are missing, and the browser continues from the end.
        let lost = events(&site, &query, Some(&format!("{first}.7.1_{second}.{epoch}.2"))).await;
        assert_eq!(lost.others, [("not_recovered".to_owned(), json!({"not_recovered": [first]}))]);
        assert_eq!((lost.alerts.len(), lost.last_id.as_str()), (0, ids[3]));
    });
}

#[test]
fn each_mistake_in_the_address_is_refused_with_its_field() {
    run(async {
        let site = Site::start().await;
        let check = async |query: &str, code: &str, field: &str| {
            let answer = site.request("GET", &format!("/alerts{query}"), &[]).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status, &error["code"], &error["field"]), (400, &json!(code), &json!(field)), "{query}");
            assert_eq!((&error["retryable"], answer.header("cache-control")), (&json!(false), "no-store"));
            assert!(error["message"].is_string());
        };
        check("", "missing_field", "region").await;
        check("?region=", "invalid_region", "region").await;
        check("?region=PL%00", "invalid_region", "region").await;
        check("?region=@regions", "invalid_region", "region").await;
        check("?region=PL&limit=0", "invalid_field", "limit").await;
        check("?region=PL&limit=10&limit=20", "invalid_field", "limit").await;
        check("?region=PL&after=-1", "invalid_field", "after").await;
        check("?region=PL&after=", "invalid_field", "after").await;
        check("?region=PL&after=PL.1", "invalid_field", "after").await;
        check("?region=PL,DE&after=1", "invalid_field", "after").await;
        check("?region=PL&since=1", "invalid_field", "since").await;
    });
}

#[test]
fn two_cursors_of_the_longest_kind_pass_the_gateway_and_more_do_not() {
    run(async {
        let site = Site::start().await;
        // The service writes cursors of up to 4,096 bytes. An EventSource sends two, and 2,048 are for the rest.
        let cursor = |bytes: usize| {
            let names = (b'A'..=b'Z').flat_map(|first| (b'A'..=b'Z').map(move |second| [first, second]));
            let names: Vec<String> = names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
            let mut cursor = String::new();
            for name in names {
                let entry = format!("{name}.mwm0nk74.zzz_");
                if cursor.len() + entry.len() > bytes {
                    break;
                }
                cursor += &entry;
            }
            cursor.trim_end_matches('_').to_owned()
        };
        let longest = cursor(4_096);
        assert!(longest.len() > 4_000);
        let path = format!("/alerts?region=ALL&limit=1&after={longest}");
        let mut headers = vec![("accept", "text/event-stream"), ("last-event-id", longest.as_str())];
        let rest = "t".repeat(1_800);
        headers.push(("authorization", &rest));
        assert_eq!(site.request("GET", &path, &headers).await.status, 200);
        let rest = "t".repeat(2_300);
        headers.push(("x-more", &rest));
        let refused = site.request("GET", &path, &headers).await;
        assert_eq!((refused.status, &refused.json()["message"]), (431, &json!("Request Header Fields Too Large")));
    });
}

#[test]
fn pages_of_allowed_origins_may_read_and_others_may_not() {
    run(async {
        let page = "https://app.example";
        let site = Site::with(&[("AllowedOrigins", "http://localhost:3000,https://app.example")]).await;
        let asked = ("access-control-request-method", "GET");
        let before = site.invocations();
        let preflight = site.request("OPTIONS", "/alerts?region=PL", &[("origin", page), asked]).await;
        assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
        assert_eq!(preflight.header("access-control-allow-origin"), page);
        assert_eq!(preflight.header("access-control-allow-methods"), "GET");
        assert_eq!(preflight.header("access-control-allow-headers"), "authorization,if-none-match,last-event-id");
        assert_eq!(preflight.header("access-control-max-age"), "3600");
        let other = site.request("OPTIONS", "/alerts", &[("origin", "https://evil.example"), asked]).await;
        assert_eq!((other.status, other.header("access-control-allow-origin")), (204, ""));
        assert_eq!(site.invocations(), before, "the gateway answers by itself");

        let answer = site.request("GET", "/alerts?region=PL", &[("origin", page)]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, page));
        assert_eq!(answer.header("access-control-expose-headers"), "etag");
        let other = site.request("GET", "/alerts?region=PL", &[("origin", "https://evil.example")]).await;
        assert_eq!((other.status, other.header("access-control-allow-origin")), (200, ""));
        let refused = site.request("GET", "/alerts", &[("origin", page)]).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (400, page));

        // Other methods have no route, and without the parameter no origin is allowed.
        assert_eq!(site.request("HEAD", "/alerts?region=PL", &[]).await.status, 404);
        assert_eq!(site.request("DELETE", "/alerts?region=PL", &[]).await.status, 404);
        let closed = Site::start().await;
        let preflight = closed.request("OPTIONS", "/alerts?region=PL", &[("origin", page), asked]).await;
        // The service has no such route, so pages of other sites cannot use it.
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, ""));
        let answer = closed.request("GET", "/alerts?region=PL", &[("origin", page)]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));

        // In local mode a page of any origin may read until `AllowedOrigins` names some.
        let own = "http://localhost:5173";
        let answer = closed.request("GET", "/alerts?region=PL", &[("origin", own)]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, own));
        let answer = site.request("GET", "/alerts?region=PL", &[("origin", own)]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
    });
}

#[test]
fn without_its_table_the_log_is_said_to_be_unavailable() {
    run(async {
        // Its own parameters, so that no other test shares the stack without a table.
        let site = Site::with(&[("LogLevel", "ERROR"), ("ScoreThreshold", "81")]).await;
        site.dynamodb().delete_table().table_name("AlertsTable").send().await.expect("deleted");
        let (status, answer) = site.get("/alerts?region=PL").await;
        assert_eq!(
            (status, &answer["error"]["code"], &answer["error"]["retryable"]),
            (503, &json!("unavailable"), &json!(true))
        );
        // A browser would not reconnect.
        let stream = site.request("GET", "/alerts?region=PL", &[("accept", "text/event-stream")]).await;
        assert_eq!((stream.status, stream.body.as_str()), (200, "retry: 3000\n\n"));
        assert_eq!(stream.header("cache-control"), "no-store");
    });
}
