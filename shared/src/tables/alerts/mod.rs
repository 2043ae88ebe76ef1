//! The alerts table. What lies in it is in [`schema`].

pub mod history;
mod log;
pub mod regions;
pub(crate) mod schema;
pub mod snapshot;

pub use self::log::{AlertKey, Alerts, Undispatched};
pub(crate) use self::log::{LogFront, LogHead, is_leased, logged};
