//! Tokens of SQL text, as PostgreSQL's own lexer cuts them.
//!
//! [`Lexer`] walks over bytes, one [`Token`] a step, without allocating and without copying; blanks and
//! comments lie between tokens. The rules are PostgreSQL's (manual, "Lexical Structure";
//! `src/backend/parser/scan.l` of versions 15 to 18). Where versions differ, the newer reading is taken
//! if the older ones report an error: `0x1F`, `1_000`, a vertical tab as a blank.
//!
//! Invariants: no bytes make it panic; its work is linear in the length of the text; every token is at
//! least one byte long. Deliberately absent: meaning. It neither decodes literals ([`super::literal`])
//! nor folds identifiers ([`fold`] does), and it knows no keywords.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memmem};

use super::ir::Span;
use super::lexer::LiteralKind;
use crate::error::{SqlError, SqlState};

/// A token's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A keyword or an identifier without quotes.
    Word,
    /// `"…"`.
    QuotedName,
    /// `U&"…"`.
    UnicodeName,
    /// A string or a number.
    Literal(LiteralKind),
    /// `$n`.
    Param,
    /// A run of operator characters, one token as PostgreSQL cuts it; `*`, `=` and `<` too.
    Operator,
    /// `( ) [ ] , ; . :`, and `.. :: :=`, and what has no meaning outside of quotes: `$ \ { }`.
    Symbol,
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands in the lexer's text.
    pub span: Span,
}

/// Walks over the tokens of a text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    /// Up to here `+` and `-` are tokens of one byte each: the rest of a run whose end was cut off.
    /// Without it a long run would be read once for each of its bytes.
    signs_end: usize,
    standard_strings: bool,
}

/// Why a text can't be cut into tokens, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: FaultKind,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultKind {
    UnterminatedString,
    UnterminatedBits,
    UnterminatedHex,
    UnterminatedDollar,
    UnterminatedComment,
    UnterminatedName,
    EmptyName,
    JunkAfterNumber,
    JunkAfterParam,
    InvalidHexInteger,
    InvalidOctalInteger,
    InvalidBinaryInteger,
    UnsafeUnicodeString,
    Byte,
}

const WORD_START: u8 = 1;
const WORD: u8 = 2;
const DIGIT: u8 = 4;
const HEX: u8 = 8;
const OPERATOR: u8 = 16;
const BLANK: u8 = 32;
/// Operators with one of these may end in `+` or `-`.
const MAY_END_IN_SIGN: u8 = 64;
/// Tokens of one byte, whatever follows them.
const SYMBOL: u8 = 128;

static FLAGS: [u8; 256] = flags();

const fn flags() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = match b {
            b'0'..=b'9' => WORD | DIGIT | HEX,
            b'a'..=b'f' | b'A'..=b'F' => WORD_START | WORD | HEX,
            b'g'..=b'z' | b'G'..=b'Z' | b'_' | 0x80..=0xFF => WORD_START | WORD,
            b'$' => WORD,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C => BLANK,
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' => OPERATOR,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%' => {
                OPERATOR | MAY_END_IN_SIGN
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'\\' | b'{' | b'}' => SYMBOL,
            _ => 0,
        };
        i += 1;
    }
    table
}

