//! The subscriptions table: who listens to what.
//!
//! | key | attribute | value |
//! |---|---|---|
//! | partition | `audience` | [`Audience::key`] |
//! | sort | `slot` | [`Slot`] |
//! | index `by_connection`, partition | `connection_id` | the id alone |
//! | time to live | `expires_at` | seconds since the Unix epoch |
//!
//! Every connection has its item in `@everyone`; each region and each room that it is in is one more item, and so is each
//! [`Source`](crate::audience::Source) by which connections are counted, where they are.
//!
//! Two kinds of items are of no audience, and in no index. What a connection is in and how much it sends is in the partition
//! `@connection#` and its id, each in one of its own because each message writes it, with the sort key `state`:
//! [`crate::admission`] has its attributes. The size of an audience, where somebody asks for it, is in the partition `@count#` and the
//! key of the audience, with the sort key `count`: `count`, `counted_at` (ms) and `expires_at`.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{DeleteRequest, PutRequest, Select, WriteRequest},
};
use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};

use crate::{
    alert::Format,
    audience::Audience,
    clock::{Clock, Timestamp},
    connection::{ConnectionId, Slot, SlotRange},
    environment::Reader,
    error::{Failure, Refusal},
    function::Start,
    limits::{
        AUDIENCE_PAGE_ITEMS, BATCH_WRITE_ITEMS_MAX, COUNT_AGE_MAX, COUNT_TTL, COUNTED_PER_SEC, REMOVALS_IN_FLIGHT,
        SUBSCRIPTION_TTL,
    },
    opening::{ConnectionLimit, Opening},
    table::{Item, UnreadableItem, number, read_number, read_text, text, write_all},
};

pub(crate) const AUDIENCE: &str = "audience";
pub(crate) const SLOT: &str = "slot";
const CONNECTION_ID: &str = "connection_id";
const FORMAT: &str = "format";
const SINCE: &str = "since";
const ADDRESS: &str = "address";
pub(crate) const EXPIRES_AT: &str = "expires_at";
const BY_CONNECTION: &str = "by_connection";
const COUNT: &str = "count";
const COUNTED_AT: &str = "counted_at";

/// What the partition keys of counts begin with.
const COUNT_PREFIX: &str = "@count#";

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "SUBSCRIPTIONS_TABLE";

/// Partition and sort key of an item.
pub(crate) type Key = (String, String);

fn key_of(item: &Item) -> Key {
    let part = |name| read_text(item, name).map(str::to_owned).unwrap_or_default();
    (part(AUDIENCE), part(SLOT))
}

/// How many times as long a count is told again because of its size.
fn age_factor(count: u64) -> u32 {
    u32::try_from(count / COUNTED_PER_SEC).unwrap_or(u32::MAX).max(1)
}

/// One connection in an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where to post.
    pub connection: ConnectionId,
    /// In which form.
    pub format: Format,
    /// When it joined the audience.
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
}

