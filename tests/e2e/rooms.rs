//! Chat in rooms, the number of members, and clients that publish.

use serde_json::{Value, json};

use crate::{
    authorization::{token_of, tokens_and},
    history::alert,
    site::{Client, Site, eventually, run},
};

async fn site() -> Site {
    Site::with(&[("Rooms", "on")]).await
}

async fn in_room(site: &Site, room: &str) -> Client {
    let mut client = site.connect("/prod").await;
    assert_eq!(client.ask(&json!({"type": "join", "room": room})).await, json!({"type": "joined", "room": room}));
    client
}

/// Returns a chat frame without its time.
fn said(mut frame: Value) -> Value {
    let at = frame.as_object_mut().and_then(|fields| fields.remove("timestamp")).expect("a time");
    assert!(at.as_str().is_some_and(|at| at.ends_with('Z')), "{at}");
    frame
}

#[test]
fn what_is_said_in_a_room_reaches_all_in_it_and_nobody_else() {
    run(async {
        let site = site().await;
        let (mut ola, mut jan) = (in_room(&site, "general").await, in_room(&site, "general").await);
        let mut elsewhere = in_room(&site, "cats").await;
        let mut watcher = site.watcher("PL").await;
        let chat = json!({"type": "chat", "user": "Ola", "message": "cześć \"all\" 😑"});
        ola.send(&chat.to_string()).await;
        assert_eq!(said(ola.json().await), chat, "the one who speaks is in the room, too");
        assert_eq!(said(jan.json().await), chat);
        let typing = json!({"type": "typing", "room": "general", "user": "Jan"});
        jan.send(&typing.to_string()).await;
        assert_eq!((ola.json().await, jan.json().await), (typing.clone(), typing));
        site.settled().await;
        elsewhere.expect_nothing().await;
        watcher.expect_nothing().await;
        // Alerts do not reach rooms.
        site.publish(&alert("PL")).await;
        assert_eq!(watcher.json().await["type"], "viral_alert");
        ola.expect_nothing().await;
    });
}

#[test]
fn whoever_names_no_room_speaks_in_the_one_joined_first_or_in_the_global_one() {
    run(async {
        let site = site().await;
        let mut listener = in_room(&site, "global").await;
        let mut client = site.connect("/prod").await;
        let chat = json!({"type": "chat", "user": "Ola", "message": "1"});
        client.send(&chat.to_string()).await;
        assert_eq!(said(client.json().await), chat, "who speaks first is in the global room from then on");
        assert_eq!(said(listener.json().await), chat);

        let mut second = in_room(&site, "cats").await;
        assert_eq!(second.ask(&json!({"type": "join", "room": "dogs"})).await["type"], "joined");
        second.send(&chat.to_string()).await;
        assert_eq!(said(second.json().await), chat);
        // It joins now, because a client that joins during a message may receive it.
        let mut cats = in_room(&site, "cats").await;
        let named = json!({"type": "chat", "room": "dogs", "user": "Ola", "message": "2"});
        second.send(&named.to_string()).await;
        assert_eq!(said(second.json().await), named);
        site.settled().await;
        cats.expect_nothing().await;
        listener.expect_nothing().await;

        assert_eq!(second.ask(&json!({"type": "leave"})).await, json!({"type": "left", "room": "cats"}));
        second.send(&chat.to_string()).await;
        assert_eq!(said(listener.json().await), chat, "what was joined first is left: it is the global room again");
        assert_eq!(said(second.json().await), chat);
        cats.send(&chat.to_string()).await;
        assert_eq!(said(cats.json().await), chat);
        site.settled().await;
        second.expect_nothing().await;
        client.json().await;
        second.close().await;
        client.close().await;
        listener.close().await;
        cats.close().await;
        eventually("nothing is left", || async { site.subscriptions().await.is_empty() }).await;
    });
}

#[test]
fn whoever_joins_and_speaks_at_once_speaks_in_that_room() {
    run(async {
        // In one process: to start a process for each message may take longer than the service waits.
        let site = Site::with_secrets(&[("Rooms", "on")], &[]).await;
        let mut listener = in_room(&site, "cats").await;
        for number in 0..10 {
            let mut client = site.connect("/prod").await;
            let chat = json!({"type": "chat", "user": "Ola", "message": number.to_string()});
            client.send(&json!({"type": "join", "room": "cats"}).to_string()).await;
            client.send(&chat.to_string()).await;
            assert_eq!(said(listener.json().await), chat);
            let mut both = [client.json().await, client.json().await];
            both.sort_by_key(|frame| frame["type"] == "chat");
            let [joined, frame] = both;
            assert_eq!((&joined["type"], said(frame)), (&json!("joined"), chat));
        }
    });
}

#[test]
fn rooms_are_off_unless_they_are_wanted() {
    run(async {
        let site = Site::start_in_process().await;
        let mut client = site.connect("/prod").await;
        for message in [
            json!({"type": "join", "room": "general"}),
            json!({"type": "leave"}),
            json!({"type": "chat", "user": "Ola", "message": "x"}),
            json!({"type": "typing", "user": "Ola"}),
            json!({"type": "count", "room": "general"}),
            json!({"type": "publish", "region": "PL"}),
        ] {
            let answer = client.ask(&message).await;
            assert_eq!((&answer["code"], &answer["field"]), (&json!("forbidden"), &json!("type")), "{answer}");
        }
        assert_eq!(site.subscriptions().await.len(), 1);
    });
}

