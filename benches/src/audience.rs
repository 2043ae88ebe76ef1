//! Subscribers that wait for alerts, and one alert to all of them.

use std::time::{Duration, Instant};

use tokio::{
    sync::mpsc,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use crate::{ALERT, Outcome, WAIT_MAX, client, process::Server};

/// Pause after opening sockets, for the servers to settle.
const REST: Duration = Duration::from_millis(500);

/// Number of subscribers from which on their sockets are polled instead of awaited.
const MANY: usize = 1_000;

/// Interval of that polling, by which an arrival may be recorded too late.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Subscribers of one region, each with a task that reads its frames.
#[derive(Debug)]
pub(crate) struct Audience {
    size: usize,
    arrivals: mpsc::UnboundedReceiver<Instant>,
    arrived: mpsc::UnboundedSender<Instant>,
    readers: JoinSet<Outcome<()>>,
}

/// Time from the POST of an alert to its arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    /// At the first subscriber.
    pub(crate) first: Duration,
    /// At the last.
    pub(crate) last: Duration,
}

impl Audience {
    pub(crate) fn new() -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        Self { size: 0, arrivals, arrived, readers: JoinSet::new() }
    }

    /// Connects more subscribers.
    pub(crate) async fn grow(&mut self, ws: &str, query: &str, count: usize) -> Outcome<()> {
        for mut subscriber in client::connect_all(ws, query, count).await? {
            let arrived = self.arrived.clone();
            self.readers.spawn(async move {
                loop {
                    // The receiver outlives the readers.
                    let _ = arrived.send(subscriber.any_frame().await?);
                }
            });
        }
        self.size += count;
        sleep(REST).await;
        Ok(())
    }

    /// Publishes one alert and waits until each subscriber has it once.
    pub(crate) async fn alert(&mut self, server: &Server) -> Outcome<Arrivals> {
        let started = Instant::now();
        client::post(&server.http, ALERT).await?;
        let (mut first, mut last) = (Duration::MAX, Duration::ZERO);
        for _ in 0..self.size {
            let at = self.next().await?;
            let after = at.saturating_duration_since(started);
            (first, last) = (first.min(after), last.max(after));
        }
        match self.arrivals.try_recv() {
            Ok(_) => Err("an alert arrived twice".into()),
            Err(_) => Ok(Arrivals { first, last }),
        }
    }

    /// The next arrival.
    async fn next(&mut self) -> Outcome<Instant> {
        if self.size < MANY {
            return tokio::select! {
                at = timeout(WAIT_MAX, self.arrivals.recv()) => Ok(at?.ok_or("no readers")?),
                Some(ended) = self.readers.join_next() => Err(format!("a subscriber ended: {ended:?}").into()),
            };
        }
        let asked = Instant::now();
        while asked.elapsed() < WAIT_MAX {
            if let Ok(at) = self.arrivals.try_recv() {
                return Ok(at);
            }
            if let Some(ended) = self.readers.try_join_next() {
                return Err(format!("a subscriber ended: {ended:?}").into());
            }
            // Sender and readers share a processor. To wake the reader for each frame would cost more than to read it.
            std::thread::sleep(LOOK_EVERY);
            yield_now().await;
        }
        Err(format!("no frame within {} s", WAIT_MAX.as_secs()).into())
    }
}
