//! One alert to many subscribers of the service in the emulator.

use std::time::{Duration, Instant};

use crate::{Outcome, audience::Audience, figures::Figures, process::Server};

/// Alerts before the measured ones: they open connections to the gateway and size buffers.
const WARM_UP_ALERTS: usize = 2;

/// Name of deliver's thread, as far as the system keeps it.
const WORKER_THREAD: &str = "lambda-DeliverF";

/// Quota of requests per second and their burst, in most regions and in newer ones.
const QUOTAS: [(u32, u32); 2] = [(10_000, 5_000), (2_500, 1_250)];

/// Subscribers of the alert, among many others.
const FEW: usize = 100;
const OTHERS: usize = 15_000;

/// Alerts to them in each run.
const ALERTS_TO_FEW: usize = 20;

/// Measures one alert to `size` subscribers without a quota. Returns the median time to the last frame.
pub(crate) async fn one_alert_to(size: usize, runs: usize) -> Outcome<Duration> {
    let local = Server::local().await?;
    let mut audience = Audience::new();
    let started = Instant::now();
    audience.grow(&local.ws, "?region=PL", size / 2).await?;
    let half_kb = local.resident_kb()?;
    audience.grow(&local.ws, "?region=PL", size - size / 2).await?;
    let per_second = size as f64 / started.elapsed().as_secs_f64();
    println!("| connect and subscribe {size}, per second | {per_second:.0} | | | 1 |");
    // Of the second half only: what is allocated once, such as the inspector's records, is there by then.
    println!(
        "| resident memory per idle connection, of {size}, table items included | {:.1} KB | | | 1 |",
        local.resident_kb()?.saturating_sub(half_kb) as f64 / (size - size / 2) as f64
    );

    let [mut first, mut last, mut worker, mut rest] = [const { Figures::new() }; 4];
    for run in 0..WARM_UP_ALERTS + runs {
        let before = local.cpu_of_threads(WORKER_THREAD)?;
        let arrivals = audience.alert(&local).await?;
        let [mut of_worker, mut of_rest] = [Duration::ZERO; 2];
        for (thread, (is_worker, after)) in local.cpu_of_threads(WORKER_THREAD)? {
            let used = after.saturating_sub(before.get(&thread).map_or(Duration::ZERO, |(_, before)| *before));
            *if is_worker { &mut of_worker } else { &mut of_rest } += used;
        }
        if run >= WARM_UP_ALERTS {
            first.add(arrivals.first);
            last.add(arrivals.last);
            worker.add(of_worker / u32::try_from(size)?);
            rest.add(of_rest / u32::try_from(size)?);
        }
    }
    first.print(&format!("one alert to {size}: publish to first frame"));
    let median = last.median();
    last.print_with_rate(&format!("one alert to {size}: publish to last frame"), size);
    worker.print(&format!("one alert to {size}: CPU per push in the worker"));
    rest.print(&format!("one alert to {size}: CPU per push in gateway and database"));
    drop(audience);
    local.stop().await?;
    Ok(median)
}

/// Measures one alert to `size` subscribers with the quotas of the service, which deliver knows.
pub(crate) async fn at_quotas(size: usize, runs: usize) -> Outcome<()> {
    for (rate, burst) in QUOTAS {
        let (push_rate, request_rate) = (format!("PushRate={rate}"), format!("{rate}:{burst}"));
        let local = Server::local_with(&["--parameter", &push_rate, "--request-rate", &request_rate]).await?;
        let mut audience = Audience::new();
        audience.grow(&local.ws, "?region=PL", size).await?;
        let mut last = Figures::new();
        for _ in 0..runs {
            last.add(audience.alert(&local).await?.last);
        }
        let used = size as f64 / last.median().as_secs_f64() / f64::from(rate) * 100.0;
        last.print(&format!(
            "one alert to {size} at a quota of {rate} per second: publish to last frame, \
             {used:.0} % of the quota used, none missing"
        ));
        drop(audience);
        local.stop().await?;
    }
    Ok(())
}

/// Measures one alert to few subscribers, alone and among many others.
pub(crate) async fn among_others(runs: usize) -> Outcome<()> {
    for others in [0, OTHERS] {
        let local = Server::local().await?;
        let mut unconcerned = Audience::new();
        unconcerned.grow(&local.ws, "?region=DE", others).await?;
        let mut audience = Audience::new();
        audience.grow(&local.ws, "?region=PL", FEW).await?;
        let mut last = Figures::new();
        for count in 0..ALERTS_TO_FEW * (1 + runs) {
            let arrivals = audience.alert(&local).await?;
            if count >= ALERTS_TO_FEW {
                last.add(arrivals.last);
            }
        }
        last.print(&format!("one alert to {FEW} with {others} others connected: publish to last frame"));
        drop((audience, unconcerned));
        local.stop().await?;
    }
    Ok(())
}
