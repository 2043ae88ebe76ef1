//! Types that cannot be invalid: what is published, who subscribes to it, and where it is in a log.

pub mod alert;
pub mod audience;
pub mod channel;
pub mod connect_request;
pub mod connection;
pub mod direction;
pub(crate) mod id;
pub mod member;
pub mod position;
pub mod publication;
pub mod publications;
pub mod rate_limit;
pub mod repeat;
pub mod room;
pub mod strict_json;
