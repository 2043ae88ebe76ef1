//! JSONPath for `$input.path(…)` and `$input.json(…)`: a subset of the language of Jayway's library.
//!
//! Supported are `.name`, `['name']`, `[0]`, `[-1]`, lists of names and indexes, slices `[1:3]`, the wildcards `.*` and
//! `[*]`, the deep scan `..`, and filters `[?(…)]` with paths of `@`, comparisons, `&&`, `||`, `!` and brackets. Not
//! supported are functions such as `.length()`, filter operators such as `in` and `=~`, and paths of `$` within
//! filters.

use crate::{
    NESTING_MAX, RenderCause,
    budget::nested,
    heap::Heap,
    number,
    syntax::{COMPARISONS, Operator},
    value::{Key, Value},
};

/// A parsed path.
#[derive(Debug)]
pub(crate) struct JsonPath(Vec<PathStep>);

#[derive(Debug)]
enum PathStep {
    Select(Selector),
    /// The selector applied to the value and everything below it.
    Deep(Selector),
}

#[derive(Debug)]
enum Selector {
    All,
    Names(Vec<String>),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Filter),
}

#[derive(Debug)]
enum Filter {
    Or(Vec<Filter>),
    And(Vec<Filter>),
    Not(Box<Filter>),
    Exists(JsonPath),
    Compare(Operand, Operator, Operand),
}

#[derive(Debug)]
enum Operand {
    Path(JsonPath),
    Literal(serde_json::Value),
}

impl JsonPath {
    pub(crate) fn parse(path: &str) -> Result<Self, RenderCause> {
        let text = path.trim();
        let failed = |message: String| RenderCause::JsonPath { path: path.to_owned(), message };
        // A path without a root starts at the root.
        let rooted = match text.strip_prefix('$') {
            Some(rest) => rest.to_owned(),
            None if text.starts_with('[') => text.to_owned(),
            None => format!(".{text}"),
        };
        let mut parser = PathParser { text: &rooted, offset: 0, depth: 0 };
        let steps = parser.steps().map_err(failed)?;
        match parser.rest() {
            "" => Ok(Self(steps)),
            rest => Err(failed(format!("unexpected {rest}"))),
        }
    }

    /// Whether the path leads to one value at most.
    fn is_definite(&self) -> bool {
        self.0.iter().all(|step| match step {
            PathStep::Select(Selector::Names(names)) => names.len() == 1,
            PathStep::Select(Selector::Indexes(indexes)) => indexes.len() == 1,
            _ => false,
        })
    }

    /// Finds the value at the path, if there is one. A path that may lead to several values returns a list.
    pub(crate) fn find(&self, heap: &mut Heap, root: &Value) -> Result<Option<Value>, RenderCause> {
        let mut found = self.walk(heap, root)?;
        if self.is_definite() { Ok(found.pop()) } else { heap.json_list(found).map(Some) }
    }

    fn walk(&self, heap: &mut Heap, root: &Value) -> Result<Vec<Value>, RenderCause> {
        let mut values = vec![root.clone()];
        for step in &self.0 {
            let mut found = Vec::new();
            for value in &values {
                match step {
                    PathStep::Select(selector) => selector.select(heap, value, &mut found)?,
                    PathStep::Deep(selector) => selector.select_deep(heap, value, &mut found, 0)?,
                }
            }
            values = found;
        }
        Ok(values)
    }
}

impl Selector {
    fn select(&self, heap: &mut Heap, value: &Value, found: &mut Vec<Value>) -> Result<(), RenderCause> {
        let before = found.len();
        match (self, value) {
            (Self::Names(names), Value::Map(map)) => {
                heap.budget.steps(names.len())?;
                let fields = names.iter().filter_map(|name| heap.entries(*map).get(&Key::Text(name.as_str().into())));
                found.extend(fields.cloned());
            }
            (Self::Indexes(indexes), Value::List(list)) => {
                heap.budget.steps(indexes.len())?;
                let items = heap.items(*list);
                found.extend(indexes.iter().filter_map(|index| items.get(from_start(*index, items.len())?)).cloned());
            }
            (Self::Slice(start, end, step), Value::List(list)) => {
                let items = heap.items(*list);
                let bound = |index: Option<i64>, default: usize| match index {
                    None => default,
                    Some(index) if index < 0 => from_start(index, items.len()).unwrap_or(0),
                    Some(index) => usize::try_from(index).unwrap_or(usize::MAX).min(items.len()),
                };
                let (start, end) = (bound(*start, 0), bound(*end, items.len()));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                found.extend(items.get(start..end).unwrap_or_default().iter().step_by(step).cloned());
            }
            (Self::All | Self::Filter(_), value) => {
                for child in heap.children(value)?.unwrap_or_default() {
                    let wanted = match self {
                        Self::Filter(filter) => filter.holds(heap, &child)?,
                        _ => true,
                    };
                    if wanted {
                        found.push(child);
                    }
                }
            }
            _ => {}
        }
        Ok(heap.pay_for_items(1 + found.len() - before)?)
    }

