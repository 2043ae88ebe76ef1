//! Events of functions that are routes.

use serde_json::Value;

use super::model::HttpApiKind;
use crate::template::{resources::Resource, scalar};

/// An event of a function that is a route.
#[derive(Clone, Debug)]
pub(in crate::template) struct HttpEvent {
    /// Its key in the function.
    pub(super) name: String,
    /// Name of the function.
    pub(super) function: String,
    pub(super) kind: HttpApiKind,
    pub(super) properties: Value,
}

impl HttpEvent {
    /// The event, if it is a route.
    pub(in crate::template) fn of(function: &Resource<'_>, name: &str, event: &Value) -> Option<Self> {
        let kind = match event.get("Type").and_then(Value::as_str)? {
            "HttpApi" => HttpApiKind::Http,
            "Api" => HttpApiKind::Rest,
            _ => return None,
        };
        let properties = event.get("Properties").cloned().unwrap_or_default();
        Some(Self { name: name.to_owned(), function: function.name.clone(), kind, properties })
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
