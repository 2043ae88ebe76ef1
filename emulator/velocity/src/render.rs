//! Renders the syntax tree.

use std::collections::HashMap;

use crate::{
    Inputs, Position, RenderCause, RenderError,
    budget::nested,
    heap::Heap,
    number,
    pattern::CompiledPattern,
    syntax::{Accessor, Escaped, Expression, Node, Operator, Reference},
    value::{Entries, Value},
};

/// How a block ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    /// `#break`: ends the loop, or the rendering outside a loop.
    Break,
    /// `#stop`: ends the rendering.
    Stop,
}

/// A running `#foreach`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loop {
    pub(crate) index: usize,
    pub(crate) len: usize,
}

#[derive(Debug)]
pub(crate) struct Renderer<'t, 'i> {
    pub(crate) inputs: &'i Inputs<'i>,
    pub(crate) heap: Heap,
    variables: HashMap<&'t str, Value>,
    pub(crate) loops: Vec<Loop>,
    blocks: Vec<&'t [Node]>,
    /// Variables of the service that the template has used.
    pub(crate) globals: HashMap<&'static str, Value>,
    /// Compiled patterns.
    pub(crate) patterns: HashMap<String, CompiledPattern>,
    depth: usize,
}

/// Adds a position to a cause.
fn place(at: Position) -> impl Fn(RenderCause) -> RenderError {
    move |cause| RenderError { at, cause }
}

impl<'t, 'i> Renderer<'t, 'i> {
    pub(crate) fn new(inputs: &'i Inputs<'i>) -> Self {
        Self {
            inputs,
            heap: Heap::new(),
            variables: HashMap::new(),
            loops: Vec::new(),
            blocks: Vec::new(),
            globals: HashMap::new(),
            patterns: HashMap::new(),
            depth: 0,
        }
    }

    pub(crate) fn render(mut self, nodes: &'t [Node]) -> Result<String, RenderError> {
        let mut out = String::new();
        self.nodes(nodes, &mut out, Position::START)?;
        Ok(out)
    }

