//! What a connection does to the table from its opening to its close: it opens, subscribes, unsubscribes, and closes.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, future::join, stream};

use crate::{
    error::{ApiError, Decision, InternalError},
    limits::{BATCH_WRITE_ITEMS_MAX, MEMBERSHIP_ROUNDS_MAX, REMOVALS_IN_FLIGHT},
    model::{
        alert::Format,
        audience::Audience,
        connect_request::ConnectRequest,
        connection::{Connection, ConnectionId},
    },
    tables::{
        dynamodb::{Item, text},
        subscriptions::{
            connection_state::{Noted, RecordedState},
            schema::{ADDRESS, Key, key_in},
            seats::{Seat, Seated},
            table::Subscriptions,
        },
    },
};

/// What a connection leaves behind when it closes.
#[derive(Debug, Default)]
struct Traces {
    /// Items that are its own by their key.
    keys: Vec<Key>,
    /// Seats that it holds or may hold.
    seats: BTreeSet<Seat>,
}

impl Subscriptions {
    /// Records a connection and its first subscription.
    ///
    /// # Errors
    ///
    /// `limit_reached` if its address or user is at its connection limit, which is decided before anything is written,
    /// so a flood costs next to nothing; `unavailable` if it loses each seat to others that connect at the same moment;
    /// `connection_closed` if it is closed meanwhile. An internal error if DynamoDB fails.
    pub async fn open(&self, request: &ConnectRequest) -> Decision<()> {
        let ConnectRequest { connection, audience, .. } = request;
        let (seats, opened) = match self.take_seats(request).await {
            Ok(Seated::Full(refusal)) => return Ok(Err(refusal)),
            Ok(Seated::No(refusal, tried)) => (tried, Ok(Err(refusal))),
            Ok(Seated::Yes(seats)) => (seats, self.record(request).await),
            Err(failure) => return self.close(&connection.id).await.and(Err(failure)),
        };
        if let Ok(Ok(())) = opened {
            return opened;
        }
        // A refused connection leaves nothing behind. A close may already have removed what was noted.
        let audiences = std::iter::once(&Audience::Everyone).chain(audience);
        let keys = audiences.map(|audience| key_in(audience.key(), &connection.id)).collect();
        self.remove(&connection.id, Traces { keys, seats: seats.into_iter().collect() }).await?;
        self.close(&connection.id).await?;
        opened
    }

    /// Writes the first items of a connection.
    async fn record(&self, request: &ConnectRequest) -> Decision<()> {
        let ConnectRequest { connection, address, audience, format, .. } = request;
        let mut everyone = self.item(&Audience::Everyone, connection, *format);
        if let Some(address) = address {
            everyone.insert(ADDRESS.to_owned(), text(address.to_string()));
        }
        let first = audience.iter().map(|audience| (audience.clone(), Some(*format))).collect();
        self.settle(connection, Some(everyone), first).await
    }

    /// Subscribes a connection to audiences that its state names already. Repeating it changes only the format.
    ///
    /// # Errors
    ///
    /// `unavailable` if other messages of the connection keep changing the same subscriptions. An internal error if
    /// DynamoDB fails.
    pub async fn subscribe(&self, connection: &Connection, audiences: &[Audience], format: Format) -> Decision<()> {
        let wanted = audiences.iter().map(|audience| (audience.clone(), Some(format))).collect();
        self.settle(connection, None, wanted).await
    }

    /// Deletes subscriptions of a connection whose end was noted before. Deleting one that does not exist succeeds.
    pub async fn unsubscribe(&self, connection: &Connection, audiences: &[Audience]) -> Decision<()> {
        self.settle(connection, None, audiences.iter().map(|audience| (audience.clone(), None)).collect()).await
    }

