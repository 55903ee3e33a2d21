//! The one seam to the parser: PostgreSQL's tokens in, a syntax tree or a reason out.
//!
//! The parser never sees the text. It gets our own tokens, whose "column" is the byte offset plus one, so
//! that its spans are exact; words that PostgreSQL doesn't know as key words come as plain names; every
//! operator beyond arithmetic and comparison comes as a custom one, which has PostgreSQL's precedence.
//! Some forms that it can't read, and that mean the same to routing without a word or two, are handed
//! over without them (`ONLY`, `VARIADIC`, ON CONFLICT's target, the strengths of row locks).
//!
//! Trees are as deep as the text says: whatever reads or drops one runs inside [`on_deep_stack`].

use sqlparser::ast::{Ident, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{
    Location, Span as ParserSpan, Token as ParserToken, TokenWithSpan, Word,
};

use super::ir::Span;
use super::keywords::{is_keyword, is_reserved};
use super::tokens::{Token, TokenKind, closing, fold};

/// Most tokens of a statement that is parsed: bounds the time and the memory of one cache miss.
pub(crate) const PARSE_TOKENS_MAX: usize = 400_000;

/// Deepest nesting that the parser follows. PostgreSQL's own limit is `max_stack_depth`, some thousands.
const PARSE_DEPTH_MAX: usize = 400;

/// Stack for parsing, and for dropping a tree whose left spine is as long as a chain of operators.
const STACK_BYTES_MIN: usize = 8 << 20;

/// Runs `f` on a stack that holds any tree of this many tokens.
pub(crate) fn on_deep_stack<T>(tokens: usize, f: impl FnOnce() -> T) -> T {
    let chain = tokens.min(PARSE_TOKENS_MAX) * 1024;
    stacker::maybe_grow(STACK_BYTES_MIN, STACK_BYTES_MIN + chain, f)
}

/// Parses one statement; the error says what was not understood.
pub(crate) fn parse(text: &str, tokens: &[Token]) -> Result<Statement, String> {
    if tokens.len() > PARSE_TOKENS_MAX {
        return Err(format!("the statement has more than {PARSE_TOKENS_MAX} tokens"));
    }
    let dialect = PostgreSqlDialect {};
    let statements = Parser::new(&dialect)
        .with_recursion_limit(PARSE_DEPTH_MAX)
        .with_tokens_with_locations(translate(text, tokens))
        .parse_statements()
        .map_err(|e| reason(&e, text))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => Ok(statement),
        _ => Err("it is not one statement".to_owned()),
    }
}

/// There is a `BETWEEN SYMMETRIC`, which the parser gets as a plain BETWEEN: which end is the lower one is
/// not known.
pub(crate) fn has_symmetric(text: &str, tokens: &[Token]) -> bool {
    let word = |i: usize, word| tokens.get(i).is_some_and(|t| t.is_word(text, word));
    (1..tokens.len()).any(|i| word(i, "symmetric") && word(i - 1, "between"))
}

/// The clauses behind a recursive CTE's query, of which the parser knows nothing (manual, "WITH Queries").
pub(crate) struct Recursion {
    /// The index of the token behind them.
    pub(crate) end: usize,
    /// The columns that they add to the CTE's.
    pub(crate) columns: Vec<String>,
}

impl Recursion {
    /// `[SEARCH … SET column] [CYCLE … SET column … USING column]` at `i`; `None` for neither.
    pub(crate) fn at(text: &str, tokens: &[Token], i: usize) -> Option<Self> {
        let word = |i: usize, word| tokens.get(i).is_some_and(|t: &Token| t.is_word(text, word));
        let name = |i: usize| match tokens.get(i) {
            Some(token) if matches!(token.kind, TokenKind::Word | TokenKind::Quoted) => {
                token.name(text)
            }
            _ => None,
        };
        // Behind a list of names.
        let listed = |mut i: usize| {
            name(i)?;
            while tokens.get(i + 1).is_some_and(|t| t.is(text, ",")) {
                name(i + 2)?;
                i += 2;
            }
            Some(i + 1)
        };
        let mut found = Self { end: i, columns: Vec::new() };
        let searches = word(i, "search") && (word(i + 1, "depth") || word(i + 1, "breadth"));
        if searches && word(i + 2, "first") && word(i + 3, "by") {
            let set = listed(i + 4).filter(|set| word(*set, "set"))?;
            found.columns.push(name(set + 1)?);
            found.end = set + 2;
        }
        if word(found.end, "cycle")
            && let Some(set) = listed(found.end + 1).filter(|set| word(*set, "set"))
        {
            found.columns.push(name(set + 1)?);
            let mut using = set + 2;
            if word(using, "to") {
                let is_bracket =
                    |i: usize| tokens.get(i).is_none_or(|t| t.is(text, "(") || t.is(text, ")"));
                while !word(using, "using") && !is_bracket(using) {
                    using += 1;
                }
            }
            let path = Some(using + 1).filter(|_| word(using, "using")).and_then(name)?;
            found.columns.push(path);
            found.end = using + 2;
        }
        (found.end > i).then_some(found)
    }
}

