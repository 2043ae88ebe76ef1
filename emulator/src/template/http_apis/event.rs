//! Events of functions that are routes.

use serde_json::Value;

use super::{
    model::{ANY, DEFAULT, HttpApiKind},
    sam_auth::{SamAuth, keys_of_event},
};
use crate::template::{error::TemplateError, resources::Resource, scalar};

/// An event of a function that is a route.
#[derive(Clone, Debug)]
pub(in crate::template) struct HttpEvent {
    /// Its key in the function.
    pub(super) name: String,
    /// Name of the function.
    pub(super) function: String,
    pub(super) kind: HttpApiKind,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) properties: Value,
    /// Who may use the route, or why that cannot be read.
    pub(super) auth: Result<SamAuth, String>,
}

impl HttpEvent {
    /// The event, if it is a route. That of an HTTP API may say neither path nor method, and is for every request then.
    ///
    /// # Errors
    ///
    /// If path or method are missing otherwise.
    pub(in crate::template) fn of(
        function: &Resource<'_>,
        name: &str,
        event: &Value,
    ) -> Result<Option<Self>, TemplateError> {
        let kind = match event.get("Type").and_then(Value::as_str) {
            Some("HttpApi") => HttpApiKind::Http,
            Some("Api") => HttpApiKind::Rest,
            _ => return Ok(None),
        };
        let properties = event.get("Properties").cloned().unwrap_or_default();
        let text = |property: &str| properties.get(property).and_then(scalar::as_text);
        let (method, path) = match (text("Method"), text("Path")) {
            (None, None) if kind == HttpApiKind::Http => (ANY.to_owned(), DEFAULT.to_owned()),
            (Some(method), Some(path)) => (method, path),
            (_, None) => return Err(function.error(format!("the event {name} has no Path"))),
            (None, Some(_)) => return Err(function.error(format!("the event {name} has no Method"))),
        };
        let node = function.node("Events").and_then(|events| events.get(name)?.get("Properties")?.get("Auth"));
        let auth = SamAuth::read(properties.get("Auth"), node, function.line, keys_of_event(kind));
        Ok(Some(Self { name: name.to_owned(), function: function.name.clone(), kind, method, path, properties, auth }))
    }

    pub(super) fn text(&self, property: &str) -> Option<String> {
        self.properties.get(property).and_then(scalar::as_text)
    }

    /// The API that it names, by its id or its logical id.
    pub(super) fn api(&self) -> Option<String> {
        match self.kind {
            HttpApiKind::Http => self.text("ApiId"),
            HttpApiKind::Rest => self.text("RestApiId"),
        }
    }
}
