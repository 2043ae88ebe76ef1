//! The layers of a function: directories and zip files that Lambda unpacks into `/opt`, one over the other.
//!
//! Nothing can be put into `/opt` here, so each layer keeps a directory of its own; variables and loaders lead there.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    code::{self, CodeVersion},
    handlers,
    host::ProcessHost,
};
use crate::template::{self, Code};

/// Where Lambda has them.
const OPT: &str = "/opt";

/// Folders of a layer that is searched, which a tool makes when it builds one.
const FOLDERS: [&str; 4] = ["nodejs", "python", "bin", "lib"];

/// The layers of one function that are on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    /// Directories and zip files, in the order of the template.
    sources: Vec<PathBuf>,
}

/// A layer that is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MissingLayer {
    /// Its logical id, or an ARN.
    pub(crate) name: String,
    pub(crate) reason: String,
}

impl Layers {
    /// Finds the layers of a function: those that the user names, and those of the template.
    pub(super) fn find(function: &template::Function, host: &ProcessHost) -> (Self, Vec<MissingLayer>) {
        let (mut sources, mut missing) = (Vec::new(), Vec::new());
        for layer in &function.layers {
            let given = host.layers.get(&layer.name).or_else(|| host.layers.get(without_version(&layer.name)));
            let found = match (given, &layer.code) {
                (Some(path), _) => existing(path),
                (None, Some(Code::Path(path))) => existing(&host.template.join(path)),
                (None, Some(_)) => Err("its contents are not beside the template".to_owned()),
                (None, None) => Err("it is not in the template".to_owned()),
            };
            // Now, and not when the function runs: what is no zip file is a layer that is missing.
            let unpacked = |path: PathBuf| match code::is_zip(&path) {
                true => host.unpacked(&path, CodeVersion::of(&path)).map(|_| path),
                false => Ok(path),
            };
            match found.and_then(unpacked) {
                Ok(path) => {
                    let is_source =
                        layer.is_built && given.is_none() && !FOLDERS.iter().any(|name| path.join(name).is_dir());
                    let reason = is_source.then(|| format!("it is not built: {}", handlers::BUILD));
                    missing.extend(reason.map(|reason| MissingLayer { name: layer.name.clone(), reason }));
                    sources.push(path);
                }
                Err(reason) => missing.push(MissingLayer { name: layer.name.clone(), reason }),
            }
        }
        (Self { sources }, missing)
    }

    /// Returns the state of the code with that of the layers.
    pub(super) fn version(&self, code: CodeVersion) -> CodeVersion {
        self.sources.iter().fold(code, |version, source| version.and(CodeVersion::of(source)))
    }

    /// Returns the directories of the layers, the one that overrides the others first. Unpacks what has changed.
    pub(super) fn directories(&self, host: &Arc<ProcessHost>) -> Result<Vec<PathBuf>, String> {
        let directory = |source: &PathBuf| match code::is_zip(source) {
            true => host.unpacked(source, CodeVersion::of(source)),
            false => Ok(source.clone()),
        };
        self.sources.iter().rev().map(directory).collect()
    }
}

/// The name of a layer without its version.
fn without_version(arn: &str) -> &str {
    match arn.rsplit_once(':') {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => arn,
    }
}

fn existing(path: &Path) -> Result<PathBuf, String> {
    let path = fs::canonicalize(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let is_layer = path.is_dir() || code::is_zip(&path);
    is_layer.then(|| path.clone()).ok_or_else(|| format!("{} is neither a directory nor a zip file", path.display()))
}

/// What is searched for a function besides its own code.
pub(super) struct SearchPaths<'a> {
    pub(super) runtime: &'a str,
    /// Directories of its layers, the one that overrides the others first.
    pub(super) layers: &'a [PathBuf],
    /// `NODE_PATH` and `PYTHONPATH` of the emulator itself.
    pub(super) inherited: &'a BTreeMap<String, String>,
    /// Directories with modules that Lambda has, such as AWS SDKs, where the code does not find them itself.
    pub(super) provided: &'a [PathBuf],
}

