//! What one rendering may use: steps, memory and depth.

use crate::{MEMORY_BYTES_MAX, NESTING_MAX, STEPS_MAX, TEXT_BYTES_MAX};

/// A bound that a template exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// [`STEPS_MAX`].
    #[error("the template takes more than {STEPS_MAX} steps")]
    Steps,
    /// [`MEMORY_BYTES_MAX`].
    #[error("the template uses more than {MEMORY_BYTES_MAX} bytes of memory")]
    Memory,
    /// [`TEXT_BYTES_MAX`].
    #[error("the template makes a text of more than {TEXT_BYTES_MAX} bytes")]
    Text,
    /// [`NESTING_MAX`].
    #[error("something is nested more than {NESTING_MAX} deep")]
    Nesting,
}

/// What is left.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: usize,
    memory_bytes: usize,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { steps: STEPS_MAX, memory_bytes: MEMORY_BYTES_MAX }
    }

    /// Takes steps.
    pub(crate) fn steps(&mut self, count: usize) -> Result<(), LimitExceeded> {
        self.steps = self.steps.checked_sub(count).ok_or(LimitExceeded::Steps)?;
        Ok(())
    }

    /// Takes memory.
    pub(crate) fn memory(&mut self, bytes: usize) -> Result<(), LimitExceeded> {
        self.memory_bytes = self.memory_bytes.checked_sub(bytes).ok_or(LimitExceeded::Memory)?;
        Ok(())
    }

    /// Appends to a text.
    pub(crate) fn push(&mut self, out: &mut String, text: &str) -> Result<(), LimitExceeded> {
        if out.len() + text.len() > TEXT_BYTES_MAX {
            return Err(LimitExceeded::Text);
        }
        self.memory(text.len())?;
        out.push_str(text);
        Ok(())
    }
}

/// Refuses a depth that is too large.
pub(crate) const fn nested(depth: usize) -> Result<(), LimitExceeded> {
    if depth > NESTING_MAX { Err(LimitExceeded::Nesting) } else { Ok(()) }
}
