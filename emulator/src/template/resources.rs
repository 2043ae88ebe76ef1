//! The resources of a template. A property is resolved when something reads it.

use std::{cell::OnceCell, collections::BTreeMap};

use serde_json::Value;

use super::{attributes, error::TemplateError, intrinsics::Resolver, scalar, yaml::YamlNode};

/// Types whose physical names the emulator reads.
const NAMED: [&str; 17] = [
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Stage",
    "AWS::AppSync::Api",
    "AWS::AppSync::ApiKey",
    "AWS::AppSync::DataSource",
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::Lambda::Function",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
    "AWS::Serverless::Api",
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::SimpleTable",
    "AWS::Serverless::WebSocketApi",
];

/// One resource.
pub(super) struct Resource<'a> {
    pub(super) logical_id: String,
    /// Physical name, for the types whose name the emulator reads; the logical id for others.
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) line: usize,
    resolver: &'a Resolver<'a>,
    properties: BTreeMap<&'a str, Property<'a>>,
    metadata: Option<Property<'a>>,
}

/// A value that is resolved when it is read.
struct Property<'a> {
    node: &'a YamlNode,
    value: OnceCell<Option<Value>>,
}

impl<'a> Property<'a> {
    fn new(node: &'a YamlNode) -> Self {
        Self { node, value: OnceCell::new() }
    }
}

impl Resource<'_> {
    pub(super) fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::at(self.line, message).in_resource(&self.logical_id)
    }

    /// Whether a queue or topic is a FIFO one, whose name then has to say so, and no other's may. Source: SQS and SNS.
    pub(super) fn is_fifo(&self) -> Result<bool, TemplateError> {
        let is_fifo = attributes::fifo_property(&self.kind).and_then(|property| self.text(property));
        let is_fifo = is_fifo.is_some_and(|is_fifo| is_fifo == "true");
        if is_fifo == self.name.ends_with(attributes::FIFO_SUFFIX) {
            return Ok(is_fifo);
        }
        let property = attributes::fifo_property(&self.kind).unwrap_or_default();
        let name = &self.name;
        Err(self.error(if is_fifo {
            format!("invalid name {name}: with {property} it has to end with .fifo")
        } else {
            format!("invalid name {name}: without {property}: true it cannot have a full stop")
        }))
    }

    /// The name of a queue or topic, which has letters, digits, hyphens and underscores. Source: SQS and SNS.
    pub(super) fn simple_name(&self, characters_max: usize) -> Result<String, TemplateError> {
        let name = &self.name;
        let rest = name.strip_suffix(attributes::FIFO_SUFFIX).unwrap_or(name);
        let is_valid = name.len() <= characters_max
            && !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_valid.then(|| name.clone()).ok_or_else(|| {
            self.error(format!(
                "invalid name {name}: expected at most {characters_max} letters, digits, hyphens and underscores"
            ))
        })
    }

    /// A property. If it is invalid, the template is refused when it has been read.
    pub(super) fn get(&self, property: &str) -> Option<&Value> {
        self.properties.get(property).and_then(|property| self.read(property))
    }

    /// A part of a property, such as `/Environment/Variables`.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Value> {
        let (property, rest) = pointer.trim_start_matches('/').split_once('/')?;
        self.get(property)?.pointer(&format!("/{rest}"))
    }

    /// Parts of a property by their keys. Its other parts are not evaluated.
    pub(super) fn parts(&self, property: &str, keys: &[&str]) -> Option<Value> {
        let node = self.properties.get(property)?.node;
        let parts = keys.iter().filter_map(|key| Some(((*key).to_owned(), self.value_of(node.get(key)?)?)));
        match node.entries() {
            [] | [_] => self.get(property).cloned(),
            _ => Some(Value::Object(parts.collect())),
        }
    }

    /// The entries of a property that is a map, which [`Resource::value_of`] evaluates.
    pub(super) fn entries(&self, property: &str) -> &[(String, YamlNode)] {
        self.properties.get(property).map(|property| property.node.entries()).unwrap_or_default()
    }

    /// A property as it is written.
    pub(super) fn node(&self, property: &str) -> Option<&YamlNode> {
        self.properties.get(property).map(|property| property.node)
    }

    /// The value of a part of a property.
    pub(super) fn value_of(&self, node: &YamlNode) -> Option<Value> {
        self.resolver.read(node).unwrap_or_else(|error| {
            self.resolver.fail(error.in_resource(&self.logical_id));
            None
        })
    }

    /// Refuses a property that restricts access and that a transform adds a part of: without it, the emulator would let
    /// in whom it keeps out.
    pub(super) fn refuse_transform(&self, property: &str) -> Result<(), TemplateError> {
        match self.node(property).and_then(YamlNode::unread_line) {
            Some(line) => Err(TemplateError::at(line, format!("the emulator does not read a transform in {property}"))
                .in_resource(&self.logical_id)),
            None => Ok(()),
        }
    }

    /// Whether the template gives the resource a property.
    pub(super) fn has(&self, property: &str) -> bool {
        self.properties.contains_key(property)
    }

    /// A property as text. Numbers and booleans become text too.
    pub(super) fn text(&self, property: &str) -> Option<String> {
        self.get(property).and_then(scalar::as_text)
    }

    pub(super) fn required_text(&self, property: &str) -> Result<String, TemplateError> {
        self.text(property).ok_or_else(|| self.error(format!("{property} is missing")))
    }

    /// The properties of these names, as one object.
    pub(super) fn object(&self, properties: &[&str]) -> Value {
        let entry = |name: &&str| Some(((*name).to_owned(), self.get(name)?.clone()));
        Value::Object(properties.iter().filter_map(entry).collect())
    }

    /// What `Ref` returns for it.
    pub(super) fn reference(&self) -> Option<String> {
        self.resolver.reference(&self.logical_id, self.line).ok().flatten().as_ref().and_then(scalar::as_text)
    }

    /// What tools write beside the properties.
    pub(super) fn metadata(&self) -> Option<&Value> {
        self.metadata.as_ref().and_then(|metadata| self.read(metadata))
    }

    fn read<'b>(&self, property: &'b Property<'_>) -> Option<&'b Value> {
        property.value.get_or_init(|| self.value_of(property.node)).as_ref()
    }
}

