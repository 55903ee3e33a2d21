//! A statement's text by its tokens: the clauses of a SELECT, the items of a list, the calls of aggregates.
//!
//! Main types: [`Text`], [`Clauses`]. What is not plainly one of the forms that are known here is `None`, and whoever
//! asked does without.

use std::ops::Range;

use super::Inputs;
use crate::datum::{Format, Param, oid};
use crate::sql::functions;
use crate::sql::quote::quote_literal;
use crate::sql::tokens::{Token, TokenKind, closing, depth_step};

/// The clauses of a SELECT, as ranges of tokens without their key words.
#[derive(Debug)]
pub(super) struct Clauses {
    pub(super) distinct: bool,
    pub(super) select: Range<usize>,
    pub(super) filter: Option<Range<usize>>,
    pub(super) group: Option<Range<usize>>,
    pub(super) having: Option<Range<usize>>,
    pub(super) order: Option<Range<usize>>,
    /// LIMIT, OFFSET, FETCH with their key words.
    pub(super) limit: Option<Range<usize>>,
}

/// An aggregate call's place.
pub(super) struct Call {
    pub(super) name: String,
    /// Between the parentheses.
    pub(super) arguments: Range<usize>,
    /// One past FILTER, or past the parenthesis.
    pub(super) end: usize,
    /// From the name on.
    pub(super) start: usize,
}

/// Whether an aggregate call starts at a token.
pub(super) enum Found {
    Nothing,
    Aggregate(Call),
    /// One does, of a form that is not known.
    Unclear,
}

/// LIMIT and OFFSET.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// LIMIT; `None` is all.
    pub(super) limit: Option<u64>,
    /// OFFSET.
    pub(super) offset: u64,
    /// WITH TIES.
    pub(super) ties: bool,
    /// The parameters among them, `$1`.
    params: Vec<String>,
}

impl Bounds {
    /// What stands in their place for one shard of several; `None` if that is too large to be written.
    pub(super) fn for_a_shard(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.params.is_empty() {
            // Parameters that a statement does not mention have no type.
            let zeros: Vec<String> =
                self.params.iter().map(|param| format!("0 * {param}::bigint")).collect();
            parts.push(format!("OFFSET {}", zeros.join(" + ")));
        }
        if let Some(limit) = self.limit {
            for bound in [limit, self.offset] {
                i64::try_from(bound).ok()?;
            }
            // Where the sum can't be written, it is more rows than any shard has.
            match i64::try_from(limit.saturating_add(self.offset)) {
                Ok(rows) if self.ties => parts.push(format!("FETCH FIRST {rows} ROWS WITH TIES")),
                Ok(rows) => parts.push(format!("LIMIT {rows}")),
                Err(_) => {}
            }
        }
        Some(parts.join(" "))
    }
}

/// A statement's text, by tokens.
pub(super) struct Text<'t> {
    pub(super) tokens: &'t [Token],
    pub(super) inputs: &'t Inputs<'t>,
}

