use aws_sdk_dynamodb::Client;
use clock::Clock;

use super::*;
use crate::fake_aws::{FakeResponse, sdk};

fn connection() -> Connection {
    Connection { id: "eHrdFcnvvHcCE-w=".parse().expect("an id"), since: Timestamp::from_millis(0) }
}

/// The table, whose answers are all the same, and the requests that it gets.
fn table(answer: &'static str) -> (Subscriptions, crate::fake_aws::Requests) {
    let (sdk, requests) = sdk(move |_| FakeResponse(200, "", answer.to_owned()));
    (Subscriptions::new(Client::new(&sdk), "t".to_owned(), Clock::System), requests)
}

#[tokio::test]
async fn what_the_index_does_not_have_yet_is_removed_with_the_rest_but_for_the_mark() {
    // To the query of the index, nothing; to the mark, what was noted; to the batch, that all is done.
    let (table, requests) =
        table(r#"{"Items":[],"Attributes":{"audiences":{"SS":["PL","room#general"]},"seats":{"SS":["0001@user#1"]}}}"#);
    table.close(&connection().id).await.expect("closed");
    let requests = requests.lock().expect("unpoisoned");
    let batch = requests.iter().find(|request| request.contains("DeleteRequest")).expect("a batch");
    for audience in ["PL", "room#general", "@everyone"] {
        assert!(batch.contains(&format!(r#""audience":{{"S":"{audience}"}}"#)), "{audience}: {batch}");
    }
    assert_eq!(batch.matches("DeleteRequest").count(), 3, "{batch}");
    let seat = requests.last().expect("a seat");
    assert!(seat.contains(r#""slot":{"S":"seat#0001"}"#) && seat.contains("connection_id = :connection"), "{seat}");
}

#[test]
fn what_a_connection_is_in_is_counted_once() {
    let room = Audience::Room(Room::default());
    let item = Item::from([
        (AUDIENCES.to_owned(), keys(&["PL".parse().expect("PL"), room.clone()])),
        (FIRST_ROOM.to_owned(), text(room.key())),
    ]);
    let memberships = Memberships::of(&item);
    assert!(memberships.contains(&room) && !memberships.contains(&Audience::All));
    assert_eq!(memberships.first_room, Some(Room::default()));
    assert_eq!(memberships.after(MembershipChange::Join(&[room.clone(), Audience::All], Format::ViralAlert)), 3);
    assert_eq!(memberships.after(MembershipChange::Leave(&[room])), 2);
    assert_eq!(Memberships::of(&Item::new()), Memberships::default());
}

#[test]
fn a_change_is_charged_for_what_it_changes_and_the_longest_wait_is_told() {
    let regions: Vec<Audience> = (0..25).map(|n| format!("R{n}").parse().expect("a region")).collect();
    let rate = MessageRate::per_second(10).expect("a rate");
    let now = Timestamp::from_millis(1_795_000_000_000);
    let mut item = Item::new();
    for round in 0..4 {
        let bills = bills(Charged::Message(rate), MembershipChange::Join(&regions, Format::ViralAlert), now);
        assert!(steps(&bills, Some(&item)).is_ok(), "{round} times 25 of a hundred");
        let used = (round + 1) * 25 * 1_000_000_000 + now.millis() * 1_000_000;
        item.insert(CHANGES_UNTIL.to_owned(), number(used));
    }
    let refused = |charged, change| {
        steps(&bills(charged, change, now), Some(&item)).err().map(|refusal| refusal.retry_after.expect("a time"))
    };
    assert_eq!(refused(Charged::Message(rate), MembershipChange::Leave(&regions)), Some(Duration::from_secs(25)));
    assert_eq!(
        refused(Charged::Change, MembershipChange::Join(&regions[..1], Format::ViralAlert)),
        Some(Duration::from_secs(1))
    );
    assert_eq!(refused(Charged::Message(rate), MembershipChange::None), None);
    let all = MembershipChange::Join(&[Audience::All], Format::ViralAlert);
    assert_eq!(refused(Charged::Message(rate), all), Some(Duration::from_secs(1)));
    assert_eq!(refused(Charged::Resumption(rate), all), Some(Duration::from_secs(25)), "as much as 25 regions");
}

#[test]
fn only_a_connection_that_may_be_full_is_asked_for_what_it_is_in() {
    let regions: Vec<Audience> = (0..25).map(|n| format!("R{n}").parse().expect("a region")).collect();
    assert_eq!(within_limit(&regions, None).1, [(":most".to_owned(), number(75))]);
    let of = |count: usize| Memberships {
        audiences: (0..count).map(|n| format!("R{n}")).collect(),
        ..Memberships::default()
    };
    assert_eq!(within_limit(&regions, Some(&of(75))).1.len(), 1);
    let (condition, values) = within_limit(&regions, Some(&of(100)));
    assert_eq!((values.len(), &values[0]), (26, &(":most".to_owned(), number(100))));
    assert!(condition.ends_with(" AND contains(audiences, :known24)"), "{condition}");
}

#[test]
fn a_message_that_was_charged_before_another_one_that_came_later_is_admitted() {
    let rate = MessageRate(RateLimit::new(12, std::time::Duration::from_secs(1)).expect("a limit"));
    let at = |ms| {
        let charge = rate.0.charge(1, Timestamp::from_millis(ms));
        vec![RateLimitCharge { attribute: MESSAGES_UNTIL, charge, count: 12, of: "messages per second" }]
    };
    // Eleven messages, the first of which was charged 5 ms after the one that is charged last.
    let first = rate.0.charge(11, Timestamp::from_millis(5)).step(None).expect("admitted");
    let stored = first.apply(None).expect("kept");
    let seen = Item::from([(MESSAGES_UNTIL.to_owned(), number(stored))]);
    assert!(steps(&at(0), Some(&seen)).is_err());
    assert!(passing(at(0), || at(5), Some(&seen)).is_ok());
    assert!(passing(at(0), || at(4), Some(&seen)).is_err());
}
