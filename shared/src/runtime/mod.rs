//! What every function needs to run: its environment, its start, its metrics, and calls to HTTPS services.

pub mod backoff;
pub mod environment;
pub mod function;
pub mod https;
pub mod metrics;
pub mod network;
pub(crate) mod refreshed;
pub mod tls;