impl Subscriptions {
    /// The table that the function's environment names.
    pub fn of_function(start: &Start, environment: &mut Reader<'_>) -> Self {
        Self::new(Client::new(&start.sdk), environment.required(TABLE_VARIABLE), start.clock.clone())
    }

    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock }
    }

    /// Records a new connection and its first subscription, or says why not: from where it comes there are as many as there may be.
    ///
    /// They are counted before anything is written, so that a flood costs next to nothing, and once more after it, so that those who
    /// come at the same moment are not more than there may be.
    pub async fn open(&self, opening: &Opening) -> Result<Result<(), Refusal>, Failure> {
        let Opening { connection, address, audience, format, bounds } = opening;
        for bound in bounds {
            if self.members(&bound.audience(), Some(bound.max)).await? >= u64::from(bound.max) {
                return Ok(Err(bound.refusal()));
            }
        }
        let sources: Vec<Audience> = bounds.iter().map(ConnectionLimit::audience).collect();
        let mut everyone = self.item(&Audience::Everyone, connection, *format);
        if let Some(address) = address {
            everyone.insert(ADDRESS.to_owned(), text(address.to_string()));
        }
        let others = audience.iter().chain(&sources).map(|audience| self.item(audience, connection, *format));
        let state = self.first_state(connection, audience.as_ref(), &sources);
        let items: Vec<Item> = std::iter::once(everyone).chain(others).chain(state).collect();
        let keys: Vec<Key> = items.iter().map(key_of).collect();
        self.put(items.into_iter()).await?;
        match self.first_exceeded(bounds).await {
            Ok(None) => Ok(Ok(())),
            // By their keys: the index does not have them yet.
            Ok(Some(bound)) => self.delete(keys.into_iter()).await.map(|()| Err(bound.refusal())),
            Err(failure) => {
                self.delete(keys.into_iter()).await?;
                Err(failure)
            }
        }
    }

    /// The first of some bounds that a connection exceeds that counts already.
    async fn first_exceeded<'a>(&self, bounds: &'a [ConnectionLimit]) -> Result<Option<&'a ConnectionLimit>, Failure> {
        for bound in bounds {
            if self.members(&bound.audience(), Some(bound.max.saturating_add(1))).await? > u64::from(bound.max) {
                return Ok(Some(bound));
            }
        }
        Ok(None)
    }

    /// How many connections are in an audience. However many ask, it is counted once a second; above [`COUNTED_PER_SEC`], once in as
    /// many seconds as it has that many. Who asks meanwhile gets the last figure.
    pub async fn count(&self, audience: &Audience) -> Result<u64, Failure> {
        let doing = "reading how many are in an audience";
        let partition = format!("{COUNT_PREFIX}{}", audience.key());
        let told = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(AUDIENCE, text(&partition))
            .key(SLOT, text(COUNT))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| Failure::new(doing, error))?;
        if let Some(item) = told.item {
            let read = |name| read_number::<i64>(&item, name).map_err(|error| Failure::new(doing, error));
            let (count, counted_at) = (read(COUNT)?, Timestamp::from_millis(read(COUNTED_AT)?));
            let count = u64::try_from(count).unwrap_or_default();
            let is_old = self.clock.now().since(counted_at) >= COUNT_AGE_MAX * age_factor(count);
            if !is_old || !self.begin_counting(&partition, counted_at).await? {
                return Ok(count);
            }
        }
        let count = self.members(audience, None).await?;
        let now = self.clock.now();
        self.client
            .put_item()
            .table_name(&self.table)
            .item(AUDIENCE, text(partition))
            .item(SLOT, text(COUNT))
            .item(COUNT, number(count))
            .item(COUNTED_AT, number(now.millis()))
            .item(EXPIRES_AT, number(now.after(COUNT_TTL).secs()))
            .send()
            .await
            .map_err(|error| Failure::new("noting how many are in an audience", error))?;
        Ok(count)
    }

    /// Whether it falls to this one to count, of all who have seen that the figure is old.
    async fn begin_counting(&self, partition: &str, counted_at: Timestamp) -> Result<bool, Failure> {
        let begun = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(AUDIENCE, text(partition))
            .key(SLOT, text(COUNT))
            .update_expression("SET counted_at = :now")
            .condition_expression("counted_at = :seen")
            .expression_attribute_values(":now", number(self.clock.now().millis()))
            .expression_attribute_values(":seen", number(counted_at.millis()))
            .send()
            .await;
        match begun.map_err(SdkError::into_service_error) {
            Ok(_) => Ok(true),
            Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(Failure::new("counting an audience", error)),
        }
    }

    /// Counts the members of an audience, at least up to `enough` where there are so many. What has expired and is not removed yet
    /// does not count.
    async fn members(&self, audience: &Audience, enough: Option<u32>) -> Result<u64, Failure> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            // Where a bound depends on it. To tell how many there are, what is behind by milliseconds costs half.
            .consistent_read(enough.is_some())
            .select(Select::Count)
            .key_condition_expression("audience = :audience")
            .filter_expression("expires_at > :now")
            .expression_attribute_values(":audience", text(audience.key()))
            .expression_attribute_values(":now", number(self.clock.now().secs()))
            .set_limit(enough.and_then(|enough| i32::try_from(enough).ok()))
            .into_paginator()
            .send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Failure::new("counting an audience", error))?;
            count += u64::try_from(page.count()).unwrap_or_default();
            if enough.is_some_and(|enough| count >= u64::from(enough)) {
                break;
            }
        }
        Ok(count)
    }

    /// Subscribes a connection. Repeating it changes the format and nothing else.
    pub async fn subscribe(
        &self,
        connection: &ConnectionId,
        audiences: &[Audience],
        format: Format,
    ) -> Result<(), Failure> {
        self.put(audiences.iter().map(|audience| self.item(audience, connection, format))).await
    }

    /// Ends subscriptions of a connection. Those that never were are no error.
    pub async fn unsubscribe(&self, connection: &ConnectionId, audiences: &[Audience]) -> Result<(), Failure> {
        let slot = Slot::of(connection);
        self.delete(audiences.iter().map(|audience| (audience.key().to_owned(), slot.as_str().to_owned()))).await
    }

    /// Removes every trace of a connection.
    pub async fn close(&self, connection: &ConnectionId) -> Result<(), Failure> {
        self.delete(self.traces(connection).await?.into_iter()).await
    }

    /// Removes every trace of many connections, in full batches.
    pub async fn close_all(&self, connections: Vec<ConnectionId>) -> Result<(), Failure> {
        let traces = stream::iter(connections)
            .map(|connection| async move { self.traces(&connection).await })
            .buffer_unordered(REMOVALS_IN_FLIGHT)
            .map_ok(|traces| stream::iter(traces.into_iter().map(Ok::<_, Failure>)))
            .try_flatten()
            .try_chunks(BATCH_WRITE_ITEMS_MAX);
        traces
            .map_err(|error| error.1)
            .try_for_each_concurrent(REMOVALS_IN_FLIGHT, |batch| self.delete(batch.into_iter()))
            .await
    }

    /// The keys of all items of a connection. The index follows the table with a delay, so those count, too, that the connection's
    /// own item names, and those two that each connection has.
    async fn traces(&self, connection: &ConnectionId) -> Result<Vec<Key>, Failure> {
        let (indexed, noted) = try_join(self.audiences_of(connection), self.noted_audiences(connection)).await?;
        let everyone = Audience::Everyone.key().to_owned();
        let audiences: BTreeSet<String> = indexed.into_iter().chain(noted).chain([everyone]).collect();
        let slot = Slot::of(connection).as_str().to_owned();
        let keys = audiences.into_iter().map(|audience| (audience, slot.clone()));
        Ok(keys.chain([Self::state_key(connection)]).collect())
    }

    /// The keys of all audiences that a connection is in, as far as the index knows yet.
    pub async fn audiences_of(&self, connection: &ConnectionId) -> Result<Vec<String>, Failure> {
        let doing = "looking up the subscriptions of a connection";
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
            .map(|item| read_text(item, AUDIENCE).map(str::to_owned).map_err(|error| Failure::new(doing, error)))
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

    fn item(&self, audience: &Audience, connection: &ConnectionId, format: Format) -> Item {
        let now = self.clock.now();
        Item::from([
            (AUDIENCE.to_owned(), text(audience.key())),
            (SLOT.to_owned(), text(Slot::of(connection).as_str())),
            (CONNECTION_ID.to_owned(), text(connection.as_str())),
            (FORMAT.to_owned(), text(format.as_str())),
            (SINCE.to_owned(), number(now.millis())),
            (EXPIRES_AT.to_owned(), number(now.after(SUBSCRIPTION_TTL).secs())),
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

    async fn put(&self, items: impl Iterator<Item = Item>) -> Result<(), Failure> {
        let mut requests = Vec::new();
        for item in items {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| Failure::new("building a subscription", error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        write_all(&self.client, &self.table, requests).await
    }

    async fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<(), Failure> {
        let mut requests = Vec::new();
        for (audience, slot) in keys {
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
