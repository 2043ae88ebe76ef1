//! Clients of the service, as state machines that the world drives in virtual time.

pub mod hostile;
pub mod order;
pub mod ours;
pub mod trace;
