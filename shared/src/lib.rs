//! Everything of Viral Alerts that holds a decision: types that cannot be invalid, the wire protocol, the two tables,
//! the push client, and the wiring that every function shares. The crates under `functions/` only decode, call one
//! function from here, and encode.

pub mod access;
pub mod admission;
pub mod alert;
pub mod alerts;
pub mod allowance;
pub mod audience;
pub mod commit;
pub mod connection;
pub mod counting;
pub mod direction;
pub mod environment;
pub mod error;
pub mod event;
pub mod fanout;
pub mod forecast;
pub mod function;
pub mod history;
pub mod https;
pub mod lanes;
pub mod latencies;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod opening;
pub mod origin;
pub mod pace;
pub mod paging;
pub mod plan;
pub mod position;
pub mod publication;
pub mod publications;
pub mod publisher;
pub mod push;
pub mod redrive;
mod refreshed;
pub mod regions;
pub mod removal;
pub mod resumption;
pub mod rises;
pub mod room;
pub mod score;
pub mod seats;
pub mod secrets;
pub mod snapshot;
pub mod strict_json;
pub mod subscriptions;
pub mod table;
pub mod token;
pub mod undispatched;
pub mod union;
pub mod webhook;

#[cfg(test)]
mod fake_aws;
