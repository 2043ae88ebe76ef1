//! Measures what `docs/performance.md` reports. Build before you measure:
//!
//! ```text
//! cargo build --release --workspace --bins && ulimit -n 20000 && target/release/benches
//! ```
//!
//! Clients and servers share the machine, so every figure includes the cost of both.

mod audience;
mod client;
mod fanout;
mod figure;
mod figures;
mod machine;
mod peers;
mod process;
mod soak;
mod startup;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};

use crate::{
    client::{Subscriber, post},
    figure::Bar,
    figures::Figures,
    process::Server,
};

/// Measures the service, the emulator and the servers that they replace
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Subject::value_variants().to_vec())]
    measure: Vec<Subject>,

    /// Repetitions, of which the median is reported
    #[arg(long, default_value_t = 5)]
    runs: usize,

    /// Sizes of the audience of one alert
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 17_000])]
    audiences: Vec<usize>,

    /// Write a chart of one alert to 10,000 subscribers, with the peers, to this file
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,

    /// Keep connections open for this many minutes while some come and go, instead of measuring
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,

    /// Connections to keep open
    #[arg(long, default_value_t = 10_000, requires = "soak")]
    soak_connections: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// From the start of the program to its `ready`
    Ready,
    /// From the POST of an alert to its frame, with one subscriber
    Latency,
    /// One alert to many, without a quota
    Fanout,
    /// One alert to 10,000, with the quotas of the service
    Quota,
    /// One alert to few, alone and among many others
    Others,
    /// One alert to 1,000 and to 10,000 through other servers
    Peers,
    /// Start of the functions' processes
    Startup,
}

/// Alerts before the measured ones, to warm code, caches and connections.
const WARM_UP_ALERTS: usize = 20;

/// Alerts whose time from POST to frame is measured.
const LATENCY_ALERTS: usize = 500;

/// Audience that the service's quota covers in a second, and of the comparison with peers.
const TEN_THOUSAND: usize = 10_000;

/// The smaller audience of that comparison.
const THOUSAND: usize = 1_000;

/// Name of this project among its peers.
const OWN: &str = "Viral Alerts";

/// The alert that is published.
const ALERT: &str = concat!(
    r#"{"region":"PL","video":{"id":"v1","title":"Zażółć gęślą jaźń","#,
    r#""thumbnail":"https://t.example/1.jpg","score":97}}"#
);

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

// One thread: it shares the processor with the servers, and threads that wake each other would cost more CPU.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    if let Some(minutes) = arguments.soak {
        return soak::run(minutes, arguments.soak_connections).await;
    }
    println!("Machine: {}\n", machine::description());
    println!("| what | median | lowest | highest | n |\n|---|---|---|---|---|");
    let runs = arguments.runs;
    let mut bars = Vec::new();
    for subject in arguments.measure {
        match subject {
            Subject::Ready => start_to_ready(runs).await?,
            Subject::Latency => post_to_frame().await?,
            Subject::Fanout => {
                for audience in arguments.audiences.iter().copied() {
                    let time = fanout::one_alert_to(audience, runs).await?;
                    if audience == TEN_THOUSAND {
                        bars.push(Bar { name: format!("{OWN}, each a signed POST"), time });
                    }
                }
            }
            Subject::Quota => fanout::at_quotas(TEN_THOUSAND, runs).await?,
            Subject::Others => fanout::among_others(runs).await?,
            Subject::Peers => {
                peers::one_alert_to(THOUSAND, runs).await?;
                bars.extend(peers::one_alert_to(TEN_THOUSAND, runs).await?);
            }
            Subject::Startup => startup::of_functions(runs).await?,
        }
    }
    for ratio in ratios(&bars) {
        println!("{ratio}");
    }
    if let Some(path) = arguments.figure {
        let title = "One alert to 10,000 sockets on one machine with two cores: publish to last frame";
        std::fs::write(path, figure::draw(title, OWN, bars))?;
    }
    Ok(())
}

/// Rows with how many times as long this project takes as each peer of the same run.
fn ratios(bars: &[Bar]) -> Vec<String> {
    let Some((own, peers)) = bars.split_first().filter(|(own, _)| own.name.starts_with(OWN)) else { return Vec::new() };
    let row = |peer: &Bar| {
        let ratio = own.time.as_secs_f64() / peer.time.as_secs_f64();
        format!("| one alert to {TEN_THOUSAND}: {OWN} takes as long as {}, times | {ratio:.2} | | | |", peer.name)
    };
    peers.iter().map(row).collect()
}

async fn start_to_ready(runs: usize) -> Outcome<()> {
    let mut figures = Figures::new();
    for _ in 0..runs {
        let started = Instant::now();
        let local = Server::local().await?;
        figures.add(started.elapsed());
        local.stop().await?;
    }
    figures.print("start to `ready`");
    Ok(())
}

async fn post_to_frame() -> Outcome<()> {
    let local = Server::local().await?;
    let mut subscriber = Subscriber::connect(&local.ws, "?region=PL").await?;
    let mut figures = Figures::new();
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

/// Bound of every wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_one_run_and_none_is_printed_without_a_figure_of_our_own() {
        let bar = |name: &str, ms| Bar { name: name.to_owned(), time: Duration::from_millis(ms) };
        let (own, peer) = (bar(&format!("{OWN}, each a signed POST"), 300), bar("Node.js ws", 120));
        let rows = ratios(&[own, peer]);
        assert_eq!(rows, ["| one alert to 10000: Viral Alerts takes as long as Node.js ws, times | 2.50 | | | |"]);
        assert!(ratios(&[bar("Node.js ws", 120)]).is_empty());
        assert!(ratios(&[]).is_empty());
    }
}
