//! `Globals` of SAM: properties that all resources of a type have. Source: SAM's translator.

use super::{
    error::TemplateError,
    yaml::{WEIGHT_MAX, YamlKind, YamlNode},
};

/// Writes the properties of `Globals` into the resources that they are for.
pub(super) fn apply(root: &mut YamlNode) -> Result<(), TemplateError> {
    let Some(globals) = root.get("Globals").cloned() else { return Ok(()) };
    let YamlKind::Map(sections) = &mut root.kind else { return Ok(()) };
    let resources = sections.iter_mut().find(|(name, _)| name == "Resources");
    let Some((_, YamlNode { kind: YamlKind::Map(resources), .. })) = resources else { return Ok(()) };
    let mut weight = 0;
    for (name, resource) in resources {
        let kind =
            resource.get("Type").and_then(YamlNode::text).and_then(|kind| kind.strip_prefix("AWS::Serverless::"));
        let Some(global) = kind.and_then(|kind| globals.get(kind)) else { continue };
        let global = without_ignored(global, resource.get("IgnoreGlobals"));
        weight += global.weight();
        if weight > WEIGHT_MAX {
            let message = "the template is too large with its Globals written into each resource";
            return Err(TemplateError::at(resource.line, message).in_resource(name));
        }
        let YamlKind::Map(entries) = &mut resource.kind else { continue };
        match entries.iter_mut().find(|(key, _)| key == "Properties") {
            Some((_, properties)) => *properties = merged(global, std::mem::replace(properties, empty())),
            None => entries.push(("Properties".to_owned(), global)),
        }
    }
    Ok(())
}

fn empty() -> YamlNode {
    YamlNode { line: 0, kind: YamlKind::Map(Vec::new()) }
}

/// Leaves out what a resource does not want: `IgnoreGlobals` is `*` or a list of properties.
fn without_ignored(global: &YamlNode, ignored: Option<&YamlNode>) -> YamlNode {
    let is_ignored = |property: &str| match ignored.map(|ignored| &ignored.kind) {
        Some(YamlKind::Scalar { text, .. }) => text == "*",
        Some(YamlKind::List(properties)) => properties.iter().any(|ignored| ignored.text() == Some(property)),
        _ => false,
    };
    let kept = global.entries().iter().filter(|(property, _)| !is_ignored(property)).cloned();
    YamlNode { line: global.line, kind: YamlKind::Map(kept.collect()) }
}

/// Merges maps, joins lists, and takes the resource's own value of everything else, functions such as `Ref` too.
fn merged(global: YamlNode, own: YamlNode) -> YamlNode {
    let line = own.line;
    let is_either = is_function(&global) || is_function(&own);
    match (global.kind, own.kind) {
        (YamlKind::Map(global), YamlKind::Map(own)) if !is_either => {
            let mut all: Vec<(String, YamlNode)> = global;
            for (key, value) in own {
                match all.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, global)) => *global = merged(std::mem::replace(global, empty()), value),
                    None => all.push((key, value)),
                }
            }
            YamlNode { line, kind: YamlKind::Map(all) }
        }
        (YamlKind::List(global), YamlKind::List(own)) => {
            YamlNode { line, kind: YamlKind::List([global, own].concat()) }
        }
        (_, own) => YamlNode { line, kind: own },
    }
}

fn is_function(node: &YamlNode) -> bool {
    let is_name = |name: &str| name == "Ref" || name == "Condition" || name.starts_with("Fn::");
    matches!(node.entries(), [(name, _)] if is_name(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::intrinsics::long_form, *};

    fn properties(globals: &str, resource: &str) -> Value {
        let text = format!("Globals: {{ Function: {globals} }}\nResources:\n  F: {resource}\n");
        let mut root = YamlNode::parse(&text, long_form).expect("valid");
        apply(&mut root).expect("small");
        root.to_json().pointer("/Resources/F/Properties").cloned().unwrap_or_default()
    }

    #[test]
    fn own_properties_win_maps_are_merged_and_lists_are_joined() {
        let globals =
            "{ Timeout: 3, Layers: [a], Environment: { Variables: { A: 1, B: 2 } }, Tags: { Fn::If: [c, d] } }";
        let own = "{ Timeout: 9, Layers: [b], Environment: { Variables: { B: 3 } }, Tags: { x: y } }";
        assert_eq!(
            properties(globals, &format!("{{ Type: AWS::Serverless::Function, Properties: {own} }}")),
            json!({
                "Timeout": 9,
                "Layers": ["a", "b"],
                "Environment": {"Variables": {"A": 1, "B": 3}},
                "Tags": {"x": "y"},
            })
        );
        assert_eq!(properties("{ Timeout: 3 }", "{ Type: AWS::Serverless::Function }"), json!({"Timeout": 3}));
        assert_eq!(properties("{ Timeout: 3 }", "{ Type: AWS::Lambda::Function }"), Value::Null);
    }

    #[test]
    fn a_resource_ignores_globals_that_it_names() {
        let with = |ignored: &str| {
            properties("{ A: 1, B: 2 }", &format!("{{ Type: AWS::Serverless::Function, IgnoreGlobals: {ignored} }}"))
        };
        assert_eq!(with("[B]"), json!({"A": 1}));
        assert_eq!(with("'*'"), json!({}));
    }

    #[test]
    fn globals_that_would_fill_the_memory_are_refused() {
        let value = "x".repeat(100_000);
        let resources = (0..1_000).map(|n| format!("  F{n}: {{ Type: AWS::Serverless::Function }}\n"));
        let text = format!("Globals: {{ Function: {{ A: {value} }} }}\nResources:\n{}", resources.collect::<String>());
        let mut root = YamlNode::parse(&text, long_form).expect("valid");
        assert!(apply(&mut root).expect_err("too large").to_string().contains("too large"));
    }
}
