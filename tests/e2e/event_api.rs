//! The second leg (`Delivery=both`): alerts on an Event API, for clients that the service tells of it.

use apigw_local::GatewayOptions;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    authorization::{token_of, tokens_and},
    site::{Client, Site, connect_to, eventually, run},
};

fn alert(region: &str, title: &str) -> Value {
    json!({"region": region, "video": {"id": "v1", "title": title, "thumbnail": "", "score": 97}})
}

/// A client of the Event API, which has connected and subscribes under the ids `0`, `1`, ….
struct Subscriber {
    socket: Client,
    authorization: Value,
    subscriptions: usize,
}

/// What `GET /alerts` tells of the Event API.
async fn told(site: &Site, headers: &[(&str, &str)]) -> Value {
    site.request("GET", "/alerts?region=PL", headers).await.json()["events"].take()
}

impl Subscriber {
    /// Connects as `events` of the service says.
    async fn connect(events: &Value, token: &str) -> Self {
        let authorization = json!({"host": events["host"], "Authorization": token});
        let header = BASE64_URL_SAFE_NO_PAD.encode(authorization.to_string());
        let protocols = format!("aws-appsync-event-ws, header-{header}");
        let url = events["url"].as_str().expect("an address");
        let socket = connect_to(url, &[("sec-websocket-protocol", &protocols)]).await.expect("a connection");
        Self { socket, authorization, subscriptions: 0 }
    }

    /// The next frame except keepalives.
    async fn frame(&mut self) -> Value {
        loop {
            let frame = self.socket.json().await;
            if frame["type"] != "ka" {
                return frame;
            }
        }
    }

