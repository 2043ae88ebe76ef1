//! Whole worlds: a plan of what happens, everybody to whom it happens, and whether every guarantee held.

mod again;
mod answers;
mod clients;
mod end;
mod event_socket;
mod events;
mod extras;
mod grants;
pub mod guarantees;
mod holders;
pub mod items;
pub mod journal;
mod legs;
mod ours;
mod panics;
pub mod plan;
mod publishers;
mod readers;
mod repeats;
mod schedules;
mod shrink;
mod taken_back;

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apigw_local::Tables;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use self::{
    clients::Client,
    items::{Item, Mischief, Via, What},
    journal::Journal,
    publishers::Order,
};
pub use self::{
    plan::{Choice, Plan},
    shrink::shrink,
};
use crate::cloud::{BEGAN_MS, Cloud, FunctionName, Reached, Situation, lock};

/// Time after the last fault after which all is calm: two retries of Lambda, a redrive of what is left after them, and
/// the keepalive of our client.
pub const CALM_WITHIN: Duration = Duration::from_secs(12 * 60);

/// A world while it runs.
pub(crate) struct Run {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) journal: Mutex<Journal>,
    /// When clients stop, and whether they have to.
    ends_at: Mutex<Instant>,
    /// When faults end.
    calm_at: Instant,
    is_over: AtomicBool,
    over: Notify,
    /// What our clients went through.
    pub(crate) traces: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Run")
    }
}

/// The number under which a panic is told. No guarantee has it, so no planted bug may be found by it.
const NO_PANIC: u32 = 0;

/// How a world ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The guarantees that did not hold, with what was seen.
    pub broken: Vec<(u32, String)>,
    /// Two runs of one world have it in common.
    pub hash: u64,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    pub figures: Figures,
    /// How often the situations occurred that have to.
    pub reached: Reached,
    /// The traces of our clients.
    pub traces: Vec<String>,
}

/// What there was in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub clients: usize,
    pub connections: usize,
    pub alerts: usize,
    pub publishers: usize,
    pub database_requests: u64,
    /// Virtual seconds.
    pub seconds: u64,
}

impl Run {
    /// Whether clients have to stop.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= *lock(&self.ends_at)
    }

    /// How long faults go on.
    pub(crate) fn until_calm(&self) -> Duration {
        self.calm_at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn ends_at(&self) -> Instant {
        *lock(&self.ends_at)
    }

    /// Waits until clients have to stop. tokio's `watch` wakes those who wait in a random order.
    pub(crate) async fn over(&self) {
        let over = self.over.notified();
        if !self.is_over.load(Ordering::Relaxed) {
            over.await;
        }
    }
}

/// Runs the world of a plan, on a thread of its own.
///
/// # Panics
///
/// If the simulation itself is wrong.
pub fn run(tables: &Tables, plan: &Plan, keeps_lines: bool) -> Outcome {
    std::thread::scope(|scope| {
        let world = std::thread::Builder::new().spawn_scoped(scope, || {
            panics::keep();
            determinism::seed(plan.seed);
            let lived = panic::catch_unwind(AssertUnwindSafe(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
                runtime.expect("a runtime").block_on(async {
                    let millis = u64::try_from(BEGAN_MS).unwrap_or_default();
                    let _time = determinism::pause_time(Duration::from_millis(millis));
                    live(tables, plan, keeps_lines).await
                })
            }));
            let mut outcome = lived.unwrap_or_default();
            if let Some(panic) = panics::first() {
                outcome.broken.insert(0, (NO_PANIC, panic));
            }
            outcome
        });
        world.expect("a thread").join().expect("panics are caught")
    })
}

