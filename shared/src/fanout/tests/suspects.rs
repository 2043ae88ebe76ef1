//! Suspects in small worlds: what is asked about them, when, and what becomes of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clock::Timestamp;
use tokio::time::{Instant, sleep};

use super::{connection, deadline, fanout, member, task};
use crate::{
    error::InternalError,
    fanout::{Content, Fanout, FanoutTask, Services},
    limits::{
        GONE_AGAIN_AFTER, GONE_OVER, GONE_REMOVED_MAX, HANDOVER_BEFORE, PUSH_RATE_USED, SUSPECT_QUESTIONS_MAX,
        SUSPECTS_END_BEFORE,
    },
    model::{
        alert::Alert,
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
        member::{AudiencePage, Member},
        room::RoomMessage,
    },
    push::{Cause, ConnectionState, Frame, PostOutcome},
};

/// What was asked about a connection, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Post,
    Look,
    Close,
}

/// A world whose gateway answers questions about some connections from a list: true says that one is there. When the
/// list is at its end, they are gone. All others are there.
struct Lying {
    members: Vec<Member>,
    answers: BTreeMap<ConnectionId, Mutex<VecDeque<bool>>>,
    look_takes_ms: AtomicU64,
    /// What every look is answered instead.
    look_says: Option<ConnectionState>,
    began: Instant,
    asked: Mutex<Vec<(ConnectionId, Asked, Duration)>>,
    removed: Mutex<Vec<ConnectionId>>,
    started: Mutex<Vec<FanoutTask>>,
}

impl Lying {
    /// `others` that are there, and after them one for each list of answers.
    fn world(others: usize, lists: &[&[bool]]) -> Self {
        let mut members: Vec<Member> = (0..others + lists.len()).map(member).collect();
        let answers = lists
            .iter()
            .enumerate()
            .map(|(number, list)| (connection(others + number), Mutex::new(list.iter().copied().collect())));
        let answers = answers.collect();
        members.sort_by_cached_key(|member| Slot::of(&member.connection));
        Self {
            members,
            answers,
            look_takes_ms: 5.into(),
            look_says: None,
            began: Instant::now(),
            asked: Mutex::default(),
            removed: Mutex::default(),
            started: Mutex::default(),
        }
    }

    async fn is_there(&self, id: &ConnectionId, asked: Asked) -> bool {
        let ms = if asked == Asked::Look { self.look_takes_ms.load(Ordering::Relaxed) } else { 5 };
        sleep(Duration::from_millis(ms)).await;
        self.asked.lock().expect("unpoisoned").push((id.clone(), asked, self.began.elapsed()));
        let answers = self.answers.get(id).map(|answers| answers.lock().expect("unpoisoned").pop_front());
        answers.is_none_or(|answer| answer.unwrap_or(false))
    }

    /// What was asked about one of those with a list of answers.
    fn asked_of(&self, number: usize) -> Vec<(Asked, Duration)> {
        let id = connection(number);
        let asked = self.asked.lock().expect("unpoisoned");
        asked.iter().filter(|(of, ..)| *of == id).map(|(_, asked, at)| (*asked, *at)).collect()
    }
}

impl Services for Lying {
    async fn has(&self, _: &Alert) -> Result<bool, InternalError> {
        Ok(true)
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        _: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        let is_here =
            |member: &&Member| *audience != Audience::All && range.contains(Slot::of(&member.connection).hash());
        Ok(AudiencePage { members: self.members.iter().filter(is_here).cloned().collect(), next: None })
    }

    async fn post(&self, connection: &ConnectionId, _: &Frame) -> PostOutcome {
        if self.is_there(connection, Asked::Post).await { PostOutcome::Sent } else { PostOutcome::Gone }
    }

