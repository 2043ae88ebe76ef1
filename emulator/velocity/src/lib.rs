//! Mapping templates: the Velocity Template Language with the variables that API Gateway gives to it.
//!
//! A [`MappingTemplate`] is parsed once and rendered many times. Rendering is pure: the same [`Inputs`] give the same text.
//!
//! The language is that of Velocity 1.7, whose answers to several hundred templates the tests of this crate hold. In three
//! points the service was recorded to differ, and the service wins:
//!
//! - a reference to nothing is rendered as nothing, quiet or not, where Velocity writes the reference itself;
//! - nothing equals the empty text;
//! - a list that comes from JSON is written as JSON, with all that is in it; a map is written as `{key=value}`.
//!
//! Left out, and refused by [`MappingTemplate::parse`]: `#macro`, `#parse`, `#include`, `#evaluate` and `#literal`. Java methods
//! that are not in [the catalogue](crate#methods) are rendered as nothing, as a method is that does not exist.
//!
//! # Methods
//!
//! - text: `charAt`, `compareTo`, `concat`, `contains`, `endsWith`, `equals`, `equalsIgnoreCase`, `indexOf`, `isEmpty`,
//!   `lastIndexOf`, `length`, `matches`, `replace`, `replaceAll`, `replaceFirst`, `split`, `startsWith`, `substring`,
//!   `toLowerCase`, `toString`, `toUpperCase`, `trim`; positions count UTF-16 units. Patterns are those of the `regex`
//!   crate, which has no lookaround and no backreferences;
//! - lists: `add`, `addAll`, `clear`, `contains`, `containsAll`, `count`, `equals`, `get`, `indexOf`, `isEmpty`,
//!   `lastIndexOf`, `remove`, `set`, `size`, `subList` (a copy), `toString`;
//! - maps: `clear`, `containsKey`, `containsValue`, `entrySet`, `equals`, `get`, `getOrDefault`, `isEmpty`, `keySet`,
//!   `put`, `putAll`, `putIfAbsent`, `remove`, `size`, `toString`, `values`; entries: `getKey`, `getValue`;
//! - numbers: `abs`, `compareTo`, `doubleValue`, `equals`, `intValue`, `longValue`, `max`, `min`, `parseDouble`, `parseInt`,
//!   `parseLong`, `toString`, `valueOf`; truth values: `booleanValue`, `equals`, `toString`.

mod budget;
mod expression;
mod json_path;
mod lexer;
mod methods;
mod number;
mod parser;
mod render;
mod syntax;
mod value;
mod variables;

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

pub use self::budget::LimitExceeded;
use self::{parser::Parser, render::Renderer, syntax::Node};

/// Largest template, in bytes. Source: API Gateway quotas.
pub const TEMPLATE_BYTES_MAX: usize = 300 * 1024;

/// Deepest nesting of blocks, brackets and values, in a template and while it is rendered. Our own choice: no template of a
/// person comes near it, and the stack of a thread holds it.
pub const NESTING_MAX: usize = 48;

/// Most steps of one rendering: nodes evaluated, items visited, and what a pattern costs. Our own choice: some tenths of a
/// second.
pub const STEPS_MAX: usize = 1_000_000;

/// Largest text that a template may make, in bytes. Our own choice: eight times the largest message.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Memory that one rendering may use for all its values together, in bytes. Our own choice.
pub const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A place in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl Position {
    const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A text that is no template, and where. Within a text in double quotes the place is that of its first quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    message: String,
}

/// A template that cannot be rendered with these inputs, and where it fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {cause}")]
pub struct RenderError {
    /// Where.
    pub at: Position,
    /// Why.
    pub cause: RenderCause,
}

/// Why a template cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderCause {
    /// It is too large a piece of work.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// There is no item of this index.
    #[error("there is no item {index} in a list of {len}; ask for the size first")]
    NoSuchItem {
        /// The index.
        index: i64,
        /// How many items there are.
        len: usize,
    },
    /// A method was called with something that it cannot take.
    #[error("{method}: {message}")]
    Method {
        /// Its name.
        method: String,
        /// What is wrong.
        message: String,
    },
    /// A text is no JSONPath that is understood.
    #[error("the JSONPath {path} is not understood: {message}")]
    JsonPath {
        /// The text.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A whole number left the 64 bits that it has here.
    #[error("a whole number is too large: it has 64 bits")]
    Overflow,
}

/// What a template sees.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `$input.body`, and what the paths of `$input.path(…)` and `$input.json(…)` lead into. A body that is no JSON counts
    /// as one text there.
    pub body: &'a str,
    /// `$context`. Scalars in `authorizer` are handed out as text, as the service does.
    pub context: &'a Map<String, Value>,
    /// `$stageVariables`.
    pub stage_variables: &'a BTreeMap<String, String>,
    /// `$input.params()`: objects `path`, `querystring` and `header` with a text for each name.
    pub parameters: &'a Map<String, Value>,
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct MappingTemplate {
    nodes: Vec<Node>,
}

impl MappingTemplate {
    /// Parses the text of a template.
    ///
    /// # Errors
    ///
    /// Where Velocity refuses the text, where it has a directive that is left out here, and where it exceeds
    /// [`TEMPLATE_BYTES_MAX`] or [`NESTING_MAX`].
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self { nodes: Parser::new(text).template()? })
    }

    /// Renders the template.
    ///
    /// # Errors
    ///
    /// Where Velocity throws, such as on an index outside of a list, and where the work exceeds [`NESTING_MAX`],
    /// [`STEPS_MAX`], [`TEXT_BYTES_MAX`] or [`MEMORY_BYTES_MAX`].
    pub fn render(&self, inputs: &Inputs<'_>) -> Result<String, RenderError> {
        Renderer::new(inputs).render(&self.nodes)
    }
}