/// Where a parser's span stands in the text; `None` for an empty one.
pub(crate) fn span(of: ParserSpan) -> Option<Span> {
    let start = u32::try_from(of.start.column.checked_sub(1)?).ok()?;
    let end = u32::try_from(of.end.column.checked_sub(1)?).ok()?;
    (of.start.line == 1).then_some(Span { start, end })
}

/// An identifier's name: folded to lower case unless quoted.
pub(crate) fn name(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { fold(&ident.value) }
}

/// An identifier that PostgreSQL would not take for a name: the parser, which does, has misread something.
pub(crate) fn is_misread(ident: &Ident) -> bool {
    ident.quote_style.is_none() && is_reserved(&fold(&ident.value))
}

/// The parser's complaint with a position that means something.
fn reason(error: &ParserError, text: &str) -> String {
    let message = match error {
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => m.as_str(),
        ParserError::RecursionLimitExceeded => {
            return format!("it nests deeper than {PARSE_DEPTH_MAX} levels");
        }
    };
    let Some((what, at)) = message.split_once(" at Line: 1, Column: ") else {
        return format!("the parser can't read it: {message}");
    };
    let byte = at.trim().parse::<usize>().unwrap_or(1).saturating_sub(1);
    let character = text.get(..byte).map_or(byte, |t| t.chars().count()) + 1;
    format!("the parser can't read it: {what} at character {character}")
}

/// Our tokens as the parser's.
fn translate(text: &str, tokens: &[Token]) -> Vec<TokenWithSpan> {
    let mut out = Translator { text, tokens, out: Vec::with_capacity(tokens.len() + 4) };
    let mut i = 0;
    while i < tokens.len() {
        i = out.step(i);
    }
    out.out
}

struct Translator<'t> {
    text: &'t str,
    tokens: &'t [Token],
    out: Vec<TokenWithSpan>,
}