impl SearchPaths<'_> {
    /// Returns the variables that lead a function to all of these. `own` are the function's variables: paths in `/opt`
    /// in them become paths of the layers.
    pub(super) fn variables(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, OsString> {
        let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
        for (name, value) in own.iter().filter(|(_, value)| !self.layers.is_empty() && value.contains(OPT)) {
            variables.insert(name.clone(), joined(env::split_paths(value).flat_map(|path| self.local(&path))));
        }
        let modules = format!("nodejs/node{}/node_modules", self.runtime.trim_matches(|byte: char| !byte.is_numeric()));
        let packages = format!("python/lib/{}/site-packages", self.runtime);
        let node = self.existing(&[&modules, "nodejs/node_modules", "nodejs"]);
        let python = self.existing(&[&packages, "python"]);
        if self.runtime.starts_with("nodejs") {
            self.search(&mut variables, own, "NODE_PATH", node, self.provided);
        } else if self.runtime.starts_with("python") {
            self.search(&mut variables, own, "PYTHONPATH", python, &[]);
        }
        // Behind what the function finds without layers.
        let of_programs =
            ["PATH", "LD_LIBRARY_PATH"].into_iter().zip([self.existing(&["bin"]), self.existing(&["lib"])]);
        for (name, directories) in of_programs.filter(|(_, directories)| !directories.is_empty()) {
            let before = variables.get(name).cloned().or_else(|| own.get(name).map(OsString::from));
            let before: Vec<PathBuf> = before.iter().flat_map(env::split_paths).collect();
            variables.insert(name.to_owned(), joined(before.into_iter().chain(directories)));
        }
        variables
    }

    /// Sets a variable to what the function says or the layers have, and then what the emulator has.
    fn search(
        &self,
        variables: &mut BTreeMap<String, OsString>,
        own: &BTreeMap<String, String>,
        name: &str,
        layers: Vec<PathBuf>,
        provided: &[PathBuf],
    ) {
        let said = variables.get(name).cloned().or_else(|| own.get(name).map(OsString::from));
        let mut all: Vec<PathBuf> = said.map_or(layers, |said| env::split_paths(&said).collect());
        all.extend(self.inherited.get(name).into_iter().flat_map(env::split_paths));
        all.extend_from_slice(provided);
        if !all.is_empty() {
            variables.insert(name.to_owned(), joined(all));
        }
    }

    /// Directories of this name in the layers.
    fn existing(&self, names: &[&str]) -> Vec<PathBuf> {
        let in_layers = |name: &&str| self.layers.iter().map(|layer| layer.join(name)).collect::<Vec<_>>();
        names.iter().flat_map(in_layers).filter(|path| path.is_dir()).collect()
    }

    /// Where a path in `/opt` is in the layers. Other paths stay.
    fn local(&self, path: &Path) -> Vec<PathBuf> {
        let Ok(rest) = path.strip_prefix(OPT) else { return vec![path.to_owned()] };
        let found: Vec<PathBuf> =
            self.layers.iter().map(|layer| layer.join(rest)).filter(|path| path.exists()).collect();
        if found.is_empty() { vec![path.to_owned()] } else { found }
    }
}

/// Joins paths. Those that contain a colon cannot be in a list, and are left out.
fn joined(paths: impl IntoIterator<Item = PathBuf>) -> OsString {
    let is_listable = |path: &PathBuf| !path.as_os_str().as_encoded_bytes().contains(&b':');
    let paths: Vec<OsString> = paths.into_iter().filter(is_listable).map(PathBuf::into_os_string).collect();
    paths.join(OsStr::new(":"))
}

/// Returns the list of layers for a loader.
pub(super) fn list(directories: &[PathBuf]) -> OsString {
    joined(directories.iter().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn layers_are_searched_before_what_the_user_has_and_the_later_ones_first() {
        let root = tempfile::tempdir().expect("a directory");
        let (first, second) = (root.path().join("1"), root.path().join("2"));
        for made in ["nodejs/node_modules", "nodejs/node20/node_modules", "bin", "python/lib/python3.12/site-packages"]
        {
            fs::create_dir_all(first.join(made)).expect("created");
        }
        fs::create_dir_all(second.join("nodejs/node_modules")).expect("created");
        let layers = [second.clone(), first.clone()];
        let inherited = map(&[("NODE_PATH", "/mine"), ("PYTHONPATH", "/my/python")]);
        let provided = [PathBuf::from("/project/node_modules")];
        let of = |runtime: &str, own: &[(&str, &str)]| {
            SearchPaths { runtime, layers: &layers, inherited: &inherited, provided: &provided }.variables(&map(own))
        };
        let (one, two) = (first.display(), second.display());
        let node = of("nodejs20.x", &[("PATH", "/usr/bin"), ("A", "b:c")]);
        assert_eq!(
            node["NODE_PATH"].to_str(),
            Some(
                format!(
                    "{one}/nodejs/node20/node_modules:{two}/nodejs/node_modules:{one}/nodejs/node_modules:\
                     {two}/nodejs:{one}/nodejs:/mine:/project/node_modules"
                )
                .as_str()
            )
        );
        assert_eq!(node["PATH"].to_str(), Some(format!("/usr/bin:{one}/bin").as_str()));
        assert_eq!(node.keys().collect::<Vec<_>>(), ["NODE_PATH", "PATH"]);
        let own = [("NODE_PATH", "./:/opt/nodejs/node_modules"), ("FONTS", "/opt/bin"), ("NONE", "/opt/none")];
        let node = of("nodejs20.x", &own);
        let said = format!("./:{two}/nodejs/node_modules:{one}/nodejs/node_modules:/mine:/project/node_modules");
        assert_eq!(node["NODE_PATH"].to_str(), Some(said.as_str()));
        assert_eq!(node["FONTS"].to_str(), Some(format!("{one}/bin").as_str()));
        assert_eq!(node["NONE"], "/opt/none");
        let python = of("python3.12", &[]);
        let packages = format!("{one}/python/lib/python3.12/site-packages:{one}/python:/my/python");
        assert_eq!(python["PYTHONPATH"].to_str(), Some(packages.as_str()));
    }

    #[test]
    fn a_layer_is_given_by_its_arn_with_or_without_a_version() {
        let arn = "arn:aws:lambda:eu-central-1:123456789012:layer:greet";
        assert_eq!(without_version(&format!("{arn}:7")), arn);
        assert_eq!(without_version(arn), arn);
    }
}
