//! What `Ref` and `Fn::GetAtt` return in a template: parameters, pseudo parameters, resources, and resources that SAM
//! adds.

use serde_json::Value;

use crate::aws::{ACCOUNT_ID, PARTITION, REGION, URL_SUFFIX, arn, function_name};

use super::{
    attributes,
    error::TemplateError,
    intrinsics::{Resolved, Resolver},
    scalar::as_text,
    yaml::YamlNode,
};

/// Shortest name of a table. Source: DynamoDB.
const TABLE_NAME_CHARS_MIN: usize = 3;

/// Longest logical id. Source: CloudFormation.
const LOGICAL_ID_CHARS_MAX: usize = 255;

/// The stage of an HTTP API without a name. Source: API Gateway.
const DEFAULT_STAGE: &str = "$default";

impl Resolver<'_> {
    pub(super) fn reference(&self, name: &str, line: usize) -> Resolved {
        if let Some(value) = self.parameters.get(name, self.scope.inputs, self.scope.unknown) {
            return Ok(Some(value));
        }
        let pseudo = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::AccountId" => ACCOUNT_ID.to_owned(),
            "AWS::Region" => REGION.to_owned(),
            "AWS::Partition" => PARTITION.to_owned(),
            "AWS::URLSuffix" => URL_SUFFIX.to_owned(),
            "AWS::StackName" => self.scope.stack.to_owned(),
            "AWS::StackId" => arn("cloudformation", &format!("stack/{}/local", self.scope.stack)),
            "AWS::NotificationARNs" => return Ok(Some(Value::Array(Vec::new()))),
            _ => self.of_resource(name, line)?,
        };
        Ok(Some(Value::from(pseudo)))
    }

    /// What `Ref` returns for a resource.
    fn of_resource(&self, name: &str, line: usize) -> Result<String, TemplateError> {
        if let Some(given) = self.scope.unknown.given(name, self.scope.inputs) {
            return Ok(given.to_owned());
        }
        let Some(node) = self.resources.get(name) else {
            if let Some((resource, property)) = name.split_once('.')
                && self.resources.contains_key(resource)
            {
                return self.referable(resource, property, line)?.ok_or_else(|| {
                    TemplateError::at(line, format!("{resource} has no {property} that !Ref could return"))
                });
            }
            return match self.generated(name, line)? {
                Some((kind, physical)) => {
                    if kind.is_empty() {
                        self.scope.unknown.value(name);
                    }
                    Ok(attributes::reference(kind, &physical))
                }
                None => self.of_macro(name, line),
            };
        };
        let kind = kind_of(node);
        match kind {
            "AWS::Lambda::Alias" => return self.alias(name, line),
            "AWS::Lambda::Version" => return self.version(name, line),
            "AWS::AppSync::ChannelNamespace" => return self.channel_namespace(name, line),
            "AWS::AppSync::ApiKey" => return self.event_api_key(name, "Arn", line),
            _ => {}
        }
        let physical = self.physical_name(name, line)?;
        let is_named = || attributes::name_property(kind).is_some_and(|name| self.property(node, name).is_some());
        if !attributes::is_here(kind) && !is_named() {
            self.scope.unknown.value(name);
        }
        Ok(attributes::reference(kind, &physical))
    }

    /// The value for a name that a macro may explain.
    fn of_macro(&self, name: &str, line: usize) -> Result<String, TemplateError> {
        if self.has_macros {
            self.scope.unknown.value(name);
            return Ok(name.to_owned());
        }
        let name = name.split('.').next().unwrap_or_default();
        Err(TemplateError::at(line, format!("unknown resource or parameter {name}")))
    }

    pub(super) fn attribute(&self, resource: &str, attribute: &str, line: usize) -> Result<String, TemplateError> {
        let path = format!("{resource}.{attribute}");
        if let Some(given) = self.scope.unknown.given(&path, self.scope.inputs) {
            return Ok(given.to_owned());
        }
        let Some(node) = self.resources.get(resource) else {
            return match self.generated(resource, line)? {
                Some((kind, physical)) => match attributes::attribute(kind, &physical, attribute) {
                    Some(value) => Ok(value),
                    None => Ok(self.made_up(&path, &physical, attribute)),
                },
                None => self.of_macro(&path, line),
            };
        };
        let kind = kind_of(node);
        let name = self.physical_name(resource, line)?;
        match (kind, attribute) {
            ("AWS::Lambda::Alias", "AliasArn") => return self.alias(resource, line),
            ("AWS::Lambda::Version", "FunctionArn") => return self.version(resource, line),
            ("AWS::Lambda::Version", "Version") => return Ok("1".to_owned()),
            ("AWS::AppSync::ChannelNamespace", "ChannelNamespaceArn") => return self.channel_namespace(resource, line),
            ("AWS::AppSync::ApiKey", _) => return self.event_api_key(resource, attribute, line),
            ("AWS::ApiGatewayV2::Api", "ApiEndpoint") => {
                let protocol = self.property_text(node, "ProtocolType")?;
                let scheme = if protocol.as_deref() == Some("WEBSOCKET") { "wss" } else { "https" };
                return Ok(attributes::endpoint(scheme, &name));
            }
            ("AWS::SSM::Parameter", "Value") => {
                if let Some(value) = self.property_text(node, "Value")? {
                    return Ok(value);
                }
            }
            _ => {}
        }
        if let Some(value) = self.referable(resource, attribute, line)? {
            return Ok(value);
        }
        match attributes::attribute(kind, &name, attribute) {
            Some(value) => {
                if !attributes::is_here(kind) {
                    self.scope.unknown.value(&path);
                }
                Ok(value)
            }
            None => Ok(self.made_up(&path, &name, attribute)),
        }
    }

    fn made_up(&self, path: &str, name: &str, attribute: &str) -> String {
        self.scope.unknown.value(path);
        if attribute == "Arn" || attribute.ends_with("Arn") {
            return format!("arn:{PARTITION}:local:{REGION}:{ACCOUNT_ID}:{name}");
        }
        format!("{name}.{attribute}")
    }

    /// What `Resource.Property` refers to in SAM: aliases, versions and stages that it adds.
    fn referable(&self, resource: &str, property: &str, line: usize) -> Result<Option<String>, TemplateError> {
        let Some(node) = self.resources.get(resource) else { return Ok(None) };
        Ok(match (kind_of(node), property) {
            ("AWS::Serverless::Function", "Alias") => Some(self.published_alias(resource, line)?),
            ("AWS::Serverless::Function", "Version") => Some(format!("{}:1", self.attribute(resource, "Arn", line)?)),
            ("AWS::Serverless::WebSocketApi", "Stage") => {
                Some(self.property_text(node, "StageName")?.unwrap_or_else(|| "default".to_owned()))
            }
            ("AWS::Serverless::HttpApi" | "AWS::Serverless::Api", "Stage") => {
                Some(self.property_text(node, "StageName")?.unwrap_or_else(|| DEFAULT_STAGE.to_owned()))
            }
            ("AWS::Serverless::HttpApi" | "AWS::Serverless::Api" | "AWS::Serverless::WebSocketApi", "DomainName") => {
                self.property(node, "Domain")
                    .and_then(|domain| domain.get("DomainName"))
                    .map(|name| self.resolve(name))
                    .transpose()?
                    .flatten()
                    .as_ref()
                    .and_then(as_text)
            }
            ("AWS::Serverless::HttpApi" | "AWS::Serverless::Api" | "AWS::Serverless::WebSocketApi", "Deployment") => {
                Some(format!("{resource}Deployment"))
            }
            _ => None,
        })
    }

    /// The type and physical name of a resource that SAM adds to others. Source: SAM, "Generated CloudFormation
    /// resources".
    fn generated(&self, name: &str, line: usize) -> Result<Option<(&'static str, String)>, TemplateError> {
        match name {
            "ServerlessHttpApi" => return Ok(Some(("AWS::Serverless::HttpApi", self.api_id(name)))),
            "ServerlessRestApi" => return Ok(Some(("AWS::Serverless::Api", self.api_id(name)))),
            "ServerlessHttpApiApiGatewayDefaultStage" => {
                return Ok(Some(("AWS::ApiGatewayV2::Stage", DEFAULT_STAGE.to_owned())));
            }
            "ServerlessRestApiProdStage" => return Ok(Some(("AWS::ApiGateway::Stage", "Prod".to_owned()))),
            _ => {}
        }
        // The resource with the longest id that begins the name.
        let begins = (1..name.len().min(LOGICAL_ID_CHARS_MAX)).rev().filter_map(|end| name.split_at_checked(end));
        for (resource, rest) in begins {
            let Some(node) = self.resources.get(resource) else { continue };
            let kind = kind_of(node);
            if !kind.starts_with("AWS::Serverless::") {
                continue;
            }
            let is_function = kind == "AWS::Serverless::Function";
            return Ok(Some(if rest == "Role" && (is_function || kind == "AWS::Serverless::StateMachine") {
                ("AWS::IAM::Role", name.to_owned())
            } else if is_function && let Some(alias) = rest.strip_prefix("Alias") {
                ("AWS::Lambda::Alias", format!("{}:{alias}", self.attribute(resource, "Arn", line)?))
            } else if is_function && rest.starts_with("Version") {
                ("AWS::Lambda::Version", format!("{}:1", self.attribute(resource, "Arn", line)?))
            } else if rest.ends_with("Stage") && attributes::is_api(kind) {
                ("AWS::ApiGatewayV2::Stage", self.referable(resource, "Stage", line)?.unwrap_or_default())
            } else {
                ("", name.to_owned())
            }));
        }
        Ok(None)
    }

    /// The ARN of the alias that SAM publishes for a function, `!Ref Function.Alias` in templates.
    fn published_alias(&self, function: &str, line: usize) -> Result<String, TemplateError> {
        let arn = self.attribute(function, "Arn", line)?;
        let alias = match self.resources.get(function) {
            Some(node) => self.property_text(node, "AutoPublishAlias")?,
            None => None,
        };
        let alias = alias.ok_or_else(|| TemplateError::at(line, format!("{function} has no AutoPublishAlias")))?;
        Ok(format!("{arn}:{alias}"))
    }

    /// The ARN of an `AWS::Lambda::Alias`.
    fn alias(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        Ok(format!("{}:{}", self.function_arn(resource, line)?, self.required(resource, "Name", line)?))
    }

    /// The ARN of an `AWS::Lambda::Version`. Versions have no code of their own here.
    fn version(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        Ok(format!("{}:1", self.function_arn(resource, line)?))
    }

    /// The ARN of the function that an alias or a version names.
    fn function_arn(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        let function = self.required(resource, "FunctionName", line)?;
        Ok(arn("lambda", &format!("function:{}", function_name(&function))))
    }

    fn required(&self, resource: &str, property: &str, line: usize) -> Result<String, TemplateError> {
        let text = match self.resources.get(resource) {
            Some(node) => self.property_text(node, property)?,
            None => None,
        };
        text.ok_or_else(|| TemplateError::at(line, format!("{resource} has no {property}")))
    }

    fn property<'b>(&self, resource: &'b YamlNode, property: &str) -> Option<&'b YamlNode> {
        resource.get("Properties")?.get(property)
    }

    fn property_text(&self, resource: &YamlNode, property: &str) -> Result<Option<String>, TemplateError> {
        let Some(node) = self.property(resource, property) else { return Ok(None) };
        Ok(self.read(node)?.as_ref().and_then(as_text))
    }

    /// The physical name of a resource: its name property, else its logical id, made longer where the service wants
    /// that. `Ref` returns it for most types.
    pub(super) fn physical_name(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        let node = self.resources.get(resource);
        let node = node.ok_or_else(|| TemplateError::at(line, format!("unknown resource or parameter {resource}")))?;
        let kind = kind_of(node);
        if attributes::is_api(kind) {
            return Ok(self.api_id(resource));
        }
        if matches!(kind, "AWS::AppSync::Api" | "AWS::AppSync::ApiKey") {
            return Ok(self.long_id(resource));
        }
        let named = match attributes::name_property(kind) {
            Some(property) => self.property_text(node, property)?,
            None => return Ok(resource.to_owned()),
        };
        let is_table = attributes::name_property(kind) == Some("TableName");
        let fifo = match attributes::fifo_property(kind) {
            Some(property) => self.property_text(node, property)?.is_some_and(|fifo| fifo == "true"),
            None => false,
        };
        let suffix = if fifo { attributes::FIFO_SUFFIX } else { "" };
        Ok(named.unwrap_or_else(|| {
            let is_short = is_table && resource.chars().count() < TABLE_NAME_CHARS_MIN;
            if self.scope.is_one_of_several || is_short {
                format!("{}-{resource}{suffix}", self.scope.stack)
            } else {
                format!("{resource}{suffix}")
            }
        }))
    }

    /// The ARN of a channel namespace of an Event API.
    fn channel_namespace(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        let api = attributes::event_api_arn(&self.required(resource, "ApiId", line)?);
        Ok(format!("{api}/channelNamespace/{}", self.required(resource, "Name", line)?))
    }

    /// An attribute of an API key of AppSync: its ARN, its id, or the key itself.
    fn event_api_key(&self, resource: &str, attribute: &str, line: usize) -> Result<String, TemplateError> {
        let id = self.physical_name(resource, line)?;
        match attribute {
            "ApiKey" => Ok(format!("da2-{id}")),
            "ApiKeyId" => Ok(id),
            "Arn" => {
                let api = attributes::event_api_arn(&self.required(resource, "ApiId", line)?);
                Ok(format!("{api}/apikey/{id}"))
            }
            other => Ok(self.made_up(&format!("{resource}.{other}"), &id, other)),
        }
    }

    /// The id of the resource of AppSync with this logical id.
    fn long_id(&self, resource: &str) -> String {
        if self.scope.is_one_of_several {
            attributes::long_id(&format!("{}-{resource}", self.scope.stack))
        } else {
            attributes::long_id(resource)
        }
    }

    /// The id of the API with this logical id.
    pub(super) fn api_id(&self, resource: &str) -> String {
        if self.scope.is_one_of_several {
            attributes::api_id(&format!("{}-{resource}", self.scope.stack))
        } else {
            attributes::api_id(resource)
        }
    }
}

fn kind_of(resource: &YamlNode) -> &str {
    resource.get("Type").and_then(YamlNode::text).unwrap_or_default()
}
