//! Methods of values: those methods of Java's strings, lists, maps and numbers that templates use.

use regex::RegexBuilder;

use crate::{
    RenderCause,
    number::{self, as_float},
    pattern::CompiledPattern,
    render::Renderer,
    value::{Entries, Value},
};

/// Largest compiled pattern, in bytes. Our own choice: patterns that people write have a few thousand.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Cost of compiling a pattern, in steps. Our own choice: a hundred of the largest take a second.
const PATTERN_STEPS: usize = 10_000;

/// Bytes that a pattern searches per step. Our own choice, low enough for unoptimised builds.
const PATTERN_BYTES_PER_STEP: usize = 4;

/// Bytes that any other method processes per step. Our own choice.
const BYTES_PER_STEP: usize = 256;

/// An index or a length, as templates see it.
fn integer(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn failed(method: &str, message: impl Into<String>) -> RenderCause {
    RenderCause::Method { method: method.to_owned(), message: message.into() }
}

impl Renderer<'_, '_> {
    /// Calls a method. A method that does not exist returns nothing.
    pub(crate) fn method(&mut self, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        self.heap.budget.steps(1)?;
        match (value, method, arguments) {
            (Value::Null, ..) => Ok(Value::Null),
            (Value::Input, ..) => self.input_method(method, arguments),
            (Value::Util, ..) => self.util_method(method, arguments),
            (value, "toString", []) => {
                let text = self.heap.written(value)?;
                self.heap.text(&text)
            }
            (value, "equals", [other]) => {
                let alike = std::mem::discriminant(value) == std::mem::discriminant(other);
                Ok(Value::Boolean(alike && self.heap.equal(value, other, 0)?))
            }
            (Value::Boolean(value), "booleanValue", []) => Ok(Value::Boolean(*value)),
            (Value::Integer(_) | Value::Float(_), ..) => self.number_method(value, method, arguments),
            (Value::Text(text), ..) => self.text_method(text, method, arguments),
            (Value::List(list), ..) => self.list_method(*list, method, arguments),
            (Value::Map(map), ..) => self.map_method(*map, method, arguments),
            (Value::Entry(entry), "getKey", []) => Ok(self.heap.entry(*entry).0.clone().into()),
            (Value::Entry(entry), "getValue", []) => Ok(self.heap.entry(*entry).1.clone()),
            _ => Ok(Value::Null),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "Java's conversion from double to long saturates as well")]
    fn number_method(&mut self, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        let whole = |value: &Value| match value {
            Value::Float(number) => *number as i64,
            Value::Integer(number) => *number,
            _ => 0,
        };
        match (method, arguments) {
            ("intValue" | "longValue", []) => Ok(Value::Integer(whole(value))),
            ("doubleValue" | "floatValue", []) => Ok(as_float(value).map_or(Value::Null, Value::Float)),
            ("compareTo", [other]) => {
                Ok(number::compare(value, other).map_or(Value::Null, |order| Value::Integer(order as i64)))
            }
            ("parseInt" | "parseLong" | "parseDouble" | "parseFloat" | "valueOf", [argument]) => {
                let text = self.heap.written(argument)?;
                let float = match method {
                    "valueOf" => matches!(value, Value::Float(_)),
                    method => matches!(method, "parseDouble" | "parseFloat"),
                };
                let parsed = if float {
                    text.trim().parse().ok().map(Value::Float)
                } else {
                    text.parse().ok().map(Value::Integer)
                };
                parsed.ok_or_else(|| failed(method, format!("invalid number \"{text}\"")))
            }
            ("abs", [number]) => match number {
                Value::Integer(number) => number.checked_abs().map(Value::Integer).ok_or(RenderCause::Overflow),
                Value::Float(number) => Ok(Value::Float(number.abs())),
                _ => Ok(Value::Null),
            },
            ("max" | "min", [left, right]) => Ok(match number::compare(left, right) {
                Some(order) if (method == "max") == order.is_gt() => left.clone(),
                Some(_) => right.clone(),
                None => Value::Null,
            }),
            _ => Ok(Value::Null),
        }
    }

    fn text_method(&mut self, text: &str, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        self.heap.budget.steps(text.len() / BYTES_PER_STEP)?;
        match (method, arguments) {
            ("length", []) => Ok(integer(text.encode_utf16().count())),
            ("isEmpty", []) => Ok(Value::Boolean(text.is_empty())),
            ("toLowerCase", []) => self.heap.text(&text.to_lowercase()),
            ("toUpperCase", []) => self.heap.text(&text.to_uppercase()),
            ("trim", []) => self.heap.text(text.trim_matches(|c| c <= ' ')),
            ("contains", [Value::Text(other)]) => Ok(Value::Boolean(text.contains(&**other))),
            ("startsWith", [Value::Text(other)]) => Ok(Value::Boolean(text.starts_with(&**other))),
            ("endsWith", [Value::Text(other)]) => Ok(Value::Boolean(text.ends_with(&**other))),
            ("equalsIgnoreCase", [Value::Text(other)]) => {
                Ok(Value::Boolean(text.to_lowercase() == other.to_lowercase()))
            }
            ("compareTo", [Value::Text(other)]) => Ok(compare_texts(text, other)),
            ("concat", [Value::Text(other)]) => self.heap.text(&format!("{text}{other}")),
            ("charAt", [Value::Integer(index)]) => self.part(method, text, *index, index.checked_add(1)),
            ("substring", [Value::Integer(start)]) => self.part(method, text, *start, None),
            ("substring", [Value::Integer(start), Value::Integer(end)]) => self.part(method, text, *start, Some(*end)),
            ("indexOf", [Value::Text(other)]) => Ok(index_of(text, other, 0)),
            ("indexOf", [Value::Text(other), Value::Integer(from)]) => Ok(index_of(text, other, *from)),
            ("lastIndexOf", [Value::Text(other)]) => {
                let found = text.rfind(&**other);
                Ok(found.map_or(Value::Integer(-1), |found| integer(text[..found].encode_utf16().count())))
            }
            ("replace", [Value::Text(old), Value::Text(new)]) => {
                self.pay_for_replacement(text, text.matches(&**old).count(), new.len())?;
                self.heap.text(&text.replace(&**old, new))
            }
            ("replaceAll" | "replaceFirst", [Value::Text(pattern), Value::Text(new)]) => {
                let pattern = self.pattern(method, pattern, text)?;
                let new = replacement(new);
                let count = if method == "replaceAll" { 0 } else { 1 };
                let mut found = 0;
                for next in pattern.regex.find_iter(text) {
                    self.pay_for_match(&pattern, text.len() - next.start())?;
                    found += 1;
                }
                // Each group can repeat its match, which is up to as long as the text.
                let groups = new.matches("${").count();
                self.pay_for_replacement(text, found, new.len() + groups * text.len() / found.max(1))?;
                self.heap.text(&pattern.regex.replacen(text, count, new.as_str()))
            }
            ("matches", [Value::Text(pattern)]) => {
                let whole = self.pattern(method, &format!("^(?:{pattern})$"), text)?;
                Ok(Value::Boolean(whole.regex.is_match(text)))
            }
            ("split", [Value::Text(pattern)]) => self.split(text, pattern, 0),
            ("split", [Value::Text(pattern), Value::Integer(limit)]) => self.split(text, pattern, *limit),
            _ => Ok(Value::Null),
        }
    }

    /// Pays for a search, which may read all `left` bytes of the text before it settles on a shorter match.
    fn pay_for_match(&mut self, pattern: &CompiledPattern, left: usize) -> Result<(), RenderCause> {
        let seen = pattern.match_bytes_max.map_or(left, |most| most.min(left));
        Ok(self.heap.budget.steps(1 + seen / PATTERN_BYTES_PER_STEP)?)
    }

    /// Pays for a replacement before it happens.
    fn pay_for_replacement(&mut self, text: &str, count: usize, new: usize) -> Result<(), RenderCause> {
        Ok(self.heap.budget.memory(text.len().saturating_add(count.saturating_mul(new)))?)
    }

    /// Part of a string, in UTF-16 units.
    fn part(&mut self, method: &str, text: &str, start: i64, end: Option<i64>) -> Result<Value, RenderCause> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let end = end.map_or(Ok(units.len()), usize::try_from);
        let range = usize::try_from(start).ok().zip(end.ok());
        let part = range.and_then(|(start, end)| units.get(start..end));
        let part = part.ok_or_else(|| failed(method, format!("the string has only {} characters", units.len())))?;
        self.heap.text(&String::from_utf16_lossy(part))
    }

    /// Splits a string as Java does: into at most `limit` parts, or for 0 without the empty parts at the end.
    fn split(&mut self, text: &str, pattern: &str, limit: i64) -> Result<Value, RenderCause> {
        let pattern = self.pattern("split", pattern, text)?;
        let most = usize::try_from(limit).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let mut parts = Vec::new();
        let mut start = 0;
        for found in pattern.regex.find_iter(text) {
            self.pay_for_match(&pattern, text.len() - found.start())?;
            if parts.len() + 1 >= most {
                break;
            }
            // An empty match at the beginning or the end does not split.
            if found.is_empty() && (found.start() == 0 || found.start() == text.len()) {
                continue;
            }
            parts.push(self.heap.text(&text[start..found.start()])?);
            start = found.end();
        }
        parts.push(self.heap.text(&text[start..])?);
        if limit == 0 {
            while parts.len() > 1 && matches!(parts.last(), Some(Value::Text(last)) if last.is_empty()) {
                parts.pop();
            }
        }
        self.heap.list(parts)
    }

    /// Compiles a Java pattern, once per rendering, and pays for searching a text with it.
    fn pattern(&mut self, method: &str, pattern: &str, text: &str) -> Result<CompiledPattern, RenderCause> {
        self.heap.budget.steps(text.len() / PATTERN_BYTES_PER_STEP)?;
        if let Some(compiled) = self.patterns.get(pattern) {
            return Ok(compiled.clone());
        }
        self.heap.budget.steps(PATTERN_STEPS)?;
        self.heap.budget.memory(PATTERN_BYTES_MAX)?;
        let translated = with_ascii_classes(pattern);
        // The last line says what is wrong; those before it draw where.
        let failed = |error: String| {
            failed(method, format!("invalid pattern {pattern}: {}", error.lines().last().unwrap_or_default()))
        };
        let regex = RegexBuilder::new(&translated).size_limit(PATTERN_BYTES_MAX).build();
        let regex = regex.map_err(|error| failed(error.to_string()))?;
        let syntax = regex_syntax::parse(&translated).map_err(|error| failed(error.to_string()))?;
        let compiled = CompiledPattern { regex, match_bytes_max: syntax.properties().maximum_len() };
        self.patterns.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    }

    fn list_method(&mut self, list: usize, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        let len = self.heap.items(list).len();
        match (method, arguments) {
            ("size" | "count", []) => Ok(integer(len)),
            ("isEmpty", []) => Ok(Value::Boolean(len == 0)),
            ("get", [Value::Integer(index)]) => {
                let position = self.place_in(list, *index, len)?;
                Ok(self.heap.items(list)[position].clone())
            }
            ("add", [item]) => {
                self.heap.pay_for_items(1)?;
                self.heap.items_mut(list).push(item.clone());
                Ok(Value::Boolean(true))
            }
            ("add", [Value::Integer(index), item]) => {
                let position = self.place_in(list, *index, len + 1)?;
                self.heap.pay_for_items(1 + len - position)?;
                self.heap.items_mut(list).insert(position, item.clone());
                Ok(Value::Null)
            }
            ("addAll", [other @ Value::List(_)]) => {
                let items = self.heap.children(other)?.unwrap_or_default();
                self.heap.pay_for_items(items.len())?;
                let changed = !items.is_empty();
                self.heap.items_mut(list).extend(items);
                Ok(Value::Boolean(changed))
            }
            ("set", [Value::Integer(index), item]) => {
                let position = self.place_in(list, *index, len)?;
                Ok(std::mem::replace(&mut self.heap.items_mut(list)[position], item.clone()))
            }
            ("remove", [Value::Integer(index)]) => {
                let position = self.place_in(list, *index, len)?;
                self.heap.budget.steps(len - position)?;
                Ok(self.heap.items_mut(list).remove(position))
            }
            ("remove", [item]) => {
                let found = self.find_item(list, item)?;
                self.heap.budget.steps(len)?;
                if let Some(position) = found {
                    self.heap.items_mut(list).remove(position);
                }
                Ok(Value::Boolean(found.is_some()))
            }
            ("clear", []) => {
                self.heap.items_mut(list).clear();
                Ok(Value::Null)
            }
            ("contains", [item]) => Ok(Value::Boolean(self.find_item(list, item)?.is_some())),
            ("containsAll", [other @ Value::List(_)]) => {
                for item in self.heap.children(other)?.unwrap_or_default() {
                    if self.find_item(list, &item)?.is_none() {
                        return Ok(Value::Boolean(false));
                    }
                }
                Ok(Value::Boolean(true))
            }
            ("indexOf", [item]) => Ok(self.find_item(list, item)?.map_or(Value::Integer(-1), integer)),
            ("lastIndexOf", [item]) => {
                for position in (0..len).rev() {
                    let candidate = self.heap.items(list)[position].clone();
                    if self.heap.equal(&candidate, item, 0)? {
                        return Ok(integer(position));
                    }
                }
                Ok(Value::Integer(-1))
            }
            ("subList", [Value::Integer(start), Value::Integer(end)]) => {
                let range = usize::try_from(*start).ok().zip(usize::try_from(*end).ok());
                let items = range.and_then(|(start, end)| self.heap.items(list).get(start..end)).map(<[Value]>::to_vec);
                let items = items.ok_or_else(|| failed(method, format!("the list has only {len} items")))?;
                self.heap.list(items)
            }
            _ => Ok(Value::Null),
        }
    }

    /// Checks that an index is below `end`.
    fn place_in(&self, list: usize, index: i64, end: usize) -> Result<usize, RenderCause> {
        let len = self.heap.items(list).len();
        usize::try_from(index).ok().filter(|position| *position < end).ok_or(RenderCause::NoSuchItem { index, len })
    }

    fn find_item(&mut self, list: usize, item: &Value) -> Result<Option<usize>, RenderCause> {
        for position in 0..self.heap.items(list).len() {
            let candidate = self.heap.items(list)[position].clone();
            if self.heap.equal(&candidate, item, 0)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn map_method(&mut self, map: usize, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        match (method, arguments) {
            ("size", []) => Ok(integer(self.heap.entries(map).len())),
            ("isEmpty", []) => Ok(Value::Boolean(self.heap.entries(map).is_empty())),
            ("get", [key]) => self.entry(map, key).map(|value| value.unwrap_or(Value::Null)),
            ("getOrDefault", [key, default]) => {
                self.entry(map, key).map(|value| value.unwrap_or_else(|| default.clone()))
            }
            ("containsKey", [key]) => self.entry(map, key).map(|value| Value::Boolean(value.is_some())),
            ("containsValue", [value]) => {
                for index in 0..self.heap.entries(map).len() {
                    let candidate = self.heap.entries(map)[index].clone();
                    if self.heap.equal(&candidate, value, 0)? {
                        return Ok(Value::Boolean(true));
                    }
                }
                Ok(Value::Boolean(false))
            }
            ("put", [key, value]) => self.put(map, key, value),
            ("putIfAbsent", [key, value]) => match self.entry(map, key)? {
                Some(present) => Ok(present),
                None => self.put(map, key, value),
            },
            ("putAll", [Value::Map(other)]) => {
                let entries: Entries = self.heap.entries(*other).clone();
                self.heap.pay_for_items(entries.len())?;
                self.heap.entries_mut(map).extend(entries);
                Ok(Value::Null)
            }
            ("remove", [key]) => {
                let key = self.heap.key(key)?;
                let len = self.heap.entries(map).len();
                self.heap.budget.steps(len)?;
                Ok(self.heap.entries_mut(map).shift_remove(&key).unwrap_or(Value::Null))
            }
            ("clear", []) => {
                self.heap.entries_mut(map).clear();
                Ok(Value::Null)
            }
            ("keySet", []) => {
                let keys = self.heap.entries(map).keys().map(|key| key.clone().into()).collect();
                self.heap.list(keys)
            }
            ("values", []) => {
                let values = self.heap.entries(map).values().cloned().collect();
                self.heap.list(values)
            }
            ("entrySet", []) => self.heap.entry_set(map),
            _ => Ok(Value::Null),
        }
    }

    fn entry(&mut self, map: usize, key: &Value) -> Result<Option<Value>, RenderCause> {
        let key = self.heap.key(key)?;
        Ok(self.heap.entries(map).get(&key).cloned())
    }

    fn put(&mut self, map: usize, key: &Value, value: &Value) -> Result<Value, RenderCause> {
        let key = self.heap.key(key)?;
        self.heap.pay_for_items(1)?;
        Ok(self.heap.entries_mut(map).insert(key, value.clone()).unwrap_or(Value::Null))
    }
}

/// Java's `compareTo`: the difference of the first units that differ, else of the lengths.
fn compare_texts(left: &str, right: &str) -> Value {
    let differing = left.encode_utf16().zip(right.encode_utf16()).find(|(left, right)| left != right);
    match differing {
        Some((left, right)) => Value::Integer(i64::from(left) - i64::from(right)),
        None => {
            let len = |text: &str| i64::try_from(text.encode_utf16().count()).unwrap_or(i64::MAX);
            Value::Integer(len(left) - len(right))
        }
    }
}

fn index_of(text: &str, other: &str, from: i64) -> Value {
    let from = usize::try_from(from).unwrap_or(0);
    let mut units = 0;
    let start = text.char_indices().find(|(_, character)| {
        let reached = units >= from;
        units += character.len_utf16();
        reached
    });
    let start = start.map_or(text.len(), |(start, _)| start);
    let found = text[start..].find(other);
    found.map_or(Value::Integer(-1), |found| integer(text[..start + found].encode_utf16().count()))
}

/// Restricts the classes `\d`, `\w` and `\s` to ASCII, as in Java.
fn with_ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\f\r]"),
            Some('S') => out.push_str(r"[^ \t\n\x0B\f\r]"),
            Some(escaped) => out.extend(['\\', escaped]),
            None => out.push('\\'),
        }
    }
    out
}

/// Converts a replacement of Java to the form of the `regex` crate. In Java, `$1` is a group of one digit and `\$` a
/// dollar sign.
fn replacement(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('$') => out.push_str("$$"),
                Some(escaped) => out.push(escaped),
                None => {}
            },
            '$' => match characters.next_if(char::is_ascii_digit) {
                Some(group) => out.extend(['$', '{', group, '}']),
                None => out.push_str("$$"),
            },
            other => out.push(other),
        }
    }
    out
}