    async fn init(&mut self) -> Value {
        self.socket.send(r#"{"type":"connection_init"}"#).await;
        self.frame().await
    }

    async fn subscribe(&mut self, channel: &str) -> Value {
        let id = self.subscriptions.to_string();
        self.subscriptions += 1;
        let (kind, authorization) = ("subscribe", &self.authorization);
        let message = json!({"type": kind, "id": id, "channel": channel, "authorization": authorization});
        self.socket.send(&message.to_string()).await;
        let answer = self.frame().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The code with which a publish is refused.
    async fn refused_publish(&mut self, channel: &str, authorization: &Value) -> String {
        let (kind, events) = ("publish", ["{}"]);
        let message =
            json!({"type": kind, "id": "p", "channel": channel, "events": events, "authorization": authorization});
        self.socket.send(&message.to_string()).await;
        let refused = self.frame().await;
        assert_eq!((&refused["type"], &refused["id"]), (&json!("publish_error"), &json!("p")), "{refused}");
        refused["errors"][0]["errorType"].as_str().expect("a text").to_owned()
    }

    /// Subscribes to a channel that it may have.
    async fn watch(&mut self, channel: &str) {
        assert_eq!(self.subscribe(channel).await["type"], "subscribe_success", "{channel}");
    }

    /// The text of the next event.
    async fn event(&mut self) -> String {
        let frame = self.frame().await;
        assert_eq!(frame["type"], "data", "{frame}");
        frame["event"].as_str().expect("a text").to_owned()
    }
}

#[test]
fn clients_learn_of_the_event_api_and_get_there_the_frames_that_they_get_on_a_websocket() {
    run(async {
        let site = Site::with(&[("Delivery", "both"), ("EventsShare", "60"), ("PushRate", "9100")]).await;
        let events = told(&site, &[]).await;
        assert_eq!(events["share"], 60, "{events}");
        let mut watcher = site.connect("/prod").await;
        let subscribed = watcher.ask(&json!({"type": "subscribe_region", "region": "PL"})).await;
        assert_eq!(subscribed["events"], events);

        let mut of_pl = Subscriber::connect(&events, "anonymous").await;
        let mut of_all = Subscriber::connect(&events, "anonymous").await;
        assert_eq!(of_pl.init().await["type"], "connection_ack");
        of_pl.watch("/alerts/PL").await;
        of_all.watch("/alerts/*").await;

        let published = site.publish(&alert("PL", "Zażółć <gęślą>")).await;
        let frame = watcher.text().await;
        assert!(frame.contains(r#""title":"Zażółć <gęślą>""#), "{frame}");
        assert_eq!([of_pl.event().await, of_all.event().await], [frame.clone(), frame]);
        site.publish(&alert("DE", "Another")).await;
        assert!(of_all.event().await.contains(r#""region":"DE""#));
        let path = format!("/alerts/PL/{}", published["seq"]);
        assert_eq!(site.request("DELETE", &path, &[]).await.status, 200);
        site.settled().await;
        let frame = watcher.text().await;
        assert!(frame.contains("alert_removed"), "{frame}");
        // Of DE it has got nothing.
        assert_eq!([of_pl.event().await, of_all.event().await], [frame.clone(), frame]);

        // What is refused is refused with a code, and ends nothing.
        for channel in ["/alerts/pl", "/alerts/X-CANARY", "/rooms/general"] {
            let refused = of_pl.subscribe(channel).await;
            assert_eq!(refused["type"], "subscribe_error", "{channel}: {refused}");
            assert_eq!(refused["errors"][0]["errorType"], "UnauthorizedException", "{channel}: {refused}");
        }
        let own = of_pl.authorization.clone();
        for (channel, code) in [("/alerts/PL", "UnauthorizedException"), ("/alerts/*", "BadRequestException")] {
            assert_eq!(of_pl.refused_publish(channel, &own).await, code, "{channel}");
        }
        site.publish(&alert("PL", "And on")).await;
        assert!(of_pl.event().await.contains("And on"));
    });
}

#[test]
fn without_the_event_api_nobody_is_told_of_one() {
    run(async {
        let site = Site::with(&[("PushRate", "9101")]).await;
        assert_eq!(told(&site, &[]).await, Value::Null);
        let subscribed = site.connect("/prod").await.ask(&json!({"type": "subscribe_region", "region": "PL"})).await;
        assert!(subscribed.get("events").is_none(), "{subscribed}");
    });
}

#[test]
fn tokens_decide_who_connects_to_the_event_api_and_which_channels_they_have() {
    run(async {
        let site = tokens_and(&[("Delivery", "both")]).await;
        let token = |regions: &[&str]| token_of(json!({"regions": regions}));
        let of_pl = token(&["PL"]);
        let events = told(&site, &[("authorization", &format!("Bearer {of_pl}"))]).await;
        for refused in ["anonymous", "a.b.c"] {
            let mut client = Subscriber::connect(&events, refused).await;
            let answer = client.frame().await;
            assert_eq!(answer["type"], "connection_error", "{refused}: {answer}");
        }
        let mut client = Subscriber::connect(&events, &of_pl).await;
        client.watch("/alerts/PL").await;
        for channel in ["/alerts/DE", "/alerts/*"] {
            assert_eq!(client.subscribe(channel).await["type"], "subscribe_error", "{channel}");
        }
        let mut of_all = Subscriber::connect(&events, &token(&["*"])).await;
        of_all.watch("/alerts/*").await;
        for region in ["DE", "PL"] {
            site.publish(&alert(region, region)).await;
            assert!(of_all.event().await.contains(&format!(r#""region":"{region}""#)));
        }
        assert!(client.event().await.contains(r#""region":"PL""#), "the first that it gets");
    });
}

#[test]
fn what_deliver_publishes_on_the_event_api_is_signed() {
    run(async {
        let gateway = GatewayOptions { check_signatures: true, ..GatewayOptions::default() };
        let capacity = "1000:1000".parse().expect("a capacity");
        let site = Site::limited(&[("Delivery", "both")], gateway, capacity).await;
        let events = told(&site, &[]).await;
        let mut client = Subscriber::connect(&events, "anonymous").await;
        client.watch("/alerts/PL").await;
        let unsigned = json!({"channel": "/alerts/PL", "events": ["{}"]}).to_string();
        let (status, refused) = site.post("/event", &[("content-type", "application/json")], unsigned).await;
        assert_eq!((status, &refused["errors"][0]["errorType"]), (401, &json!("UnauthorizedException")), "{refused}");
        let of_key = |key: &str| {
            let scope = format!("{key}/20261130/eu-central-1/appsync/aws4_request");
            let signature = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
            json!({"host": events["host"], "x-amz-date": "20261130T000000Z", "Authorization": signature})
        };
        for (key, code) in [("local", "BadRequestException"), ("AKIAOTHER", "UnrecognizedClientException")] {
            assert_eq!(client.refused_publish("/alerts/PL", &of_key(key)).await, code);
        }
        // Over HTTP publishing takes a signature, too.
        let (status, answer) = site.invoke("PublishFunction", &alert("PL", "Signed")).await;
        assert_eq!((status, &answer["published"]), (200, &json!(true)), "{answer}");
        site.settled().await;
        assert!(client.event().await.contains("Signed"), "the first that it gets");
    });
}

#[test]
fn an_event_that_the_event_api_never_takes_lies_in_the_queue_while_the_gateway_has_delivered_it() {
    run(async {
        // An answer of 200 that names the event as failed. Retries of invocations come at once.
        let site = Site::faulty_with(&[("Delivery", "both")], &["failed-event=1"]).await;
        let mut watcher = site.watcher("PL").await;
        site.publish(&alert("PL", "One")).await;
        assert_eq!(watcher.json().await["video"]["title"], "One");
        eventually("a record", || async { site.messages_in("UndeliveredQueue").await == 1 }).await;
        let queue = site.queue_url("UndeliveredQueue").await;
        let received = site.sqs().receive_message().queue_url(queue).send().await.expect("received");
        let body = received.messages().first().and_then(|message| message.body()).expect("a message");
        let record: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(record["requestPayload"]["part"]["events"], true, "{record}");
        assert_eq!(record["requestPayload"]["alert"]["video"]["title"], "One");
        watcher.expect_nothing().await;
    });
}
