//! Where the code of a function is, and whether it has changed.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::template::{self, Code, Package};

/// Directories of dependencies, tools and build output: a change in them restarts nothing.
const UNWATCHED: [&str; 12] = [
    "node_modules",
    "__pycache__",
    "venv",
    ".venv",
    ".git",
    ".hg",
    ".svn",
    ".idea",
    ".vscode",
    ".aws-sam",
    ".serverless",
    "cdk.out",
];

/// Files that mark such directories, whatever their names are: virtual environments of Python, and what cargo and
/// others build or cache.
const UNWATCHED_MARKS: [&str; 2] = ["pyvenv.cfg", "CACHEDIR.TAG"];

/// Files and directories of one function that are watched, of which those in upper directories come first. Looking at
/// as many before each invocation takes some milliseconds.
pub(super) const WATCHED_MAX: usize = 5_000;

/// The state of a function's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeVersion {
    files: usize,
    /// Changes with the name, size, time or identity of any file, and does not depend on their order.
    fingerprint: u64,
    /// Whether all files were looked at.
    pub(super) is_complete: bool,
}

impl CodeVersion {
    /// Reads the state of a file, or of all files below a directory. What cannot be read does not count: the function
    /// cannot read it either.
    pub(super) fn of(path: &Path) -> Self {
        let mut version = Self { files: 0, fingerprint: 0, is_complete: true };
        // Links may lead in circles.
        let mut seen = BTreeSet::new();
        let mut waiting: VecDeque<PathBuf> = [path.to_owned()].into();
        let mut left = WATCHED_MAX;
        while let Some(path) = waiting.pop_front() {
            // Fails for links that lead nowhere, as the locks of editors do, and for what vanished meanwhile.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !metadata.is_dir() {
                version.add(&path, &metadata);
                continue;
            }
            if !seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let entries = fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let names: Vec<_> = entries.filter(|name| !is_unwatched(name)).collect();
            let is_marked = names.iter().any(|name| UNWATCHED_MARKS.iter().any(|mark| name == mark));
            if is_marked && seen.len() > 1 {
                continue;
            }
            version.is_complete &= names.len() <= left;
            waiting.extend(names.iter().take(left).map(|name| path.join(name)));
            left = left.saturating_sub(names.len());
        }
        version
    }

    /// The state of two places together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            fingerprint: self.fingerprint.wrapping_add(other.fingerprint),
            is_complete: self.is_complete && other.is_complete,
        }
    }

    fn add(&mut self, path: &Path, metadata: &fs::Metadata) {
        let mut hasher = DefaultHasher::new();
        (path, metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()).hash(&mut hasher);
        self.files += 1;
        self.fingerprint = self.fingerprint.wrapping_add(hasher.finish());
    }
}

/// Whether an entry of a directory is no code: a directory of dependencies, or what an editor keeps beside a file that
/// it has open (Emacs `.#a.py`, `#a.py#` and `a.py~`; Vim `.a.py.swp` and `4913`; JetBrains `a.py___jb_tmp___`).
fn is_unwatched(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is_swap = name.rsplit_once(".sw").is_some_and(|(_, last)| name.starts_with('.') && last.len() == 1);
    let is_lock = name.starts_with(".#") || (name.starts_with('#') && name.ends_with('#'));
    let is_copy = name.ends_with('~') || name.ends_with("___jb_tmp___") || name.ends_with("___jb_old___");
    is_swap || is_lock || is_copy || name == "4913" || UNWATCHED.contains(&name.as_ref())
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
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(directory: &Path, name: &str, text: &str) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn a_changed_file_is_a_new_version_and_a_changed_dependency_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| write(directory.path(), name, text);
        write("app.py", "one");
        write("lib/part.py", "one");
        let first = CodeVersion::of(directory.path());
        write("node_modules/a/index.js", "");
        write("__pycache__/app.pyc", "");
        write("target/CACHEDIR.TAG", "");
        write("target/debug/app", "");
        assert_eq!(CodeVersion::of(directory.path()), first);
        write("lib/part.py", "three");
        let second = CodeVersion::of(directory.path());
        assert_ne!(second, first);
        write("more.py", "");
        assert_ne!(CodeVersion::of(directory.path()), second);
        assert_eq!(CodeVersion::of(Path::new("/nowhere")).files, 0);
    }

    #[test]
    fn a_file_that_replaces_another_of_its_size_and_time_is_a_new_version() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), "app.py", "one");
        write(directory.path(), "b/app.py", "two");
        let time = fs::metadata(directory.path().join("app.py")).and_then(|metadata| metadata.modified());
        let other = fs::File::options().write(true).open(directory.path().join("b/app.py")).expect("opened");
        other.set_modified(time.expect("a time")).expect("set");
        let first = CodeVersion::of(&directory.path().join("app.py"));
        fs::rename(directory.path().join("b/app.py"), directory.path().join("app.py")).expect("renamed");
        assert_ne!(CodeVersion::of(&directory.path().join("app.py")), first);
    }

    #[test]
    fn virtual_environments_links_and_locks_hide_no_change_and_are_none() {
        for venv in ["venv/lib/m{}.py", "own/lib/m{}.py"] {
            let directory = tempfile::tempdir().expect("a directory");
            let root = directory.path();
            write(root, "app.py", "one");
            write(root, "deep/er/part.py", "one");
            let first = CodeVersion::of(root);
            write(root, "own/pyvenv.cfg", "");
            (0..=WATCHED_MAX).for_each(|n| write(root, &venv.replace("{}", &n.to_string()), ""));
            for (target, link) in [(".", "loop"), ("../..", "deep/er/up"), ("me@host.123:456", ".#app.py")] {
                symlink(target, root.join(link)).expect("linked");
            }
            symlink("itself", root.join("itself")).expect("linked");
            for lock in [".app.py.swp", "app.py~", "#app.py#", "4913", "app.py___jb_tmp___"] {
                write(root, lock, "");
            }
            assert_eq!(CodeVersion::of(root), first);
            assert!(first.is_complete);
            write(root, "deep/er/part.py", "three");
            assert_ne!(CodeVersion::of(root), first);
        }
    }

    #[test]
    fn of_too_many_files_those_in_upper_directories_are_watched_and_the_version_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        (0..=WATCHED_MAX).for_each(|n| write(directory.path(), &format!("a/m{n}.py"), ""));
        write(directory.path(), "z/app.py", "one");
        let first = CodeVersion::of(directory.path());
        assert!(!first.is_complete);
        write(directory.path(), "app.py", "one");
        assert_ne!(CodeVersion::of(directory.path()), first);
    }
}