async fn live(tables: &Tables, plan: &Plan, keeps_lines: bool) -> Outcome {
    let cloud = Cloud::new(tables, plan.seed, plan.settings.clone(), plan.weather.clone(), keeps_lines);
    cloud.note(|| format!("seed {}: {:?}, {}", plan.seed, plan.settings, plan.weather));
    let far = Instant::now() + Duration::from_secs(100 * 86_400);
    let began = Instant::now();
    let run = Arc::new(Run {
        calm_at: began + Duration::from_millis(plan.span_ms),
        cloud: Arc::clone(&cloud),
        journal: Mutex::default(),
        ends_at: Mutex::new(far),
        is_over: AtomicBool::new(false),
        over: Notify::new(),
        traces: Mutex::default(),
    });
    let schedule = tokio::spawn({
        let run = Arc::clone(&run);
        async move { run.schedule().await }
    });
    let mut people = Vec::new();
    for item in &plan.items {
        let (run, item) = (Arc::clone(&run), item.clone());
        people.push(tokio::spawn(async move {
            sleep_until(began + Duration::from_millis(item.at_ms)).await;
            run.happens(item).await;
        }));
    }
    sleep_until(run.calm_at).await;
    cloud.calm_down();
    run.settle().await;
    run.probe().await;
    *lock(&run.ends_at) = Instant::now();
    run.is_over.store(true, Ordering::Relaxed);
    run.over.notify_waiters();
    schedule.abort();
    for person in people {
        if let Err(ended) = person.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
    run.check_applications();
    let heads = run.heads();
    run.afterwards().await;
    let figures = run.figures(plan, began.elapsed());
    if plan.items.iter().any(|item| item.what == What::Again) {
        run.again(&heads).await;
    }
    Outcome {
        broken: cloud.broken(),
        hash: cloud.trace_hash(),
        trace: cloud.trace(),
        figures,
        reached: cloud.reached(),
        traces: lock(&run.traces).clone(),
    }
}

impl Run {
    /// Invokes recover once a minute, as the template's schedule does, and removes what has expired, sooner or later.
    async fn schedule(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(60)).await;
            self.cloud.invoke_later(FunctionName::Recover, b"{}".to_vec());
            let late = self.cloud.weather().late_expiry_s as i64;
            self.cloud.store().expire(self.cloud.now_ms() / 1_000 - late);
        }
    }

    async fn happens(self: Arc<Self>, item: Item) {
        let name = format!("client-{}", item.number);
        let client = |allowed| Client::new(&self, name.clone(), allowed);
        match item.what {
            What::Reference { region } => client(None).reference(region).await,
            What::Plain { regions, leaves_after_ms } => client(None).plain(regions, leaves_after_ms).await,
            What::Ours { regions, changes, on_events } => {
                client(None).ours(regions, changes, BTreeMap::new(), on_events).await;
            }
            What::Intrude { region, pass } => self.intrude(item.number, &region, pass).await,
            What::Hostile { mischief, regions } => {
                let allowed = (mischief == Mischief::Trespass && self.cloud.settings.authorization != "off")
                    .then(|| vec!["DE".to_owned()]);
                client(allowed).hostile(mischief, regions).await;
            }
            What::Publish { publisher, region, via, has_key, count } => {
                let number = item.number;
                self.publish(Order { number, publisher, region: &region, via, has_key, count, bytes: 0 }).await;
            }
            What::Burst { publisher, region, count, bytes } => {
                let (number, via) = (item.number, Via::Http);
                self.publish(Order { number, publisher, region: &region, via, has_key: true, count, bytes }).await;
            }
            What::Remove { of } => self.remove(item.number, of).await,
            What::Read { region } => self.read(item.number, &region).await,
            What::Redeploy => self.cloud.redeploy(),
            What::Cut => self.cloud.cut(),
            What::Born { count } => self.born(item.number, count).await,
            What::Score { regions, pause_ms } => self.score(regions, pause_ms).await,
            What::Watch { pause_ms } => self.watch(pause_ms).await,
            What::Page { region, limit, pass } => self.page(item.number, &region, limit, pass).await,
            What::Conflict { of } => self.conflict(item.number, of).await,
            What::Holder { region, life_s, stays } => client(None).holder(region, life_s, stays).await,
            What::Redrive => {
                if self.cloud.dead_letters() > 0 && !self.cloud.is_calm() {
                    self.cloud.reaches(Situation::RedrivenEarly);
                }
                self.redrive().await;
            }
            What::Viral { region, window_s, times } => self.viral(item.number, &region, window_s, &times).await,
            What::Again => {}
        }
    }
}
