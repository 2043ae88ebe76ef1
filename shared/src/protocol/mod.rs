//! Messages between a client and the service, and the events in which Lambda brings them.

pub mod event;
pub mod leg;
pub mod reply;
pub mod request;
