//! The Redis bridge reads messages from channels, patterns and streams, and publishes each as an alert.

mod group;
mod item;
mod limits;
mod message;
mod options;
mod outcome;
mod pubsub;
mod queues;
mod replies;
mod report;
mod streams;
mod target;

use std::{future::Future, sync::Arc, time::Duration};

use clock::Clock;
use redis::{Client, RedisError};
use rustls::crypto::ring;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    group::Group,
    options::Publishing,
    pubsub::Subscriber,
    queues::RegionQueues,
    report::BridgeReport,
    streams::Reader,
    target::{Iam, Signature, Target},
};
pub use crate::{options::Options, queues::Unpublished, target::TargetError};

/// Why the bridge cannot start. It does start, and waits, while Redis or the service is down.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address of Redis is invalid.
    #[error("invalid Redis address: expected one such as redis://127.0.0.1:6379")]
    Redis(#[source] RedisError),
    /// The publish target is invalid.
    #[error("invalid publish target")]
    Target(#[from] TargetError),
}

/// Runs until `stop` ends, then publishes what was read. Returns what was left when `drain_secs` were up.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<Unpublished, StartError> {
    // The Redis client uses the default provider of the process, which no one else sets. An earlier choice stays.
    let _ = ring::default_provider().install_default();
    let clock = Clock::System;
    let client = Client::open(options.redis_url.as_str()).map_err(StartError::Redis)?;
    let target = target(&options.publishing, &clock).await?;
    let report = Arc::new(BridgeReport::default());
    let queues = RegionQueues::new(target, Arc::clone(&report), clock, options.queue);
    let (channels, patterns) = options.sources.subscriptions();
    let (stopped, tasks) = (CancellationToken::new(), TaskTracker::new());

    let subscriber = Subscriber {
        client: client.clone(),
        channels,
        patterns,
        queues: Arc::clone(&queues),
        report: Arc::clone(&report),
    };
    tasks.spawn(subscriber.run(stopped.clone()));
    let mut groups = Vec::new();
    for stream in options.sources.streams {
        let consumer = options.streams.consumer.clone().unwrap_or_default();
        let group = Group::new(&client, stream, options.streams.group.clone(), consumer).map_err(StartError::Redis)?;
        let group = Arc::new(group);
        let reader = Reader {
            client: client.clone(),
            group: Arc::clone(&group),
            field: options.streams.stream_field.clone(),
            start: options.streams.stream_start.id().to_owned(),
            claim_idle: Duration::from_secs(options.streams.claim_idle_secs),
            queues: Arc::clone(&queues),
            report: Arc::clone(&report),
        };
        tasks.spawn(reader.run(stopped.clone()));
        groups.push(group);
    }
    tasks.close();

    tokio::select! {
        () = stop => {}
        () = reports(&queues, &groups, Duration::from_secs(options.report_secs)) => {}
    }
    stopped.cancel();
    tasks.wait().await;
    let left = queues.drain(Duration::from_secs(options.drain_secs)).await;
    queues.report();
    Ok(left)
}

async fn target(publishing: &Publishing, clock: &Clock) -> Result<Target, TargetError> {
    let Publishing { publish_url, function, iam, webhook_secret, .. } = publishing.clone();
    let attempt_timeout = publishing.attempt_timeout();
    if let Some(name) = function {
        return Ok(Target::function(name, &target::sdk().await, attempt_timeout));
    }
    // Clap requires an address where there is no function.
    let address = publish_url.unwrap_or_default();
    let signature = match webhook_secret {
        Some(secrets) => Signature::Webhook(secrets),
        None if iam => Signature::Iam(Iam::new(&address, &target::sdk().await)?),
        None => Signature::None,
    };
    Target::http(address, signature, attempt_timeout, clock.clone())
}

/// Reports every `every`, until it is dropped.
async fn reports(queues: &RegionQueues, groups: &[Arc<Group>], every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, when there is nothing to report.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        queues.report();
        for group in groups {
            group.report().await;
        }
    }
}
