//! HTTP APIs and REST APIs: what SAM makes of events of functions, and CloudFormation's own resources.
//!
//! What the emulator does not serve of them stays a route, which says so when it is asked.

mod authorizers;
mod backends;
mod cors;
mod event;
mod gateway_responses;
mod http;
mod model;
mod open_api;
mod paths;
mod policies;
mod rest;
mod sam;
mod sam_auth;
mod without_effect;

use std::collections::BTreeMap;

pub(super) use self::event::HttpEvent;
pub(crate) use self::model::{
    ANY, AuthorizerInput, Cors, DEFAULT, HttpApi, HttpApiKind, HttpAuthorization, HttpAuthorizer, HttpIdentitySource,
    HttpRoute, JwtAuthorizer, MockResponse, PayloadVersion, ProxiedServer, RouteBackend,
};
pub(crate) use self::paths::parameter;
use super::{
    error::TemplateError,
    functions::Function,
    intrinsics::Resolver,
    resources::{Resource, Resources},
    yaml::YamlNode,
};

/// Most notes on routes that are not served.
const NOTES_MAX: usize = 12;

/// The HTTP and REST APIs of a template.
#[derive(Debug, Default)]
pub(super) struct HttpApis {
    pub(super) apis: Vec<HttpApi>,
    pub(super) notes: Vec<String>,
}

impl HttpApis {
    /// Reads the APIs, and the events of functions that are routes of them.
    pub(super) fn read(
        root: &YamlNode,
        resolver: &Resolver<'_>,
        resources: &Resources<'_>,
        events: Vec<HttpEvent>,
    ) -> Result<Self, TemplateError> {
        let mut found = Self::default();
        http::read(resources, &mut found)?;
        rest::read(resources, &mut found);
        sam::read(root, resolver, resources, events, &mut found)?;
        found.notes.extend(without_effect::notes(root, resources, &found.apis));
        Ok(found)
    }

    /// Adds the APIs of another template, which may have routes of one that is here.
    pub(super) fn extend(&mut self, other: Self) {
        for api in other.apis {
            match self.apis.iter_mut().find(|known| known.api_id == api.api_id) {
                Some(known) => known.merge(api),
                None => self.apis.push(api),
            }
        }
        self.notes.extend(other.notes);
    }

    /// Marks routes to functions that no template has, and with paths that API Gateway refuses. Names in notes what is
    /// not served.
    pub(super) fn finish(mut self, functions: &BTreeMap<String, Function>) -> Self {
        let mut unserved = Vec::new();
        for api in &mut self.apis {
            paths::refuse(api);
            for route in &mut api.routes {
                let missing = route.functions().find(|name| !functions.contains_key(*name)).map(str::to_owned);
                if let Some(name) = missing {
                    route.backend = RouteBackend::Unserved(format!("no template has its function {name}"));
                }
                let reason =
                    route.unserved().map(|reason| format!("{} of {} is not served: {reason}", route.key(), api.name));
                unserved.extend(reason);
            }
            if let Some(reason) = &api.unserved {
                unserved.push(format!("the {} {} is not served as a whole: {reason}", api.kind.name(), api.name));
            }
        }
        let more = unserved.len().saturating_sub(NOTES_MAX);
        self.notes.extend(unserved.into_iter().take(NOTES_MAX));
        self.notes.extend((more > 0).then(|| format!("{more} more routes are not served")));
        self
    }
}

/// Why an API with an OpenAPI document in a file or a bucket is not served.
fn elsewhere(property: &str) -> String {
    format!("the emulator does not read the OpenAPI document of its {property}: write it into the template")
}

/// Why an API is not served of whose OpenAPI document a transform (`AWS::Include`) adds all, or what says who may use
/// it, if that is so.
fn transformed(resource: &Resource<'_>, property: &str) -> Option<String> {
    let is_added = |(name, node): &(String, YamlNode)| {
        name == "Fn::Transform" || (open_api::RESTRICTING.contains(&name.as_str()) && node.unread_line().is_some())
    };
    let document = resource.entries(property);
    let paths = document.iter().filter(|(name, _)| name == "paths").flat_map(|(_, paths)| paths.entries());
    let operations = paths.flat_map(|(_, path)| path.entries()).flat_map(|(_, operation)| operation.entries());
    let is_transformed = document.iter().chain(operations).any(is_added);
    is_transformed.then(|| elsewhere(&format!("Fn::Transform in {property}")))
}

#[cfg(test)]
mod tests;
