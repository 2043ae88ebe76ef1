//! Identity sources of authorizers.

use serde_json::Value;

use super::{error::TemplateError, resources::Resource};

/// A part of the handshake that identifies the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// `route.request.header.NAME`
    Header(String),
    /// `route.request.querystring.NAME`
    Query(String),
}

/// Reads the parts that a handshake must have for its authorizer to run. WebSocket APIs have their own syntax for them.
pub(super) fn identity_sources(
    authorizer: &Resource<'_>,
    sources: Option<&Value>,
) -> Result<Vec<IdentitySource>, TemplateError> {
    let source = |source: &Value| {
        let text = source.as_str().unwrap_or_default();
        let header = text.strip_prefix("route.request.header.").map(|name| IdentitySource::Header(name.to_owned()));
        let query =
            || text.strip_prefix("route.request.querystring.").map(|name| IdentitySource::Query(name.to_owned()));
        header.or_else(query).ok_or_else(|| {
            authorizer.error(format!(
                "invalid IdentitySource {source}: expected route.request.header.NAME or route.request.querystring.NAME"
            ))
        })
    };
    match sources {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(sources)) => sources.iter().map(source).collect(),
        Some(one) => Ok(vec![source(one)?]),
    }
}
