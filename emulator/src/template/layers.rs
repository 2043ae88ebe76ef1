//! Layers of functions.

use serde_json::Value;

use super::{
    code::{self, Code},
    resources::{Resource, Resources},
};
use crate::aws::ACCOUNT_ID;

/// A layer of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its logical id, or an ARN.
    pub name: String,
    /// Where its contents are, if it is in the template.
    pub code: Option<Code>,
}

/// Returns the layers of a function. Of two with the same file, the later one's counts.
pub(super) fn of(function: &Resource<'_>, resources: &Resources<'_>) -> Vec<Layer> {
    let names = function.get("Layers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names
        .map(|name| {
            let declared = resources.of_type("AWS::Serverless::LayerVersion");
            let mut declared = declared.chain(resources.of_type("AWS::Lambda::LayerVersion"));
            match declared.find(|layer| is_named(layer, name)) {
                Some(layer) => {
                    Layer { name: layer.logical_id.clone(), code: Some(code::of(layer, ["ContentUri", "Content"])) }
                }
                None => Layer { name: name.to_owned(), code: None },
            }
        })
        .collect()
}

/// Whether a function means this layer: by `Ref`, or by an ARN with its name.
fn is_named(layer: &Resource<'_>, arn: &str) -> bool {
    let (account, rest) = arn.split_once(":layer:").unwrap_or_default();
    let name = rest.split(':').next().unwrap_or_default();
    (name == layer.logical_id && account.ends_with(ACCOUNT_ID)) || layer.text("LayerName").as_deref() == Some(name)
}
