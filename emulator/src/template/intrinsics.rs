//! Conditions and intrinsic functions of CloudFormation, with the values that they have in the emulator.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use serde_json::{Map, Value};

use crate::aws::REGION;

use super::{
    error::TemplateError,
    inputs::TemplateInputs,
    parameters::Parameters,
    scalar::as_text,
    secrets,
    unknown::Unknown,
    yaml::{YamlKind, YamlNode},
};

/// Deepest nesting of values, conditions and references, so that a circle ends with an error.
const DEPTH_MAX: usize = 80;

/// Most nodes that are evaluated and bytes that functions return, together: names that contain other names can double
/// with each line.
const WORK_MAX: usize = 10_000_000;

/// Functions that may fail only because their argument is made up.
const WITH_MADE_UP: [&str; 7] =
    ["Fn::Select", "Fn::Split", "Fn::Join", "Fn::FindInMap", "Fn::Length", "Fn::Base64", "Fn::Cidr"];

/// A value that a stack exports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Export {
    pub(super) value: Value,
    /// Whether it was made up, because only AWS knows it.
    pub(super) is_made_up: bool,
}

/// What a template is evaluated with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) inputs: &'a TemplateInputs,
    /// Parameters of the project's configuration, which those of the user override.
    pub(super) configured: &'a BTreeMap<String, String>,
    /// `AWS::StackName`.
    pub(super) stack: &'a str,
    /// Whether names without a name property begin with the name of the stack, because other stacks run beside it.
    pub(super) is_one_of_several: bool,
    /// What the other stacks export.
    pub(super) exports: &'a BTreeMap<String, Export>,
    pub(super) unknown: &'a Unknown,
}

/// Resolves intrinsic functions.
pub(crate) struct Resolver<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) parameters: Parameters,
    pub(super) resources: BTreeMap<&'a str, &'a YamlNode>,
    /// Whether a macro may add resources that the template does not show.
    pub(super) has_macros: bool,
    root: &'a YamlNode,
    depth: Cell<usize>,
    work: Cell<usize>,
    /// The first property that was read and is invalid.
    failure: RefCell<Option<TemplateError>>,
}

/// A resolved value; `AWS::NoValue` removes the property.
pub(super) type Resolved = Result<Option<Value>, TemplateError>;

impl<'a> Resolver<'a> {
    pub(super) fn new(root: &'a YamlNode, scope: Scope<'a>) -> Result<Self, TemplateError> {
        let entries = root.get("Resources").map(YamlNode::entries).unwrap_or_default();
        let is_known = |transform: &YamlNode| {
            transform
                .text()
                .is_some_and(|name| name.starts_with("AWS::Serverless-") || name == "AWS::LanguageExtensions")
        };
        let has_other_transforms = root.get("Transform").is_some_and(|transform| match &transform.kind {
            YamlKind::List(all) => !all.iter().all(is_known),
            _ => !is_known(transform),
        });
        Ok(Self {
            scope,
            parameters: Parameters::read(root, scope.inputs, scope.configured, scope.unknown)?,
            resources: entries.iter().map(|(name, node)| (name.as_str(), node)).collect(),
            has_macros: has_other_transforms || entries.iter().any(|(name, _)| name.starts_with("Fn::")),
            root,
            depth: Cell::new(0),
            work: Cell::new(0),
            failure: RefCell::default(),
        })
    }

    /// Resolves a value that something reads, with its dynamic references.
    pub(super) fn read(&self, node: &YamlNode) -> Resolved {
        let mut value = self.resolve(node)?;
        if let Some(value) = &mut value {
            self.replace_secrets(value);
        }
        Ok(value)
    }

