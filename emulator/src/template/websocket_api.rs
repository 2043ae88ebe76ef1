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
    /// The stage, which is the first segment of every path.
    pub(crate) stage: String,
    /// Variables of the stage, for mapping templates and addresses.
    pub(crate) stage_variables: BTreeMap<String, String>,
    /// Selects the route of a message.
    pub(crate) selection: SelectionExpression,
    /// Routes by route key.
    pub(crate) routes: BTreeMap<String, Route>,
    /// Rate limits of the routes.
    pub(crate) throttles: Throttles,
}

impl WebSocketApi {
    /// Names of the functions that its routes and its authorizer invoke.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &str> {
        self.routes.values().flat_map(|route| {
            let authorizer = match &route.authorization {
                Authorization::Lambda(authorizer) => Some(authorizer.function.as_str()),
                Authorization::None | Authorization::Iam => None,
            };
            route.integration.function().into_iter().chain(authorizer)
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Handles its messages.
    pub(crate) integration: Integration,
    /// Whether the client gets the integration's response.
    pub(crate) responds: bool,
    /// Who may use it. Only `$connect` checks it.
    pub(crate) authorization: Authorization,
}

/// Which clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Every client.
    None,
    /// Clients that sign the request.
    Iam,
    /// Clients that a function allows.
    Lambda(Authorizer),
}

/// A Lambda authorizer of type REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorizer {
    /// Name of the function.
    pub(crate) function: String,
    /// Parts of the handshake without which the function does not run.
    pub(crate) identity_sources: Vec<IdentitySource>,
}
