//! In virtual time, against a service that answers as the test says.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, sleep};

use super::*;

const TERMS: Terms = Terms {
    doing: "fetching",
    age_max: Duration::from_secs(300),
    kept_max: Duration::from_secs(3_600),
    timeout: Duration::from_secs(5),
};

/// How the service answers.
#[derive(Clone, Copy)]
enum Says {
    /// A value, after some time.
    Value(u32, Duration),
    Error,
    Panic,
}

/// A value with its service and its clock, which goes as tokio's does.
struct World {
    value: Arc<Refreshed<u32>>,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicU32>,
    ms: Arc<AtomicI64>,
}

impl World {
    fn new(says: Says) -> Self {
        let (says, asked, ms) = (Arc::new(Mutex::new(says)), Arc::<AtomicU32>::default(), Arc::<AtomicI64>::default());
        let (at, count) = (Arc::clone(&says), Arc::clone(&asked));
        let fetch = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let says = *at.lock().expect("unpoisoned");
            async move {
                match says {
                    Says::Value(value, after) => {
                        sleep(after).await;
                        Ok(value)
                    }
                    Says::Error => Err("status 500".into()),
                    Says::Panic => panic!("a bug"),
                }
            }
            .boxed()
        };
        let value = Refreshed::new(TERMS, "it".to_owned(), Clock::Manual(Arc::clone(&ms)), fetch);
        Self { value: Arc::new(value), says, asked, ms }
    }

    fn says(&self, says: Says) {
        *self.says.lock().expect("unpoisoned") = says;
    }

    async fn pass(&self, time: Duration) {
        self.ms.fetch_add(i64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
        sleep(time).await;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    /// What one caller gets, and how long that takes.
    async fn get(&self) -> (Option<u32>, Duration) {
        let began = Instant::now();
        (self.value.get().await.ok(), began.elapsed())
    }

    /// What many callers get who come at one moment.
    async fn crowd(&self) -> Vec<(Option<u32>, Duration)> {
        join_all((0..20).map(|_| self.get())).await
    }
}

const AT_ONCE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const HANGS: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn many_who_come_before_the_first_value_wait_for_one_fetch() {
    let world = World::new(Says::Value(1, SECOND));
    assert_eq!(world.crowd().await, [(Some(1), SECOND); 20]);
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_fetch_that_fails_is_tried_again_after_1_2_4_and_5_seconds() {
    let world = World::new(Says::Error);
    let mut asked_after = Vec::new();
    for second in 0..20 {
        let before = world.asked();
        assert_eq!(world.crowd().await, [(None, AT_ONCE); 20], "{second}");
        assert!(world.asked() <= before + 1, "one of 20 asks");
        if world.asked() > before {
            asked_after.push(second);
        }
        world.pass(SECOND).await;
    }
    assert_eq!(asked_after, [0, 1, 3, 7, 12, 17]);
    world.says(Says::Value(1, AT_ONCE));
    world.pass(2 * SECOND).await;
    assert_eq!(world.get().await, (Some(1), AT_ONCE), "the first who comes after the pause has the value");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_a_fetch_may_take() {
    let world = World::new(Says::Value(1, HANGS));
    assert_eq!(world.crowd().await, [(None, TERMS.timeout); 20]);
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_value_is_used_at_once_by_all_but_the_one_who_fetches() {
    let world = World::new(Says::Value(1, AT_ONCE));
    world.get().await;
    world.pass(TERMS.age_max).await;
    world.says(Says::Value(2, SECOND / 2));
    let mut got = world.crowd().await;
    assert_eq!(got.remove(0), (Some(2), SECOND / 2), "who fetches gets the new value");
    assert_eq!(got, [(Some(1), AT_ONCE); 19]);
    assert_eq!((world.get().await, world.asked()), ((Some(2), AT_ONCE), 2));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_costs_one_caller_a_second_and_a_late_answer_counts() {
    let world = World::new(Says::Value(1, AT_ONCE));
    world.get().await;
    world.pass(TERMS.age_max).await;
    world.says(Says::Value(2, 4 * SECOND));
    let got = world.crowd().await;
    assert_eq!((got[0], &got[1..]), ((Some(1), REFRESH_WAIT), &[(Some(1), AT_ONCE); 19][..]));
    world.pass(SECOND).await;
    assert_eq!((world.get().await, world.asked()), ((Some(1), AT_ONCE), 2), "it is still being fetched");
    world.pass(3 * SECOND).await;
    assert_eq!((world.get().await, world.asked()), ((Some(2), AT_ONCE), 2));
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_an_older_value_is_used_until_its_last_time_and_the_new_one_soon_after_the_end() {
    let world = World::new(Says::Value(1, AT_ONCE));
    world.get().await;
    world.says(Says::Error);
    world.pass(TERMS.age_max).await;
    assert_eq!(world.crowd().await, [(Some(1), AT_ONCE); 20]);
    assert_eq!(world.asked(), 2, "20 callers ask once");
    for _ in 0..60 {
        world.get().await;
        world.pass(SECOND).await;
    }
    assert_eq!(world.asked(), 2 + 13, "after 1, 2 and 4 seconds, and then every 5");
    world.says(Says::Value(2, AT_ONCE));
    world.pass(REFRESH_PAUSE_MAX).await;
    assert_eq!(world.get().await, (Some(2), AT_ONCE));

    world.says(Says::Error);
    world.pass(TERMS.kept_max - SECOND).await;
    assert_eq!(world.get().await, (Some(2), AT_ONCE));
    world.pass(SECOND).await;
    assert_eq!(world.get().await, (None, AT_ONCE), "not longer than it may be kept");
}

#[tokio::test(start_paused = true)]
async fn asked_for_a_newer_value_it_fetches_once_in_a_pause_and_says_when_that_failed() {
    let world = World::new(Says::Value(1, AT_ONCE));
    world.get().await;
    let again = || async { join_all((0..20).map(|_| world.value.get_again(60 * SECOND))).await };
    let values = |got: Vec<Result<u32, InternalError>>| got.into_iter().map(Result::ok).collect::<Vec<_>>();
    assert_eq!((values(again().await), world.asked()), (vec![Some(1); 20], 1), "it was fetched just now");
    world.pass(60 * SECOND).await;
    world.says(Says::Value(2, SECOND));
    assert_eq!((values(again().await), world.asked()), (vec![Some(2); 20], 2));
    world.pass(60 * SECOND).await;
    world.says(Says::Error);
    assert_eq!((values(again().await), world.asked()), (vec![None; 20], 3));
    world.pass(59 * SECOND).await;
    assert_eq!((values(again().await), world.asked()), (vec![None; 20], 3));
    assert_eq!(world.get().await, (Some(2), AT_ONCE), "the value is young");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_and_a_fetch_that_panics_leave_the_way_free() {
    let world = World::new(Says::Value(1, SECOND));
    assert!(timeout(SECOND / 2, world.get()).await.is_err());
    assert_eq!((world.get().await, world.asked()), ((Some(1), SECOND / 2), 1), "the next one waits for the same fetch");
    let world = World::new(Says::Panic);
    assert_eq!(world.get().await.0, None);
    world.says(Says::Value(1, AT_ONCE));
    assert_eq!(world.get().await.0, Some(1));
}
