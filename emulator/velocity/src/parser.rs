//! Parses a template: text, references, directives and comments.

use crate::{
    NESTING_MAX, Position, SyntaxError, TEMPLATE_BYTES_MAX,
    lexer::Lexer,
    syntax::{Accessor, Escaped, Expression, Node, Reference},
};

/// Directives of Velocity. A backslash escapes only these.
const DIRECTIVES: [&str; 14] = [
    "break", "define", "else", "elseif", "end", "evaluate", "foreach", "if", "include", "literal", "macro", "parse",
    "set", "stop",
];

#[derive(Debug)]
pub(crate) struct Parser<'s> {
    pub(crate) lexer: Lexer<'s>,
    depth: usize,
}

/// What ends a block.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Source,
    End,
    Else,
    ElseIf,
}

/// A block, as far as it has been read.
#[derive(Debug, Default)]
struct Block {
    nodes: Vec<Node>,
    /// Text since the last node.
    text: String,
    /// Where in `text` the last plain run begins. If it is blank, it vanishes before `#set`.
    run: usize,
}

impl Block {
    /// Text between tokens.
    fn plain(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Text that is a token of its own.
    fn token(&mut self, text: &str) {
        self.text.push_str(text);
        self.run = self.text.len();
    }

    fn push(&mut self, node: Node) {
        self.flush();
        self.nodes.push(node);
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.nodes.push(Node::Text(std::mem::take(&mut self.text).into()));
        }
        self.run = 0;
    }

    /// Whether the last thing read is a property without braces. Right after one, Velocity does not recognise a
    /// comment.
    fn ends_with_property(&self) -> bool {
        let last = self.nodes.last().filter(|_| self.text.is_empty());
        matches!(last, Some(Node::Reference(Escaped { literal, reference, .. }))
            if !literal.ends_with('}') && matches!(reference.accessors.last(), Some(Accessor::Property(_))))
    }

    /// Removes blanks before `#set`.
    fn drop_blank_run(&mut self) {
        if self.text[self.run..].bytes().all(|byte| matches!(byte, b' ' | b'\t')) {
            self.text.truncate(self.run);
        }
    }
}

