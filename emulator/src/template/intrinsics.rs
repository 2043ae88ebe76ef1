//! Parameters, conditions and intrinsic functions of CloudFormation, with the values that they have in the emulator.

use std::{cell::Cell, collections::BTreeMap};

use serde_json::{Map, Value};

use crate::aws::{ACCOUNT_ID, PARTITION, REGION, STACK_NAME, URL_SUFFIX, arn, sqs_endpoint};

use super::{
    error::TemplateError,
    yaml::{YamlKind, YamlNode},
};

/// Deepest nesting of conditions and references, so that a circle ends with an error.
const DEPTH_MAX: usize = 50;

/// Resolves intrinsic functions.
pub(crate) struct Resolver<'a> {
    root: &'a YamlNode,
    parameters: BTreeMap<String, Value>,
    depth: Cell<usize>,
}

/// A resolved value; `AWS::NoValue` removes the property.
type Resolved = Result<Option<Value>, TemplateError>;

impl<'a> Resolver<'a> {
    /// Parameters have their defaults, or the values in `overrides`.
    pub(crate) fn new(root: &'a YamlNode, overrides: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let declared = root.get("Parameters").map(YamlNode::entries).unwrap_or_default();
        if let Some(unknown) = overrides.keys().find(|name| !declared.iter().any(|(declared, _)| declared == *name)) {
            return Err(TemplateError::new(format!("unknown parameter {unknown}: the template does not declare it")));
        }
        let mut parameters = BTreeMap::new();
        for (name, declaration) in declared {
            let text = match overrides.get(name) {
                Some(text) => text.as_str(),
                None => declaration.get("Default").and_then(YamlNode::text).ok_or_else(|| {
                    TemplateError::at(
                        declaration.line,
                        format!("the parameter {name} has no default: set it with --parameter {name}=VALUE"),
                    )
                })?,
            };
            let is_list = declaration
                .get("Type")
                .and_then(YamlNode::text)
                .is_some_and(|kind| kind == "CommaDelimitedList" || kind.starts_with("List<"));
            let value = if is_list {
                Value::Array(text.split(',').map(|item| Value::from(item.trim())).collect())
            } else {
                Value::from(text)
            };
            parameters.insert(name.clone(), value);
        }
        Ok(Self { root, parameters, depth: Cell::new(0) })
    }

    /// Resolves a node and everything in it. `None` if it is `AWS::NoValue`.
    pub(crate) fn resolve(&self, node: &YamlNode) -> Resolved {
        match &node.kind {
            YamlKind::Scalar { .. } => Ok(Some(node.to_json())),
            YamlKind::List(items) => {
                let values = items.iter().filter_map(|item| self.resolve(item).transpose());
                values.collect::<Result<_, _>>().map(|values| Some(Value::Array(values)))
            }
            YamlKind::Map(entries) => match entries.as_slice() {
                [(name, argument)] if name == "Ref" || name.starts_with("Fn::") => self.function(name, argument),
                _ => self.map(entries),
            },
        }
    }

    /// Whether the condition of this name holds.
    pub(crate) fn condition(&self, name: &str, line: usize) -> Result<bool, TemplateError> {
        let condition = self.root.get("Conditions").and_then(|conditions| conditions.get(name));
        let condition = condition.ok_or_else(|| TemplateError::at(line, format!("unknown condition {name}")))?;
        self.holds(condition)
    }

    fn map(&self, entries: &[(String, YamlNode)]) -> Resolved {
        let mut map = Map::new();
        for (name, node) in entries {
            if let Some(value) = self.resolve(node)? {
                map.insert(name.clone(), value);
            }
        }
        Ok(Some(Value::Object(map)))
    }