    /// Writes the items of audiences in the form that was noted, or deletes them where none was, and looks whether that
    /// is still so. If the connection has closed meanwhile, none of them remains. If another message has noted
    /// something else at the same moment, that is written; each round more takes one message more.
    async fn settle(
        &self,
        connection: &Connection,
        mut also: Option<Item>,
        wanted: Vec<(Audience, Option<Format>)>,
    ) -> Decision<()> {
        let mut unsettled = wanted.clone();
        for _ in 0..MEMBERSHIP_ROUNDS_MAX {
            let puts =
                unsettled.iter().filter_map(|(audience, format)| Some(self.item(audience, connection, (*format)?)));
            let deletes = unsettled.iter().filter(|(_, format)| format.is_none());
            let deletes = deletes.map(|(audience, _)| key_in(audience.key(), &connection.id));
            self.write(also.take().into_iter().chain(puts), deletes).await?;
            let RecordedState::Open(noted) = self.state(&connection.id).await? else {
                let keys = wanted.iter().map(|(audience, _)| key_in(audience.key(), &connection.id));
                self.delete(keys).await?;
                return Ok(Err(ApiError::connection_closed()));
            };
            unsettled.retain_mut(|(audience, format)| {
                let written = std::mem::replace(format, noted.format_in(audience));
                *format != written
            });
            if unsettled.is_empty() {
                return Ok(Ok(()));
            }
        }
        Ok(Err(ApiError::unavailable()))
    }

    /// Marks a connection as closed and removes every other trace of it.
    ///
    /// # Errors
    ///
    /// If DynamoDB fails. Repeating it removes what is left.
    pub async fn close(&self, connection: &ConnectionId) -> Result<(), InternalError> {
        let (traces, failure) = self.traces(connection).await?;
        self.remove(connection, traces).await?;
        failure.map_or(Ok(()), Err)
    }

    /// The same for many connections, in full batches.
    pub async fn close_all(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
        let failed = Mutex::new(None);
        let traces = stream::iter(connections)
            .map(|connection| async move {
                let (Traces { keys, seats }, failure) = self.traces(&connection).await?;
                self.remove(&connection, Traces { keys: Vec::new(), seats }).await?;
                Ok::<_, InternalError>((keys, failure))
            })
            .buffer_unordered(REMOVALS_IN_FLIGHT)
            .map_ok(|(keys, failure)| {
                if failure.is_some() {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
                }
                stream::iter(keys.into_iter().map(Ok::<_, InternalError>))
            })
            .try_flatten()
            .try_chunks(BATCH_WRITE_ITEMS_MAX);
        traces
            .map_err(|error| error.1)
            .try_for_each_concurrent(REMOVALS_IN_FLIGHT, |batch| self.delete(batch.into_iter()))
            .await?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Marks a connection as closed: what it leaves behind, and what went wrong when the index was read. What is noted
    /// is known in any case. The index adds what was written and could not be noted any more.
    async fn traces(&self, connection: &ConnectionId) -> Result<(Traces, Option<InternalError>), InternalError> {
        let (indexed, noted) = join(self.items_of(connection), self.mark_closed(connection)).await;
        let Noted { audiences, seats } = noted?;
        let (indexed, failure) = indexed.map_or_else(|failure| (Vec::new(), Some(failure)), |keys| (keys, None));
        let everyone = Audience::Everyone.key().to_owned();
        let noted = audiences.into_iter().chain([everyone]).map(|audience| key_in(&audience, connection));
        let keys: BTreeSet<Key> = noted.chain(indexed).collect();
        let mut traces = Traces { keys: Vec::new(), seats: seats.into_iter().collect() };
        for key in keys {
            match Seat::of_key(&key) {
                Some(seat) => drop(traces.seats.insert(seat)),
                None => traces.keys.push(key),
            }
        }
        Ok((traces, failure))
    }

    async fn remove(&self, connection: &ConnectionId, traces: Traces) -> Result<(), InternalError> {
        self.delete(traces.keys.into_iter()).await?;
        for seat in &traces.seats {
            self.stand_up(seat, connection).await?;
        }
        Ok(())
    }
}
