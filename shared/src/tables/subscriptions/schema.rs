//! The subscriptions table: who listens to what.
//!
//! | key | attribute | value |
//! |---|---|---|
//! | partition | `audience` | [`Audience::key`] |
//! | sort | `slot` | [`Slot`] |
//! | index `by_connection`, partition | `connection_id` | the id alone |
//! | time to live | `expires_at` | seconds since the Unix epoch |
//!
//! Every connection has its item in `@everyone`; each region and each room that it is in is one more item. All of them
//! say when the connection began (`since`), so that writing one again changes its `format` and nothing else.
//!
//! Two kinds of items are of no audience. The state of a connection is in the partition `@connection#` and its id, each
//! in one of its own because each message writes it, with the sort key `state`, and in no index; when the connection
//! has closed, a mark remains there for ten minutes: [`crate::tables::subscriptions::connection_state`]. Where
//! connections of an address or a user are limited, each has a seat in the partition of that
//! [`Source`](crate::model::audience::ConnectionQuotaKey): [`crate::tables::subscriptions::seats`].

use crate::model::connection::{ConnectionId, Slot};

pub(crate) const AUDIENCE: &str = "audience";
pub(crate) const SLOT: &str = "slot";
pub(crate) const CONNECTION_ID: &str = "connection_id";
pub(super) const FORMAT: &str = "format";
pub(super) const SINCE: &str = "since";
pub(super) const ADDRESS: &str = "address";
pub(crate) const EXPIRES_AT: &str = "expires_at";
pub(super) const BY_CONNECTION: &str = "by_connection";

/// Environment variable that names the table.
pub const TABLE_VARIABLE: &str = "SUBSCRIPTIONS_TABLE";

/// Partition and sort key of an item.
pub(crate) type Key = (String, String);

pub(super) fn key_in(audience: &str, connection: &ConnectionId) -> Key {
    (audience.to_owned(), Slot::of(connection).as_str().to_owned())
}
