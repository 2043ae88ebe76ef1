//! Reads streams as a consumer of a group. An entry is acknowledged once publish has answered.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult, Value, aio::MultiplexedConnection, cmd, from_redis_value,
};
use shared::{error::ErrorChain, runtime::backoff::Backoff};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    group::{Entry, Group, NEW},
    item::Item,
    limits::{BACKOFF, BATCH_ENTRIES, REDIS_TIMEOUT, STREAM_BLOCK},
    message::{Message, Source},
    queues::RegionQueues,
    replies::{EntryReply, entries, value_of},
    report::BridgeReport,
};

/// Reads one stream.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) group: Arc<Group>,
    /// The field of an entry with the message.
    pub(crate) field: String,
    /// Where a new group starts: `0` or `$`.
    pub(crate) start: String,
    /// Time without an acknowledgement after which entries of other consumers are claimed.
    pub(crate) claim_idle: Duration,
    pub(crate) queues: Arc<RegionQueues>,
    pub(crate) report: Arc<BridgeReport>,
}

impl Reader {
    /// Reads until `stopped`, and reconnects whenever Redis fails.
    pub(crate) async fn run(self, stopped: CancellationToken) {
        let mut backoff = BACKOFF;
        let reading = async {
            loop {
                let Err(error) = self.read(&mut backoff).await;
                let stream = &self.group.stream;
                tracing::warn!(stream, error = %ErrorChain(&error), "stream not read, it keeps its entries");
                backoff.pause().await;
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = reading => {}
        }
    }

    /// Reads over one connection: first the pending entries of this consumer in the order of the stream, then new ones,
    /// and every `claim_idle` those that other consumers have left.
    async fn read(&self, backoff: &mut Backoff) -> RedisResult<std::convert::Infallible> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(REDIS_TIMEOUT))
            .set_response_timeout(Some(STREAM_BLOCK + REDIS_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.group.create(&mut connection, &self.start).await?;
        let mut after = "0".to_owned();
        let mut given = 0;
        while let Some(last) = self.batch(&mut connection, &after).await? {
            after = last.id;
            given += last.count;
        }
        tracing::info!(stream = self.group.stream, group = self.group.name, given, "stream read");
        backoff.reset();
        let mut claim_at = Instant::now();
        loop {
            if claim_at <= Instant::now() {
                self.claim(&mut connection).await?;
                claim_at = Instant::now() + self.claim_idle;
            }
            self.batch(&mut connection, NEW).await?;
        }
    }

    /// Reads some entries once the queue has room for them.
    async fn batch(&self, connection: &mut MultiplexedConnection, after: &str) -> RedisResult<Option<EntryBatch>> {
        let places = self.places().await?;
        let reply: Value = self.group.read(after, places.num_permits()).query_async(connection).await?;
        let Value::Array(mut streams) = reply else { return Ok(None) };
        let read = match streams.pop() {
            Some(Value::Array(mut stream)) => entries(stream.pop().unwrap_or(Value::Nil))?,
            _ => Vec::new(),
        };
        let batch = read.last().map(|last| EntryBatch { id: last.id.clone(), count: read.len() });
        self.take(read, places).await;
        Ok(batch)
    }

    /// Claims entries that other consumers have not acknowledged for `claim_idle`.
    async fn claim(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Group { stream, name, consumer, .. } = &*self.group;
        let mut from = FIRST.to_owned();
        loop {
            let places = self.places().await?;
            let mut claim = cmd("XAUTOCLAIM");
            claim.arg(stream).arg(name).arg(consumer).arg(self.claim_idle.as_millis() as u64);
            let reply: Value = claim.arg(&from).arg("COUNT").arg(places.num_permits()).query_async(connection).await?;
            let Value::Array(parts) = reply else { return Ok(()) };
            let mut parts = parts.into_iter();
            from = from_redis_value(parts.next().unwrap_or(Value::Nil))?;
            let claimed = entries(parts.next().unwrap_or(Value::Nil))?;
            let deleted = if let Some(Value::Array(deleted)) = parts.next() { deleted.len() } else { 0 };
            if !claimed.is_empty() || deleted > 0 {
                tracing::info!(stream, claimed = claimed.len(), deleted, "entries claimed that were left for long");
            }
            self.take(claimed, places).await;
            if from == FIRST {
                return Ok(());
            }
        }
    }

    /// Takes the free room of the queue, up to a batch. Waits while the queue is full.
    async fn places(&self) -> RedisResult<OwnedSemaphorePermit> {
        let queue = &self.queues.entry_places;
        let closed = |error| RedisError::from(std::io::Error::other(error));
        let mut places = Arc::clone(queue).acquire_owned().await.map_err(closed)?;
        while places.num_permits() < BATCH_ENTRIES
            && let Ok(another) = Arc::clone(queue).try_acquire_owned()
        {
            places.merge(another);
        }
        Ok(places)
    }

    async fn take(&self, read: Vec<EntryReply>, mut places: OwnedSemaphorePermit) {
        for EntryReply { id, fields } in read {
            if !self.group.held().insert(id.clone()) {
                continue;
            }
            self.report.read.increment();
            let stream = &self.group.stream;
            let entry = Entry { group: Arc::clone(&self.group), id };
            let Some(fields) = fields else {
                tracing::error!(stream, id = entry.id, "entry was deleted before it was published");
                entry.finish(None).await;
                continue;
            };
            let parsed = match value_of(&fields, &self.field) {
                Some(bytes) => {
                    let source = Source::Entry { stream, id: &entry.id };
                    Message::read(source, bytes, Uuid::new_v4()).map_err(|refusal| refusal.to_string())
                }
                None => Err(format!("the entry has no field {}", self.field)),
            };
            match (parsed, places.split(1)) {
                (Ok(message), Some(place)) => self.queues.push(Item {
                    message,
                    from: stream.clone(),
                    read_at: Instant::now(),
                    entry: Some(entry),
                    _place: place,
                }),
                // Redis returned more than `COUNT`. An entry that is not held is read again.
                (Ok(_), None) => {
                    self.group.held().remove(&entry.id);
                }
                (Err(reason), _) => {
                    self.report.refused.increment();
                    tracing::error!(from = stream, id = entry.id, reason, "message refused");
                    entry.finish(Some(&reason)).await;
                }
            }
        }
    }
}

/// The lowest id: a pass over pending entries starts there, and ends when Redis returns it.
const FIRST: &str = "0-0";

/// Entries that one read returned: the last id, and how many.
#[derive(Debug)]
struct EntryBatch {
    id: String,
    count: usize,
}
