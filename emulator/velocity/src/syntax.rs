//! The syntax tree. Chains are flat, so only brackets and blocks make it deep.

use crate::Position;

/// A part of a template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Text(Box<str>),
    Reference(Escaped),
    Set { target: Reference, value: Expression },
    If { branches: Vec<(Expression, Vec<Node>)>, otherwise: Vec<Node> },
    Foreach { variable: Box<str>, list: Expression, body: Vec<Node>, at: Position },
    Define { variable: Box<str>, body: Vec<Node> },
    Break,
    Stop,
}

/// A reference in text, with the backslashes before it.
#[derive(Clone, Debug)]
pub(crate) struct Escaped {
    pub(crate) backslashes: usize,
    /// As it stands in the template, for when it is escaped.
    pub(crate) literal: Box<str>,
    pub(crate) reference: Reference,
}

/// `$name` and what follows.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) name: Box<str>,
    pub(crate) accessors: Vec<Accessor>,
    pub(crate) at: Position,
}

/// A step from a value to another.
#[derive(Clone, Debug)]
pub(crate) enum Accessor {
    /// `.name`
    Property(Box<str>),
    /// `.name(…)`
    Method(Box<str>, Vec<Expression>),
    /// `[…]`
    Index(Expression),
}

/// What has a value.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Text(Box<str>),
    /// A text in double quotes that is a template of its own.
    Interpolated(Vec<Node>, Position),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Reference(Reference),
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    Range(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    /// Operands of the same rank, from left to right.
    Chain(Box<Expression>, Vec<(Operator, Expression)>),
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    /// How tightly it binds: the larger, the tighter.
    pub(crate) const fn rank(self) -> usize {
        match self {
            Self::Or => 0,
            Self::And => 1,
            Self::Equal | Self::NotEqual => 2,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => 3,
            Self::Add | Self::Subtract => 4,
            Self::Multiply | Self::Divide | Self::Remainder => 5,
        }
    }
}

/// Ranks that operators have.
pub(crate) const RANKS: usize = 6;
