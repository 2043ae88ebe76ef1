//! Reads what was written as functions do.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;

use super::written::{
    CLOSED, NOW, OPEN, Samples, World, alert, connection, connects, first_alert, general, id, in_a_minute, now, part,
    positions, publication, publisher, region, room_message, within_an_hour, world,
};
use crate::{
    error::Code,
    fanout::{Content, FanoutTask},
    limits::LEASE,
    model::{
        alert::{Format, Logged, Position, Removal},
        audience::Audience,
        connection::{Connection, SlotRange},
        position::Positions,
    },
    publish::{commit::CommitOutcome, publisher::alerts_per_minute},
    tables::{
        alerts::{AlertKey, LogFront, LogHead, logged, snapshot::SnapshotEntry},
        subscriptions::connection_state::{Charged, MembershipChange, MessageRate, RecordedState},
    },
};

/// Reads each sample as functions do, and compares it with what was written.
pub(super) async fn are_read_as_they_were_written(samples: &Samples) {
    of_the_alerts_table(&world(samples)).await;
    of_the_subscriptions_table(&world(samples)).await;

    let task =
        |content, part, depth, redriven_at| FanoutTask { content, dispatched_at: now(), part, depth, redriven_at };
    let removal = Removal { id: id(3), region: region("PL"), position: Position { epoch: NOW, seq: 3 }, at: now() };
    let tasks = [
        ("alert", task(Content::Alert(alert("PL", "three", 3, 3)), None, 0, None)),
        ("removal", task(Content::Removal(removal), None, 0, None)),
        ("room_message", task(Content::RoomMessage(room_message()), None, 0, None)),
        ("part", task(Content::Alert(first_alert()), Some(part()), 2, None)),
        ("events", task(Content::Alert(first_alert()), None, 2, None).for_events_alone()),
        ("redriven_at", task(Content::Alert(first_alert()), Some(part()), 0, Some(now()))),
    ];
    for (name, task) in tasks {
        let text = samples["fanout_task"][name].to_string();
        assert_eq!(serde_json::from_str::<FanoutTask>(&text).expect(name), task);
    }
    let outcomes = &samples["publish_outcome"];
    // As the canary reads it.
    let published = ["published", "removed", "withheld"].map(|name| outcomes[name]["published"] == true);
    assert_eq!(published, [true, true, false]);

    let cursor = |name: &str| samples["cursor"][name].as_str().expect("a text").parse::<Positions>();
    assert_eq!((cursor("none"), cursor("several")), (Ok(Positions::default()), Ok(positions())));
    assert_eq!(Positions::of_message(&samples["positions"]["several"], &[Audience::All]).expect("valid"), positions());
}

