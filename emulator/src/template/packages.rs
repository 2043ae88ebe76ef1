//! Finds the code of a packaged template on this machine: what `serverless package` and `cdk synth` write beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::files;

/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Where a packaged template says that the code of a function is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// `Metadata: aws:asset:path`: a directory or zip file, relative to the template. Source: the CDK, for SAM CLI.
    pub asset: Option<String>,
    /// The key of the object in a bucket.
    pub key: Option<String>,
}

impl Package {
    /// Finds the directory or the zip file: the asset, a zip file beside the template whose name is the last part of
    /// the key, or what a manifest beside the template uploads under this key. Returns an absolute path.
    pub(crate) fn find(&self, directory: &Path) -> Option<PathBuf> {
        let directory = &fs::canonicalize(directory).ok()?;
        let asset = self.asset.as_ref().map(|asset| directory.join(asset)).filter(|path| path.exists());
        asset.or_else(|| {
            let name = self.key.as_deref()?.rsplit('/').next().filter(|name| !name.is_empty())?;
            let beside = directory.join(name);
            if name.ends_with(".zip") && beside.is_file() {
                return Some(beside);
            }
            of_cdk(directory, name).or_else(|| of_serverless(directory, name)).filter(|path| path.exists())
        })
    }
}

/// Reads a file as JSON, unless it is too large.
fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&files::read_regular_text(path, MANIFEST_BYTES_MAX).ok()?).ok()
}

/// Looks for an object in the asset manifests of a `cdk.out`.
fn of_cdk(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let mut manifests: Vec<PathBuf> =
        entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(".assets.json"))).collect();
    manifests.sort();
    manifests.iter().find_map(|manifest| {
        let manifest = json(manifest)?;
        let is_object = |destination: &Value| {
            destination.get("objectKey").and_then(Value::as_str).is_some_and(|key| key.rsplit('/').next() == Some(name))
        };
        let file = manifest.get("files")?.as_object()?.values().find(|file| {
            let destinations = file.get("destinations").and_then(Value::as_object);
            destinations.is_some_and(|destinations| destinations.values().any(is_object))
        })?;
        Some(directory.join(file.get("source")?.get("path")?.as_str()?))
    })
}

/// Looks for an artifact that a service names itself (`package: artifact`) in what `serverless package` remembers.
fn of_serverless(directory: &Path, name: &str) -> Option<PathBuf> {
    let state = json(&directory.join("serverless-state.json"))?;
    let service = state.get("service")?;
    let functions = service.get("functions").and_then(Value::as_object).into_iter().flat_map(|all| all.values());
    functions.chain([service]).find_map(|part| {
        let artifact = part.get("package")?.get("artifact")?.as_str()?;
        let path = directory.parent()?.join(artifact);
        (path.file_name()?.to_str() == Some(name)).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_as_an_asset_beside_the_template_and_by_either_manifest() {
        let project = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = project.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        };
        let root = fs::canonicalize(project.path()).expect("a directory");
        let directory = root.join("out");
        let find = |asset: Option<&str>, key: Option<&str>| {
            Package { asset: asset.map(str::to_owned), key: key.map(str::to_owned) }.find(&directory)
        };
        write("out/asset.1/index.js", "");
        write("out/echo.zip", "");
        write("dist/own.zip", "");
        write(
            "out/s.assets.json",
            r#"{"files": {"1": {"source": {"path": "asset.1"}, "destinations": {"current": {
            "objectKey": "prefix/1.zip"}}}}}"#,
        );
        write(
            "out/serverless-state.json",
            r#"{"service": {"functions": {"f": {"package": {"artifact": "dist/own.zip"}}
            }}}"#,
        );
        assert_eq!(find(Some("asset.1"), Some("echo.zip")), Some(directory.join("asset.1")));
        assert_eq!(find(Some("asset.2"), Some("a/b/echo.zip")), Some(directory.join("echo.zip")));
        assert_eq!(find(None, Some("prefix/1.zip")), Some(directory.join("asset.1")));
        assert_eq!(find(None, Some("s/own.zip")), Some(root.join("dist/own.zip")));
        for nowhere in [None, Some(""), Some("a/"), Some("other.zip"), Some("asset.1")] {
            assert_eq!(find(None, nowhere), None, "{nowhere:?}");
        }
    }
}