/// The resources whose conditions hold, in the order of the template.
pub(super) struct Resources<'a>(Vec<Resource<'a>>);

impl<'a> Resources<'a> {
    pub(super) fn of(root: &'a YamlNode, resolver: &'a Resolver<'a>) -> Result<Self, TemplateError> {
        let nodes = root.get("Resources").ok_or_else(|| TemplateError::new("the template has no section Resources"))?;
        let mut resources = Vec::new();
        for (logical_id, node) in nodes.entries() {
            if logical_id.starts_with("Fn::") {
                resolver.scope.unknown.part(logical_id);
                continue;
            }
            let within = |error: TemplateError| error.in_resource(logical_id);
            if let Some(condition) = node.get("Condition").and_then(YamlNode::text)
                && !resolver.condition(condition, node.line).map_err(within)?
            {
                continue;
            }
            let kind = node.get("Type").and_then(YamlNode::text);
            let kind = kind.ok_or_else(|| within(TemplateError::at(node.line, "Type is missing")))?;
            if matches!(kind, "AWS::CloudFormation::Stack" | "AWS::Serverless::Application") {
                resolver.scope.unknown.part(format!("the nested stack {logical_id}"));
            }
            let name = match NAMED.contains(&kind) {
                true => resolver.physical_name(logical_id, node.line).unwrap_or_else(|error| {
                    resolver.fail(within(error));
                    logical_id.clone()
                }),
                false => logical_id.clone(),
            };
            let properties = node.get("Properties").map(YamlNode::entries).unwrap_or_default();
            resources.push(Resource {
                logical_id: logical_id.clone(),
                name,
                kind: kind.to_owned(),
                line: node.line,
                resolver,
                properties: properties.iter().map(|(name, node)| (name.as_str(), Property::new(node))).collect(),
                metadata: node.get("Metadata").map(Property::new),
            });
        }
        Ok(Self(resources))
    }

    pub(super) fn of_type<'b>(&'b self, kind: &'b str) -> impl Iterator<Item = &'b Resource<'a>> {
        self.0.iter().filter(move |resource| resource.kind == kind)
    }

    /// All resources.
    pub(super) fn all(&self) -> impl Iterator<Item = &Resource<'a>> {
        self.0.iter()
    }
}
