//! The resources of a template, with their properties resolved.

use serde_json::Value;

use super::{
    error::TemplateError,
    intrinsics::{self, Resolver},
    yaml::YamlNode,
};

/// One resource with its properties resolved.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) logical_id: String,
    /// Physical name, which `Ref` returns for most types.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) line: usize,
    pub(super) properties: Value,
    pub(super) metadata: Value,
}

impl Resource {
    pub(super) fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.line, message).in_resource(&self.logical_id)
    }

    /// A property as text. Numbers and booleans become text too.
    pub(super) fn text(&self, property: &str) -> Option<String> {
        self.properties.get(property).and_then(intrinsics::as_text)
    }

    pub(super) fn required_text(&self, property: &str) -> Result<String, TemplateError> {
        self.text(property).ok_or_else(|| self.error(format!("{property} is missing")))
    }
}

/// The resources whose conditions hold, in the order of the template.
pub(super) struct Resources(Vec<Resource>);

impl Resources {
    pub(super) fn of(root: &YamlNode, resolver: &Resolver<'_>) -> Result<Self, TemplateError> {
        let nodes = root.get("Resources").ok_or_else(|| TemplateError::new("the template has no section Resources"))?;
        let mut resources = Vec::new();
        for (logical_id, node) in nodes.entries() {
            let within = |error: TemplateError| error.in_resource(logical_id);
            if let Some(condition) = node.get("Condition").and_then(YamlNode::text)
                && !resolver.condition(condition, node.line).map_err(within)?
            {
                continue;
            }
            let resolved = |key: &str| match node.get(key) {
                Some(node) => resolver.resolve(node).map(Option::unwrap_or_default).map_err(within),
                None => Ok(Value::Null),
            };
            let kind = node.get("Type").and_then(YamlNode::text);
            resources.push(Resource {
                logical_id: logical_id.clone(),
                name: resolver.physical_name(logical_id, node.line).map_err(within)?,
                kind: kind.ok_or_else(|| within(TemplateError::at(node.line, "Type is missing")))?.to_owned(),
                line: node.line,
                properties: resolved("Properties")?,
                metadata: resolved("Metadata")?,
            });
        }
        Ok(Self(resources))
    }

    pub(super) fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.0.iter().filter(move |resource| resource.kind == kind)
    }
}