    async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
        let existence =
            if self.is_there(connection, Asked::Look).await { ConnectionState::Open } else { ConnectionState::Gone };
        self.look_says.unwrap_or(existence)
    }

    async fn close(&self, connection: &ConnectionId) -> ConnectionState {
        if self.is_there(connection, Asked::Close).await { ConnectionState::Open } else { ConnectionState::Gone }
    }

    async fn remove(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
        self.removed.lock().expect("unpoisoned").extend(connections);
        Ok(())
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.started.lock().expect("unpoisoned").push(task.clone());
        Ok(())
    }

    fn random(&self) -> f64 {
        0.5
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_given_up_after_three_answers_that_agree_and_closed_as_it_is_removed() {
    use Asked::{Close, Look, Post};
    let (yes, no) = (true, false);
    // What is answered, what is asked then, and whether it is sent, or gone, or even there when it is closed.
    let table: [(&[bool], &[Asked], [u64; 3]); 6] = [
        (&[no, yes, yes], &[Post, Look, Post], [1, 0, 0]),
        (&[no, no, yes], &[Post, Look, Post], [1, 0, 0]),
        (&[no, no, no, no], &[Post, Look, Post, Close], [0, 1, 0]),
        (&[no, no, no, yes], &[Post, Look, Post, Close], [0, 1, 1]),
        (&[no, yes, no, yes, no, yes, yes], &[Post, Look, Post, Look, Post, Look, Post], [1, 0, 0]),
        (&[no, yes, no, no, no, no], &[Post, Look, Post, Look, Post, Close], [0, 1, 0]),
    ];
    let message = RoomMessage {
        id: "0193-message".to_owned(),
        room: "global".parse().expect("a room"),
        frame: r#"{"type":"chat"}"#.to_owned(),
        until: Timestamp::from_millis(i64::MAX),
    };
    let message = FanoutTask { content: Content::RoomMessage(message), ..task(0) };
    for ((answers, questions, [sent, gone, closed]), task) in
        table.into_iter().flat_map(|row| [(row, task(0)), (row, message.clone())])
    {
        let fanout = fanout(Lying::world(0, &[answers]), 10_000.0);
        let fanout = Fanout { fallback_to_everyone: false, ..fanout };
        let report = fanout.deliver(&task, deadline()).await.expect("delivered");
        assert_eq!((report.sent, report.gone, report.closed), (sent, gone, closed), "{answers:?}");
        assert_eq!((report.undelivered.len(), report.handed_over), (0, false), "{answers:?}");
        let asked = fanout.services.asked_of(0);
        assert_eq!(asked.iter().map(|(asked, _)| *asked).collect::<Vec<_>>(), questions, "{answers:?}");
        let removed = fanout.services.removed.lock().expect("unpoisoned");
        assert_eq!(removed.len() as u64, gone, "{answers:?}");
        if let [.., (_, first), (_, second), (_, third), (Close, closed)] = asked[..] {
            assert!(second >= first + GONE_AGAIN_AFTER && third >= first + GONE_OVER, "{answers:?}: {asked:?}");
            assert!(closed - third < Duration::from_millis(20), "{answers:?}: at once, {asked:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_are_there_have_it_before_anybody_is_asked_about_again() {
    const OTHERS: usize = 2_000;
    let fanout = fanout(Lying::world(OTHERS, &[&[][..]; 500]), 500.0);
    let report = fanout.deliver(&task(0), deadline()).await.expect("delivered");
    assert_eq!((report.sent, report.gone, report.closed), (OTHERS as u64, 500, 0));
    let asked = fanout.services.asked.lock().expect("unpoisoned");
    let first_look = asked.iter().position(|(_, asked, _)| *asked == Asked::Look).expect("looks");
    let late = asked[first_look..].iter().filter(|(id, ..)| !fanout.services.answers.contains_key(id)).count();
    assert_eq!((first_look, late), (OTHERS + 500, 0));
    // Every call keeps to the rate.
    let took = (asked.len() as f64 / (500.0 * PUSH_RATE_USED)).ceil();
    assert_eq!(asked.len(), OTHERS + 4 * 500);
    assert!(asked.last().expect("calls").2.as_secs_f64() > took - 1.0, "{:?} for {}", asked.last(), asked.len());
}

#[tokio::test(start_paused = true)]
async fn suspects_that_are_too_many_are_asked_about_in_between_and_none_is_forgotten() {
    let gone = vec![&[][..]; GONE_REMOVED_MAX + 100];
    let lied_about = vec![&[false, true, true][..]; 1_000];
    let fanout = fanout(Lying::world(15_000, &[gone, lied_about].concat()), 50_000.0);
    let fanout = Fanout { suspects_max: 1_000, ..fanout };
    let report = fanout.deliver(&task(0), deadline()).await.expect("delivered");
    assert_eq!((report.sent, report.gone), (16_000, GONE_REMOVED_MAX as u64 + 100));
    assert!(report.undelivered.is_empty() && !report.handed_over);
    let asked = fanout.services.asked.lock().expect("unpoisoned");
    let first_look = asked.iter().position(|(_, asked, _)| *asked == Asked::Look).expect("looks");
    assert!(asked[first_look..].iter().any(|(id, ..)| !fanout.services.answers.contains_key(id)), "all at the end");
    let removed = fanout.services.removed.lock().expect("unpoisoned").len();
    assert_eq!(removed, GONE_REMOVED_MAX, "the next alert finds the others");
}

#[tokio::test(start_paused = true)]
async fn suspects_for_whom_there_is_no_time_are_handed_over_and_get_it() {
    let fanout = fanout(Lying::world(50, &[&[false, true, true][..]; 20]), 1_000.0);
    fanout.services.look_takes_ms.store(60_000, Ordering::Relaxed);
    let deadline = Instant::now() + HANDOVER_BEFORE + Duration::from_secs(1);
    let report = fanout.deliver(&task(0), deadline).await.expect("delivered");
    assert_eq!((report.sent, report.gone, report.undelivered.len(), report.handed_over), (50, 0, 0, true));
    assert!(Instant::now() < deadline - SUSPECTS_END_BEFORE + Duration::from_millis(10), "in good time");
    let started = std::mem::take(&mut *fanout.services.started.lock().expect("unpoisoned"));
    let [rest] = &started[..] else { panic!("{started:?}") };
    let sizes: Vec<u64> = rest.part.iter().flat_map(|part| &part.ranges).map(|range| range.size()).collect();
    assert_eq!(sizes, [1; 20], "they alone");
    fanout.services.look_takes_ms.store(5, Ordering::Relaxed);
    let report = fanout.deliver(rest, self::deadline()).await.expect("delivered");
    assert_eq!((report.sent, report.gone, report.undelivered.len(), report.handed_over), (20, 0, 0, false));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_be_asked_nobody_is_given_up() {
    let table = [
        (ConnectionState::Forbidden, 1),
        (ConnectionState::Unknown, SUSPECT_QUESTIONS_MAX as usize),
        (ConnectionState::Throttled, SUSPECT_QUESTIONS_MAX as usize),
    ];
    for (says, looks) in table {
        let world = Lying { look_says: Some(says), ..Lying::world(1, &[&[false]]) };
        let fanout = fanout(world, 1_000.0);
        let report = fanout.deliver(&task(0), deadline()).await.expect("delivered");
        assert_eq!((report.sent, report.gone), (1, 0), "{says:?}");
        assert_eq!(report.undelivered, [(Cause::Unconfirmed, 1)].into(), "{says:?}");
        assert_eq!(fanout.services.asked_of(1).len(), 1 + looks, "{says:?}");
        assert!(fanout.services.began.elapsed() < Duration::from_secs(25), "{says:?}");
        assert!(fanout.services.removed.lock().expect("unpoisoned").is_empty(), "{says:?}");
    }
}
