//! The heap of values. Java's lists and maps are shared and mutable, so values refer to them by their index on the
//! heap. Then a list may contain itself without a memory leak, and freeing a deep one does not need a deep stack.

use std::rc::Rc;

use serde_json::Value as Json;

use crate::{
    RenderCause,
    budget::{Budget, LimitExceeded, nested},
    number,
    value::{Entries, Key, Value},
};

/// Size of an item of a list or map without its text, in bytes. Our own choice, near the true size.
const ITEM_BYTES: usize = 32;

#[derive(Debug)]
struct List {
    items: Vec<Value>,
    /// Whether it comes from JSON and is written as JSON.
    json: bool,
}

/// Lists, maps and the budget.
#[derive(Debug)]
pub(crate) struct Heap {
    pub(crate) budget: Budget,
    lists: Vec<List>,
    maps: Vec<Entries>,
    /// Entries from `entrySet`.
    pairs: Vec<(Key, Value)>,
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self { budget: Budget::new(), lists: Vec::new(), maps: Vec::new(), pairs: Vec::new() }
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<Value, RenderCause> {
        let mut checked = String::new();
        self.budget.push(&mut checked, text)?;
        Ok(Value::Text(checked.into()))
    }

    pub(crate) fn list(&mut self, items: Vec<Value>) -> Result<Value, RenderCause> {
        self.new_list(items, false)
    }

    /// Adds a list that is written as JSON.
    pub(crate) fn json_list(&mut self, items: Vec<Value>) -> Result<Value, RenderCause> {
        self.new_list(items, true)
    }

    fn new_list(&mut self, items: Vec<Value>, json: bool) -> Result<Value, RenderCause> {
        self.budget.steps(1 + items.len())?;
        self.budget.memory((1 + items.len()) * ITEM_BYTES)?;
        self.lists.push(List { items, json });
        Ok(Value::List(self.lists.len() - 1))
    }

    pub(crate) fn map(&mut self, entries: Entries) -> Result<Value, RenderCause> {
        self.budget.steps(1 + entries.len())?;
        self.budget.memory((1 + entries.len()) * 2 * ITEM_BYTES)?;
        self.maps.push(entries);
        Ok(Value::Map(self.maps.len() - 1))
    }

    /// The current entries of a map.
    pub(crate) fn entry_set(&mut self, map: usize) -> Result<Value, RenderCause> {
        let first = self.pairs.len();
        self.pay_for_items(self.maps[map].len())?;
        self.pairs.extend(self.maps[map].iter().map(|(key, value)| (key.clone(), value.clone())));
        let entries = (first..self.pairs.len()).map(Value::Entry).collect();
        self.list(entries)
    }

    pub(crate) fn entry(&self, entry: usize) -> &(Key, Value) {
        &self.pairs[entry]
    }

    pub(crate) fn items(&self, list: usize) -> &[Value] {
        &self.lists[list].items
    }

    /// Items to change. Pay for added items with [`Self::pay_for_items`].
    pub(crate) fn items_mut(&mut self, list: usize) -> &mut Vec<Value> {
        &mut self.lists[list].items
    }

    pub(crate) fn entries(&self, map: usize) -> &Entries {
        &self.maps[map]
    }

    /// Entries to change. Pay for added entries with [`Self::pay_for_items`].
    pub(crate) fn entries_mut(&mut self, map: usize) -> &mut Entries {
        &mut self.maps[map]
    }

    /// Pays for visiting and storing items.
    pub(crate) fn pay_for_items(&mut self, count: usize) -> Result<(), LimitExceeded> {
        self.budget.steps(count)?;
        self.budget.memory(count.saturating_mul(2 * ITEM_BYTES))
    }

    /// A copy of the items of a list or the values of a map: visiting them may change the original.
    pub(crate) fn children(&mut self, value: &Value) -> Result<Option<Vec<Value>>, RenderCause> {
        let children: Vec<Value> = match value {
            Value::List(list) => self.items(*list).to_vec(),
            Value::Map(map) => self.entries(*map).values().cloned().collect(),
            _ => return Ok(None),
        };
        self.budget.steps(children.len())?;
        Ok(Some(children))
    }

