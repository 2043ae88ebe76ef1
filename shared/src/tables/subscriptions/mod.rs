//! The subscriptions table: who listens to what.
//!
//! | key | attribute | value |
//! |---|---|---|
//! | partition | `audience` | [`Audience::key`] |
//! | sort | `slot` | [`Slot`] |
//! | index `by_connection`, partition | `connection_id` | the id alone |
//! | time to live | `expires_at` | seconds since the Unix epoch |
//!
//! Every connection has its item in `@everyone`; each region and each room that it is in is one more item. All of them say when the
//! connection began (`since`), so that writing one again changes its `format` and nothing else.
//!
//! Two kinds of items are of no audience. The state of a connection is in the partition `@connection#` and its id, each in one of its own
//! because each message writes it, with the sort key `state`, and in no index; when the connection has closed, a mark remains there for ten
//! minutes: [`crate::tables::subscriptions::connection_state`]. Where connections of an address or a user are limited, each has a seat in the partition of that
//! [`Source`](crate::model::audience::Source): [`crate::tables::subscriptions::seats`].

pub mod connection_state;
pub mod count;
pub mod seats;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use aws_sdk_dynamodb::{
    Client,
    types::{DeleteRequest, PutRequest, WriteRequest},
};
use clock::{Clock, Timestamp};
use futures_util::{StreamExt, TryStreamExt, future::join, stream};

use crate::{
    auth::connect::Opening,
    error::{Failure, Refusal},
    limits::{AUDIENCE_PAGE_ITEMS, BATCH_WRITE_ITEMS_MAX, MEMBERSHIP_ROUNDS_MAX, REMOVALS_IN_FLIGHT, SUBSCRIPTION_TTL},
    model::{
        alert::Format,
        audience::Audience,
        connection::{Connection, ConnectionId, Slot, SlotRange},
    },
    runtime::{environment::Reader, function::Start},
    tables::{
        dynamodb::{Item, UnreadableItem, number, read_number, read_text, text, write_all},
        subscriptions::{
            connection_state::{Noted, State},
            count::Counts,
            seats::{Seat, Seated},
        },
    },
};

pub(crate) const AUDIENCE: &str = "audience";
pub(crate) const SLOT: &str = "slot";
pub(crate) const CONNECTION_ID: &str = "connection_id";
const FORMAT: &str = "format";
const SINCE: &str = "since";
const ADDRESS: &str = "address";
pub(crate) const EXPIRES_AT: &str = "expires_at";
const BY_CONNECTION: &str = "by_connection";

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "SUBSCRIPTIONS_TABLE";

/// Partition and sort key of an item.
pub(crate) type Key = (String, String);

fn key_in(audience: &str, connection: &ConnectionId) -> Key {
    (audience.to_owned(), Slot::of(connection).as_str().to_owned())
}

/// What a connection leaves behind when it closes.
#[derive(Debug, Default)]
struct Traces {
    /// Items that are its own by their key.
    keys: Vec<Key>,
    /// Seats that it holds or may hold.
    seats: BTreeSet<Seat>,
}

/// One connection in an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where to post.
    pub connection: ConnectionId,
    /// In which form.
    pub format: Format,
    /// When the connection began.
    pub since: Timestamp,
}

/// A part of an audience, in ascending order of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The members on it.
    pub members: Vec<Member>,
    /// Where the next page begins: after this slot. None on the last page.
    pub next: Option<Slot>,
}

/// Access to the subscriptions table.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    client: Client,
    table: String,
    clock: Clock,
    counts: Counts,
}

