//! Reads channels and patterns. Redis keeps nothing for them: messages are lost while there is no subscription.

use std::sync::Arc;

use futures_util::StreamExt;
use redis::{Client, Msg, RedisError, RedisResult, aio::PubSubSink};
use shared::{error::ErrorChain, runtime::backoff::Backoff};
use tokio::time::{Instant, MissedTickBehavior, error::Elapsed, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    item::Item,
    limits::{BACKOFF, PING_INTERVAL, REDIS_TIMEOUT},
    message::{Message, Source},
    queues::RegionQueues,
    report::{BridgeReport, ms},
};

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot subscribe at Redis")]
    Redis(#[from] RedisError),
    #[error("Redis did not answer within {REDIS_TIMEOUT:?}")]
    Silent(#[from] Elapsed),
    #[error("Redis closed the connection")]
    Closed,
}

/// Reads channels and patterns.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) channels: Vec<String>,
    pub(crate) patterns: Vec<String>,
    pub(crate) queues: Arc<RegionQueues>,
    pub(crate) report: Arc<BridgeReport>,
}

impl Subscriber {
    /// Reads until `stopped`, and subscribes again whenever a subscription ends.
    pub(crate) async fn run(self, stopped: CancellationToken) {
        if self.channels.is_empty() && self.patterns.is_empty() {
            return;
        }
        let mut backoff = BACKOFF;
        let (mut away_since, mut was_subscribed) = (None, false);
        let reading = async {
            loop {
                let ended = self.read(&mut away_since, &mut was_subscribed, &mut backoff).await;
                if std::mem::take(&mut was_subscribed) {
                    away_since = Some(Instant::now());
                    self.report.gaps.increment();
                }
                let error = ErrorChain(&ended).to_string();
                tracing::warn!(error, "subscription ended, messages are lost until there is another");
                backoff.pause().await;
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = reading => {}
        }
    }

    /// Reads one subscription to its end.
    async fn read(&self, away_since: &mut Option<Instant>, was_subscribed: &mut bool, backoff: &mut Backoff) -> Ended {
        let (mut sink, mut messages) = match timeout(REDIS_TIMEOUT, self.subscribe()).await {
            Ok(Ok(subscription)) => subscription,
            Ok(Err(error)) => return error.into(),
            Err(error) => return error.into(),
        };
        *was_subscribed = true;
        let away = away_since.take().map(|since| since.elapsed());
        backoff.reset();
        tracing::info!(channels = ?self.channels, patterns = ?self.patterns, away_ms = ms(away), "subscribed");
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.take(&message),
                    None => return Ended::Closed,
                },
                _ = pings.tick() => match timeout(REDIS_TIMEOUT, ping(&mut sink)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(error) => return error.into(),
                },
            }
        }
    }

    async fn subscribe(&self) -> RedisResult<(PubSubSink, impl StreamExt<Item = Msg> + Unpin + use<>)> {
        let (mut sink, messages) = self.client.get_async_pubsub().await?.split();
        if !self.channels.is_empty() {
            sink.subscribe(&self.channels).await?;
        }
        if !self.patterns.is_empty() {
            sink.psubscribe(&self.patterns).await?;
        }
        Ok((sink, messages))
    }

    /// Queues a message. Where the queue is full it logs the message whole, counts it and drops it: to wait would only
    /// move the messages into the client library, which buffers without a bound.
    fn take(&self, message: &Msg) {
        self.report.read.increment();
        let from = message.get_channel_name();
        let source = if message.from_pattern() { Source::Matched(from) } else { Source::Channel(from) };
        let bytes = message.get_payload_bytes();
        let parsed = match Message::read(source, bytes, Uuid::new_v4()) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                self.report.refused.increment();
                tracing::error!(from, field = refusal.field, reason = %refusal, "message refused");
                return;
            }
        };
        if parsed.contradicts_channel {
            tracing::warn!(from, region = %parsed.region, "message names another region than its channel");
        }
        let Ok(place) = Arc::clone(&self.queues.message_places).try_acquire_owned() else {
            self.report.dropped.increment();
            let body = String::from_utf8_lossy(&parsed.body);
            tracing::error!(from, region = %parsed.region, %body, "queue full, message dropped");
            return;
        };
        self.queues.push(Item {
            message: parsed,
            from: from.to_owned(),
            read_at: Instant::now(),
            entry: None,
            _place: place,
        });
    }
}

async fn ping(sink: &mut PubSubSink) -> RedisResult<()> {
    sink.ping().await
}