    fn function(&self, name: &str, argument: &YamlNode) -> Resolved {
        let wrong = |expected: &str| TemplateError::at(argument.line, format!("{name} takes {expected}"));
        match name {
            "Ref" => self.reference(argument.text().ok_or_else(|| wrong("a name"))?, argument.line),
            "Fn::GetAtt" => {
                let path = match &argument.kind {
                    YamlKind::Scalar { text, .. } => text.clone(),
                    _ => self.texts(argument)?.join("."),
                };
                let (resource, attribute) = path.split_once('.').ok_or_else(|| wrong("Resource.Attribute"))?;
                self.attribute(resource, attribute, argument.line).map(|text| Some(Value::from(text)))
            }
            "Fn::Sub" => self.substitute(argument).map(|text| Some(Value::from(text))),
            "Fn::Join" => match &argument.kind {
                YamlKind::List(parts) if parts.len() == 2 => {
                    let delimiter = parts[0].text().ok_or_else(|| wrong("a delimiter and a list"))?;
                    Ok(Some(Value::from(self.texts(&parts[1])?.join(delimiter))))
                }
                _ => Err(wrong("a delimiter and a list")),
            },
            "Fn::Split" => match self.texts(argument)?.as_slice() {
                [delimiter, text] => Ok(Some(text.split(delimiter.as_str()).map(Value::from).collect())),
                _ => Err(wrong("a delimiter and a string")),
            },
            "Fn::Select" => match self.list(argument)?.as_slice() {
                [index, Value::Array(items)] => {
                    let index = as_text(index).and_then(|index| index.parse::<usize>().ok());
                    index
                        .and_then(|index| items.get(index).cloned())
                        .map(Some)
                        .ok_or_else(|| wrong("an index within its list"))
                }
                _ => Err(wrong("an index and a list")),
            },
            "Fn::FindInMap" => {
                let keys = self.texts(argument)?;
                let found = keys.iter().try_fold(self.root.get("Mappings"), |node, key| Some(node?.get(key)));
                let found = found
                    .flatten()
                    .ok_or_else(|| wrong(&format!("keys of Mappings, which does not have {}", keys.join("."))))?;
                self.resolve(found)
            }
            "Fn::If" => match &argument.kind {
                YamlKind::List(parts) if parts.len() == 3 => {
                    let condition = parts[0].text().ok_or_else(|| wrong("the name of a condition first"))?;
                    self.resolve(if self.condition(condition, argument.line)? { &parts[1] } else { &parts[2] })
                }
                _ => Err(wrong("a condition and two values")),
            },
            "Fn::Base64" => {
                use base64::{Engine, prelude::BASE64_STANDARD};
                let text = self.resolve(argument)?.as_ref().and_then(as_text).ok_or_else(|| wrong("a string"))?;
                Ok(Some(Value::from(BASE64_STANDARD.encode(text))))
            }
            _ => Err(TemplateError::at(argument.line, format!("the emulator does not support {name}"))),
        }
    }

