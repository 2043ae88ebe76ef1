//! Limits of one rendering: steps, memory, output and depth.

use crate::{MEMORY_BYTES_MAX, NESTING_MAX, STEPS_MAX, TEXT_BYTES_MAX};

/// A limit that a template exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// [`STEPS_MAX`].
    #[error("the template takes more than {STEPS_MAX} steps")]
    Steps,
    /// [`MEMORY_BYTES_MAX`].
    #[error("the template uses more than {MEMORY_BYTES_MAX} bytes of memory")]
    Memory,
    /// [`TEXT_BYTES_MAX`].
    #[error("the template makes a string of more than {TEXT_BYTES_MAX} bytes")]
    Text,
    /// [`NESTING_MAX`].
    #[error("nested more than {NESTING_MAX} deep")]
    Nesting,
}

/// What a rendering may still use.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: usize,
    memory_bytes: usize,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { steps: STEPS_MAX, memory_bytes: MEMORY_BYTES_MAX }
    }

    pub(crate) fn steps(&mut self, count: usize) -> Result<(), LimitExceeded> {
        self.steps = self.steps.checked_sub(count).ok_or(LimitExceeded::Steps)?;
        Ok(())
    }

    pub(crate) fn memory(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        self.memory_bytes = self.memory_bytes.checked_sub(bytes).ok_or(LimitExceeded::Memory)?;
        Ok(())
    }

    /// Appends to the output or to a string.
    pub(crate) fn push(&mut self, out: &mut String, text: &str) -> Result<(), LimitExceeded> {
        if out.len() + text.len() > TEXT_BYTES_MAX {
            return Err(LimitExceeded::Text);
        }
        self.memory(text.len())?;
        out.push_str(text);
        Ok(())
    }
}

/// Checks the depth of nesting.
pub(crate) const fn nested(depth: usize) -> Result<(), LimitExceeded> {
    if depth > NESTING_MAX { Err(LimitExceeded::Nesting) } else { Ok(()) }
}