impl<'t> Text<'t> {
    pub(super) fn sql(&self) -> &'t str {
        self.inputs.text
    }

    pub(super) fn token(&self, at: usize) -> Option<Token> {
        self.tokens.get(at).copied()
    }

    pub(super) fn is_word(&self, at: usize, word: &str) -> bool {
        self.token(at).is_some_and(|token| token.is_word(self.sql(), word))
    }

    /// The SELECT itself, behind WITH if that is there.
    fn main_select(&self) -> Option<usize> {
        if !self.is_word(0, "with") {
            return self.is_word(0, "select").then_some(0);
        }
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate() {
            depth += depth_step(*token, self.sql());
            if depth == 0 && token.is_word(self.sql(), "select") {
                return Some(at);
            }
        }
        None
    }

    /// Cuts the statement into its clauses; `None` if it is not a plain SELECT.
    pub(super) fn clauses(&self) -> Option<Clauses> {
        let first = self.main_select()?;
        let end = self.tokens.len() - usize::from(self.tokens.last()?.is(self.sql(), ";"));
        let mut bounds: Vec<(usize, &str)> = Vec::new();
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().take(end).skip(first + 1) {
            depth += depth_step(*token, self.sql());
            if depth != 0 || token.kind != TokenKind::Word {
                continue;
            }
            // A column's name, or an alias.
            let before = self.token(at - 1)?;
            if before.is(self.sql(), ".") || before.is_word(self.sql(), "as") {
                continue;
            }
            let word = token.text(self.sql()).to_ascii_lowercase();
            let listed = bounds.is_empty();
            match word.as_str() {
                // `IS DISTINCT FROM`.
                "from" if before.is_word(self.sql(), "distinct") => {}
                "from" if listed => bounds.push((at, "from")),
                _ if listed => {}
                "where" => bounds.push((at, "where")),
                "group" => bounds.push((at, "group")),
                "having" => bounds.push((at, "having")),
                "order" => bounds.push((at, "order")),
                "limit" | "offset" | "fetch"
                    if bounds.last().is_none_or(|(_, last)| *last != "limit") =>
                {
                    bounds.push((at, "limit"));
                }
                "window" | "for" | "union" | "intersect" | "except" => return None,
                _ => {}
            }
        }
        let (from, _) = *bounds.first()?;
        let distinct = self.is_word(first + 1, "distinct");
        let range = |name: &str, words: usize| {
            let at = bounds.iter().position(|(_, found)| *found == name)?;
            let (start, _) = *bounds.get(at)?;
            let stop = bounds.get(at + 1).map_or(end, |(next, _)| *next);
            Some(start + words..stop)
        };
        Some(Clauses {
            distinct,
            select: first + 1 + usize::from(distinct || self.is_word(first + 1, "all"))..from,
            filter: range("where", 1),
            group: range("group", 2),
            having: range("having", 1),
            order: range("order", 2),
            limit: range("limit", 0),
        })
    }

    /// The parts of a list.
    pub(super) fn items(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut items = Vec::new();
        let (mut depth, mut start) = (0, range.start);
        for at in range.clone() {
            let Some(token) = self.token(at) else { break };
            depth += depth_step(token, self.sql());
            if depth == 0 && token.is(self.sql(), ",") {
                items.push(start..at);
                start = at + 1;
            }
        }
        items.push(start..range.end);
        items
    }

    /// An item of the output list has an alias.
    pub(super) fn alias_at(&self, item: &Range<usize>) -> bool {
        if item.len() < 2 {
            return false;
        }
        let (Some(before), Some(last)) = (self.token(item.end - 2), self.token(item.end - 1))
        else {
            return false;
        };
        let sql = self.sql();
        let named = matches!(last.kind, TokenKind::Word | TokenKind::Quoted);
        let closed = before.is(sql, ")") || before.is(sql, "]");
        let value =
            matches!(before.kind, TokenKind::Number(_) | TokenKind::String(_) | TokenKind::Param);
        named && (before.is_word(sql, "as") || before.is_word(sql, "end") || closed || value)
    }

    /// The aggregate call that starts here, if one does.
    pub(super) fn aggregate_at(&self, at: usize) -> Found {
        let sql = self.sql();
        let (Some(token), Some(open)) = (self.token(at), self.token(at + 1)) else {
            return Found::Nothing;
        };
        let Some(name) = token.name(sql).filter(|_| open.is(sql, "(")) else {
            return Found::Nothing;
        };
        if !functions::builtin(&name).is_some_and(|known| known.aggregate) {
            return Found::Nothing;
        }
        let before = at.checked_sub(1).and_then(|before| self.token(before));
        if token.kind == TokenKind::Quoted || before.is_some_and(|before| before.is(sql, ".")) {
            return Found::Unclear;
        }
        let close = closing(self.tokens, sql, at + 1);
        let mut end = close + 1;
        if self.is_word(end, "filter") {
            end = closing(self.tokens, sql, end + 1) + 1;
        }
        if end > self.tokens.len() || self.is_word(end, "over") || self.is_word(end, "within") {
            return Found::Unclear;
        }
        Found::Aggregate(Call { name, arguments: at + 2..close, end, start: at })
    }

    /// How many rows LIMIT and OFFSET together need; `None` if that can't be told.
    pub(super) fn row_count(&self, range: Range<usize>) -> Option<u64> {
        let bounds = self.bounds(range).filter(|bounds| !bounds.ties)?;
        let rows = bounds.limit?.checked_add(bounds.offset)?;
        i64::try_from(rows).is_ok().then_some(rows)
    }

    /// LIMIT, OFFSET, FETCH; `None` if they are not constants that PostgreSQL takes.
    pub(super) fn bounds(&self, range: Range<usize>) -> Option<Bounds> {
        let mut bounds = Bounds::default();
        let mut at = range.start;
        while at < range.end {
            if self.is_word(at, "limit") {
                let all = self.is_word(at + 1, "all") || self.is_word(at + 1, "null");
                bounds.limit = if all { None } else { self.bound(at + 1, &mut bounds)? };
                at += 2;
            } else if self.is_word(at, "offset") {
                bounds.offset = self.bound(at + 1, &mut bounds)?.unwrap_or(0);
                let rows = self.is_word(at + 2, "row") || self.is_word(at + 2, "rows");
                at += 2 + usize::from(rows && at + 2 < range.end);
            } else if self.is_word(at, "fetch") {
                let counted = !self.is_word(at + 2, "row") && !self.is_word(at + 2, "rows");
                bounds.limit = if counted { self.bound(at + 2, &mut bounds)? } else { Some(1) };
                at += 3 + usize::from(counted);
                bounds.ties = self.is_word(at, "with") && self.is_word(at + 1, "ties");
                at += if bounds.ties { 2 } else { usize::from(self.is_word(at, "only")) };
            } else {
                return None;
            }
        }
        // WITH TIES needs a limit.
        (at == range.end && (!bounds.ties || bounds.limit.is_some())).then_some(bounds)
    }

    /// One constant of LIMIT or OFFSET; the inner `None` is NULL.
    #[expect(clippy::option_option, reason = "a value that can't be told, and one that is NULL")]
    fn bound(&self, at: usize, bounds: &mut Bounds) -> Option<Option<u64>> {
        let token = self.token(at)?;
        let text = token.text(self.sql());
        match token.kind {
            TokenKind::Number(_) => text.parse().ok().map(Some),
            TokenKind::Param => {
                let n: usize = text.trim_start_matches('$').parse().ok()?;
                let param = self.inputs.params.get(n.checked_sub(1)?)?;
                if !matches!(param.oid, 0 | oid::UNKNOWN | oid::INT2 | oid::INT4 | oid::INT8) {
                    return None;
                }
                bounds.params.push(text.to_owned());
                if param.value.is_none() {
                    return Some(None);
                }
                value_text(param)?.parse().ok().map(Some)
            }
            _ => None,
        }
    }

    /// Tokens as bytes of the text.
    pub(super) fn bytes(&self, range: Range<usize>) -> Option<Range<usize>> {
        let (first, last) = (self.token(range.start)?, self.token(range.end.checked_sub(1)?)?);
        Some(first.start as usize..last.end as usize)
    }

    /// Tokens as key words.
    pub(super) fn lower_words(&self, range: Range<usize>) -> Vec<String> {
        let token = |at| self.token(at).map(|token| token.text(self.sql()).to_ascii_lowercase());
        range.filter_map(token).collect()
    }

    /// An item of the output list without its alias; `None` if it can't be told whether it has one.
    pub(super) fn without_alias(&self, item: Range<usize>) -> Option<Range<usize>> {
        let sql = self.sql();
        if item.len() < 2 {
            return Some(item);
        }
        if self.is_word(item.end - 2, "as") {
            return Some(item.start..item.end - 2);
        }
        if self.alias_at(&item) {
            return Some(item.start..item.end - 1);
        }
        let (before, last) = (self.token(item.end - 2)?, self.token(item.end - 1)?);
        let named = |token: Token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted);
        let plain = !named(last) || !named(before) && (before.is(sql, ".") || before.is(sql, "::"));
        plain.then_some(item)
    }

    /// The blanks before a token, unless it is the first one of a part.
    pub(super) fn space(&self, at: usize, start: usize, out: &mut String) {
        let before = at.checked_sub(1).filter(|_| at > start).and_then(|at| self.token(at));
        if let (Some(before), Some(token)) = (before, self.token(at))
            && before.end < token.start
        {
            out.push(' ');
        }
    }

    /// Tokens as they stand in the text.
    pub(super) fn verbatim(&self, range: Range<usize>) -> Option<&'t str> {
        let (first, last) = (self.token(range.start)?, self.token(range.end.checked_sub(1)?)?);
        self.sql().get(first.start as usize..last.end as usize)
    }

    /// Tokens as they stand in the text, with the values of parameters in their place; `None` if one can't be
    /// written so that it means the same.
    pub(super) fn with_values(&self, range: Range<usize>) -> Option<String> {
        let mut out = String::new();
        let mut written = self.token(range.start)?.start;
        for at in range.clone() {
            let token = self.token(at)?;
            if token.kind == TokenKind::Param {
                let n: usize = token.text(self.sql()).trim_start_matches('$').parse().ok()?;
                out.push_str(self.sql().get(written as usize..token.start as usize)?);
                out.push_str(&self.value(n.checked_sub(1)?)?);
                written = token.end;
            }
        }
        let end = self.token(range.end.checked_sub(1)?)?.end;
        out.push_str(self.sql().get(written as usize..end as usize)?);
        Some(out)
    }

    /// A parameter as a literal. One without a type is a literal without a type, which PostgreSQL reads by
    /// the same rules, if it stands in one place only.
    fn value(&self, n: usize) -> Option<String> {
        let param = self.inputs.params.get(n)?;
        let name = format!("${}", n + 1);
        let places = self
            .tokens
            .iter()
            .filter(|token| token.kind == TokenKind::Param && token.text(self.sql()) == name);
        let untyped = matches!(param.oid, 0 | oid::UNKNOWN);
        if untyped && places.count() != 1 {
            return None;
        }
        let type_name = match param.oid {
            0 | oid::UNKNOWN => "",
            oid::INT2 => "::smallint",
            oid::INT4 => "::integer",
            oid::INT8 => "::bigint",
            oid::TEXT => "::text",
            oid::VARCHAR => "::varchar",
            oid::NUMERIC => "::numeric",
            oid::UUID => "::uuid",
            oid::BOOL => "::boolean",
            _ => return None,
        };
        if param.value.is_none() {
            return Some(format!("(NULL{type_name})"));
        }
        let text = value_text(param)?;
        if !self.inputs.utf8 && !text.is_ascii() {
            return None;
        }
        Some(format!("({}{type_name})", quote_literal(&text)))
    }
}

/// A parameter's value as text; `None` for NULL, and for binary forms that are not read here.
pub(super) fn value_text(param: &Param<'_>) -> Option<String> {
    let bytes = param.value?;
    match (param.format, param.oid) {
        (Format::Text, _) | (Format::Binary, oid::TEXT | oid::VARCHAR) => {
            std::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
        }
        (Format::Binary, oid::INT2) => Some(i16::from_be_bytes(bytes.try_into().ok()?).to_string()),
        (Format::Binary, oid::INT4) => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        (Format::Binary, oid::INT8) => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        (Format::Binary, _) => None,
    }
}
