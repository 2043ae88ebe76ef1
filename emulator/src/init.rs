//! The smallest project that works, here and on AWS: `apigw-local init`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::variables::quoted;

/// The files of the project, by their paths in it.
const FILES: [(&str, &str); 2] =
    [("template.yaml", include_str!("init/template.yaml")), ("src/app.mjs", include_str!("init/app.mjs"))];

/// Why no project can be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// It would replace a file.
    #[error("{0} exists: name a directory without it, such as apigw-local init my-api")]
    Exists(PathBuf),
    /// A file or directory cannot be written.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
}

/// Writes the project to a directory, which need not exist, and returns what to tell the user. Replaces no file.
pub(crate) fn write(directory: &Path) -> Result<String, InitError> {
    let files = FILES.map(|(path, text)| (directory.join(path), text));
    if let Some((path, _)) = files.iter().find(|(path, _)| fs::symlink_metadata(path).is_ok()) {
        return Err(InitError::Exists(path.clone()));
    }
    for (path, text) in &files {
        let parent = path.parent().unwrap_or(directory);
        // Not even through a link to a file that does not exist.
        let created = fs::create_dir_all(parent).and_then(|()| File::create_new(path));
        created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => InitError::Exists(path.clone()),
            _ => InitError::Write(path.clone(), error),
        })?;
    }
    let [template, code] = files.map(|(path, _)| path.display().to_string());
    let start = if directory == Path::new(".") {
        "apigw-local".to_owned()
    } else {
        format!("apigw-local --template {}", quoted(&directory.to_string_lossy()))
    };
    Ok(format!("wrote {template} and {code}\nnext: {start}\n"))
}
