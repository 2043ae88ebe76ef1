//! A template as a tree, with `Globals` applied.

use super::{
    error::TemplateError,
    globals, intrinsics, json_text,
    yaml::{RepeatedKey, YamlError, YamlNode},
};

/// A template as a tree.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: YamlNode,
    /// A note on keys that stand more than once, if there are any.
    pub(super) repeated: Option<String>,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let read = json_text::read(text).unwrap_or_else(|| YamlNode::parse_repeating(text, intrinsics::long_form));
        let (mut root, repeated) = read.map_err(|YamlError { line, message }| TemplateError::at(line, message))?;
        globals::apply(&mut root)?;
        let repeated = repeated.first().map(|RepeatedKey { key, line }| match repeated.len() {
            1 => format!("the key {key} stands twice: the value in line {line} counts, as with SAM"),
            count => format!(
                "{count} keys stand twice, the first of them {key}: the later value counts, there that in line {line}, \
                 as with SAM"
            ),
        });
        Ok(Self { root, repeated })
    }
}