impl Subscriptions {
    /// The table that the function's environment names.
    pub fn of_function(start: &Start, environment: &mut Reader<'_>) -> Self {
        Self::new(Client::new(&start.sdk), environment.required(TABLE_VARIABLE), start.clock.clone())
    }

    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock, counts: Counts::default() }
    }

    /// Records a connection and its first subscription. Refuses it if its address or user is at its connection limit, before anything is
    /// written, so that a flood costs next to nothing.
    pub async fn open(&self, opening: &Opening) -> Result<Result<(), Refusal>, Failure> {
        let Opening { connection, audience, .. } = opening;
        let (seats, opened) = match self.take_seats(opening).await {
            Ok(Seated::Full(refusal)) => return Ok(Err(refusal)),
            Ok(Seated::No(refusal, tried)) => (tried, Ok(Err(refusal))),
            Ok(Seated::Yes(seats)) => (seats, self.record(opening).await),
            Err(failure) => return self.close(&connection.id).await.and(Err(failure)),
        };
        if let Ok(Ok(())) = opened {
            return opened;
        }
        // Whoever is refused leaves nothing. What is noted may have been taken along by a close before.
        let audiences = std::iter::once(&Audience::Everyone).chain(audience);
        let keys = audiences.map(|audience| key_in(audience.key(), &connection.id)).collect();
        self.remove(&connection.id, Traces { keys, seats: seats.into_iter().collect() }).await?;
        self.close(&connection.id).await?;
        opened
    }

    /// Writes the first items of a connection.
    async fn record(&self, opening: &Opening) -> Result<Result<(), Refusal>, Failure> {
        let Opening { connection, address, audience, format, .. } = opening;
        let mut everyone = self.item(&Audience::Everyone, connection, *format);
        if let Some(address) = address {
            everyone.insert(ADDRESS.to_owned(), text(address.to_string()));
        }
        let first = audience.iter().map(|audience| (audience.clone(), Some(*format))).collect();
        self.settle(connection, Some(everyone), first).await
    }

    /// Subscribes a connection to audiences that were noted before. Repeating it changes the format and nothing else.
    pub async fn subscribe(
        &self,
        connection: &Connection,
        audiences: &[Audience],
        format: Format,
    ) -> Result<Result<(), Refusal>, Failure> {
        let wanted = audiences.iter().map(|audience| (audience.clone(), Some(format))).collect();
        self.settle(connection, None, wanted).await
    }

    /// Ends subscriptions of a connection whose end was noted before. Those that never were are no error.
    pub async fn unsubscribe(
        &self,
        connection: &Connection,
        audiences: &[Audience],
    ) -> Result<Result<(), Refusal>, Failure> {
        self.settle(connection, None, audiences.iter().map(|audience| (audience.clone(), None)).collect()).await
    }

    /// Writes the items of audiences in the form that was noted, or deletes them where none was, and looks whether that is still so. If the
    /// connection has closed meanwhile, none of them remains. If another message has noted something else at the same moment, that is
    /// written; each round more takes one message more.
    async fn settle(
        &self,
        connection: &Connection,
        mut also: Option<Item>,
        wanted: Vec<(Audience, Option<Format>)>,
    ) -> Result<Result<(), Refusal>, Failure> {
        let mut unsettled = wanted.clone();
        for _ in 0..MEMBERSHIP_ROUNDS_MAX {
            let puts =
                unsettled.iter().filter_map(|(audience, format)| Some(self.item(audience, connection, (*format)?)));
            let deletes = unsettled.iter().filter(|(_, format)| format.is_none());
            let deletes = deletes.map(|(audience, _)| key_in(audience.key(), &connection.id));
            self.write(also.take().into_iter().chain(puts), deletes).await?;
            let State::Open(noted) = self.state(&connection.id).await? else {
                let keys = wanted.iter().map(|(audience, _)| key_in(audience.key(), &connection.id));
                self.delete(keys).await?;
                return Ok(Err(Refusal::connection_closed()));
            };
            unsettled.retain_mut(|(audience, format)| {
                let written = std::mem::replace(format, noted.format_in(audience));
                *format != written
            });
            if unsettled.is_empty() {
                return Ok(Ok(()));
            }
        }
        Ok(Err(Refusal::unavailable()))
    }

    /// Marks a connection as closed and removes every other trace of it.
    pub async fn close(&self, connection: &ConnectionId) -> Result<(), Failure> {
        let (traces, failure) = self.traces(connection).await?;
        self.remove(connection, traces).await?;
        failure.map_or(Ok(()), Err)
    }

    /// The same for many connections, in full batches.
    pub async fn close_all(&self, connections: Vec<ConnectionId>) -> Result<(), Failure> {
        let failed = Mutex::new(None);
        let traces = stream::iter(connections)
            .map(|connection| async move {
                let (Traces { keys, seats }, failure) = self.traces(&connection).await?;
                self.remove(&connection, Traces { keys: Vec::new(), seats }).await?;
                Ok::<_, Failure>((keys, failure))
            })
            .buffer_unordered(REMOVALS_IN_FLIGHT)
            .map_ok(|(keys, failure)| {
                if failure.is_some() {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = failure;
                }
                stream::iter(keys.into_iter().map(Ok::<_, Failure>))
            })
            .try_flatten()
            .try_chunks(BATCH_WRITE_ITEMS_MAX);
        traces
            .map_err(|error| error.1)
            .try_for_each_concurrent(REMOVALS_IN_FLIGHT, |batch| self.delete(batch.into_iter()))
            .await?;
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Marks a connection as closed: what it leaves behind, and what went wrong when the index was read. What is noted is known in any
    /// case, and would be known to nobody after that. The index adds what was written and could not be noted any more.
    async fn traces(&self, connection: &ConnectionId) -> Result<(Traces, Option<Failure>), Failure> {
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

    async fn remove(&self, connection: &ConnectionId, traces: Traces) -> Result<(), Failure> {
        self.delete(traces.keys.into_iter()).await?;
        for seat in &traces.seats {
            self.stand_up(seat, connection).await?;
        }
        Ok(())
    }

    /// The keys of all audiences that a connection is in, as far as the index knows yet, and of where its seats are.
    pub async fn audiences_of(&self, connection: &ConnectionId) -> Result<Vec<String>, Failure> {
        Ok(self.items_of(connection).await?.into_iter().map(|(audience, _)| audience).collect())
    }

    /// The keys of all items of a connection, as far as the index knows yet.
    async fn items_of(&self, connection: &ConnectionId) -> Result<Vec<Key>, Failure> {
        let doing = "looking up the subscriptions of a connection";
        let key = |item: &Item| Ok((read_text(item, AUDIENCE)?.to_owned(), read_text(item, SLOT)?.to_owned()));
        self.client
            .query()
            .table_name(&self.table)
            .index_name(BY_CONNECTION)
            .key_condition_expression("connection_id = :connection")
            .expression_attribute_values(":connection", text(connection.as_str()))
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| Failure::new(doing, error))?
            .iter()
            .map(|item| key(item).map_err(|error: UnreadableItem| Failure::new(doing, error)))
            .collect()
    }

    /// One page of an audience within a range, in ascending order of slots: the first, or that after a slot.
    ///
    /// Reads are consistent: whoever had an answer to a subscription before an alert was committed is among them.
    pub async fn page(&self, audience: &Audience, range: SlotRange, after: Option<&Slot>) -> Result<Page, Failure> {
        let start = after.map(|slot| {
            Item::from([(AUDIENCE.to_owned(), text(audience.key())), (SLOT.to_owned(), text(slot.as_str()))])
        });
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("audience = :audience AND slot BETWEEN :first AND :last")
            .expression_attribute_values(":audience", text(audience.key()))
            // A slot holds the id, and nothing else is needed: this halves what is sent; read units count whole items.
            .projection_expression("#slot, #format, #since")
            .expression_attribute_names("#slot", SLOT)
            .expression_attribute_names("#format", FORMAT)
            .expression_attribute_names("#since", SINCE)
            .expression_attribute_values(":first", text(range.lower_key()))
            .expression_attribute_values(":last", text(range.upper_key()))
            .limit(AUDIENCE_PAGE_ITEMS)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| Failure::new("reading a page of an audience", error))?;
        let members = page.items().iter().filter_map(readable_member).collect();
        // A key that cannot be read must not end the audience.
        let next = page
            .last_evaluated_key
            .as_ref()
            .map(|key| read_text(key, SLOT).and_then(|slot| Slot::of_key(slot).ok_or(UnreadableItem(SLOT))));
        let next = next.transpose().map_err(|error| Failure::new("reading a page of an audience", error))?;
        Ok(Page { members, next })
    }

    fn item(&self, audience: &Audience, connection: &Connection, format: Format) -> Item {
        let Connection { id, since } = connection;
        Item::from([
            (AUDIENCE.to_owned(), text(audience.key())),
            (SLOT.to_owned(), text(Slot::of(id).as_str())),
            (CONNECTION_ID.to_owned(), text(id.as_str())),
            (FORMAT.to_owned(), text(format.as_str())),
            (SINCE.to_owned(), number(since.millis())),
            (EXPIRES_AT.to_owned(), number(since.after(SUBSCRIPTION_TTL).secs())),
        ])
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    async fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<(), Failure> {
        self.write(std::iter::empty(), keys).await
    }

    async fn write(&self, puts: impl Iterator<Item = Item>, deletes: impl Iterator<Item = Key>) -> Result<(), Failure> {
        let mut requests = Vec::new();
        for item in puts {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| Failure::new("building a subscription", error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        for (audience, slot) in deletes {
            let delete = DeleteRequest::builder().key(AUDIENCE, text(audience)).key(SLOT, text(slot)).build();
            let delete = delete.map_err(|error| Failure::new("building a removal", error))?;
            requests.push(WriteRequest::builder().delete_request(delete).build());
        }
        write_all(&self.client, &self.table, requests).await
    }
}

/// One item that cannot be read (written by hand, or by a later version) must not fail an alert for all others.
fn readable_member(item: &Item) -> Option<Member> {
    member(item).inspect_err(|error| tracing::error!(%error, ?item, "subscription skipped")).ok()
}

fn member(item: &Item) -> Result<Member, UnreadableItem> {
    let connection = Slot::of_key(read_text(item, SLOT)?).and_then(|slot| slot.connection());
    Ok(Member {
        connection: connection.ok_or(UnreadableItem(SLOT))?,
        format: read_text(item, FORMAT)?.parse().map_err(|_| UnreadableItem(FORMAT))?,
        since: Timestamp::from_millis(read_number(item, SINCE)?),
    })
}
