//! A statement's tokens with their byte positions, by PostgreSQL's rules.
//!
//! The parser is fed from these, and every position in the IR comes from them. Literals are not read
//! again: where the lexer found one, its span is jumped over, so that the two can't disagree about where
//! a string ends. Where there is no lexer's list (a view's definition, a file of CREATE statements)
//! literals are read as with `standard_conforming_strings = on`, and have no slot.
//!
//! PostgreSQL manual, "Lexical Structure"; `src/backend/parser/scan.l`.

use super::ir::{Slot, Span};
use super::lexer::{Literal, LiteralKind};

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

    /// Its span.
    pub(crate) fn span(self) -> Span {
        Span { start: self.start, end: self.end }
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
                raw.get(1..raw.len().saturating_sub(1)).map(|s| s.replace("\"\"", "\""))
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
    raw.to_ascii_lowercase()
}

/// Reads all tokens of `text`. `literals` are the lexer's, in text order; `None` reads them here.
pub(crate) fn tokenize(text: &str, literals: Option<&[Literal]>) -> Result<Vec<Token>, TokenFault> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
        literals: literals.unwrap_or_default(),
        next_slot: 0,
    };
    let mut tokens = Vec::with_capacity(text.len() / 5 + 4);
    while reader.skip_blanks()? {
        let start = reader.at;
        let kind = reader.token()?;
        let (start, end) = (position(start)?, position(reader.at)?);
        tokens.push(Token { kind, start, end });
    }
    Ok(tokens)
}

fn position(at: usize) -> Result<u32, TokenFault> {
    u32::try_from(at).map_err(|_| TokenFault { reason: "the statement is longer than 4 GiB" })
}

