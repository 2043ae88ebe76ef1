//! Where templates come from.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    error::LoadError,
    location::{self, Located, STACKS_MAX},
    samconfig,
};
use crate::{aws::STACK_NAME, files};

/// Largest template that is read, in bytes. CloudFormation takes 1 MB.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The source of a template.
#[derive(Clone, Debug)]
pub enum TemplateSource {
    /// Templates, directories with one, or sources of other tools whose templates are beside them. Several are stacks
    /// of one application. Paths in a template are relative to its directory.
    Paths(Vec<PathBuf>),
    /// The text itself.
    Text {
        /// The template, YAML or JSON.
        text: &'static str,
        /// The directory to which paths in it are relative.
        directory: PathBuf,
    },
}

impl From<PathBuf> for TemplateSource {
    fn from(path: PathBuf) -> Self {
        Self::Paths(vec![path])
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
    /// Name of the stack.
    pub(super) stack: String,
    /// Parameters of the project's configuration, which those of the user override.
    pub(super) configured: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
}

impl TemplateSource {
    /// Reads the templates.
    pub(super) fn open(&self) -> Result<Vec<Source>, LoadError> {
        match self {
            Self::Paths(paths) => {
                let mut located = Vec::new();
                for path in paths {
                    located.extend(location::find(path)?);
                }
                if located.len() > STACKS_MAX {
                    return Err(LoadError::TooManyStacks(paths.first().cloned().unwrap_or_default(), STACKS_MAX));
                }
                let is_one = located.len() == 1;
                let sources = located.into_iter().map(|located| open(located, is_one));
                let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
                for index in 1..sources.len() {
                    let (before, here) = sources.split_at_mut(index);
                    if before.iter().any(|source| source.stack == here[0].stack) {
                        here[0].stack += &format!("-{}", index + 1);
                    }
                }
                Ok(sources)
            }
            Self::Text { text, directory } => Ok(vec![Source {
                text: Cow::Borrowed(text),
                path: directory.join("template.yaml"),
                directory: directory.clone(),
                stack: STACK_NAME.to_owned(),
                configured: BTreeMap::new(),
                notes: Vec::new(),
            }]),
        }
    }
}

fn open(located: Located, is_one: bool) -> Result<Source, LoadError> {
    let Located { path, stack, outdated } = located;
    let text = files::read_text(&path, TEXT_BYTES_MAX).map_err(|error| LoadError::Unreadable(path.clone(), error))?;
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    let stack = if is_one { STACK_NAME.to_owned() } else { stack.unwrap_or_else(|| stack_of(&path)) };
    let configured = samconfig::parameters(&directory)?;
    Ok(Source { text: Cow::Owned(text), path, directory, stack, configured, notes: outdated.into_iter().collect() })
}

/// The name of a stack: that of its file, with the characters that such a name may have.
fn stack_of(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let is_generic = matches!(stem, "template" | "cloudformation-template-update-stack" | "");
    let above = path.ancestors().skip(1).filter_map(|above| above.file_name()?.to_str());
    let above = above.into_iter().find(|name| !name.starts_with('.'));
    let name = if is_generic { above.unwrap_or(stem) } else { stem };
    let clean = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    name.chars().map(clean).collect()
}