    fn select_deep(
        &self,
        heap: &mut Heap,
        value: &Value,
        found: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), RenderCause> {
        nested(depth)?;
        self.select(heap, value, found)?;
        for child in heap.children(value)?.unwrap_or_default() {
            self.select_deep(heap, &child, found, depth + 1)?;
        }
        Ok(())
    }
}

/// An index from the start; a negative one counts from the end.
fn from_start(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => len.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

impl Filter {
    fn holds(&self, heap: &mut Heap, value: &Value) -> Result<bool, RenderCause> {
        heap.budget.steps(1)?;
        match self {
            Self::Or(filters) => {
                for filter in filters {
                    if filter.holds(heap, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::And(filters) => {
                for filter in filters {
                    if !filter.holds(heap, value)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Not(filter) => filter.holds(heap, value).map(|holds| !holds),
            Self::Exists(path) => path.walk(heap, value).map(|found| !found.is_empty()),
            Self::Compare(left, comparison, right) => {
                let (left, right) = (left.value(heap, value)?, right.value(heap, value)?);
                let (Some(left), Some(right)) = (left, right) else {
                    return Ok(matches!(comparison, Operator::NotEqual));
                };
                let order = match (&left, &right) {
                    (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
                    _ => number::compare(&left, &right),
                };
                Ok(match comparison {
                    Operator::Equal => heap.equal(&left, &right, 0)?,
                    Operator::NotEqual => !heap.equal(&left, &right, 0)?,
                    comparison => comparison.holds(order),
                })
            }
        }
    }
}

impl Operand {
    fn value(&self, heap: &mut Heap, value: &Value) -> Result<Option<Value>, RenderCause> {
        match self {
            Self::Path(path) => path.find(heap, value),
            Self::Literal(literal) => heap.json(literal, 0).map(Some),
        }
    }
}

#[derive(Debug)]
struct PathParser<'p> {
    text: &'p str,
    offset: usize,
    depth: usize,
}

impl<'p> PathParser<'p> {
    fn rest(&self) -> &'p str {
        &self.text[self.offset..]
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.offset += text.len();
        }
        found
    }

    fn space(&mut self) {
        self.offset += self.rest().len() - self.rest().trim_start().len();
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        self.space();
        if self.eat(text) { Ok(()) } else { Err(format!("{text} is missing before \"{}\"", self.rest())) }
    }

    fn steps(&mut self) -> Result<Vec<PathStep>, String> {
        let mut steps = Vec::new();
        loop {
            let deep = self.eat("..");
            let selector = if self.eat("[") {
                self.brackets()?
            } else if deep || self.eat(".") {
                self.name()?
            } else {
                return Ok(steps);
            };
            steps.push(if deep { PathStep::Deep(selector) } else { PathStep::Select(selector) });
        }
    }

    /// Parses a name after a dot, or `*`.
    fn name(&mut self) -> Result<Selector, String> {
        if self.eat("*") {
            return Ok(Selector::All);
        }
        let rest = self.rest();
        let ends = |c: char| {
            matches!(c, '.' | '[' | ' ' | '(' | ')' | '=' | '!' | '<' | '>' | '&' | '|' | '\'' | '"' | ']' | ',')
        };
        let end = rest.find(ends).unwrap_or(rest.len());
        if end == 0 {
            return Err("a name is missing after the dot".to_owned());
        }
        if rest[end..].starts_with('(') {
            return Err(format!("functions such as {}() are not supported", &rest[..end]));
        }
        self.offset += end;
        Ok(Selector::Names(vec![rest[..end].to_owned()]))
    }

    fn brackets(&mut self) -> Result<Selector, String> {
        self.space();
        let selector = if self.eat("*") {
            Selector::All
        } else if self.eat("?") {
            self.expect("(")?;
            let filter = self.filter()?;
            self.expect(")")?;
            Selector::Filter(filter)
        } else if self.rest().starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            while self.comma() {
                names.push(self.quoted()?);
            }
            Selector::Names(names)
        } else {
            let first = self.integer();
            self.space();
            if self.eat(":") {
                let end = self.integer();
                self.space();
                let step = if self.eat(":") { self.integer() } else { None };
                Selector::Slice(first, end, step.unwrap_or(1))
            } else {
                let mut indexes = vec![first.ok_or("a name in quotes, an index, * or ?(…) is missing after [")?];
                while self.comma() {
                    indexes.push(self.integer().ok_or("an index is missing after the comma")?);
                }
                Selector::Indexes(indexes)
            }
        };
        self.expect("]")?;
        Ok(selector)
    }

    fn comma(&mut self) -> bool {
        self.space();
        let found = self.eat(",");
        self.space();
        found
    }

    fn integer(&mut self) -> Option<i64> {
        self.space();
        let rest = self.rest();
        let sign = usize::from(rest.starts_with('-'));
        let digits = rest[sign..].bytes().take_while(u8::is_ascii_digit).count();
        let number = rest[..sign + digits].parse().ok()?;
        self.offset += sign + digits;
        Some(number)
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut characters = self.rest().char_indices();
        let quote = characters.next().map(|(_, quote)| quote).filter(|quote| matches!(quote, '\'' | '"'));
        let quote = quote.ok_or("a name in quotes is missing")?;
        let mut text = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ if character == quote => {
                    self.offset += at + 1;
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err(format!("the string has no {quote} at its end"))
    }

    fn filter(&mut self) -> Result<Filter, String> {
        if self.depth == NESTING_MAX {
            return Err(format!("filters are nested more than {NESTING_MAX} deep"));
        }
        self.depth += 1;
        let mut alternatives = Vec::new();
        loop {
            let mut all = vec![self.condition()?];
            self.space();
            while self.eat("&&") {
                all.push(self.condition()?);
                self.space();
            }
            alternatives.push(Filter::And(all));
            if !self.eat("||") {
                break;
            }
        }
        self.depth -= 1;
        Ok(Filter::Or(alternatives))
    }

    fn condition(&mut self) -> Result<Filter, String> {
        let mut negated = false;
        self.space();
        while self.rest().starts_with('!') && !self.rest().starts_with("!=") {
            self.offset += 1;
            negated = !negated;
            self.space();
        }
        let filter = if self.eat("(") {
            let filter = self.filter()?;
            self.expect(")")?;
            filter
        } else {
            self.comparison()?
        };
        Ok(if negated { Filter::Not(Box::new(filter)) } else { filter })
    }

    fn comparison(&mut self) -> Result<Filter, String> {
        let left = self.operand()?;
        self.space();
        let Some((_, comparison)) = COMPARISONS.iter().find(|(sign, _)| self.eat(sign)) else {
            return match left {
                Operand::Path(path) => Ok(Filter::Exists(path)),
                Operand::Literal(_) => Err("a value alone is not a condition".to_owned()),
            };
        };
        Ok(Filter::Compare(left, *comparison, self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.space();
        if self.eat("@") {
            // The path of a filter may contain filters itself.
            if self.depth == NESTING_MAX {
                return Err(format!("filters are nested more than {NESTING_MAX} deep"));
            }
            return Ok(Operand::Path(JsonPath(self.steps()?)));
        }
        if self.rest().starts_with(['\'', '"']) {
            return Ok(Operand::Literal(self.quoted()?.into()));
        }
        let rest = self.rest();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))).unwrap_or(rest.len());
        let literal = serde_json::from_str(&rest[..end]);
        let literal =
            literal.map_err(|_| format!("expected a path of @, a string in quotes or a number before \"{rest}\""))?;
        self.offset += end;
        Ok(Operand::Literal(literal))
    }
}
