//! Streams with a consumer group: Redis keeps what is not acknowledged, and an entry is acknowledged once publish has answered.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::Timestamp;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cmd, from_redis_value, pipe,
};
use shared::error::Chain;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    lanes::{Item, Lanes},
    limits::{BATCH_ENTRIES, DEAD_ENTRIES_MAX, REDIS_TIMEOUT, STREAM_BLOCK},
    message::{Message, Source},
    report::Report,
};

/// A group of consumers of one stream, and which of them this is.
pub(crate) struct Group {
    stream: String,
    name: String,
    consumer: String,
    /// For what does not block. It connects again by itself.
    commands: ConnectionManager,
    /// Ids of entries that wait to be published, or to be acknowledged.
    held: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} of {})", self.name, self.stream)
    }
}

/// An entry that has to be acknowledged.
#[derive(Debug)]
pub(crate) struct Entry {
    group: Arc<Group>,
    id: String,
}

impl Entry {
    /// When the entry was made, by its id: a time and a number within the millisecond.
    pub(crate) fn made_at(&self) -> Option<Timestamp> {
        made_at(&self.id)
    }

    /// Acknowledges the entry, which was published or never can be, with the reason: then it is copied to the stream of refused
    /// messages. Tried until Redis takes it.
    pub(crate) async fn finish(&self, refusal: Option<&str>) {
        let mut backoff = Backoff::new();
        while let Err(error) = self.group.finish(&self.id, refusal).await {
            tracing::warn!(stream = self.group.stream, id = self.id, error = %Chain(&error), "entry not acknowledged yet");
            backoff.pause().await;
        }
        self.group.held().remove(&self.id);
    }
}

fn made_at(id: &str) -> Option<Timestamp> {
    let (ms, _) = id.split_once('-')?;
    ms.parse().ok().map(Timestamp::from_millis)
}

impl Group {
    /// The group `name` of a stream. Redis does not have to be there yet.
    pub(crate) fn new(client: &Client, stream: String, name: String, consumer: String) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(REDIS_TIMEOUT))
            .set_response_timeout(Some(REDIS_TIMEOUT));
        let commands = client.get_connection_manager_lazy(config)?;
        Ok(Self { stream, name, consumer, commands, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn finish(&self, id: &str, refusal: Option<&str>) -> RedisResult<()> {
        let mut commands = self.commands.clone();
        let Some(reason) = refusal else {
            return cmd("XACK").arg(&self.stream).arg(&self.name).arg(id).query_async(&mut commands).await;
        };
        let range: Value = cmd("XRANGE").arg(&self.stream).arg(id).arg(id).query_async(&mut commands).await?;
        let mut transaction = pipe();
        transaction.atomic();
        // An entry that was deleted meanwhile has nothing that could be copied.
        let fields = entries(range)?.pop().and_then(|entry| entry.fields).unwrap_or_default();
        if !fields.is_empty() {
            let dead = transaction.cmd("XADD").arg(format!("{}:dead", self.stream));
            dead.arg("MAXLEN").arg("~").arg(DEAD_ENTRIES_MAX).arg("*");
            dead.arg("bridge:entry").arg(id).arg("bridge:reason").arg(reason);
            fields.iter().for_each(|field| {
                dead.arg(field);
            });
            dead.ignore();
        }
        transaction.cmd("XACK").arg(&self.stream).arg(&self.name).arg(id).ignore();
        match transaction.query_async(&mut commands).await {
            // Without memory for the copy, or the right to make it, nothing behind this entry would ever be read.
            Err(error) if is_of_the_copy(&error) => {
                let entry: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
                tracing::error!(stream = self.stream, id, error = %Chain(&error), ?entry, "refused entry not copied, it is here");
                cmd("XACK").arg(&self.stream).arg(&self.name).arg(id).query_async(&mut commands).await
            }
            ended => ended,
        }
    }

    /// Writes how far the group is behind. Redis tells that from version 7 on, and not after an entry was deleted.
    pub(crate) async fn report(&self) {
        let mut commands = self.commands.clone();
        let mut look = cmd("XINFO");
        // The connection may try again by itself for longer than a report should wait.
        match timeout(REDIS_TIMEOUT, look.arg("GROUPS").arg(&self.stream).query_async::<Value>(&mut commands)).await {
            Ok(Ok(reply)) => {
                let (pending, lag) = standing(&reply, &self.name).unzip();
                let lag = lag.flatten();
                tracing::info!(stream = self.stream, group = self.name, pending, lag, "stream report");
            }
            Ok(Err(error)) => tracing::warn!(stream = self.stream, error = %Chain(&error), "stream not looked at"),
            Err(error) => tracing::warn!(stream = self.stream, error = %Chain(&error), "stream not looked at"),
        }
    }

    /// Makes the group, and the stream, where there is none.
    async fn create(&self, connection: &mut MultiplexedConnection, start: &str) -> RedisResult<()> {
        let created = cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.stream)
            .arg(&self.name)
            .arg(start)
            .arg("MKSTREAM")
            .query_async(connection)
            .await;
        match created {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    /// The command that reads entries after `after`: of those that this consumer was given, or with `>` new ones.
    fn read(&self, after: &str, count: usize) -> Cmd {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.name).arg(&self.consumer).arg("COUNT").arg(count);
        if after == NEW {
            read.arg("BLOCK").arg(STREAM_BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.stream).arg(after);
        read
    }
}

/// What Redis takes for the entries that no consumer was given yet.
const NEW: &str = ">";

/// Reads one stream.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) group: Arc<Group>,
    /// The field of an entry that holds the message.
    pub(crate) field: String,
    /// Where a group begins that is made: `0` or `$`.
    pub(crate) start: String,
    /// Entries that another consumer has not acknowledged for this long are taken from it.
    pub(crate) claim_idle: Duration,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) report: Arc<Report>,
}

