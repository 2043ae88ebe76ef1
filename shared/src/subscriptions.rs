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
//! [`Source`](crate::audience::Source) by which connections are counted, where they are. What the item in `@everyone` has beside is in
//! [`crate::admission`]. The size of an audience, where somebody asks for it, is an item in the partition `@count#` and its key, with
//! the sort key `count`: `count`, `counted_at` (ms) and `expires_at`. It is in no index.

use aws_sdk_dynamodb::{
    Client,
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, DeleteRequest, PutRequest, Select, WriteRequest},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    admission::AUDIENCES,
    alert::Format,
    audience::Audience,
    clock::{Clock, Timestamp},
    connection::{ConnectionId, Slot, SlotRange},
    environment::Reader,
    error::{Failure, Refusal},
    function::Start,
    limits::{
        AUDIENCE_PAGE_ITEMS, BATCH_WRITE_ITEMS_MAX, COUNT_AGE_MAX, COUNT_TTL, REMOVALS_IN_FLIGHT, SUBSCRIPTION_TTL,
    },
    opening::{Bound, Opening},
    table::{Item, UnreadableItem, number, read_number, read_text, text, write_all},
};

const AUDIENCE: &str = "audience";
const SLOT: &str = "slot";
const CONNECTION_ID: &str = "connection_id";
const FORMAT: &str = "format";
const SINCE: &str = "since";
const ADDRESS: &str = "address";
const EXPIRES_AT: &str = "expires_at";
const BY_CONNECTION: &str = "by_connection";
const COUNT: &str = "count";
const COUNTED_AT: &str = "counted_at";

/// What the partition keys of counts begin with.
const COUNT_PREFIX: &str = "@count#";

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "SUBSCRIPTIONS_TABLE";

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
        let mut everyone = self.item(&Audience::Everyone, connection, *format);
        if let Some(address) = address {
            everyone.insert(ADDRESS.to_owned(), text(address.to_string()));
        }
        if let Some(audience) = audience {
            everyone.insert(AUDIENCES.to_owned(), AttributeValue::Ss(vec![audience.key().to_owned()]));
        }
        let others = audience.iter().cloned().chain(bounds.iter().map(Bound::audience));
        let others: Vec<Audience> = others.collect();
        let others = others.iter().map(|audience| self.item(audience, connection, *format));
        self.put(std::iter::once(everyone).chain(others)).await?;
        for bound in bounds {
            if self.members(&bound.audience(), Some(bound.max.saturating_add(1))).await? > u64::from(bound.max) {
                self.close(connection).await?;
                return Ok(Err(bound.refusal()));
            }
        }
        Ok(Ok(()))
    }

    /// How many connections are in an audience. It is counted at most once a second, however many ask, but for those who ask at the
    /// very moment at which it is counted.
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
        let now = self.clock.now();
        if let Some(item) = told.item {
            let read = |name| read_number(&item, name).map_err(|error| Failure::new(doing, error));
            if now.since(Timestamp::from_millis(read(COUNTED_AT)?)) < COUNT_AGE_MAX {
                return read_number(&item, COUNT).map_err(|error| Failure::new(doing, error));
            }
        }
        let count = self.members(audience, None).await?;
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

    /// Counts the members of an audience, at least up to `enough` where there are so many. What has expired and is not removed yet
    /// does not count.
    async fn members(&self, audience: &Audience, enough: Option<u32>) -> Result<u64, Failure> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
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
        self.delete(audiences.iter().map(|audience| (audience.key().to_owned(), Slot::of(connection)))).await
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

    /// The keys of all items of a connection.
    async fn traces(&self, connection: &ConnectionId) -> Result<Vec<(String, Slot)>, Failure> {
        let mut audiences = self.audiences_of(connection).await?;
        // The index follows the table with a delay; the item that every connection has is known without it.
        let everyone = Audience::Everyone.key().to_owned();
        if !audiences.contains(&everyone) {
            audiences.push(everyone);
        }
        Ok(audiences.into_iter().map(|audience| (audience, Slot::of(connection))).collect())
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
            // A slot holds the id, and nothing else is needed: this halves what is sent and read.
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

    /// The attributes of the item that every connection has, but for its key.
    pub(crate) fn everyone_of(&self, connection: &ConnectionId) -> Item {
        let mut item = self.item(&Audience::Everyone, connection, Format::ViralAlert);
        item.retain(|name, _| name != AUDIENCE && name != SLOT);
        item
    }

    /// An update of the item that every connection has.
    pub(crate) fn update_of(&self, connection: &ConnectionId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(AUDIENCE, text(Audience::Everyone.key()))
            .key(SLOT, text(Slot::of(connection).as_str()))
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

    async fn delete(&self, keys: impl Iterator<Item = (String, Slot)>) -> Result<(), Failure> {
        let mut requests = Vec::new();
        for (audience, slot) in keys {
            let delete = DeleteRequest::builder().key(AUDIENCE, text(audience)).key(SLOT, text(slot.as_str())).build();
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
