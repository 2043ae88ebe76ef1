//! Who may connect, subscribe, publish and read.

pub mod access;
pub mod connect;
pub mod origin;
pub mod secrets;
pub mod token;
pub mod webhook;