    /// Renders nodes. `at` is the position for errors of nodes without their own.
    fn nodes(&mut self, nodes: &'t [Node], out: &mut String, at: Position) -> Result<Flow, RenderError> {
        self.depth += 1;
        nested(self.depth).map_err(|exceeded| place(at)(exceeded.into()))?;
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, out, at)?;
            if flow != Flow::On {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn node(&mut self, node: &'t Node, out: &mut String, at: Position) -> Result<Flow, RenderError> {
        self.heap.budget.steps(1).map_err(|exceeded| place(at)(exceeded.into()))?;
        match node {
            Node::Text(text) => {
                self.heap.budget.push(out, text).map_err(|exceeded| place(at)(exceeded.into()))?;
            }
            Node::Reference(escaped) => self.write_reference(escaped, out)?,
            Node::Set { target, value } => {
                let value = self.value(value, target.at)?;
                // As in Velocity, `#set` to nothing keeps the old value.
                if !matches!(value, Value::Null) {
                    self.assign(target, value)?;
                }
            }
            Node::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.holds(condition, at)? {
                        return self.nodes(body, out, at);
                    }
                }
                return self.nodes(otherwise, out, at);
            }
            Node::Foreach { variable, list, body, at } => return self.foreach(variable, list, body, *at, out),
            Node::Define { variable, body } => {
                self.heap.pay_for_items(1).map_err(|exceeded| place(at)(exceeded.into()))?;
                self.blocks.push(body);
                self.variables.insert(variable, Value::Block(self.blocks.len() - 1));
            }
            Node::Break => return Ok(Flow::Break),
            Node::Stop => return Ok(Flow::Stop),
        }
        Ok(Flow::On)
    }

    /// Writes a reference. An odd number of backslashes escapes one that has a value.
    fn write_reference(&mut self, escaped: &'t Escaped, out: &mut String) -> Result<(), RenderError> {
        let Escaped { backslashes, literal, reference } = escaped;
        let at = reference.at;
        let value = self.reference(reference)?;
        let mut kept = backslashes / 2;
        if backslashes % 2 == 1 && matches!(value, Value::Null) {
            kept += 1;
        }
        let prefix = "\\".repeat(kept);
        self.heap.budget.push(out, &prefix).map_err(|exceeded| place(at)(exceeded.into()))?;
        if backslashes % 2 == 1 {
            return self.heap.budget.push(out, literal).map_err(|exceeded| place(at)(exceeded.into()));
        }
        self.write(&value, out, at)
    }

    fn write(&mut self, value: &Value, out: &mut String, at: Position) -> Result<(), RenderError> {
        match value {
            Value::Block(block) => self.nodes(self.blocks[*block], out, at).map(drop),
            value => self.heap.write(value, out, 0).map_err(place(at)),
        }
    }

    fn foreach(
        &mut self,
        variable: &'t str,
        list: &'t Expression,
        body: &'t [Node],
        at: Position,
        out: &mut String,
    ) -> Result<Flow, RenderError> {
        let list = self.value(list, at)?;
        let Some(items) = self.heap.children(&list).map_err(place(at))? else { return Ok(Flow::On) };
        let before = self.variables.remove(variable);
        let len = items.len();
        self.loops.push(Loop { index: 0, len });
        let mut flow = Flow::On;
        for (index, item) in items.into_iter().enumerate() {
            if let Some(current) = self.loops.last_mut() {
                current.index = index;
            }
            self.heap.budget.steps(1).map_err(|exceeded| place(at)(exceeded.into()))?;
            self.variables.insert(variable, item);
            flow = self.nodes(body, out, at)?;
            if flow != Flow::On {
                break;
            }
        }
        self.loops.pop();
        match before {
            Some(before) => self.variables.insert(variable, before),
            None => self.variables.remove(variable),
        };
        Ok(if flow == Flow::Stop { Flow::Stop } else { Flow::On })
    }

    fn assign(&mut self, target: &'t Reference, value: Value) -> Result<(), RenderError> {
        let Some((last, path)) = target.accessors.split_last() else {
            self.variables.insert(&target.name, value);
            return Ok(());
        };
        let at = target.at;
        let mut owner = self.root(&target.name).map_err(place(at))?;
        for accessor in path {
            owner = self.access(&owner, accessor, at)?;
        }
        let key = match last {
            Accessor::Property(name) => self.heap.text(name).map_err(place(at))?,
            Accessor::Index(index) => self.value(index, at)?,
            Accessor::Method(..) => return Ok(()),
        };
        match (owner, &key) {
            (Value::Map(map), key) => {
                let key = self.heap.key(key).map_err(place(at))?;
                self.heap.pay_for_items(1).map_err(|exceeded| place(at)(exceeded.into()))?;
                self.heap.entries_mut(map).insert(key, value);
            }
            (Value::List(list), Value::Integer(index)) => {
                let position = self.item_at(list, *index).map_err(place(at))?;
                self.heap.items_mut(list)[position] = value;
            }
            // Velocity finds no setter and ignores it.
            _ => {}
        }
        Ok(())
    }

    /// The position of an item. A negative index counts from the end.
    pub(crate) fn item_at(&self, list: usize, index: i64) -> Result<usize, RenderCause> {
        let len = self.heap.items(list).len();
        let position = if index < 0 {
            usize::try_from(-i128::from(index)).ok().and_then(|back| len.checked_sub(back))
        } else {
            usize::try_from(index).ok()
        };
        position.filter(|position| *position < len).ok_or(RenderCause::NoSuchItem { index, len })
    }

    fn reference(&mut self, reference: &'t Reference) -> Result<Value, RenderError> {
        let mut value = self.root(&reference.name).map_err(place(reference.at))?;
        for accessor in &reference.accessors {
            if matches!(value, Value::Null) {
                break;
            }
            value = self.access(&value, accessor, reference.at)?;
        }
        Ok(value)
    }

    fn root(&mut self, name: &str) -> Result<Value, RenderCause> {
        self.heap.budget.steps(1)?;
        if let Some(value) = self.variables.get(name) {
            return Ok(value.clone());
        }
        match (name, self.loops.len().checked_sub(1)) {
            ("foreach", Some(depth)) => Ok(Value::Loop(depth)),
            ("velocityCount", Some(depth)) => self.loop_property(depth, "count"),
            _ => self.global(name),
        }
    }

    fn access(&mut self, value: &Value, accessor: &'t Accessor, at: Position) -> Result<Value, RenderError> {
        match accessor {
            Accessor::Property(name) => self.property(value, name).map_err(place(at)),
            Accessor::Method(name, arguments) => {
                let arguments = self.values(arguments, at)?;
                self.method(value, name, &arguments).map_err(place(at))
            }
            Accessor::Index(index) => {
                let index = self.value(index, at)?;
                match (value, &index) {
                    (Value::List(list), Value::Integer(index)) => {
                        let position = self.item_at(*list, *index).map_err(place(at))?;
                        Ok(self.heap.items(*list)[position].clone())
                    }
                    (Value::Map(map), index) => {
                        let key = self.heap.key(index).map_err(place(at))?;
                        Ok(self.heap.entries(*map).get(&key).cloned().unwrap_or(Value::Null))
                    }
                    (other, Value::Text(name)) => self.property(other, name).map_err(place(at)),
                    _ => Ok(Value::Null),
                }
            }
        }
    }

    fn values(&mut self, expressions: &'t [Expression], at: Position) -> Result<Vec<Value>, RenderError> {
        expressions.iter().map(|expression| self.value(expression, at)).collect()
    }

    fn value(&mut self, expression: &'t Expression, at: Position) -> Result<Value, RenderError> {
        self.depth += 1;
        nested(self.depth / 2)
            .and_then(|()| self.heap.budget.steps(1))
            .map_err(|exceeded| place(at)(exceeded.into()))?;
        let value = self.value_within(expression, at);
        self.depth -= 1;
        value
    }

    fn value_within(&mut self, expression: &'t Expression, at: Position) -> Result<Value, RenderError> {
        match expression {
            Expression::Text(text) => self.heap.text(text).map_err(place(at)),
            Expression::Interpolated(nodes, at) => {
                let mut out = String::new();
                self.nodes(nodes, &mut out, *at)?;
                Ok(Value::Text(out.into()))
            }
            Expression::Integer(number) => Ok(Value::Integer(*number)),
            Expression::Float(number) => Ok(Value::Float(*number)),
            Expression::Boolean(value) => Ok(Value::Boolean(*value)),
            Expression::Reference(reference) => self.reference(reference),
            Expression::List(items) => {
                let items = self.values(items, at)?;
                self.heap.list(items).map_err(place(at))
            }
            Expression::Map(pairs) => {
                let mut entries = Entries::new();
                for (key, value) in pairs {
                    let key = self.value(key, at)?;
                    let key = self.heap.key(&key).map_err(place(at))?;
                    let value = self.value(value, at)?;
                    entries.insert(key, value);
                }
                self.heap.map(entries).map_err(place(at))
            }
            Expression::Range(first, last) => {
                let (first, last) = (self.value(first, at)?, self.value(last, at)?);
                match (first, last) {
                    (Value::Integer(first), Value::Integer(last)) => self.range(first, last).map_err(place(at)),
                    _ => Ok(Value::Null),
                }
            }
            Expression::Not(operand) => self.holds(operand, at).map(|holds| Value::Boolean(!holds)),
            Expression::Chain(first, rest) => self.chain(first, rest, at),
        }
    }

    /// The whole numbers of a range, upwards or downwards.
    fn range(&mut self, first: i64, last: i64) -> Result<Value, RenderCause> {
        let count = usize::try_from(first.abs_diff(last)).unwrap_or(usize::MAX).saturating_add(1);
        self.heap.budget.steps(count)?;
        let items = if first <= last {
            (first..=last).map(Value::Integer).collect()
        } else {
            (last..=first).rev().map(Value::Integer).collect()
        };
        self.heap.list(items)
    }

    /// Whether a condition holds. Nothing, `false` and bare literals do not.
    fn holds(&mut self, expression: &'t Expression, at: Position) -> Result<bool, RenderError> {
        let value = self.value(expression, at)?;
        Ok(match (expression, value) {
            (_, Value::Boolean(value)) => value,
            (_, Value::Null) => false,
            (Expression::Reference(_), _) => true,
            _ => false,
        })
    }

    fn chain(
        &mut self,
        first: &'t Expression,
        rest: &'t [(Operator, Expression)],
        at: Position,
    ) -> Result<Value, RenderError> {
        // `or` and `and` evaluate only what they need.
        if let Some((operator @ (Operator::Or | Operator::And), _)) = rest.first() {
            let decided_by = *operator == Operator::Or;
            for operand in std::iter::once(first).chain(rest.iter().map(|(_, operand)| operand)) {
                if self.holds(operand, at)? == decided_by {
                    return Ok(Value::Boolean(decided_by));
                }
            }
            return Ok(Value::Boolean(!decided_by));
        }
        let mut left = self.value(first, at)?;
        for (operator, operand) in rest {
            let right = self.value(operand, at)?;
            left = self.operate(&left, *operator, &right, at)?;
        }
        Ok(left)
    }

    fn operate(&mut self, left: &Value, operator: Operator, right: &Value, at: Position) -> Result<Value, RenderError> {
        match operator {
            Operator::Equal => self.loosely_equal(left, right, at).map(Value::Boolean),
            Operator::NotEqual => self.loosely_equal(left, right, at).map(|equal| Value::Boolean(!equal)),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                Ok(Value::Boolean(operator.holds(number::compare(left, right))))
            }
            Operator::Add if matches!(left, Value::Text(_)) || matches!(right, Value::Text(_)) => {
                let mut text = String::new();
                self.write(left, &mut text, at)?;
                self.write(right, &mut text, at)?;
                Ok(Value::Text(text.into()))
            }
            _ => number::calculate(left, operator, right).map(|value| value.unwrap_or(Value::Null)).map_err(place(at)),
        }
    }

    /// `==`: values of different types are equal if they are written alike. Nothing equals the empty string.
    fn loosely_equal(&mut self, left: &Value, right: &Value, at: Position) -> Result<bool, RenderError> {
        match (left, right) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::Null, Value::Text(text)) | (Value::Text(text), Value::Null) => Ok(text.is_empty()),
            (Value::Null, _) | (_, Value::Null) => Ok(false),
            _ if number::compare(left, right).is_some()
                || std::mem::discriminant(left) == std::mem::discriminant(right) =>
            {
                self.heap.equal(left, right, 0).map_err(place(at))
            }
            _ => {
                let (mut one, mut other) = (String::new(), String::new());
                self.write(left, &mut one, at)?;
                self.write(right, &mut other, at)?;
                Ok(one == other)
            }
        }
    }
}
