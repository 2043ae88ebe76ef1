//! Finds templates: files, directories, and what other tools write for their own sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::error::LoadError;
use crate::files;

/// Names of templates. Source: SAM CLI.
const TEMPLATES: [&str; 3] = ["template.yaml", "template.yml", "template.json"];

/// Sources of the Serverless Framework.
const SERVERLESS: [&str; 6] =
    ["serverless.yml", "serverless.yaml", "serverless.json", "serverless.ts", "serverless.js", "serverless.mjs"];

/// What `serverless package` writes.
const PACKAGED: &str = ".serverless/cloudformation-template-update-stack.json";

/// The source of an application of the CDK.
const CDK: &str = "cdk.json";

/// What `cdk synth` writes, unless `cdk.json` names another directory.
const CDK_OUT: &str = "cdk.out";

/// The list of stacks in a `cdk.out`.
const CDK_MANIFEST: &str = "manifest.json";

/// Most stacks that are read at once.
pub(super) const STACKS_MAX: usize = 50;

/// Deepest nesting of stages in a `cdk.out`.
const STAGES_MAX: usize = 4;

/// A template that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) path: PathBuf,
    /// Name of its stack, if a tool gave it one.
    pub(super) stack: Option<String>,
    /// The source of which a tool has made it, if that has changed since.
    pub(super) outdated: Option<String>,
}

impl Located {
    fn at(path: PathBuf) -> Self {
        Self { path, stack: None, outdated: None }
    }

    /// Remembers a source that is newer than the template.
    fn made_of(mut self, source: &Path, command: &str) -> Self {
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        if changed(source) > changed(&self.path) {
            let (source, path) = (source.display(), self.path.display());
            self.outdated = Some(format!("{source} is newer than {path}: run `{command}` to run what it says now"));
        }
        self
    }
}

/// Finds the templates that a path means.
pub(super) fn find(path: &Path) -> Result<Vec<Located>, LoadError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.is_dir() {
        return in_directory(path);
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    if SERVERLESS.contains(&name) && path.is_file() {
        return of_serverless(path, directory);
    }
    if name == CDK && path.is_file() {
        return of_cdk(path, directory);
    }
    if name.ends_with(".tf") {
        return Err(LoadError::Terraform(path.to_owned()));
    }
    Ok(vec![Located::at(path.to_owned())])
}

fn in_directory(directory: &Path) -> Result<Vec<Located>, LoadError> {
    // So that errors say `template.yaml`, not `./template.yaml`.
    let directory = if directory == Path::new(".") { Path::new("") } else { directory };
    let at = |name: &str| directory.join(name);
    if at(CDK_MANIFEST).is_file()
        && let Some(stacks) = stacks_of(directory)?
    {
        return Ok(stacks);
    }
    if let Some(template) = TEMPLATES.iter().map(|name| at(name)).find(|path| path.is_file()) {
        return Ok(vec![Located::at(template)]);
    }
    if let Some(service) = SERVERLESS.iter().map(|name| at(name)).find(|path| path.is_file()) {
        return of_serverless(&service, directory);
    }
    if at(CDK).is_file() {
        return of_cdk(&at(CDK), directory);
    }
    if let Some(stacks) = stacks_of(&at(CDK_OUT))? {
        return Ok(stacks);
    }
    if at(PACKAGED).is_file() {
        return Ok(vec![Located::at(at(PACKAGED))]);
    }
    let entries = fs::read_dir(if directory == Path::new("") { Path::new(".") } else { directory });
    let mut paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    match paths.find(|path| path.extension().is_some_and(|extension| extension == "tf")) {
        Some(terraform) => Err(LoadError::Terraform(terraform)),
        None => Err(LoadError::Nothing(if directory == Path::new("") { ".".into() } else { directory.to_owned() })),
    }
}

