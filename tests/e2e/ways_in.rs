//! The files of `events/`: what each function is invoked with, for tools that invoke one function by itself. That each
//! way in has one is checked in tests/template/test_events.py.

use std::{collections::BTreeSet, fs};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    authorization::{now, signed, token_of, tokens_and_secrets},
    scoring::Feed,
    site::{Site, root, run},
};

/// The connection of all events.
const CONNECTION: &str = "L0SM9cOFvHcCIhw=";

const WEBHOOK_PARAMETER: &str = "/viral-alerts/webhook";
const WEBHOOK_SECRET: [u8; 24] = [7; 24];

/// The events, and which of them no function has been invoked with yet.
struct Events {
    site: Site,
    left: BTreeSet<String>,
}

impl Events {
    fn new(site: Site) -> Self {
        let files = fs::read_dir(root().join("events")).expect("the folder of events");
        let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
        let left = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
        Self { site, left }
    }

    fn read(name: &str) -> Value {
        let path = root().join(format!("events/{name}.json"));
        serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("JSON")
    }

    /// Invokes a function with its event as it is, and waits until all functions have ended.
    async fn answer(&mut self, name: &str) -> Value {
        self.answer_to(name, &Self::read(name)).await
    }

    /// The same with an event that was changed. The name of the file begins with that of the function.
    async fn answer_to(&mut self, name: &str, event: &Value) -> Value {
        self.left.remove(name);
        let function = name.split('-').next().expect("a name");
        let function = format!("{}{}Function", function[..1].to_uppercase(), &function[1..]);
        let (status, answer) = self.site.invoke(&function, event).await;
        assert!(status == 200 && answer.get("errorType").is_none(), "{name}: {status} {answer}");
        self.site.settled().await;
        answer
    }

    /// Invokes a function that answers a request or a message. Returns the status and the body.
    async fn response(&mut self, name: &str) -> (Value, Value) {
        let answer = self.answer(name).await;
        (answer["statusCode"].clone(), body(&answer))
    }
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap_or("null")).expect("JSON")
}

#[test]
fn every_function_takes_the_events_of_all_its_ways_in() {
    run(async {
        let feed = Feed::start().await;
        feed.counts(0, 100_000);
        let parameters =
            [("Canary", "on"), ("FeedUrl", feed.address.as_str()), ("WebhookSecretParameter", WEBHOOK_PARAMETER)];
        let secret = format!("whsec_{}", BASE64_STANDARD.encode(WEBHOOK_SECRET));
        let site = tokens_and_secrets(&parameters, &[(WEBHOOK_PARAMETER, &secret)]).await;
        let mut events = Events::new(site);

        let allowed = events.answer("authorize").await;
        assert_eq!(allowed["context"]["publish"], "PL", "{allowed}");
        let channel = events.answer("authorize-channel").await;
        assert_eq!(channel, json!({"isAuthorized": true, "ttlOverride": 300}));
        assert_eq!(events.response("connect").await.0, 200);
        let connected = ("PL".to_owned(), CONNECTION.to_owned());
        assert!(events.site.subscriptions().await.contains(&connected));
        let (status, subscribed) = events.response("subscribe").await;
        assert_eq!((status, &subscribed["type"]), (json!(200), &json!("subscribed")), "{subscribed}");

        for (seq, name) in [(1, "publish-message"), (2, "publish"), (3, "publish-root")] {
            let (status, published) = events.response(name).await;
            assert_eq!((status, &published["seq"]), (json!(200), &json!(seq)), "{name}: {published}");
        }
        for (seq, name) in [(4, "publish-event"), (5, "publish-invoke")] {
            assert_eq!(events.answer(name).await["seq"], seq, "{name}");
        }
        // A signature is good for five minutes, so that of the file is not.
        let (status, refused) = events.response("publish-webhook").await;
        assert_eq!((status, &refused["error"]["field"]), (json!(401), &json!("webhook-timestamp")), "{refused}");
        let mut webhook = Events::read("publish-webhook");
        let text = webhook["body"].as_str().expect("a body").to_owned();
        for (name, value) in signed("msg_1", now(), &text, &WEBHOOK_SECRET) {
            webhook["headers"][name] = json!(value);
        }
        assert_eq!(body(&events.answer_to("publish-webhook", &webhook).await)["seq"], 6);
        let (status, log) = events.response("alerts").await;
        assert_eq!((status, log["alerts"].as_array().map(Vec::len)), (json!(200), Some(6)), "{log}");

        // The log of the file is not this one, so there is nothing to deliver, until it is.
        let mut watcher = events.site.connect(&format!("/prod?token={}", token_of(json!({"regions": ["PL"]})))).await;
        watcher.subscribe("PL").await;
        assert_eq!(events.answer("deliver").await["sent"], 0);
        let mut task = Events::read("deliver");
        for field in ["id", "epoch", "seq"] {
            task["alert"][field] = log["alerts"][0][field].clone();
        }
        assert_eq!(events.answer_to("deliver", &task).await["sent"], 1);
        assert_eq!(watcher.json().await["video"], task["alert"]["video"]);

        assert_eq!(body(&events.answer("publish-remove").await)["removed"], true);
        for name in ["publish-event-remove", "publish-invoke-remove"] {
            assert_eq!(events.answer(name).await["removed"], true, "{name}");
        }
        assert_eq!(events.answer("recover").await, json!({"recovered": 0}));
        let redriven = events.answer("recover-redrive").await;
        assert!(redriven.as_object().is_some_and(|counts| counts.values().all(|count| count == 0)), "{redriven}");
        assert_eq!(events.answer("scorer").await["regions"], 1);
        assert_eq!(events.answer("canary").await["arrived"], true);
        assert_eq!(events.response("disconnect").await.0, 200);
        let left = events.site.subscriptions().await;
        assert!(left.iter().all(|(_, connection)| connection != CONNECTION), "{left:?}");
        assert_eq!(events.left, BTreeSet::new(), "no test invokes a function with these");
    });
}
