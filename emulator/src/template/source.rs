//! Where a template comes from.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::error::LoadError;

/// The source of a template.
#[derive(Clone, Debug)]
pub enum TemplateSource {
    /// A file. Paths in it are relative to its directory.
    File(PathBuf),
    /// The text itself.
    Text {
        /// The template, YAML or JSON.
        text: &'static str,
        /// The directory to which paths in it are relative.
        directory: PathBuf,
    },
}

impl From<PathBuf> for TemplateSource {
    fn from(file: PathBuf) -> Self {
        Self::File(file)
    }
}

/// The text of a template.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: Cow<'static, str>,
    /// For errors.
    pub(super) path: PathBuf,
    /// The directory to which paths in it are relative.
    pub(super) directory: PathBuf,
}

impl TemplateSource {
    pub(super) fn open(&self) -> Result<Source, LoadError> {
        match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| LoadError::Unreadable(path.clone(), error))?;
                let directory = path.parent().map(Path::to_owned).unwrap_or_default();
                Ok(Source { text: Cow::Owned(text), path: path.clone(), directory })
            }
            Self::Text { text, directory } => Ok(Source {
                text: Cow::Borrowed(text),
                path: directory.join("template.yaml"),
                directory: directory.clone(),
            }),
        }
    }
}
