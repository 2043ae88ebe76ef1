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
    /// The directory has no template, and nothing that makes one.
    #[error(
        "no template in {0}: expected template.yaml, template.yml or template.json, or what `serverless package` or \
         `cdk synth` writes; name another place with --template"
    )]
    Nothing(PathBuf),
    /// The file is the source of a template that another tool writes.
    #[error("no template has been made of {0} yet: run `{1}` in its directory first")]
    NotPackaged(PathBuf, &'static str),
    /// The file is in a language from which nothing here makes a template.
    #[error(
        "{0} is in the language of Terraform, which the emulator does not read: write the routes and functions once \
         more as a SAM template beside the same code, as docs/terraform.md shows"
    )]
    Terraform(PathBuf),
    /// The parameters of SAM CLI beside the template cannot be read.
    #[error("cannot read the parameters in {0}: correct it")]
    Samconfig(PathBuf, #[source] Box<toml::de::Error>),
    /// The directory has more stacks than the emulator reads.
    #[error("{0} has more than {1} stacks: name some of their templates with --template")]
    TooManyStacks(PathBuf, usize),
    /// The file is not a template that the emulator can run.
    #[error("invalid template {0}")]
    Invalid(PathBuf, #[source] TemplateError),
}
