//! Mapping templates: the Velocity Template Language with the variables of API Gateway.
//!
//! A [`MappingTemplate`] is parsed once and rendered many times. Rendering is pure: the same [`Inputs`] give the same
//! text.
//!
//! The language is that of Velocity 1.7: the tests compare several hundred templates with its output. Where API Gateway
//! was recorded to differ, this crate does what API Gateway does:
//!
//! - a reference to nothing renders as nothing, quiet or not; Velocity writes the reference itself;
//! - nothing equals the empty string;
//! - a list from JSON renders as JSON, including everything in it; a map renders as `{key=value}`.
//!
//! [`MappingTemplate::parse`] refuses `#macro`, `#parse`, `#include`, `#evaluate` and `#literal`. A call of a Java
//! method that is not in [the catalogue](crate#methods) renders as nothing, as if the method did not exist.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use serde_json::Map;
//! use velocity::{Inputs, MappingTemplate};
//!
//! let template = MappingTemplate::parse("hello $input.path('$.name')")?;
//! let (none, no_variables) = (Map::new(), BTreeMap::new());
//! let inputs = Inputs {
//!     body: r#"{"name": "world"}"#,
//!     read_json: |json| serde_json::from_str(json),
//!     context: &none,
//!     stage_variables: &no_variables,
//!     parameters: &none,
//! };
//! assert_eq!(template.render(&inputs)?, "hello world");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Methods
//!
//! - strings: `charAt`, `compareTo`, `concat`, `contains`, `endsWith`, `equals`, `equalsIgnoreCase`, `indexOf`,
//!   `isEmpty`, `lastIndexOf`, `length`, `matches`, `replace`, `replaceAll`, `replaceFirst`, `split`, `startsWith`,
//!   `substring`, `toLowerCase`, `toString`, `toUpperCase`, `trim`; positions count UTF-16 units. Patterns are those of
//!   the `regex` crate, without lookaround and backreferences;
//! - lists: `add`, `addAll`, `clear`, `contains`, `containsAll`, `count`, `equals`, `get`, `indexOf`, `isEmpty`,
//!   `lastIndexOf`, `remove`, `set`, `size`, `subList` (a copy), `toString`;
//! - maps: `clear`, `containsKey`, `containsValue`, `entrySet`, `equals`, `get`, `getOrDefault`, `isEmpty`, `keySet`,
//!   `put`, `putAll`, `putIfAbsent`, `remove`, `size`, `toString`, `values`; entries: `getKey`, `getValue`;
//! - numbers: `abs`, `compareTo`, `doubleValue`, `equals`, `intValue`, `longValue`, `max`, `min`, `parseDouble`,
//!   `parseInt`, `parseLong`, `toString`, `valueOf`; booleans: `booleanValue`, `equals`, `toString`.

mod budget;
mod expression;
mod heap;
mod json_path;
mod lexer;
mod methods;
mod number;
mod parser;
mod pattern;
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

/// Deepest nesting of blocks, brackets and values, in a template and while it is rendered. Our own choice: far above
/// templates that people write, and within the stack of a thread.
pub const NESTING_MAX: usize = 48;

/// Most steps of one rendering: nodes evaluated, items visited, and the cost of patterns. Our own choice: tenths of a
/// second.
pub const STEPS_MAX: usize = 1_000_000;

/// Largest string that a template may make, its output included, in bytes. Our own choice: eight times the largest
/// message.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Most memory for all values of one rendering, in bytes. Our own choice.
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

/// An error in the syntax of a template, and where. Within a string in double quotes, the position is that of the first
/// quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    message: String,
}

/// Why a template cannot be rendered with these inputs, and where it fails.
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
    /// It exceeds a limit.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The list has no item with this index.
    #[error("index {index} is out of range: the list has {len} items")]
    NoSuchItem {
        /// The index.
        index: i64,
        /// The number of items.
        len: usize,
    },
    /// A method was called with an invalid argument.
    #[error("{method}: {message}")]
    Method {
        /// Its name.
        method: String,
        /// What is wrong.
        message: String,
    },
    /// A JSONPath is invalid or not supported.
    #[error("invalid JSONPath {path}: {message}")]
    JsonPath {
        /// The text.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A whole number does not fit in 64 bits.
    #[error("a whole number does not fit in 64 bits")]
    Overflow,
}

/// The inputs of a rendering.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `$input.body`, which `$input.path(…)` and `$input.json(…)` read as JSON. If it is not JSON, they read it as one
    /// string.
    pub body: &'a str,
    /// Reads JSON: the body, and the argument of `$util.parseJson(…)`.
    pub read_json: fn(&str) -> Result<Value, serde_json::Error>,
    /// `$context`. As in the service, scalars in `authorizer` become strings.
    pub context: &'a Map<String, Value>,
    /// `$stageVariables`.
    pub stage_variables: &'a BTreeMap<String, String>,
    /// `$input.params()`: objects `path`, `querystring` and `header` with a string for each name.
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
    /// If Velocity would refuse the template, it has a directive that this crate refuses, or it exceeds
    /// [`TEMPLATE_BYTES_MAX`] or [`NESTING_MAX`].
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self { nodes: Parser::new(text).template()? })
    }

    /// Renders the template.
    ///
    /// # Errors
    ///
    /// If Velocity would throw, such as for an index outside a list, or the rendering exceeds [`NESTING_MAX`],
    /// [`STEPS_MAX`], [`TEXT_BYTES_MAX`] or [`MEMORY_BYTES_MAX`].
    pub fn render(&self, inputs: &Inputs<'_>) -> Result<String, RenderError> {
        Renderer::new(inputs).render(&self.nodes)
    }
}
