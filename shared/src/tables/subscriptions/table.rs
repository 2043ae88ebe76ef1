//! The subscriptions table: reading pages of an audience, and writing and deleting items.

use aws_sdk_dynamodb::{
    Client,
    types::{DeleteRequest, PutRequest, WriteRequest},
};
use clock::{Clock, Timestamp};

use crate::{
    error::InternalError,
    limits::{AUDIENCE_PAGE_ITEMS, SUBSCRIPTION_TTL},
    model::{
        alert::Format,
        audience::Audience,
        connection::{Connection, ConnectionId, Slot, SlotRange},
        member::{AudiencePage, Member},
    },
    runtime::{environment::Reader, function::StartContext},
    tables::{
        dynamodb::{Item, UnreadableItem, number, read_number, read_text, text, write_all},
        subscriptions::{
            recent_counts::RecentCounts,
            schema::{AUDIENCE, BY_CONNECTION, CONNECTION_ID, EXPIRES_AT, FORMAT, Key, SINCE, SLOT, TABLE_VARIABLE},
        },
    },
};

/// Access to the subscriptions table.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    client: Client,
    table: String,
    clock: Clock,
    counts: RecentCounts,
}

impl Subscriptions {
    /// The table that the function's environment names.
    pub fn from_env(start: &StartContext, environment: &mut Reader<'_>) -> Self {
        Self::new(Client::new(&start.sdk), environment.required(TABLE_VARIABLE), start.clock.clone())
    }

    /// The table named `table`.
    pub fn new(client: Client, table: String, clock: Clock) -> Self {
        Self { client, table, clock, counts: RecentCounts::default() }
    }

    /// The keys of all audiences that a connection is in, as far as the index knows yet, and of where its seats are.
    pub async fn audiences_of(&self, connection: &ConnectionId) -> Result<Vec<String>, InternalError> {
        Ok(self.items_of(connection).await?.into_iter().map(|(audience, _)| audience).collect())
    }

    /// The keys of all items of a connection, as far as the index knows yet.
    pub(super) async fn items_of(&self, connection: &ConnectionId) -> Result<Vec<Key>, InternalError> {
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
            .map_err(|error| InternalError::new(doing, error))?
            .iter()
            .map(|item| key(item).map_err(|error: UnreadableItem| InternalError::new(doing, error)))
            .collect()
    }

    /// One page of an audience within a range, in ascending order of slots: the first, or that after a slot.
    ///
    /// Reads are consistent: whoever had an answer to a subscription before an alert was committed is among them.
    pub async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
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
            .map_err(|error| InternalError::new("reading a page of an audience", error))?;
        let members = page.items().iter().filter_map(readable_member).collect();
        // A key that cannot be read must not end the audience.
        let next = page
            .last_evaluated_key
            .as_ref()
            .map(|key| read_text(key, SLOT).and_then(|slot| Slot::of_key(slot).ok_or(UnreadableItem(SLOT))));
        let next = next.transpose().map_err(|error| InternalError::new("reading a page of an audience", error))?;
        Ok(AudiencePage { members, next })
    }

    pub(super) fn item(&self, audience: &Audience, connection: &Connection, format: Format) -> Item {
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

    pub(super) fn counts(&self) -> &RecentCounts {
        &self.counts
    }

    pub(super) async fn delete(&self, keys: impl Iterator<Item = Key>) -> Result<(), InternalError> {
        self.write(std::iter::empty(), keys).await
    }

    pub(super) async fn write(
        &self,
        puts: impl Iterator<Item = Item>,
        deletes: impl Iterator<Item = Key>,
    ) -> Result<(), InternalError> {
        let mut requests = Vec::new();
        for item in puts {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| InternalError::new("building a subscription", error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        for (audience, slot) in deletes {
            let delete = DeleteRequest::builder().key(AUDIENCE, text(audience)).key(SLOT, text(slot)).build();
            let delete = delete.map_err(|error| InternalError::new("building a removal", error))?;
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
