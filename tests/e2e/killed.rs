//! A fan-out whose worker processes are killed, while the gateway has the faults that are reported of it.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use apigw_local::FaultKind;
use futures_util::{StreamExt, stream};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Error, Message, protocol::WebSocketConfig},
};

use crate::{
    delivery::leave_behind_in_a_sixth_of_the_ring,
    site::{Client, Received, Site, root, run},
};

/// Clients that watch PL.
const WATCHERS: usize = 5_000;

/// Clients that watch another region.
const OUTSIDERS: usize = 20;

/// Subscriptions of dead connections.
const LEFTOVERS: usize = 200;

/// How often workers are killed.
const KILLS: usize = 3;

/// Pushes per second, few enough for debug builds on a busy machine.
const PUSH_RATE: &str = "300";

/// The time-out of deliver in seconds. A worker hands over 15 s before it, so each works for seven seconds.
const DELIVER_TIMEOUT: &str = "Timeout: 22";

/// Bound of each wait for a share of the connections.
const FANOUT_WAIT: Duration = Duration::from_secs(60);

/// What one client received.
#[derive(Default)]
struct Watcher {
    /// Copies of the alert.
    frames: AtomicU64,
    /// Whether it received a close frame.
    closed: AtomicBool,
    ended: AtomicBool,
}

impl Watcher {
    fn has_it(&self) -> bool {
        self.frames.load(Ordering::Relaxed) > 0
    }

    fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Whether its connection was cut without a close frame.
    fn is_dropped(&self) -> bool {
        !self.is_open() && !self.closed.load(Ordering::Relaxed)
    }
}

/// Writes the template with a short time-out of deliver, so that workers hand over every few seconds. The emulator
/// finds the functions' programs from where the file lies.
fn template() -> PathBuf {
    let text = fs::read_to_string(root().join("template.yaml")).expect("the template");
    assert_eq!(text.matches("Timeout: 900").count(), 1, "the time-out of deliver");
    let path = root().join("target/e2e/template.yaml");
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(&path, text.replace("Timeout: 900", DELIVER_TIMEOUT)).expect("written");
    path
}

/// Connects a client that watches PL, and counts what it receives. Retries a handshake whose function failed.
async fn watch(site: &Site) -> Arc<Watcher> {
    let address = format!("ws://{}/prod?region=PL", site.ws_addr);
    // The default buffers are too large for thousands of clients.
    let config = WebSocketConfig::default().read_buffer_size(4_096);
    let mut socket = loop {
        match connect_async_with_config(&address, Some(config), true).await {
            Ok((socket, _)) => break socket,
            Err(Error::Http(refusal)) => assert_eq!(refusal.status(), 502, "as when a function fails"),
            Err(error) => panic!("cannot connect: {error}"),
        }
    };
    let watcher = Arc::new(Watcher::default());
    let seen_by = Arc::clone(&watcher);
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    assert_eq!((&frame["region"], &frame["seq"]), (&json!("PL"), &json!(1)), "{frame}");
                    seen_by.frames.fetch_add(1, Ordering::Relaxed);
                }
                Message::Close(_) => seen_by.closed.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        seen_by.ended.store(true, Ordering::Relaxed);
    });
    watcher
}

/// Publishes with retries, as publishers do: with the same key until there is an answer.
async fn publish(site: &Site) {
    let body =
        json!({"region": "PL", "video": {"id": "v1", "title": "Title", "thumbnail": "", "score": 97}}).to_string();
    loop {
        let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
        let (status, answer) = site.post("/publish", &headers, body.clone()).await;
        if status == 200 {
            return assert_eq!(answer["seq"], 1);
        }
    }
}

/// Returns the process ids of deliver that this process has started.
fn workers() -> BTreeSet<i32> {
    let is_worker = |id: i32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        field("Name:") == Some("deliver") && field("PPid:") == Some(std::process::id().to_string().as_str())
    };
    let ids = fs::read_dir("/proc").expect("Linux").flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|&id| is_worker(id)).collect()
}

/// Waits until a condition is true, or fails with what is missing.
async fn until(condition: impl Fn() -> bool, missing: impl Fn() -> String) {
    let checks = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(FANOUT_WAIT, checks).await.is_ok();
    assert!(in_time, "not within {FANOUT_WAIT:?}: {}", missing());
}

