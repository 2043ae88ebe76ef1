//! Layers of functions.

use serde_json::Value;

use super::{
    code::{self, Code},
    resources::{Resource, Resources},
};

/// A layer of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its logical id, or an ARN.
    pub name: String,
    /// Where its contents are, if it is in the template.
    pub code: Option<Code>,
    /// Whether a tool has to build it first.
    pub is_built: bool,
}

/// A layer that a template declares.
#[derive(Clone, Debug)]
pub(super) struct DeclaredLayer {
    logical_id: String,
    /// What `Ref` returns for it.
    arn: Option<String>,
    layer_name: Option<String>,
    pub(super) code: Code,
    is_built: bool,
}

/// Returns the layers of a template.
pub(super) fn declared(resources: &Resources<'_>) -> Vec<DeclaredLayer> {
    let of_sam = resources.of_type("AWS::Serverless::LayerVersion");
    let all = of_sam.chain(resources.of_type("AWS::Lambda::LayerVersion"));
    all.map(|layer| DeclaredLayer {
        logical_id: layer.logical_id.clone(),
        arn: layer.reference(),
        layer_name: layer.text("LayerName"),
        code: code::of(layer, ["ContentUri", "Content"]),
        is_built: layer.metadata().is_some_and(|metadata| metadata.get("BuildMethod").is_some()),
    })
    .collect()
}

/// Returns the layers that a function names. Of two with the same file, the later one's counts.
pub(super) fn of(function: &Resource<'_>) -> Vec<Layer> {
    let names = function.get("Layers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| Layer { name: name.to_owned(), code: None, is_built: false }).collect()
}

impl Layer {
    /// Finds the layer among those of all templates: by what `Ref` returns, or by its name in another ARN.
    pub(super) fn find_among(&mut self, declared: &[DeclaredLayer]) {
        let name = self.name.split_once(":layer:").and_then(|(_, rest)| rest.split(':').next());
        let is_meant = |layer: &&DeclaredLayer| {
            layer.arn.as_ref() == Some(&self.name) || (name.is_some() && layer.layer_name.as_deref() == name)
        };
        if let Some(found) = declared.iter().find(is_meant) {
            *self = Self { name: found.logical_id.clone(), code: Some(found.code.clone()), is_built: found.is_built };
        }
    }
}
