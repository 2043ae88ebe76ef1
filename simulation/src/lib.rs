//! The functions, unchanged and on the real AWS clients, in a world that a seed decides.
//!
//! Below the clients, where bytes would leave the process, stands a [`World`]: it decides when a request takes effect,
//! whether it does, and whether its answer arrives. DynamoDB is the real engine. Time is tokio's paused time, so a
//! world of seconds takes milliseconds.

pub mod client;
pub mod clients;
pub mod cloud;
pub mod delays;
pub mod engine;
pub mod quotas;
pub mod world;

pub use crate::{
    client::{Call, Lost, Reply, World, environment, start},
    delays::Delays,
    engine::Engine,
    quotas::{Losses, Quotas},
};

/// Base64 as tokens are written in.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