    fn reference(&self, name: &str, line: usize) -> Resolved {
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(value.clone()));
        }
        let pseudo = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::AccountId" => ACCOUNT_ID,
            "AWS::Region" => REGION,
            "AWS::Partition" => PARTITION,
            "AWS::URLSuffix" => URL_SUFFIX,
            "AWS::StackName" => STACK_NAME,
            "AWS::StackId" => {
                return Ok(Some(Value::from(arn("cloudformation", &format!("stack/{STACK_NAME}/local")))));
            }
            _ => {
                if let Some((function, "Alias")) = name.split_once('.') {
                    return self.published_alias(function, line).map(|arn| Some(Value::from(arn)));
                }
                let physical = self.physical_name(name, line)?;
                if self.kind(name) == "AWS::Lambda::Alias" {
                    return self.alias(name, line).map(|arn| Some(Value::from(arn)));
                }
                let is_queue = self.kind(name) == "AWS::SQS::Queue";
                return Ok(Some(Value::from(if is_queue { queue_url(&physical) } else { physical })));
            }
        };
        Ok(Some(Value::from(pseudo)))
    }

    /// The ARN of the alias that SAM publishes for a function, `!Ref Function.Alias` in templates.
    fn published_alias(&self, function: &str, line: usize) -> Result<String, TemplateError> {
        let arn = self.attribute(function, "Arn", line)?;
        let own = self.property(function, "AutoPublishAlias");
        let global = || self.root.get("Globals")?.get("Function")?.get("AutoPublishAlias");
        let alias = own.or_else(global).map(|alias| self.resolve(alias)).transpose()?.flatten();
        let alias = alias.as_ref().and_then(as_text);
        let alias = alias.ok_or_else(|| TemplateError::at(line, format!("{function} has no AutoPublishAlias")))?;
        Ok(format!("{arn}:{alias}"))
    }

    /// The ARN of an `AWS::Lambda::Alias`.
    fn alias(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        let text = |property: &str| {
            let value = self.property(resource, property).map(|node| self.resolve(node)).transpose()?.flatten();
            let text = value.as_ref().and_then(as_text);
            text.ok_or_else(|| TemplateError::at(line, format!("{resource} has no {property}")))
        };
        let function = text("FunctionName")?;
        let name = function.rsplit(":function:").next().unwrap_or_default();
        Ok(format!("{}:{}", arn("lambda", &format!("function:{name}")), text("Name")?))
    }

    fn property(&self, resource: &str, property: &str) -> Option<&YamlNode> {
        self.root.get("Resources")?.get(resource)?.get("Properties")?.get(property)
    }

    fn kind(&self, resource: &str) -> &str {
        let node = self.root.get("Resources").and_then(|resources| resources.get(resource));
        node.and_then(|node| node.get("Type")).and_then(YamlNode::text).unwrap_or_default()
    }

    /// The physical name of a resource: its name property, else its logical id. `Ref` returns it, except for queues.
    pub(crate) fn physical_name(&self, resource: &str, line: usize) -> Result<String, TemplateError> {
        let node = self.root.get("Resources").and_then(|resources| resources.get(resource));
        let node = node.ok_or_else(|| TemplateError::at(line, format!("unknown resource or parameter {resource}")))?;
        let property = match node.get("Type").and_then(YamlNode::text) {
            Some("AWS::DynamoDB::Table" | "AWS::Serverless::SimpleTable") => "TableName",
            Some("AWS::Serverless::Function" | "AWS::Lambda::Function") => "FunctionName",
            Some("AWS::ApiGatewayV2::Stage") => "StageName",
            Some("AWS::SQS::Queue") => "QueueName",
            Some("AWS::ApiGatewayV2::Api" | "AWS::Serverless::HttpApi" | "AWS::Serverless::WebSocketApi") => {
                return Ok(api_id(resource));
            }
            _ => return Ok(resource.to_owned()),
        };
        let Some(name) = node.get("Properties").and_then(|properties| properties.get(property)) else {
            return Ok(resource.to_owned());
        };
        Ok(self
            .bounded(name.line, || self.resolve(name))?
            .as_ref()
            .and_then(as_text)
            .unwrap_or_else(|| resource.to_owned()))
    }

    fn attribute(&self, resource: &str, attribute: &str, line: usize) -> Result<String, TemplateError> {
        let name = self.physical_name(resource, line)?;
        match (self.kind(resource), attribute) {
            ("AWS::DynamoDB::Table", "Arn") => Ok(arn("dynamodb", &format!("table/{name}"))),
            ("AWS::Serverless::Function" | "AWS::Lambda::Function", "Arn") => {
                Ok(arn("lambda", &format!("function:{name}")))
            }
            ("AWS::Serverless::Function", "Alias") => self.published_alias(resource, line),
            ("AWS::ApiGatewayV2::Api" | "AWS::Serverless::HttpApi" | "AWS::Serverless::WebSocketApi", "ApiId") => {
                Ok(name)
            }
            (
                "AWS::ApiGatewayV2::Api" | "AWS::Serverless::HttpApi" | "AWS::Serverless::WebSocketApi",
                "ApiEndpoint",
            ) => Ok(format!("https://{name}.execute-api.{REGION}.{URL_SUFFIX}")),
            ("AWS::SQS::Queue", "Arn") => Ok(arn("sqs", &name)),
            ("AWS::SQS::Queue", "QueueName") => Ok(name),
            ("AWS::SQS::Queue", "QueueUrl") => Ok(queue_url(&name)),
            // The emulator does not create topics, roles and the like; texts may contain their names.
            (_, "Arn") => Ok(format!("arn:{PARTITION}:local:{REGION}:{ACCOUNT_ID}:{name}")),
            (_, attribute) => Ok(format!("{name}.{attribute}")),
        }
    }

    fn substitute(&self, argument: &YamlNode) -> Result<String, TemplateError> {
        let (template, variables) = match &argument.kind {
            YamlKind::Scalar { text, .. } => (text.as_str(), None),
            YamlKind::List(parts) if parts.len() == 2 => (parts[0].text().unwrap_or_default(), Some(&parts[1])),
            _ => return Err(TemplateError::at(argument.line, "Fn::Sub takes a string, or a string and a map")),
        };
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            let unclosed = || TemplateError::at(argument.line, "Fn::Sub has a ${ without a }");
            let (name, tail) = after.split_once('}').ok_or_else(unclosed)?;
            text.push_str(before);
            if let Some(literal) = name.strip_prefix('!') {
                text.push_str(&format!("${{{literal}}}"));
            } else if let Some(variable) = variables.and_then(|variables| variables.get(name)) {
                text.push_str(&self.resolve(variable)?.as_ref().and_then(as_text).unwrap_or_default());
            } else if let Some((resource, attribute)) = name.split_once('.') {
                text.push_str(&self.attribute(resource, attribute, argument.line)?);
            } else {
                text.push_str(&self.reference(name, argument.line)?.as_ref().and_then(as_text).unwrap_or_default());
            }
            rest = tail;
        }
        Ok(text + rest)
    }

    fn holds(&self, node: &YamlNode) -> Result<bool, TemplateError> {
        self.bounded(node.line, || match node.entries() {
            [(name, argument)] => match (name.as_str(), &argument.kind) {
                ("Fn::Equals", YamlKind::List(sides)) if sides.len() == 2 => {
                    let text = |side| Ok::<_, TemplateError>(self.resolve(side)?.as_ref().and_then(as_text));
                    Ok(text(&sides[0])? == text(&sides[1])?)
                }
                ("Fn::And", YamlKind::List(all)) => all.iter().try_fold(true, |held, one| Ok(held & self.holds(one)?)),
                ("Fn::Or", YamlKind::List(any)) => any.iter().try_fold(false, |held, one| Ok(held | self.holds(one)?)),
                ("Fn::Not", YamlKind::List(one)) if one.len() == 1 => Ok(!self.holds(&one[0])?),
                ("Condition", YamlKind::Scalar { text, .. }) => self.condition(text, argument.line),
                _ => Err(TemplateError::at(
                    node.line,
                    format!("invalid condition: {name} does not exist or does not take these arguments"),
                )),
            },
            _ => Err(TemplateError::at(node.line, "invalid condition: expected one function such as Fn::Equals")),
        })
    }

    fn bounded<T>(&self, line: usize, inner: impl FnOnce() -> Result<T, TemplateError>) -> Result<T, TemplateError> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(TemplateError::at(line, "conditions or names refer to each other in a circle: break it"));
        }
        self.depth.set(self.depth.get() + 1);
        let result = inner();
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn list(&self, node: &YamlNode) -> Result<Vec<Value>, TemplateError> {
        match self.resolve(node)? {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(TemplateError::at(node.line, "expected a list")),
        }
    }

    fn texts(&self, node: &YamlNode) -> Result<Vec<String>, TemplateError> {
        let text =
            |value: &Value| as_text(value).ok_or_else(|| TemplateError::at(node.line, "expected a list of strings"));
        self.list(node)?.iter().map(text).collect()
    }
}

