//! Where the code of a function is, and whether it has changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::template::{self, Code, Package};

/// Directories of dependencies and build output: a change in them restarts nothing.
const UNWATCHED: [&str; 6] = ["node_modules", "__pycache__", "target", ".git", ".aws-sam", ".venv"];

/// Files of one function that are watched. Changes of further files go unnoticed.
const WATCHED_FILES_MAX: usize = 2_000;

/// The state of a function's files: their number, their total size, and the time of the last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeVersion {
    files: usize,
    bytes: u64,
    newest: SystemTime,
}

impl CodeVersion {
    /// Reads the state of a file, or of all files below a directory.
    pub(super) fn of(path: &Path) -> Self {
        let mut version = Self { files: 0, bytes: 0, newest: SystemTime::UNIX_EPOCH };
        // If a file vanishes meanwhile, the next call sees the change.
        let _ = version.add(path);
        version
    }

    fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() {
            self.files += 1;
            self.bytes += metadata.len();
            self.newest = self.newest.max(metadata.modified()?);
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let unwatched = UNWATCHED.iter().any(|name| entry.file_name() == *name);
            if !unwatched && self.files < WATCHED_FILES_MAX {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Returns the directory or the zip file of a function's code.
pub(super) fn source(function: &template::Function, template: &Path, inline: &Path) -> Result<PathBuf, String> {
    let path = match &function.code {
        Code::Path(path) => template.join(path),
        Code::Inline(text) => return write_inline(function, text, inline),
        Code::Packaged(Package { key, .. }) => {
            let key = key.as_deref().unwrap_or("(unknown)");
            return Err(format!(
                "its code {key} is not beside the template: run `serverless package` or `cdk synth` again, or set \
                 CodeUri to a directory"
            ));
        }
    };
    let path = fs::canonicalize(&path).map_err(|error| format!("cannot read its code {}: {error}", path.display()))?;
    Ok(if path.is_dir() || is_zip(&path) { path } else { path.parent().map(Path::to_owned).unwrap_or(path) })
}

/// Whether a file is a zip file, by its name.
pub(super) fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip")) && path.is_file()
}

/// Writes inline code to a file `index` with the extension of the language, as in Lambda.
fn write_inline(function: &template::Function, text: &str, directory: &Path) -> Result<PathBuf, String> {
    let python = function.runtime.as_deref().is_some_and(|runtime| runtime.starts_with("python"));
    let directory = directory.join(&function.logical_id);
    let file = directory.join(if python { "index.py" } else { "index.js" });
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| format!("cannot write its code to {}: {error}", file.display()))?;
    Ok(directory)
}

/// Returns the program of a `provided` runtime: `bootstrap`, or the newest build of cargo or cargo-lambda.
pub(super) fn program(function: &template::Function, directory: &Path) -> Option<PathBuf> {
    let built = function.binary.iter().flat_map(|binary| {
        directory.ancestors().flat_map(move |above| {
            let target = above.join("target");
            [
                target.join("lambda").join(binary).join("bootstrap"),
                target.join("release").join(binary),
                target.join("debug").join(binary),
            ]
        })
    });
    let written = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let own = directory.join("bootstrap");
    if own.is_file() { Some(own) } else { built.filter(|path| path.is_file()).max_by_key(written) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_a_new_version_and_a_changed_dependency_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        };
        write("app.py", "one");
        write("lib/part.py", "one");
        let first = CodeVersion::of(directory.path());
        write("node_modules/a/index.js", "");
        write("__pycache__/app.pyc", "");
        assert_eq!(CodeVersion::of(directory.path()), first);
        write("lib/part.py", "three");
        let second = CodeVersion::of(directory.path());
        assert_ne!(second, first);
        write("more.py", "");
        assert_ne!(CodeVersion::of(directory.path()), second);
        assert_eq!(CodeVersion::of(Path::new("/nowhere")).files, 0);
    }
}