async fn of_the_alerts_table(world: &World) {
    let World { alerts, clock, .. } = world;
    let position = Position { epoch: NOW, seq: 3 };
    let head = LogHead { position, committed_at: now(), largest_bytes: 261 };
    let front = alerts.front(&region("PL")).await.expect("read");
    assert_eq!(front, LogFront { head: Some(head), audience: Some(12_400), is_led: false });
    assert!(alerts.front(&region("DE")).await.expect("read").is_led);
    assert_eq!(alerts.registered().await.expect("read"), ["PL"]);
    let entry = SnapshotEntry { position, committed_at: now(), largest_bytes: 1024, audience: Some(12_400) };
    assert_eq!(alerts.snapshot.read_all().await.expect("read"), [(region("PL"), entry)].into());

    let key = AlertKey { region: "PL".to_owned(), seq: 1 };
    assert_eq!(alerts.if_undispatched(&key).await.expect("read"), Some(Logged::Alert(first_alert())));
    let read =
        async |seq| logged(&alerts.get("PL", seq, "reading").await.expect("read").expect("there")).expect("read");
    assert_eq!(read(2).await, Logged::Alert(alert("PL", "two", 2, 2)));
    let removal = Removal { id: id(3), region: region("PL"), position, at: now() };
    assert_eq!(read(3).await, Logged::Removed(removal));

    let limit = alerts_per_minute(2).expect("a limit");
    let refused = alerts.allow(&publisher(), limit, 1).await.expect("asked").expect_err("two were published");
    assert_eq!((refused.code, refused.retry_after), (Code::RateLimited, Some(Duration::from_secs(30))));

    let again = alerts.commit(&region("PL"), &[publication("PL", "Ż", Some("k-1"))], in_a_minute()).await;
    let [Ok(Ok(CommitOutcome::Committed(again)))] = &again[..] else { panic!("{again:?}") };
    assert_eq!((&again.logged, again.duplicate), (&Logged::Alert(first_alert()), true), "as its receipt says");

    let recent = within_an_hour(publication("PL", "again", None));
    let recent = alerts.commit(&region("PL"), &[recent], in_a_minute()).await;
    let [Ok(Ok(CommitOutcome::RecentlyAlerted(standing)))] = &recent[..] else { panic!("{recent:?}") };
    assert_eq!((&standing.id, standing.seq, standing.epoch), (&id(2), 2, NOW), "as the item of its video says");

    // Another one has to wait, and leads when the lease ends: it commits for both.
    let lease_ends = async {
        sleep(Duration::from_millis(100)).await;
        clock.store(now().after(LEASE).millis() + 1, Ordering::Relaxed);
    };
    let (de, other) = (region("DE"), publication("DE", "other", None));
    let (committed, ()) = tokio::join!(alerts.commit(&de, std::slice::from_ref(&other), in_a_minute()), lease_ends);
    assert!(matches!(committed[..], [Ok(Ok(_))]), "{committed:?}");
    let log = [alerts.get("DE", 1, "reading").await, alerts.get("DE", 2, "reading").await];
    let log = log.map(|item| logged(&item.expect("read").expect("there")).expect("readable"));
    let waited = log.iter().find(|logged| logged.id() == id(4)).and_then(Logged::alert).expect("the one that waited");
    assert_eq!((waited.video.title(), waited.at), ("waits", now()));
}

async fn of_the_subscriptions_table(World { subscriptions, .. }: &World) {
    let Connection { id, since } = connection(OPEN);
    let (pl, de) = (Audience::Region(region("PL")), Audience::Region(region("DE")));
    for (audience, format) in [
        (&Audience::Everyone, Format::NewTrending),
        (&pl, Format::NewTrending),
        (&de, Format::ViralAlert),
        (&general(), Format::ViralAlert),
    ] {
        let page = subscriptions.page(audience, SlotRange::WHOLE, None).await.expect("read");
        let members: Vec<_> =
            page.members.iter().map(|member| (&member.connection, member.format, member.since)).collect();
        assert_eq!(members, [(&id, format, since)], "{audience}");
    }
    let state = subscriptions.state(&id).await.expect("read");
    let RecordedState::Open(memberships) = state else { panic!("{state:?}") };
    let formats = [&pl, &de, &general(), &Audience::All].map(|audience| memberships.format_in(audience));
    assert_eq!(formats, [Some(Format::NewTrending), Some(Format::ViralAlert), Some(Format::ViralAlert), None]);
    assert_eq!(memberships.first_room.map(Audience::Room), Some(general()));
    let closed = subscriptions.state(&connection(CLOSED).id).await.expect("read");
    assert_eq!(closed, RecordedState::Closed);

    let one = Charged::Message(MessageRate::per_second(1).expect("a rate"));
    let waits = subscriptions.admit(&connection(OPEN), MembershipChange::None, one).await.expect("asked");
    let waits = waits.expect_err("a message came at this moment");
    assert_eq!((waits.code, waits.retry_after), (Code::RateLimited, Some(Duration::from_millis(100))));
    let full = subscriptions.open(&connects("eHrdHcnvvHcCGBB=")).await.expect("asked").expect_err("the seat is taken");
    assert_eq!(full.code, Code::LimitReached);
    let noted = subscriptions.mark_closed(&id).await.expect("closed");
    let audiences: BTreeSet<String> = noted.audiences.into_iter().collect();
    assert_eq!(audiences, ["DE", "PL", "room#general"].map(str::to_owned).into());
    assert_eq!(noted.seats.len(), 1);
    let again = subscriptions.mark_closed(&id).await.expect("closed");
    assert_eq!(again.audiences.into_iter().collect::<BTreeSet<_>>(), audiences, "the first answer may be lost");
    assert_eq!(again.seats, noted.seats);
}
