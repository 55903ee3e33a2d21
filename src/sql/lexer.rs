//! The single-pass lexer: literals, shape, hint, statement boundaries.
//!
//! [`scan`] reads one query string once, without allocating when its buffers have grown. PostgreSQL's
//! rules for tokens are in [`super::token`]; here is what is made of them.
//!
//! # The shape
//!
//! A statement's text with each literal replaced by one byte that says how it was written
//! ([`LiteralKind::mark`]), and each run of blanks and comments by one space. Two statements of one shape
//! have the same tokens but for their literals' values, so they share an analysis. The marks are control
//! characters: outside of quotes PostgreSQL's grammar has no use for them (they are refused here), and
//! within quotes that are kept no mark is ever put, so a shape can be read in one way only, whatever the
//! client's encoding; bytes that UTF-8 lacks would be letters in LATIN1.
//!
//! Literals stay in the shape, and are not in [`Scan::literals`], where their value changes what a
//! statement means:
//!
//! * numbers in ORDER BY, GROUP BY and DISTINCT ON, where they can be positions (`ORDER BY (2)` too);
//! * everything after LIMIT, OFFSET, FETCH;
//! * the options in `EXPLAIN (ANALYZE 0) …`;
//! * the string after UESCAPE, which says how a `U&"…"` identifier is read.
//!
//! The first two last until the parenthesis that encloses the clause closes, a keyword ends the clause
//! (only where it can be nothing but that keyword), or the statement ends.
//!
//! # Statement boundaries
//!
//! A `;` ends a statement outside of parentheses and brackets, and outside of the `BEGIN ATOMIC … END` of
//! CREATE FUNCTION or PROCEDURE. In such a body END closes it exactly when it follows a `;` (or ATOMIC):
//! nothing else that may stand there starts with END, while `CASE … END` and columns named `end` do not
//! follow one.
//!
//! Deliberately absent: the class of a statement ([`super::class`]), values ([`super::literal`]).

use memchr::memchr;

use super::ir::Span;
use super::token::{self, Lexer, Token, TokenKind};
use crate::error::{SqlError, SqlState};

/// A literal that was lifted out of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// How it was written.
    pub kind: LiteralKind,
    /// Where it stands, quotes and prefix included.
    pub span: Span,
}

/// How a literal was written. Part of the shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiteralKind {
    /// Digits alone.
    Integer,
    /// With a point or an exponent.
    Decimal,
    /// `'…'` (also with `standard_conforming_strings`).
    String,
    /// `E'…'`.
    EscapeString,
    /// `$tag$…$tag$`.
    DollarString,
    /// `U&'…'`, `B'…'`, `X'…'`, `N'…'`, hex/octal/binary integers, or strings continued over lines.
    Other,
}

/// What [`scan`] found: buffers that are reused from one query string to the next.
#[derive(Debug, Default)]
pub struct Scan {
    /// One entry for each statement of the query string, split at top-level `;`. Empty statements are
    /// left out, unless there is nothing else: then there is one of [`super::class::Class::Empty`].
    pub statements: Vec<Scanned>,
    /// Literals of all statements; their spans count from their own statement's start.
    pub literals: Vec<Literal>,
    /// Shapes of all statements: the text with each literal replaced by a mark of its kind.
    pub shapes: Vec<u8>,
}

/// One statement of a query string.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Where it stands in the query string, without blanks and comments before the first and after the
    /// last token, without `;`. (A leading hint comment is outside of it.)
    pub span: Span,
    /// Its literals: a range of [`Scan::literals`].
    pub literals: std::ops::Range<u32>,
    /// Its shape: a range of [`Scan::shapes`].
    pub shape: std::ops::Range<u32>,
    /// The text of a leading `/* pgmeridian: … */` comment, without the comment's marks and the name.
    pub hint: Option<Span>,
    /// How many tokens.
    pub tokens: u32,
    /// Deepest nesting of parentheses and brackets.
    pub depth: u32,
    /// Highest `$n`; 0 for none.
    pub params: u16,
}

impl LiteralKind {
    /// The byte that stands for a literal in a shape.
    #[inline]
    pub const fn mark(self) -> u8 {
        match self {
            Self::Integer => 1,
            Self::Decimal => 2,
            Self::String => 3,
            Self::EscapeString => 4,
            Self::DollarString => 5,
            Self::Other => 6,
        }
    }
}

impl Scan {
    /// Forgets everything but the buffers' capacity, and of that what a rare huge statement needed.
    pub fn clear(&mut self) {
        clear(&mut self.statements);
        clear(&mut self.literals);
        clear(&mut self.shapes);
    }

