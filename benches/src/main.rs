//! Measures what `docs/performance.md` reports. Build first, then run, so that nothing is compiled meanwhile:
//!
//! ```text
//! cargo build --release --workspace --bins && ulimit -n 20000 && target/release/benches
//! ```
//!
//! Clients and the local mode share the machine, so every figure contains the cost of both ends.

mod client;
mod figures;
mod process;
mod soak;
mod startup;

use std::time::{Duration, Instant};

use clap::Parser;

use crate::{
    client::{Subscriber, connect_all, post},
    figures::Figures,
    process::Local,
};

/// Measures the local mode and the functions.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of everything that is repeated; the median of them is reported
    #[arg(long, default_value_t = 5)]
    runs: usize,

    /// Sizes of the audience that one alert goes to
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    audiences: Vec<usize>,

    /// Instead of measuring, keep connections open for this many minutes while some come and go
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,

    /// Connections that are kept open
    #[arg(long, default_value_t = 10_000, requires = "soak")]
    soak_connections: usize,
}

/// Alerts after which code, caches and connections are warm.
const WARM_UP_ALERTS: usize = 20;

/// Alerts of which the way from POST to frame is measured.
const LATENCY_ALERTS: usize = 500;

/// Region that nothing else uses.
const ALERT: &str = r#"{"region":"PL","video":{"id":"v1","title":"Zażółć gęślą jaźń","thumbnail":"https://t.example/1.jpg","score":97}}"#;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    if let Some(minutes) = arguments.soak {
        return soak::run(minutes, arguments.soak_connections).await;
    }
    println!("| what | median | lowest | highest | n |\n|---|---|---|---|---|");
    start_to_ready(arguments.runs).await?;
    post_to_frame().await?;
    for audience in arguments.audiences {
        one_alert_to(audience, arguments.runs).await?;
    }
    startup::of_functions(arguments.runs).await
}

async fn start_to_ready(runs: usize) -> Outcome<()> {
    let mut figures = Figures::default();
    for _ in 0..runs {
        let started = Instant::now();
        let local = Local::start().await?;
        figures.add(started.elapsed());
        local.stop().await?;
    }
    figures.print("start to `ready`");
    Ok(())
}

async fn post_to_frame() -> Outcome<()> {
    let local = Local::start().await?;
    let mut subscriber = Subscriber::connect(&local.ws, "?region=PL").await?;
    let mut figures = Figures::default();
    for count in 0..WARM_UP_ALERTS + LATENCY_ALERTS {
        let started = Instant::now();
        let (posted, received) = tokio::join!(post(&local.http, ALERT), subscriber.frame());
        posted?;
        let received = received?;
        if count >= WARM_UP_ALERTS {
            figures.add(received - started);
        }
    }
    figures.print("POST to frame, one subscriber");
    local.stop().await
}

async fn one_alert_to(audience: usize, runs: usize) -> Outcome<()> {
    let local = Local::start().await?;
    let started = Instant::now();
    let mut subscribers = connect_all(&local.ws, audience / 2).await?;
    let half_kb = local.resident_kb()?;
    subscribers.extend(connect_all(&local.ws, audience - audience / 2).await?);
    let connecting = started.elapsed();
    let per_second = audience as f64 / connecting.as_secs_f64();
    println!("| connect and subscribe {audience}, per second | {per_second:.0} | | | 1 |");
    let connected_kb = local.resident_kb()?;
    // Of the second half alone: what is there once, such as the inspector's records, is there by then.
    println!(
        "| resident memory per idle connection, of {audience}, table items included | {:.1} KB | | | 1 |",
        connected_kb.saturating_sub(half_kb) as f64 / (audience - audience / 2) as f64
    );

    let (mut first, mut last, mut cpu) = (Figures::default(), Figures::default(), Figures::default());
    for run in 0..=runs {
        let cpu_before = local.cpu()?;
        let started = Instant::now();
        let frames = subscribers.into_iter().map(|mut subscriber| {
            tokio::spawn(async move {
                let at = subscriber.frame().await?;
                Outcome::Ok((subscriber, at))
            })
        });
        let frames: Vec<_> = frames.collect();
        let posted = post(&local.http, ALERT).await;
        subscribers = Vec::with_capacity(audience);
        let mut arrivals = Vec::with_capacity(audience);
        for frame in frames {
            let (subscriber, at) = frame.await??;
            subscribers.push(subscriber);
            arrivals.push(at - started);
        }
        posted?;
        arrivals.sort_unstable();
        // The first run is the warm-up.
        if let (true, [earliest, .., latest]) = (run > 0, arrivals.as_slice()) {
            first.add(*earliest);
            last.add(*latest);
            cpu.add((local.cpu()? - cpu_before) / u32::try_from(audience)?);
        }
    }
    first.print(&format!("one alert to {audience}: publish to first frame"));
    last.print(&format!("one alert to {audience}: publish to last frame"));
    cpu.print(&format!("one alert to {audience}: CPU of the local mode per push"));
    drop(subscribers);
    local.stop().await
}

/// Bound of every wait for one thing.
const WAIT_MAX: Duration = Duration::from_secs(60);