impl Translator<'_> {
    fn word_at(&self, i: usize, word: &str) -> bool {
        self.tokens.get(i).is_some_and(|t| t.is_word(self.text, word))
    }

    fn has_word(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| token.is_word(self.text, word))
    }

    fn symbol_at(&self, i: usize, symbol: &str) -> bool {
        self.tokens.get(i).is_some_and(|t| t.is(self.text, symbol))
    }

    fn push(&mut self, token: ParserToken, at: Token) {
        let location = |offset: u32| Location { line: 1, column: u64::from(offset) + 1 };
        let span = ParserSpan { start: location(at.start), end: location(at.end) };
        self.out.push(TokenWithSpan { token, span });
    }

    fn push_word(&mut self, word: &str, at: Token) {
        self.push(ParserToken::make_word(word, None), at);
    }

    /// Hands over the token at `i`, or a form that starts there; returns the next index.
    fn step(&mut self, i: usize) -> usize {
        let Some(&token) = self.tokens.get(i) else { return i + 1 };
        if token.kind == TokenKind::Word
            && let Some(next) = self.form(i, token)
        {
            return next;
        }
        let raw = token.text(self.text);
        let parsed = match token.kind {
            TokenKind::Word => word(raw),
            TokenKind::Quoted => {
                let value = token.name(self.text).unwrap_or_default();
                ParserToken::Word(Word {
                    value,
                    quote_style: Some('"'),
                    keyword: Keyword::NoKeyword,
                })
            }
            // Not decoded: a name that nothing has, which no parser rule accepts either.
            TokenKind::UnicodeQuoted => ParserToken::Char('U'),
            TokenKind::Number(_) => {
                let plain = raw.bytes().all(|b| b.is_ascii_digit());
                ParserToken::Number(if plain { raw.to_owned() } else { "0.0".to_owned() }, false)
            }
            TokenKind::String(_) => ParserToken::SingleQuotedString(String::new()),
            TokenKind::Param => ParserToken::Placeholder(raw.to_owned()),
            TokenKind::Operator => self.operator(i, raw),
            TokenKind::Punctuation => punctuation(raw),
        };
        self.push(parsed, token);
        i + 1
    }

    /// Forms that the parser doesn't know, in words that it does.
    fn form(&mut self, i: usize, token: Token) -> Option<usize> {
        match fold(token.text(self.text)).as_str() {
            "table" if self.starts_query(i) => {
                self.push_word("SELECT", token);
                self.push(ParserToken::Mul, token);
                self.push_word("FROM", token);
                Some(i + 1)
            }
            "only" if i > 0 && !self.word_at(i - 1, "row") && !self.word_at(i - 1, "rows") => {
                if !self.symbol_at(i + 1, "(") {
                    return Some(i + 1);
                }
                let close = closing(self.tokens, self.text, i + 1);
                let mut inner = i + 2;
                while inner < close {
                    inner = self.step(inner);
                }
                Some(close + 1)
            }
            "variadic" if i > 0 && (self.symbol_at(i - 1, "(") || self.symbol_at(i - 1, ",")) => {
                Some(i + 1)
            }
            // See [`has_symmetric`].
            "asymmetric" | "symmetric" if i > 0 && self.word_at(i - 1, "between") => Some(i + 1),
            // What USER VALUE means for the rows of an INSERT is seen there, and not in MERGE.
            "overriding"
                if self.word_at(i + 2, "value")
                    && (self.word_at(i + 1, "system")
                        || self.word_at(i + 1, "user") && !self.has_word("merge")) =>
            {
                Some(i + 3)
            }
            // Functions side by side: their rows come out of their arguments.
            "rows"
                if self.word_at(i + 1, "from")
                    && self.symbol_at(i + 2, "(")
                    && self.is_call(i + 3)
                    && i > 0
                    && (self.symbol_at(i - 1, ",")
                        || ["from", "join", "lateral"].iter().any(|w| self.word_at(i - 1, w))) =>
            {
                self.push_word("greatest", token);
                Some(i + 2)
            }
            "isnull" => {
                self.push_word("IS", token);
                self.push_word("NULL", token);
                Some(i + 1)
            }
            "notnull" => {
                self.push_word("IS", token);
                self.push_word("NOT", token);
                self.push_word("NULL", token);
                Some(i + 1)
            }
            "conflict" if i > 0 && self.word_at(i - 1, "on") && self.symbol_at(i + 1, "(") => {
                self.conflict(i, token)
            }
            "for" => self.row_lock(i, token),
            // Which rows of a window's frame count is nothing to routing.
            "exclude" if i > 0 && self.ends_frame(i - 1) => self.exclusion(i),
            // Of grouping sets that are equal DISTINCT leaves one: where they are done the text is whole.
            "all" | "distinct"
                if i > 1 && self.word_at(i - 1, "by") && self.word_at(i - 2, "group") =>
            {
                Some(i + 1)
            }
            "search" | "cycle" if i > 0 && self.symbol_at(i - 1, ")") => {
                Recursion::at(self.text, self.tokens, i).map(|found| found.end)
            }
            "set" => self.assignments(i),
            _ => None,
        }
    }

    /// A function's name and `(`, or its schema.
    fn is_call(&self, i: usize) -> bool {
        let name = self.tokens.get(i).and_then(|token| match token.kind {
            TokenKind::Word => Some(fold(token.text(self.text))).filter(|name| !is_reserved(name)),
            TokenKind::Quoted => token.name(self.text),
            _ => None,
        });
        name.is_some() && (self.symbol_at(i + 1, "(") || self.symbol_at(i + 1, "."))
    }

    /// A bound of a window's frame ends here.
    fn ends_frame(&self, i: usize) -> bool {
        ["row", "preceding", "following"].iter().any(|word| self.word_at(i, word))
    }

    /// `EXCLUDE …`, behind which a window's definition ends.
    fn exclusion(&self, i: usize) -> Option<usize> {
        let two = |first, second| self.word_at(i + 1, first) && self.word_at(i + 2, second);
        let end = if two("current", "row") || two("no", "others") {
            i + 3
        } else if self.word_at(i + 1, "group") || self.word_at(i + 1, "ties") {
            i + 2
        } else {
            return None;
        };
        self.symbol_at(end, ")").then_some(end)
    }

    /// SET of an UPDATE, where it assigns to elements of columns: to the columns, as far as routing goes.
    fn assignments(&mut self, i: usize) -> Option<usize> {
        let first = self.tokens.get(i + 1)?;
        if !(first.is(self.text, "(") || matches!(first.kind, TokenKind::Word | TokenKind::Quoted))
        {
            return None;
        }
        let mut at = i + 1;
        let mut found = false;
        // Nothing is handed over unless there is such an assignment.
        while at < self.tokens.len() && !found {
            found = self.element(at).is_some();
            at = self.next_assignment(at)?;
        }
        if !found {
            return None;
        }
        let set = self.tokens.get(i).copied()?;
        self.push_word("SET", set);
        let mut at = i + 1;
        loop {
            let end = self.next_assignment(at).unwrap_or(self.tokens.len());
            if let Some(behind) = self.element(at) {
                self.step(at);
                at = behind;
            }
            while at < end {
                at = self.step(at);
            }
            if !self.symbol_at(end.saturating_sub(1), ",") {
                return Some(at);
            }
        }
    }

    /// `column[…]… =`: where its subscripts end.
    fn element(&self, i: usize) -> Option<usize> {
        let column = self.tokens.get(i)?;
        if !matches!(column.kind, TokenKind::Word | TokenKind::Quoted)
            || !self.symbol_at(i + 1, "[")
        {
            return None;
        }
        let mut at = i + 1;
        while self.symbol_at(at, "[") {
            let mut depth = 0_u32;
            loop {
                let token = self.tokens.get(at)?;
                depth += u32::from(token.is(self.text, "["));
                depth -= u32::from(token.is(self.text, "]"));
                at += 1;
                if depth == 0 {
                    break;
                }
            }
        }
        self.symbol_at(at, "=").then_some(at)
    }

    /// Behind the comma that ends the assignment at `i`; the end of the list if it is the last one.
    fn next_assignment(&self, i: usize) -> Option<usize> {
        let mut depth = 0_u32;
        for at in i..self.tokens.len() {
            let opens = self.symbol_at(at, "(") || self.symbol_at(at, "[");
            let closes = self.symbol_at(at, ")") || self.symbol_at(at, "]");
            if depth == 0 && self.symbol_at(at, ",") {
                return Some(at + 1);
            }
            let ends = ["where", "from", "returning", "when"];
            if depth == 0 && (closes || ends.iter().any(|word| self.word_at(at, word))) {
                return Some(at).filter(|_| at > i);
            }
            depth = if closes { depth - 1 } else { depth + u32::from(opens) };
        }
        Some(self.tokens.len())
    }

    /// `TABLE name` stands for a query here.
    fn starts_query(&self, i: usize) -> bool {
        let Some(before) = i.checked_sub(1).and_then(|b| self.tokens.get(b)) else { return true };
        if before.is(self.text, "(") || before.is(self.text, ")") {
            return true;
        }
        ["union", "intersect", "except", "all", "distinct"]
            .iter()
            .any(|w| before.is_word(self.text, w))
    }

    /// ON CONFLICT's target, which may hold expressions, goes; nothing in it matters to routing.
    fn conflict(&mut self, i: usize, token: Token) -> Option<usize> {
        let mut at = closing(self.tokens, self.text, i + 1) + 1;
        while at < self.tokens.len() && !self.word_at(at, "do") {
            at = if self.symbol_at(at, "(") {
                closing(self.tokens, self.text, at) + 1
            } else {
                at + 1
            };
        }
        if at >= self.tokens.len() {
            return None;
        }
        self.push_word("CONFLICT", token);
        Some(at)
    }

    /// `FOR [NO KEY] UPDATE | [KEY] SHARE [OF t, …]` as `FOR UPDATE | SHARE`.
    fn row_lock(&mut self, i: usize, token: Token) -> Option<usize> {
        let strength = if self.word_at(i + 1, "no") && self.word_at(i + 2, "key") {
            i + 3
        } else if self.word_at(i + 1, "key") {
            i + 2
        } else {
            i + 1
        };
        if !self.word_at(strength, "update") && !self.word_at(strength, "share") {
            return None;
        }
        self.push_word("FOR", token);
        let mut at = self.step(strength);
        if self.word_at(at, "of") {
            at += 1;
            while self
                .tokens
                .get(at)
                .is_some_and(|t| matches!(t.kind, TokenKind::Word | TokenKind::Quoted))
            {
                at += 1;
                if !self.symbol_at(at, ",") && !self.symbol_at(at, ".") {
                    break;
                }
                at += 1;
            }
        }
        Some(at)
    }

    fn operator(&self, i: usize, raw: &str) -> ParserToken {
        match raw {
            "=" => ParserToken::Eq,
            "<>" | "!=" => ParserToken::Neq,
            "<" => ParserToken::Lt,
            ">" => ParserToken::Gt,
            "<=" => ParserToken::LtEq,
            ">=" => ParserToken::GtEq,
            "+" => ParserToken::Plus,
            "-" => ParserToken::Minus,
            "*" => ParserToken::Mul,
            "/" => ParserToken::Div,
            "%" => ParserToken::Mod,
            "^" => ParserToken::Caret,
            "=>" => ParserToken::RArrow,
            _ if self.quantified(i) => matching(raw),
            _ if self.prefix(i) => prefix(raw),
            _ => ParserToken::CustomBinaryOperator(raw.to_owned()),
        }
    }

    /// The operator at `i` stands before `ANY (…)`, `SOME (…)` or `ALL (…)`.
    fn quantified(&self, i: usize) -> bool {
        self.word_at(i + 1, "any") || self.word_at(i + 1, "some") || self.word_at(i + 1, "all")
    }

    /// The operator at `i` has no left operand.
    fn prefix(&self, i: usize) -> bool {
        let Some(before) = i.checked_sub(1).and_then(|b| self.tokens.get(b)) else { return true };
        match before.kind {
            TokenKind::Operator => true,
            TokenKind::Punctuation => !matches!(before.text(self.text), ")" | "]"),
            TokenKind::Word => {
                let word = fold(before.text(self.text));
                is_reserved(&word) && !OPERAND_WORDS.contains(&word.as_str())
            }
            TokenKind::Quoted
            | TokenKind::UnicodeQuoted
            | TokenKind::Number(_)
            | TokenKind::String(_)
            | TokenKind::Param => false,
        }
    }
}