#[inline]
fn is(byte: u8, flag: u8) -> bool {
    FLAGS[byte as usize] & flag != 0
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`, of which it sees at most 4 GiB. `standard_strings` is the
    /// setting `standard_conforming_strings`; without it backslashes escape in plain strings.
    pub fn new(text: &'a [u8], standard_strings: bool) -> Self {
        let text = text.get(..u32::MAX as usize).unwrap_or(text);
        Self { text, at: 0, signs_end: 0, standard_strings }
    }

    /// Where it stands: the end of the last token (at first, the start).
    #[inline]
    pub fn position(&self) -> u32 {
        self.at as u32
    }

    /// The next token; `None` at the end.
    #[expect(
        clippy::inline_always,
        reason = "the scan's loop; a call would pass its result by memory"
    )]
    #[inline(always)]
    pub fn step(&mut self) -> Result<Option<Token>, Fault> {
        // Between two tokens there is mostly one blank, or none.
        self.at += usize::from(is(self.byte(self.at), BLANK));
        let next = self.byte(self.at);
        if is(next, BLANK) || matches!(next, b'-' | b'/') {
            self.skip_blanks()?;
        }
        let start = self.at;
        let Some(&first) = self.text.get(start) else { return Ok(None) };
        // By how often they occur: branches are predicted better than a jump table.
        let kind = if is(first, WORD_START) {
            self.word(start, first)?
        } else if is(first, SYMBOL) {
            self.at += 1;
            TokenKind::Symbol
        } else if is(first, OPERATOR) {
            self.operator(start)
        } else {
            self.rarer(start, first)?
        };
        Ok(Some(Token { kind, span: Span { start: start as u32, end: self.at as u32 } }))
    }

    /// The tokens that [`Self::step`] doesn't see to itself.
    #[inline]
    fn rarer(&mut self, start: usize, first: u8) -> Result<TokenKind, Fault> {
        match first {
            b'0'..=b'9' => self.number(start),
            b'\'' => self.plain_string(start),
            b'"' => self.quoted_name(start, start, TokenKind::QuotedName),
            b'$' => self.dollar(start),
            b'.' => self.dot(start),
            b':' => {
                self.at += if matches!(self.byte(start + 1), b':' | b'=') { 2 } else { 1 };
                Ok(TokenKind::Symbol)
            }
            // Control characters are in no token.
            _ => Err(Fault { kind: FaultKind::Byte, start, end: start + 1 }),
        }
    }

    /// The byte at `at`; 0 past the end (and for a NUL, which is in no token either).
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn rest(&self, at: usize) -> &'a [u8] {
        self.text.get(at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        loop {
            let byte = self.byte(self.at);
            if !is(byte, BLANK | OPERATOR) {
                return Ok(());
            }
            if is(byte, BLANK) {
                self.at += 1;
            } else if byte == b'-' && self.byte(self.at + 1) == b'-' {
                self.at = line_comment_end(self.text, self.at);
            } else if byte == b'/' && self.byte(self.at + 1) == b'*' {
                self.at = block_comment_end(self.text, self.at).ok_or(Fault {
                    kind: FaultKind::UnterminatedComment,
                    start: self.at,
                    end: self.text.len(),
                })?;
            } else {
                return Ok(());
            }
        }
    }

    #[inline]
    fn word(&mut self, start: usize, first: u8) -> Result<TokenKind, Fault> {
        let rest = self.rest(start + 1);
        let more = rest.iter().position(|&byte| !is(byte, WORD)).unwrap_or(rest.len());
        let at = start + 1 + more;
        self.at = at;
        if more == 0 && matches!(self.byte(at), b'\'' | b'&') {
            return self.prefixed(start, first);
        }
        Ok(TokenKind::Word)
    }

    /// A word of one letter before a quote or `&`: perhaps a literal's prefix.
    fn prefixed(&mut self, start: usize, first: u8) -> Result<TokenKind, Fault> {
        let other = TokenKind::Literal(LiteralKind::Other);
        if self.byte(start + 1) == b'&' {
            if !matches!(first, b'u' | b'U') {
                return Ok(TokenKind::Word);
            }
            return match self.byte(start + 2) {
                b'"' => self.quoted_name(start, start + 2, TokenKind::UnicodeName),
                b'\'' if self.standard_strings => {
                    self.string(start, start + 2, Quoting::Doubled)?;
                    Ok(other)
                }
                b'\'' => Err(Fault { kind: FaultKind::UnsafeUnicodeString, start, end: start + 3 }),
                _ => Ok(TokenKind::Word),
            };
        }
        match first {
            b'e' | b'E' => {
                let continued = self.string(start, start + 1, Quoting::Escaped)?;
                Ok(if continued { other } else { TokenKind::Literal(LiteralKind::EscapeString) })
            }
            b'b' | b'B' => self.string(start, start + 1, Quoting::Bits).map(|_| other),
            b'x' | b'X' => self.string(start, start + 1, Quoting::Hex).map(|_| other),
            // A keyword and a plain string: a fault is the string's.
            b'n' | b'N' => self.string(start + 1, start + 1, self.plain_quoting()).map(|_| other),
            _ => Ok(TokenKind::Word),
        }
    }

    fn plain_quoting(&self) -> Quoting {
        if self.standard_strings { Quoting::Doubled } else { Quoting::Escaped }
    }

    #[inline]
    fn plain_string(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let continued = self.string(start, start, self.plain_quoting())?;
        Ok(TokenKind::Literal(if continued { LiteralKind::Other } else { LiteralKind::String }))
    }

    /// Reads a string whose opening quote is at `quote`, with its continuations on later lines; says
    /// whether there were any.
    #[inline]
    fn string(&mut self, start: usize, quote: usize, quoting: Quoting) -> Result<bool, Fault> {
        let mut continued = false;
        let mut open = quote;
        loop {
            let Some(end) = string_end(self.text, open + 1, quoting) else {
                let kind = match quoting {
                    Quoting::Doubled | Quoting::Escaped => FaultKind::UnterminatedString,
                    Quoting::Bits => FaultKind::UnterminatedBits,
                    Quoting::Hex => FaultKind::UnterminatedHex,
                };
                return Err(Fault { kind, start, end: self.text.len() });
            };
            self.at = end;
            match self.continuation(end) {
                Some(next) => {
                    continued = true;
                    open = next;
                }
                None => return Ok(continued),
            }
        }
    }

    /// Where the string that ended before `at` goes on: a quote after blanks and `--` comments with at
    /// least one line end among them (the rule `quotecontinue`).
    #[inline]
    fn continuation(&self, at: usize) -> Option<usize> {
        let byte = self.byte(at);
        if !is(byte, BLANK) && byte != b'-' {
            return None;
        }
        self.continuation_after_blanks(at)
    }

    fn continuation_after_blanks(&self, mut at: usize) -> Option<usize> {
        let mut line_ended = false;
        loop {
            match self.byte(at) {
                b'\n' | b'\r' => {
                    line_ended = true;
                    at += 1;
                }
                byte if is(byte, BLANK) => at += 1,
                b'-' if self.byte(at + 1) == b'-' => at = line_comment_end(self.text, at),
                b'\'' if line_ended => return Some(at),
                _ => return None,
            }
        }
    }

    fn quoted_name(
        &mut self,
        start: usize,
        quote: usize,
        kind: TokenKind,
    ) -> Result<TokenKind, Fault> {
        let mut at = quote + 1;
        loop {
            let Some(found) = memchr(b'"', self.rest(at)) else {
                let end = self.text.len();
                return Err(Fault { kind: FaultKind::UnterminatedName, start, end });
            };
            at += found + 1;
            if self.byte(at) != b'"' {
                break;
            }
            at += 1;
        }
        if at == quote + 2 {
            return Err(Fault { kind: FaultKind::EmptyName, start, end: at });
        }
        self.at = at;
        Ok(kind)
    }

    /// `$n`, `$tag$…$tag$`, or a `$` that is neither.
    fn dollar(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let next = self.byte(start + 1);
        let mut at = start + 1;
        if is(next, DIGIT) {
            while is(self.byte(at), DIGIT) {
                at += 1;
            }
            self.at = at;
            if is(self.byte(at), WORD_START) {
                return Err(self.junk(FaultKind::JunkAfterParam, start));
            }
            return Ok(TokenKind::Param);
        }
        if is(next, WORD_START) {
            while is(self.byte(at), WORD) && self.byte(at) != b'$' {
                at += 1;
            }
        }
        self.at = start + 1;
        if self.byte(at) != b'$' {
            return Ok(TokenKind::Symbol);
        }
        let tag = self.text.get(start..=at).unwrap_or_default();
        let Some(found) = memmem::find(self.rest(at + 1), tag) else {
            let end = self.text.len();
            return Err(Fault { kind: FaultKind::UnterminatedDollar, start, end });
        };
        self.at = at + 1 + found + tag.len();
        Ok(TokenKind::Literal(LiteralKind::DollarString))
    }

    fn dot(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let next = self.byte(start + 1);
        if is(next, DIGIT) {
            let (at, underscores) = self.digits(start + 1, DIGIT);
            let digits = Digits { decimal: true, underscores, last_underscores: underscores };
            return self.number_tail(start, at, digits);
        }
        self.at += if next == b'.' { 2 } else { 1 };
        Ok(TokenKind::Symbol)
    }

    #[inline]
    fn number(&mut self, start: usize) -> Result<TokenKind, Fault> {
        if self.byte(start) == b'0' && matches!(self.byte(start + 1) | 0x20, b'x' | b'o' | b'b') {
            return self.radix_number(start);
        }
        let (mut at, mut underscores) = self.digits(start, DIGIT);
        let mut digits = Digits { decimal: false, underscores, last_underscores: underscores };
        // `1..10` is `1`, `..`, `10`.
        if self.byte(at) == b'.' && self.byte(at + 1) != b'.' {
            (at, underscores) = self.digits(at + 1, DIGIT);
            digits.decimal = true;
            digits.add(underscores);
        }
        self.number_tail(start, at, digits)
    }

    /// The end of `digit (_? digit)*` at `at`, and whether there were underscores.
    #[inline]
    fn digits(&self, mut at: usize, flag: u8) -> (usize, bool) {
        let from = at;
        let mut underscores = false;
        loop {
            while is(self.byte(at), flag) {
                at += 1;
            }
            if at == from || self.byte(at) != b'_' || !is(self.byte(at + 1), flag) {
                return (at, underscores);
            }
            underscores = true;
            at += 1;
        }
    }

    /// The exponent, if there is one, and the check that no identifier touches the number.
    ///
    /// As the longest match wins, `1e5$` and `1_0$` are numbers with an identifier behind (`e5$`, `_0$`),
    /// while `15$` and `1e+5$` are numbers and a `$`.
    #[inline]
    fn number_tail(
        &mut self,
        start: usize,
        mut at: usize,
        mut digits: Digits,
    ) -> Result<TokenKind, Fault> {
        let mut like_word = digits.last_underscores;
        if self.byte(at) | 0x20 == b'e' {
            let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            if is(self.byte(at + 1 + sign), DIGIT) {
                let underscores;
                (at, underscores) = self.digits(at + 1 + sign, DIGIT);
                digits.add(underscores);
                digits.decimal = true;
                like_word = sign == 0 || underscores;
            } else if sign == 1 {
                // `1e+` is longer than `1e`, a number with an identifier behind (scan.l, `realfail`).
                return Err(Fault { kind: FaultKind::JunkAfterNumber, start, end: at + 2 });
            }
        }
        self.at = at;
        if is(self.byte(at), if like_word { WORD } else { WORD_START }) {
            return Err(self.junk(FaultKind::JunkAfterNumber, start));
        }
        Ok(TokenKind::Literal(match (digits.underscores, digits.decimal) {
            (true, _) => LiteralKind::Other,
            (false, true) => LiteralKind::Decimal,
            (false, false) => LiteralKind::Integer,
        }))
    }

    /// `0x1F`, `0o17`, `0b11`, each with underscores (PostgreSQL 16).
    fn radix_number(&mut self, start: usize) -> Result<TokenKind, Fault> {
        let (kind, accepted): (_, fn(u8) -> bool) = match self.byte(start + 1) | 0x20 {
            b'x' => (FaultKind::InvalidHexInteger, |b| is(b, HEX)),
            b'o' => (FaultKind::InvalidOctalInteger, |b| matches!(b, b'0'..=b'7')),
            _ => (FaultKind::InvalidBinaryInteger, |b| matches!(b, b'0' | b'1')),
        };
        let mut at = start + 2;
        loop {
            let underscore = usize::from(self.byte(at) == b'_');
            if !accepted(self.byte(at + underscore)) {
                break;
            }
            at += underscore + 1;
        }
        if at == start + 2 {
            return Err(Fault { kind, start, end: at.min(self.text.len()) });
        }
        self.at = at;
        if is(self.byte(at), WORD) {
            return Err(self.junk(FaultKind::JunkAfterNumber, start));
        }
        Ok(TokenKind::Literal(LiteralKind::Other))
    }

    /// The fault of a token that ends where an identifier goes on.
    #[cold]
    fn junk(&self, kind: FaultKind, start: usize) -> Fault {
        let mut end = self.at;
        while is(self.byte(end), WORD) {
            end += 1;
        }
        Fault { kind, start, end }
    }

    /// One operator. A run of operator characters ends before a comment; a trailing `+` or `-` is cut
    /// off unless the run has a character that no SQL operator has (manual, "Operators").
    #[inline]
    fn operator(&mut self, start: usize) -> TokenKind {
        if start < self.signs_end || !is(self.byte(start + 1), OPERATOR) {
            self.at = start + 1;
            return TokenKind::Operator;
        }
        self.long_operator(start)
    }

    fn long_operator(&mut self, start: usize) -> TokenKind {
        let mut end = start + 1;
        let mut may_end_in_sign = is(self.byte(start), MAY_END_IN_SIGN);
        while is(self.byte(end), OPERATOR) {
            if matches!((self.byte(end), self.byte(end + 1)), (b'-', b'-') | (b'/', b'*')) {
                break;
            }
            may_end_in_sign |= is(self.byte(end), MAY_END_IN_SIGN);
            end += 1;
        }
        let run_end = end;
        if !may_end_in_sign {
            while end > start + 1 && matches!(self.byte(end - 1), b'+' | b'-') {
                end -= 1;
            }
        }
        self.signs_end = run_end;
        self.at = end;
        TokenKind::Operator
    }
}

/// What a number is made of so far.
struct Digits {
    /// With a point or an exponent.
    decimal: bool,
    /// With underscores, anywhere.
    underscores: bool,
    /// With underscores in the last group of digits.
    last_underscores: bool,
}

impl Digits {
    fn add(&mut self, underscores: bool) {
        self.underscores |= underscores;
        self.last_underscores = underscores;
    }
}

/// How a string's end is told from a quote inside of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// `''` is a quote.
    Doubled,
    /// So it is, and a backslash takes the next byte along.
    Escaped,
    /// `B'…'`: ends at the first quote.
    Bits,
    /// `X'…'`: ends at the first quote.
    Hex,
}

/// One past the closing quote of the string whose contents start at `at`.
#[inline]
fn string_end(text: &[u8], mut at: usize, quoting: Quoting) -> Option<usize> {
    loop {
        let rest = text.get(at..)?;
        let found = match quoting {
            Quoting::Escaped => memchr2(b'\'', b'\\', rest)?,
            Quoting::Doubled | Quoting::Bits | Quoting::Hex => memchr(b'\'', rest)?,
        };
        at += found + 1;
        if rest.get(found) == Some(&b'\\') {
            at += 1;
            continue;
        }
        let doubles = matches!(quoting, Quoting::Doubled | Quoting::Escaped);
        if doubles && text.get(at) == Some(&b'\'') {
            at += 1;
            continue;
        }
        return Some(at);
    }
}

/// Where the `--` comment at `at` ends: at its line end, or at the end of the text.
pub(super) fn line_comment_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    memchr2(b'\n', b'\r', rest).map_or(text.len(), |found| at + found)
}

/// One past the end of the `/*` comment at `at`, which may contain others; `None` if it has no end.
pub(super) fn block_comment_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 2;
    let mut depth = 1u32;
    loop {
        at += memchr2(b'*', b'/', text.get(at..)?)?;
        match (text.get(at), text.get(at + 1)) {
            (Some(b'*'), Some(b'/')) => {
                at += 2;
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (Some(b'/'), Some(b'*')) => {
                at += 2;
                depth += 1;
            }
            _ => at += 1,
        }
    }
}

/// The longest identifier, in bytes (`NAMEDATALEN - 1`); PostgreSQL cuts longer ones.
const NAME_BYTES_MAX: usize = 63;

/// The identifier that a token's text names: quotes removed, or folded to lower case, and cut to the
/// length that PostgreSQL keeps. `None` for what is no identifier, and for `U&"…"`, whose meaning depends
/// on a `UESCAPE` that may follow.
pub fn fold(text: &str, token: Token) -> Option<Cow<'_, str>> {
    let written = text.get(token.span.start as usize..token.span.end as usize)?;
    let name = match token.kind {
        TokenKind::Word if written.bytes().any(|b| b.is_ascii_uppercase()) => {
            Cow::Owned(written.to_ascii_lowercase())
        }
        TokenKind::Word => Cow::Borrowed(written),
        TokenKind::QuotedName => {
            let inner = written.get(1..written.len().checked_sub(1)?)?;
            match memchr(b'"', inner.as_bytes()) {
                Some(_) => Cow::Owned(inner.replace("\"\"", "\"")),
                None => Cow::Borrowed(inner),
            }
        }
        _ => return None,
    };
    if name.len() <= NAME_BYTES_MAX {
        return Some(name);
    }
    let cut = (0..=NAME_BYTES_MAX).rev().find(|&at| name.is_char_boundary(at))?;
    name.get(..cut).map(|name| Cow::Owned(name.to_owned()))
}

/// How much of the text an error message quotes, in bytes. PostgreSQL quotes all of it, which for an
/// unterminated string can be the whole query.
const QUOTED_BYTES_MAX: usize = 1000;

impl Fault {
    /// As PostgreSQL reports it; `text` is the text that the lexer read.
    #[cold]
    pub fn into_error(self, text: &[u8]) -> SqlError {
        let message = match self.kind {
            FaultKind::UnterminatedString => "unterminated quoted string",
            FaultKind::UnterminatedBits => "unterminated bit string literal",
            FaultKind::UnterminatedHex => "unterminated hexadecimal string literal",
            FaultKind::UnterminatedDollar => "unterminated dollar-quoted string",
            FaultKind::UnterminatedComment => "unterminated /* comment",
            FaultKind::UnterminatedName => "unterminated quoted identifier",
            FaultKind::EmptyName => "zero-length delimited identifier",
            FaultKind::JunkAfterNumber => "trailing junk after numeric literal",
            FaultKind::JunkAfterParam => "trailing junk after parameter",
            FaultKind::InvalidHexInteger => "invalid hexadecimal integer",
            FaultKind::InvalidOctalInteger => "invalid octal integer",
            FaultKind::InvalidBinaryInteger => "invalid binary integer",
            FaultKind::Byte => "syntax error",
            FaultKind::UnsafeUnicodeString => {
                return SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "unsafe use of string constant with Unicode escapes",
                )
                .detail(
                    "String constants with Unicode escapes cannot be used when \
                     standard_conforming_strings is off.",
                )
                .position(character(text, self.start));
            }
        };
        error_near(message, text, self.start, self.end)
    }
}

/// `message at or near "…"`, SQLSTATE 42601, with the position of `start`.
#[cold]
pub(super) fn error_near(message: &str, text: &[u8], start: usize, end: usize) -> SqlError {
    let end = end.min(start.saturating_add(QUOTED_BYTES_MAX));
    let near = text.get(start..end.min(text.len())).unwrap_or_default();
    let near = String::from_utf8_lossy(near);
    SqlError::new(SqlState::SYNTAX_ERROR, format!("{message} at or near \"{near}\""))
        .position(character(text, start))
}

/// Byte offset → 1-based position in characters, as error fields count it.
#[cold]
pub(super) fn character(text: &[u8], at: usize) -> u32 {
    let before = text.get(..at.min(text.len())).unwrap_or_default();
    before.iter().filter(|&&b| b & 0xC0 != 0x80).count() as u32 + 1
}