#[test]
fn counts_are_exact_within_a_second() {
    run(async {
        let site = site().await;
        let mut asking = site.watcher("PL").await;
        let mut others = Vec::new();
        for _ in 0..3 {
            others.push(site.watcher("PL").await);
        }
        others.push(in_room(&site, "general").await);
        let count = async |client: &mut Client, of: Value| {
            let mut question = json!({"type": "count"});
            for (name, value) in of.as_object().expect("fields") {
                question[name] = value.clone();
            }
            let answer = client.ask(&question).await;
            let mut expected = question;
            expected["count"] = answer["count"].clone();
            assert_eq!(answer, expected);
            answer["count"].as_u64().expect("a number")
        };
        assert_eq!(count(&mut asking, json!({"region": "PL"})).await, 4);
        assert_eq!(count(&mut asking, json!({"room": "general"})).await, 1);
        assert_eq!(count(&mut asking, json!({"region": "DE"})).await, 0);
        assert_eq!(count(&mut asking, json!({})).await, 5);
        drop(others);
        let asking = tokio::sync::Mutex::new(asking);
        eventually("the others are gone", || async {
            let mut asking = asking.lock().await;
            count(&mut asking, json!({"region": "PL"})).await == 1
                && count(&mut asking, json!({"room": "general"})).await == 0
        })
        .await;
    });
}

#[test]
fn an_echo_is_the_message_itself() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod").await;
        let message = json!({"type": "echo", "text": "zażółć", "list": [1, {"a": null}]});
        assert_eq!(client.ask(&message).await, json!({"type": "response", "data": message}));
    });
}

#[test]
fn a_client_publishes_where_its_token_allows_it_and_speaks_under_the_name_that_it_gives() {
    run(async {
        let site = tokens_and(&[("Rooms", "on"), ("AlertsPerMinute", "2")]).await;
        let connect = async |claims: Value| site.connect(&format!("/prod?token={}", token_of(claims))).await;
        let mut publisher = connect(json!({"publish": ["P*"], "name": "Aleksandra"})).await;
        let mut watcher = connect(json!({"sub": "user-2"})).await;
        let mut message = alert("PL");
        message["type"] = json!("publish");
        message["id"] = json!("once");
        // Both watch ALL, the default here, and the alert may overtake the answer.
        let mut frames = [publisher.ask(&message).await, publisher.json().await];
        frames.sort_by_key(|frame| frame["type"] != "published");
        let [answer, own] = frames;
        assert_eq!((&answer["type"], &answer["published"]), (&json!("published"), &json!(true)), "{answer}");
        for frame in [own, watcher.json().await] {
            assert_eq!((&frame["region"], &frame["seq"]), (&json!("PL"), &json!(1)), "{frame}");
        }
        assert_eq!(publisher.ask(&message).await["duplicate"], true);
        site.settled().await;
        watcher.expect_nothing().await;
        // Both count. The limit is that of the user, so a new connection does not help.
        for client in [&mut publisher, &mut connect(json!({"publish": ["PL"]})).await] {
            client.send(&message.to_string()).await;
            assert_eq!(client.json().await["code"], "rate_limited");
        }
        for (claims, region) in [(json!({"publish": ["P*"]}), "DE"), (json!({}), "PL"), (json!({"publish": []}), "PL")]
        {
            let mut client = connect(claims).await;
            message["region"] = json!(region);
            let refused = client.ask(&message).await;
            assert_eq!((&refused["code"], &refused["field"]), (&json!("forbidden"), &json!("region")), "{refused}");
        }
        let bad = connect(json!({"publish": ["*"]})).await.ask(&json!({"type": "publish", "region": "PL"})).await;
        assert_eq!(bad["code"], "missing_field", "{bad}");
        let (_, log) = site.get(&format!("/alerts?region=PL&token={}", token_of(json!({})))).await;
        assert_eq!(log["alerts"].as_array().map(Vec::len), Some(1), "{log}");

        // A name in the token replaces the name in a message.
        let chat = json!({"type": "chat", "user": "Jan", "message": "hej"});
        publisher.send(&chat.to_string()).await;
        let frame = said(publisher.json().await);
        assert_eq!((&frame["user"], &frame["message"]), (&json!("Aleksandra"), &json!("hej")));
        // With a name in the token a message needs none. Without one it does.
        publisher.send(r#"{"type":"chat","message":"hej"}"#).await;
        assert_eq!(said(publisher.json().await), json!({"type": "chat", "user": "Aleksandra", "message": "hej"}));
        let refused = watcher.ask(&json!({"type": "chat", "message": "hej"})).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!("missing_field"), &json!("user")), "{refused}");

        // A token without regions allows no rooms.
        let mut nobody = connect(json!({"regions": []})).await;
        for message in
            [json!({"type": "join"}), json!({"type": "count"}), json!({"type": "chat", "user": "x", "message": "x"})]
        {
            let refused = nobody.ask(&message).await;
            assert_eq!((&refused["code"], &refused["field"]), (&json!("forbidden"), &json!("type")), "{refused}");
        }
    });
}