/// Reserved words that end an operand.
const OPERAND_WORDS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "end",
    "false",
    "localtime",
    "localtimestamp",
    "null",
    "session_user",
    "true",
    "user",
];

/// Names of types that the parser must know as such for `type 'literal'` and casts; none of them is a
/// key word of PostgreSQL.
const TYPE_WORDS: &[&str] = &[
    "bool",
    "bytea",
    "date",
    "float4",
    "float8",
    "int2",
    "int4",
    "int8",
    "json",
    "jsonb",
    "regclass",
    "text",
    "timestamptz",
    "timetz",
    "uuid",
];

/// Key words of PostgreSQL that are names wherever they stand in a query, and that the parser would take
/// for something else (`FROM t global JOIN …`).
const NAME_WORDS: &[&str] = &["global"];

fn word(raw: &str) -> ParserToken {
    let lower = fold(raw);
    let known = is_keyword(&lower) && !NAME_WORDS.contains(&lower.as_str());
    if known || TYPE_WORDS.contains(&lower.as_str()) {
        return ParserToken::make_word(raw, None);
    }
    ParserToken::Word(Word {
        value: raw.to_owned(),
        quote_style: None,
        keyword: Keyword::NoKeyword,
    })
}

fn punctuation(raw: &str) -> ParserToken {
    match raw {
        "(" => ParserToken::LParen,
        ")" => ParserToken::RParen,
        "[" => ParserToken::LBracket,
        "]" => ParserToken::RBracket,
        "," => ParserToken::Comma,
        ";" => ParserToken::SemiColon,
        "." => ParserToken::Period,
        ":" => ParserToken::Colon,
        "::" => ParserToken::DoubleColon,
        ":=" => ParserToken::Assignment,
        _ => ParserToken::Char('?'),
    }
}

