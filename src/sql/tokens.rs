//! A statement's tokens with their byte positions and slots: what analysis and the parser work on.
//!
//! They are cut by [`super::token`]. Literals are not read again: where the lexer found one, its span is
//! jumped over, so that the two can't disagree about where a string ends, and the token knows its slot.
//! Where there is no lexer's list (a view's definition, a file of CREATE statements) literals are read as
//! with `standard_conforming_strings = on`, and have no slot.

use super::ir::{Slot, Span};
use super::lexer::{Literal, LiteralKind};
use super::token::{self, Lexer};

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: TokenKind,
    /// First byte.
    pub(crate) start: u32,
    /// One past the last byte.
    pub(crate) end: u32,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A key word or an unquoted identifier.
    Word,
    /// `"…"`.
    Quoted,
    /// `U&"…"`: a name that is not decoded here.
    UnicodeQuoted,
    /// A number, with its slot in the shape if it has one.
    Number(Option<Slot>),
    /// A string of any kind, with its slot.
    String(Option<Slot>),
    /// `$n`.
    Param,
    /// An operator.
    Operator,
    /// One of `( ) [ ] , ; . :`, also `::`, `:=`, `..`.
    Punctuation,
}

/// A token that can't be read; the lexer has refused most of these before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TokenFault {
    /// What is wrong.
    pub(crate) reason: &'static str,
}

impl Token {
    /// Its text.
    pub(crate) fn text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// It is this key word (given in lower case), unquoted.
    pub(crate) fn is_word(self, text: &str, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text(text).eq_ignore_ascii_case(word)
    }

    /// It is this punctuation or operator.
    pub(crate) fn is(self, text: &str, symbol: &str) -> bool {
        matches!(self.kind, TokenKind::Punctuation | TokenKind::Operator)
            && self.text(text) == symbol
    }

    /// The name it stands for: folded to lower case unless quoted; `None` if it is no identifier.
    pub(crate) fn name(self, text: &str) -> Option<String> {
        let raw = self.text(text);
        match self.kind {
            TokenKind::Word => Some(fold(raw)),
            TokenKind::Quoted => {
                let inner = raw.get(1..raw.len().saturating_sub(1));
                inner.map(|s| clipped(s.replace("\"\"", "\"")))
            }
            TokenKind::UnicodeQuoted
            | TokenKind::Number(_)
            | TokenKind::String(_)
            | TokenKind::Param
            | TokenKind::Operator
            | TokenKind::Punctuation => None,
        }
    }
}

/// An unquoted identifier in the case in which PostgreSQL stores it: ASCII letters only are folded, as
/// in every multi-byte encoding (`downcase_identifier`).
pub(crate) fn fold(raw: &str) -> String {
    clipped(raw.to_ascii_lowercase())
}

/// PostgreSQL's `NAMEDATALEN` without the terminating zero.
const NAME_BYTES_MAX: usize = 63;

