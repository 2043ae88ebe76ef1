//! Parameters of a template.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    constraints::Constraints,
    error::TemplateError,
    inputs::TemplateInputs,
    scalar::truth,
    unknown::Unknown,
    yaml::{YamlKind, YamlNode},
};

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
    /// Refuses values, and defaults that count or not, that a deployment would refuse.
    pub(super) fn read(
        root: &YamlNode,
        inputs: &TemplateInputs,
        configured: &BTreeMap<String, String>,
        unknown: &Unknown,
    ) -> Result<Self, TemplateError> {
        let declared = root.get("Parameters").map(YamlNode::entries).unwrap_or_default();
        let (mut parameters, mut missing, mut invalid) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (name, declaration) in declared {
            let kind = declaration.get("Type").and_then(YamlNode::text).unwrap_or_default();
            let inner = kind.strip_prefix("AWS::SSM::Parameter::Value<").and_then(|kind| kind.strip_suffix('>'));
            let of = inner.unwrap_or(kind);
            let default = declaration.get("Default").filter(|default| default.text().is_some());
            let given = inputs.parameters.get(name).map(|value| (value, "value"));
            let given = given.or_else(|| configured.get(name).map(|value| (value, "value in samconfig.toml")));
            // The value of a parameter of Systems Manager is the name of another one there, to which nothing applies.
            if inner.is_none() {
                let constraints = Constraints::read(name, declaration, kind, unknown);
                let is_secret = truth(declaration.get("NoEcho").map(YamlNode::to_json).as_ref()) == Some(true);
                let mut check = |value: &str, what: &str, is_plain: bool| {
                    if let Some(expected) = constraints.violated(value, is_plain) {
                        let shown = if is_secret { String::new() } else { format!(" {value:?}") };
                        let problem = format!("invalid {what}{shown} of the parameter {name}: expected {expected}");
                        invalid.push((declaration.line, problem));
                    }
                };
                if let Some(YamlKind::Scalar { text, plain }) = default.map(|default| &default.kind) {
                    check(text, "default", *plain);
                }
                if let Some((value, what)) = given {
                    check(value, what, false);
                }
            }
            let given = given.map(|(value, _)| value.as_str());
            let text = match given.or_else(|| default.and_then(YamlNode::text)) {
                Some(text) => text.to_owned(),
                None if name.starts_with(CDK_ASSETS) => format!("||{name}"),
                None => {
                    missing.push((name, declaration.line));
                    continue;
                }
            };
            let parameter = Parameter {
                text,
                is_list: of == "CommaDelimitedList" || of.starts_with("List<"),
                is_of_ssm: inner.is_some(),
            };
            parameters.insert(name.clone(), parameter);
        }
        match missing.as_slice() {
            [] => {}
            [(name, line)] => {
                return Err(TemplateError::at(
                    *line,
                    format!("the parameter {name} has no default: set it with --parameter {name}=VALUE"),
                ));
            }
            [(_, line), ..] => {
                let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
                let flags: Vec<String> = names.iter().map(|name| format!("--parameter {name}=VALUE")).collect();
                return Err(TemplateError::at(
                    *line,
                    format!("the parameters {} have no default: set them with {}", names.join(", "), flags.join(" ")),
                ));
            }
        }
        match invalid.first() {
            None => Ok(Self(parameters)),
            Some((line, _)) => {
                let problems: Vec<&str> = invalid.iter().map(|(_, problem)| problem.as_str()).collect();
                Err(TemplateError::at(*line, problems.join("; ")))
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
