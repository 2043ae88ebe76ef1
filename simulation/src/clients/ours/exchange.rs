//! What happens to the client and what it does: the lines of a [trace](crate::clients::trace).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clients::order::Position;

/// What the application chose, and the client's randomness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Whether there is an `httpUrl`.
    pub http: bool,
    /// Milliseconds between keepalives; 9.5 minutes by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_ms: Option<u64>,
    /// Window of the first reconnect in milliseconds; by default what the service advises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_within_ms: Option<u64>,
    /// Age in milliseconds at which a connection is replaced; by default what the service advises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate_after_ms: Option<u64>,
    /// Random numbers depend on it and on the time only, see [`draw`](super::draw).
    pub seed: u32,
}

/// Something that happens to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The page has created the client. Once, before anything else.
    Start,
    /// A socket has opened.
    Opened {
        /// Its number.
        socket: u32,
    },
    /// A frame has arrived.
    Frame {
        /// The number of the socket.
        socket: u32,
        /// What it carries.
        text: String,
    },
    /// The other side, or the network, has closed a socket.
    Closed {
        /// Its number.
        socket: u32,
        /// The close code; 1006 where no close frame came.
        code: u16,
    },
    /// A request over HTTP was answered.
    Http {
        /// Its number.
        id: u32,
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// A request over HTTP failed without an answer.
    HttpFailed {
        /// Its number.
        id: u32,
    },
    /// The page is shown, or the network may be back.
    Wake,
    /// The browser says that the network is gone.
    Offline,
    /// The application watches a region.
    Watch(String),
    /// The application stops to watch a region.
    Unwatch(String),
    /// The time of [`OurClient::next_timer`](super::OurClient::next_timer) has come.
    Timer,
}

/// Something that the client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Output {
    /// Opens a socket.
    Connect {
        /// Its number, counted from 1.
        socket: u32,
    },
    /// Sends a frame.
    Send {
        /// The number of the socket.
        socket: u32,
        /// What it carries.
        text: String,
    },
    /// Closes a socket.
    Close {
        /// Its number.
        socket: u32,
    },
    /// Sends `GET /alerts`.
    Get {
        /// The number of the request, counted from 1.
        id: u32,
        /// The query, without escapes: `region=PL,DE&after=PL.mwm0nk74.17`.
        query: String,
    },
    /// Tells the application.
    Tell(Told),
}

/// What the application is told: the events of `client/README.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// An alert.
    Alert(Logged),
    /// An alert was taken back.
    Removed(Logged),
    /// Alerts are lost.
    Gap {
        /// The region.
        region: String,
        /// The first one.
        from: u64,
        /// The last one; nothing if the region has a new log.
        to: Option<u64>,
    },
    /// From here on no alert is left out.
    Subscribed {
        /// The watched region.
        region: String,
        /// From where on.
        positions: BTreeMap<String, Position>,
    },
    /// Something failed.
    Error {
        /// The code of `client/README.md`, or of the service.
        code: String,
        /// Whether the client has closed.
        terminal: bool,
    },
    /// The state changed.
    State(State),
}

/// An alert, or its removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// The region.
    pub region: String,
    /// The log.
    pub epoch: u64,
    /// The number.
    pub seq: u64,
    /// The id; empty if the frame had none.
    pub id: String,
    /// Whether it went to every connection.
    pub everyone: bool,
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It opens a connection.
    Connecting,
    /// It has one.
    Open,
    /// It waits for so many milliseconds before the next attempt.
    Waiting(f64),
    /// The network is gone.
    Offline,
    /// It has ended.
    Closed,
}
