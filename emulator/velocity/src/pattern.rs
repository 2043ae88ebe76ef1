//! Patterns of the methods that match text.

use regex::Regex;

#[derive(Clone, Debug)]
pub(crate) struct CompiledPattern {
    pub(crate) regex: Regex,
    /// Longest text that it can match, if that is bounded: how far a search looks ahead.
    pub(crate) match_bytes_max: Option<usize>,
}
