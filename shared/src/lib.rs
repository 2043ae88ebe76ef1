//! Everything of Viral Alerts that holds a decision: types that cannot be invalid, the wire protocol, the two tables,
//! the push client, and the wiring that every function shares. The crates under `functions/` only decode, call one
//! function from here, and encode.

pub mod auth;
pub mod error;
pub mod fanout;
pub mod forms;
pub mod limits;
pub mod model;
pub mod protocol;
pub mod publish;
pub mod push;
pub mod replay;
pub mod runtime;
pub mod tables;

#[cfg(test)]
mod fake_aws;
