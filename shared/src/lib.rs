//! Everything of Viral Alerts that holds a decision: types that cannot be invalid, the wire protocol, the two tables,
//! the push client, and the wiring that every function shares. The crates under `functions/` only decode, call one
//! function from here, and encode.

pub mod alert;
pub mod alerts;
pub mod audience;
pub mod clock;
pub mod connection;
pub mod direction;
pub mod environment;
pub mod error;
pub mod event;
pub mod fanout;
pub mod function;
pub mod history;
pub mod latencies;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod opening;
pub mod pace;
pub mod plan;
pub mod position;
pub mod publication;
pub mod publisher;
pub mod push;
pub mod recovery;
pub mod strict_json;
pub mod subscriptions;
pub mod table;
pub mod union;

#[cfg(test)]
mod fake_aws;
