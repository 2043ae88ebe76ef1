//! Parameters of a template.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{error::TemplateError, inputs::TemplateInputs, unknown::Unknown, yaml::YamlNode};

/// Parameters with which version 1 of the CDK names its assets. Only the deployment sets them, in the form
/// `prefix||key`.
const CDK_ASSETS: &str = "AssetParameters";

/// The parameters of one template.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<String, Parameter>);

#[derive(Debug)]
struct Parameter {
    text: String,
    is_list: bool,
    /// Whether the text is the name of a parameter of Systems Manager, whose value counts.
    is_of_ssm: bool,
}

impl Parameters {
    /// Reads the parameters with the values of the user, else of the project's configuration, else their defaults.
    pub(super) fn read(
        root: &YamlNode,
        inputs: &TemplateInputs,
        configured: &BTreeMap<String, String>,
    ) -> Result<Self, TemplateError> {
        let declared = root.get("Parameters").map(YamlNode::entries).unwrap_or_default();
        let (mut parameters, mut missing) = (BTreeMap::new(), Vec::new());
        for (name, declaration) in declared {
            let given = inputs.parameters.get(name).or_else(|| configured.get(name)).map(String::as_str);
            let given = given.or_else(|| declaration.get("Default").and_then(YamlNode::text));
            let text = match given {
                Some(text) => text.to_owned(),
                None if name.starts_with(CDK_ASSETS) => format!("||{name}"),
                None => {
                    missing.push((name, declaration.line));
                    continue;
                }
            };
            let kind = declaration.get("Type").and_then(YamlNode::text).unwrap_or_default();
            let inner = kind.strip_prefix("AWS::SSM::Parameter::Value<").and_then(|kind| kind.strip_suffix('>'));
            let of = inner.unwrap_or(kind);
            let parameter = Parameter {
                text,
                is_list: of == "CommaDelimitedList" || of.starts_with("List<"),
                is_of_ssm: inner.is_some(),
            };
            parameters.insert(name.clone(), parameter);
        }
        match missing.as_slice() {
            [] => Ok(Self(parameters)),
            [(name, line)] => Err(TemplateError::at(
                *line,
                format!("the parameter {name} has no default: set it with --parameter {name}=VALUE"),
            )),
            [(_, line), ..] => {
                let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
                let flags: Vec<String> = names.iter().map(|name| format!("--parameter {name}=VALUE")).collect();
                Err(TemplateError::at(
                    *line,
                    format!("the parameters {} have no default: set them with {}", names.join(", "), flags.join(" ")),
                ))
            }
        }
    }

    /// Whether the template declares a parameter.
    pub(super) fn declares(root: &YamlNode, name: &str) -> bool {
        root.get("Parameters").is_some_and(|parameters| parameters.get(name).is_some())
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str, inputs: &TemplateInputs, unknown: &Unknown) -> Option<Value> {
        let parameter = self.0.get(name)?;
        let mut text = &parameter.text;
        if parameter.is_of_ssm {
            match inputs.secrets.get(text) {
                Some(value) => text = value,
                None => unknown.secret(text),
            }
        }
        Some(match parameter.is_list {
            true => Value::Array(text.split(',').map(|item| Value::from(item.trim())).collect()),
            false => Value::from(text.as_str()),
        })
    }
}