/// The URL of a queue in the cloud.
fn queue_url(name: &str) -> String {
    format!("{}/{ACCOUNT_ID}/{name}", sqs_endpoint())
}

/// An API id of the real form, ten lower-case letters and digits, always the same for a logical id.
fn api_id(resource: &str) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut hash = resource
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..10)
        .map(|_| {
            let digit = char::from(DIGITS[(hash % 36) as usize]);
            hash /= 36;
            digit
        })
        .collect()
}

/// The key that a tag of CloudFormation stands for: `!Sub x` is `{"Fn::Sub": x}`; `!Ref` and `!Condition` have no
/// prefix.
pub(super) fn long_form(tag: &str) -> String {
    if matches!(tag, "Ref" | "Condition") { tag.to_owned() } else { format!("Fn::{tag}") }
}

/// A scalar as text, as environment variables, names and `Fn::Join` have it.
pub(crate) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
Parameters:
  Stage: { Type: String, Default: prod }
  Zones: { Type: CommaDelimitedList, Default: "a, b" }
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  NotProd: !Not [!Condition IsProd]
  Circle: !Not [!Condition Circle]
Mappings:
  Sizes: { prod: { memory: 512 } }
Resources:
  Table: { Type: AWS::DynamoDB::Table, Properties: { TableName: !Sub "t-${Stage}" } }
  Fn: { Type: AWS::Serverless::Function }
  Live: { Type: AWS::Serverless::Function, Properties: { FunctionName: named, AutoPublishAlias: !Ref Stage } }
  Alias: { Type: AWS::Lambda::Alias, Properties: { FunctionName: !Ref Live, Name: blue, FunctionVersion: "1" } }
  OfArn: { Type: AWS::Lambda::Alias, Properties: { FunctionName: !GetAtt Fn.Arn, Name: blue, FunctionVersion: "1" } }
  Nameless: { Type: AWS::Lambda::Alias, Properties: { FunctionName: !Ref Live } }
  ApiStage: { Type: AWS::ApiGatewayV2::Stage, Properties: { StageName: !Ref Stage } }
  Queue: { Type: AWS::SQS::Queue, Properties: { QueueName: !Sub "q-${Stage}" } }
  Unnamed: { Type: AWS::SQS::Queue }
