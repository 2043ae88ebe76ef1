//! What a client has missed.

pub mod paging;
pub mod resumption;
