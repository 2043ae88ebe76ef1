//! Errors of templates.

use std::{fmt, io, path::PathBuf};

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    pub(crate) resource: Option<String>,
    pub(crate) line: Option<usize>,
    message: String,
}

impl TemplateError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { resource: None, line: None, message: message.into() }
    }

    pub(super) fn at(line: usize, message: impl Into<String>) -> Self {
        Self { resource: None, line: Some(line), message: message.into() }
    }

    /// Adds what may help to the message.
    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        if let Some(hint) = hint {
            self.message = format!("{}; {hint}", self.message);
        }
        self
    }

    pub(super) fn in_resource(mut self, name: &str) -> Self {
        self.resource.get_or_insert_with(|| name.to_owned());
        self
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(resource) = &self.resource {
            write!(f, "{resource}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// A template file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the template {0}; name another with --template")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is not a template that the emulator can run.
    #[error("invalid template {0}")]
    Invalid(PathBuf, #[source] TemplateError),
}