    /// Remembers the first error in a property that was read.
    pub(super) fn fail(&self, error: TemplateError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// The first error in a property that was read.
    pub(super) fn failure(&self) -> Option<TemplateError> {
        self.failure.borrow_mut().take()
    }

    /// Resolves a node and everything in it. `None` if it is `AWS::NoValue`.
    pub(super) fn resolve(&self, node: &YamlNode) -> Resolved {
        self.charge(1, node.line)?;
        self.bounded(node.line, || match &node.kind {
            YamlKind::Scalar { .. } => Ok(Some(node.to_json())),
            YamlKind::List(items) => {
                let values = items.iter().filter_map(|item| self.resolve(item).transpose());
                values.collect::<Result<_, _>>().map(|values| Some(Value::Array(values)))
            }
            YamlKind::Map(entries) => match entries.as_slice() {
                [(name, argument)] if name == "Ref" || name.starts_with("Fn::") => {
                    let reads = self.scope.unknown.reads();
                    let result = match self.function(name, argument) {
                        // A made-up value is not what the function needs: what it makes of it is made up too.
                        Err(_) if WITH_MADE_UP.contains(&name.as_str()) && self.scope.unknown.reads() > reads => {
                            self.charge(0, argument.line)?;
                            Some(Value::from(name.as_str()))
                        }
                        result => result?,
                    };
                    self.charge(result.as_ref().map_or(0, weight), argument.line)?;
                    Ok(result)
                }
                _ => self.map(entries),
            },
        })
    }

    /// Whether the condition of this name holds.
    pub(super) fn condition(&self, name: &str, line: usize) -> Result<bool, TemplateError> {
        let condition = self.root.get("Conditions").and_then(|conditions| conditions.get(name));
        let condition = condition.ok_or_else(|| TemplateError::at(line, format!("unknown condition {name}")))?;
        self.holds(condition)
    }

    fn map(&self, entries: &[(String, YamlNode)]) -> Resolved {
        let mut map = Map::new();
        for (name, node) in entries {
            if name == "Fn::Transform" || name.starts_with("Fn::ForEach") {
                self.scope.unknown.part(name);
            } else if let Some(value) = self.resolve(node)? {
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
            "Fn::FindInMap" => self.find_in_map(argument),
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
            "Fn::Length" => Ok(Some(Value::from(self.list(argument).map_err(|_| wrong("a list"))?.len()))),
            "Fn::ToJsonString" => {
                let value = self.resolve(argument)?.ok_or_else(|| wrong("an object or a list"))?;
                Ok(Some(Value::from(value.to_string())))
            }
            "Fn::GetAZs" => Ok(Some(["a", "b", "c"].map(|zone| format!("{REGION}{zone}")).into_iter().collect())),
            "Fn::ImportValue" => {
                let name = self.resolve(argument)?.as_ref().and_then(as_text).ok_or_else(|| wrong("a name"))?;
                if let Some(given) = self.scope.unknown.given(&name, self.scope.inputs) {
                    return Ok(Some(Value::from(given)));
                }
                let export = self.scope.exports.get(&name);
                if export.is_none_or(|export| export.is_made_up) {
                    self.scope.unknown.value(&name);
                }
                Ok(Some(export.map_or(Value::from(name), |export| export.value.clone())))
            }
            "Fn::Cidr" => {
                let block = self.list(argument)?.first().and_then(as_text).ok_or_else(|| wrong("a block first"))?;
                self.scope.unknown.part(name);
                // As many as CloudFormation returns at most.
                Ok(Some(Value::from(vec![block; 256])))
            }
            "Fn::Transform" => {
                self.scope.unknown.part(name);
                Ok(None)
            }
            _ if name.starts_with("Fn::ForEach") => {
                self.scope.unknown.part(name);
                Ok(None)
            }
            _ => Err(TemplateError::at(argument.line, format!("the emulator does not support {name}"))),
        }
    }

    /// `[map, key, key]`, with `{DefaultValue: …}` as a fourth argument in templates with language extensions.
    fn find_in_map(&self, argument: &YamlNode) -> Resolved {
        let wrong = |expected: &str| TemplateError::at(argument.line, format!("Fn::FindInMap takes {expected}"));
        let YamlKind::List(parts) = &argument.kind else { return Err(wrong("the name of a map and two keys")) };
        let (keys, default) = match parts.as_slice() {
            [keys @ .., last] if keys.len() == 3 => (keys, last.get("DefaultValue")),
            keys => (keys, None),
        };
        let key = |node| self.resolve(node)?.as_ref().and_then(as_text).ok_or_else(|| wrong("keys that are strings"));
        let keys = keys.iter().map(key).collect::<Result<Vec<String>, _>>()?;
        let found = keys.iter().try_fold(self.root.get("Mappings"), |node, key| Some(node?.get(key))).flatten();
        match (found, default) {
            // A map has no functions.
            (Some(found), _) => Ok(Some(found.to_json())),
            (None, Some(default)) => self.resolve(default),
            (None, None) => Err(wrong(&format!("keys of Mappings, which does not have {}", keys.join(".")))),
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
            let part = if let Some(literal) = name.strip_prefix('!') {
                format!("${{{literal}}}")
            } else if let Some(variable) = variables.and_then(|variables| variables.get(name)) {
                self.resolve(variable)?.as_ref().and_then(as_text).unwrap_or_default()
            } else if let Some((resource, attribute)) = name.split_once('.') {
                self.attribute(resource, attribute, argument.line)?
            } else {
                self.reference(name, argument.line)?.as_ref().and_then(as_text).unwrap_or_default()
            };
            self.charge(1 + part.len(), argument.line)?;
            text.push_str(&part);
            rest = tail;
        }
        Ok(text + rest)
    }

    fn holds(&self, node: &YamlNode) -> Result<bool, TemplateError> {
        self.charge(1, node.line)?;
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
            return Err(TemplateError::at(line, "a value refers to itself, or is nested too deep"));
        }
        self.depth.set(self.depth.get() + 1);
        let result = inner();
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn charge(&self, work: usize, line: usize) -> Result<(), TemplateError> {
        self.work.set(self.work.get().saturating_add(work));
        if self.work.get() > WORK_MAX {
            return Err(TemplateError::at(line, "the values of the template are too large"));
        }
        Ok(())
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

    fn replace_secrets(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(resolved) = secrets::resolved(text, &self.scope.inputs.secrets, self.scope.unknown) {
                    *text = resolved;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_secrets(item)),
            Value::Object(entries) => entries.values_mut().for_each(|value| self.replace_secrets(value)),
            _ => {}
        }
    }
}

/// Bytes of the texts in a value, and one for each value.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        _ => 0,
    }
}

