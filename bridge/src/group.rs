//! Consumer groups of streams. Redis keeps an entry until it is acknowledged.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::Timestamp;
use redis::{
    Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cmd, pipe,
};
use shared::error::ErrorChain;
use tokio::time::timeout;

use crate::{
    limits::{BACKOFF, DEAD_ENTRIES_MAX, REDIS_TIMEOUT, STREAM_BLOCK},
    replies::{entries, standing},
};

/// A consumer group of one stream, and this bridge's consumer in it.
pub(crate) struct Group {
    pub(crate) stream: String,
    pub(crate) name: String,
    pub(crate) consumer: String,
    /// For commands that do not block. It reconnects by itself.
    commands: ConnectionManager,
    held: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} of {})", self.name, self.stream)
    }
}

/// An entry to acknowledge.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) group: Arc<Group>,
    pub(crate) id: String,
}

impl Entry {
    /// Returns when the entry was added: its id is a time and a number within the millisecond.
    pub(crate) fn made_at(&self) -> Option<Timestamp> {
        made_at(&self.id)
    }

    /// Acknowledges the entry, with retries until Redis accepts. With a reason for its refusal, copies it to the
    /// dead-letter stream first.
    pub(crate) async fn finish(&self, refusal: Option<&str>) {
        let mut backoff = BACKOFF;
        while let Err(error) = self.group.finish(&self.id, refusal).await {
            let (stream, id) = (&self.group.stream, &self.id);
            tracing::warn!(stream, id, error = %ErrorChain(&error), "entry not acknowledged yet");
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
    /// Names a group of a stream. It connects when it is first used.
    pub(crate) fn new(client: &Client, stream: String, name: String, consumer: String) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(REDIS_TIMEOUT))
            .set_response_timeout(Some(REDIS_TIMEOUT));
        let commands = client.get_connection_manager_lazy(config)?;
        Ok(Self { stream, name, consumer, commands, held: Mutex::default() })
    }

    /// Ids of entries that are not published, or not acknowledged yet.
    pub(crate) fn held(&self) -> MutexGuard<'_, HashSet<String>> {
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
        // An entry that was deleted meanwhile has no fields to copy.
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
            // Redis has no memory for the copy or forbids it. To retry would block all later entries.
            Err(error) if is_of_the_copy(&error) => {
                let entry: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
                let stream = &self.stream;
                let error = ErrorChain(&error).to_string();
                tracing::error!(stream, id, error, ?entry, "refused entry not copied, it is here");
                cmd("XACK").arg(&self.stream).arg(&self.name).arg(id).query_async(&mut commands).await
            }
            ended => ended,
        }
    }

    /// Logs how far the group is behind. Redis reports `lag` from version 7 on, and not after an entry was deleted.
    pub(crate) async fn report(&self) {
        let mut commands = self.commands.clone();
        let mut look = cmd("XINFO");
        // The connection may retry for longer than a report should wait.
        match timeout(REDIS_TIMEOUT, look.arg("GROUPS").arg(&self.stream).query_async::<Value>(&mut commands)).await {
            Ok(Ok(reply)) => {
                let (pending, lag) = standing(&reply, &self.name).unzip();
                let lag = lag.flatten();
                tracing::info!(stream = self.stream, group = self.name, pending, lag, "stream report");
            }
            Ok(Err(error)) => tracing::warn!(stream = self.stream, error = %ErrorChain(&error), "stream not looked at"),
            Err(error) => tracing::warn!(stream = self.stream, error = %ErrorChain(&error), "stream not looked at"),
        }
    }

    /// Creates the group and the stream unless they exist.
    pub(crate) async fn create(&self, connection: &mut MultiplexedConnection, start: &str) -> RedisResult<()> {
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

    /// Returns the command that reads pending entries of this consumer after an id, or with [`NEW`] new entries.
    pub(crate) fn read(&self, after: &str, count: usize) -> Cmd {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.name).arg(&self.consumer).arg("COUNT").arg(count);
        if after == NEW {
            read.arg("BLOCK").arg(STREAM_BLOCK.as_millis() as u64);
        }
        read.arg("STREAMS").arg(&self.stream).arg(after);
        read
    }
}

/// Stands for the entries that no consumer of the group has read yet.
pub(crate) const NEW: &str = ">";

/// Whether Redis refused the copy, instead of not answering or not being ready.
fn is_of_the_copy(error: &RedisError) -> bool {
    use ServerErrorKind::{ExecAbort, NoPerm, ResponseError};
    matches!(error.kind(), ErrorKind::Extension | ErrorKind::Server(ExecAbort | NoPerm | ResponseError))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_entry_was_made() {
        assert_eq!(made_at("1795000000123-4"), Some(Timestamp::from_millis(1_795_000_000_123)));
        assert_eq!(made_at("later"), None);
    }
}