/// Operators that the parser takes before ANY and ALL.
fn matching(raw: &str) -> ParserToken {
    match raw {
        "~" => ParserToken::Tilde,
        "~*" => ParserToken::TildeAsterisk,
        "!~" => ParserToken::ExclamationMarkTilde,
        "!~*" => ParserToken::ExclamationMarkTildeAsterisk,
        "~~" => ParserToken::DoubleTilde,
        "~~*" => ParserToken::DoubleTildeAsterisk,
        "!~~" => ParserToken::ExclamationMarkDoubleTilde,
        "!~~*" => ParserToken::ExclamationMarkDoubleTildeAsterisk,
        _ => ParserToken::CustomBinaryOperator(raw.to_owned()),
    }
}

/// Operators that the parser takes before their only operand.
fn prefix(raw: &str) -> ParserToken {
    match raw {
        "~" => ParserToken::Tilde,
        "@" => ParserToken::AtSign,
        "|/" => ParserToken::PGSquareRoot,
        "||/" => ParserToken::PGCubeRoot,
        "!!" => ParserToken::DoubleExclamationMark,
        "#" => ParserToken::Sharp,
        "@-@" => ParserToken::AtDashAt,
        "@@" => ParserToken::AtAt,
        "?-" => ParserToken::QuestionMarkDash,
        "?|" => ParserToken::QuestionPipe,
        _ => ParserToken::CustomBinaryOperator(raw.to_owned()),
    }
}
