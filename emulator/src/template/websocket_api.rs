//! A WebSocket API as the gateway serves it.

use std::collections::BTreeMap;

use super::{
    identity::IdentitySource, integrations::Integration, selection::SelectionExpression, throttles::Throttles,
};

/// A WebSocket API with its one stage.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketApi {
    /// Ten lower-case letters and digits.
    pub(crate) api_id: String,
    /// The stage, first segment of every path.
    pub(crate) stage: String,
    /// Variables of the stage, for mapping templates and addresses.
    pub(crate) stage_variables: BTreeMap<String, String>,
    /// How the route of a message is chosen.
    pub(crate) selection: SelectionExpression,
    /// Routes by route key.
    pub(crate) routes: BTreeMap<String, Route>,
    /// How many requests the routes take.
    pub(crate) throttles: Throttles,
}

/// A route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// What handles it.
    pub(crate) integration: Integration,
    /// Whether the integration's answer goes back over the socket.
    pub(crate) responds: bool,
    /// Who may use it. Only asked on `$connect`.
    pub(crate) authorization: Authorization,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Everybody.
    None,
    /// Whoever signs the request.
    Iam,
    /// Whom a function lets in.
    Lambda(Authorizer),
}

/// A Lambda authorizer of type REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorizer {
    /// Name of the function.
    pub(crate) function: String,
    /// What must be there for the function to be asked at all.
    pub(crate) identity_sources: Vec<IdentitySource>,
}
