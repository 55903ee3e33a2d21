//! The single-pass lexer: literals, shape, hint, statement boundaries, class.
//!
//! [`scan`] reads one query string once, without allocating when its buffers have grown. PostgreSQL's
//! rules for tokens: manual, "Lexical Structure"; `src/backend/parser/scan.l`.

use super::ir::Span;

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