    /// A statement's literals.
    pub fn literals_of(&self, statement: &Scanned) -> &[Literal] {
        let range = statement.literals.start as usize..statement.literals.end as usize;
        self.literals.get(range).unwrap_or_default()
    }

    /// A statement's shape.
    pub fn shape_of(&self, statement: &Scanned) -> &[u8] {
        let range = statement.shape.start as usize..statement.shape.end as usize;
        self.shapes.get(range).unwrap_or_default()
    }
}

/// What a buffer keeps from one query string to the next, at most: statements beyond this are rare
/// enough to pay for an allocation.
const KEPT_BYTES_MAX: usize = 256 * 1024;

fn clear<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    if buffer.capacity() * size_of::<T>() > KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
}

/// Bounds on one query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in the whole query string. A parser's tree takes a few hundred bytes for each, and so does
    /// the record of each statement.
    pub tokens_max: u32,
    /// Nesting of parentheses and brackets. Parsers recurse over it; PostgreSQL's own bound
    /// (`max_stack_depth`, 2 MB) is reached at a few thousand.
    pub depth_max: u32,
    /// Literals in one statement: a slot's number has 16 bits, as a parameter's has in the protocol.
    pub literals_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tokens_max: 1_000_000, depth_max: 1_000, literals_max: u16::MAX }
    }
}

/// Reads a query string and fills `out` (what was in it is forgotten): statements, literals, shapes,
/// hints. `standard_strings` is the session's `standard_conforming_strings`.
///
/// The bytes must be in an encoding that keeps ASCII bytes for ASCII characters (every encoding that
/// PostgreSQL accepts for a server does; SJIS, BIG5, GBK, GB18030, UHC and JOHAB don't).
///
/// # Errors
///
/// 42601 as PostgreSQL words it for what can't be cut into tokens and for a `)` too many; 54001 and 53400
/// past the limits; 42P02 for `$0` and `$65536`; 22023 for two hints before one statement. Positions are
/// characters of the query string, from 1. After an error `out` holds nothing of use.
pub fn scan(
    text: &[u8],
    standard_strings: bool,
    limits: &Limits,
    out: &mut Scan,
) -> Result<(), SqlError> {
    out.clear();
    if u32::try_from(text.len()).is_err() {
        return Err(SqlError::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            "the query string is longer than 4 GB",
        ));
    }
    if let Some(at) = memchr(0, text) {
        return Err(token::error_near("syntax error", text, at, at));
    }
    let lexer = Lexer::new(text, standard_strings);
    Scanner { text, limits, out, lexer, tokens: 0, statement: Current::default() }.run()
}

struct Scanner<'a> {
    text: &'a [u8],
    limits: &'a Limits,
    out: &'a mut Scan,
    lexer: Lexer<'a>,
    /// In the whole query string, statement ends included.
    tokens: u32,
    statement: Current,
}

/// The statement that is being read.
#[derive(Default)]
struct Current {
    start: u32,
    tokens: u32,
    /// Up to here the text is in the shape.
    copied: u32,
    first_literal: u32,
    shape_start: u32,
    hint: Option<Span>,
    depth: u32,
    depth_max: u32,
    params: u16,
    previous: Previous,
    verbatim: Verbatim,
    /// The clause that is kept ends when a parenthesis closes below this depth.
    verbatim_depth: u32,
    in_body: bool,
    /// Whether it starts with CREATE [OR REPLACE] FUNCTION or PROCEDURE, once that was asked.
    creates_routine: Option<bool>,
}

/// Which literals stay in the shape.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Verbatim {
    #[default]
    None,
    Numbers,
    All,
}

/// The last token, as far as it changes how the next one is taken.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Previous {
    #[default]
    Other,
    Dot,
    Semicolon,
    Word(Keyword),
}

/// The keywords that matter here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    As,
    Atomic,
    Begin,
    By,
    Distinct,
    End,
    Explain,
    Group,
    /// LIMIT, OFFSET, FETCH.
    Limit,
    On,
    Order,
    /// What can follow ORDER BY, GROUP BY or LIMIT and begins something else: HAVING, UNION, INTERSECT,
    /// EXCEPT, RETURNING. All of them are reserved.
    Ends,
    Uescape,
}

/// Bit `n` is set if a keyword of `n` letters starts with this letter.
static KEYWORD_LENGTHS: [u16; 256] = keyword_lengths();

