//! From a publication to the start of its fan-out.

pub mod commit;
pub mod forecast;
pub mod publisher;
pub mod redrive;
pub mod removal;
pub mod undispatched;
