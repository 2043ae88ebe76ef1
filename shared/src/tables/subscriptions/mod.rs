//! The subscriptions table. What lies in it is in [`schema`].

pub mod connection_state;
mod count;
mod lifecycle;
mod recent_counts;
pub(crate) mod schema;
pub mod seats;
mod table;

pub use self::{recent_counts::Counted, schema::TABLE_VARIABLE, table::Subscriptions};