const fn keyword_lengths() -> [u16; 256] {
    const WORDS: [&str; 19] = [
        "as",
        "atomic",
        "begin",
        "by",
        "distinct",
        "end",
        "explain",
        "group",
        "limit",
        "offset",
        "fetch",
        "on",
        "order",
        "having",
        "union",
        "intersect",
        "except",
        "returning",
        "uescape",
    ];
    let mut table = [0; 256];
    let mut i = 0;
    while i < WORDS.len() {
        let word = WORDS[i].as_bytes();
        table[word[0] as usize] |= 1 << word.len();
        table[word[0].to_ascii_uppercase() as usize] |= 1 << word.len();
        i += 1;
    }
    table
}

#[inline]
fn keyword(word: &[u8]) -> Option<Keyword> {
    let lengths = KEYWORD_LENGTHS[*word.first()? as usize];
    if word.len() > 15 || lengths >> word.len() & 1 == 0 {
        return None;
    }
    keyword_of_length(word)
}

fn keyword_of_length(word: &[u8]) -> Option<Keyword> {
    let mut lower = [0; 9];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"as" => Keyword::As,
        b"atomic" => Keyword::Atomic,
        b"begin" => Keyword::Begin,
        b"by" => Keyword::By,
        b"distinct" => Keyword::Distinct,
        b"end" => Keyword::End,
        b"explain" => Keyword::Explain,
        b"group" => Keyword::Group,
        b"limit" | b"offset" | b"fetch" => Keyword::Limit,
        b"on" => Keyword::On,
        b"order" => Keyword::Order,
        b"having" | b"union" | b"intersect" | b"except" | b"returning" => Keyword::Ends,
        b"uescape" => Keyword::Uescape,
        _ => return None,
    })
}

