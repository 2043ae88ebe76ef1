//! What a program adds to the emulator when it embeds it: functions that run in its own process, and pages.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use hyper::{HeaderMap, Response, http::request::Parts};

use crate::{
    gateway::{ConnectionSummary, Gateway},
    http::Body,
    invocation::LinkedFunctions,
};

/// A program that embeds the emulator. `()` adds nothing: every function runs as a process.
pub trait Embedding: LinkedFunctions {
    /// Makes the pages that the HTTP address serves beside the HTTP API and the inspector.
    fn pages(&self, site: Site) -> Option<Arc<dyn Pages>> {
        let _ = site;
        None
    }
}

impl Embedding for () {}

/// Pages of the program that embeds the emulator.
pub trait Pages: fmt::Debug + Send + Sync {
    /// Returns whether a page of another site may link to this path: one that tells nothing of this machine.
    fn is_public(&self, path: &str) -> bool;

    /// Says in a few words each what the program knows of a connection, such as its subscriptions, for the inspector.
    fn labels<'a>(&'a self, connection_id: &'a str) -> BoxFuture<'a, Vec<String>> {
        let _ = connection_id;
        Box::pin(async { Vec::new() })
    }

    /// Answers a request that is neither for the HTTP API nor for the inspector. `None` answers 404.
    fn handle<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Option<Response<Body>>>;
}

/// The running emulator, as the pages of the program see it.
#[derive(Clone, Debug)]
pub struct Site {
    pub(crate) websocket_port: u16,
    /// The variables that lead AWS clients to the emulator.
    pub aws_variables: BTreeMap<String, String>,
    /// The variables that the template gives to functions, by the function's name.
    pub function_variables: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) gateway: Arc<Gateway>,
}

impl Site {
    /// The address of the WebSocket API by the name under which a request has reached this machine.
    pub fn websocket_url(&self, headers: &HeaderMap) -> String {
        self.gateway.address_for(headers, self.websocket_port)
    }

    /// The number of open connections.
    pub fn connected(&self) -> usize {
        self.gateway.connected()
    }

    /// The newest connections whose id or address contains `part`, at most `max`, and how many there are of them.
    pub fn connections(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        self.gateway.summaries(part, max)
    }
}