struct Reader<'t> {
    bytes: &'t [u8],
    at: usize,
    literals: &'t [Literal],
    next_slot: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Skips white space and comments; false at the end.
    fn skip_blanks(&mut self) -> Result<bool, TokenFault> {
        loop {
            match (self.peek(0), self.peek(1)) {
                _ if self.at >= self.bytes.len() => return Ok(false),
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => {
                    let rest = self.bytes.get(self.at..).unwrap_or_default();
                    self.at +=
                        rest.iter().position(|&b| b == b'\n' || b == b'\r').unwrap_or(rest.len());
                }
                (b'/', b'*') => self.skip_comment()?,
                _ => return Ok(true),
            }
        }
    }

    /// Skips a comment; they nest.
    fn skip_comment(&mut self) -> Result<(), TokenFault> {
        let mut depth = 0_u32;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(TokenFault { reason: "unterminated comment" })
    }

    fn token(&mut self) -> Result<TokenKind, TokenFault> {
        if let Some(kind) = self.known_literal() {
            return Ok(kind);
        }
        match (self.peek(0), self.peek(1)) {
            (b'\'', _) => self.string(0, false),
            (b'e' | b'E', b'\'') => self.string(1, true),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => self.string(1, false),
            (b'u' | b'U', b'&') if self.peek(2) == b'\'' => self.string(2, false),
            (b'u' | b'U', b'&') if self.peek(2) == b'"' => {
                self.at += 2;
                self.quoted()?;
                Ok(TokenKind::UnicodeQuoted)
            }
            (b'"', _) => self.quoted(),
            (b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., _) => Ok(self.word()),
            (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => Ok(self.number()),
            (b'$', b'0'..=b'9') => Ok(self.param()),
            (b'$', _) => self.dollar_string(),
            (b':', b':' | b'=') | (b'.', b'.') => {
                self.at += 2;
                Ok(TokenKind::Punctuation)
            }
            (b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':', _) => {
                self.at += 1;
                Ok(TokenKind::Punctuation)
            }
            (b, _) if is_operator_byte(b) => Ok(self.operator()),
            _ => Err(TokenFault { reason: "a character that starts no token" }),
        }
    }

    /// A literal of the lexer's list that starts here.
    fn known_literal(&mut self) -> Option<TokenKind> {
        let mut literal = self.literals.get(self.next_slot)?;
        while (literal.span.start as usize) < self.at {
            self.next_slot += 1;
            literal = self.literals.get(self.next_slot)?;
        }
        let end = literal.span.end as usize;
        if literal.span.start as usize != self.at || end <= self.at || end > self.bytes.len() {
            return None;
        }
        let slot = Slot::try_from(self.next_slot).ok();
        let number = match literal.kind {
            LiteralKind::Integer | LiteralKind::Decimal => true,
            LiteralKind::Other => self.peek(0).is_ascii_digit() || self.peek(0) == b'.',
            LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => false,
        };
        self.at = end;
        self.next_slot += 1;
        Some(if number { TokenKind::Number(slot) } else { TokenKind::String(slot) })
    }

    fn string(&mut self, prefix: usize, escapes: bool) -> Result<TokenKind, TokenFault> {
        self.at += prefix + 1;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\'', b'\'') => self.at += 2,
                (b'\'', _) => {
                    self.at += 1;
                    if !self.continued() {
                        return Ok(TokenKind::String(None));
                    }
                }
                (b'\\', _) if escapes => self.at += 2,
                _ => self.at += 1,
            }
        }
        Err(TokenFault { reason: "unterminated quoted string" })
    }

    /// After a closing quote: goes to the inside of the next part if the string goes on after a newline.
    fn continued(&mut self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(next) = rest.iter().position(|b| !b.is_ascii_whitespace()) else { return false };
        let newline =
            rest.get(..next).is_some_and(|gap| gap.iter().any(|&b| b == b'\n' || b == b'\r'));
        if !newline || rest.get(next) != Some(&b'\'') {
            return false;
        }
        self.at += next + 1;
        true
    }

    fn quoted(&mut self) -> Result<TokenKind, TokenFault> {
        self.at += 1;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'"', b'"') => self.at += 2,
                (b'"', _) => {
                    self.at += 1;
                    return Ok(TokenKind::Quoted);
                }
                _ => self.at += 1,
            }
        }
        Err(TokenFault { reason: "unterminated quoted identifier" })
    }

    fn word(&mut self) -> TokenKind {
        while matches!(self.peek(0), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..)
        {
            self.at += 1;
        }
        TokenKind::Word
    }

    fn number(&mut self) -> TokenKind {
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            self.at += 2;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
                self.at += 1;
            }
            return TokenKind::Number(None);
        }
        self.digits();
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            self.digits();
        }
        let exponent = match (self.peek(0), self.peek(1)) {
            (b'e' | b'E', b'0'..=b'9') => 1,
            (b'e' | b'E', b'+' | b'-') if self.peek(2).is_ascii_digit() => 2,
            _ => 0,
        };
        if exponent > 0 {
            self.at += exponent;
            self.digits();
        }
        TokenKind::Number(None)
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() || self.peek(0) == b'_' && self.peek(1).is_ascii_digit()
        {
            self.at += 1;
        }
    }

    fn param(&mut self) -> TokenKind {
        self.at += 1;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        TokenKind::Param
    }

    fn dollar_string(&mut self) -> Result<TokenKind, TokenFault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let tag_end = rest
            .iter()
            .skip(1)
            .position(|&b| !(b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80))
            .map_or(rest.len(), |p| p + 1);
        if rest.get(tag_end) != Some(&b'$') {
            return Err(TokenFault { reason: "a character that starts no token" });
        }
        let (tag, body) = rest.split_at(tag_end + 1);
        let close = body.windows(tag.len()).position(|w| w == tag);
        let Some(close) = close else {
            return Err(TokenFault { reason: "unterminated dollar-quoted string" });
        };
        self.at += 2 * tag.len() + close;
        Ok(TokenKind::String(None))
    }

    /// The longest run of operator characters, cut before a comment; an operator of several characters
    /// may end in `+` or `-` only if it holds one of ``~ ! @ # ^ & | ` ? %``.
    fn operator(&mut self) -> TokenKind {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut len = rest.iter().position(|&b| !is_operator_byte(b)).unwrap_or(rest.len());
        let comment = rest.windows(2).take(len).position(|w| w == b"--" || w == b"/*");
        if let Some(at) = comment {
            len = at.max(1);
        }
        let run = rest.get(..len).unwrap_or_default();
        let special = run.iter().any(|b| b"~!@#^&|`?%".contains(b));
        while len > 1 && !special && matches!(run.get(len - 1), Some(b'+' | b'-')) {
            len -= 1;
        }
        self.at += len;
        TokenKind::Operator
    }
}

fn is_operator_byte(b: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&b)
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
pub(crate) fn literals_of(text: &str) -> Vec<Literal> {
    let tokens = tokenize(text, None).unwrap_or_default();
    let mut kept = false; // inside ORDER BY, GROUP BY, LIMIT …: numbers stay in the shape
    let mut literals = Vec::new();
    for token in tokens {
        let kind = match token.kind {
            TokenKind::Number(_) if !kept => LiteralKind::Integer,
            TokenKind::String(_) => LiteralKind::String,
            TokenKind::Word => {
                let word = fold(token.text(text));
                if matches!(word.as_str(), "by" | "limit" | "offset" | "fetch") {
                    kept = true;
                } else if matches!(word.as_str(), "having" | "for" | "union" | "from" | "where") {
                    kept = false;
                }
                continue;
            }
            TokenKind::Punctuation => {
                kept &= token.text(text) != ")";
                continue;
            }
            _ => continue,
        };
        literals.push(Literal { kind, span: token.span() });
    }
    literals
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
        for text in ["'abc", "\"abc", "/* abc", "$x$ abc", "\\", "\0", "$"] {
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
