//! A connection that opens, and the limits that it has to keep.

use std::net::IpAddr;

use crate::{
    error::{ApiError, Code},
    model::{
        alert::Format,
        audience::{Audience, ConnectionQuotaKey},
        connection::Connection,
    },
};

/// A bound on the connections from one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    pub(crate) source: ConnectionQuotaKey,
    /// How many there may be.
    pub max: u32,
    /// Of what, for a person to read.
    pub(crate) of: &'static str,
}

impl ConnectionLimit {
    /// Where they come from.
    pub fn source(&self) -> &ConnectionQuotaKey {
        &self.source
    }

    /// What to answer to one more.
    pub fn refusal(&self) -> ApiError {
        let message = format!("there are {} connections of this {}, close one first", self.max, self.of);
        ApiError::new(Code::LimitReached, message)
    }
}

/// A connection that opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    pub connection: Connection,
    /// The client's address, where the gateway told it.
    pub address: Option<IpAddr>,
    /// What it subscribes to at once, if anything.
    pub audience: Option<Audience>,
    /// The form in which alerts shall arrive, until a message says otherwise.
    pub format: Format,
    /// How many there may be from where it comes.
    pub bounds: Vec<ConnectionLimit>,
}