impl Scanner<'_> {
    fn run(mut self) -> Result<(), SqlError> {
        loop {
            let before = self.lexer.position();
            let token = match self.lexer.step() {
                Ok(Some(token)) => token,
                Ok(None) => {
                    self.finish(before);
                    break;
                }
                Err(fault) => return Err(fault.into_error(self.text)),
            };
            self.tokens += 1;
            if self.tokens > self.limits.tokens_max {
                return Err(self.too_many_tokens());
            }
            if token.kind == TokenKind::Symbol && self.ends_statement(token) {
                self.finish(before);
                continue;
            }
            if self.statement.tokens == 0 {
                self.begin(before, token)?;
            } else if token.span.start != before {
                self.fold_blanks(before, token.span.start);
            }
            self.statement.tokens += 1;
            self.take(token)?;
        }
        if self.out.statements.is_empty() {
            self.out.statements.push(Scanned {
                span: Span::default(),
                literals: 0..0,
                shape: 0..0,
                hint: None,
                tokens: 0,
                depth: 0,
                params: 0,
            });
        }
        Ok(())
    }

    #[inline]
    fn byte(&self, at: u32) -> u8 {
        self.text.get(at as usize).copied().unwrap_or(0)
    }

    #[inline]
    fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    #[inline]
    fn ends_statement(&self, token: Token) -> bool {
        let statement = &self.statement;
        self.byte(token.span.start) == b';' && statement.depth == 0 && !statement.in_body
    }

    /// The statement's first token; what was before it may hold a hint.
    #[inline]
    fn begin(&mut self, before: u32, token: Token) -> Result<(), SqlError> {
        let start = token.span.start;
        let hint = if start - before > 4 { self.leading_hint(before, start)? } else { None };
        self.statement = Current {
            start,
            copied: start,
            first_literal: self.out.literals.len() as u32,
            shape_start: self.out.shapes.len() as u32,
            hint,
            ..Current::default()
        };
        Ok(())
    }

    fn finish(&mut self, end: u32) {
        if self.statement.tokens == 0 {
            return;
        }
        self.copy_to_shape(end);
        let statement = std::mem::take(&mut self.statement);
        self.out.statements.push(Scanned {
            span: Span { start: statement.start, end },
            literals: statement.first_literal..self.out.literals.len() as u32,
            shape: statement.shape_start..self.out.shapes.len() as u32,
            hint: statement.hint,
            tokens: statement.tokens,
            depth: statement.depth_max,
            params: statement.params,
        });
    }

    #[inline]
    fn copy_to_shape(&mut self, end: u32) {
        let range = self.statement.copied as usize..end as usize;
        self.out.shapes.extend_from_slice(self.text.get(range).unwrap_or_default());
        self.statement.copied = end;
    }

    /// Blanks and comments between two tokens become one space.
    #[inline]
    fn fold_blanks(&mut self, start: u32, end: u32) {
        if end - start == 1 && self.byte(start) == b' ' {
            return;
        }
        self.copy_to_shape(start);
        self.out.shapes.push(b' ');
        self.statement.copied = end;
    }

    #[inline]
    fn take(&mut self, token: Token) -> Result<(), SqlError> {
        let mut previous = Previous::Other;
        if token.kind == TokenKind::Word {
            if let Some(word) = keyword(self.slice(token.span.start, token.span.end)) {
                self.keyword(word);
                previous = Previous::Word(word);
            }
        } else if token.kind == TokenKind::Symbol {
            previous = self.symbol(token)?;
        } else if let TokenKind::Literal(kind) = token.kind {
            self.literal(kind, token)?;
        } else if token.kind == TokenKind::Param {
            self.param(token)?;
        }
        self.statement.previous = previous;
        Ok(())
    }

    #[inline]
    fn literal(&mut self, kind: LiteralKind, token: Token) -> Result<(), SqlError> {
        let statement = &self.statement;
        let kept = match statement.verbatim {
            Verbatim::None => false,
            Verbatim::Numbers => self.byte(token.span.end - 1) != b'\'' && is_number(kind),
            Verbatim::All => true,
        };
        if kept || statement.previous == Previous::Word(Keyword::Uescape) {
            return Ok(());
        }
        let number = self.out.literals.len() as u32 - statement.first_literal;
        if number >= u32::from(self.limits.literals_max) {
            return Err(self.too_many_literals());
        }
        let start = statement.start;
        self.copy_to_shape(token.span.start);
        self.out.shapes.push(kind.mark());
        self.statement.copied = token.span.end;
        let span = Span { start: token.span.start - start, end: token.span.end - start };
        self.out.literals.push(Literal { kind, span });
        Ok(())
    }

    fn param(&mut self, token: Token) -> Result<(), SqlError> {
        let digits = self.slice(token.span.start + 1, token.span.end);
        let number = digits.iter().fold(0u32, |number, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0')))
        });
        match u16::try_from(number) {
            Ok(number @ 1..) => {
                self.statement.params = self.statement.params.max(number);
                Ok(())
            }
            _ => Err(self.no_such_param(token)),
        }
    }

    #[inline]
    fn symbol(&mut self, token: Token) -> Result<Previous, SqlError> {
        match self.byte(token.span.start) {
            b'(' | b'[' => self.open(token)?,
            b')' | b']' => self.close(token)?,
            b'.' => return Ok(Previous::Dot),
            b';' => {
                self.statement.verbatim = Verbatim::None;
                return Ok(Previous::Semicolon);
            }
            _ => {}
        }
        Ok(Previous::Other)
    }

    #[inline]
    fn open(&mut self, token: Token) -> Result<(), SqlError> {
        let statement = &mut self.statement;
        statement.depth += 1;
        statement.depth_max = statement.depth_max.max(statement.depth);
        if statement.previous == Previous::Word(Keyword::Explain) && statement.tokens == 2 {
            self.keep(Verbatim::All, 1);
        }
        if self.statement.depth > self.limits.depth_max {
            return Err(self.too_deep(token));
        }
        Ok(())
    }

    #[inline]
    fn close(&mut self, token: Token) -> Result<(), SqlError> {
        let Some(depth) = self.statement.depth.checked_sub(1) else {
            let Span { start, end } = token.span;
            let (start, end) = (start as usize, end as usize);
            return Err(token::error_near("syntax error", self.text, start, end));
        };
        self.statement.depth = depth;
        if depth < self.statement.verbatim_depth {
            self.statement.verbatim = Verbatim::None;
        }
        Ok(())
    }

    /// Literals stay in the shape from here on. Within a clause that is kept already the outer one
    /// goes on to decide where that ends.
    fn keep(&mut self, verbatim: Verbatim, depth: u32) {
        let statement = &mut self.statement;
        if statement.verbatim == Verbatim::None {
            statement.verbatim_depth = depth;
        }
        statement.verbatim = statement.verbatim.max(verbatim);
    }

    /// After a dot or AS any keyword is just a name, and no clause starts or ends there.
    fn keyword(&mut self, word: Keyword) {
        let statement = &mut self.statement;
        let depth = statement.depth;
        match (statement.previous, word) {
            (Previous::Word(Keyword::Order | Keyword::Group), Keyword::By) => {
                self.keep(Verbatim::Numbers, depth);
            }
            (Previous::Word(Keyword::Distinct), Keyword::On) => {
                self.keep(Verbatim::Numbers, depth + 1);
            }
            (Previous::Dot | Previous::Word(Keyword::As), _) => {}
            (_, Keyword::Limit) => self.keep(Verbatim::All, depth),
            (_, Keyword::On | Keyword::Ends) if depth == statement.verbatim_depth => {
                statement.verbatim = Verbatim::None;
            }
            (Previous::Word(Keyword::Begin), Keyword::Atomic) if depth == 0 => {
                self.begin_atomic();
            }
            (Previous::Semicolon | Previous::Word(Keyword::Atomic), Keyword::End) if depth == 0 => {
                statement.in_body = false;
            }
            _ => {}
        }
    }

    fn begin_atomic(&mut self) {
        let start = self.statement.start as usize;
        let text = self.text.get(start..).unwrap_or_default();
        let creates = self.statement.creates_routine.get_or_insert_with(|| creates_routine(text));
        self.statement.in_body |= *creates;
    }

    /// The hint among the comments between two statements.
    #[cold]
    fn leading_hint(&self, start: u32, end: u32) -> Result<Option<Span>, SqlError> {
        let mut hint = None;
        let mut at = start as usize;
        while at < end as usize {
            match (self.text.get(at), self.text.get(at + 1)) {
                (Some(b'-'), Some(b'-')) => at = token::line_comment_end(self.text, at),
                (Some(b'/'), Some(b'*')) => {
                    let close = token::block_comment_end(self.text, at).unwrap_or(end as usize);
                    if let Some(span) = hint_in_comment(self.text, at, close) {
                        if hint.is_some() {
                            return Err(self.two_hints(at));
                        }
                        hint = Some(span);
                    }
                    at = close;
                }
                _ => at += 1,
            }
        }
        Ok(hint)
    }

    #[cold]
    fn two_hints(&self, at: usize) -> SqlError {
        SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "more than one pgmeridian hint before a statement",
        )
        .hint("Write one comment: /* pgmeridian: shard=…, key=… */.")
        .position(token::character(self.text, at))
    }

    #[cold]
    fn no_such_param(&self, token: Token) -> SqlError {
        let written = String::from_utf8_lossy(self.slice(token.span.start, token.span.end));
        SqlError::new(SqlState("42P02"), format!("there is no parameter {written}"))
            .position(token::character(self.text, token.span.start as usize))
    }

    #[cold]
    fn too_deep(&self, token: Token) -> SqlError {
        let max = self.limits.depth_max;
        SqlError::new(
            SqlState::STATEMENT_TOO_COMPLEX,
            format!("parentheses are nested more than {max} deep"),
        )
        .detail("pgmeridian bounds the nesting of a statement, as PostgreSQL bounds its stack.")
        .position(token::character(self.text, token.span.start as usize))
    }

    #[cold]
    fn too_many_tokens(&self) -> SqlError {
        let max = self.limits.tokens_max;
        SqlError::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("the query string has more than {max} tokens"),
        )
        .hint("Send it in several parts, or use COPY for many rows.")
    }

    #[cold]
    fn too_many_literals(&self) -> SqlError {
        let max = self.limits.literals_max;
        SqlError::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("the statement has more than {max} literals"),
        )
        .hint("Insert fewer rows at a time, use COPY, or pass an array as one parameter.")
    }
}