/// The key that a tag of CloudFormation stands for: `!Sub x` is `{"Fn::Sub": x}`; `!Ref` and `!Condition` have no
/// prefix.
pub(super) fn long_form(tag: &str) -> String {
    if matches!(tag, "Ref" | "Condition") { tag.to_owned() } else { format!("Fn::{tag}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
Parameters:
  Stage: { Type: String, Default: prod }
  Key: { Type: "AWS::SSM::Parameter::Value<String>", Default: /app/key }
  Ids: { Type: "AWS::SSM::Parameter::Value<List<String>>", Default: /app/ids }
  Zones: { Type: CommaDelimitedList, Default: "a, b" }
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  NotProd: !Not [!Condition IsProd]
  Circle: !Not [!Condition Circle]
Mappings:
  Sizes: { prod: { memory: 512 } }
Transform: AWS::Serverless-2016-10-31
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
  Ws: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET } }
  Int: { Type: AWS::ApiGatewayV2::Integration, Properties: { ApiId: !Ref Ws } }
  OfSam: { Type: AWS::Serverless::WebSocketApi, Properties: { StageName: dev } }
  DB: { Type: AWS::DynamoDB::Table }
  Bucket: { Type: AWS::S3::Bucket }
  Named: { Type: AWS::S3::Bucket, Properties: { BucketName: mine } }
  Nested: { Type: AWS::CloudFormation::Stack }
  A1: { Type: AWS::SQS::Queue, Properties: { QueueName: !Sub "${A2}${A2}" } }
  A2: { Type: AWS::SQS::Queue, Properties: { QueueName: !Sub "${A3}${A3}" } }
  A3: { Type: AWS::SQS::Queue, Properties: { QueueName: !Join ["", [!Ref A1, !Ref A1]] } }
"#;

    fn resolve(expression: &str) -> Resolved {
        resolve_with(&TemplateInputs::default(), expression).0
    }

    fn resolve_with(inputs: &TemplateInputs, expression: &str) -> (Resolved, Vec<String>) {
        let root = YamlNode::parse(TEMPLATE, long_form).expect("valid");
        let (exports, unknown) = (BTreeMap::new(), Unknown::default());
        let configured = BTreeMap::new();
        let scope = Scope {
            inputs,
            configured: &configured,
            stack: "local",
            is_one_of_several: false,
            exports: &exports,
            unknown: &unknown,
        };
        let resolver = Resolver::new(&root, scope).expect("valid parameters");
        let resolved = resolver.read(&YamlNode::parse(expression, long_form).expect("valid expression"));
        (resolved, unknown.notes(inputs).into_iter().filter(|note| !note.starts_with("nothing reads")).collect())
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
    fn names_that_sam_and_cloudformation_make_are_known() {
        let check = |expression: &str, expected: &str| {
            let (value, notes) = resolve_with(&TemplateInputs::default(), expression);
            assert_eq!(value.expect(expression), Some(expected.into()), "{expression}");
            assert!(notes.is_empty(), "{expression}: {notes:?}");
        };
        let function = "arn:aws:lambda:eu-central-1:000000000000:function:";
        let api = attributes_api_id("ServerlessHttpApi");
        check("!Sub 'https://${ServerlessHttpApi}/'", &format!("https://{api}/"));
        check(
            "!GetAtt ServerlessHttpApi.ApiEndpoint",
            &format!("https://{api}.execute-api.eu-central-1.amazonaws.com"),
        );
        check("!Ref LiveRole", "LiveRole");
        check("!GetAtt LiveRole.Arn", "arn:aws:iam::000000000000:role/LiveRole");
        check("!Ref Live.Version", &format!("{function}named:1"));
        check("!Ref LiveAliasprod", &format!("{function}named:prod"));
        check("!Ref LiveVersion0a1b2c3d4e", &format!("{function}named:1"));
        check("!Ref OfSam.Stage", "dev");
        check("!Sub '${OfSam.Stage}'", "dev");
        check("!Ref OfSamdevStage", "dev");
        check("!Sub 'integrations/${Int.IntegrationId}'", "integrations/Int");
        let ws = attributes_api_id("Ws");
        check("!GetAtt Ws.ApiEndpoint", &format!("wss://{ws}.execute-api.eu-central-1.amazonaws.com"));
        check("!GetAtt Ws.ExecuteApiArn", &format!("arn:aws:execute-api:eu-central-1:000000000000:{ws}"));
        check("!Ref DB", "local-DB");
        check("!GetAtt DB.Arn", "arn:aws:dynamodb:eu-central-1:000000000000:table/local-DB");
        check("!GetAtt Alias.AliasArn", &format!("{function}named:blue"));
        check("!Select [1, !GetAZs '']", "eu-central-1b");
        check("!Ref Named", "mine");
    }

    fn attributes_api_id(resource: &str) -> String {
        super::super::attributes::api_id(resource)
    }

    #[test]
    fn functions_of_language_extensions_resolve() {
        let check = |expression: &str, expected: Value| {
            assert_eq!(resolve(expression).expect(expression), Some(expected), "{expression}");
        };
        check("!FindInMap [Sizes, dev, memory, { DefaultValue: !Ref Stage }]", "prod".into());
        check("!FindInMap [Sizes, prod, memory, { DefaultValue: 1 }]", 512.into());
        check("Fn::Length: !Ref Zones", 2.into());
        check("Fn::ToJsonString: { a: [1, !Ref Stage] }", r#"{"a":[1,"prod"]}"#.into());
    }

    #[test]
    fn what_only_aws_knows_is_made_up_noted_and_can_be_set() {
        let inputs = TemplateInputs {
            values: [("Bucket", "b"), ("Bucket.Arn", "arn:b"), ("net-id", "n"), ("Nested.Outputs.T", "t")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            secrets: [("/app/key", "k"), ("/app/ids", "1, 2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..TemplateInputs::default()
        };
        let check = |expression: &str, made_up: Value, name: &str, given: Value| {
            let (value, notes) = resolve_with(&TemplateInputs::default(), expression);
            assert_eq!(value.expect(expression), Some(made_up), "{expression}");
            assert!(notes.len() == 1 && notes[0].contains(name), "{expression}: {notes:?}");
            let (value, notes) = resolve_with(&inputs, expression);
            assert_eq!((value.expect(expression), notes), (Some(given), Vec::new()), "{expression}");
        };
        check("!Ref Bucket", "Bucket".into(), "--value Bucket=VALUE", "b".into());
        check("!Sub '${Bucket.Arn}/x'", "arn:aws:s3:::Bucket/x".into(), "--value Bucket.Arn=VALUE", "arn:b/x".into());
        check("!GetAtt Nested.Outputs.T", "Nested.Outputs.T".into(), "Nested.Outputs.T", "t".into());
        check("!ImportValue net-id", "net-id".into(), "--value net-id=VALUE", "n".into());
        check("!Select [0, !Split ['|', !ImportValue net-id]]", "net-id".into(), "net-id", "n".into());
        check("!Ref Key", "/app/key".into(), "--secret /app/key=VALUE", "k".into());
        check("!Ref Ids", serde_json::json!(["/app/ids"]), "/app/ids", serde_json::json!(["1", "2"]));
        check("a{{resolve:ssm:/app/key}}", "a{{resolve:ssm:/app/key}}".into(), "--secret /app/key=VALUE", "ak".into());
        // Failing on what is made up does not refuse the template.
        assert_eq!(resolve("!Select [3, !Split ['/', !ImportValue x]]"), Ok(Some("Fn::Select".into())));
        assert!(resolve("Fn::Transform: { Name: AWS::Include }").is_ok());
        let (block, notes) = resolve_with(&inputs, "!Select [2, !Cidr ['10.0.0.0/16', 6, 5]]");
        assert_eq!(block, Ok(Some("10.0.0.0/16".into())));
        assert_eq!(notes, ["the emulator does not read Fn::Cidr"]);
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
            "!Select [7, [a]]",
            "!GetAtt Fn",
            "!Ref A1",
            "!Ref Fn.Stage",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
        // As deep as a document may be.
        let text = format!("{}x{}", "{Fn::Join: ['', [".repeat(30), "]]}".repeat(30));
        assert_eq!(resolve(&text), Ok(Some("x".into())));
    }
}