#[test]
#[ignore = "needs the functions as programs; `tests/run faults` builds them and runs this"]
fn an_alert_reaches_everyone_though_its_workers_are_killed() {
    // This process holds both ends of each connection.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })
        .expect("up to the maximum");
    run(async {
        let begun = Instant::now();
        let site = Site::faulty_processes(
            template(),
            &[("PushRate", PUSH_RATE)],
            &[
                "throttled-post=0.02",
                "false-gone=0.01",
                "slow-post=0.01:300ms",
                "dropped-connection=0.0005",
                "failed-invocation=0.01",
            ],
        )
        .await;
        let watchers: Vec<_> = stream::iter(0..WATCHERS).map(|_| watch(&site)).buffer_unordered(64).collect().await;
        let mut outsiders = Vec::new();
        while outsiders.len() < OUTSIDERS {
            outsiders.extend(site.try_connect("/prod?region=DE", &[]).await.ok());
        }
        leave_behind_in_a_sixth_of_the_ring(&site, LEFTOVERS).await;
        println!("{WATCHERS} connected after {:?}", begun.elapsed());

        publish(&site).await;
        kill_workers(&watchers).await;
        let without = || watchers.iter().filter(|watcher| watcher.is_open() && !watcher.has_it()).count();
        until(|| without() == 0, || format!("{} open connections have not got the alert", without())).await;
        site.settled().await;
        let frames: u64 = watchers.iter().map(|watcher| watcher.frames.load(Ordering::Relaxed)).sum();
        let (workers, faults) = (site.invocations_of("DeliverFunction"), site.faults());
        println!("{frames} frames by {workers} invocations, {faults:?}, {:?} in all", begun.elapsed());
        let is_repeated = |watcher: &Arc<Watcher>| watcher.frames.load(Ordering::Relaxed) > 1;
        assert!(watchers.iter().any(is_repeated), "what a killed worker had done was done again, so kills hit");

        // Connections are open, except those that the gateway cut or lied about three times.
        let dropped = || watchers.iter().filter(|watcher| watcher.is_dropped()).count() as u64;
        let cut = || site.faults()[&FaultKind::DroppedConnection];
        until(|| dropped() == cut(), || format!("{} connections seen to be cut, {} are", dropped(), cut())).await;
        let left = watchers.iter().filter(|watcher| watcher.is_open()).count();
        let open = site.connections();
        assert_eq!(open.len(), left + OUTSIDERS);
        // Every open connection is still subscribed.
        let items: BTreeSet<(String, String)> = site.subscriptions().await.into_iter().collect();
        let is_subscribed =
            |id: &String| ["PL", "DE"].iter().any(|&region| items.contains(&(region.to_owned(), id.clone())));
        let lost: Vec<_> = open.iter().filter(|id| !is_subscribed(id)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        let before = cut();
        let missing = only_pongs(outsiders).await;
        assert_eq!(missing, cut() - before, "whoever says nothing was cut on purpose");
    });
}

/// Kills the workers of a fan-out several times while it reaches the watchers.
async fn kill_workers(watchers: &[Arc<Watcher>]) {
    let have = || watchers.iter().filter(|watcher| watcher.has_it()).count();
    for round in 0..KILLS {
        // Far enough apart to kill other workers each time, as an invocation has only three attempts.
        let share = WATCHERS * (3 + 5 * round) / 20;
        until(|| have() >= share && !workers().is_empty(), || format!("{} have it, workers {:?}", have(), workers()))
            .await;
        let victims = workers();
        for &worker in &victims {
            kill_process(Pid::from_raw(worker).expect("an id"), Signal::KILL).expect("a process of ours");
        }
        println!("killed {victims:?} when {} had the alert", have());
    }
}

/// Asserts that clients receive only the answers to their pings. Returns how many connections have ended instead.
async fn only_pongs(clients: Vec<Client>) -> u64 {
    let mut ended = 0;
    for mut client in clients {
        client.send(r#"{"type":"ping"}"#).await;
        match client.receive().await {
            Received::Text(text) => assert_eq!(text, r#"{"type":"pong"}"#, "a frame for somebody else"),
            Received::Closed(..) => ended += 1,
        }
    }
    ended
}
