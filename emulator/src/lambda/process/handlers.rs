//! Looks for the file of a handler before anything is invoked.

use std::path::{Path, PathBuf};

use crate::template;

/// What to do if something was not built.
pub(super) const BUILD: &str = "run `sam build`, and pass --template .aws-sam/build/template.yaml";

/// What is wrong with the handler of a function, if its file is not in `code` or in the layers. `None` also where that
/// cannot be known.
pub(super) fn problem(function: &template::Function, code: &Path, layers: &[PathBuf]) -> Option<String> {
    let runtime = function.runtime.as_deref().unwrap_or_default();
    let handler = function.handler.as_deref().unwrap_or_default();
    let in_node = runtime.starts_with("nodejs");
    if !in_node && !runtime.starts_with("python") {
        return None;
    }
    // The name of a file of Node.js ends at the first dot after its directory, that of Python at the last one.
    let start = handler.rfind('/').map_or(0, |slash| slash + 1);
    let dot = if in_node { handler[start..].find('.').map(|dot| start + dot) } else { handler.rfind('.') };
    let Some(module) = dot.map(|dot| &handler[..dot]).filter(|module| module.len() > start) else {
        return Some(format!("invalid handler {handler}: expected file.name"));
    };
    let (bases, module, endings) = if in_node {
        let in_layer = module.strip_prefix("/opt/");
        let bases = if in_layer.is_some() { layers.to_vec() } else { vec![code.to_owned()] };
        (bases, in_layer.unwrap_or(module).to_owned(), [".js", ".mjs", ".cjs"].as_slice())
    } else {
        let of_layers = layers
            .iter()
            .flat_map(|layer| [layer.join("python"), layer.join("python/lib").join(runtime).join("site-packages")]);
        let bases = std::iter::once(code.to_owned()).chain(of_layers).collect();
        (bases, module.replace('.', "/"), [".py", ".pyc", "/__init__.py"].as_slice())
    };
    let file = |base: &PathBuf, ending: &str| base.join(format!("{module}{ending}"));
    let exists = |ending: &&str| bases.iter().any(|base| file(base, ending).is_file());
    if endings.iter().any(exists) || (!in_node && is_binary(&bases, &module)) {
        return None;
    }
    let wanted = file(bases.first().unwrap_or(&code.to_owned()), endings.first().copied().unwrap_or_default());
    let other = if in_node { ", .mjs or .cjs" } else { "" };
    let is_typescript = [".ts", ".tsx", ".mts", ".cts", ".jsx"].iter().any(exists);
    let has_build = function.build_method.is_some() || (in_node && is_typescript);
    let build = if has_build { format!(": {BUILD}") } else { String::new() };
    Some(format!("there is no {}{other}{build}", wanted.display()))
}

/// Whether a module of Python is a library, whose name says for which interpreter it is.
fn is_binary(bases: &[PathBuf], module: &str) -> bool {
    let (directory, name) = module.rsplit_once('/').unwrap_or(("", module));
    let entries = bases.iter().filter_map(|base| base.join(directory).read_dir().ok()).flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|file| {
        let file = file.to_string_lossy();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".so"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::template::{Template, TemplateInputs};

    #[test]
    fn a_handler_is_found_in_the_code_or_in_a_layer_or_the_problem_is_named() {
        let root = tempfile::tempdir().expect("a directory");
        let files = [
            "fn/app.js",
            "fn/sub/deep.mjs",
            "fn/part.cjs",
            "fn/typed.ts",
            "fn/app.py",
            "fn/pack/__init__.py",
            "fn/pack/mod.py",
            "fn/native.cpython-312-x86_64-linux-gnu.so",
            "layer/nodejs/wrap.js",
            "layer/python/wrap.py",
        ];
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, "").expect("written");
        }
        let problem_of = |metadata: &str, runtime: &str, handler: &str| {
            let text = format!(
                "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
                 RouteSelectionExpression: $request.body.a }} }}\n  F: {{ Type: AWS::Serverless::Function, Metadata: \
                 {{ {metadata} }}, Properties: {{ Runtime: {runtime}, Handler: '{handler}' }} }}\n"
            );
            let template = Template::parse(&text, &TemplateInputs::default()).expect("valid");
            let problem = problem(&template.functions["F"], &root.path().join("fn"), &[root.path().join("layer")]);
            problem.map(|problem| problem.replace(root.path().to_str().expect("UTF-8"), "…")).unwrap_or_default()
        };
        for (runtime, handler) in [
            ("nodejs20.x", "app.handler"),
            ("nodejs20.x", "app.nested.handler"),
            ("nodejs20.x", "sub/deep.handler"),
            ("nodejs20.x", "./part.handler"),
            ("nodejs20.x", "/opt/nodejs/wrap.handler"),
            ("python3.12", "app.handler"),
            ("python3.12", "pack.mod.handler"),
            ("python3.12", "pack/mod.handler"),
            ("python3.12", "pack.handler"),
            ("python3.12", "native.handler"),
            ("python3.12", "wrap.handler"),
            ("provided.al2023", "unused"),
        ] {
            assert_eq!(problem_of("", runtime, handler), "", "{runtime} {handler}");
        }
        let built = format!(": {BUILD}");
        let check = |metadata, runtime, handler, expected: &str| {
            assert_eq!(problem_of(metadata, runtime, handler), expected, "{runtime} {handler}");
        };
        check("", "nodejs20.x", "none.handler", "there is no …/fn/none.js, .mjs or .cjs");
        check("", "nodejs20.x", "typed.handler", &format!("there is no …/fn/typed.js, .mjs or .cjs{built}"));
        let esbuild = "BuildMethod: esbuild";
        check(esbuild, "nodejs20.x", "none.handler", &format!("there is no …/fn/none.js, .mjs or .cjs{built}"));
        check("", "nodejs20.x", "/opt/nodejs/none.handler", "there is no …/layer/nodejs/none.js, .mjs or .cjs");
        check("", "nodejs20.x", "handler", "invalid handler handler: expected file.name");
        check("", "nodejs20.x", "", "invalid handler : expected file.name");
        check("", "python3.12", "none.handler", "there is no …/fn/none.py");
        check("BuildMethod: makefile", "python3.12", "none.handler", &format!("there is no …/fn/none.py{built}"));
        check("", "python3.12", "pack.none.handler", "there is no …/fn/pack/none.py");
    }
}
