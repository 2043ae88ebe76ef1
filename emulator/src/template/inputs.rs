//! What a template does not say itself, and the user can.

use std::collections::BTreeMap;

/// Values that the user gives to templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateInputs {
    /// Values of parameters, by name. Others keep their defaults.
    pub parameters: BTreeMap<String, String>,
    /// What only a deployed stack knows: `Resource.Attribute`, `Resource` for what `Ref` returns, or the name of an
    /// export.
    pub values: BTreeMap<String, String>,
    /// Parameters of Systems Manager and secrets of Secrets Manager, by name.
    pub secrets: BTreeMap<String, String>,
}

impl TemplateInputs {
    /// Sets parameters and nothing else.
    pub fn with_parameters<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let parameters = parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { parameters: parameters.collect(), ..Self::default() }
    }
}