fn of_serverless(service: &Path, directory: &Path) -> Result<Vec<Located>, LoadError> {
    let packaged = directory.join(PACKAGED);
    if !packaged.is_file() {
        return Err(LoadError::NotPackaged(service.to_owned(), "serverless package"));
    }
    Ok(vec![Located::at(packaged).made_of(service, "serverless package")])
}

fn of_cdk(source: &Path, directory: &Path) -> Result<Vec<Located>, LoadError> {
    let output = json(source).and_then(|settings| Some(settings.get("output")?.as_str()?.to_owned()));
    let output = directory.join(output.as_deref().unwrap_or(CDK_OUT));
    stacks_of(&output)?.ok_or_else(|| LoadError::NotPackaged(source.to_owned(), "cdk synth"))
}

/// The stacks of a `cdk.out`, also of its stages. `None` if it has none.
fn stacks_of(directory: &Path) -> Result<Option<Vec<Located>>, LoadError> {
    let mut found = Vec::new();
    add_stacks(directory, STAGES_MAX, &mut found);
    if found.len() > STACKS_MAX {
        return Err(LoadError::TooManyStacks(directory.to_owned(), STACKS_MAX));
    }
    Ok((!found.is_empty()).then_some(found))
}

fn add_stacks(directory: &Path, stages: usize, found: &mut Vec<Located>) {
    let manifest = json(&directory.join(CDK_MANIFEST)).unwrap_or_default();
    for (id, artifact) in manifest.get("artifacts").and_then(Value::as_object).into_iter().flatten() {
        let property = |name: &str| artifact.pointer(&format!("/properties/{name}")).and_then(Value::as_str);
        match artifact.get("type").and_then(Value::as_str) {
            Some("aws:cloudformation:stack") => {
                let path = directory.join(property("templateFile").unwrap_or_default());
                let stack = property("stackName").unwrap_or(id).to_owned();
                found.extend(path.is_file().then_some(Located { path, stack: Some(stack), outdated: None }));
            }
            Some("cdk:cloud-assembly") if stages > 0 && found.len() <= STACKS_MAX => {
                add_stacks(&directory.join(property("directoryName").unwrap_or_default()), stages - 1, found);
            }
            _ => {}
        }
    }
}

