//! Parameters of Systems Manager that a template makes.

use std::collections::BTreeMap;

use super::resources::Resources;

/// A parameter of Systems Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredParameter {
    /// `String` or `StringList`; CloudFormation makes no `SecureString`.
    pub(crate) kind: String,
    pub(crate) value: String,
}

/// Returns the parameters by name.
pub(super) fn read(resources: &Resources<'_>) -> BTreeMap<String, StoredParameter> {
    let all = resources.of_type("AWS::SSM::Parameter").filter_map(|parameter| {
        let name = parameter.text("Name").unwrap_or_else(|| parameter.logical_id.clone());
        let kind = parameter.text("Type").unwrap_or_else(|| "String".to_owned());
        Some((name, StoredParameter { kind, value: parameter.text("Value")? }))
    });
    all.collect()
}
