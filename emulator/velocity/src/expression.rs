//! Parses references and expressions.

use crate::{
    SyntaxError,
    lexer::Literal,
    parser::Parser,
    syntax::{Accessor, COMPARISONS, Expression, Operator, RANKS, Reference},
};

impl Parser<'_> {
    /// Parses a reference, if one comes next. Otherwise takes nothing.
    pub(crate) fn reference(&mut self) -> Result<Option<Reference>, SyntaxError> {
        let start = self.lexer.offset;
        let at = self.lexer.position();
        if !self.lexer.eat("$") {
            return Ok(None);
        }
        self.lexer.eat("!");
        let braced = self.lexer.eat("{");
        let Some(name) = self.lexer.identifier() else {
            self.lexer.offset = start;
            return Ok(None);
        };
        let name = name.into();
        let accessors = self.nested(Self::accessors)?;
        if braced {
            self.lexer.expect("}", "at the end of the reference")?;
        }
        Ok(Some(Reference { name, accessors, at }))
    }

    fn accessors(&mut self) -> Result<Vec<Accessor>, SyntaxError> {
        let mut accessors = Vec::new();
        loop {
            let named = self.lexer.byte() == Some(b'.')
                && matches!(self.lexer.byte_at(1), Some(byte) if byte.is_ascii_alphabetic());
            if named {
                self.lexer.offset += 1;
                let Some(name) = self.lexer.identifier() else { return Ok(accessors) };
                let name = name.into();
                accessors.push(match self.lexer.eat("(") {
                    true => Accessor::Method(name, self.list(")")?),
                    false => Accessor::Property(name),
                });
            } else if self.lexer.eat("[") {
                self.lexer.whitespace();
                let index = self.argument()?;
                self.lexer.whitespace();
                self.lexer.expect("]", "after the index")?;
                accessors.push(Accessor::Index(index));
            } else {
                return Ok(accessors);
            }
        }
    }

    /// Parses arguments separated by commas, until `close`.
    fn list(&mut self, close: &str) -> Result<Vec<Expression>, SyntaxError> {
        let mut items = Vec::new();
        if self.lexer.eat(close) {
            return Ok(items);
        }
        loop {
            self.lexer.whitespace();
            items.push(self.argument()?);
            self.lexer.whitespace();
            if self.lexer.eat(close) {
                return Ok(items);
            }
            self.lexer.expect(",", &format!("between values, or {close} after them"))?;
        }
    }

    /// Parses a value without operators, as methods, indexes and loops take it.
    pub(crate) fn argument(&mut self) -> Result<Expression, SyntaxError> {
        self.nested(|parser| {
            let missing = |parser: &Self| Err(parser.lexer.error("a value is missing"));
            match parser.lexer.byte() {
                Some(b'$') => match parser.reference()? {
                    Some(reference) => Ok(Expression::Reference(reference)),
                    None => missing(parser),
                },
                Some(b'[') => parser.brackets(),
                Some(b'{') => parser.braces(),
                Some(b'\'' | b'"') => parser.text(),
                _ if parser.word("true") => Ok(Expression::Boolean(true)),
                _ if parser.word("false") => Ok(Expression::Boolean(false)),
                _ => match parser.lexer.number()? {
                    Some(Literal::Integer(number)) => Ok(Expression::Integer(number)),
                    Some(Literal::Float(number)) => Ok(Expression::Float(number)),
                    None => missing(parser),
                },
            }
        })
    }

    /// Takes a whole word, if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let goes_on = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@');
        let found = self.lexer.rest().starts_with(word) && !self.lexer.byte_at(word.len()).is_some_and(goes_on);
        if found {
            self.lexer.offset += word.len();
        }
        found
    }

    /// Parses a string. `"…"` is a template of its own, `'…'` is not.
    fn text(&mut self) -> Result<Expression, SyntaxError> {
        let at = self.lexer.position();
        if let Some(text) = self.lexer.quoted('\'')? {
            return Ok(Expression::Text(text.into()));
        }
        let text = self.lexer.quoted('"')?.unwrap_or_default();
        let text = with_unicode_escapes(text);
        if !text.contains(['$', '#']) {
            return Ok(Expression::Text(text.into()));
        }
        Ok(Expression::Interpolated(Parser::within(&text, at, self.depth()).template()?, at))
    }

    /// `[1, 2]` or `[1..2]`
    fn brackets(&mut self) -> Result<Expression, SyntaxError> {
        self.lexer.expect("[", "before a list")?;
        self.lexer.whitespace();
        if self.lexer.eat("]") {
            return Ok(Expression::List(Vec::new()));
        }
        let first = self.argument()?;
        self.lexer.whitespace();
        if self.lexer.eat("..") {
            self.lexer.whitespace();
            let last = self.argument()?;
            self.lexer.whitespace();
            self.lexer.expect("]", "after the range")?;
            return Ok(Expression::Range(Box::new(first), Box::new(last)));
        }
        let mut items = vec![first];
        if !self.lexer.eat("]") {
            self.lexer.expect(",", "between values, or ] after them")?;
            items.extend(self.list("]")?);
            if items.len() == 1 {
                return Err(self.lexer.error("a value is missing after the comma"));
            }
        }
        Ok(Expression::List(items))
    }

    /// `{'a': 1}`
    fn braces(&mut self) -> Result<Expression, SyntaxError> {
        self.lexer.expect("{", "before a map")?;
        self.lexer.whitespace();
        let mut entries = Vec::new();
        if self.lexer.eat("}") {
            return Ok(Expression::Map(entries));
        }
        loop {
            self.lexer.whitespace();
            let key = self.argument()?;
            self.lexer.whitespace();
            self.lexer.expect(":", "between a key and its value")?;
            self.lexer.whitespace();
            entries.push((key, self.argument()?));
            self.lexer.whitespace();
            if self.lexer.eat("}") {
                return Ok(Expression::Map(entries));
            }
            self.lexer.expect(",", "between entries, or } after them")?;
        }
    }

    /// Parses an expression with operators, as conditions and assignments take it.
    pub(crate) fn expression(&mut self) -> Result<Expression, SyntaxError> {
        self.nested(|parser| parser.chain(0))
    }

    /// Parses operators of a rank, from left to right.
    fn chain(&mut self, rank: usize) -> Result<Expression, SyntaxError> {
        if rank == RANKS {
            return self.operand();
        }
        let first = self.chain(rank + 1)?;
        let mut rest = Vec::new();
        loop {
            let start = self.lexer.offset;
            self.lexer.whitespace();
            match self.operator() {
                Some(operator) if operator.rank() == rank => rest.push((operator, self.chain(rank + 1)?)),
                _ => {
                    self.lexer.offset = start;
                    return Ok(if rest.is_empty() { first } else { Expression::Chain(Box::new(first), rest) });
                }
            }
        }
    }

    fn operand(&mut self) -> Result<Expression, SyntaxError> {
        let mut negated = false;
        let mut negations = false;
        loop {
            self.lexer.whitespace();
            if self.lexer.eat("!") || self.word("not") {
                negated = !negated;
                negations = true;
            } else {
                break;
            }
        }
        let operand = if self.lexer.eat("(") {
            let inner = self.expression()?;
            self.lexer.whitespace();
            self.lexer.expect(")", "after the expression")?;
            inner
        } else {
            self.argument()?
        };
        let not = |operand| Expression::Not(Box::new(operand));
        Ok(match (negations, negated) {
            (false, _) => operand,
            (true, true) => not(operand),
            (true, false) => not(not(operand)),
        })
    }

    fn operator(&mut self) -> Option<Operator> {
        const SIGNS: [(&str, Operator); 7] = [
            ("||", Operator::Or),
            ("&&", Operator::And),
            ("+", Operator::Add),
            ("-", Operator::Subtract),
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("%", Operator::Remainder),
        ];
        const WORDS: [(&str, Operator); 8] = [
            ("or", Operator::Or),
            ("and", Operator::And),
            ("eq", Operator::Equal),
            ("ne", Operator::NotEqual),
            ("le", Operator::LessOrEqual),
            ("ge", Operator::GreaterOrEqual),
            ("lt", Operator::Less),
            ("gt", Operator::Greater),
        ];
        // Velocity reads `1 -1` as two numbers without an operator.
        if self.lexer.byte() == Some(b'-')
            && matches!(self.lexer.byte_at(1), Some(byte) if byte.is_ascii_digit() || byte == b'.')
        {
            return None;
        }
        let sign = SIGNS.iter().chain(&COMPARISONS).find(|(sign, _)| self.lexer.eat(sign));
        sign.or_else(|| WORDS.iter().find(|(word, _)| self.word(word))).map(|(_, operator)| *operator)
    }
}

/// Replaces `\u0041` by `A`: the only escape in double quotes.
fn with_unicode_escapes(text: String) -> String {
    if !text.contains("\\u") {
        return text;
    }
    let mut units = Vec::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.find("\\u") {
        units.extend(rest[..next].encode_utf16());
        let digits = rest.get(next + 2..next + 6).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        units.extend(unit.map_or_else(|| "\\u".encode_utf16().collect(), |unit| vec![unit]));
        rest = &rest[next + if unit.is_some() { 6 } else { 2 }..];
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}