impl Reader {
    /// Reads until it is stopped, and begins anew whenever Redis fails.
    pub(crate) async fn run(self, stopped: CancellationToken) {
        let mut backoff = Backoff::new();
        let reading = async {
            loop {
                let Err(error) = self.read(&mut backoff).await;
                tracing::warn!(stream = self.group.stream, error = %Chain(&error), "stream not read, it keeps its entries");
                backoff.pause().await;
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = reading => {}
        }
    }

    /// Reads over one connection: first what this consumer was given and has not acknowledged, in the order of the stream, then
    /// what is new, and now and then what other consumers have left.
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
        *backoff = Backoff::new();
        let mut claim_at = Instant::now();
        loop {
            if claim_at <= Instant::now() {
                self.claim(&mut connection).await?;
                claim_at = Instant::now() + self.claim_idle;
            }
            self.batch(&mut connection, NEW).await?;
        }
    }

    /// Reads some entries once there are places for them, and says how many these were and which is the last.
    async fn batch(&self, connection: &mut MultiplexedConnection, after: &str) -> RedisResult<Option<Batch>> {
        let places = self.places().await?;
        let reply: Value = self.group.read(after, places.num_permits()).query_async(connection).await?;
        let Value::Array(mut streams) = reply else { return Ok(None) };
        let read = match streams.pop() {
            Some(Value::Array(mut stream)) => entries(stream.pop().unwrap_or(Value::Nil))?,
            _ => Vec::new(),
        };
        let batch = read.last().map(|last| Batch { id: last.id.clone(), count: read.len() });
        self.take(read, places).await;
        Ok(batch)
    }

    /// Takes entries that somebody was given and has not acknowledged for long.
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

    /// As many places as there are, up to a batch. While the queue is full nothing is read.
    async fn places(&self) -> RedisResult<OwnedSemaphorePermit> {
        let queue = &self.lanes.entry_places;
        let closed = |error| RedisError::from(std::io::Error::other(error));
        let mut places = Arc::clone(queue).acquire_owned().await.map_err(closed)?;
        while places.num_permits() < BATCH_ENTRIES
            && let Ok(another) = Arc::clone(queue).try_acquire_owned()
        {
            places.merge(another);
        }
        Ok(places)
    }

