//! The interface for programs that embed the emulator: functions in their own process, and pages.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use hyper::{Response, http::request::Parts};

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

/// Pages of a program that embeds the emulator.
pub trait Pages: fmt::Debug + Send + Sync {
    /// Returns whether pages of other sites may link to this path. Its page must not reveal data of this machine.
    fn is_public(&self, path: &str) -> bool;

    /// Returns short labels of a connection for the inspector, such as its subscriptions.
    fn labels<'a>(&'a self, connection_id: &'a str) -> BoxFuture<'a, Vec<String>> {
        let _ = connection_id;
        Box::pin(async { Vec::new() })
    }

    /// Responds to a request that is neither for the HTTP API nor for the inspector. `None` becomes 404.
    fn handle<'a>(&'a self, request: &'a Parts) -> BoxFuture<'a, Option<Response<Body>>>;
}

/// The running emulator, for the pages of the program.
#[derive(Clone, Debug)]
pub struct Site {
    pub(crate) websocket_port: u16,
    /// Variables that lead AWS clients to the emulator.
    pub aws_variables: BTreeMap<String, String>,
    /// Variables that the template gives to functions, by function name.
    pub function_variables: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) gateway: Arc<Gateway>,
}

impl Site {
    /// Returns the address of the WebSocket API under the host name of a request.
    pub fn websocket_url(&self, request: &Parts) -> String {
        self.gateway.address_for(request, self.websocket_port)
    }

    /// Returns the number of open connections.
    pub fn connected(&self) -> usize {
        self.gateway.connected()
    }

    /// Returns the newest `max` connections whose id, address or user agent contains `part`, and the number of all
    /// matches.
    pub fn connections(&self, part: &str, max: usize) -> (Vec<ConnectionSummary>, usize) {
        self.gateway.summaries(part, max)
    }
}
