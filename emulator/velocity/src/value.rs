//! Values of references and expressions.

use std::rc::Rc;

use indexmap::IndexMap;

/// The value of a reference or an expression.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Rc<str>),
    List(usize),
    Map(usize),
    /// An entry of a map.
    Entry(usize),
    /// `$foreach` of the loop at this depth.
    Loop(usize),
    /// A block of `#define`.
    Block(usize),
    /// `$input`
    Input,
    /// `$util`
    Util,
}

/// A key of a map. Lists and maps become keys as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(Rc<str>),
}

impl From<Key> for Value {
    fn from(key: Key) -> Self {
        match key {
            Key::Null => Self::Null,
            Key::Boolean(value) => Self::Boolean(value),
            Key::Integer(number) => Self::Integer(number),
            Key::Text(text) => Self::Text(text),
        }
    }
}

/// Entries of a map, in the order of insertion.
pub(crate) type Entries = IndexMap<Key, Value>;
