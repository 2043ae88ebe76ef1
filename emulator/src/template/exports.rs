//! What stacks export, for the `Fn::ImportValue` of others.

use std::collections::BTreeMap;

use super::{
    document::Document,
    intrinsics::{Export, Resolver, Scope},
    scalar::as_text,
    unknown::Unknown,
    yaml::YamlNode,
};

/// What is exported, by name.
pub(super) type Exports = BTreeMap<String, Export>;

/// Evaluates the exports of all stacks. Those that import something themselves are evaluated again until nothing
/// changes: at most once for each stack.
pub(super) fn of_all(documents: &[Document], scopes: &[Scope<'_>]) -> Exports {
    let mut exports = Exports::new();
    for _ in documents {
        let mut next = Exports::new();
        for (document, scope) in documents.iter().zip(scopes) {
            let unknown = Unknown::default();
            next.extend(of_one(&document.root, Scope { exports: &exports, unknown: &unknown, ..*scope }));
        }
        if next == exports {
            break;
        }
        exports = next;
    }
    exports
}

fn of_one(root: &YamlNode, scope: Scope<'_>) -> Exports {
    let Ok(resolver) = Resolver::new(root, scope) else { return Exports::new() };
    let outputs = root.get("Outputs").map(YamlNode::entries).unwrap_or_default();
    // An output that cannot be evaluated is not exported: whoever imports it is told.
    let export = |output: &YamlNode| {
        if let Some(condition) = output.get("Condition").and_then(YamlNode::text)
            && !resolver.condition(condition, output.line).ok()?
        {
            return None;
        }
        let name = resolver.read(output.get("Export")?.get("Name")?).ok()??;
        let reads = scope.unknown.reads();
        let value = resolver.read(output.get("Value")?).ok()??;
        Some((as_text(&name)?, Export { value, is_made_up: scope.unknown.reads() > reads }))
    };
    outputs.iter().filter_map(|(_, output)| export(output)).collect()
}