impl<'s> Parser<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Self { lexer: Lexer::new(source, None), depth: 0 }
    }

    /// A parser of a string within a template, at a position and depth of that template.
    pub(crate) fn within(source: &'s str, at: Position, depth: usize) -> Self {
        Self { lexer: Lexer::new(source, Some(at)), depth }
    }

    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Runs `parse` one level deeper.
    pub(crate) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        if self.depth == NESTING_MAX {
            return Err(self.lexer.error(format!("nested more than {NESTING_MAX} deep")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub(crate) fn template(mut self) -> Result<Vec<Node>, SyntaxError> {
        let bytes = self.lexer.source.len();
        if bytes > TEMPLATE_BYTES_MAX {
            return Err(self.lexer.error(format!("the template has {bytes} bytes, more than {TEMPLATE_BYTES_MAX}")));
        }
        let (nodes, ending, at) = self.block()?;
        let name = match ending {
            Ending::Source => return Ok(nodes),
            Ending::End => "end",
            Ending::Else => "else",
            Ending::ElseIf => "elseif",
        };
        Err(SyntaxError { at, message: format!("#{name} without an open #if or block") })
    }

    /// Parses until the block ends. Returns what ends it, and where.
    fn block(&mut self) -> Result<(Vec<Node>, Ending, Position), SyntaxError> {
        let mut block = Block::default();
        let ending = loop {
            let rest = self.lexer.rest();
            let Some(next) = rest.find(['$', '#', '\\']) else {
                block.plain(rest);
                self.lexer.offset = self.lexer.source.len();
                break (Ending::Source, self.lexer.position());
            };
            block.plain(&rest[..next]);
            self.lexer.offset += next;
            let backslashes = rest[next..].bytes().take_while(|byte| *byte == b'\\').count();
            match self.lexer.byte_at(backslashes) {
                Some(b'$') => self.dollar(&mut block, backslashes)?,
                Some(b'#') => {
                    let at = self.lexer.position();
                    if let Some(ending) = self.hash(&mut block, backslashes)? {
                        break (ending, at);
                    }
                }
                _ => {
                    block.token(&"\\".repeat(backslashes));
                    self.lexer.offset += backslashes;
                }
            }
        };
        block.flush();
        Ok((block.nodes, ending.0, ending.1))
    }

    /// Parses a reference, or a dollar sign as text.
    fn dollar(&mut self, block: &mut Block, backslashes: usize) -> Result<(), SyntaxError> {
        let start = self.lexer.offset;
        self.lexer.offset += backslashes;
        let dollar = self.lexer.offset;
        let Some(reference) = self.reference()? else {
            self.lexer.offset = dollar + 1;
            let quiet = self.lexer.eat("!");
            if self.lexer.rest().is_empty() && !self.lexer.is_within() {
                self.lexer.offset = dollar;
                return Err(self.lexer.error("a template cannot end with $"));
            }
            block.token(&self.lexer.source[start..=dollar]);
            // Velocity drops an exclamation mark before plain text.
            if quiet && matches!(self.lexer.byte(), Some(b'{' | b'$' | b'#' | b'\\')) {
                block.token("!");
            }
            return Ok(());
        };
        let literal = self.lexer.source[dollar..self.lexer.offset].into();
        block.push(Node::Reference(Escaped { backslashes, literal, reference }));
        Ok(())
    }

    /// Parses a directive, a comment, or a hash sign as text. Returns the ending, if it ends the block.
    fn hash(&mut self, block: &mut Block, backslashes: usize) -> Result<Option<Ending>, SyntaxError> {
        let word = self.lexer.directive_word(backslashes + 1);
        let known = word.is_some_and(|(word, _)| DIRECTIVES.contains(&word));
        if let (Some((_, end)), 1) = (word, backslashes % 2) {
            let kept = if known { backslashes / 2 } else { backslashes };
            block.token(&"\\".repeat(kept));
            block.token(&self.lexer.source[self.lexer.offset + backslashes..end]);
            self.lexer.offset = end;
            return Ok(None);
        }
        if backslashes > 0 {
            let halved = known && word.is_some_and(|(word, _)| word != "set");
            block.token(&"\\".repeat(if halved { backslashes / 2 } else { backslashes }));
            self.lexer.offset += backslashes;
        }
        if self.lexer.rest().starts_with("##") && block.ends_with_property() {
            block.token("##");
            self.lexer.offset += 2;
        } else if self.lexer.rest().starts_with("##") {
            block.flush();
            let rest = self.lexer.rest();
            self.lexer.offset += rest.find(['\n', '\r']).unwrap_or(rest.len());
            self.lexer.end_of_line();
        } else if let Some(comment) = self.lexer.rest().strip_prefix("#*") {
            block.token("");
            self.lexer.offset += 2 + comment.find("*#").map_or(comment.len(), |end| end + 2);
        } else if let Some(raw) = self.lexer.rest().strip_prefix("#[[") {
            let end = raw.find("]]#").ok_or_else(|| self.lexer.error("]]# is missing after #[["))?;
            block.token(&raw[..end]);
            self.lexer.offset += end + 6;
        } else if let Some((word, end)) = word {
            return self.directive(block, word, end);
        } else {
            if self.lexer.rest().len() == 1 && !self.lexer.is_within() {
                return Err(self.lexer.error("a template cannot end with #"));
            }
            block.token("#");
            self.lexer.offset += 1;
        }
        Ok(None)
    }

    fn directive(&mut self, block: &mut Block, word: &str, end: usize) -> Result<Option<Ending>, SyntaxError> {
        let start = self.lexer.offset;
        let at = self.lexer.position();
        self.lexer.offset = end;
        match word {
            "set" => {
                self.lexer.take_while(|byte| byte == b' ');
                if self.lexer.eat("(") {
                    block.drop_blank_run();
                    let node = self.set()?;
                    block.push(node);
                } else {
                    self.lexer.whitespace();
                    if self.lexer.byte() == Some(b'(') {
                        return Err(self
                            .lexer
                            .error("#set and its bracket must be on one line, with only spaces between them"));
                    }
                    block.token(&self.lexer.source[start..end]);
                    self.lexer.offset = end;
                }
            }
            "if" => {
                let node = self.nested(|parser| parser.branches(at))?;
                block.push(node);
            }
            "foreach" => {
                let node = self.nested(|parser| parser.foreach(at))?;
                block.push(node);
            }
            "define" => {
                let node = self.nested(|parser| parser.define(at))?;
                block.push(node);
            }
            "break" | "stop" => {
                if self.lexer.byte() == Some(b'(') {
                    self.arguments()?;
                }
                block.push(if word == "break" { Node::Break } else { Node::Stop });
            }
            "end" => {
                self.lexer.end_of_line();
                return Ok(Some(Ending::End));
            }
            "else" => {
                self.lexer.end_of_line();
                return Ok(Some(Ending::Else));
            }
            "elseif" => return Ok(Some(Ending::ElseIf)),
            "evaluate" | "include" | "literal" | "macro" | "parse" => {
                return Err(SyntaxError { at, message: format!("#{word} is not supported") });
            }
            // An unknown directive and its arguments are text.
            _ => {
                if self.lexer.byte() == Some(b'(') {
                    self.arguments()?;
                }
                block.token(&self.lexer.source[start..self.lexer.offset]);
            }
        }
        Ok(None)
    }

    /// Skips arguments in brackets.
    fn arguments(&mut self) -> Result<(), SyntaxError> {
        self.lexer.expect("(", "after the name of the directive")?;
        loop {
            self.lexer.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b','));
            if self.lexer.eat(")") {
                return Ok(());
            }
            // A word in braces or after @ is not an identifier, so `identifier` would never get past it.
            let is_word = self.lexer.byte().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            let word = self.lexer.directive_word(0).filter(|_| is_word);
            if word.is_some_and(|(word, _)| !matches!(word, "true" | "false")) {
                self.lexer.identifier();
            } else {
                self.argument()?;
            }
        }
    }

    /// Takes the bracket after the name of a directive, and whitespace before it.
    fn open(&mut self, directive: &str) -> Result<(), SyntaxError> {
        self.lexer.whitespace();
        self.lexer.expect("(", &format!("after {directive}"))
    }

    /// Takes the bracket at the end of a directive, and the end of its line.
    fn close(&mut self, directive: &str) -> Result<(), SyntaxError> {
        self.lexer.whitespace();
        self.lexer.expect(")", &format!("at the end of {directive}"))?;
        self.lexer.end_of_line();
        Ok(())
    }

    fn set(&mut self) -> Result<Node, SyntaxError> {
        self.lexer.whitespace();
        if self.lexer.rest().starts_with("${") || self.lexer.rest().starts_with("$!") {
            return Err(self.lexer.error("#set takes $name without braces and exclamation mark"));
        }
        let target = self.required_reference("#set")?;
        if let Some(Accessor::Method(name, _)) = target.accessors.last() {
            return Err(self.lexer.error(format!("the result of {name}() cannot be set")));
        }
        self.lexer.whitespace();
        self.lexer.expect("=", "in #set")?;
        let value = self.expression()?;
        self.close("#set")?;
        Ok(Node::Set { target, value })
    }

    fn required_reference(&mut self, directive: &str) -> Result<Reference, SyntaxError> {
        let reference = if self.lexer.byte() == Some(b'$') { self.reference()? } else { None };
        reference.ok_or_else(|| self.lexer.error(format!("a $name is missing in {directive}")))
    }

    fn branches(&mut self, at: Position) -> Result<Node, SyntaxError> {
        let mut branches = Vec::new();
        self.open("#if")?;
        let mut condition = self.expression()?;
        self.close("#if")?;
        let otherwise = loop {
            let (body, ending, _) = self.block()?;
            branches.push((condition, body));
            match ending {
                Ending::Source => return Err(unclosed(at, "#if")),
                Ending::End => break Vec::new(),
                Ending::Else => break self.last_block(at, "#if")?,
                Ending::ElseIf => {
                    self.open("#elseif")?;
                    condition = self.expression()?;
                    self.close("#elseif")?;
                }
            }
        };
        Ok(Node::If { branches, otherwise })
    }

    /// Parses a block that only `#end` can end.
    fn last_block(&mut self, opened_at: Position, directive: &str) -> Result<Vec<Node>, SyntaxError> {
        match self.block()? {
            (nodes, Ending::End, _) => Ok(nodes),
            (_, Ending::Source, _) => Err(unclosed(opened_at, directive)),
            (_, _, at) => {
                Err(SyntaxError { at, message: "#else or #elseif after #else, or without an open #if".to_owned() })
            }
        }
    }

    fn foreach(&mut self, at: Position) -> Result<Node, SyntaxError> {
        self.open("#foreach")?;
        let variable = self.variable("#foreach")?;
        self.lexer.whitespace();
        self.lexer.expect("in", "in #foreach")?;
        self.lexer.whitespace();
        let list: Expression = self.argument()?;
        self.close("#foreach")?;
        Ok(Node::Foreach { variable, list, body: self.last_block(at, "#foreach")?, at })
    }

    fn define(&mut self, at: Position) -> Result<Node, SyntaxError> {
        self.open("#define")?;
        let variable = self.variable("#define")?;
        self.close("#define")?;
        Ok(Node::Define { variable, body: self.last_block(at, "#define")? })
    }

    /// Parses a plain name.
    fn variable(&mut self, directive: &str) -> Result<Box<str>, SyntaxError> {
        self.lexer.whitespace();
        let reference = self.required_reference(directive)?;
        if reference.accessors.is_empty() {
            Ok(reference.name)
        } else {
            Err(self.lexer.error(format!("{directive} takes a plain $name")))
        }
    }
}

fn unclosed(at: Position, directive: &str) -> SyntaxError {
    SyntaxError { at, message: format!("{directive} has no #end") }
}