"#;

    fn resolve(expression: &str) -> Resolved {
        let root = YamlNode::parse(TEMPLATE, long_form).expect("valid");
        let overrides = BTreeMap::new();
        let resolver = Resolver::new(&root, &overrides).expect("valid parameters");
        resolver.resolve(&YamlNode::parse(expression, long_form).expect("valid expression"))
    }

    #[test]
    fn intrinsic_functions_resolve_as_deployed() {
        let check = |expression: &str, expected: Value| {
            assert_eq!(resolve(expression).expect(expression), Some(expected), "{expression}");
        };
        check("!Ref Stage", "prod".into());
        check("!Ref Zones", serde_json::json!(["a", "b"]));
        check("!Ref Table", "t-prod".into());
        check("!Ref Fn", "Fn".into());
        check("!Ref ApiStage", "prod".into());
        check("!Ref Queue", "https://sqs.eu-central-1.amazonaws.com/000000000000/q-prod".into());
        check("!GetAtt Queue.Arn", "arn:aws:sqs:eu-central-1:000000000000:q-prod".into());
        check(
            "!Sub '${Unnamed.QueueName} ${Unnamed}'",
            "Unnamed https://sqs.eu-central-1.amazonaws.com/000000000000/Unnamed".into(),
        );
        check("!GetAtt Table.Arn", "arn:aws:dynamodb:eu-central-1:000000000000:table/t-prod".into());
        check(
            "!Sub '${Fn.Arn}/${!literal}/${Stage}'",
            "arn:aws:lambda:eu-central-1:000000000000:function:Fn/${literal}/prod".into(),
        );
        check("!Ref Live.Alias", "arn:aws:lambda:eu-central-1:000000000000:function:named:prod".into());
        check("!Sub '${Live.Alias}/x'", "arn:aws:lambda:eu-central-1:000000000000:function:named:prod/x".into());
        check("!Ref Alias", "arn:aws:lambda:eu-central-1:000000000000:function:named:blue".into());
        check("!Ref OfArn", "arn:aws:lambda:eu-central-1:000000000000:function:Fn:blue".into());
        check("!Sub ['${A}-${Stage}', {A: !Ref Fn}]", "Fn-prod".into());
        check("!Join ['-', [a, !Ref Stage, 3]]", "a-prod-3".into());
        check("!Select [1, !Split [',', 'x,y']]", "y".into());
        check("!FindInMap [Sizes, !Ref Stage, memory]", 512.into());
        check("!If [IsProd, 1, 2]", 1.into());
        check("!If [NotProd, 1, 2]", 2.into());
        check("{a: !Ref AWS::NoValue, b: 01}", serde_json::json!({"b": "01"}));
    }

    #[test]
    fn mistakes_are_errors_and_circles_end() {
        for bad in [
            "!Ref Nothing",
            "!Sub '${Nothing}'",
            "!Ref Fn.Alias",
            "!Sub '${Fn.Alias}'",
            "!Ref Nothing.Alias",
            "!Ref Nameless",
            "!Sub '${Stage'",
            "!If [Circle, 1, 2]",
            "!If [No, 1, 2]",
            "!ImportValue x",
            "!Select [7, [a]]",
            "!GetAtt Fn",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }
}