/// Largest file that is read besides templates.
const JSON_BYTES_MAX: u64 = 32 * 1024 * 1024;

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&files::read_regular_text(path, JSON_BYTES_MAX).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Project(tempfile::TempDir);

    impl Project {
        fn new(files: &[(&str, &str)]) -> Self {
            let project = Self(tempfile::tempdir().expect("a directory"));
            for (name, text) in files {
                project.write(name, text);
            }
            project
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        }

        /// The names that a path of the project leads to, or the error without the project's path.
        fn find(&self, name: &str) -> Result<Vec<String>, String> {
            let root = self.0.path();
            let relative = |path: &Path| path.strip_prefix(root).expect("within").display().to_string();
            find(&root.join(name))
                .map(|found| found.iter().map(|located| relative(&located.path)).collect())
                .map_err(|error| error.to_string().replace(&format!("{}/", root.display()), ""))
        }
    }

    fn names(names: &[&str]) -> Result<Vec<String>, String> {
        Ok(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_directory_means_its_template_under_the_names_that_sam_knows() {
        let project =
            Project::new(&[("a/template.yml", ""), ("a/serverless.yml", ""), ("b/template.json", ""), ("c/x", "")]);
        assert_eq!(project.find("a"), names(&["a/template.yml"]));
        assert_eq!(project.find("b"), names(&["b/template.json"]));
        assert_eq!(project.find("c/x"), names(&["c/x"]));
        assert!(project.find("c").is_err_and(|error| error.starts_with("no template in c: expected template.yaml, ")));
    }

    #[test]
    fn sources_of_other_tools_mean_what_these_write_or_name_the_command() {
        let project = Project::new(&[("s/serverless.yml", ""), ("c/cdk.json", "{}"), ("t/main.tf", "")]);
        for path in ["s", "s/serverless.yml"] {
            let expected = "no template has been made of s/serverless.yml yet: run `serverless package` in its \
                directory first";
            assert_eq!(project.find(path), Err(expected.to_owned()));
        }
        for path in ["c", "c/cdk.json"] {
            assert!(project.find(path).is_err_and(|error| error.contains("run `cdk synth`")), "{path}");
        }
        for path in ["t", "t/main.tf"] {
            assert!(project.find(path).is_err_and(|error| error.contains("docs/terraform.md")), "{path}");
        }
        project.write(&format!("s/{PACKAGED}"), "{}");
        for path in ["s", "s/serverless.yml"] {
            assert_eq!(project.find(path), names(&[&format!("s/{PACKAGED}")]));
        }
    }

    #[test]
    fn a_source_that_is_newer_than_what_was_made_of_it_is_noted() {
        let project = Project::new(&[("serverless.yml", ""), (PACKAGED, "{}")]);
        let source = project.0.path().join("serverless.yml");
        let at = |time| fs::File::options().write(true).open(&source).and_then(|file| file.set_modified(time));
        let packaged = fs::metadata(project.0.path().join(PACKAGED)).and_then(|data| data.modified()).expect("a time");
        let outdated = || find(&source).expect("found").remove(0).outdated;
        at(packaged - std::time::Duration::from_secs(1)).expect("set");
        assert_eq!(outdated(), None);
        at(packaged + std::time::Duration::from_secs(1)).expect("set");
        assert!(outdated().is_some_and(|note| note.contains("run `serverless package`")));
    }

    #[test]
    fn a_cdk_out_means_all_its_stacks_and_those_of_its_stages() {
        let stack = |file: &str| {
            format!(r#"{{"type": "aws:cloudformation:stack", "properties": {{"templateFile": "{file}"}}}}"#)
        };
        let manifest = format!(
            r#"{{"artifacts": {{"A": {}, "B": {}, "Tree": {{"type": "cdk:tree"}}, "Gone": {},
                "Prod": {{"type": "cdk:cloud-assembly", "properties": {{"directoryName": "assembly-Prod"}}}},
                "Self": {{"type": "cdk:cloud-assembly", "properties": {{"directoryName": "."}}}}}}}}"#,
            stack("A.template.json"),
            stack("B.template.json"),
            stack("Gone.template.json")
        );
        let project = Project::new(&[
            ("out/manifest.json", r#"{"artifacts": {}}"#),
            ("cdk.json", r#"{"output": "out"}"#),
            ("out/A.template.json", ""),
            ("out/B.template.json", ""),
            ("out/assembly-Prod/C.template.json", ""),
        ]);
        assert!(project.find("cdk.json").is_err());
        let stage = format!(r#"{{"artifacts": {{"Prod-C": {}}}}}"#, stack("C.template.json"));
        project.write("out/assembly-Prod/manifest.json", &stage);
        project.write("out/manifest.json", &manifest.replace(r#""directoryName": ".""#, r#""directoryName": "no""#));
        let expected = names(&["out/A.template.json", "out/B.template.json", "out/assembly-Prod/C.template.json"]);
        for path in ["cdk.json", "out", ""] {
            assert_eq!(project.find(path), expected, "{path}");
        }
        assert_eq!(find(&project.0.path().join("out")).expect("found")[0].stack.as_deref(), Some("A"));
        let without_source = Project::new(&[
            ("cdk.out/manifest.json", &format!(r#"{{"artifacts": {{"A": {}}}}}"#, stack("A.template.json"))),
            ("cdk.out/A.template.json", ""),
        ]);
        assert_eq!(without_source.find(""), names(&["cdk.out/A.template.json"]));
        // A stage that is itself ends too.
        project.write("out/manifest.json", &manifest);
        assert!(project.find("out").is_ok());
    }
}
