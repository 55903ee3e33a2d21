//! A statement's tokens, one ahead: what the class is read from.

use std::borrow::Cow;

use crate::sql::ir::Span;
use crate::sql::lexer::{Literal, LiteralKind};
use crate::sql::literal;
use crate::sql::token::{self, Lexer, Token, TokenKind};

/// A cursor over a statement's tokens.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    text: &'a str,
    standard_strings: bool,
    lexer: Lexer<'a>,
    next: Option<Token>,
    /// The text can't be cut further: it has no end then, so that nothing matches it.
    failed: bool,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str, standard_strings: bool) -> Self {
        let lexer = Lexer::new(text.as_bytes(), standard_strings);
        let mut words = Self { text, standard_strings, lexer, next: None, failed: false };
        words.advance();
        words
    }

    fn advance(&mut self) {
        let step = self.lexer.step();
        self.failed |= step.is_err();
        self.next = step.ok().flatten();
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The whole statement.
    pub(super) fn whole(&self) -> &'a str {
        self.text
    }

    /// The next token.
    pub(super) fn next(&self) -> Option<Token> {
        self.next
    }

    /// Takes the next token, whatever it is.
    pub(super) fn take_any(&mut self) -> Option<Token> {
        let token = self.next?;
        self.advance();
        Some(token)
    }

    pub(super) fn at_end(&self) -> bool {
        self.next.is_none() && !self.failed
    }

    /// Where the next token starts.
    pub(super) fn position(&self) -> Option<u32> {
        self.next.map(|token| token.span.start)
    }

    fn is_kind(&self, kind: TokenKind) -> bool {
        self.next.is_some_and(|token| token.kind == kind)
    }

    /// Whether the next token is this keyword (given in lower case).
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.next.is_some_and(|token| {
            token.kind == TokenKind::Word && self.text(token.span).eq_ignore_ascii_case(keyword)
        })
    }

    pub(super) fn take(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.advance();
        }
        found
    }

    /// Takes these keywords, all or none.
    pub(super) fn take_all(&mut self, keywords: &[&str]) -> bool {
        let before = self.clone();
        let found = keywords.iter().all(|keyword| self.take(keyword));
        if !found {
            *self = before;
        }
        found
    }

    /// Takes a keyword in lower case, if it fits the buffer.
    pub(super) fn take_lower<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b str> {
        let token = self.next.filter(|token| token.kind == TokenKind::Word)?;
        let word = self.text(token.span).as_bytes();
        let lower = buffer.get_mut(..word.len())?;
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        self.advance();
        std::str::from_utf8(lower).ok()
    }

    /// Whether the next token is this symbol or operator.
    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.next.is_some_and(|token| {
            matches!(token.kind, TokenKind::Symbol | TokenKind::Operator)
                && self.text(token.span) == symbol
        })
    }

    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    /// Whether the token after the next is a string.
    pub(super) fn second_is_string(&self) -> bool {
        let mut second = self.clone();
        second.advance();
        second.string_token().is_some()
    }

    /// Whether what follows the next token makes it the name of a setting: `=`, TO, or a dot.
    pub(super) fn is_assigned(&self) -> bool {
        let mut second = self.clone();
        second.advance();
        second.is_symbol("=") || second.is("to") || second.is_symbol(".")
    }

    /// An identifier, as PostgreSQL folds it.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = token::fold(self.text, self.next?)?.into_owned();
        self.advance();
        Some(name)
    }

    /// `a.b.c`: its first part.
    pub(super) fn qualified_name(&mut self) -> Option<String> {
        let first = self.name()?;
        while self.take_symbol(".") {
            self.name()?;
        }
        Some(first)
    }

    /// A string, in whatever quotes.
    pub(super) fn string_token(&mut self) -> Option<Token> {
        let token = self.next?;
        let TokenKind::Literal(kind) = token.kind else { return None };
        let string = match kind {
            LiteralKind::Integer | LiteralKind::Decimal => false,
            LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => true,
            LiteralKind::Other => self.text(token.span).ends_with('\''),
        };
        string.then(|| {
            self.advance();
            token
        })
    }

    /// A literal's value.
    pub(super) fn value_of(&self, token: Token) -> Option<Cow<'a, str>> {
        let TokenKind::Literal(kind) = token.kind else { return None };
        literal::text_of(self.text, Literal { kind, span: token.span }, self.standard_strings)
    }

    /// Takes `(`, its `)` and everything between.
    pub(super) fn skip_parentheses(&mut self) -> Option<()> {
        let mut depth = 0u32;
        loop {
            if self.is_symbol("(") {
                depth += 1;
            } else if self.is_symbol(")") {
                depth = depth.checked_sub(1)?;
            }
            self.take_any()?;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Whether this keyword stands outside of parentheses in what is left.
    pub(super) fn has(&self, keyword: &str) -> bool {
        let mut words = self.clone();
        loop {
            if words.is_symbol("(") {
                if words.skip_parentheses().is_none() {
                    return false;
                }
                continue;
            }
            if words.is(keyword) {
                return true;
            }
            if words.take_any().is_none() {
                return false;
            }
        }
    }

    /// Whether the next token is a word or a quoted name.
    pub(super) fn is_name(&self) -> bool {
        self.is_kind(TokenKind::Word) || self.is_kind(TokenKind::QuotedName)
    }
}
