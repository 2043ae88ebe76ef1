//! A template as a tree, with `Globals` applied.

use super::{
    error::TemplateError,
    globals, intrinsics,
    yaml::{RepeatedKey, YamlError, YamlNode},
};

/// Most notes on repeated keys.
const REPEATED_NOTES_MAX: usize = 10;

/// A template as a tree.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: YamlNode,
    /// Notes on keys that stand more than once.
    pub(super) repeated: Vec<String>,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut root, repeated) = YamlNode::parse_repeating(text, intrinsics::long_form)
            .map_err(|YamlError { line, message }| TemplateError::at(line, message))?;
        globals::apply(&mut root)?;
        let note = |RepeatedKey { key, line }: &RepeatedKey| {
            format!("the key {key} stands twice: the value in line {line} counts, as with SAM")
        };
        Ok(Self { root, repeated: repeated.iter().take(REPEATED_NOTES_MAX).map(note).collect() })
    }
}