/// Whether a literal that doesn't end in a quote is a number.
fn is_number(kind: LiteralKind) -> bool {
    matches!(kind, LiteralKind::Integer | LiteralKind::Decimal | LiteralKind::Other)
}

/// CREATE [OR REPLACE] FUNCTION | PROCEDURE.
fn creates_routine(text: &[u8]) -> bool {
    let mut lexer = Lexer::new(text, true);
    let mut word = |expected: &[u8]| match lexer.clone().step() {
        Ok(Some(Token { kind: TokenKind::Word, span })) => {
            let word = text.get(span.start as usize..span.end as usize).unwrap_or_default();
            let found = word.eq_ignore_ascii_case(expected);
            if found {
                let _ = lexer.step();
            }
            found
        }
        _ => false,
    };
    if !word(b"create") {
        return false;
    }
    if word(b"or") && !word(b"replace") {
        return false;
    }
    word(b"function") || word(b"procedure")
}

/// The text after `pgmeridian:` in the comment from `start` to `end`, without the blanks around it.
fn hint_in_comment(text: &[u8], start: usize, end: usize) -> Option<Span> {
    const NAME: &[u8] = b"pgmeridian";
    let inner = text.get(start + 2..end.checked_sub(2)?)?;
    let name = inner.trim_ascii_start();
    if !name.get(..NAME.len())?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let hint = name.get(NAME.len()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let from = start + 2 + inner.len() - hint.len();
    let to = from + hint.trim_ascii_end().len();
    Some(Span { start: from as u32, end: to as u32 })
}

#[cfg(test)]
mod tests;