    pub(crate) fn property(&self, map: usize, name: &str) -> Value {
        self.maps[map].get(&Key::Text(name.into())).cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn key(&mut self, value: &Value) -> Result<Key, RenderCause> {
        Ok(match value {
            Value::Null => Key::Null,
            Value::Boolean(value) => Key::Boolean(*value),
            Value::Integer(number) => Key::Integer(*number),
            Value::Text(text) => Key::Text(Rc::clone(text)),
            other => Key::Text(self.written(other)?.into()),
        })
    }

    pub(crate) fn json(&mut self, json: &Json, depth: usize) -> Result<Value, RenderCause> {
        nested(depth)?;
        match json {
            Json::Null => Ok(Value::Null),
            Json::Bool(value) => Ok(Value::Boolean(*value)),
            Json::Number(number) => Ok(match number.as_i64() {
                Some(number) => Value::Integer(number),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            }),
            Json::String(text) => self.text(text),
            Json::Array(items) => {
                let items = items.iter().map(|item| self.json(item, depth + 1)).collect::<Result<_, _>>()?;
                self.json_list(items)
            }
            Json::Object(fields) => {
                let mut entries = Entries::with_capacity(fields.len());
                for (name, value) in fields {
                    entries.insert(Key::Text(name.as_str().into()), self.json(value, depth + 1)?);
                }
                self.map(entries)
            }
        }
    }

    /// A value as text.
    pub(crate) fn written(&mut self, value: &Value) -> Result<String, RenderCause> {
        let mut out = String::new();
        self.write(value, &mut out, 0)?;
        Ok(out)
    }

    /// Appends a value as Java's `toString` writes it, and nothing for nothing.
    pub(crate) fn write(&mut self, value: &Value, out: &mut String, depth: usize) -> Result<(), RenderCause> {
        self.budget.steps(1)?;
        nested(depth)?;
        match value {
            Value::Null | Value::Input | Value::Util | Value::Block(_) => {}
            Value::Boolean(value) => self.budget.push(out, if *value { "true" } else { "false" })?,
            Value::Integer(number) => self.budget.push(out, &number.to_string())?,
            Value::Float(number) => self.budget.push(out, &number::java_double(*number))?,
            Value::Text(text) => self.budget.push(out, text)?,
            Value::Entry(entry) => {
                let (key, value) = self.pairs[*entry].clone();
                self.write_entry(&key, &value, out, depth)?;
            }
            Value::Loop(_) => self.budget.push(out, "{}")?,
            Value::List(list) if self.lists[*list].json => return self.write_json(value, out, depth),
            Value::List(list) => {
                self.budget.push(out, "[")?;
                for index in 0..self.items(*list).len() {
                    if index > 0 {
                        self.budget.push(out, ", ")?;
                    }
                    let item = self.items(*list)[index].clone();
                    self.write_inner(&item, out, depth)?;
                }
                self.budget.push(out, "]")?;
            }
            Value::Map(map) => {
                self.budget.push(out, "{")?;
                for index in 0..self.entries(*map).len() {
                    if index > 0 {
                        self.budget.push(out, ", ")?;
                    }
                    let entry = self.entries(*map).get_index(index).map(|(key, value)| (key.clone(), value.clone()));
                    if let Some((key, value)) = entry {
                        self.write_entry(&key, &value, out, depth)?;
                    }
                }
                self.budget.push(out, "}")?;
            }
        }
        Ok(())
    }

    fn write_entry(&mut self, key: &Key, value: &Value, out: &mut String, depth: usize) -> Result<(), RenderCause> {
        self.write_inner(&key.clone().into(), out, depth)?;
        self.budget.push(out, "=")?;
        self.write_inner(value, out, depth)
    }

    /// Within a list or map, Java writes nothing as `null`.
    fn write_inner(&mut self, value: &Value, out: &mut String, depth: usize) -> Result<(), RenderCause> {
        match value {
            Value::Null => Ok(self.budget.push(out, "null")?),
            value => self.write(value, out, depth + 1),
        }
    }

    /// Appends a value as JSON.
    pub(crate) fn write_json(&mut self, value: &Value, out: &mut String, depth: usize) -> Result<(), RenderCause> {
        self.budget.steps(1)?;
        nested(depth)?;
        match value {
            Value::Null => self.budget.push(out, "null")?,
            Value::Boolean(_) | Value::Integer(_) => self.write(value, out, depth)?,
            Value::Float(number) if number.is_finite() => self.write(value, out, depth)?,
            Value::List(list) => {
                self.budget.push(out, "[")?;
                for index in 0..self.items(*list).len() {
                    if index > 0 {
                        self.budget.push(out, ",")?;
                    }
                    let item = self.items(*list)[index].clone();
                    self.write_json(&item, out, depth + 1)?;
                }
                self.budget.push(out, "]")?;
            }
            Value::Map(map) => {
                self.budget.push(out, "{")?;
                for index in 0..self.entries(*map).len() {
                    if index > 0 {
                        self.budget.push(out, ",")?;
                    }
                    let entry = self.entries(*map).get_index(index).map(|(key, value)| (key.clone(), value.clone()));
                    if let Some((key, value)) = entry {
                        let key = self.written(&key.into())?;
                        self.budget.push(out, &Json::from(key).to_string())?;
                        self.budget.push(out, ":")?;
                        self.write_json(&value, out, depth + 1)?;
                    }
                }
                self.budget.push(out, "}")?;
            }
            other => {
                let text = self.written(other)?;
                self.budget.push(out, &Json::from(text).to_string())?;
            }
        }
        Ok(())
    }

    /// Java's `equals`, with numbers compared by their value.
    pub(crate) fn equal(&mut self, left: &Value, right: &Value, depth: usize) -> Result<bool, RenderCause> {
        self.budget.steps(1)?;
        nested(depth)?;
        if let Some(order) = number::compare(left, right) {
            return Ok(order.is_eq());
        }
        Ok(match (left, right) {
            (Value::Null, Value::Null) | (Value::Input, Value::Input) | (Value::Util, Value::Util) => true,
            (Value::Boolean(left), Value::Boolean(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => {
                self.budget.steps(left.len() / 64)?;
                left == right
            }
            (Value::Entry(left), Value::Entry(right)) => {
                let (left, right) = (self.pairs[*left].clone(), self.pairs[*right].clone());
                left.0 == right.0 && self.equal(&left.1, &right.1, depth + 1)?
            }
            (Value::List(left), Value::List(right)) => {
                if self.items(*left).len() != self.items(*right).len() {
                    return Ok(false);
                }
                for index in 0..self.items(*left).len() {
                    let (left, right) = (self.items(*left)[index].clone(), self.items(*right)[index].clone());
                    if !self.equal(&left, &right, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(left), Value::Map(right)) => {
                if self.entries(*left).len() != self.entries(*right).len() {
                    return Ok(false);
                }
                for index in 0..self.entries(*left).len() {
                    let Some((key, value)) = self.entries(*left).get_index(index) else { return Ok(false) };
                    let (value, other) = (value.clone(), self.entries(*right).get(key).cloned());
                    match other {
                        Some(other) if self.equal(&value, &other, depth + 1)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => false,
        })
    }
}
