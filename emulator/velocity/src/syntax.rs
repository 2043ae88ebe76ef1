//! The syntax tree. Chains of operators are flat, so only brackets and blocks make it deep.

use std::cmp::Ordering;

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

/// A reference in the text of a template, with the backslashes before it.
#[derive(Clone, Debug)]
pub(crate) struct Escaped {
    pub(crate) backslashes: usize,
    /// The source of the reference, which is written if it is escaped.
    pub(crate) literal: Box<str>,
    pub(crate) reference: Reference,
}

/// `$name` and its accessors.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) name: Box<str>,
    pub(crate) accessors: Vec<Accessor>,
    pub(crate) at: Position,
}

/// A property, method call or index after a reference.
#[derive(Clone, Debug)]
pub(crate) enum Accessor {
    /// `.name`
    Property(Box<str>),
    /// `.name(…)`
    Method(Box<str>, Vec<Expression>),
    /// `[…]`
    Index(Expression),
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Text(Box<str>),
    /// A string in double quotes that is a template of its own.
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
    /// Whether `<`, `<=`, `>` or `>=` holds for two values in this order; `false` for values without an order.
    pub(crate) fn holds(self, order: Option<Ordering>) -> bool {
        order.is_some_and(|order| match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            _ => false,
        })
    }

    /// Its precedence: the larger, the tighter it binds.
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

/// Signs of comparisons, the longer ones first.
pub(crate) const COMPARISONS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Number of ranks.
pub(crate) const RANKS: usize = 6;