    async fn take(&self, read: Vec<Read>, mut places: OwnedSemaphorePermit) {
        for Read { id, fields } in read {
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
                (Ok(message), Some(place)) => self.lanes.push(Item {
                    message,
                    from: stream.clone(),
                    read_at: Instant::now(),
                    entry: Some(entry),
                    _place: place,
                }),
                // Redis gave more than it was asked for. What is not held is read again.
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

/// Whether Redis has answered that it does not take a copy, instead of not answering or not being ready.
fn is_of_the_copy(error: &RedisError) -> bool {
    use ServerErrorKind::{ExecAbort, NoPerm, ResponseError};
    matches!(error.kind(), ErrorKind::Extension | ErrorKind::Server(ExecAbort | NoPerm | ResponseError))
}

/// The lowest id, where a pass over pending entries begins, and what ends it.
const FIRST: &str = "0-0";

/// How many entries were read, and the last of them.
#[derive(Debug)]
struct Batch {
    id: String,
    count: usize,
}

/// An entry as Redis tells it. One that was deleted has no fields.
#[derive(Debug, PartialEq)]
struct Read {
    id: String,
    /// Names and values in turn, which may be any bytes.
    fields: Option<Vec<Vec<u8>>>,
}

/// Reads `[[id, [name, value, …]], …]`. The client's own types want names to be text, and fail a batch for one that is not.
fn entries(value: Value) -> RedisResult<Vec<Read>> {
    let Value::Array(entries) = value else { return Ok(Vec::new()) };
    let read = |entry| {
        let mut parts = <Vec<Value>>::from_redis_value(entry)?.into_iter();
        let id = from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let fields = match parts.next() {
            None | Some(Value::Nil) => None,
            Some(fields) => Some(from_redis_value(fields)?),
        };
        Ok(Read { id, fields })
    };
    // Redis 6 tells of an entry that was deleted as nil, without its id.
    entries.into_iter().filter(|entry| *entry != Value::Nil).map(read).collect()
}

fn value_of<'a>(fields: &'a [Vec<u8>], name: &str) -> Option<&'a [u8]> {
    fields.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| pair[1].as_slice())
}

/// How many entries of a group were given and not acknowledged, and how many were not given yet.
fn standing(reply: &Value, group: &str) -> Option<(u64, Option<u64>)> {
    let Value::Array(groups) = reply else { return None };
    groups.iter().find_map(|fields| {
        let Value::Array(fields) = fields else { return None };
        let get = |name: &str| fields.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).map(|pair| &pair[1]);
        let number = |name| match get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        (get("name").and_then(text) == Some(group)).then(|| (number("pending").unwrap_or_default(), number("lag")))
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn an_entry_has_any_bytes_or_was_deleted() {
        let odd = Value::Array(vec![Value::BulkString(vec![0xff]), bulk("x"), bulk("data"), bulk("{}")]);
        let reply = Value::Array(vec![
            Value::Array(vec![bulk("1-0"), odd]),
            Value::Array(vec![bulk("1-1"), Value::Nil]),
            Value::Nil,
        ]);
        let read = entries(reply).expect("entries");
        assert_eq!(read.iter().map(|read| read.id.as_str()).collect::<Vec<_>>(), ["1-0", "1-1"]);
        let fields = read[0].fields.as_deref().expect("fields");
        assert_eq!((value_of(fields, "data"), value_of(fields, "x")), (Some(&b"{}"[..]), None));
        assert_eq!(read[1].fields, None);
        assert_eq!(entries(Value::Nil).expect("nothing"), []);
        assert!(entries(Value::Array(vec![Value::Int(1)])).is_err());
    }

    #[test]
    fn the_standing_of_a_group_is_found_by_its_name() {
        let group = |name: &str, lag: Value| {
            Value::Array(vec![bulk("name"), bulk(name), bulk("pending"), Value::Int(3), bulk("lag"), lag])
        };
        let reply = Value::Array(vec![group("a", Value::Int(7)), group("b", Value::Nil)]);
        assert_eq!(standing(&reply, "a"), Some((3, Some(7))));
        assert_eq!(standing(&reply, "b"), Some((3, None)));
        assert_eq!(standing(&reply, "c"), None);
    }

    #[test]
    fn an_id_tells_when_its_entry_was_made() {
        assert_eq!(made_at("1795000000123-4"), Some(Timestamp::from_millis(1_795_000_000_123)));
        assert_eq!(made_at("later"), None);
    }
}