/// A name as the server keeps it: what is longer is cut off at a character (`truncate_identifier`).
fn clipped(mut name: String) -> String {
    let mut end = NAME_BYTES_MAX;
    while !name.is_char_boundary(end) && end < name.len() {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// Reads all tokens of `text`. `literals` are the lexer's, in text order; `None` reads them here.
pub(crate) fn tokenize(text: &str, literals: Option<&[Literal]>) -> Result<Vec<Token>, TokenFault> {
    let mut tokens = Vec::with_capacity(text.len() / 5 + 4);
    let mut at = 0;
    for (index, literal) in literals.unwrap_or_default().iter().enumerate() {
        let Span { start, end } = literal.span;
        if start < at || end <= start || end as usize > text.len() {
            return Err(TokenFault { reason: "a literal that is not in the text" });
        }
        gap(text, at, start, &mut tokens)?;
        let slot = Slot::try_from(index).ok();
        tokens.push(Token { kind: literal_kind(text, *literal, slot), start, end });
        at = end;
    }
    let end = u32::try_from(text.len())
        .map_err(|_| TokenFault { reason: "the statement is longer than 4 GiB" })?;
    gap(text, at, end, &mut tokens)?;
    Ok(tokens)
}

/// Reads the tokens between two literals.
fn gap(text: &str, start: u32, end: u32, tokens: &mut Vec<Token>) -> Result<(), TokenFault> {
    let bytes = text.as_bytes().get(start as usize..end as usize).unwrap_or_default();
    let mut lexer = Lexer::new(bytes, true);
    while let Some(token) = lexer.step().map_err(|_| TokenFault { reason: "unreadable text" })? {
        let span = Span { start: token.span.start + start, end: token.span.end + start };
        let kind = match token.kind {
            token::TokenKind::Word => TokenKind::Word,
            token::TokenKind::QuotedName => TokenKind::Quoted,
            token::TokenKind::UnicodeName => TokenKind::UnicodeQuoted,
            token::TokenKind::Literal(kind) => literal_kind(text, Literal { kind, span }, None),
            token::TokenKind::Param => TokenKind::Param,
            token::TokenKind::Operator => TokenKind::Operator,
            token::TokenKind::Symbol => TokenKind::Punctuation,
        };
        tokens.push(Token { kind, start: span.start, end: span.end });
    }
    Ok(())
}

fn literal_kind(text: &str, literal: Literal, slot: Option<Slot>) -> TokenKind {
    let first = text.as_bytes().get(literal.span.start as usize);
    let number = match literal.kind {
        LiteralKind::Integer | LiteralKind::Decimal => true,
        LiteralKind::Other => first.is_some_and(|b| b.is_ascii_digit() || *b == b'.'),
        LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => false,
    };
    if number { TokenKind::Number(slot) } else { TokenKind::String(slot) }
}

/// The index of the token that starts at or after `offset`.
pub(crate) fn index_at(tokens: &[Token], offset: u32) -> usize {
    tokens.partition_point(|t| t.start < offset)
}

/// The index of the `)` or `]` that closes the bracket at `open`; the number of tokens if there is none.
pub(crate) fn closing(tokens: &[Token], text: &str, open: usize) -> usize {
    let mut depth = 0_u32;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match depth_step(*token, text) {
            1 => depth += 1,
            -1 => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// +1 for an opening bracket, -1 for a closing one.
pub(crate) fn depth_step(token: Token, text: &str) -> i32 {
    if token.kind != TokenKind::Punctuation {
        return 0;
    }
    match token.text(text) {
        "(" | "[" => 1,
        ")" | "]" => -1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let tokens = tokenize(text, None).unwrap();
        let texts: Vec<_> = tokens.iter().map(|t| t.text(text)).collect();
        assert_eq!(texts.join(" · "), expected, "{text}");
    }

    #[test]
    fn tokens_are_postgresqls() {
        check("a>=-1", "a · >= · - · 1");
        check("a@-1", "a · @- · 1");
        check("a<--x\n1", "a · < · 1");
        check("a*/*x /* y */ */b", "a · * · b");
        check(
            "'a''b' E'\\'' $x$a$y$x$ \"q\"\"r\" U&\"x\" $12",
            "'a''b' · E'\\'' · $x$a$y$x$ · \"q\"\"r\" · U&\"x\" · $12",
        );
        check("'a'\n 'b' 'c'", "'a'\n 'b' · 'c'");
        check(
            "1.5e3 .5 5. 0xFF x::int t.a arr[1:2] f(a => 1)",
            "1.5e3 · .5 · 5. · 0xFF · x · :: · int · t · . · a · arr · [ · 1 · : · 2 · ] · f · ( · a · => · 1 · )",
        );
        check("größe$1 a||b", "größe$1 · a · || · b");
    }

    #[test]
    fn bad_tokens_are_faults() {
        for text in ["'abc", "\"abc", "/* abc", "$x$ abc", "\0"] {
            assert!(tokenize(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn the_lexers_literals_win() {
        let text = "a = 'x\\' or b' c";
        let literals = [Literal { kind: LiteralKind::String, span: Span { start: 4, end: 14 } }];
        let tokens = tokenize(text, Some(&literals)).unwrap();
        assert_eq!(tokens.len(), 4);
        assert_eq!(tokens[2].kind, TokenKind::String(Some(0)));
    }
}
