//! AppSync Event APIs: channels over WebSockets, and publishes over HTTP.
//!
//! `docs/emulator.md` says how the real ones behave, with the source of each claim.

mod actions;
mod addresses;
mod answers;
mod api;
mod authorization;
mod channel;
mod credentials;
mod error;
mod frames;
mod handlers;
mod limits;
mod publish;
mod shared_parts;
mod socket;
mod subscriptions;

use std::net::SocketAddr;

use hyper::Response;

pub use self::addresses::EventApiAddress;
use self::addresses::PUBLISH;
pub(crate) use self::{
    addresses::{addresses, local_hosts},
    api::EventApis,
};
use crate::{
    http::{Body, Request},
    template::{AuthMode, EventApi},
};

/// The names of the APIs that take signatures for anything.
pub(crate) fn signed(apis: &[EventApi]) -> Vec<&str> {
    let is_signed = |api: &&EventApi| {
        let of_namespaces =
            api.namespaces.values().flat_map(|namespace| namespace.publish.iter().chain(&namespace.subscribe));
        api.connect.iter().chain(of_namespaces).any(|mode| *mode == AuthMode::Iam)
    };
    apis.iter().filter(is_signed).map(|api| api.name.as_str()).collect()
}

impl EventApis {
    /// Responds to a request that is for an Event API. Otherwise gives it back.
    pub(crate) async fn handle(&self, request: Request, peer: SocketAddr) -> Result<Response<Body>, Request> {
        let Some((api, path)) = self.find(request.uri().path(), request.headers()) else { return Err(request) };
        Ok(match path {
            PUBLISH => publish::handle(api, request, peer).await,
            _ => socket::connect(api, request, peer).await,
        })
    }

    /// Serves bytes as if a client with the first key of the first API had sent them, and waits for their effects.
    #[cfg(feature = "fuzzing")]
    pub(crate) async fn serve_bytes(&self, bytes: &[u8]) {
        use std::sync::Arc;

        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let api = self.apis.first().expect("one");
        let (client, server) = tokio::io::duplex(bytes.len().max(1));
        let (mut replies, mut requests) = tokio::io::split(client);
        requests.write_all(bytes).await.expect("room for all");
        requests.shutdown().await.expect("open");
        let (session, waiting) = socket::session_for_fuzzing(api);
        let mut read = Vec::new();
        let served = socket::serve(api, &session, server, waiting, None);
        let (_, ended) = tokio::join!(
            replies.read_to_end(&mut read),
            tokio::time::timeout(crate::gateway::CLOSE_TIMEOUT * 2, served)
        );
        ended.expect("it ends when the bytes do");
        assert_eq!(Arc::strong_count(&session), 1, "nothing keeps a session that has ended");
    }
}
