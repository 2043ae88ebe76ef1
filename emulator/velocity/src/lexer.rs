//! Reads a template character by character, and the tokens within brackets.

use std::cell::Cell;

use crate::{Position, SyntaxError};

/// A source and the offset of the next character.
#[derive(Debug)]
pub(crate) struct Lexer<'s> {
    pub(crate) source: &'s str,
    pub(crate) offset: usize,
    /// The last position that was computed, from which the next one is counted.
    counted: Cell<(usize, Position)>,
    /// The position of the whole source, if it is a string within a template.
    within: Option<Position>,
}

/// A number literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Literal {
    Integer(i64),
    Float(f64),
}

impl<'s> Lexer<'s> {
    pub(crate) fn new(source: &'s str, within: Option<Position>) -> Self {
        Self { source, offset: 0, counted: Cell::new((0, Position::START)), within }
    }

    /// Whether the source is a string within a template.
    pub(crate) const fn is_within(&self) -> bool {
        self.within.is_some()
    }

    pub(crate) fn rest(&self) -> &'s str {
        &self.source[self.offset..]
    }

    pub(crate) fn byte(&self) -> Option<u8> {
        self.source.as_bytes().get(self.offset).copied()
    }

    /// The byte `ahead` bytes after this one.
    pub(crate) fn byte_at(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.offset + ahead).copied()
    }

    /// Takes a text, if it comes next.
    pub(crate) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.offset += text.len();
        }
        found
    }

    /// Takes a text. An error names it and `what` it belongs to.
    pub(crate) fn expect(&mut self, text: &str, what: &str) -> Result<(), SyntaxError> {
        if self.eat(text) { Ok(()) } else { Err(self.error(format!("{text} is missing {what}"))) }
    }

    /// Takes ASCII bytes while `wanted` accepts them, and returns them.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'s str {
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !(byte.is_ascii() && wanted(byte))).unwrap_or(rest.len());
        self.offset += end;
        &rest[..end]
    }

    pub(crate) fn whitespace(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Takes the rest of the line after a directive, if it is blank.
    pub(crate) fn end_of_line(&mut self) {
        let start = self.offset;
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
        if !(self.eat("\r\n") || self.eat("\n") || self.eat("\r")) {
            self.offset = start;
        }
    }

    /// The name of a reference, property or method.
    pub(crate) fn identifier(&mut self) -> Option<&'s str> {
        if !matches!(self.byte(), Some(byte) if byte.is_ascii_alphabetic() || byte == b'_') {
            return None;
        }
        Some(self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
    }

    /// The word after `#`, with or without braces, and the offset where it ends.
    pub(crate) fn directive_word(&self, ahead: usize) -> Option<(&'s str, usize)> {
        let rest = &self.source[self.offset + ahead..];
        let (braced, word) = match rest.strip_prefix('{') {
            Some(word) => (true, word),
            None => (false, rest),
        };
        let starts = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || (c == '@' && !braced));
        let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '@'))).unwrap_or(word.len());
        let closed = !braced || word[end..].starts_with('}');
        (starts && closed).then(|| (&word[..end], self.offset + ahead + end + if braced { 2 } else { 0 }))
    }

    /// Takes a number with its sign. Two dots after it begin a range.
    pub(crate) fn number(&mut self) -> Result<Option<Literal>, SyntaxError> {
        let bytes = self.rest().as_bytes();
        let digits =
            |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let at = |index: usize| bytes.get(index).copied();
        let sign = usize::from(at(0) == Some(b'-'));
        let whole = digits(sign);
        let mut end = sign + whole;
        let mut float = false;
        if at(end) == Some(b'.') {
            let fraction = digits(end + 1);
            if fraction > 0 || (whole > 0 && at(end + 1) != Some(b'.')) {
                float = true;
                end += 1 + fraction;
            }
        }
        if whole == 0 && !float {
            return Ok(None);
        }
        if matches!(at(end), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(at(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + signed);
            if exponent > 0 {
                float = true;
                end += 1 + signed + exponent;
            }
        }
        let text = &self.rest()[..end];
        let literal =
            if float { text.parse().ok().map(Literal::Float) } else { text.parse().ok().map(Literal::Integer) };
        let literal = literal.ok_or_else(|| self.error(format!("the number {text} does not fit in 64 bits")))?;
        self.offset += end;
        Ok(Some(literal))
    }

    /// Takes a string in quotes, in which two quotes stand for one. `None` if no quote comes next.
    pub(crate) fn quoted(&mut self, quote: char) -> Result<Option<String>, SyntaxError> {
        let Some(mut rest) = self.rest().strip_prefix(quote) else { return Ok(None) };
        let mut text = String::new();
        loop {
            let end = rest.find(quote).ok_or_else(|| self.error(format!("the string has no {quote} at its end")))?;
            text.push_str(&rest[..end]);
            rest = &rest[end + quote.len_utf8()..];
            match rest.strip_prefix(quote) {
                Some(after) => {
                    text.push(quote);
                    rest = after;
                }
                None => break,
            }
        }
        self.offset = self.source.len() - rest.len();
        Ok(Some(text))
    }

    pub(crate) fn position(&self) -> Position {
        self.position_of(self.offset)
    }

    pub(crate) fn position_of(&self, offset: usize) -> Position {
        if let Some(within) = self.within {
            return within;
        }
        let (start, mut at) = match self.counted.get() {
            counted if counted.0 <= offset => counted,
            _ => (0, Position::START),
        };
        for character in self.source[start..offset].chars() {
            at = match character {
                '\n' => Position { line: at.line + 1, column: 1 },
                _ => Position { column: at.column + 1, ..at },
            };
        }
        self.counted.set((offset, at));
        at
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { at: self.position(), message: message.into() }
    }
}
